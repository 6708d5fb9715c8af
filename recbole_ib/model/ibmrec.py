"""IBMRec: its two bottlenecks on any backbone, the published combinations, and the ablations."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.bottleneck import ConstantKernel, FeatureBottleneck, GraphBottleneck, conditional_contrast, rbf_kernel
from recbole_ib.errors import ConfigurationError
from recbole_ib.graph import EdgeGraph
from recbole_ib.model.backbones.lattice import LATTICE
from recbole_ib.model.backbones.vbpr import VBPR
from recbole_ib.model.backbones.vlattice import VLATTICE
from recbole_ib.model.backbones.vlightgcn import VLightGCN
from recbole_ib.model.base import MultimodalRecommender, backbone_of
from recbole_ib.model.graphs import any_feature
from recbole_ib.model.layers.encoder import LinearEncoder, batch_items
from recbole_ib.model.types import BatchPass, NamedLosses, Phase
from recbole_ib.utils.validate import positive, weight

FIB, GIB = "fib", "gib"
#: an edge whose gate lies below the first counts as closed, above the second as open
CLOSED, OPEN = 0.1, 0.9


class InformationBottleneck:
    """Algorithm 1 of IBMRec on any backbone that gives item latents (for FIB) or item graphs (for GIB).

    "Less is More: Information Bottleneck Denoised Multimedia Recommendation", arXiv 2501.12175. In every mini-batch:

        L_1 = L_backbone + alpha HSIC(Z, M) + beta HSIC(Y', Y)                   updates everything       (Eq. 30)
        L_2 = -mean log exp(cos(c_a, z_i)/tau) / sum_j exp(cos(c_a, z_j)/tau)    updates [C, Z] alone     (Eq. 31)

    L_backbone is BPR + lambda |Theta_1|^2 on the paper's backbones. Y' is the output on the refined graph S' = S * rho, which also
    ranks; a backbone with a graph a modality has a gate for each. L_2 is the maximizing half of FIB (section 4.2.1): a model without
    FIB has no L_2, nor has one whose users have no content preferences c_a. "The batch's items" are its distinct positive items.

    Yaml: ``fib_weight`` alpha, ``gib_weight`` beta, ``sigma2`` (FIB) and ``gib_sigma2``, ``kernel_memory`` (GiB for kernels that are
    kept), ``contrastive_temperature`` tau, ``contrastive_rate`` (the learning rate of L_2, which has an optimizer of its own, as a
    multiple of ``learning_rate``), ``gate_hidden_size``, ``gate_temperature``, ``gate_bias``, ``gate_start``. A weight or
    rate of 0 leaves that loss out, and its computation; the gate of GIB stays.

    Raises:
        ConfigurationError: the backbone has no latents (for FIB) or no item graph (for GIB).
    """

    bottlenecks: tuple[str, ...] = (FIB, GIB)

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        if FIB in self.bottlenecks:
            self._add_fib(config, dataset)
        if GIB in self.bottlenecks:
            self._add_gib(config, dataset)

    def _add_fib(self, config, dataset) -> None:
        need_latents(self, config, FIB)
        self.fib_weight = weight(config, "fib_weight")
        self.fib = FeatureBottleneck(float(config["sigma2"]))
        masks = self.latent_masks(dataset)
        for name, mask in masks.items():
            self.register_buffer(f"feature_mask_{name}", mask, persistent=False)
        # tuned features change in every step, and their kernels with them
        share = weight(config, "kernel_memory") * 2**30 / len(masks)
        widths = {} if self.projections.tuned else {n: m.shape[1] for n, m in self.latent_features(torch.zeros(1).long()).items()}
        kept = [name for name, width in widths.items() if ConstantKernel.worth(self.n_items, width, share)]
        self._kernels = {name: ConstantKernel(self.fib.sigma2) for name in kept}
        self.register_buffer("has_content", any_feature(dataset), persistent=False)
        self.temperature, rate = positive(config, "contrastive_temperature"), weight(config, "contrastive_rate")
        if type(self).user_content is MultimodalRecommender.user_content:
            self.logger.info(
                f"{config['model']}: the users have no preferences in the space of the item latents, so FIB is HSIC(Z, M) alone, "
                "without L_2"
            )
        elif rate:
            self.training_phases = (
                Phase("L_1", "calculate_loss", "parameters"),
                Phase("L_2", "contrastive_loss", "content_parameters", rate),
            )

    def _add_gib(self, config, dataset) -> None:
        if self.item_graph_kind is None:
            raise ConfigurationError(
                f"gib refines an item graph, and {backbone_of(type(self)).__name__} has none (item_graph_kind is None); LATTICE, "
                "VLATTICE, MICRO, FREEDOM, MGCN and SOIL have one"
            )
        self.gib_weight = weight(config, "gib_weight")
        self.gate_projections = None
        if getattr(self, "projections", None) is None:
            # content enters such a backbone through S alone; the gate needs z_i beside q_i (Eq. 24)
            self.gate_projections = LinearEncoder(dataset.modalities, self.embedding_size, normalize=True)
        # the gate reads z_i of every item, also where the backbone's own ranking does not
        self.latents_in_score = True
        few = torch.zeros(1, dtype=torch.long)
        latents = self.item_latents(few) if self.gate_projections is None else self.gate_projections(few)
        widths = {m: z.shape[1] for m, z in latents.items()}
        gate = {
            "sigma2": float(config["gib_sigma2"]),
            "hidden_dim": int(config["gate_hidden_size"]),
            "temperature": positive(config, "gate_temperature"),
            "bias": float(config["gate_bias"]),
            "start": float(config["gate_start"]),
        }
        if self.item_graph_kind == "modality":
            self.gib = nn.ModuleDict({m: GraphBottleneck(self.embedding_size + w, **gate) for m, w in widths.items()})
        else:
            self.gib = GraphBottleneck(self.embedding_size + sum(widths.values()), **gate)

        self._gates_batch_alone = self._reads_batch_alone(config)

    @classmethod
    def _reads_batch_alone(cls, config) -> bool:
        """Whether the losses are known to read one row of the item graph for each of the batch's items, and no other."""
        backbone = backbone_of(cls)
        # a subclass that changes any of these may read any row
        theirs = ("ranking_losses", "penalty", "encode", "attach", "join", "batch_pass", "calculate_loss", "item_graph")
        known = cls.pass_losses is InformationBottleneck.pass_losses
        known = known and all(getattr(cls, method) is getattr(backbone, method) for method in theirs)
        one_layer = cls.item_graph_kind == "shared" and config["n_item_layers"] == 1
        return known and one_layer and vars(backbone).get("losses_read_batch_items", False)

    def latent_rows(self, interaction) -> Tensor | None:
        return None if GIB in self.bottlenecks else super().latent_rows(interaction)

    def _gate_latents(self, latents: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if self.gate_projections is not None:
            return self.gate_projections()
        return latents if self.latents_train_every_step else {m: z.detach() for m, z in latents.items()}

    def batch_graph(self, graph, interaction):
        if GIB not in self.bottlenecks or not self._gates_batch_alone:
            return graph
        return graph.of_rows(batch_items(interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]))

    def ranking_graph(self, graph: EdgeGraph | Mapping[str, EdgeGraph], latents: Mapping[str, Tensor]):
        """S' = S * rho with rho from [z_i, q_i] and [z_j, q_j] (Eq. 23-24)."""
        if GIB not in self.bottlenecks:
            return graph
        z, ids = self._gate_latents(latents), self.item_embedding.weight
        if self.item_graph_kind == "modality":
            return {m: self.gib[m].refine(g, torch.cat([z[m], ids], dim=1)) for m, g in graph.items()}
        return self.gib.refine(graph, torch.cat([*z.values(), ids], dim=1))

    def pass_losses(self, done: BatchPass) -> dict[str, Tensor]:
        """L_1, by terms: the backbone's, and the weighted fib and gib (Algorithm 1, lines 4-9)."""
        losses = super().pass_losses(done)
        items = torch.unique(done.interaction[self.ITEM_ID])
        if FIB in self.bottlenecks and self.fib_weight:
            losses["fib"] = self.fib_weight * self.fib_loss(done.latents, items, done.latents_at(items))
        if GIB in self.bottlenecks and self.gib_weight:
            original = self.outputs(done.encoded, done.graph, done.output_rows).item
            here = done.at(items)
            loss = next(iter(self.gib.values())) if self.item_graph_kind == "modality" else self.gib
            losses["gib"] = self.gib_weight * loss(F.embedding(here, done.joined.item), F.embedding(here, original))
        return losses

    def fib_loss(self, latents: Mapping[str, Tensor], items: Tensor, at: Tensor) -> Tensor:
        """L_FIB of the distinct ``items`` (at the rows ``at`` of the latents), each modality on the items that have it."""
        own = {name: getattr(self, f"feature_mask_{name}")[items] for name in latents}
        z = {name: latents[name][at[known]] for name, known in own.items()}
        if not all(kernel.known for kernel in self._kernels.values()):
            for name, table in self.latent_features().items():
                if name in self._kernels:
                    self._kernels[name].compute(table)
        kernels = {name: kernel.of(items[own[name]]) for name, kernel in self._kernels.items()}
        if len(kernels) < len(z):
            features = self.latent_features(items)
            with torch.no_grad():
                for name in z.keys() - kernels.keys():
                    kernels[name] = rbf_kernel(features[name][own[name]], self.fib.sigma2)
        return self.fib.of_kernels(z, kernels)

    def contrastive_loss(self, interaction) -> NamedLosses:
        """L_2 (Algorithm 1, lines 11-12), on the pairs whose item has content."""
        known = self.has_content[interaction[self.ITEM_ID]]
        items, positives = torch.unique(interaction[self.ITEM_ID][known], return_inverse=True)
        content = torch.cat(list(self.item_latents(items).values()), dim=1)
        users = self.user_content(interaction[self.USER_ID][known])
        return NamedLosses({"contrastive": conditional_contrast(users, content, positives, self.temperature)})

    def bottleneck_state(self, items: Tensor) -> dict[str, Tensor]:
        """Of the gates: their mean, entropy in nats, and the shares of edges that are nearly closed and nearly open."""
        state = super().bottleneck_state(items)
        if GIB not in self.bottlenecks:
            return state
        latents = self.item_latents()
        graph = self.item_graph(latents)
        refined = self.ranking_graph(graph, latents)
        pairs = {m: (graph[m], refined[m]) for m in graph} if self.item_graph_kind == "modality" else {"": (graph, refined)}
        for name, (before, after) in pairs.items():
            edges = before.weights != 0
            rho = (after.weights[edges] / before.weights[edges]).clamp(1e-7, 1 - 1e-7)
            last = f"/{name}" if name else ""
            state[f"gate/mean{last}"] = rho.mean()
            state[f"gate/closed{last}"] = (rho < CLOSED).float().mean()
            state[f"gate/open{last}"] = (rho > OPEN).float().mean()
            state[f"gate/entropy{last}"] = -(rho * rho.log() + (1 - rho) * (1 - rho).log()).mean()
        return state


def need_latents(model: MultimodalRecommender, config, bottleneck: str) -> None:
    """Raise ConfigurationError for a backbone that does not project features."""
    name, projections = backbone_of(type(model)).__name__, getattr(model, "projections", None)
    if projections is None:
        remedy = "set item_graph: learned" if config["item_graph"] == "frozen" else "choose a backbone that projects features"
        raise ConfigurationError(
            f"{bottleneck} works on the item latents, and {name} has none with these settings: features enter it through its item "
            f"graph alone; {remedy}"
        )
    passed = [m for m in projections.modalities if m not in projections.linear]
    if passed:
        raise ConfigurationError(
            f"{bottleneck} works on projected features, and {name} takes {', '.join(passed)} as they are; set project_above: 0"
        )


class IBMRec(InformationBottleneck, VLATTICE):
    """IBMRec on VLATTICE, with both bottlenecks: the paper's model."""


class IBMRecWoFIB(InformationBottleneck, VLATTICE):
    """IBMRec without the feature-level bottleneck (and without L_2, its maximizing half); Table 4."""

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
