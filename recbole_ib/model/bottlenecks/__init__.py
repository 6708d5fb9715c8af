"""The bottlenecks that ship with the package, one file each; importing them registers them."""

from recbole_ib.model.bottlenecks.fib import FIB
from recbole_ib.model.bottlenecks.gib import GIB
from recbole_ib.model.bottlenecks.mrdib import MRdIB

__all__ = ["FIB", "GIB", "MRdIB"]
