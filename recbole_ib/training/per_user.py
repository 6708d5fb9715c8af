"""Test metrics of every user, and of parts of the catalog: what paired tests between models read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.evaluator import DataStruct
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.register import metrics_dict
from recbole.trainer.trainer import AbstractTrainer
from recbole.utils import EvaluatorType

from recbole_ib.errors import ConfigurationError
from recbole_ib.patches.collector import hits

#: items with at most so many training interactions are cold
COLD_AT_MOST = 5
#: the share of the items, those with the most training interactions, that is the head
HEAD_SHARE = 0.2


def check_per_user(config: Config, processes: int = 1) -> None:
    """Check ``per_user`` before a run trains.

    Raises:
        ConfigurationError: it asks for what the run cannot give.
    """
    if config["per_user"] not in (True, False, None):
        raise ConfigurationError(f"per_user is {config['per_user']!r}; allowed: True, False")
    if not config["per_user"]:
        return
    if processes > 1:
        raise ConfigurationError(
            "per_user is computed by one process; train without torchrun, or leave per_user out"
        )
    mode = config["eval_args"]["mode"]["test"]
    if config["eval_type"] != EvaluatorType.RANKING or mode != "full":
        raise ConfigurationError(
            f"per_user reads a full ranking of the test set; eval_args asks for mode {mode!r}. Set mode: "
            "full, and ranking metrics"
        )
    if not _ranking_metrics(config):
        raise ConfigurationError(
            f"per_user: none of the metrics {', '.join(config['metrics'])} has a value for every user"
        )


def per_user_metrics(
    trainer: AbstractTrainer, train_data: AbstractDataLoader, test_data: AbstractDataLoader
) -> pd.DataFrame:
    """Return the metrics of each user with test items, and Recall on slices of the items.

    The metrics are those of RecBole's own classes.

    Recall@K on a slice S:
    ``|top K of u, in S and in the user's test items| / |the user's test items in S|``, K the largest cut-off;
    NaN for a user without test items in S. head: the fifth of the items with the most training interactions;
    tail: all others; cold: items with at most :data:`COLD_AT_MOST` training interactions.

    Args:
        trainer: RecBole's or ours, with the model to measure.
        train_data: the loader of the training interactions.
        test_data: the loader that ranks all items.

    Returns:
        One row a user: ``user_id`` (the user's own token), ``n_train``, ``n_test``, ``recall@10`` and the
        like, ``recall@20:head``, ...
    """
    config, dataset, k = trainer.config, test_data._dataset, max(trainer.config["topk"])
    slices = item_slices(train_counts(train_data._dataset, dataset.iid_field, dataset.item_num))
    user_parts: list[torch.Tensor] = []
    hit_parts: list[torch.Tensor] = []
    in_slices: dict[str, list[torch.Tensor]] = {name: [] for name in slices}
    collector = trainer.eval_collector
    collect = collector.eval_batch_collect

    def record(scores: Any, interaction: Interaction, rows: Any, items: Any) -> None:
        top = torch.topk(scores, k, dim=-1).indices
        ranks = hits(top, rows, items, scores.shape[1]).cpu()
        user_parts.append(interaction[dataset.uid_field].cpu())
        hit_parts.append(ranks)
        top, rows, items = top.cpu(), rows.cpu(), items.cpu()
        for name, member in slices.items():
            hit = (ranks[:, :k].bool() & member[top]).sum(dim=1)
            total = torch.bincount(rows[member[items]], minlength=len(ranks))
            in_slices[name].append(torch.where(total > 0, hit.double() / total, torch.nan))
        collect(scores, interaction, rows, items)

    # the trainer's own evaluation, looked at: no model needs to be scored in another way
    collector.eval_batch_collect = record
    try:
        trainer.evaluate(test_data, load_best_model=False)
    finally:
        del collector.eval_batch_collect
    users, ranked = torch.cat(user_parts).numpy(), torch.cat(hit_parts)
    counts = train_counts(train_data._dataset, dataset.uid_field, dataset.user_num).numpy()
    tokens = np.asarray(dataset.field2id_token[dataset.uid_field], dtype=str)
    table = {
        "user_id": tokens[users].astype(object),
        "n_train": counts[users],
        "n_test": ranked[:, -1].numpy(),
    }
    table.update(ranking_metrics(config, ranked))
    table.update({f"recall@{k}:{name}": torch.cat(parts).numpy() for name, parts in in_slices.items()})
    return pd.DataFrame(table)


def ranking_metrics(config: Config, ranked: torch.Tensor) -> dict[str, np.ndarray]:
    """Return the value of every user, for each ranking metric of the settings.

    Args:
        config: of the run: ``metrics``, ``topk``.
        ranked: hits at the ranks 1 .. max(topk), and the number of positives, int64 ``[n_users, k + 1]``
            (``rec.topk``).
    """
    struct, values = DataStruct(), {}
    struct.set("rec.topk", ranked)
    for name in _ranking_metrics(config):
        metric = metrics_dict[name](config)
        # the classes compute [n_users, k] and average in their last step, which is where the users' values
        # are to be had
        metric.topk_result = lambda spelling, value: {
            f"{spelling}@{k}": value[:, k - 1] for k in config["topk"]
        }
        values.update(metric.calculate_metric(struct))
    return values


def item_slices(counts: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the items of each slice, bool ``[n_items]``, from their numbers of training interactions.

    Item 0, padding, is in none. The head ends where its share is full; among items with as many interactions
    as its last one, those of lower id are in it.
    """
    n_items = len(counts) - 1
    order = torch.argsort(counts[1:], descending=True, stable=True) + 1
    head = torch.zeros(len(counts), dtype=torch.bool)
    head[order[: round(HEAD_SHARE * n_items)]] = True
    real = torch.ones(len(counts), dtype=torch.bool)
    real[0] = False
    return {"head": head, "tail": real & ~head, "cold": real & (counts <= COLD_AT_MOST)}


def train_counts(dataset: Dataset, field: str, size: int) -> torch.Tensor:
    """Return how many interactions every id of a field has, int64 ``[size]``."""
    return torch.bincount(dataset.inter_feat[field], minlength=size)


def _ranking_metrics(config: Config) -> list[str]:
    names = [name.lower() for name in config["metrics"]]
    return [name for name in names if issubclass(metrics_dict[name], TopkMetric)]
