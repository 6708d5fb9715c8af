"""Needs a module that this checkout lacks."""

from common.absent import something


class NeedsOwn:
    thing = something
