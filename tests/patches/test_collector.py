"""The collector that stands in for RecBole's: the same tensors for every metric, from the same scores."""

import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.evaluator import Collector, Evaluator
from recbole.utils import get_model, get_trainer, init_seed

from recbole_ib import run_recbole_ib
from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError
from recbole_ib.patches.collector import RankingCollector, hits

ALL = ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP", "GAUC", "ItemCoverage", "AveragePopularity", "GiniIndex"]
RANKED = ["Recall", "NDCG"]


def parts(planted_path, metrics):
    settings = {"data_path": str(planted_path), "use_gpu": False, "metrics": metrics, "topk": [3, 10], "show_progress": False}
    config = Config("BPR", "planted", config_dict={**settings, "valid_metric": f"{metrics[0]}@10"})
    init_seed(1, True)
    train, _, test = data_preparation(config, create_dataset(config))
    return config, train, test


@pytest.mark.parametrize("metrics", [RANKED, ALL, ["ItemCoverage"], ["GAUC"]])
def test_every_metric_is_recboles(planted_path, metrics):
    if metrics == ["GAUC"]:  # a metric without a cut-off cannot lead
        metrics = ["Recall", "GAUC"]
    config, train, test = parts(planted_path, metrics)
    collectors = Collector(config), RankingCollector(config)
    for collector in collectors:
        collector.data_collect(train)
    torch.manual_seed(0)
    for interaction, history, positive_u, positive_i in test:
        scores = torch.randn(len(interaction), train._dataset.item_num)
        scores[:, 0] = scores[history] = -torch.inf
        for collector in collectors:
            collector.eval_batch_collect(scores.clone(), interaction, positive_u, positive_i)
    theirs, ours = (collector.get_data_struct() for collector in collectors)
    assert set(theirs._data_dict) == set(ours._data_dict)
    for name, value in theirs._data_dict.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == ours.get(name).dtype
            assert torch.equal(value, ours.get(name)), name
    evaluator = Evaluator(config)
    assert evaluator.evaluate(theirs) == evaluator.evaluate(ours)


def test_an_evaluation_leaves_nothing_for_the_next(planted_path):
    config, train, test = parts(planted_path, RANKED)
    trainer = get_trainer(config["MODEL_TYPE"], "BPR")(config, get_model("BPR")(config, train._dataset))
    assert type(trainer.eval_collector) is RankingCollector
    trainer.eval_collector.data_collect(train)
    first = trainer.evaluate(test, load_best_model=False)
    assert trainer.evaluate(test, load_best_model=False) == first


def test_a_cut_off_beyond_the_catalog_is_an_error_before_training(planted_path):
    with pytest.raises(ConfigurationError, match="topk asks for the best 100 items, and the data set 'planted' has 60"):
        run_recbole_ib("VBPR", "planted", config_dict={"data_path": str(planted_path), "use_gpu": False, "topk": [20, 100]})


def test_hits_of_users_with_and_without_positives():
    top = torch.tensor([[4, 2, 1], [3, 1, 2], [1, 2, 3]])
    got = hits(top, torch.tensor([1, 0, 0, 0]), torch.tensor([3, 1, 3, 1]), 5)
    assert got.tolist() == [[0, 0, 1, 2], [1, 0, 0, 1], [0, 0, 0, 0]]
    assert hits(top, torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), 5).sum() == 0
