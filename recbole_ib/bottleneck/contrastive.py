"""Contrastive losses: IBMRec's conditional one, and MICRO's between two views of all items."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from recbole_ib.bottleneck.kernels import row_blocks
from recbole_ib.ops.normalize import unit_rows

#: a block of the logits between two views holds at most this many numbers (64 MiB of float32)
BLOCK_NUMBERS = 1 << 24


class KnownPositives(NamedTuple):
    """The logits that a contrast leaves out, row by row.

    Attributes:
        pointers: where each row's columns begin and end in ``columns``, int64 ``[b + 1]``.
        columns: int64; a row's own positive may stand there, it is never left out.
    """

    pointers: Tensor
    columns: Tensor


def known_positives(
    interactions: KnownPositives, users: Tensor, items: Tensor, n_items: int
) -> KnownPositives:
    """Return which of the batch's items each pair's user is known to like.

    Args:
        interactions: of all users with all items, the user's row.
        users: ids of the pairs, int64 ``[b]``.
        items: DISTINCT ids of the batch's items, int64 ``[n]``.
        n_items: the number of all items.

    Returns:
        Rows as ``users``, columns as ``items``.

    Example:
        >>> all_pairs = KnownPositives(torch.tensor([0, 2, 3]), torch.tensor([1, 4, 0]))
        >>> known_positives(all_pairs, torch.tensor([0, 1, 0]), torch.tensor([4, 7]), n_items=8).columns
        tensor([0, 0])
    """
    column_of = users.new_full((n_items,), -1)
    column_of[items] = torch.arange(items.numel(), device=items.device)
    begins = interactions.pointers[users]
    counts = interactions.pointers[users + 1] - begins
    rows = torch.repeat_interleave(torch.arange(users.numel(), device=users.device), counts)
    within = torch.arange(rows.numel(), device=users.device) - (counts.cumsum(0) - counts)[rows]
    columns = column_of[interactions.columns[begins[rows] + within]]
    in_batch = columns >= 0
    found = torch.bincount(rows[in_batch], minlength=users.numel())
    return KnownPositives(torch.cat([found.new_zeros(1), found.cumsum(0)]), columns[in_batch])


def inclusion_log_probability(interactions: Tensor, batch_size: int) -> Tensor:
    """Return log [1 - (1 - n_j / sum n)^B], of an item to stand in a batch of B pairs drawn by popularity.

    Subtracted from its logit it removes the sampling bias of in-batch negatives (Bengio & Senecal 2008;
    Yi et al., RecSys 2019).

    Args:
        interactions: n_j of every item, ``[n_items]``.
        batch_size: B >= 1.

    Returns:
        ``[n_items]``, <= 0; of an item without interactions, which is in no batch, 0.

    Example:
        >>> inclusion_log_probability(torch.tensor([1.0, 3.0, 0.0]), batch_size=1).exp()
        tensor([0.2500, 0.7500, 1.0000])
    """
    share = (interactions.double() / interactions.sum().clamp_min(1)).clamp(max=1.0)
    # log1p and expm1: a rare item's (1 - p)^B lies at 1, where 1 - x loses its digits
    log_missing = batch_size * torch.log1p(-share)
    included = (-torch.expm1(log_missing)).log()
    return torch.where(share > 0, included, torch.zeros_like(included)).float()


def conditional_contrast(
    users: Tensor,
    items: Tensor,
    positives: Tensor,
    temperature: float,
    *,
    left_out: KnownPositives | None = None,
    offsets: Tensor | None = None,
    condition: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the loss of choosing a user's item among those of the batch (IBMRec Eq. 20 and 31).

    L_2 = -mean_(a,i) log [exp(s_ai) / sum_j exp(s_aj)], s_aj = cos(c_a, z_j) / tau; and, as they are given,
    - o_j (sampled-softmax correction) + <p_a, q_j> (the collaborative score that IBMRec Eq. 17 to 19
    condition on), without the j that a is known to like.

    Args:
        users: c_a of every pair, ``[b, d]``.
        items: z_j of the DISTINCT items of the batch, ``[n, d]``.
        positives: for every pair the row of its item in ``items``, int64 ``[b]``.
        temperature: tau > 0.
        left_out: the items of the batch that each pair's user is known to like, see :func:`known_positives`.
        offsets: o_j, ``[n]``, see :func:`inclusion_log_probability`.
        condition: p_a of every pair, ``[b, e]``, and q_j, ``[n, e]``, which take no gradient.

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
    added = None if condition is None else (condition[0].detach(), condition[1].detach())
    terms = _Logits(positives, temperature, left_out, offsets, added)
    return _SoftmaxContrast.apply(unit_rows(users), unit_rows(items), terms)


class _Logits(NamedTuple):
    """What the logits of :func:`conditional_contrast` are made of, beside its unit rows."""

    positives: Tensor
    temperature: float
    left_out: KnownPositives | None
    offsets: Tensor | None
    condition: tuple[Tensor, Tensor] | None

    def of(self, x: Tensor, y: Tensor, block: slice) -> Tensor:
        """Return the logits of some rows, ``[rows, n]``."""
        logits = (x[block] @ y.T) / self.temperature
        if self.condition is not None:
            logits = logits.addmm(self.condition[0][block], self.condition[1].T)
        if self.offsets is not None:
            logits = logits - self.offsets
        if self.left_out is not None:
            logits = logits.masked_fill(self._left_out(logits, self.left_out, block), -torch.inf)
        return logits

    def _left_out(self, logits: Tensor, known: KnownPositives, block: slice) -> Tensor:
        pointers = known.pointers[block.start : block.stop + 1]
        first, last = int(pointers[0]), int(pointers[-1])
        rows = torch.arange(logits.shape[0], device=logits.device)
        mask = torch.zeros_like(logits, dtype=torch.bool)
        mask[rows.repeat_interleave(pointers.diff()), known.columns[first:last]] = True
        mask[rows, self.positives[block]] = False
        return mask


class _SoftmaxContrast(torch.autograd.Function):
    """``cross_entropy(logits, positives)`` of unit rows ``[b, d]``, ``[n, d]`` -> a scalar, block by block.

    A CPU never holds the b x n logits.

    With P the softmax of the logits and E the one-hot rows of the positives, the gradient is
    (P - E) y / (b t), and likewise for y; its products are taken while a block of P is at hand.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, logits: _Logits) -> Tensor:
        loss, by_x, by_y = x.new_zeros(()), torch.empty_like(x), torch.zeros_like(y)
        for block in row_blocks(y.shape[0], x):
            rows, targets = torch.arange(block.stop - block.start, device=x.device), logits.positives[block]
            share = logits.of(x, y, block)
            highest = share.amax(dim=1)
            loss += (highest - share[rows, targets]).sum()
            total = share.sub_(highest[:, None]).exp_().sum(dim=1)
            loss += total.log().sum()
            share.div_(total[:, None])
            share[rows, targets] -= 1.0
            torch.mm(share, y, out=by_x[block])
            by_y.addmm_(share.T, x[block])
        ctx.scale = 1.0 / (x.shape[0] * logits.temperature)
        ctx.logits = logits
        ctx.save_for_backward(x, y, by_x, by_y)
        return loss / x.shape[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, by_x, by_y = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to have a gradient: P as a function of x and y
            chosen = F.one_hot(ctx.logits.positives, y.shape[0]).to(x.dtype)
            share = torch.softmax(ctx.logits.of(x, y, slice(0, x.shape[0])), dim=1) - chosen
            by_x, by_y = share @ y, share.T @ x
        return (grad * ctx.scale) * by_x, (grad * ctx.scale) * by_y, None


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
