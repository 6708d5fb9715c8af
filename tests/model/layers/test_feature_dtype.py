"""``feature_dtype: float16``: models train on mapped features as on features rounded beforehand."""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import get_trainer

from recbole_ib.model.layers import feature_table
from tests.support.datasets import planted, write_dataset
from tests.support.mrdib import PAPER_MRDIB

SETTINGS = [
    ("VBPR", {}),
    ("LATTICE", {}),
    ("LATTICE", {"raw_features": "frozen"}),
    ("VLATTICE", {}),
    ("FREEDOM", {}),
    ("FREEDOM", {"raw_features": "frozen"}),
    ("IBMRec", {}),
    ("IBMRecLATTICE", {"item_graph": "frozen"}),
    ("VBPR", {"bottleneck": "mrdib"}),
    ("VBPR", {"bottleneck": "mrdib", **PAPER_MRDIB}),
    ("SOIL", {}),
    ("MMGCN", {}),
    ("GRCN", {}),
    ("SLMRec", {}),
    ("InvRL", {"backbone": "VBPR", "pretrain_epochs": 1, "invrl_rounds": 1, "environment_repeats": 1, "mask_epochs": 1}),
    ("SGFD", {"backbone": "VLATTICE"}),
]


@pytest.fixture(scope="module")
def rounded_path(tmp_path_factory):
    """The data set ``planted`` with features that were rounded to float16 before they were written, as float32."""
    pairs, modalities, _, _ = planted()
    rounded = {m: x.astype(np.float32).astype(np.float16).astype(np.float32) for m, x in modalities.items()}
    return write_dataset(tmp_path_factory.mktemp("rounded"), "planted", pairs, rounded)


def trained(build, name, **settings):
    """Scores of all items for some users and all weights, after two epochs."""
    config, model, train, valid, _ = build(name, epochs=2, **settings)
    get_trainer(config["MODEL_TYPE"], config["model"])(config, model).fit(train, valid, verbose=False, saved=False)
    model.eval()
    with torch.no_grad():
        scores = model.full_sort_predict(Interaction({config["USER_ID_FIELD"]: torch.arange(1, 9)}))
    return {"scores": scores, **model.state_dict()}, train._dataset


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=[" ".join(map(str, (n, *s.values()))) for n, s in SETTINGS])
def test_training_equals_that_on_rounded_features(build, rounded_path, name, settings):
    half, dataset = trained(build, name, feature_dtype="float16", **settings)
    assert all(table.dtype == torch.float16 for table in dataset.modalities.values())
    full, _ = trained(build, name, data_path=str(rounded_path), **settings)
    assert half.keys() == full.keys()
    for key, value in full.items():
        assert torch.equal(half[key], value), key


@pytest.mark.parametrize("name", ["VLATTICE", "IBMRec"])
def test_tables_larger_than_a_block_are_projected_to_nearly_the_same(build, rounded_path, monkeypatch, name):
    monkeypatch.setattr(feature_table, "BLOCK_NUMBERS", 50)
    half, _ = trained(build, name, feature_dtype="float16")
    full, _ = trained(build, name, data_path=str(rounded_path))
    for key, value in full.items():
        torch.testing.assert_close(half[key], value, rtol=1e-3, atol=1e-4, msg=key)
