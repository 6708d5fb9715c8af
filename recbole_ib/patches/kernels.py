"""Faster kernels for RecBole's own models: the same numbers up to the rounding of float32."""

from __future__ import annotations

import types
from typing import Any

import scipy.sparse as sp
import torch
from recbole.config import Config
from recbole.model.general_recommender import LightGCN
from recbole.trainer.trainer import AbstractTrainer
from recbole.utils import ModelType
from torch import nn

from recbole_ib.graph import SparseMatrix, mean_propagation
from recbole_ib.model.registry import is_multimodal

#: torch's optimizers that have a fused step, by RecBole's ``learner`` names; one pass over the parameters
#: instead of ten
FUSED = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def applicable(config: Config) -> bool:
    """Return whether a run of RecBole's own model takes our kernels: a general one with our defaults.

    ``defaults: recbole`` is bit for bit.
    """
    return (
        config["MODEL_TYPE"] == ModelType.GENERAL
        and not is_multimodal(config.model_class)
        and config["defaults"] == "recbole_ib"
    )


def install_fast_kernels(model: nn.Module, trainer: AbstractTrainer) -> None:
    """Give a model of RecBole's and its trainer the kernels that this package's own models use.

    The optimizer steps in one pass, and LightGCN's propagation has a backward of its own. Left alone:
    optimizers without a fused step, and subclasses of LightGCN.
    """
    if type(model) is LightGCN:
        _propagate_at_once(model)
    optimizer: Any = getattr(trainer, "optimizer", None)
    if type(optimizer) in FUSED.values() and not optimizer.state:
        groups = [
            {k: v for k, v in group.items() if k not in ("foreach", "fused")}
            for group in optimizer.param_groups
        ]
        trainer.optimizer = type(optimizer)(groups, fused=True)


def _propagate_at_once(model: LightGCN) -> None:
    adjacency = model.norm_adj_matrix.coalesce().cpu()
    rows, cols = adjacency.indices().numpy()
    matrix = SparseMatrix(
        sp.csr_array((adjacency.values().numpy(), (rows, cols)), shape=tuple(adjacency.shape)), symmetric=True
    )
    matrix.to(model.norm_adj_matrix.device)

    def forward(self: LightGCN) -> tuple[torch.Tensor, ...]:
        output = mean_propagation(matrix, self.get_ego_embeddings(), self.n_layers)
        return torch.split(output, [self.n_users, self.n_items])

    model.forward = types.MethodType(forward, model)
