"""``protocol: mmrec | recbole``: which known items a test ranking leaves out, and the cut-offs."""

import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed

from recbole_ib import run_recbole_ib
from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError
from tests.support.datasets import write_dataset

BASE = {"show_progress": False, "use_gpu": False, "epochs": 1, "seed": 1}


def loaders(path, model="LATTICE", **settings):
    config = Config(model, "planted", config_dict={**BASE, "data_path": str(path), **settings})
    init_seed(1, True)
    return config, *data_preparation(config, create_dataset(config))


def items_of(loader):
    matrix = loader._dataset.inter_matrix(form="csr")
    return [set(matrix[u].nonzero()[0] if matrix.ndim == 1 else matrix[[u]].indices) for u in range(matrix.shape[0])]


# BM3 draws no negatives, BPR is RecBole's own
@pytest.mark.parametrize("model", ["LATTICE", "BM3", "BPR"])
@pytest.mark.parametrize("protocol", ["recbole", "mmrec"])
def test_masked_items_are_exactly_those_of_the_protocol(planted_path, model, protocol):
    _, train, valid, test = loaders(planted_path, model, protocol=protocol)
    taken = {name: items_of(loader) for name, loader in (("train", train), ("valid", valid), ("test", test))}
    assert len(test.uid_list) > 40
    for user in test.uid_list.tolist():
        masked = set(test.uid2history_item[user].tolist())
        known = taken["train"][user] | (taken["valid"][user] if protocol == "recbole" else set())
        assert masked == known - taken["test"][user]
        assert set(test.uid2positive_item[user].tolist()) == taken["test"][user]
    for user in valid.uid_list.tolist():
        assert set(valid.uid2history_item[user].tolist()) == taken["train"][user]


def test_cut_offs_come_with_the_protocol_and_give_way_to_the_users_own(planted_path):
    config, *_ = loaders(planted_path, protocol="mmrec")
    assert (config["topk"], config["metrics"]) == ([5, 10, 20, 50], ["Recall", "NDCG", "Precision", "MAP"])
    config, *_ = loaders(planted_path, protocol="mmrec", topk=[20], metrics=["Recall"])
    assert (config["topk"], config["metrics"]) == ([20], ["Recall"])
    config, *_ = loaders(planted_path)
    assert (config["protocol"], config["topk"]) == ("recbole", [10, 20])


def test_a_data_sets_yaml_may_name_the_protocol(tmp_path):
    pairs = [(u, i) for u in range(12) for i in range(10) if (u + i) % 3]
    features = {"text": torch.rand(10, 4).numpy()}
    path = write_dataset(tmp_path / "data", "planted", pairs, features, protocol="mmrec")
    config, *_ = loaders(path)
    assert (config["protocol"], config["topk"]) == ("mmrec", [5, 10, 20, 50])
    config, *_ = loaders(path, protocol="recbole")
    assert config["topk"] == [10, 20]


def test_training_and_validation_are_the_same_under_both(planted_path):
    results = {}
    for protocol in ("recbole", "mmrec"):
        settings = {
            **BASE,
            "data_path": str(planted_path),
            "protocol": protocol,
            "topk": [20],
            "metrics": ["Recall"],
            "epochs": 3,
        }
        results[protocol] = run_recbole_ib("BPR", "planted", config_dict=settings)
    assert results["recbole"]["best_valid_result"] == results["mmrec"]["best_valid_result"]
    # with fewer items left out, more compete: the test figure can only fall
    assert results["mmrec"]["test_result"]["recall@20"] <= results["recbole"]["test_result"]["recall@20"]


def test_a_finished_run_is_tested_again_under_the_other_protocol(planted_path):
    settings = {**BASE, "data_path": str(planted_path), "epochs": 2}
    first = run_recbole_ib("VBPR", "planted", config_dict=settings)
    again = run_recbole_ib(
        "VBPR", "planted", config_dict={**settings, "epochs": 1, "protocol": "mmrec", "resume_checkpoint": first["checkpoint"]}
    )
    assert again["best_valid_result"] == first["best_valid_result"]
    assert {"recall@5", "map@50"} <= set(again["test_result"])
    assert again["test_result"]["recall@20"] <= first["test_result"]["recall@20"]


def test_errors():
    with pytest.raises(ConfigurationError, match=r"protocol is 'mmreq'.*mmrec"):
        Config("LATTICE", "ml-100k", config_dict={"protocol": "mmreq"})
    with pytest.raises(ConfigurationError, match=r"ranks all items at test.*uni100"):
        Config("BPR", "ml-100k", config_dict={"protocol": "mmrec", "eval_args": {"mode": {"valid": "full", "test": "uni100"}}})
    with pytest.raises(ConfigurationError, match="general recommenders"):
        Config("GRU4Rec", "ml-100k", config_dict={"protocol": "mmrec", "train_neg_sample_args": None})


def test_recboles_own_defaults_know_the_protocol_too():
    config = Config("BPR", "ml-100k", config_dict={"defaults": "recbole", "protocol": "mmrec"})
    assert config["topk"] == [5, 10, 20, 50]
    with pytest.raises(ConfigurationError, match="protocol is 'bogus'"):
        Config("BPR", "ml-100k", config_dict={"defaults": "recbole", "protocol": "bogus"})
