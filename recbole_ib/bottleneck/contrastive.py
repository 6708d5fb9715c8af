"""Contrastive losses: IBMRec's conditional one, and MICRO's between two views of all items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from recbole_ib.bottleneck.kernels import row_blocks
from recbole_ib.ops.normalize import unit_rows

#: a block of the logits between two views holds at most this many numbers (64 MiB of float32)
BLOCK_NUMBERS = 1 << 24


def conditional_contrast(users: Tensor, items: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """Return the loss of choosing a user's item among those of the batch (IBMRec Eq. 20 and 31).

    L_2 = -mean_(a,i) log [exp(cos(c_a, z_i) / tau) / sum_j exp(cos(c_a, z_j) / tau)].

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

    Example:
        >>> users, items = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> loss = conditional_contrast(users, items, torch.tensor([0]), temperature=0.5)
        >>> round(loss.item(), 4)  # log(1 + exp(-1 / 0.5))
        0.1269
    """
    if not temperature > 0:
        raise ValueError(f"the contrastive temperature must be positive, got {temperature}")
    if not positives.numel():
        return users.sum() * 0.0 + items.sum() * 0.0
    return _SoftmaxContrast.apply(unit_rows(users), unit_rows(items), positives, temperature)


class _SoftmaxContrast(torch.autograd.Function):
    """``cross_entropy(x y^T / t, positives)``, ``[b, d]`` and ``[n, d]`` -> a scalar, block by block.

    A CPU never holds the b x n logits.

    With P the softmax of the logits and E the one-hot rows of the positives, the gradient is
    (P - E) y / (b t), and likewise for y; its products are taken while a block of P is at hand.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, positives: Tensor, temperature: float) -> Tensor:
        loss, by_x, by_y = x.new_zeros(()), torch.empty_like(x), torch.zeros_like(y)
        for block in row_blocks(y.shape[0], x):
            rows, targets = torch.arange(block.stop - block.start, device=x.device), positives[block]
            share = (x[block] @ y.T).div_(temperature)
            highest = share.amax(dim=1)
            loss += (highest - share[rows, targets]).sum()
            total = share.sub_(highest[:, None]).exp_().sum(dim=1)
            loss += total.log().sum()
            share.div_(total[:, None])
            share[rows, targets] -= 1.0
            torch.mm(share, y, out=by_x[block])
            by_y.addmm_(share.T, x[block])
        ctx.scale = 1.0 / (x.shape[0] * temperature)
        ctx.temperature = temperature
        ctx.save_for_backward(x, y, positives, by_x, by_y)
        return loss / x.shape[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, positives, by_x, by_y = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to have a gradient: P as a function of x and y
            chosen = F.one_hot(positives, y.shape[0]).to(x.dtype)
            share = torch.softmax(x @ y.T / ctx.temperature, dim=1) - chosen
            by_x, by_y = share @ y, share.T @ x
        return (grad * ctx.scale) * by_x, (grad * ctx.scale) * by_y, None, None


def two_view_contrast(anchor: Tensor, other: Tensor, temperature: float, block: int | None = None) -> Tensor:
    """Return MICRO's contrast, whose negatives are the other rows of BOTH views.

    Zhang et al., TKDE 2022, Eq. 15:
    mean_i -log e(z_i, h_i) / [ sum_j e(z_i, h_j) + sum_{j != i} e(z_i, z_j) ], e(a, b) = exp(cos(a, b) / t).

    The ``n x 2n`` logits are never held: row blocks are computed again in the backward pass. Two equal views
    still give a loss above 0, because the anchor's own view stands in the denominator.

    Args:
        anchor: z, ``[n, d]``.
        other: h, ``[n, d]``.
        temperature: t > 0.
        block: rows at a time; default: as many as fit 64 MiB.

    Raises:
        ValueError: t is not positive.

    Example:
        >>> view = torch.eye(2)
        >>> round(two_view_contrast(view, view, temperature=1.0).item(), 4)  # log(1 + 2 exp(-1))
        0.5514
    """
    if not temperature > 0:
        raise ValueError(f"the contrastive temperature must be positive, got {temperature}")
    z, h = unit_rows(anchor), unit_rows(other)
    n = z.shape[0]
    block = block or max(1, BLOCK_NUMBERS // (2 * n))
    total = z.new_zeros(())
    for start in range(0, n, block):
        total = total + checkpoint(
            _block_contrast, z, h, start, min(start + block, n), temperature, use_reentrant=False
        )
    return total / n


def _block_contrast(z: Tensor, h: Tensor, start: int, stop: int, temperature: float) -> Tensor:
    rows = torch.arange(stop - start, device=z.device)
    logits = z[start:stop] @ torch.cat([h, z]).T / temperature
    itself = torch.zeros_like(logits, dtype=torch.bool)
    itself[rows, h.shape[0] + start + rows] = True
    logits = logits.masked_fill(itself, float("-inf"))
    return F.cross_entropy(logits, start + rows, reduction="sum")
