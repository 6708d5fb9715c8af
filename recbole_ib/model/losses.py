"""Loss terms that several models share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_ib.bottleneck import conditional_contrast
from recbole_ib.distributed.share import current_share


def bpr(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return -mean log sigmoid(<u, i> - <u, j>) (Rendle et al., UAI 2009); three ``[n, d]`` -> scalar."""
    return F.softplus((user * (negative - positive)).sum(dim=1)).mean()


def total(terms: Iterable[Tensor]) -> Tensor:
    """Return the sum of at least one tensor, added up in their order."""
    return cast("Tensor", sum(terms))


def unsquared_norms(*tables: Tensor) -> Tensor:
    """Return sum_k |X_k|_F / rows(X_n), ``[n_k, d]`` each: RecBole's ``EmbLoss``, norms not squared."""
    return total(x.norm() for x in tables) / tables[-1].shape[0]


def unsquared_batch_norms(*rows: Tensor) -> Tensor:
    """Return :func:`unsquared_norms` of the rows of a batch, also where processes share it.

    A norm is no sum over rows, and its square is one.
    """
    share = current_share()
    if share is None:
        return unsquared_norms(*rows)
    squares = share.sum(torch.stack([x.square().sum() for x in rows]))
    return squares.sqrt().sum() / share.rows


def in_batch_contrast(anchor: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Return InfoNCE of matching rows, one direction: -mean_b log softmax_b'(cos(x_b, y_b') / t) at b' = b.

    ``[n, d]`` twice -> scalar. The positive is in the denominator; a row that comes twice in a batch is a
    negative of itself, as in the published losses that use it (van den Oord et al. 2018; SGL, MGCN, SOIL,
    SLMRec).
    """
    matches = torch.arange(anchor.shape[0], device=anchor.device)
    return conditional_contrast(anchor, other, matches, temperature)
