"""Names and directions of metrics."""

from __future__ import annotations

from recbole.evaluator import smaller_metrics


def metric_title(metric: str) -> str:
    """Return RecBole's ``recall@20`` as people write it: Recall@20."""
    name, at, cut_off = metric.partition("@")
    return {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR"}.get(name, name.capitalize()) + at + cut_off


def smaller_is_better(metric: str) -> bool:
    """Return whether RecBole takes a smaller value of a metric, such as ``rmse``, for the better one."""
    return metric.partition("@")[0].lower() in smaller_metrics
