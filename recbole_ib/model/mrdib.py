"""MRdIB: stochastic latents with unique, redundant and synergistic terms, on any backbone that projects features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.bottleneck import REDUNDANCY_ESTIMATORS, LogVarianceHead, Redundancy, UniqueDecoders, gaussian_kl, reparameterize
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.backbones.dualgnn import DualGNN
from recbole_ib.model.backbones.freedom import FREEDOM
from recbole_ib.model.backbones.lattice import LATTICE
from recbole_ib.model.backbones.mgcn import MGCN
from recbole_ib.model.backbones.mmgcn import MMGCN
from recbole_ib.model.backbones.soil import SOIL
from recbole_ib.model.backbones.vbpr import VBPR
from recbole_ib.model.base import backbone_of
from recbole_ib.model.ibmrec import need_latents
from recbole_ib.model.layers.encoder import batch_items
from recbole_ib.model.losses import bpr
from recbole_ib.model.types import BatchPass, NamedLosses, Phase
from recbole_ib.utils.validate import choice, count, positive, weight

MRDIB = "mrdib"
#: the value of ``prior_scale`` that takes the backbone's own latents at the start for the unit
INITIAL = "initial"
#: no scale or noise starts below it: a projection may start at zero
SMALLEST_SCALE = 1e-6
#: the range of log sigma^2, and the one that it may start in, in units of the prior
LOG_VARIANCE, START = (-24.0, 6.0), (-22.0, 4.0)


class GaussianLatents(dict):
    """The latents that the backbone takes (latent name -> ``[n, d]``), with the draws that they are made of.

    Args:
        fused: what :meth:`recbole_ib.model.base.MultimodalRecommender.fuse_modalities` made of the draws.
        draws, means, log_variances: by modality, ``[n, d]``, in units of the prior's standard deviation.
    """

    def __init__(self, fused: Mapping[str, Tensor], draws, means, log_variances):
        super().__init__(fused)
        self.draws, self.means, self.log_variances = draws, means, log_variances


class Ready(NamedTuple):
    """The Gaussians of a batch's latent rows, from the critic's step for the model's."""

    interaction: Interaction
    rows: Tensor | None
    means: dict[str, Tensor]
    log_variances: dict[str, Tensor]


class DisentangledBottleneck:
    """MRdIB on any backbone that projects features (arXiv 2509.20225; equations by the reading note in reference [N]).

    Every modality's latent z_m = s (mu_m + sigma_m eps) is drawn in training, with s mu_m the backbone's own projection and
    log sigma_m^2 a linear head on the features; a ranking takes z_m = s mu_m, which costs what the backbone costs.

        L = L_backbone(z) + a_1 sum_m KL(N(mu_m, sigma_m^2) || N(0, I)) + a_2 sum_{m<n} I(z_m; z_n) + a_3 sum_m BPR(x_u, D_m(z_m))

    L_backbone on the drawn latents is the synergistic term. KL and I are of the batch's distinct positive items that have the feature;
    KL summed over latent dimensions. I is estimated by ``redundancy_estimator``: ``mine`` (a lower bound: its critic maximizes it in a
    step of its own before the model's, and the encoders minimize it where it is above 0), ``club`` (an upper bound, likewise with a
    step of its own) or ``hsic``. D_m is a decoder for each modality, scored by the users' output rows x_u.

    Yaml: ``kl_weight`` a_1, ``redundancy_weight`` a_2, ``unique_weight`` a_3, ``prior_scale`` s, ``initial_noise``,
    ``redundancy_estimator``, ``redundancy_sigma2``, ``critic_hidden_size``, ``critic_rate``, ``decoder_hidden_size``. A weight of 0
    leaves out its term with all its parts: without KL the latents are not stochastic, without redundancy there is no critic and no
    step of its own.

    Raises:
        ConfigurationError: the backbone has no latents, or the redundancy of one modality is asked for.
    """

    bottlenecks: tuple[str, ...] = (MRDIB,)

    def __init__(self, config, dataset):
        self._ready: Ready | None = None
        super().__init__(config, dataset)
        need_latents(self, config, MRDIB)
        self.kl_weight, self.redundancy_weight = weight(config, "kl_weight"), weight(config, "redundancy_weight")
        self.unique_weight = weight(config, "unique_weight")
        for name in self.modalities:
            self.register_buffer(f"own_feature_{name}", dataset.has_feature[name], persistent=False)
        with torch.no_grad():
            initial = self.modality_latents()
            self._check_parts(initial, super().item_latents())
        widths = {m: z.shape[1] for m, z in initial.items()}
        self._add_noise(config, initial)
        self.redundancy = self._build_redundancy(config, widths) if self.redundancy_weight else None
        if self.redundancy is not None and self.redundancy.has_critic:
            first, *rest = self.training_phases
            critic = Phase("critic", "critic_loss", "critic_parameters", positive(config, "critic_rate"))
            self.training_phases = (critic, first._replace(parameters="parameters_without_critic"), *rest)
        self.decoders = None
        if self.unique_weight:
            self.decoders = UniqueDecoders(widths, self._output_width(), count(config, "decoder_hidden_size", least=1))

    def _check_parts(self, parts: Mapping[str, Tensor], latents: Mapping[str, Tensor]) -> None:
        """A backbone whose parts do not make its latents would be trained on others than it ranks with."""
        fused = self.fuse_modalities(parts)
        if set(fused) != set(latents) or not all(torch.allclose(fused[k], z, rtol=1e-3, atol=1e-5) for k, z in latents.items()):
            raise ConfigurationError(
                f"mrdib draws the parts of the latents by modality, and {backbone_of(type(self)).__name__}.modality_latents does not make "
                "its item_latents; override modality_latents (and fuse_modalities) instead of item_latents"
            )

    def _own(self, modality: str) -> Tensor:
        """The items that have a feature of their own, bool ``[n_items]``."""
        return getattr(self, f"own_feature_{modality}")

    def scale(self, modality: str) -> Tensor:
        """s, the prior's standard deviation in units of the backbone's latents."""
        return getattr(self, f"prior_scale_{modality}")

    def _add_noise(self, config, initial: Mapping[str, Tensor]) -> None:
        """The prior's scale s of every modality, and the heads of log sigma^2."""
        self.variance = None
        # the root of the sum over the number, not of the mean: without any item that has the modality it is 0
        own = {m: z[self._own(m)] for m, z in initial.items()}
        spread = {m: float((z.square().sum() / max(1, z.numel())).sqrt()) for m, z in own.items()}
        if isinstance(config["prior_scale"], str) and config["prior_scale"] != INITIAL:
            raise ConfigurationError(f"prior_scale is {config['prior_scale']!r}; it takes a number above 0, or {INITIAL}")
        for m, value in spread.items():
            scale = max(value, SMALLEST_SCALE) if config["prior_scale"] == INITIAL else positive(config, "prior_scale")
            # in the state dict: weights that are loaded bring their units along
            self.register_buffer(f"prior_scale_{m}", torch.tensor(scale))
        if not self.kl_weight:
            return
        noise = positive(config, "initial_noise")
        self.variance = nn.ModuleDict()
        for m, x in self.modality_features().items():
            self.register_buffer(f"unit_scale_{m}", unit_scale(x), persistent=False)
            start = 2 * math.log(max(noise * spread[m], SMALLEST_SCALE) / self.scale(m))
            start = min(max(start, START[0]), START[1])
            self.variance[m] = LogVarianceHead(x.shape[1], initial[m].shape[1], LOG_VARIANCE, start)

    def _build_redundancy(self, config, widths: Mapping[str, int]) -> Redundancy:
        if len(widths) < 2:
            raise ConfigurationError(
                f"the redundancy of MRdIB is between modalities, and the data set {config['dataset']!r} has one "
                f"({', '.join(widths)}); set redundancy_weight: 0 to train without it"
            )
        estimator = choice(config, "redundancy_estimator", REDUNDANCY_ESTIMATORS)
        hidden = count(config, "critic_hidden_size", least=1)
        return Redundancy(widths, estimator, hidden, positive(config, "redundancy_sigma2"))

    def _output_width(self) -> int:
        """The width of the users' output rows."""
        training = self.training
        # in evaluation mode nothing random is drawn: a run without decoders starts from the same numbers
        self.eval()
        with torch.no_grad():
            user, _ = self.forward()
        self.train(training)
        return user.shape[1]

    # -- the latents ----------------------------------------------------------------------------------------------

    def item_latents(self, items: Tensor | None = None) -> Mapping[str, Tensor]:
        """The latents with the Gaussians that they are drawn from; in evaluation mode they are the means."""
        if self.variance is None and self.redundancy is None and self.decoders is None:
            return super().item_latents(items)
        means, log_variances = self._gaussians(items)
        draws = self._draw(means, log_variances)
        fused = self.fuse_modalities({m: z * self.scale(m) for m, z in draws.items()})
        return GaussianLatents(fused, draws, means, log_variances)

    def _gaussians(self, items: Tensor | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """mu and log sigma^2 by modality; those of the critic's step, where it has just computed them for this batch."""
        ready, self._ready = self._ready, None
        if ready is not None and ready.rows is items and self.training and torch.is_grad_enabled():
            return ready.means, ready.log_variances
        return {m: z / self.scale(m) for m, z in self.modality_latents(items).items()}, self.log_variances(items)

    def _draw(self, means: dict[str, Tensor], log_variances: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self.training or self.variance is None:
            return means
        return {m: reparameterize(means[m], log_variances[m]) for m in means}

    def train(self, mode: bool = True):
        self._ready = None
        return super().train(mode)

    def scoring_latents(self) -> Mapping[str, Tensor]:
        # a ranking costs what the backbone's costs
        if self.training:
            return super().scoring_latents()
        return super().item_latents() if self.latents_in_score else {}

    def log_variances(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """log sigma_m^2 by modality, ``[n, d]``; empty without KL."""
        if self.variance is None:
            return {}
        # unit rows: the head must not depend on the extractor's scale; constants: noise levels do not shape the features
        features = self.modality_features(items)
        return {m: head(features[m], self._unit_scale(m, features[m], items)) for m, head in self.variance.items()}

    def _unit_scale(self, modality: str, features: Tensor, items: Tensor | None) -> Tensor:
        """1 / ||x|| of every row, ``[n, 1]``; of features that are not trained it is known."""
        if self.projections.tuned:
            return unit_scale(features)
        scale = getattr(self, f"unit_scale_{modality}")
        return scale if items is None else F.embedding(items, scale)

    def latent_rows(self, interaction) -> Tensor | None:
        if self._ready is not None and self._ready.interaction is interaction:
            return self._ready.rows
        rows = super().latent_rows(interaction)
        if rows is None or self.decoders is None:
            return rows
        # the decoders rank negatives too, which not every backbone's loss reads
        return batch_items(rows, *self._ranked_items(interaction))

    def _ranked_items(self, interaction) -> tuple[Tensor, Tensor]:
        """The positive and negative items of a batch; a backbone without sampled negatives takes its neighbors' positives."""
        positives = interaction[self.ITEM_ID]
        drawn = self.NEG_ITEM_ID in interaction.columns
        return positives, interaction[self.NEG_ITEM_ID] if drawn else positives.roll(1)

    # -- the losses -----------------------------------------------------------------------------------------------

    def pass_losses(self, done: BatchPass) -> dict[str, Tensor]:
        """The backbone's terms, and the weighted ``kl``, ``redundancy`` and ``unique``."""
        losses = super().pass_losses(done)
        items = torch.unique(done.interaction[self.ITEM_ID])
        if self.variance is not None:
            losses["kl"] = self.kl_weight * self.kl(done.latents, items, done.latents_at(items))
        if self.redundancy is not None:
            losses["redundancy"] = self.redundancy_weight * self.redundancy(
                self._shared_rows(done.latents, items, done.latents_at)
            )
        if self.decoders is not None:
            losses["unique"] = self.unique_weight * self.unique_loss(done)
        return losses

    def kl(self, latents: GaussianLatents, items: Tensor, at: Tensor) -> Tensor:
        """sum_m mean_i KL(q(z_m|x_i) || N(0, I)) of the distinct ``items`` (at the rows ``at`` of the latents) that have m."""
        total = torch.zeros((), device=items.device)
        for m, mean in latents.means.items():
            rows = at[self._own(m)[items]]
            if rows.numel():
                total = total + gaussian_kl(F.embedding(rows, mean), F.embedding(rows, latents.log_variances[m])).mean()
        return total

    def unique_loss(self, done: BatchPass) -> Tensor:
        """sum_m BPR(x_u, D_m(z_m)) of the batch's users, positive and negative items."""
        interaction = done.interaction
        users = F.embedding(interaction[self.USER_ID], done.joined.user)
        items, at = torch.unique(torch.cat(self._ranked_items(interaction)), return_inverse=True)
        rows = done.latents_at(items)
        decoded = self.decoders({m: F.embedding(rows, z) for m, z in done.latents.draws.items()})
        pairs = (F.embedding(at, o).split(len(interaction)) for o in decoded.values())
        return sum(bpr(users, positive, negative) for positive, negative in pairs)

    def critic_loss(self, interaction) -> NamedLosses:
        """What the critics of the redundancy minimize, on fresh draws of the batch's distinct positive items."""
        items, rows = torch.unique(interaction[self.ITEM_ID]), self.latent_rows(interaction)
        # with their gradients: the encoders do not move before the model's step on this batch, which draws anew from the same Gaussians
        means, log_variances = self._gaussians(rows)
        self._ready = Ready(interaction, rows, means, log_variances)
        at = items if rows is None else torch.searchsorted(rows, items)
        with torch.no_grad():
            here = [{m: F.embedding(at, z) for m, z in part.items()} for part in (means, log_variances)]
            latents = GaussianLatents({}, self._draw(*here), *here)
        shared = self._shared_rows(latents, items, lambda chosen: torch.searchsorted(items, chosen))
        return NamedLosses({"critic": self.redundancy.critic_loss(shared)})

    def _shared_rows(self, latents: GaussianLatents, items: Tensor, where) -> dict[str, Tensor]:
        """The draws of those of the distinct ``items`` that have every modality; ``where``: items -> rows of the latents."""
        known = torch.stack([self._own(m)[items] for m in latents.draws]).all(dim=0)
        rows = where(items[known])
        return {m: F.embedding(rows, z) for m, z in latents.draws.items()}

    def critic_parameters(self) -> list[nn.Parameter]:
        return list(self.redundancy.parameters())

    def parameters_without_critic(self) -> list[nn.Parameter]:
        critic = {id(p) for p in self.critic_parameters()}
        return [p for p in self.parameters() if id(p) not in critic]

    def bottleneck_state(self, items: Tensor) -> dict[str, Tensor]:
        """``kl/<modality>`` in nats an item, ``noise/<modality>`` sigma, and the estimator's ``redundancy/<a>|<b>``."""
        state, latents = super().bottleneck_state(items), self.item_latents(items)
        for m, log_variance in latents.log_variances.items():
            own = self._own(m)[items]
            state[f"kl/{m}"] = gaussian_kl(latents.means[m][own], log_variance[own]).mean()
            state[f"noise/{m}"] = (0.5 * log_variance[own]).exp().mean()
        if self.redundancy is not None:
            shared = self._shared_rows(latents, items, lambda chosen: torch.searchsorted(items, chosen))
            state.update({f"redundancy/{pair}": value for pair, value in self.redundancy.estimates(shared).items()})
        return state


def unit_scale(rows: Tensor) -> Tensor:
    """1 / ||x_i||, ``[n, d] -> [n, 1]``; a row of zeros stays one."""
    return rows.norm(dim=1, keepdim=True).clamp_min(SMALLEST_SCALE).reciprocal()


class MRdIBVBPR(DisentangledBottleneck, VBPR):
    """MRdIB on VBPR: one Gaussian a modality in place of the one projection of all features, fused by their sum."""


class MRdIBMMGCN(DisentangledBottleneck, MMGCN):
    """MRdIB on MMGCN."""


class MRdIBDualGNN(DisentangledBottleneck, DualGNN):
    """MRdIB on DualGNN."""


class MRdIBFREEDOM(DisentangledBottleneck, FREEDOM):
    """MRdIB on FREEDOM, whose latents act in the loss alone."""


class MRdIBMGCN(DisentangledBottleneck, MGCN):
    """MRdIB on MGCN."""


class MRdIBSOIL(DisentangledBottleneck, SOIL):
    """MRdIB on SOIL."""


class MRdIBLATTICE(DisentangledBottleneck, LATTICE):
    """MRdIB on LATTICE with its learned item graph."""
