"""``python -m recbole_ib``."""

import sys

from recbole_ib_cli.main import main

sys.exit(main())
