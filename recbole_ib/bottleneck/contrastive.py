"""Contrastive losses: IBMRec's conditional one, and MICRO's between two views of all items."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

#: a block of logits holds at most this many numbers (64 MiB of float32)
BLOCK_NUMBERS = 1 << 24


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
    return _SoftmaxContrast.apply(F.normalize(users, dim=1), F.normalize(items, dim=1), positives, temperature)


class _SoftmaxContrast(torch.autograd.Function):
    """``cross_entropy(x y^T / t, positives)``, ``[b, d]`` and ``[n, d]`` -> a scalar: 5 instead of 9 passes over the b x n logits.

    With P the softmax of the logits and E the one-hot rows of the positives, the gradient is (P - E) y / (b t), and likewise for y.
    """

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, positives: Tensor, temperature: float) -> Tensor:
        ctx.temperature = temperature
        rows = torch.arange(x.shape[0], device=x.device)
        logits = (x @ y.T).div_(temperature)
        highest = logits.amax(dim=1)
        own = logits[rows, positives] - highest
        share = logits.sub_(highest[:, None]).exp_()
        total = share.sum(dim=1)
        share.div_(total[:, None])
        share[rows, positives] -= 1.0
        ctx.save_for_backward(x, y, positives, share)
        return (total.log() - own).mean()

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, y, positives, share = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to have a gradient: P as a function of x and y
            share = torch.softmax(x @ y.T / ctx.temperature, dim=1) - F.one_hot(positives, y.shape[0]).to(x.dtype)
        scaled = grad / (x.shape[0] * ctx.temperature)
        return scaled * (share @ y), scaled * (share.T @ x), None, None


def two_view_contrast(anchor: Tensor, other: Tensor, temperature: float, block: int | None = None) -> Tensor:
    """MICRO's contrast (Zhang et al., TKDE 2022, Eq. 15): the negatives are the other rows of BOTH views.

    mean_i -log e(z_i, h_i) / [ sum_j e(z_i, h_j) + sum_{j != i} e(z_i, z_j) ], e(a, b) = exp(cos(a, b) / t).

    The ``n x 2n`` logits are never held: row blocks are computed again in the backward pass. Two equal views still give a
    loss above 0, because the anchor's own view stands in the denominator.

    Args:
        anchor: z, ``[n, d]``.
        other: h, ``[n, d]``.
        temperature: t > 0.
        block: rows at a time; default: as many as fit 64 MiB.

    Raises:
        ValueError: t is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"the contrastive temperature must be positive, got {temperature}")
    z, h = F.normalize(anchor, dim=1), F.normalize(other, dim=1)
    n = z.shape[0]
    block = block or max(1, BLOCK_NUMBERS // (2 * n))
    total = z.new_zeros(())
    for start in range(0, n, block):
        total = total + checkpoint(_block_contrast, z, h, start, min(start + block, n), temperature, use_reentrant=False)
    return total / n


def _block_contrast(z: Tensor, h: Tensor, start: int, stop: int, temperature: float) -> Tensor:
    rows = torch.arange(stop - start, device=z.device)
    logits = z[start:stop] @ torch.cat([h, z]).T / temperature
    own = torch.zeros_like(logits, dtype=torch.bool)
    own[rows, h.shape[0] + start + rows] = True
    logits = logits.masked_fill(own, float("-inf"))
    return F.cross_entropy(logits, start + rows, reduction="sum")
