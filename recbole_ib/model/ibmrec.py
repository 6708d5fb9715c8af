"""IBMRec on its four backbones, and its ablations."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recbole_ib.bottleneck import FeatureBottleneck, GraphBottleneck, conditional_contrast
from recbole_ib.graph import EdgeGraph
from recbole_ib.model.base import NamedLosses, Phase, any_feature
from recbole_ib.model.lattice import LATTICE
from recbole_ib.model.projections import FeatureProjections
from recbole_ib.model.settings import positive
from recbole_ib.model.vbpr import VBPR
from recbole_ib.model.vlattice import VLATTICE
from recbole_ib.model.vlightgcn import VLightGCN

FIB, GIB = "fib", "gib"


class InformationBottleneck:
    """Algorithm 1 of IBMRec on any backbone that gives item latents (for FIB) or an item graph (for GIB).

    "Less is More: Information Bottleneck Denoised Multimedia Recommendation", arXiv 2501.12175. In every mini-batch:

        L_1 = BPR + lambda |Theta_1|^2 + alpha HSIC(Z, M) + beta HSIC(Y', Y)     updates everything       (Eq. 30)
        L_2 = -mean log exp(cos(c_a, z_i)/tau) / sum_j exp(cos(c_a, z_j)/tau)    updates [C, Z] alone     (Eq. 31)

    Y' is the output on the refined graph S' = S * rho, which also ranks. L_2 is the maximising half of FIB (section 4.2.1):
    a model without FIB has no L_2. "The batch's items" are its distinct positive items.

    Yaml: ``fib_weight`` alpha, ``gib_weight`` beta, ``sigma2`` (FIB) and ``gib_sigma2``, ``contrastive_temperature`` tau,
    ``gate_hidden_size``, ``gate_temperature``, ``gate_bias``.
    """

    bottlenecks: tuple[str, ...] = (FIB, GIB)

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        if FIB in self.bottlenecks:
            self.fib_weight = float(config["fib_weight"])
            self.fib = FeatureBottleneck(float(config["sigma2"]))
            for name, mask in self.latent_masks(dataset).items():
                self.register_buffer(f"feature_mask_{name}", mask, persistent=False)
            self.register_buffer("has_content", any_feature(dataset), persistent=False)
            self.temperature = positive(config, "contrastive_temperature")
            self.training_phases = (
                Phase("L_1", "calculate_loss", "parameters"),
                Phase("L_2", "contrastive_loss", "content_parameters"),
            )
        if GIB in self.bottlenecks:
            self.gib_weight = float(config["gib_weight"])
            self.gate_projections = None
            if not self.item_latents():
                # content enters such a backbone through S alone; the gate needs z_i beside q_i (Eq. 24)
                self.gate_projections = FeatureProjections(dataset.modalities, self.embedding_size, normalise=True)
            self.gib = GraphBottleneck(
                node_dim=self.embedding_size + sum(z.shape[1] for z in self._gate_latents({}).values()),
                sigma2=float(config["gib_sigma2"]),
                hidden_dim=int(config["gate_hidden_size"]),
                temperature=positive(config, "gate_temperature"),
                bias=float(config["gate_bias"]),
            )

    def _gate_latents(self, latents: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if self.gate_projections is not None:
            return self.gate_projections()
        latents = latents or self.item_latents()
        return latents if self.latents_train_every_step else {m: z.detach() for m, z in latents.items()}

    def refined_graph(self, latents: Mapping[str, Tensor], graph: EdgeGraph) -> EdgeGraph:
        """S' = S * rho with rho from [z_i, q_i] and [z_j, q_j] (Eq. 23-24)."""
        nodes = torch.cat([*self._gate_latents(latents).values(), self.item_embedding.weight], dim=1)
        return self.gib.refine(graph, nodes)

    def forward(self, latents: Mapping[str, Tensor] | None = None, item_graph: EdgeGraph | None = None):
        latents = self.scoring_latents() if latents is None else latents
        graph = self.item_graph(latents) if item_graph is None else item_graph
        if GIB in self.bottlenecks:
            graph = self.refined_graph(latents, graph)
        return self.attach(self.encode(latents), graph)

    def calculate_loss(self, interaction) -> NamedLosses:
        """L_1, by terms: bpr, reg, and the weighted fib and gib (Algorithm 1, lines 4-9)."""
        rows = self.rows_needed(interaction)
        latent_rows = self.latent_rows(interaction)
        latents = self.item_latents(latent_rows)
        encoded = self.encode(latents, rows)
        items = torch.unique(interaction[self.ITEM_ID])
        here = items if rows is None else torch.searchsorted(rows, items)
        graph = self.item_graph(latents)
        if GIB in self.bottlenecks:
            user, item = self.attach(encoded, self.refined_graph(latents, graph))
        else:
            user, item = self.attach(encoded, graph)
        losses = self.ranking_losses(interaction, encoded, user, item, rows)
        if FIB in self.bottlenecks:
            at = items if latent_rows is None else torch.searchsorted(latent_rows, items)
            losses["fib"] = self.fib_weight * self.fib_loss(latents, items, at)
        if GIB in self.bottlenecks:
            _, original = self.attach(encoded, graph)
            losses["gib"] = self.gib_weight * self.gib(item[here], original[here])
        return NamedLosses(losses)

    def fib_loss(self, latents: Mapping[str, Tensor], items: Tensor, at: Tensor) -> Tensor:
        """L_FIB of the distinct ``items`` (at the rows ``at`` of the latents), each modality on the items that have it."""
        z, m = {}, {}
        for name, table in self.latent_features().items():
            known = getattr(self, f"feature_mask_{name}")[items]
            z[name], m[name] = latents[name][at[known]], table[items[known]]
        return self.fib(z, m)

    def contrastive_loss(self, interaction) -> NamedLosses:
        """L_2 (Algorithm 1, lines 11-12), on the pairs whose item has content."""
        known = self.has_content[interaction[self.ITEM_ID]]
        items, positives = torch.unique(interaction[self.ITEM_ID][known], return_inverse=True)
        content = torch.cat(list(self.item_latents(items).values()), dim=1)
        users = self.user_content(interaction[self.USER_ID][known])
        return NamedLosses({"contrastive": conditional_contrast(users, content, positives, self.temperature)})


class IBMRec(InformationBottleneck, VLATTICE):
    """IBMRec on VLATTICE, with both bottlenecks: the paper's model."""


class IBMRecWoFIB(InformationBottleneck, VLATTICE):
    """IBMRec without the feature-level bottleneck (and without L_2, its maximising half); Table 4."""

    bottlenecks = (GIB,)


class IBMRecWoGIB(InformationBottleneck, VLATTICE):
    """IBMRec without the graph-level bottleneck; Table 4."""

    bottlenecks = (FIB,)


class IBMRecVBPR(InformationBottleneck, VBPR):
    """FIB on VBPR; Table 3."""

    bottlenecks = (FIB,)


class IBMRecVLightGCN(InformationBottleneck, VLightGCN):
    """FIB on VLightGCN; Table 3."""

    bottlenecks = (FIB,)


class IBMRecLATTICE(InformationBottleneck, LATTICE):
    """GIB on LATTICE; Table 3."""

    bottlenecks = (GIB,)
