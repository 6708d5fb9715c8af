"""The report of a decomposition: performances under conditions, their shares, text and csv."""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recbole_ib.errors import ConfigurationError

#: width of the printed sentences
LINE = 110

LIMITS = (
    (
        "These are read-outs of ONE trained model on altered inputs, not information in the data: another "
        "model, or another seed, may read the modalities otherwise."
    ),
    (
        "The model was not trained again without a modality, and a removed one is its mean row for every "
        "item and a graph without neighbors: an input that the model has not seen."
    ),
    (
        "The redundancy is the largest that is compatible with the performances (minimum mutual "
        "information): it makes the unique parts the smallest, and the synergy the largest, that are "
        "possible."
    ),
    (
        "Id embeddings hold what they learned from a modality in training: that stays when the modality is "
        "removed or shuffled."
    ),
)


# -- the shares ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shares:
    """The parts of v(all) - v(none) for one modality against ``rest``.

    ``rest`` is all the others together; see :func:`shares`.
    """

    modality: str
    rest: tuple[str, ...]
    redundant: float
    unique: float
    unique_rest: float
    synergistic: float

    @property
    def total(self) -> float:
        """v(all) - v(none), the sum of the four."""
        return self.redundant + self.unique + self.unique_rest + self.synergistic

    def parts(self) -> list[tuple[str, float]]:
        """Return the four by the names that are printed."""
        rest = " + ".join(self.rest)
        return [
            ("redundant", self.redundant),
            (f"unique to {self.modality}", self.unique),
            (f"unique to {rest}", self.unique_rest),
            ("synergistic", self.synergistic),
        ]


def shares(
    modality: str, rest: Sequence[str], alone: float, others: float, everything: float, nothing: float
) -> Shares:
    """Split v(all) - v(0) into what a modality m and the rest R say both, each alone, and only together.

        redundant = min(v(m), v(R)) - v(0)
        unique of m = v(m) - v(0) - redundant, of R likewise
        synergistic = v(all) - max(v(m), v(R))

    The decomposition of Williams & Beer (arXiv 1004.2515, 2010) with the minimum-mutual-information
    redundancy (Barrett, Phys. Rev. E 91, 2015), on performance in the place of information. The four sum to
    v(all) - v(0); a redundancy or synergy may be negative.

    Args:
        modality: the name of m.
        rest: the names of R.
        alone: v(m).
        others: v(R).
        everything: v(all).
        nothing: v(0).
    """
    redundant = min(alone, others) - nothing
    return Shares(
        modality=modality,
        rest=tuple(rest),
        redundant=redundant,
        unique=alone - nothing - redundant,
        unique_rest=others - nothing - redundant,
        synergistic=everything - max(alone, others),
    )


# -- the report ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of the report: a condition and every metric.

    ``condition``: all, alone, removed, none or shuffled; ``sd`` where several shuffles were run.
    """

    condition: str
    modality: str | None
    values: Mapping[str, float]
    sd: Mapping[str, float] | None = None

    @property
    def name(self) -> str:
        """The line's name in the report."""
        fixed = {"all": "all, as trained", "none": "none, all removed"}
        return fixed.get(self.condition) or f"{self.modality} {self.condition}"


@dataclass(frozen=True)
class Decomposition:
    """The report of :func:`decompose`; ``shares`` is empty where ``reason`` says why."""

    model: str
    dataset: str
    checkpoint: str
    part: str
    metric: str
    modalities: tuple[str, ...]
    repeats: int
    seed: int
    rows: list[Row]
    shares: list[Shares] = field(default_factory=list)
    reason: str | None = None

    def row(self, condition: str, modality: str | None = None) -> Row:
        """Return the line of a condition, and of its modality where it has one."""
        return next(row for row in self.rows if (row.condition, row.modality) == (condition, modality))

    def text(self) -> str:
        """Return the report as it is printed."""
        metrics = list(self.rows[0].values)
        wide = max(len(row.name) for row in self.rows) + 1
        head = " ".join([" " * wide, *(f"{m:>12}" for m in metrics)])
        lines = [
            (
                f"{self.model} on {self.dataset}, {self.part} part: what the trained model reads in "
                f"{', '.join(self.modalities)}"
            ),
            f"checkpoint: {self.checkpoint}",
            "",
            head,
            "-" * len(head),
        ]
        for row in self.rows:
            lines.append(" ".join([f"{row.name:<{wide}}", *(f"{row.values[m]:>12.4f}" for m in metrics)]))
            if row.sd is not None:
                lines.append(" ".join([f"{'  +-':<{wide}}", *(f"{row.sd[m]:>12.4f}" for m in metrics)]))
        lines += ["-" * len(head), "", *self._share_lines(), "", "Limits"]
        for limit in (*LIMITS, self._spread()):
            lines += textwrap.wrap(limit, LINE, initial_indent="- ", subsequent_indent="  ")
        return "\n".join(lines)

    def _share_lines(self) -> list[str]:
        all_, none = self.row("all").values[self.metric], self.row("none").values[self.metric]
        lines = [f"{self.metric}: {all_:.4f} with all modalities - {none:.4f} with none = {all_ - none:.4f}"]
        if self.reason:
            return [*lines, *textwrap.wrap(self.reason, LINE)]
        for split in self.shares:
            parts = split.parts()
            wide = max(len(name) for name, _ in parts)
            lines += ["", f"{split.modality} against {' + '.join(split.rest)}"]
            lines += [
                f"  {name:<{wide}} {value:>9.4f} {100 * value / split.total:>8.1f} %" for name, value in parts
            ]
            if split.synergistic < 0:
                lines.append(
                    "  The synergy is negative, interference: the better of the two alone ranks better than "
                    "all together."
                )
            if split.redundant < 0:
                lines.append(
                    "  The redundancy is negative: the worse of the two alone ranks worse than none at all."
                )
        return lines

    def _spread(self) -> str:
        if self.repeats == 1:
            return f"A shuffle is one draw (seed {self.seed}); --repeats=3 and more give its spread."
        return (
            f"Shuffles are the mean of {self.repeats} draws (seed {self.seed}), +- their standard deviation; "
            "it is not the spread between training seeds or users."
        )

    def to_csv(self, path: str | Path) -> None:
        """Write all performances and shares, one number per line.

        Columns: quantity, modality, rest, metric, value, sd, share (of v(all) - v(none)).

        Raises:
            ConfigurationError: the file cannot be written.
        """
        lines: list[tuple] = [("quantity", "modality", "rest", "metric", "value", "sd", "share")]
        for row in self.rows:
            for metric, value in row.values.items():
                lines.append(
                    (
                        row.condition,
                        row.modality or "",
                        "",
                        metric,
                        value,
                        "" if row.sd is None else row.sd[metric],
                        "",
                    )
                )
        for split in self.shares:
            for quantity in ("redundant", "unique", "unique_rest", "synergistic"):
                value = getattr(split, quantity)
                lines.append(
                    (
                        quantity,
                        split.modality,
                        " ".join(split.rest),
                        self.metric,
                        value,
                        "",
                        value / split.total,
                    )
                )
        try:
            with Path(path).open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(lines)
        except OSError as error:
            raise ConfigurationError(
                f"cannot write {path}: {error.strerror}. Name a file in a folder that exists"
            ) from None
