"""InvRL: a mask on the features that keeps what predicts in every environment."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.layers.encoder import ModalityEncoder
from recbole_ib.model.layers.feature_scaling import refuse_columns
from recbole_ib.model.losses import total
from recbole_ib.model.settings import Declaration, Search, Setting
from recbole_ib.model.shared_settings import backbone_setting
from recbole_ib.model.types import ItemGraph
from recbole_ib.model.wrappers.base import BackboneWrapper
from recbole_ib.ops.linear import Linear, linear
from recbole_ib.utils.validate import Integer, Number

REDRAWN_STD = 0.01
NO_BIAS = 1e-6


class InvRL(BackboneWrapper):
    """InvRL (Du et al., ACM MM 2022), on any backbone.

    "Invariant Representation Learning for Multimedia Recommendation".

    F = [F_1 / |F_1|, .., F_M / |F_M|], ``[n_items, D]``; the backbone reads F * m, m in [0, 1]^D, wherever it
    reads features, item graphs included. :class:`recbole_ib.training.invrl_trainer.InvRLTrainer`
    learns m before the training proper, in ``invrl_rounds`` rounds of

    1. environments: one fresh backbone per environment e trains on e's interactions alone, loss +
       variant_weight mean|W * m|; every interaction moves to the environment that scores it highest; again,
       until at most 1 % move;
    2. mask: m = clamp(mu + .5 + mask_noise N(0, 1), 0, 1); over W and mu alone, with l_e the summed loss of a
       batch of e and g_e = dl_e/dW,

           mean_e l_e + invariance_weight | sum_e (g_e - mean g)^2 * (mu + .5) |^2 + mask_weight |mu|^2.

    The backbone then trains from scratch on F * clamp(mu + .5, 0, 1). W: the first linear layers of all
    modalities, side by side.

    Yaml: ``backbone`` and its keys; ``pretrain_epochs``, ``invrl_rounds``, ``n_environments``,
    ``environment_epochs``, ``environment_repeats``, ``variant_weight``, ``mask_epochs``,
    ``mask_learning_rate``, ``mask_noise``, ``invariance_weight`` (alpha), ``mask_weight`` (lambda); alpha and
    lambda grow by 5 % per round.
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        backbone_setting("release: UltraGCN; IBMRec's tables: LATTICE"),
        Setting("pretrain_epochs", 50, "of the backbone whose weights the mask is learned with", Integer()),
        Setting(
            "invrl_rounds",
            2,
            "rounds of environments and mask; the cheap preset",
            Integer(1),
            source="release: 5",
        ),
        Setting(
            "n_environments",
            10,
            "E, environments",
            Integer(1),
            source="release: 10",
            search=Search.choice(2, 5, 10, source="around the release's value"),
        ),
        Setting(
            "environment_epochs", 20, "of every environment's backbone", Integer(1), source="release: 20"
        ),
        Setting(
            "environment_repeats",
            3,
            "at most, until the environments stand; the cheap preset",
            Integer(1),
            source="release: 10",
        ),
        Setting(
            "variant_weight",
            0.01,
            "of mean|W * m|, which pushes the environments' backbones outside the mask",
            Number(least=0),
            source="release: 0.01",
        ),
        Setting("mask_epochs", 40, "epochs of the mask", Integer(1), source="release: 40"),
        Setting(
            "mask_learning_rate", 0.001, "of W and mu, by Adam", Number(above=0), source="release: 0.001"
        ),
        Setting("mask_noise", 0.01, "of the mask's gate", Number(least=0), source="release: 0.01"),
        Setting(
            "invariance_weight",
            1.0,
            "alpha, of the gradients' disagreement",
            Number(least=0),
            source="release: 1",
            search=Search.choice(
                0.1, 1.0, 10.0, source="around the release's value; none for Amazon is published"
            ),
        ),
        Setting(
            "mask_weight",
            0.1,
            "lambda, of |mu|^2",
            Number(least=0),
            source="release: 0.1",
            search=Search.choice(
                0.01, 0.1, 1.0, source="around the release's value; none for Amazon is published"
            ),
        ),
    )

    mask: Tensor
    mask_learned: Tensor

    trainer_class = "recbole_ib.training.invrl_trainer.InvRLTrainer"

    def __init__(self, config: Any, dataset: Any):
        for key in (
            "n_environments",
            "invrl_rounds",
            "environment_repeats",
            "environment_epochs",
            "mask_epochs",
        ):
            int(config[key])
        refuse_columns(config, "InvRL")
        super().__init__(config, dataset)
        self._config, self._dataset = config, dataset
        n_features = sum(table.shape[1] for table in dataset.modalities.values())
        self.register_buffer("mask", torch.ones(n_features))
        self.register_buffer("mask_learned", torch.tensor(False))
        if dataset.item_graphs:
            self.logger.warning(
                f"InvRL: the ready item graphs of {', '.join(dataset.item_graphs)} are not read; graphs are "
                "built from the masked features"
            )

    def build_backbone(self, config: Any, dataset: Any, mask: Tensor | None = None) -> MultimodalRecommender:
        """Return a backbone with fresh weights that reads F * m; without ``mask``, F."""
        features = {name: F.normalize(table.float(), dim=1) for name, table in dataset.modalities.items()}
        together = torch.cat(list(features.values()), dim=1)
        mask = torch.ones(together.shape[1]) if mask is None else mask.detach().cpu()
        backbone = super().build_backbone(config, masked_view(dataset, features, mask))
        mask_projections(cast("ModalityEncoder", backbone.encoder), together, mask)
        return backbone

    def fresh_backbone(self, mask: Tensor | None = None) -> MultimodalRecommender:
        """Return a backbone on F * m, apart from this model.

        Every one starts from the same weights, and no random number is used up.
        """
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(int(self._config["seed"]))
            return self.build_backbone(self._config, self._dataset, mask).to(self.mask.device)

    def rebuilt(self, backbone: MultimodalRecommender, mask: Tensor) -> MultimodalRecommender:
        """Return a backbone on another mask, with item graphs built anew and the parameters of ``backbone``.

        The parameters are the same objects.
        """
        fresh = self.fresh_backbone(mask)
        adopt_parameters(fresh, backbone)
        return fresh.train(backbone.training)

    def set_mask(self, mask: Tensor) -> None:
        """Read F * m from now on, with fresh weights.

        The parameters stay the same objects, so an optimizer of them stays valid.
        """
        fresh = self.fresh_backbone(mask)
        with torch.no_grad():
            for name, parameter in fresh.named_parameters():
                self.backbone.get_parameter(name).copy_(parameter)
        adopt_parameters(fresh, self.backbone)
        self.backbone = fresh.train(self.training)
        self.mask.copy_(mask)
        self.mask_learned.fill_(True)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Load weights; another mask than this model's is set first."""
        mask = state_dict.get("mask")
        if (
            mask is not None
            and mask.shape == self.mask.shape
            and not torch.equal(mask.to(self.mask.device), self.mask)
        ):
            # tables and item graphs follow from the mask and are not stored
            self.set_mask(mask.to(self.mask.device))
        return super().load_state_dict(state_dict, *args, **kwargs)


class MaskedLinear(Linear):
    """f (m * W) + b, which is (f * m) W + b: a backbone's layer, with its own parameters, on masked features.

    The mask acts on every pass, on tuned tables as well: training cannot bring back what it takes.
    """

    mask: Tensor

    def __init__(self, layer: nn.Linear, mask: Tensor):
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("mask", mask.clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return f (m * W) + b."""
        return linear(x, self.weight * self.mask, self.bias)


def mask_projections(encoder: ModalityEncoder, features: Tensor, mask: Tensor) -> None:
    """Give a backbone's encoder F for tables, and the mask for a part of its first layers."""
    widths = [encoder.first_layer(m).in_features for m in encoder.modalities]
    if sum(widths) != features.shape[1]:
        raise ConfigurationError(
            f"InvRL masks {features.shape[1]} features, the backbone's projections read {sum(widths)}; "
            "choose another backbone"
        )
    parts = zip(encoder.modalities, features.split(widths, dim=1), mask.split(widths), strict=True)
    for name, table, part in parts:
        with torch.no_grad():
            encoder.table(name).copy_(table)
        encoder.set_first_layer(name, MaskedLinear(encoder.first_layer(name), part))


def use_mask(encoder: ModalityEncoder, mask: Tensor) -> None:
    """Set another mask, ``[D]``, which may carry a gradient."""
    layers = [encoder.first_layer(m) for m in encoder.modalities]
    for layer, part in zip(layers, mask.split([layer.in_features for layer in layers]), strict=True):
        layer.mask = part


def first_weights(encoder: ModalityEncoder) -> list[Tensor]:
    """Return W, in parts: ``[d, D_m]`` per modality."""
    return [encoder.first_layer(m).weight for m in encoder.modalities]


def redraw_first_layers(encoder: ModalityEncoder) -> list[Tensor]:
    """Draw W from N(0, .01^2), without bias, as the mask's training starts.

    Returns W, alone with a gradient.
    """
    for layer in (encoder.first_layer(m) for m in encoder.modalities):
        nn.init.normal_(layer.weight, std=REDRAWN_STD)
        layer.requires_grad_(False)
        if layer.bias is not None:
            # not 0: an item without a feature would be a zero row, and the second derivative of its length is
            # not a number
            nn.init.constant_(layer.bias, NO_BIAS)
    return [w.requires_grad_(True) for w in first_weights(encoder)]


def masked_view(dataset: Any, features: Mapping[str, Tensor], mask: Tensor) -> Any:
    """Return the data set with F * m for features and no ready item graph.

    Everything else is shared with the original.
    """
    view = copy.copy(dataset)
    parts = mask.split([table.shape[1] for table in features.values()])
    view.modalities = {
        name: table * part for (name, table), part in zip(features.items(), parts, strict=True)
    }
    # no other run has this mask
    view.item_graphs, view.graph_cache = {}, None
    return view


def adopt_parameters(module: nn.Module, source: nn.Module) -> None:
    """Put the parameter objects of ``source`` in the place of those of a module of the same structure."""
    for name, _ in list(module.named_parameters(remove_duplicate=False)):
        path, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(path), leaf, source.get_parameter(name))


# -- the losses of the stages --------------------------------------------------------------------------------


def variant_penalty(backbone: MultimodalRecommender, mask: Tensor) -> Tensor:
    """Return mean|W * m|: it pushes a backbone onto the features that the mask leaves out (step 1)."""
    return (torch.cat(first_weights(cast("ModalityEncoder", backbone.encoder)), dim=1) * mask).abs().mean()


def gate(mu: Tensor, noise: float = 0.0) -> Tensor:
    """Return m = clamp(mu + .5 + noise N(0, 1), 0, 1), ``[D]``."""
    raw = mu + 0.5
    return (raw + noise * torch.randn_like(raw) if noise else raw).clamp(0, 1)


def invariance_penalty(gradients: Tensor, mu: Tensor) -> Tensor:
    """Return |sum_e (g_e - mean g)^2 * (mu + .5)|^2 with g_e ``[E, d, D]``, mu ``[D]``.

    Large where a feature's gradients disagree.
    """
    spread = (gradients - gradients.mean(dim=0)).square().sum(dim=0)
    return (spread * (mu + 0.5)).square().sum()


def mask_loss(
    losses: Sequence[Tensor], weights: Sequence[Tensor], mu: Tensor, alpha: float, lam: float
) -> Tensor:
    """Return mean_e l_e + alpha penalty(g) + lam |mu|^2; g_e = dl_e/dW is differentiated again."""
    gradients = []
    for loss in losses:
        # a weight that a loss does not read has no gradient
        parts = cast(
            "tuple[Tensor | None, ...]",
            torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True),
        )
        rows = [torch.zeros_like(w) if g is None else g for g, w in zip(parts, weights, strict=True)]
        gradients.append(torch.cat(rows, dim=1))
    return (
        torch.stack(list(losses)).mean()
        + alpha * invariance_penalty(torch.stack(gradients), mu)
        + lam * mu.square().sum()
    )


def environment_losses(backbone: MultimodalRecommender, batches: Sequence[Any]) -> list[Tensor]:
    """Return the summed loss of every batch, all on one item graph.

    A learned one is built once, with gradient, not once per batch.
    """
    with one_item_graph(backbone):
        return [len(batch) * total(backbone.calculate_loss(batch)) for batch in batches]


@contextmanager
def one_item_graph(backbone: MultimodalRecommender) -> Iterator[None]:
    """Let a backbone build its item graph once inside the block."""
    build, built = backbone.item_graph, list[ItemGraph]()

    def item_graph(latents: Mapping[str, Tensor]) -> ItemGraph:
        if not built:
            built.append(build(latents))
        return built[0]

    backbone.__dict__["item_graph"] = item_graph
    try:
        yield
    finally:
        del backbone.__dict__["item_graph"]


def fill_environments(labels: Tensor, n_environments: int) -> Tensor:
    """Give every environment without an interaction a random half of the largest one's.

    ``labels`` are ``[n_interactions]``, and so is what is returned.
    """
    labels = labels.clone()
    for e in range(n_environments):
        counts = torch.bincount(labels, minlength=n_environments)
        if counts[e] == 0:
            members = torch.nonzero(labels == counts.argmax()).flatten()
            labels[members[torch.randperm(members.numel())[: max(1, members.numel() // 2)]]] = e
    return labels
