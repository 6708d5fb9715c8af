"""Names and directions of metrics."""

from __future__ import annotations


def metric_title(metric: str) -> str:
    """Return RecBole's ``recall@20`` as people write it: Recall@20."""
    return {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR"}.get(metric.split("@")[0], metric.split("@")[0].capitalize()) + "".join(
        f"@{k}" for k in metric.split("@")[1:]
    )


def smaller_is_better(metric: str) -> bool:
    """Return whether RecBole takes a smaller value of a metric, such as ``rmse``, for the better one."""
    from recbole.evaluator import smaller_metrics

    return metric.partition("@")[0].lower() in smaller_metrics
