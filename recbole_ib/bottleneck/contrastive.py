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
        pointers: where each row's columns begin and end in ``columns``, int64 ``[u + 1]``.
        columns: int64; a row's own positive may stand there, it is never left out.
    """

    pointers: Tensor
    columns: Tensor


def known_positives(
    interactions: KnownPositives, users: Tensor, items: Tensor, n_items: int
) -> KnownPositives:
    """Return which of the batch's items each user is known to like.

    Args:
        interactions: of all users with all items, the user's row.
        users: ids, int64 ``[u]``.
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
    of_users: Tensor | None = None,
    left_out: KnownPositives | None = None,
    offsets: Tensor | None = None,
    condition: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the loss of choosing a user's item among those of the batch (IBMRec Eq. 20 and 31).

    L_2 = -mean_(a,i) log [exp(s_ai) / sum_j exp(s_aj)], s_aj = cos(c_a, z_j) / tau; and, as they are given,
    - o_j (sampled-softmax correction) + <p_a, q_j> (the collaborative score that IBMRec Eq. 17 to 19
    condition on), without the j that a is known to like.

    The logits are those of the rows of ``users``: where these are distinct and ``of_users`` says whose each
    pair is, a user with ten pairs costs what one with a single pair does.

    Args:
        users: c_a of every user, ``[u, d]``.
        items: z_j of the DISTINCT items of the batch, ``[n, d]``.
        positives: for every pair the row of its item in ``items``, int64 ``[b]``.
        temperature: tau > 0.
        of_users: for every pair the row of its user in ``users``, int64 ``[b]``; default: pair k is of row k.
        left_out: the items of the batch that each user is known to like, see :func:`known_positives`.
        offsets: o_j, ``[n]``, see :func:`inclusion_log_probability`.
        condition: p_a of every user, ``[u, e]``, and q_j, ``[n, e]``, which take no gradient.

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
    if of_users is None:
        rows = torch.arange(positives.numel(), device=positives.device)
    else:
        rows, order = of_users.sort(stable=True)
        positives = positives[order]
    logits = _Logits(rows, positives, temperature, left_out, offsets, added)
    return _SoftmaxContrast.apply(unit_rows(users), unit_rows(items), logits)


class _Pairs(NamedTuple):
    """The pairs of a block of users.

    Attributes:
        rows, columns: where their own logits stand in the block.
        own: these logits, ``[pairs]``.
        known: whether the user's items that are left out have this one among them.
    """

    rows: Tensor
    columns: Tensor
    own: Tensor
    known: Tensor


class _Logits(NamedTuple):
    """What the logits of :func:`conditional_contrast` are made of, beside its unit rows.

    Attributes:
        rows: of every pair the user, in ascending order.
        positives: of every pair the item.
    """

    rows: Tensor
    positives: Tensor
    temperature: float
    left_out: KnownPositives | None = None
    offsets: Tensor | None = None
    condition: tuple[Tensor, Tensor] | None = None

    def of(self, x: Tensor, y: Tensor, block: slice) -> tuple[Tensor, _Pairs]:
        """Return the logits of some users, ``[users, n]``, -inf where one is left out, and their pairs."""
        logits = (x[block] / self.temperature) @ y.T
        if self.condition is not None:
            logits = logits.addmm(self.condition[0][block], self.condition[1].T)
        if self.offsets is not None:
            logits = logits - self.offsets
        first, last = torch.searchsorted(self.rows, self.rows.new_tensor([block.start, block.stop])).tolist()
        rows, columns = self.rows[first:last] - block.start, self.positives[first:last]
        own = logits[rows, columns]
        if self.left_out is None:
            return logits, _Pairs(rows, columns, own, torch.zeros_like(rows, dtype=torch.bool))
        pointers = self.left_out.pointers[block.start : block.stop + 1]
        left_out = self.left_out.columns[int(pointers[0]) : int(pointers[-1])]
        users = torch.arange(logits.shape[0], device=logits.device).repeat_interleave(pointers.diff())
        logits = logits.index_put_((users, left_out), logits.new_tensor(-torch.inf))
        return logits, _Pairs(rows, columns, own, logits[rows, columns] == -torch.inf)


class _SoftmaxContrast(torch.autograd.Function):
    """Unit rows ``[u, d]``, ``[n, d]`` -> the mean over pairs of log sum_j exp(s_aj) - s_ai, block by block.

    A CPU never holds the u x n logits.

    A pair's denominator has its user's items that are not left out, and its own item. With L_a the log of the
    sum over the former and g = L_a - s_ai, a pair whose item is left out for others has the loss
    log(1 + e^g) and w = 1 / (1 + e^-g), another g and 1. With P the softmax over the items that are not left
    out, the gradient by the logits of user a is P_a sum w - w at each pair's own item; its products with x
    and y are taken while a block of P is at hand.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, logits: _Logits) -> Tensor:
        loss, by_x, by_y = x.new_zeros(()), torch.empty_like(x), torch.zeros_like(y)
        for block in row_blocks(y.shape[0], x):
            share, pairs = logits.of(x, y, block)
            highest = _finite(share.amax(dim=1))
            total = share.sub_(highest[:, None]).exp_().sum(dim=1)
            terms, weights = _of_gaps(_gaps(highest, total, pairs), pairs.known)
            loss += terms.sum()
            of_user = torch.zeros_like(total).index_add_(0, pairs.rows, weights)
            share.mul_((of_user / total.clamp_min(torch.finfo(total.dtype).tiny))[:, None])
            share.index_put_((pairs.rows, pairs.columns), -weights, accumulate=True)
            torch.mm(share, y, out=by_x[block])
            by_y.addmm_(share.T, x[block])
        ctx.scale = 1.0 / (logits.rows.numel() * logits.temperature)
        ctx.logits = logits
        ctx.save_for_backward(x, y, by_x, by_y)
        return loss / logits.rows.numel()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, by_x, by_y = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to have a gradient: P as a function of x and y
            logits, pairs = ctx.logits.of(x, y, slice(0, x.shape[0]))
            highest = _finite(logits.amax(dim=1)).detach()
            share = (logits - highest[:, None]).exp()
            total = share.sum(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
            _, weights = _of_gaps(_gaps(highest, total, pairs), pairs.known)
            of_user = torch.zeros_like(total).index_add(0, pairs.rows, weights)
            share = share * (of_user / total)[:, None]
            share = share.index_put((pairs.rows, pairs.columns), -weights, accumulate=True)
            by_x, by_y = share @ y, share.T @ x
        return (grad * ctx.scale) * by_x, (grad * ctx.scale) * by_y, None


def _finite(highest: Tensor) -> Tensor:
    """Return the rows' highest logits, 0 for a user all of whose items are left out."""
    return torch.where(highest == -torch.inf, torch.zeros_like(highest), highest)


def _gaps(highest: Tensor, total: Tensor, pairs: _Pairs) -> Tensor:
    """Return g of pairs from the parts of L_a; large logits cancel before the small one is added."""
    return (highest[pairs.rows] - pairs.own) + total.log()[pairs.rows]


def _of_gaps(gaps: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses and the weights w of pairs, see :class:`_SoftmaxContrast`."""
    losses = torch.where(known, torch.logaddexp(gaps, torch.zeros_like(gaps)), gaps)
    return losses, torch.where(known, gaps.sigmoid(), torch.ones_like(gaps))


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
