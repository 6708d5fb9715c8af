"""The binary concrete gate on the edges of a graph."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recbole_ib.graph.propagation import EdgeStructure


class ConcreteEdgeGate(nn.Module):
    """A learned keep-probability for every edge: w_ij = MLP([h_i, h_j]), rho_ij ~ Bern(w_ij) (IBMRec Eq. 23-24).

    Training relaxes the Bernoulli draw to the binary concrete distribution (Maddison et al. 2017; Jang et al. 2017):
    rho = sigmoid((logit + log e - log(1 - e)) / t), e ~ U(0, 1), so the gradient reaches the MLP. Evaluation takes
    sigmoid(logit), without noise. A bias b is added to rho (and the sum clipped to 1), so that no edge falls below b.

    The first layer of the MLP acts on a concatenation, hence W [h_i, h_j] = W_1 h_i + W_2 h_j is computed per NODE and
    gathered per edge: the same function, without an edge x 2d matrix.

    Args:
        node_dim: d, the width of h.
        hidden_dim: the MLP's hidden width.
        temperature: t > 0.
        bias: b in [0, 1).
        start: the keep-probability sigmoid(logit) that edges start around, in (0, 1); the published text is silent on it.

    Raises:
        ValueError: a temperature, bias or start outside its range.
    """

    # e stays this far from 0 and 1, so that its logit is finite in float32
    NOISE_MARGIN = 1e-6

    def __init__(self, node_dim: int, hidden_dim: int = 64, temperature: float = 0.2, bias: float = 0.0, start: float = 0.5):
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
        for layer in (self.target, self.source, self.output):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.target.bias)
        nn.init.constant_(self.output.bias, math.log(self.start / (1.0 - self.start)))

    def logits(self, nodes: Tensor, structure: EdgeStructure) -> Tensor:
        """The MLP's value for every edge: h ``[n_nodes, d] -> [n_edges]``."""
        hidden = _EndpointSum.apply(self.target(nodes), self.source(nodes), structure)
        return self.output(hidden.relu_()).squeeze(1)

    def forward(self, nodes: Tensor, structure: EdgeStructure) -> Tensor:
        """rho ``[n_edges]`` in [bias, 1]: a relaxed draw in training mode, sigmoid(logit) in evaluation mode."""
        logits = self.logits(nodes, structure)
        if self.training:
            noise = torch.rand_like(logits).clamp_(self.NOISE_MARGIN, 1.0 - self.NOISE_MARGIN)
            logits = (logits + torch.logit(noise)) / self.temperature
        return (torch.sigmoid(logits) + self.bias).clamp(max=1.0)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, bias={self.bias}, start={self.start}"


class _EndpointSum(torch.autograd.Function):
    """out_e = a[row_e] + b[col_e], with the scatter of the backward done row by row instead of through index_add."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, structure: EdgeStructure) -> Tensor:
        ctx.structure = structure
        return structure.gather_ends(a.detach(), b.detach())

    @staticmethod
    def backward(ctx, grad: Tensor):
        return (*ctx.structure.scatter_ends(grad), None)
