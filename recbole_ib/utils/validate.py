"""What values a setting may take: kinds of values, and the checks of a configuration's values by them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from os import PathLike
from typing import Any, Protocol

from recbole_ib.errors import ConfigurationError, nearest


class Kind(Protocol):
    """A set of values.

    ``what``: what a message says behind the value, such as ``it takes a number above 0``.
    """

    @property
    def what(self) -> str: ...

    @property
    def short(self) -> str:
        """The values in a few characters, for tables and the comments of yaml files."""
        ...

    def contains(self, value: object) -> bool:
        """Return whether a value belongs to the set."""
        ...


@dataclass(frozen=True)
class Integer:
    """Whole numbers from ``least`` to ``most``; 2.0 counts as one, a truth value does not."""

    least: int | None = 0
    most: int | None = None

    @property
    def what(self) -> str:
        if self.most is not None:
            return f"it takes a whole number from {self.least} to {self.most}"
        return "it takes a whole number" + ("" if self.least is None else f", {self.least} or more")

    @property
    def short(self) -> str:
        return "int" if self.least is None else f"int >= {self.least}"

    def contains(self, value: object) -> bool:
        number = _finite(value)
        return (
            number is not None
            and number.is_integer()
            and (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
        )


@dataclass(frozen=True)
class Number:
    """Finite numbers within bounds.

    ``least`` and ``most`` belong to the set, ``above`` and ``below`` do not.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def what(self) -> str:
        low = None if self.least is None else f"from {self.least:g}"
        high = None if self.most is None else f"to {self.most:g}"
        if low and self.below is not None:
            return f"it takes a number {low} to below {self.below:g}"
        if low:
            return f"it takes a number {low} {high}" if high else f"it takes a number, {self.least:g} or more"
        parts = [f"above {self.above:g}"] if self.above is not None else []
        parts += [f"below {self.below:g}"] if self.below is not None else []
        parts += [f"not above {self.most:g}"] if self.most is not None else []
        return " ".join(["it takes a number", " and ".join(parts)]).strip()

    @property
    def short(self) -> str:
        parts = [
            f"{sign} {bound:g}"
            for sign, bound in ((">=", self.least), (">", self.above), ("<=", self.most), ("<", self.below))
            if bound is not None
        ]
        return " ".join(["float", ", ".join(parts)]).strip()

    def contains(self, value: object) -> bool:
        number = _finite(value)
        return number is not None and (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )


@dataclass(frozen=True)
class OneOf:
    """A few words."""

    words: tuple[str, ...]
    ignore_case: bool = False

    def __init__(self, *words: str, ignore_case: bool = False) -> None:
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "ignore_case", ignore_case)

    @property
    def what(self) -> str:
        return f"allowed: {', '.join(self.words)}"

    @property
    def short(self) -> str:
        return " | ".join(self.words)

    def contains(self, value: object) -> bool:
        if not isinstance(value, str):
            return False
        return value in self.words or (self.ignore_case and value.lower() in map(str.lower, self.words))


@dataclass(frozen=True)
class Bool:
    """True and False; 1 and 0 stand for them."""

    @property
    def what(self) -> str:
        return "allowed: True, False"

    @property
    def short(self) -> str:
        return "bool"

    def contains(self, value: object) -> bool:
        return isinstance(value, (bool, int)) and value in (True, False)


@dataclass(frozen=True)
class Text:
    """Any text but an empty one; ``of`` says what it names."""

    of: str = "a text"

    @property
    def what(self) -> str:
        return f"it takes {self.of}"

    @property
    def short(self) -> str:
        return "str"

    def contains(self, value: object) -> bool:
        return isinstance(value, str) and value != ""


@dataclass(frozen=True)
class FilePath:
    """Paths, as text or as an object of pathlib."""

    @property
    def what(self) -> str:
        return "it takes a path"

    @property
    def short(self) -> str:
        return "path"

    def contains(self, value: object) -> bool:
        return isinstance(value, (str, PathLike)) and value != ""


@dataclass(frozen=True)
class ListOf:
    """Lists of values of one kind, ``least`` of them or more; ``example`` is one, as a message writes it."""

    values: Kind
    example: str
    least: int = 1

    @property
    def what(self) -> str:
        return f"it takes a list such as {self.example}"

    @property
    def short(self) -> str:
        return "list"

    def contains(self, value: object) -> bool:
        return (
            isinstance(value, (list, tuple))
            and len(value) >= self.least
            and all(self.values.contains(part) for part in value)
        )


@dataclass(frozen=True)
class MappingOf:
    """Mappings of names to values of one kind; ``example`` is one, as a message writes it."""

    values: Kind
    example: str

    @property
    def what(self) -> str:
        return f"it takes a mapping such as {self.example}"

    @property
    def short(self) -> str:
        return "mapping"

    def contains(self, value: object) -> bool:
        return (
            isinstance(value, Mapping)
            and len(value) > 0
            and all(self.values.contains(part) for part in value.values())
        )


@dataclass(frozen=True)
class AnyOf:
    """The values of several kinds. ``what`` replaces the text that is made of theirs."""

    kinds: tuple[Kind, ...]
    text: str = ""

    def __init__(self, *kinds: Kind, what: str = "") -> None:
        object.__setattr__(self, "kinds", kinds)
        object.__setattr__(self, "text", what)

    @property
    def what(self) -> str:
        first, *rest = (kind.what for kind in self.kinds)
        return self.text or ", or ".join([first, *(_without_verb(text) for text in rest)])

    @property
    def short(self) -> str:
        words = [word for kind in self.kinds for word in kind.short.split(" | ")]
        return " | ".join(dict.fromkeys(words))

    def contains(self, value: object) -> bool:
        return any(kind.contains(value) for kind in self.kinds)


@dataclass(frozen=True)
class Unset:
    """No value: a key that may stay without one."""

    @property
    def what(self) -> str:
        return "it takes none"

    @property
    def short(self) -> str:
        return "none"

    def contains(self, value: object) -> bool:
        return value is None


@dataclass(frozen=True)
class Anything:
    """Every value: a key that another part of the program checks. ``short`` says what it usually is."""

    short: str = "any"

    @property
    def what(self) -> str:
        return "it takes any value"

    def contains(self, value: object) -> bool:
        return True


def refusal(key: str, value: object, kind: Kind) -> str | None:
    """Return why a key may not have a value, in one sentence; ``None`` where it may."""
    if kind.contains(value):
        return None
    near = nearest(value, kind.words) if isinstance(kind, OneOf) and isinstance(value, str) else ""
    return f"{key} is {value!r}; {kind.what}" + (f".{near}" if near else "")


def check(config: Any, key: str, kind: Kind) -> Any:
    """Return the value of a key.

    Raises:
        ConfigurationError: it is of another kind.
    """
    value = config[key]
    reason = refusal(key, value, kind)
    if reason is not None:
        raise ConfigurationError(reason)
    return value


def one_of(config: Any, key: str, allowed: tuple[str, ...]) -> str:
    """Return the value of a key that takes one of a few words."""
    return check(config, key, OneOf(*allowed))


def integer(config: Any, key: str, least: int = 0) -> int:
    """Return the value of a key that takes a whole number, ``least`` or more."""
    return int(check(config, key, Integer(least)))


def positive(config: Any, key: str) -> float:
    """Return the value of a key that takes a number above 0, such as a temperature."""
    return float(check(config, key, Number(above=0)))


def non_negative(config: Any, key: str) -> float:
    """Return the value of a key that weighs a loss term: a number, 0 or more."""
    return float(check(config, key, Number(least=0)))


def fraction(config: Any, key: str) -> float:
    """Return the value of a key that takes a part of 1, such as a dropout: 0 <= x < 1."""
    return float(check(config, key, Number(least=0, below=1)))


def _finite(value: object) -> float | None:
    """Return a finite number as a float; ``None`` for anything else, a truth value among it."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _without_verb(text: str) -> str:
    for verb in ("it takes ", "allowed: "):
        text = text.removeprefix(verb)
    return text
