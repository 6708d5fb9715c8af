"""GIB, the graph-level bottleneck."""

from __future__ import annotations

from torch import Tensor, nn

from recbole_ib.bottleneck.gate import ConcreteEdgeGate
from recbole_ib.bottleneck.hsic import rbf_hsic
from recbole_ib.bottleneck.kernels import check_sigma2
from recbole_ib.graph.propagation import EdgeGraph


class GraphBottleneck(nn.Module):
    """Graph-level bottleneck: item graph S' = S * rho and L_GIB = HSIC(Y', Y) (IBMRec Eq. 23-28).

    Args:
        node_dim: the width of the node inputs [z_i, q_i].
        sigma2: sigma^2 of the RBF kernel.
        hidden_dim, temperature, bias, start: of the gate, see :class:`ConcreteEdgeGate`.

    Example:
        >>> import torch
        >>> gib = GraphBottleneck(node_dim=2, sigma2=1.0, hidden_dim=4, temperature=0.2, bias=0.0)
        >>> outputs = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        >>> round(gib(outputs, outputs).item(), 4)  # (1 - exp(-2))^2
        0.7476
    """

    def __init__(
        self,
        node_dim: int,
        sigma2: float,
        hidden_dim: int,
        temperature: float,
        bias: float,
        start: float = 0.5,
    ):
        super().__init__()
        self.sigma2 = check_sigma2(sigma2)
        self.gate = ConcreteEdgeGate(node_dim, hidden_dim, temperature, bias, start)

    def refine(self, graph: EdgeGraph, nodes: Tensor) -> EdgeGraph:
        """Return S' from S and the node inputs ``[n_items, node_dim]``."""
        return graph.masked(self.gate(nodes, graph.structure))

    def forward(self, refined: Tensor, original: Tensor) -> Tensor:
        """Return L_GIB of DISTINCT items.

        Args:
            refined: Y', ``[n, d]``, with gradient.
            original: Y, ``[n, d]``, with gradient.

        Returns:
            A scalar; 0 for n < 2.
        """
        if refined.shape[0] < 2:
            return refined.sum() * 0.0
        return rbf_hsic(refined, original, sigma2=self.sigma2)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows: sigma^2."""
        return f"sigma2={self.sigma2}"
