"""GIB, the graph-level bottleneck."""

from __future__ import annotations

from torch import Tensor, nn

from recbole_ib.bottleneck.gate import ConcreteEdgeGate
from recbole_ib.bottleneck.hsic import rbf_hsic
from recbole_ib.bottleneck.kernels import check_sigma2
from recbole_ib.graph.propagation import EdgeGraph


class GraphBottleneck(nn.Module):
    """Preference-guided item graph S' = S * rho and L_GIB = HSIC(Y', Y) (IBMRec Eq. 23-28).

    Args:
        node_dim: the width of the node inputs [z_i, q_i].
        sigma2: sigma^2 of the RBF kernel.
        hidden_dim, temperature, bias, start: of the gate, see :class:`ConcreteEdgeGate`.
    """

    def __init__(self, node_dim: int, sigma2: float, hidden_dim: int, temperature: float, bias: float, start: float = 0.5):
        super().__init__()
        self.sigma2 = check_sigma2(sigma2)
        self.gate = ConcreteEdgeGate(node_dim, hidden_dim, temperature, bias, start)

    def refine(self, graph: EdgeGraph, nodes: Tensor) -> EdgeGraph:
        """S' from S and the node inputs ``[n_items, node_dim]``."""
        return graph.masked(self.gate(nodes, graph.structure))

    def forward(self, refined: Tensor, original: Tensor) -> Tensor:
        """L_GIB of DISTINCT items: Y' and Y, both ``[n, d]``, both with gradient. A scalar; 0 for n < 2."""
        if refined.shape[0] < 2:
            return refined.sum() * 0.0
        return rbf_hsic(refined, original, sigma2=self.sigma2)

    def extra_repr(self) -> str:
        return f"sigma2={self.sigma2}"
