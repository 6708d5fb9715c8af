"""Intervals, as RecBole writes them: ``[4,inf)``, or several with ``;`` between."""

from __future__ import annotations

import math

from recbole_ib.errors import ConfigurationError

FORM = (
    "it takes an interval such as '[5,inf)', or several with ; between: [ ] include an end, ( ) leave it out"
)


def parse_intervals(text: object, key: str = "an interval") -> list[tuple[str, float, float, str]] | None:
    """Return the ends of intervals with their brackets, RecBole's form; ``None`` for ``None``.

    Args:
        text: of the setting.
        key: its name, for the message.

    Raises:
        ConfigurationError: RecBole leaves out what it cannot read, and would train unfiltered.

    Example:
        >>> parse_intervals("[4,5];(7,inf)")
        [('[', 4.0, 5.0, ']'), ('(', 7.0, inf, ')')]
    """
    if text is None:
        return None
    found = []
    for part in str(text).split(";"):
        one = part.strip()
        ends = one[1:-1].split(",")
        if len(one) < 2 or one[0] not in "[(" or one[-1] not in "])" or len(ends) != 2:
            raise ConfigurationError(f"{key} is {text!r}; {FORM}")
        try:
            low, high = (float(end) for end in ends)
        except ValueError:
            raise ConfigurationError(f"{key} is {text!r}, whose ends are no numbers; {FORM}") from None
        if math.isnan(low) or math.isnan(high) or low > high:
            raise ConfigurationError(f"{key} is {text!r}, which begins above its end; {FORM}")
        found.append((one[0], low, high, one[-1]))
    return found
