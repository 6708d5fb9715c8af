"""The binary concrete gate on the edges of a graph."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recbole_ib.graph.propagation import EdgeStructure

#: edges whose hidden layer is computed at once on a CPU thread: 1 MiB at 64 columns
EDGES_A_BLOCK = 4096
#: an edge whose gate lies below the first counts as closed, above the second as open
CLOSED, OPEN = 0.1, 0.9
#: the hidden layer of the edges is kept for the backward pass up to so many numbers: 64 MiB of float32
MOST_KEPT = 1 << 24


class ConcreteEdgeGate(nn.Module):
    """Learned keep-probability of every edge: w_ij = MLP([h_i, h_j]), rho_ij ~ Bern(w_ij) (IBMRec Eq. 23-24).

    Training relaxes the Bernoulli draw to the binary concrete distribution (Maddison et al. 2017; Jang
    et al. 2017): rho = sigmoid((logit + log e - log(1 - e)) / t), e ~ U(0, 1), so the gradient reaches the
    MLP. Evaluation takes sigmoid(logit), without noise. A bias b is added to rho (and the sum clipped to 1),
    so that no edge falls below b.

    The first layer of the MLP acts on a concatenation, hence W [h_i, h_j] = W_1 h_i + W_2 h_j is computed per
    NODE and gathered per edge: the same function, without an edge x 2d matrix.

    Args:
        node_dim: d, the width of h.
        hidden_dim: the MLP's hidden width.
        temperature: t > 0.
        bias: b in [0, 1).
        start: the keep-probability sigmoid(logit) that edges start around, in (0, 1); the published text is
            silent on it.

    Raises:
        ValueError: a temperature, bias or start outside its range.

    Example:
        >>> gate = ConcreteEdgeGate(node_dim=2, bias=0.25, start=0.5).eval()
        >>> structure = EdgeStructure(torch.tensor([0, 1]), torch.tensor([1, 0]), n_nodes=2)
        >>> gate(torch.zeros(2, 2), structure).detach()  # sigmoid(0) + 0.25
        tensor([0.7500, 0.7500])
    """

    # e stays this far from 0 and 1, so that its logit is finite in float32
    NOISE_MARGIN = 1e-6

    def __init__(
        self,
        node_dim: int,
        hidden_dim: int = 64,
        temperature: float = 0.2,
        bias: float = 0.0,
        start: float = 0.5,
    ):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"the gate's temperature must be positive, got {temperature}")
        if not 0.0 <= bias < 1.0:
            raise ValueError(f"the gate's bias must lie in [0, 1), got {bias}")
        if not 0.0 < start < 1.0:
            raise ValueError(f"the gate's start must lie in (0, 1), got {start}")
        self.temperature, self.bias, self.start = float(temperature), float(bias), float(start)
        self.target = nn.Linear(node_dim, hidden_dim)
        self.source = nn.Linear(node_dim, hidden_dim, bias=False)
        self.output = nn.Linear(hidden_dim, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew (Xavier); the output's bias puts the edges around ``start``."""
        for layer in (self.target, self.source, self.output):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.target.bias)
        nn.init.constant_(self.output.bias, math.log(self.start / (1.0 - self.start)))

    def logits(self, nodes: Tensor, structure: EdgeStructure) -> Tensor:
        """Return the MLP's value for every edge: h ``[n_nodes, d] -> [n_edges]``."""
        ends = self.target(nodes), self.source(nodes)
        return _EdgePerceptron.apply(*ends, self.output.weight[0], structure) + self.output.bias

    def forward(self, nodes: Tensor, structure: EdgeStructure) -> Tensor:
        """Return rho ``[n_edges]`` in [bias, 1].

        A relaxed draw in training mode, sigmoid(logit) in evaluation mode.
        """
        return self.of_logits(self.logits(nodes, structure))

    def of_logits(self, logits: Tensor) -> Tensor:
        """Return rho of the edges' logits, ``[n_edges]``."""
        if self.training:
            logits = self.drawn(logits) / self.temperature
        return (torch.sigmoid(logits) + self.bias).clamp(max=1.0)

    def drawn(self, logits: Tensor) -> Tensor:
        """Return logit + log e - log(1 - e), e ~ U(0, 1); in evaluation mode the logits."""
        if not self.training:
            return logits
        noise = torch.rand_like(logits).clamp_(self.NOISE_MARGIN, 1.0 - self.NOISE_MARGIN)
        return logits + torch.logit(noise)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows: temperature, bias and start."""
        return f"temperature={self.temperature}, bias={self.bias}, start={self.start}"


def gate_statistics(gates: Tensor) -> dict[str, Tensor]:
    """Return scalars of the gates rho ``[n_edges]``.

    Returns:
        ``mean``; ``closed`` and ``open``, the shares of edges below :data:`CLOSED` and above :data:`OPEN`;
        ``entropy`` in nats.

    Example:
        >>> statistics = gate_statistics(torch.tensor([0.05, 0.5]))
        >>> {name: round(float(value), 3) for name, value in statistics.items()}
        {'mean': 0.275, 'closed': 0.5, 'open': 0.0, 'entropy': 0.446}
    """
    rho = gates.clamp(1e-7, 1 - 1e-7)
    return {
        "mean": gates.mean(),
        "closed": (rho < CLOSED).float().mean(),
        "open": (rho > OPEN).float().mean(),
        "entropy": -(rho * rho.log() + (1 - rho) * (1 - rho).log()).mean(),
    }


class _EdgePerceptron(torch.autograd.Function):
    """``out_e = <w, relu(a[row_e] + b[col_e])>``, block by block.

    Its backward sums, for every node, over the edges that it is a row of and those that it is a column of,
    and reads which hidden numbers are active. Up to :data:`MOST_KEPT` of them that is kept; beyond it the
    hidden layer, which is never held then, is computed again in both orders. Not differentiable twice.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, w: Tensor, structure: EdgeStructure) -> Tensor:
        s, step = structure, _edges_at_once(structure.rows)
        out, kept = a.new_empty(s.n_edges), None
        if any(ctx.needs_input_grad) and s.n_edges * a.shape[1] <= MOST_KEPT:
            kept = a.new_empty(s.n_edges, a.shape[1])
        for start in range(0, s.n_edges, step):
            block = slice(start, start + step)
            hidden = _sums_at(a, b, s.rows[block], s.cols[block]).relu_()
            torch.mv(hidden, w, out=out[block])
            if kept is not None:
                torch.sign(hidden, out=kept[block])
        ctx.structure = structure
        ctx.save_for_backward(a, b, w, kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, w, active = ctx.saved_tensors
        s, turned = ctx.structure, ctx.structure.transposed
        if active is None:
            by_row = _sums_of_active(s.crow, s.rows, s.cols, grad, a, b)
            by_col = _sums_of_active(s.t_crow, s.cols[turned], s.rows[turned], grad[turned], b, a)
        else:
            every = torch.arange(s.n_edges, device=grad.device)
            by_row = _weighted_sums(s.crow, every, grad, active)
            by_col = _weighted_sums(s.t_crow, turned, grad[turned], active)
        # where a hidden number is active it is a + b: sum_e g_e h_e falls apart into the nodes' sums
        grad_w = (a * by_row).sum(dim=0) + (b * by_col).sum(dim=0)
        return by_row.mul_(w), by_col.mul_(w), grad_w, None


def _edges_at_once(edges: Tensor) -> int:
    return EDGES_A_BLOCK * torch.get_num_threads() if edges.device.type == "cpu" else max(1, edges.numel())


def _sums_at(a: Tensor, b: Tensor, ends: Tensor, others: Tensor) -> Tensor:
    """Return a + b of every edge, what the hidden layer's ReLU takes."""
    return a.index_select(0, ends).add_(b.index_select(0, others))


def _weighted_sums(crow: Tensor, edges: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
    """Return sum_e weights_e rows_e over every node's ``edges``, which ``crow`` points into."""
    return F.embedding_bag(
        edges.to(crow.dtype), rows, crow, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def _sums_of_active(crow: Tensor, ends: Tensor, others: Tensor, grad: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return sum_e grad_e [h_e > 0] of every end node, ``[n_nodes, d]``.

    The edges stand in the order of ``ends``, which ``crow`` points into.
    """
    n_nodes, n_edges, step = crow.numel() - 1, ends.numel(), _edges_at_once(ends)
    bounds, pointers = [0, n_nodes], {0: 0, n_nodes: n_edges}
    if n_edges > step:  # whole nodes a block, about ``step`` edges each
        marks = torch.arange(0, n_edges, step, device=crow.device, dtype=crow.dtype)
        bounds = sorted({0, *torch.searchsorted(crow, marks).tolist(), n_nodes})
        pointers = dict(zip(bounds, crow[bounds].tolist(), strict=True))
    sums = torch.zeros_like(a)
    for first, last in itertools.pairwise(bounds):
        block = slice(pointers[first], pointers[last])
        if block.start == block.stop:
            continue
        active = _sums_at(a, b, ends[block], others[block]).gt_(0)
        at = torch.arange(active.shape[0], device=crow.device, dtype=crow.dtype)
        offsets = crow[first : last + 1] - block.start
        sums[first:last] = _weighted_sums(offsets, at, grad[block], active)
    return sums
