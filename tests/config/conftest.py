"""A clean process around every test of the configuration, and properties of its own."""

import os
import shutil

import pytest

from recbole_ib.config import layers
from recbole_ib.config.layers import properties_folder
from tests.support.config_files import QUIET


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A folder of its own, no arguments of the host process, and CUDA_VISIBLE_DEVICES put back (every Config writes it)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", QUIET)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", ""))


@pytest.fixture
def own_properties(tmp_path, monkeypatch):
    """A copy of the yaml files that a test may change."""
    folder = tmp_path / "properties"
    shutil.copytree(properties_folder(), folder)
    monkeypatch.setattr(layers, "properties_folder", lambda: folder)
    return folder
