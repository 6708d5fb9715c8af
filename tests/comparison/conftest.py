"""Shared by the tests of comparisons."""

import pytest


@pytest.fixture
def small_pictures(monkeypatch):
    """Every chart of a report or a file is drawn into few pixels; for tests that look at other things."""
    figure = pytest.importorskip("matplotlib.figure")
    from recbole_ib.experiments.report import html
    from tests.support import pictures

    monkeypatch.setattr(html, "png_bytes", pictures.small_png)
    monkeypatch.setattr(figure.Figure, "savefig", pictures.save_small)
