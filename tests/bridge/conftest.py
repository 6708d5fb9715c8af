"""Models of the stand-in checkout, for all tests of the bridge."""

import pytest

from tests.support.mmrec import STANDIN


@pytest.fixture
def bridged(build):
    """``bridged(NAME, **settings)``: as ``build``, for a model of the stand-in."""
    return lambda name, **settings: build(f"mmrec:{name}", **{"mmrec_path": str(STANDIN), **settings})
