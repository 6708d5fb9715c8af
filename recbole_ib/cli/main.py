"""``main`` of the command line; ``recbole_ib_cli``, outside of this package, reads its words."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

from recbole_ib_cli.main import main

__all__ = ["main"]


class _CallableModule(ModuleType):
    """``recbole_ib.cli.main`` was a function in 0.1.0, which commands installed then still call."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        text = (
            "recbole_ib.cli.main is a module now: install recbole-ib again, or call recbole_ib_cli.main.main"
        )
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return main(argv)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    sys.exit(main())
