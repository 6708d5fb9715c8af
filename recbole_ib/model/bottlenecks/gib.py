"""GIB, the graph-level bottleneck of IBMRec (arXiv 2501.12175)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.bottleneck import GraphBottleneck, conditional_contrast, gate_statistics
from recbole_ib.bottleneck.graph import GATE_ROWS, GATES, PUBLISHED, GatedGraph, bernoulli_kl
from recbole_ib.bottleneck.hsic import HSIC_ESTIMATORS
from recbole_ib.graph import EdgeGraph
from recbole_ib.model.bottleneck import ITEM_GRAPH, Bottleneck, register_bottleneck
from recbole_ib.model.bottlenecks.known_items import KnownItems
from recbole_ib.model.layers.encoder import LinearEncoder
from recbole_ib.model.losses import total
from recbole_ib.model.settings import Declaration, Search, Setting
from recbole_ib.model.shared_settings import DEVELOPMENT, HSIC_ITEMS
from recbole_ib.model.types import Backbone, Batch, BatchSubset, ItemGraph, some
from recbole_ib.utils.validate import Bool, Integer, Number, OneOf

FIGURE_6 = "figure 6 of the IBMRec paper, beta x sigma^2, arXiv 2501.12175"


@register_bottleneck
class GIB(Bottleneck):
    """Graph-level bottleneck: S' = S * rho, also to rank with, and beta HSIC(Y', Y) in L_1 (Eq. 23 to 28).

    Beside it, or in its place, a prior on the gates, KL(Bern(w_ij) || Bern(r)), and what the gates are for:

        L_N = -mean_(a,i) log [exp(s_ai) / sum_j exp(s_aj)],  s_aj = cos(x_a, n_j) / tau,
        n_j = sum_(k != j) S'_jk y0_k

    asks an item's neighbors, without its own row, for its users among the batch's items (those that a user
    likes are left out), as L_2 of FIB asks the content. x and y0 take no gradient of it, so it moves the
    gates: BPR trains a gate where the item's own embedding already explains the training pair, and learns to
    do without neighbors.

    A backbone with a graph per modality has a gate for each. With a weight of 0 the gates stay, without that
    loss. A published gate, which is not trained, has no L_N.
    """

    name = "gib"
    settings: ClassVar[tuple[Declaration, ...]] = (
        Setting(
            "gib_weight",
            0.5,
            "beta, of HSIC(Y', Y); 0 leaves the loss out and keeps the gate",
            Number(least=0),
            source="paper: Clothing 20, Sports .5, Baby .5",
            search=Search.loguniform(0.1, 20.0, source=FIGURE_6),
            symbol=r"$\beta$",
        ),
        Setting(
            "gib_sigma2",
            0.15,
            "sigma^2 of the GIB kernel",
            Number(above=0),
            source="paper: Clothing .25, Sports .25, Baby .15",
            search=Search.choice(0.10, 0.15, 0.20, 0.25, 0.30, source=FIGURE_6),
            symbol=r"$\sigma^2$ of GIB",
        ),
        Setting(
            "gib_estimator",
            "biased",
            "biased: the paper's; unbiased: 0 for independent rows; normalized: from 0 to 1 on any set",
            OneOf(*HSIC_ESTIMATORS),
            source="paper: biased",
        ),
        Setting(
            "gate",
            "concrete",
            "concrete: trained; published: sigmoid + .5, not clipped, not trained (GBSR's release)",
            OneOf(*GATES),
        ),
        Setting(
            "gate_self_loops",
            False,
            "gate the edge of an item to itself too; BPR then closes those to its neighbors",
            Bool(),
            source=f"{DEVELOPMENT}; paper: not said",
        ),
        Setting(
            "gate_rows",
            "free",
            "free: every edge its gate; kept: the gated edges of a row share the weight that they had",
            OneOf(*GATE_ROWS),
        ),
        Setting(
            "gate_prior_weight",
            0.0,
            "of KL(Bern(gate) || Bern(gate_prior)), nats an edge; 0 leaves it out",
            Number(least=0),
        ),
        Setting("gate_prior", 0.7, "the keep-probability that the prior prefers", Number(above=0, below=1)),
        Setting(
            "neighbors_weight",
            0.0,
            "of L_N, which trains the gates so that an item's neighbors tell its users; 0 leaves it out",
            Number(least=0),
            source="paper: none",
        ),
        Setting("neighbors_temperature", 0.2, "tau of L_N", Number(above=0)),
        Setting("gate_hidden_size", 64, "hidden width of the edge gate", Integer(1)),
        Setting("gate_temperature", 0.2, "of the concrete distribution", Number(above=0)),
        Setting(
            "gate_bias",
            0.5,
            "no edge falls below it; at 0.5 a gate starts open, and a good graph is kept",
            Number(least=0, below=1),
            source=f"{DEVELOPMENT}; paper: none",
            search=Search.choice(0.0, 0.5, source="0: where most edges are wrong, results/planted.md"),
        ),
        Setting(
            "gate_start",
            0.5,
            "the keep-probability that edges start around; .9 loses less where all edges are good "
            "(docs/bottlenecks.md)",
            Number(above=0, below=1),
        ),
        HSIC_ITEMS,
    )
    requires = frozenset({ITEM_GRAPH})
    reads_every_latent = True
    labels: ClassVar = {
        "gate": ("Gates of the item graph", "mean gate; share of edges"),
        "gate/entropy": ("Entropy of the gates", "nats an edge"),
    }

    def __init__(self, model: Backbone, config: Any, dataset: Any):
        super().__init__(model, config, dataset)
        self.weight, self.hsic_items = config["gib_weight"], int(config["hsic_items"])
        self.neighbors_weight = config["neighbors_weight"] if config["gate"] != PUBLISHED else 0.0
        self.neighbors_temperature = config["neighbors_temperature"]
        self.known_items = KnownItems(dataset) if self.neighbors_weight else None
        self.encoder: LinearEncoder | None = None
        if model.feature_encoder is None:
            # content enters such a backbone through S alone; the gate needs z_i beside q_i (Eq. 24)
            self.encoder = LinearEncoder(dataset.modalities, model.embedding_size, normalize=True)
        few = torch.zeros(1, dtype=torch.long)
        latents = model.latents(few) if self.encoder is None else self.encoder(few)
        widths = {m: z.shape[1] for m, z in latents.items()}
        widths = widths if model.item_graph_kind == "modality" else {"shared": sum(widths.values())}
        gate = {
            key.removeprefix("gate_"): config[key] for key in ("gate_temperature", "gate_bias", "gate_start")
        }
        gate |= {"sigma2": config["gib_sigma2"], "hidden_dim": config["gate_hidden_size"]}
        gate |= {"kind": config["gate"], "rows": config["gate_rows"], "estimator": config["gib_estimator"]}
        gate["self_loops"] = config["gate_self_loops"]
        self.prior_weight, self.prior = config["gate_prior_weight"], config["gate_prior"]
        gates = {m: GraphBottleneck(model.embedding_size + width, **gate) for m, width in widths.items()}
        self.gates = cast("Mapping[str, GraphBottleneck]", nn.ModuleDict(gates))

    def subset(self, model: Backbone, subset: BatchSubset, interaction: Interaction) -> BatchSubset:
        """Return the backbone's rows, with all latents: an edge's gate reads both its ends."""
        return subset._replace(latents=None)

    def item_graph(self, model: Backbone, graph: ItemGraph, latents: Mapping[str, Tensor]) -> ItemGraph:
        """Return S' = S * rho with rho from [z_i, q_i] and [z_j, q_j] (Algorithm 1, line 4; Eq. 23-24)."""
        if self.encoder is not None:
            latents = self.encoder()
        elif model.latents_role == "graph":
            # trained by the first batch of an epoch alone
            latents = {m: z.detach() for m, z in latents.items()}
        ids = model.item_embedding.weight
        if isinstance(graph, Mapping):
            return {m: self.gates[m].refine(g, torch.cat([latents[m], ids], dim=1)) for m, g in graph.items()}
        return self.gates["shared"].refine(
            cast("EdgeGraph", graph), torch.cat([*latents.values(), ids], dim=1)
        )

    def losses(self, model: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Return ``gib`` of Y' and Y, the item outputs on S' and S (Algorithm 1, line 8).

        With their weights: ``prior`` and ``neighbors``.
        """
        losses: dict[str, Tensor] = {}
        if self.prior_weight:
            rates = [bernoulli_kl(graph.probabilities, self.prior) for graph in gated(batch.refined).values()]
            losses["prior"] = self.prior_weight * total(rates)
        if self.known_items is not None:
            losses["neighbors"] = self.neighbors_weight * self.neighbors_loss(batch, self.known_items)
        if not self.weight:
            return losses
        items, loss = some(batch.items, self.hsic_items), next(iter(self.gates.values()))
        # of Y no row is computed that the loss does not read
        graph, nodes = batch.graph, batch.subset.nodes
        if batch.subset.graph_items is not None:
            graph = BatchSubset(graph_items=items).graph_rows(graph)
        if nodes is not None:
            nodes = model.n_users + items
        original = model.apply_item_graph(batch.encoded, graph, nodes).item
        rows = batch.item_rows(items)
        losses["gib"] = self.weight * loss(F.embedding(rows, batch.outputs.item), F.embedding(rows, original))
        return losses

    def neighbors_loss(self, batch: Batch, known: KnownItems) -> Tensor:
        """Return L_N, summed over the graphs."""
        users, of_users = torch.unique(batch.users, return_inverse=True)
        items, positives = torch.unique(batch.positives, return_inverse=True)
        outputs, left_out = F.embedding(users, batch.outputs.user.detach()), known.among(users, items)
        rows, item0, tau = batch.item_rows(items), batch.encoded.item0.detach(), self.neighbors_temperature
        graphs = (graph.without_loops() for graph in gated(batch.refined).values())
        told = (F.embedding(rows, graph.propagate(item0)) for graph in graphs)
        return total(
            conditional_contrast(outputs, n, positives, tau, of_users=of_users, left_out=left_out)
            for n in told
        )

    def diagnostics(self, model: Backbone, items: Tensor) -> dict[str, Tensor]:
        """Return :func:`recbole_ib.bottleneck.gate_statistics` of the edges of every graph."""
        latents = model.training_latents()
        refined = gated(model.refine(model.item_graph(latents), latents))
        return {
            f"gate/{name}{suffix}": value
            for suffix, graph in refined.items()
            for name, value in gate_statistics(graph.gates).items()
        }


def gated(refined: ItemGraph) -> dict[str, GatedGraph]:
    """Return the gated graphs of S': that of all modalities under an empty name, or each under ``/name``."""
    graphs = {f"/{m}": g for m, g in refined.items()} if isinstance(refined, Mapping) else {"": refined}
    return {suffix: graph for suffix, graph in graphs.items() if isinstance(graph, GatedGraph)}
