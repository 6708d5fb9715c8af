"""Feature tables that stay in float16 until a row of them is read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

#: a float16 table is converted in blocks of at most this many numbers (64 MiB of float32)
BLOCK_NUMBERS = 1 << 24


class HalfTable(nn.Module):
    """A constant table ``[n, d]`` that stays in float16, memory-mapped by its data set.

    ``forward`` returns rows of it in float32.

    Args:
        parts: float16 ``[n, d_p]``, side by side; constants stay out of the state dict.
        normalize: scale the rows to length 1, in float32, see :func:`unit_parts`.
        columns: per part, what scales its columns before: (rows, items) -> rows.
    """

    def __init__(self, parts: Sequence[Tensor], normalize: bool, columns: Sequence[nn.Module] = ()):
        super().__init__()
        self.n_parts, self.normalize, self.columns = len(parts), normalize, nn.ModuleList(columns)
        for i, part in enumerate(parts):
            self.register_buffer(f"part_{i}", part, persistent=False)

    @property
    def parts(self) -> list[Tensor]:
        """The tables, in the order of their columns."""
        return [getattr(self, f"part_{i}") for i in range(self.n_parts)]

    def forward(self, items: Tensor | None = None) -> Tensor:
        """Return the rows of the given items, float32 ``[b, d]``, or of all."""
        parts = self.parts if items is None else [F.embedding(items, part) for part in self.parts]
        return self._float(parts, items)

    def through(self, layer: nn.Module) -> Tensor:
        """Return ``layer`` of all rows, ``[n, out]``, block by block.

        No float32 table is kept for the backward pass, which converts again.
        """
        n, step = self.parts[0].shape[0], max(1, BLOCK_NUMBERS // sum(part.shape[1] for part in self.parts))
        if n <= step:
            return layer(self())
        blocks = (slice(start, start + step) for start in range(0, n, step))
        return torch.cat(
            [checkpoint(self._block, layer, b, use_reentrant=False, preserve_rng_state=False) for b in blocks]
        )

    def _block(self, layer: nn.Module, rows: slice) -> Tensor:
        return layer(self._float([part[rows] for part in self.parts], rows))

    def _float(self, parts: list[Tensor], items: Tensor | slice | None) -> Tensor:
        parts = [part.float() for part in parts]
        if self.columns:
            parts = [scale(part, items) for scale, part in zip(self.columns, parts, strict=True)]
        if self.normalize:
            return unit_parts(parts)
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


def unit_parts(parts: Sequence[Tensor]) -> Tensor:
    """Return parts side by side, the rows of each scaled to length 1.

    Scaled as a whole, the modality with the longest rows would be nearly the whole row, and each would weigh
    less the more there are: under a penalty on the projected rows VBPR then unlearns its content
    (results/bottlenecks.md). A row of zeros stays one.

    Args:
        parts: ``[n, d_p]``.

    Example:
        >>> unit_parts([torch.tensor([[0.0, 3.0]]), torch.tensor([[1000.0]])])
        tensor([[0., 1., 1.]])
    """
    scaled = [F.normalize(part, dim=1) for part in parts]
    return torch.cat(scaled, dim=1) if len(scaled) > 1 else scaled[0]
