"""Loss terms that several models share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_ib.bottleneck import conditional_contrast
from recbole_ib.distributed.share import current_share


def bpr(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """-mean log sigmoid(<u, i> - <u, j>) (Rendle et al., UAI 2009); three ``[n, d]`` -> scalar."""
    return F.softplus((user * (negative - positive)).sum(dim=1)).mean()


def unsquared_norms(*tables: Tensor) -> Tensor:
    """sum_k |X_k|_F / rows(X_n): RecBole's ``EmbLoss``, whose norms are not squared; each ``[n_k, d]`` -> scalar."""
    return sum(x.norm() for x in tables) / tables[-1].shape[0]


def unsquared_batch_norms(*rows: Tensor) -> Tensor:
    """:func:`unsquared_norms` of the rows of a batch, also where processes share it: a norm is no sum, its square is."""
    share = current_share()
    if share is None:
        return unsquared_norms(*rows)
    squares = share.sum(torch.stack([x.square().sum() for x in rows]))
    return squares.sqrt().sum() / share.rows


def in_batch_contrast(anchor: Tensor, other: Tensor, temperature: float) -> Tensor:
    """InfoNCE of matching rows, one direction: -mean_b log softmax_b'(cos(x_b, y_b') / t) at b' = b.

    The positive is in the denominator; a row that comes twice in a batch is a negative of itself, as in the published losses that
    use it (van den Oord et al. 2018; SGL, MGCN, SOIL, SLMRec). ``[n, d]`` twice -> scalar.
    """
    return conditional_contrast(anchor, other, torch.arange(anchor.shape[0], device=anchor.device), temperature)
