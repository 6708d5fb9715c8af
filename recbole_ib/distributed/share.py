"""The part of a batch that a process computes."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

# -- a slice of a batch -----------------------------------------------------------------------------------------------


class Share:
    """A process's slice of a batch; inside ``with share`` losses find it by :func:`current_share`.

    Args:
        interaction: the whole batch.
        rank, size: which of how many slices. Slices differ by one row at most. Where a batch has fewer rows than there are processes,
            a slice without rows is the first row with weight 0, so that all processes go through the same steps and draws.
        add: sums a tensor over the processes.

    Attributes:
        interaction: the slice; ``weight``: its share of the batch's rows; ``rows``: those of the whole batch.
    """

    def __init__(self, interaction, rank: int, size: int, add: Callable[[Tensor], Tensor]):
        self.rows = len(interaction)
        start, end = self.rows * rank // size, self.rows * (rank + 1) // size
        self.weight = (end - start) / self.rows
        self.interaction = interaction[start:end] if end > start else interaction[0:1]
        self._add = add

    def sum(self, own: Tensor) -> Tensor:
        """The sum over the whole batch, given the slice's own: for a loss that is no mean over rows, but a function of such sums.

        Its gradient is that of the slice, over ``weight``: the trainer weights a slice's loss, and sums the gradients of all.
        """
        total = self._add(own.detach() * float(self.weight > 0))
        return total + (own - own.detach()) / self.weight if self.weight else total

    def __enter__(self) -> Share:
        global _share
        _share = self
        return self

    def __exit__(self, *error) -> None:
        global _share
        _share = None


class WholeBatch:
    """The slice of a process alone."""

    weight = 1.0

    def __init__(self, interaction):
        self.interaction = interaction

    def __enter__(self) -> WholeBatch:
        return self

    def __exit__(self, *error) -> None:
        pass


_share: Share | None = None


def current_share() -> Share | None:
    """The slice whose loss is being computed; ``None`` where the batch is whole."""
    return _share
