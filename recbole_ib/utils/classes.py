"""Classes that a user registers by name."""

from __future__ import annotations


def full_name(cls: type) -> str:
    """Return a class's module and name, as messages write it."""
    return f"{cls.__module__}.{cls.__qualname__}"


def same_class(one: type, other: type) -> bool:
    """Return whether two classes have the same full name.

    A module that is run again, as in a notebook, defines its classes anew.
    """
    return full_name(one) == full_name(other)
