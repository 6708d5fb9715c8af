"""Small data sets and feature files that the tests of recbole_ib.data share."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.support.datasets import save_features

# user, item, time. x1 has one interaction; eve has one, and once she is gone y1 has one: the 2-core drops all three.
TOY_INTERACTIONS = """
ann a 1|ann x1 2|ann b 3|ann c 4|ann d 5|bob b 1|bob y1 2|bob c 3|bob e 4|bob a 5
cat d 1|cat a 2|cat f 3|cat e 4|dan c 1|dan d 2|dan f 3|dan e 4|eve y1 1
"""


@pytest.fixture(autouse=True)
def _log_level():
    """Give every test the log level that a fresh process has."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture
def save(tmp_path):
    """:func:`save_features` into the test's folder."""
    return lambda values, tokens, **options: save_features(tmp_path, values, tokens, **options)


@dataclass
class Toy:
    """An atomic-file data set named toy, its settings, and its features by token."""

    data_path: Path
    settings: dict
    text: dict[str, np.ndarray]
    visual: dict[str, np.ndarray]

    @property
    def folder(self) -> Path:
        return self.data_path / "toy"


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Toy:
    """After its 2-core 4 users and 6 items: text covers all of them, visual a, c, d and f (and an all-zero row of b)."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "toy"
    folder.mkdir(parents=True)
    rows = [line.split() for line in TOY_INTERACTIONS.replace("\n", "|").strip("|").split("|")]
    table = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(row) for row in rows)]
    (folder / "toy.inter").write_text("\n".join(table) + "\n", encoding="utf-8")
    rng = np.random.default_rng(0)
    text = {t: rng.normal(size=5).astype(np.float32) for t in ["y1", "f", "c", "x1", "a", "e", "b", "d"]}
    visual = {t: rng.normal(size=3).astype(np.float32) for t in ["d", "a", "f", "c"]}
    save_features(folder, np.stack(list(text.values())), text, name="text")
    np.savez(folder / "visual.npz", features=np.stack([*visual.values(), np.zeros(3, np.float32)]), ids=[*visual, "b"])
    settings = {
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "user_inter_num_interval": "[2,inf)",
        "item_inter_num_interval": "[2,inf)",
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "modalities": {"text": {"file": "text.npy", "tokens": "text.tokens"}, "visual": {"file": "visual.npz"}},
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    run = {"dataset": "toy", "data_path": str(tmp_path / "data"), "use_gpu": False, "show_progress": False}
    return Toy(tmp_path / "data", run, text, visual)
