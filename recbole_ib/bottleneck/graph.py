"""GIB, the graph-level bottleneck."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_ib.bottleneck.gate import ConcreteEdgeGate
from recbole_ib.bottleneck.hsic import BIASED, least_rows, rbf_hsic
from recbole_ib.bottleneck.kernels import check_sigma2
from recbole_ib.graph.propagation import EdgeGraph, EdgeStructure

#: a keep-probability stays this far from 0 and 1 where its logarithm is taken
TINY = 1e-6
#: a row's mean gate, below which ``rows: kept`` scales it no further
LEAST_OPEN = 1e-3

#: concrete: IBMRec's, with a gradient; published: that of the authors' earlier release, without
GATES = ("concrete", "published")
PUBLISHED = GATES[1]
#: free: every edge its gate; kept: the gated edges of a row share the weight that they had together
GATE_ROWS = ("free", "kept")
#: what the published gate adds to every edge
PUBLISHED_BIAS = 0.5


class GatedGraph(EdgeGraph):
    """S' = S * rho with the keep-probabilities that rho was drawn from.

    Args:
        structure: the edges of S.
        weights: of S'.
        logits: of the keep-probabilities, ``[n_edges]``, with gradient.
        rho: the gates before a row's weight is shared out, ``[n_edges]``, 1 where an edge is not gated.
        gated: which edges are gated, bool ``[n_edges]``; ``None``: all.
    """

    def __init__(
        self, structure: EdgeStructure, weights: Tensor, logits: Tensor, rho: Tensor, gated: Tensor | None
    ):
        super().__init__(structure, weights)
        self._logits, self._rho, self._gated = logits, rho, gated

    @property
    def probabilities(self) -> Tensor:
        """Sigmoid of the gated edges' logits, ``[n_gated]``, with gradient."""
        return torch.sigmoid(self._of_gated(self._logits))

    @property
    def gates(self) -> Tensor:
        """The gates of the edges that have one, ``[n_gated]``."""
        return self._of_gated(self._rho)

    def without_loops(self) -> EdgeGraph:
        """Return the edges between different nodes; those of a node to itself weigh 0."""
        s = self.structure
        return EdgeGraph(s, self.weights * (s.rows != s.cols).to(self.weights.dtype))

    def _of_gated(self, edges: Tensor) -> Tensor:
        return edges if self._gated is None else edges[self._gated]


def bernoulli_kl(probabilities: Tensor, prior: float) -> Tensor:
    """Return mean_e KL(Bern(p_e) || Bern(r)), the rate of a graph whose edges are drawn.

    p log(p / r) + (1 - p) log((1 - p) / (1 - r)), as in graph-IB explanation (Miao et al., ICML 2022, Eq. 9).

    Args:
        probabilities: p, ``[n_edges]``.
        prior: r in (0, 1).

    Returns:
        A scalar >= 0, in nats an edge; 0 without any edge.

    Raises:
        ValueError: r lies outside (0, 1).

    Example:
        >>> bernoulli_kl(torch.tensor([0.5, 0.5]), prior=0.5)
        tensor(0.)
    """
    if not 0.0 < prior < 1.0:
        raise ValueError(f"the prior of a gate must lie in (0, 1), got {prior}")
    if not probabilities.numel():
        return probabilities.sum()
    p = probabilities.clamp(TINY, 1.0 - TINY)
    return (p * (p / prior).log() + (1.0 - p) * ((1.0 - p) / (1.0 - prior)).log()).mean()


class GraphBottleneck(nn.Module):
    """Graph-level bottleneck: item graph S' = S * rho and L_GIB = HSIC(Y', Y) (IBMRec Eq. 23-28).

    Args:
        node_dim: the width of the node inputs [z_i, q_i].
        sigma2: sigma^2 of the RBF kernel.
        hidden_dim, temperature, bias, start: of the gate, see :class:`ConcreteEdgeGate`.
        kind: one of :data:`GATES`. ``published``: rho = sigmoid((logit + noise) / t) + .5, neither clipped
            nor trained, as in the release of the authors' paper on social recommendation (GBSR, KDD 2024); a
            ranking takes it without noise.
        self_loops: whether an item's edge to itself is gated too.
        rows: one of :data:`GATE_ROWS`. ``kept``: the gated edges of every row are scaled to the sum of
            absolute weights that they had: a gate moves weight between neighbors and closes none for all.
        estimator: of HSIC, one of :data:`recbole_ib.bottleneck.hsic.HSIC_ESTIMATORS`.

    Raises:
        ValueError: an unknown kind or rows.

    Example:
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
        *,
        kind: str = "concrete",
        self_loops: bool = True,
        rows: str = "free",
        estimator: str = BIASED,
    ):
        super().__init__()
        for value, allowed in ((kind, GATES), (rows, GATE_ROWS)):
            if value not in allowed:
                raise ValueError(f"a gate knows {', '.join(allowed)}, got {value!r}")
        self.sigma2 = check_sigma2(sigma2)
        self.kind, self.self_loops, self.rows = kind, self_loops, rows
        self.estimator, self.least_rows = estimator, least_rows(estimator)
        self.gate = ConcreteEdgeGate(node_dim, hidden_dim, temperature, bias, start)

    def refine(self, graph: EdgeGraph, nodes: Tensor) -> GatedGraph:
        """Return S' from S and the node inputs ``[n_items, node_dim]``."""
        structure = graph.structure
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.kind != PUBLISHED):
            logits = self.gate.logits(nodes, structure)
            rho = self._gates(logits)
        gated = None if self.self_loops else structure.rows != structure.cols
        if gated is not None:
            rho = torch.where(gated, rho, torch.ones_like(rho))
        return GatedGraph(structure, self._shared_out(graph, rho, gated), logits, rho, gated)

    def _gates(self, logits: Tensor) -> Tensor:
        if self.kind == PUBLISHED:
            return PUBLISHED_BIAS + torch.sigmoid(self.gate.drawn(logits) / self.gate.temperature)
        return self.gate.of_logits(logits)

    def _shared_out(self, graph: EdgeGraph, gates: Tensor, gated: Tensor | None) -> Tensor:
        """Return the weights of S * rho, of the gated edges (``None``: all) as ``rows`` has them."""
        weights = graph.weights * gates
        if self.rows == "free":
            return weights
        s = graph.structure
        share = torch.ones_like(gates) if gated is None else gated.to(gates.dtype)
        size = graph.weights.abs() * share
        before, after = s.row_sums(size), s.row_sums(size * gates)
        # a row whose gates are all but closed stays so: its factor has no bound, and no finite gradient
        factor = before / torch.maximum(after, LEAST_OPEN * before).clamp_min(torch.finfo(size.dtype).tiny)
        return weights * torch.where(share > 0, factor.index_select(0, s.rows), torch.ones_like(gates))

    def forward(self, refined: Tensor, original: Tensor) -> Tensor:
        """Return L_GIB of DISTINCT items.

        Args:
            refined: Y', ``[n, d]``, with gradient.
            original: Y, ``[n, d]``, with gradient.

        Returns:
            A scalar; 0 for fewer rows than the estimate needs (2, or 4).
        """
        if refined.shape[0] < self.least_rows:
            return refined.sum() * 0.0
        return rbf_hsic(refined, original, sigma2=self.sigma2, estimator=self.estimator)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows: sigma^2, and how edges are gated."""
        return (
            f"sigma2={self.sigma2}, kind={self.kind}, self_loops={self.self_loops}, rows={self.rows}, "
            f"estimator={self.estimator}"
        )
