"""Trained models that recommend."""

import pytest

from recbole_ib import load
from tests.support.recommend import TRAINED, train


@pytest.fixture(scope="module")
def vbpr(planted_path, tmp_path_factory):
    """VBPR, trained until it tells the groups by their text."""
    return train(planted_path, tmp_path_factory.mktemp("saved"), **TRAINED)


@pytest.fixture(scope="module")
def recommender(vbpr):
    return load(vbpr)


@pytest.fixture(scope="module")
def bpr(planted_path, tmp_path_factory):
    return train(planted_path, tmp_path_factory.mktemp("saved"), "BPR")
