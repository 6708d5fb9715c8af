"""Fixtures that the tests of this folder share."""

import numpy as np
import pytest

from tests.support.bottlenecks import with_settings
from tests.support.datasets import planted, write_dataset
from tests.support.mrdib import PAPER_MRDIB


@pytest.fixture(scope="module")
def told_twice(tmp_path_factory):
    """Settings for the planted data with the items' group in both modalities."""
    pairs, modalities, item_group, _ = planted()
    rng = np.random.default_rng(3)
    both = {
        "text": modalities["text"],
        "visual": np.eye(4)[item_group] @ rng.normal(size=(4, 6)) + 0.1 * rng.normal(size=(60, 6)),
    }
    return {"dataset": "twice", "data_path": str(write_dataset(tmp_path_factory.mktemp("data"), "twice", pairs, both))}


@pytest.fixture
def paper(build):
    """``build`` with the terms of the paper's equations."""
    return with_settings(build, PAPER_MRDIB)
