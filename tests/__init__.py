"""The tests of recbole_ib."""

import os

# before torch or numpy is imported: every core has a test process, whose second thread would only wait for it, and spin meanwhile
for _name, _value in {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}.items():
    os.environ.setdefault(_name, _value)
