"""The conditional contrastive loss of IBMRec's second step."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def conditional_contrast(users: Tensor, items: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """L_2 = -mean_(a,i) log [exp(cos(c_a, z_i) / tau) / sum_j exp(cos(c_a, z_j) / tau)] (IBMRec Eq. 20 and 31).

    Args:
        users: c_a of every pair, ``[b, d]``.
        items: z_j of the DISTINCT items of the batch, ``[n, d]``.
        positives: for every pair the row of its item in ``items``, int64 ``[b]``.
        temperature: tau > 0.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: tau is not positive.

    Without any pair the loss is 0.
    """
    if not temperature > 0:
        raise ValueError(f"the contrastive temperature must be positive, got {temperature}")
    if not positives.numel():
        return users.sum() * 0.0 + items.sum() * 0.0
    logits = F.normalize(users, dim=1) @ F.normalize(items, dim=1).T
    return F.cross_entropy(logits / temperature, positives)
