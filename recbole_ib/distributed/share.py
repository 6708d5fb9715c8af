"""The part of a batch that a process computes."""

from __future__ import annotations

from collections.abc import Callable

from recbole.data.interaction import Interaction
from torch import Tensor

# -- a slice of a batch --------------------------------------------------------------------------------------


class Share:
    """Slice of a batch that a process computes.

    Inside ``with share`` losses find it by :func:`current_share`.

    Args:
        interaction: the whole batch.
        rank: which of the slices.
        size: how many slices there are. Slices differ by one row at most. Where a batch has fewer rows
            than there are processes, a slice without rows is the first row with weight 0, so that all
            processes go through the same steps and draws.
        add: sums a tensor over the processes.

    Attributes:
        interaction: the slice.
        weight: its share of the batch's rows.
        rows: the number of rows of the whole batch.
    """

    def __init__(self, interaction: Interaction, rank: int, size: int, add: Callable[[Tensor], Tensor]):
        self.rows = len(interaction)
        start, end = self.rows * rank // size, self.rows * (rank + 1) // size
        self.weight = (end - start) / self.rows
        self.interaction = interaction[start:end] if end > start else interaction[0:1]
        self._add = add

    def sum(self, own: Tensor) -> Tensor:
        """Return the sum over the whole batch, from the slice's own.

        For a loss that is no mean over rows, but a function of such sums. Its gradient is that of the slice,
        over ``weight``: the trainer weights a slice's loss, and sums the gradients of all.
        """
        total = self._add(own.detach() * float(self.weight > 0))
        return total + (own - own.detach()) / self.weight if self.weight else total

    def __enter__(self) -> Share:
        _shares.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _shares.pop()


class WholeBatch:
    """Slice of a process alone: the whole batch."""

    weight = 1.0

    def __init__(self, interaction: Interaction):
        self.interaction = interaction

    def __enter__(self) -> WholeBatch:
        return self

    def __exit__(self, *error: object) -> None:
        pass


#: the slices whose losses are being computed, one at most
_shares: list[Share] = []


def current_share() -> Share | None:
    """Return the slice whose loss is being computed; ``None`` where the batch is whole."""
    return _shares[-1] if _shares else None
