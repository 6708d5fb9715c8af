"""The graphs that models are built on: user-item, and item-item per modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_ib.data.graph_cache import cosine_graph
from recbole_ib.errors import ConfigurationError
from recbole_ib.graph import ModalityWeights, SparseMatrix, top_k_per_row, user_item_adjacency


def any_feature(dataset: Any) -> Tensor:
    """Return the items that have a feature of their own in at least one modality, bool ``[n_items]``."""
    return torch.stack(list(dataset.has_feature.values())).any(dim=0)


def required_modalities(config: Any, dataset: Any, model: str) -> list[str]:
    """Return the names of the modalities of a data set.

    Raises:
        ConfigurationError: it has none, which no model can be built on.
    """
    modalities = list(getattr(dataset, "modalities", None) or {})
    if not modalities:
        raise ConfigurationError(
            f"{model} needs at least 1 modality; the data set {config['dataset']!r} has 0. Name feature "
            "files under the key 'modalities' of its yaml"
        )
    return modalities


def training_adjacency(dataset: Any, normalization: str) -> SparseMatrix:
    """Return the normalized user-item graph of a training data set, as a module."""
    matrix = user_item_adjacency(dataset.inter_matrix(form="csr"), normalization)
    return SparseMatrix(matrix, symmetric=normalization == "sym")


def modality_graphs(config: Any, dataset: Any) -> dict[str, sp.csr_array]:
    """Return each modality's frozen top-k cosine graph: modality -> CSR ``[n_items, n_items]``.

    It is the data set's ready graph, or computed from the raw features.

    Yaml: ``knn_k``, neighbors per item, itself included; ``knn_search``, how they are searched, see
    :func:`recbole_ib.graph.cosine_knn`.

    Raises:
        ConfigurationError: more neighbors than there are items.
    """
    k, search = int(config["knn_k"]), config["knn_search"]
    if k > dataset.item_num - 1:
        raise ConfigurationError(
            f"knn_k is {k}, and the data set has {dataset.item_num - 1} items after filtering: an item has "
            "no more neighbors than that"
        )
    graphs: dict[str, sp.csr_array] = {}
    cache = getattr(dataset, "graph_cache", None)
    for name, features in dataset.modalities.items():
        if name in dataset.item_graphs:
            graphs[name] = top_k_per_row(dataset.item_graphs[name], k)
        else:
            graphs[name] = cosine_graph(features, k, dataset.has_feature[name], search, cache)
    return graphs


def modality_weights(config: Any, modalities: list[str]) -> ModalityWeights:
    """Return the weights of the key ``modality_weights``: ``learned``, ``equal``, or modality -> weight.

    Raises:
        ConfigurationError: the key has another value.
    """
    setting = config["modality_weights"]
    if setting == "equal":
        return ModalityWeights.equal(modalities)
    if isinstance(setting, Mapping):
        return ModalityWeights(modalities, setting)
    if setting in (None, "learned"):
        return ModalityWeights(modalities)
    raise ConfigurationError(
        f"modality_weights is {setting!r}; allowed: learned, equal, or a weight per modality: "
        f"{{{modalities[0]}: 1.0}}"
    )
