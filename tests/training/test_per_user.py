"""Per-user metrics: the users' values against a naive loop, their mean against the run's own result."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_ib import run_recbole_ib
from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError
from recbole_ib.training.per_user import item_slices, per_user_metrics
from recbole_ib.training.run import prepare
from tests.support.datasets import planted, write_dataset

QUIET = {
    "epochs": 2,
    "show_progress": False,
    "state": "ERROR",
    "metric_decimal_place": 14,
    "topk": [5, 12],
    "valid_metric": "Recall@5",
}


@pytest.fixture
def data_path(tmp_path):
    pairs, modalities, *_ = planted()
    return write_dataset(tmp_path / "data", "tiny", pairs, modalities)


@pytest.mark.parametrize("model", ["VBPR", "BPR", "FREEDOM"])
def test_means_over_users_are_the_result_of_the_run(model, data_path):
    metrics = ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP", "GiniIndex"]
    given = {**QUIET, "data_path": str(data_path), "per_user": True, "metrics": metrics}
    result = run_recbole_ib(model, "tiny", config_dict=given)
    table = pd.read_parquet(result["per_user"])
    compared = {name: value for name, value in result["test_result"].items() if not name.startswith("gini")}
    assert set(compared) == {f"{name}@{k}" for name in ("recall", "mrr", "ndcg", "hit", "precision", "map") for k in (5, 12)}
    for name, value in compared.items():
        assert table[name].mean() == pytest.approx(value, abs=1e-12), name
    assert set(table.columns) == {"user_id", "n_train", "n_test", *compared, "recall@12:head", "recall@12:tail", "recall@12:cold"}
    assert table["user_id"].str.match(r"^u\d+$").all()
    assert table["user_id"].is_unique


def test_every_number_against_a_loop_over_users(data_path):
    run = prepare(Config("VBPR", "tiny", config_dict={**QUIET, "data_path": str(data_path)}))
    model = run.trainer.model
    table = per_user_metrics(run.trainer, run.train_data, run.test_data).set_index("user_id")
    pairs = {
        name: list(
            zip(*(getattr(run, f"{name}_data")._dataset.inter_feat[f].tolist() for f in ("user_id", "item_id")), strict=True)
        )
        for name in ("train", "valid", "test")
    }
    times = np.bincount([item for _, item in pairs["train"]], minlength=run.dataset.item_num)
    by_popularity = sorted(range(1, run.dataset.item_num), key=lambda item: (-times[item], item))
    head = set(by_popularity[: round(0.2 * (run.dataset.item_num - 1))])
    slices = {"head": head, "tail": set(by_popularity) - head, "cold": {i for i in by_popularity if times[i] <= 5}}
    assert slices["cold"]
    model.eval()
    for user in {user for user, _ in pairs["test"]}:
        known = {item for name in ("train", "valid") for other, item in pairs[name] if other == user}
        wanted = {item for other, item in pairs["test"] if other == user}
        with torch.no_grad():
            scores = model.full_sort_predict({"user_id": torch.tensor([user])}).view(-1)
        best = sorted((i for i in range(1, len(scores)) if i not in known), key=lambda i: -scores[i])[:12]
        row = table.loc[run.dataset.id2token("user_id", user)]
        assert row["n_train"] == sum(other == user for other, _ in pairs["train"])
        assert row["n_test"] == len(wanted)
        assert row["recall@5"] == pytest.approx(len(wanted & set(best[:5])) / len(wanted))
        assert row["recall@12"] == pytest.approx(len(wanted & set(best)) / len(wanted))
        for name, members in slices.items():
            here = wanted & members
            expected = len(here & set(best)) / len(here) if here else np.nan
            np.testing.assert_allclose(row[f"recall@12:{name}"], expected)
    assert len(table) == len({user for user, _ in pairs["test"]})


def test_slices_by_hand():
    slices = item_slices(torch.tensor([0, 9, 6, 6, 5, 0, 9, 6, 1, 6, 6]))
    assert slices["head"].nonzero().flatten().tolist() == [1, 6]
    assert slices["cold"].nonzero().flatten().tolist() == [4, 5, 8]
    assert slices["tail"].nonzero().flatten().tolist() == [2, 3, 4, 5, 7, 8, 9, 10]
    tied = item_slices(torch.tensor([0, 3, 3, 3, 3, 3]))
    assert tied["head"].nonzero().flatten().tolist() == [1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"per_user": "yes"}, "per_user is 'yes'; allowed: True, False"),
        ({"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user", "order": "RO", "mode": "uni5"}}, "mode 'uni5'"),
        ({"metrics": ["GiniIndex", "ItemCoverage"], "valid_metric": "GiniIndex@5"}, "none of the metrics"),
    ],
)
def test_what_cannot_be_had_is_refused_before_training(given, said, data_path):
    with pytest.raises(ConfigurationError, match=said):
        run_recbole_ib("VBPR", "tiny", config_dict={**QUIET, "data_path": str(data_path), "per_user": True, **given})
