"""RecBole's quick start for recbole_ib: ``python run_recbole_ib.py --model=IBMRec --dataset=ml-100k``."""

import sys

from recbole_ib_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
