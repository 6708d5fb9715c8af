"""How feature rows are scaled before they are projected: the key ``normalize_features``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from recbole_ib.errors import ConfigurationError
from recbole_ib.model.layers.feature_table import BLOCK_NUMBERS, HalfTable, unit_parts
from recbole_ib.utils.validate import OneOf, check

ROWS, COLUMNS, NONE = "rows", "columns", "none"


@dataclass(frozen=True, init=False)
class ScalingWord(OneOf):
    """``rows``, ``columns``, ``none``; True stands for rows, False and no value for none."""

    def __init__(self) -> None:
        super().__init__(ROWS, COLUMNS, NONE)

    def contains(self, value: object) -> bool:
        """Return whether a value is a word, or stands for one; 1 and 0 are True and False."""
        plain = value is None or (isinstance(value, (bool, int)) and value in (True, False))
        return plain or super().contains(value)


SCALING_WORD = ScalingWord()


def scaling_word(value: str | bool | None) -> str:
    """Return the word that a value of ``normalize_features`` stands for."""
    # the command line reads the word none as no value
    return value if isinstance(value, str) else ROWS if value else NONE


@dataclass(frozen=True)
class FeatureScaling:
    """How the rows of feature tables are scaled.

    Attributes:
        word: ``rows``: to length 1; ``columns``: every column centered and divided by its standard deviation
            first, see :class:`ColumnScale`; ``none``.
        own: modality -> the items that have a feature of their own, bool ``[n_items]``; ``columns`` reads it.
    """

    word: str = NONE
    own: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, normalize: bool | FeatureScaling) -> FeatureScaling:
        """Return the scaling that an encoder's argument means; True: ``rows``."""
        return normalize if isinstance(normalize, FeatureScaling) else cls(scaling_word(normalize))

    @property
    def unit(self) -> bool:
        """Whether the rows of every modality have length 1 in the end."""
        return self.word != NONE

    def table(self, parts: Mapping[str, Tensor], tuned: bool) -> Tensor | HalfTable:
        """Return the scaled table of a latent, float32.

        Args:
            parts: modality -> ``[n_items, d_m]``, put side by side; scaled rows are those of each of them.
            tuned: the table is trained: it does not stay in float16.
        """
        columns = (
            [ColumnScale(part, self.own[name]) for name, part in parts.items()]
            if self.word == COLUMNS
            else []
        )
        if not tuned and all(part.dtype == torch.float16 for part in parts.values()):
            return HalfTable(list(parts.values()), self.unit, columns)
        tables: Sequence[Tensor] = list(parts.values())
        if columns:
            tables = [scale(part) for scale, part in zip(columns, tables, strict=True)]
        tables = [table.float() if table.dtype == torch.float16 else table for table in tables]
        if self.unit:
            return unit_parts(tables).float()
        return (torch.cat(tables, dim=1) if len(tables) > 1 else tables[0]).float()


def feature_scaling(config: Any, dataset: Any) -> FeatureScaling:
    """Return the scaling of the key ``normalize_features``.

    Raises:
        ConfigurationError: the key has another value.
    """
    word = scaling_word(check(config, "normalize_features", SCALING_WORD))
    return FeatureScaling(word, dataset.has_feature if word == COLUMNS else {})


def refuse_columns(config: Any, model: str) -> None:
    """Raise ConfigurationError for ``normalize_features: columns`` in a model that scales rows itself."""
    if scaling_word(config["normalize_features"]) == COLUMNS:
        raise ConfigurationError(
            f"normalize_features is {COLUMNS!r}; {model} gives its backbone features whose rows have length "
            f"1, and its columns stay as they are. Allowed with it: {ROWS}, {NONE}"
        )


class ColumnScale(nn.Module):
    """(x - mean) / std of every column of a constant table; a constant column becomes 0.

    Mean and standard deviation are of the items that have a feature of their own, in float64. The row of any
    other item becomes 0: a filled-in mean row is 0 but for its rounding, which must not be scaled to length
    1, and a row of zeros (``missing: zero``, padding) stays one.

    Args:
        table: ``[n_items, d]``, float32 or float16.
        own: bool ``[n_items]``.
    """

    mean: Tensor
    factor: Tensor
    other: Tensor

    def __init__(self, table: Tensor, own: Tensor):
        super().__init__()
        mean, deviation = column_moments(table, own)
        # below float32's resolution at the mean nothing but rounding varies
        constant = deviation <= torch.finfo(torch.float32).eps * mean.abs()
        constant |= deviation < torch.finfo(torch.float32).tiny
        factor = deviation.reciprocal().masked_fill(constant, 0.0)
        for name, value in (("mean", mean.float()), ("factor", factor.float()), ("other", ~own)):
            self.register_buffer(name, value, persistent=False)

    def forward(self, rows: Tensor, items: Tensor | slice | None = None) -> Tensor:
        """Return the scaled rows of the given items, float32, or of all."""
        other = self.other if items is None else self.other[items]
        return torch.sub(rows.float(), self.mean).mul_(self.factor).masked_fill_(other[:, None], 0.0)


def column_moments(table: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of every column over some rows, float64 ``[d]``, block by block."""
    ids = torch.nonzero(own.to(table.device)).flatten()
    blocks = ids.split(max(1, BLOCK_NUMBERS // table.shape[1]))
    mean, square = (torch.zeros(table.shape[1], dtype=torch.float64, device=table.device) for _ in range(2))
    for block in blocks:
        mean += table[block].double().sum(dim=0)
    mean /= max(1, ids.numel())
    # a second pass: the mean of squares less the square of the mean has no digit left far from 0
    for block in blocks:
        square += (table[block].double() - mean).square().sum(dim=0)
    return mean, (square / max(1, ids.numel())).sqrt()
