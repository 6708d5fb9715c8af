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
    """Return rows of length 1 of parts side by side, each part with the same share of the length.

    Without it the modality with the longest rows would be the whole row. A part's row of zeros stays one.

    Args:
        parts: ``[n, d_p]``.

    Example:
        >>> unit_parts([torch.tensor([[0.0, 3.0]]), torch.tensor([[1000.0]])])
        tensor([[0.0000, 0.7071, 0.7071]])
    """
    if len(parts) == 1:
        return F.normalize(parts[0], dim=1)
    return F.normalize(torch.cat([F.normalize(part, dim=1) for part in parts], dim=1), dim=1)
