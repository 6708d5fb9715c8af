"""RecBole's atomic files: read into the frame that RecBole would make, or refused with the line.

RecBole's own reader takes the words NA, None, nan and null for missing ids, reads a short line as if its last
fields were missing, and ends in a traceback at a file of another form.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from recbole.utils import FeatureType

from recbole_ib.data.text_file import read_text
from recbole_ib.errors import DataError, first_few, nearest

TYPES = tuple(kind.value for kind in FeatureType)
#: what stands for a missing NUMBER; an id is text, whatever it says
MISSING_NUMBERS = (
    "", "NA", "N/A", "n/a", "NaN", "-NaN", "nan", "-nan", "NULL", "null", "None", "<NA>", "#NA", "#N/A",
    "#N/A N/A", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN",
)  # fmt: skip
#: lines that a message names
NAMED_LINES = 5
#: lines that one record may go over
MOST_LINES = 200
#: stands for the end of a line inside a field while the others are read
LINE_BREAK = b"\x1e"


class Column(NamedTuple):
    """A column of the header: ``name:kind``."""

    name: str
    kind: FeatureType

    @property
    def is_sequence(self) -> bool:
        """Whether a field holds several values."""
        return self.kind in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ)


@dataclass(frozen=True)
class Form:
    """How atomic files are written, by the settings of the same names.

    Attributes:
        field_separator, seq_separator: between the fields of a line, and between the values of a sequence.
        encoding: of the text; a byte-order mark of UTF-8 is no part of it.
    """

    field_separator: str = "\t"
    seq_separator: str = " "
    encoding: str = "utf-8"

    def __str__(self) -> str:
        return {"\t": "tabs", ",": "commas", " ": "blanks"}.get(
            self.field_separator, repr(self.field_separator)
        )


def read_atomic(
    path: Path, form: Form, wanted: Callable[[str], bool] | None = None
) -> tuple[pd.DataFrame, list[Column], list[Column]]:
    """Read the wanted columns of an atomic file.

    Tokens are text as it stands, NaN where a field is empty; numbers are float64, NaN where one of
    :data:`MISSING_NUMBERS` stands; sequences are arrays. A field in double quotes loses them, as in CSV,
    where they enclose all of it; any other quote is a part of the text.

    Args:
        path: the file.
        form: how it is written.
        wanted: tells by a column's name whether it is read; default: all are.

    Returns:
        The rows in the order of the lines, their columns, and all columns of the header.

    Raises:
        DataError: a file that is not there, is no text of this encoding, has another header or other numbers
            of fields, or a number that is none; with its line.
    """
    text = read_text(path, form.encoding)
    lines = Lines(path, form, text)
    columns = lines.header()
    chosen = [place for place, column in enumerate(columns) if wanted is None or wanted(column.name)]
    lines.check_fields(len(columns))
    names = [columns[place].name for place in chosen]
    frame = lines.frame(columns, chosen)
    for column in (columns[place] for place in chosen):
        if column.is_sequence:
            frame[column.name] = lines.sequences(frame[column.name], column)
    return frame[names], [columns[place] for place in chosen], columns


class Lines:
    """The lines of an atomic file, and what is wrong with which of them."""

    def __init__(self, path: Path, form: Form, text: bytes):
        self.path, self.form = path, form
        head, _, self.body = text.partition(b"\n")
        self.head = head.decode()
        #: line of the file of every line of the body, once some have been joined
        self._places: np.ndarray | None = None

    # -- the header ------------------------------------------------------------------------------------------

    def header(self) -> list[Column]:
        """Return the columns that the first line names."""
        columns: list[Column] = []
        fields = self.head.split(self.form.field_separator)
        for field in fields:
            name, colon, kind = field.partition(":")
            if not colon or not name or ":" in kind:
                raise DataError(f"{self.path}, line 1: {self._no_header(fields, field)}")
            if kind not in TYPES:
                raise DataError(
                    f"{self.path}, line 1: the column {name!r} is of type {kind!r}.{nearest(kind, TYPES)} "
                    f"Types: {', '.join(TYPES)}"
                )
            if name in {column.name for column in columns}:
                raise DataError(
                    f"{self.path}, line 1: the column {name!r} is there twice; rename or drop one"
                )
            columns.append(Column(name, FeatureType(kind)))
        return columns

    def _no_header(self, fields: list[str], field: str) -> str:
        form = (
            "is no header. The first line of an atomic file names every column with its type, separated by "
            f"{self.form}: user_id:token, item_id:token, rating:float"
        )
        others = [s for s in ("\t", ",", ";", "|", " ") if s != self.form.field_separator and s in self.head]
        if len(fields) == 1 and others:
            form += (
                f". This line seems to be separated by {Form(others[0])}: write {self.form}, or set "
                f"field_separator: {others[0]!r}"
            )
        return f"{field[:60]!r} {form}"

    # -- the numbers of fields -------------------------------------------------------------------------------

    def check_fields(self, n_columns: int) -> None:
        """Refuse lines that have other numbers of fields than the header; quote what CSV would misread."""
        separator = self.form.field_separator.encode()
        quoted = self._quoted_lines(separator) if b'"' in self.body else {}
        if any(len(fields) < n_columns for fields in quoted.values()) and self._join(separator, n_columns):
            quoted = self._quoted_lines(separator)
        ends, starts = self._bounds()
        counts = self._separators(starts, ends, separator) + 1
        for row, fields in quoted.items():
            counts[row] = len(fields)
        wrong = np.flatnonzero((counts != n_columns) & (ends > starts))
        if wrong.size:
            row = int(wrong[0])
            quote = (
                " (a double quote opens there that no quote closes)"
                if row in quoted and counts[row] < n_columns
                else ""
            )
            raise DataError(
                f"{self.path}, line {self._places_of([row])[0]} has {counts[row]} fields where the header "
                f"names {n_columns}{quote}: {self._line(row)!r}. {self._count(wrong.size)} of this kind: "
                f"lines {self._named(wrong)}. Fields are separated by {self.form}"
            )
        if quoted:
            self._quote(quoted, starts, ends, separator)

    def _join(self, separator: bytes, n_columns: int) -> bool:
        """Join lines over which a field in quotes goes; whether there are any."""
        if LINE_BREAK in self.body:
            return False
        opens, lines = _opening(separator), self.body.split(b"\n")
        joined: list[bytes] = []
        places: list[int] = []
        row = 0
        while row < len(lines):
            last = row
            if opens.search(lines[row]) and len(_fields(lines[row], separator)) < n_columns:
                last = _closing_line(lines, row, separator, n_columns)
            joined.append(LINE_BREAK.join(lines[row : last + 1]))
            places.append(row + 2)
            row = last + 1
        if len(joined) == len(lines):
            return False
        self.body, self._places = b"\n".join(joined), np.array(places)
        return True

    def _places_of(self, rows: Any) -> np.ndarray:
        """Return the lines of the file, from 1, of lines of the body, from 0."""
        rows = np.asarray(rows)
        return rows + 2 if self._places is None else self._places[rows]

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return where the lines of the body end and begin."""
        data = np.frombuffer(self.body, dtype=np.uint8)
        ends = np.flatnonzero(data == ord("\n"))
        if data.size and data[-1] != ord("\n"):
            ends = np.append(ends, data.size)
        starts = np.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
        return ends, starts.astype(ends.dtype)

    def _separators(self, starts: np.ndarray, ends: np.ndarray, separator: bytes) -> np.ndarray:
        """Return how often the separator stands in every line."""
        if len(separator) == 1:
            places = np.flatnonzero(np.frombuffer(self.body, dtype=np.uint8) == separator[0])
        else:
            places = np.array(
                [m.start() for m in re.finditer(re.escape(separator), self.body)], dtype=np.int64
            )
        return np.searchsorted(places, ends) - np.searchsorted(places, starts)

    def _quoted_lines(self, separator: bytes) -> dict[int, list[bytes]]:
        """Return the fields of the lines in which one begins with a double quote, by row."""
        opens, lines = _opening(separator), self.body.split(b"\n")
        return {
            row: _fields(line, separator)
            for row, line in enumerate(lines)
            if b'"' in line and opens.search(line)
        }

    def _quote(
        self, quoted: dict[int, list[bytes]], starts: np.ndarray, ends: np.ndarray, separator: bytes
    ) -> None:
        """Write lines with fields that begin with a quote as CSV reads them."""
        parts, last = [], 0
        for row, fields in quoted.items():
            parts.append(self.body[last : starts[row]])
            parts.append(separator.join(b'"' + f.replace(b'"', b'""') + b'"' for f in fields))
            last = ends[row]
        self.body = b"".join([*parts, self.body[last:]])

    # -- the values ------------------------------------------------------------------------------------------

    def frame(self, columns: list[Column], chosen: list[int]) -> pd.DataFrame:
        """Return the chosen columns, sequences still as text."""
        names = [column.name for column in columns]
        numbers = [names[place] for place in chosen if columns[place].kind is FeatureType.FLOAT]
        others = [names[place] for place in chosen if columns[place].kind is not FeatureType.FLOAT]
        read = {
            "sep": self.form.field_separator
            if len(self.form.field_separator) == 1
            else re.escape(self.form.field_separator),
            "engine": "c" if len(self.form.field_separator) == 1 else "python",
            "header": None,
            "names": names,
            "usecols": [names[place] for place in chosen],
            "keep_default_na": False,
            "encoding": "utf-8",
        }
        if read["engine"] == "c":
            read["float_precision"] = "high"
        if not self.body.strip(b"\n"):
            return pd.DataFrame(
                {name: pd.Series(dtype=np.float64 if name in numbers else object) for name in names}
            )
        missing = {**{name: list(MISSING_NUMBERS) for name in numbers}, **{name: [""] for name in others}}
        try:
            types = {**dict.fromkeys(others, str), **dict.fromkeys(numbers, np.float64)}
            frame = pd.read_csv(io.BytesIO(self.body), dtype=types, na_values=missing, **read)
        except ValueError:
            frame = pd.read_csv(io.BytesIO(self.body), dtype=str, na_values=missing, **read)
            for name in numbers:
                frame[name] = self._numbers(frame[name])
        if self._places is not None:
            for name in others:
                frame[name] = frame[name].str.replace(LINE_BREAK.decode(), "\n", regex=False)
        for name in numbers:
            infinite = np.flatnonzero(np.isinf(frame[name].to_numpy()))
            if infinite.size:
                raise self.refused(infinite, f"{name} is not a finite number", frame[name])
        return frame

    def _numbers(self, texts: pd.Series) -> pd.Series:
        values = pd.to_numeric(texts, errors="coerce")
        wrong = np.flatnonzero((values.isna() & texts.notna()).to_numpy())
        if wrong.size:
            raise self.refused(wrong, f"{texts.name} is of type float, and this is no number", texts)
        return values.astype(np.float64)

    def sequences(self, texts: pd.Series, column: Column) -> list[np.ndarray]:
        """Return the arrays of a column of sequences."""
        found: list[np.ndarray] = []
        for row, text in enumerate(texts.fillna("")):
            pieces = [piece for piece in text.split(self.form.seq_separator) if piece]
            if column.kind is FeatureType.TOKEN_SEQ:
                found.append(np.array(pieces))
                continue
            try:
                found.append(np.array([float(piece) for piece in pieces]))
            except ValueError as error:
                raise self.refused(
                    np.array([row]), f"{column.name} is of type float_seq: {error}", texts
                ) from None
            if not np.isfinite(found[-1]).all():
                raise self.refused(np.array([row]), f"{column.name} holds a number that is not finite", texts)
        return found

    # -- messages --------------------------------------------------------------------------------------------

    def refused(self, rows: np.ndarray, what: str, values: pd.Series) -> DataError:
        """Return the error of some rows of the frame."""
        lines = self.line_numbers()[rows]
        return DataError(
            f"{self.path}, line {lines[0]}: {what}: {str(values.iloc[int(rows[0])])[:60]!r}. "
            f"{self._count(rows.size)} of this kind: lines {first_few(lines, NAMED_LINES)}"
        )

    def line_numbers(self) -> np.ndarray:
        """Return the line of every row of the frame: blank lines are none."""
        ends, starts = self._bounds()
        return self._places_of(np.flatnonzero(ends > starts))

    def _line(self, row: int) -> str:
        ends, starts = self._bounds()
        return self.body[starts[row] : ends[row]][:80].decode(errors="replace")

    def _named(self, rows: np.ndarray) -> str:
        return first_few(self._places_of(rows).tolist(), NAMED_LINES)

    @staticmethod
    def _count(number: int) -> str:
        return f"{number} line{'s' if number > 1 else ''}"


def _opening(separator: bytes) -> re.Pattern[bytes]:
    """Return what finds a field that begins with a double quote."""
    return re.compile(rb"(?:^|" + re.escape(separator) + rb')"')


def _closing_line(lines: list[bytes], row: int, separator: bytes, n_columns: int) -> int:
    """Return the line on which the record of ``row`` ends: ``row``, where no later one completes it."""
    for last in range(row + 1, min(row + MOST_LINES, len(lines))):
        if b'"' not in lines[last]:
            continue
        fields = _fields(b"\n".join(lines[row : last + 1]), separator)
        # a field that quotes do not enclose still begins with one, or goes over the line's end without
        if len(fields) == n_columns and not any(f.startswith(b'"') and b"\n" in f for f in fields):
            return last
        if len(fields) > n_columns:
            break
    return row


def _fields(line: bytes, separator: bytes) -> list[bytes]:
    """Return the fields of a line: a field that double quotes enclose without them, every other as it is."""
    fields, place = [], 0
    enclosed = re.compile(rb'"((?:[^"]|"")*)"(?=' + re.escape(separator) + rb"|$)")
    while place <= len(line):
        found = enclosed.match(line, place)
        if found:
            fields.append(found[1].replace(b'""', b'"'))
            place = found.end() + len(separator)
            continue
        end = line.find(separator, place)
        end = len(line) if end < 0 else end
        fields.append(line[place:end])
        place = end + len(separator)
    return fields
