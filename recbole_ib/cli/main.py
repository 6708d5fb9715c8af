"""``main`` of the command line; its words are read in ``recbole_ib_cli``, outside of this package, which takes seconds to import."""

from __future__ import annotations

import sys

from recbole_ib_cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
