"""Types that several folders name."""

from __future__ import annotations

from typing import Any, Protocol


class ConfigLike(Protocol):
    """What a function asks of RecBole's ``Config``: the value of a key, ``None`` where nothing sets it."""

    def __getitem__(self, key: str) -> Any: ...
