"""A class for every item: a field of the data set, or clusters of the features."""

from __future__ import annotations

from typing import Any

import torch
from recbole.utils import FeatureType
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.model.graphs import any_feature

#: the label of an item that has none
UNKNOWN = -1
#: a class with fewer items joins the other small ones; a cluster has as many on average at least
MIN_ITEMS = 10
KMEANS = "kmeans"


def item_labels(config: Any, dataset: Any) -> Tensor:
    """Return the labels 0 .. C-1 of all items, int64 ``[n_items]``; -1 for padding and items without a label.

    Yaml: ``sgfd_labels`` (``kmeans``, or the name of a ``token`` or ``token_seq`` field of the item file),
    ``label_position`` (the entry of a ``token_seq`` to take; an item with fewer entries gives its last one),
    ``n_classes`` (``kmeans``).

    Raises:
        ConfigurationError: no such field, a field of another type, or fewer than two classes.
    """
    source = config["sgfd_labels"]
    if source == KMEANS:
        return cluster_labels(dataset, int(config["n_classes"]), int(config["seed"]))
    labels = merge_small_classes(field_values(dataset, source, int(config["label_position"])))
    if int(labels.max()) < 1:
        raise ConfigurationError(
            f"sgfd_labels: the items' field {source!r} gives fewer than two classes of at least {MIN_ITEMS} "
            f"items, which teaches nothing; name another field, or {KMEANS}"
        )
    return labels


def field_values(dataset: Any, field: object, position: int) -> Tensor:
    """Return RecBole's numbers of an item field's tokens, int64 ``[n_items]``; 0 where an item has none."""
    features = dataset.item_feat
    known = [c for c in (features.columns if features is not None else ()) if c != dataset.iid_field]
    if field not in known:
        have = (
            f"the data set's items have the fields {', '.join(known)}"
            if known
            else "the data set's items have no fields"
        )
        hint = nearest(str(field), [*known, KMEANS])
        raise ConfigurationError(
            f"sgfd_labels is {field!r}; {have}.{hint} Name a field that load_col loads, such as load_col: "
            f"{{item: [{dataset.iid_field}, {field}]}}, or {KMEANS} for clusters of the features"
        )
    kind, values = dataset.field2type[field], features[field]
    if kind == FeatureType.TOKEN:
        return values.long()
    if kind != FeatureType.TOKEN_SEQ:
        raise ConfigurationError(
            f"sgfd_labels: a label is a token or token_seq; the field {field!r} is a {kind.value}"
        )
    if position < 0:
        raise ConfigurationError(f"label_position counts from 0, got {position}")
    last = (values != 0).sum(dim=1) - 1
    return values.long().gather(1, last.clamp(0, position)[:, None]).squeeze(1)


def merge_small_classes(values: Tensor, minimum: int = MIN_ITEMS) -> Tensor:
    """Return labels 0 .. C-1 of numbers > 0, ``[n_items]``.

    Classes of fewer than ``minimum`` items become one, 0 and row 0 become -1.
    """
    values = values.clone()
    values[0] = 0
    classes, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    large = (counts >= minimum) & (classes > 0)
    new = torch.where(large, large.cumsum(0) - 1, large.sum())
    new[classes == 0] = UNKNOWN
    return new[inverse]


def cluster_labels(dataset: Any, n_classes: int, seed: int) -> Tensor:
    """Return the k-means clusters of [F_1 / |F_1| ; .. ; F_M / |F_M|] of the items that have a feature.

    There is at most one cluster per ten items.
    """
    known = any_feature(dataset)
    known[0] = False
    items = torch.nonzero(known).flatten()
    k = min(n_classes, items.numel() // MIN_ITEMS)
    if k < 2:
        raise ConfigurationError(
            f"n_classes is {n_classes}, and {items.numel()} items have features: labels teach something from "
            f"two clusters of {MIN_ITEMS} items on. Set n_classes to 2 or more, or name a field of the item "
            "file in sgfd_labels"
        )
    points = torch.cat(
        [F.normalize(table[items].float(), dim=1) for table in dataset.modalities.values()], dim=1
    )
    from sklearn.cluster import KMeans

    # several threads add up a cluster's center in any order, and two runs with one seed would differ
    with threadpool_limits(limits=1):
        clusters = KMeans(k, n_init=1, random_state=seed).fit_predict(points.numpy())
    labels = torch.full((dataset.item_num,), UNKNOWN)
    # a cluster may be empty where many items have one feature
    labels[items] = torch.unique(torch.from_numpy(clusters).long(), return_inverse=True)[1]
    return labels
