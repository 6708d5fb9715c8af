"""Parts that the models with several item views share.

The attention over views, the behavior gate, stacked views.
"""

from __future__ import annotations

from collections.abc import Mapping

import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_ib.graph import SparseMatrix


class ViewAttention(nn.Module):
    """alpha_m = softmax over m of v^T tanh(W x_m + b), one v, W, b for all views (MICRO Eq. 11; MGCN Eq. 13).

    ``forward``: the views ``[n, d]`` each -> ``[n, M]``, rows sum to 1. Without any view there is nothing to
    weigh: ValueError.
    """

    def __init__(self, width: int):
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, views: list[Tensor]) -> Tensor:
        """Return alpha, ``[n, M]``."""
        if not views:
            raise ValueError("an attention over views needs at least one view")
        return torch.softmax(torch.cat([self.score(torch.tanh(self.hidden(x))) for x in views], dim=1), dim=1)


class BehaviorGate(nn.Module):
    """Q_m = Q * sigmoid(T_m A_m + c_m): the id embeddings, gated by each modality's features (MGCN Eq. 2).

    ``forward``: Q ``[n_items, d]`` and modality -> T_m ``[n_items, d]``; returns modality -> Q_m, likewise.
    """

    def __init__(self, modalities: list[str], width: int):
        super().__init__()
        self.gate = nn.ModuleDict({m: nn.Linear(width, width) for m in modalities})

    def forward(self, ids: Tensor, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return Q_m by modality."""
        return {m: ids * torch.sigmoid(layer(latents[m])) for m, layer in self.gate.items()}


def user_item_block(adjacency: sp.csr_array, n_users: int) -> SparseMatrix:
    """Return the users' rows and items' columns of a ``[U + N, U + N]`` matrix, as a module ``[U, N]``."""
    return SparseMatrix(sp.csr_array(adjacency)[:n_users, n_users:])


def collect_for_users(block: SparseMatrix, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return E_m = [R I_m ; I_m], ``[U + N, d]``, for every view I_m ``[N, d]``, with one product for all."""
    names = list(views)
    width = views[names[0]].shape[1]
    users = block(torch.cat([views[m] for m in names], dim=1)).split(width, dim=1)
    return {m: torch.cat([u, views[m]]) for m, u in zip(names, users, strict=True)}
