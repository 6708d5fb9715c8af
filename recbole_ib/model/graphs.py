"""The graphs that models are built on: user-item, and item-item for each modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recbole_ib.data.graph_cache import cosine_graph
from recbole_ib.errors import ConfigurationError
from recbole_ib.graph import ModalityWeights, SparseMatrix, top_k_per_row, user_item_adjacency


def any_feature(dataset) -> Tensor:
    """The items that have a feature of their own in at least one modality, bool ``[n_items]``."""
    return torch.stack(list(dataset.has_feature.values())).any(dim=0)


def required_modalities(config: Any, dataset: Any, model: str) -> list[str]:
    """Return the names of the modalities of a data set.

    Raises:
        ConfigurationError: it has none, which no model can be built on.
    """
    modalities = list(getattr(dataset, "modalities", None) or {})
    if not modalities:
        raise ConfigurationError(
            f"{model} needs at least 1 modality; the data set {config['dataset']!r} has 0. Name feature files under the key "
            "'modalities' of its yaml"
        )
    return modalities


def training_adjacency(dataset, normalization: str) -> SparseMatrix:
    """The normalized user-item graph of a training data set, as a module."""
    matrix = user_item_adjacency(dataset.inter_matrix(form="csr"), normalization)
    return SparseMatrix(matrix, symmetric=normalization == "sym")


def modality_graphs(config, dataset) -> dict:
    """Each modality's frozen top-k cosine graph: the ready one of the data set, or computed from the raw features.

    Yaml: ``knn_k``, neighbors an item, itself included; ``knn_search``, how they are found, see :func:`recbole_ib.graph.cosine_knn`.
    Returns modality -> CSR ``[n_items, n_items]``.
    """
    k, search, graphs = int(config["knn_k"]), config["knn_search"], {}
    cache = getattr(dataset, "graph_cache", None)
    for name, features in dataset.modalities.items():
        if name in dataset.item_graphs:
            graphs[name] = top_k_per_row(dataset.item_graphs[name], k)
        else:
            graphs[name] = cosine_graph(features, k, dataset.has_feature[name], search, cache)
    return graphs


def modality_weights(config, modalities: list[str]) -> ModalityWeights:
    """Yaml key ``modality_weights``: ``learned``, ``equal``, or a mapping modality -> weight."""
    setting = config["modality_weights"]
    if setting == "equal":
        return ModalityWeights.equal(modalities)
    if isinstance(setting, Mapping):
        return ModalityWeights(modalities, setting)
    if setting in (None, "learned"):
        return ModalityWeights(modalities)
    raise ConfigurationError(
        f"modality_weights is {setting!r}; allowed: learned, equal, or a weight a modality: {{{modalities[0]}: 1.0}}"
    )
