"""``python -m recbole_ib``."""

import sys

from recbole_ib.cli import main

sys.exit(main())
