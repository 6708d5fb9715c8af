"""MRdIB: stochastic latents with unique, redundant and synergistic terms (arXiv 2509.20225)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple, cast

import torch
from recbole.data.interaction import Interaction
from torch import Tensor
from torch.nn import functional as F

from recbole_ib.bottleneck import (
    Redundancy,
    UniqueDecoders,
    conditional_contrast,
    gaussian_kl,
    priced_rate,
    residuals,
)
from recbole_ib.bottleneck.hsic import NORMALIZED
from recbole_ib.model.bottleneck import LATENTS, Bottleneck, batch_subset_of, register_bottleneck
from recbole_ib.model.bottlenecks.feature_hsic import MEDIAN, FeatureHSIC
from recbole_ib.model.bottlenecks.known_items import KnownItems
from recbole_ib.model.bottlenecks.mrdib_backbone import (
    check_parts,
    make_redundancy,
    output_width,
    ranked_items,
)
from recbole_ib.model.bottlenecks.mrdib_settings import LABELS, SETTINGS, TERMS, WHY_ALONE
from recbole_ib.model.layers.gaussian_latents import DrawnLatents, GaussianLatents, Posterior, config_noise
from recbole_ib.model.losses import bpr, total
from recbole_ib.model.settings import Declaration
from recbole_ib.model.types import Backbone, Batch, BatchSubset, NamedLosses, Phase, distinct, positions, some


class CachedPosterior(NamedTuple):
    """The posterior of a batch's latent rows, kept from the critic's step for the model's."""

    interaction: Interaction
    rows: Tensor | None
    posterior: Posterior


@register_bottleneck
class MRdIB(Bottleneck):
    """MRdIB on any backbone that projects features (equations by the reading note in reference [N]).

    Every modality's latent z_m = s (mu_m + sigma_m eps) is drawn in training, with s mu_m the backbone's own
    projection and log sigma_m^2 a linear head on the features; a ranking takes z_m = s mu_m, which costs what
    the backbone costs.

        L = L_backbone(z) + a_1 sum_m KL(N(mu_m, sigma_m^2) || N(0, I)) + a_2 sum_{m<n} I(z_m; z_n) + a_3
        sum_m BPR(x_u, D_m(z_m))

    L_backbone on the drawn latents is the synergistic term. KL and I are of the batch's distinct positive
    items that have the feature; KL summed over latent dimensions, or their mean. I is estimated by
    ``redundancy_estimator``: ``mine`` (a lower bound: its critic maximizes it in a step of its own before the
    model's, and the encoders minimize it where it is above 0), ``club`` (an upper bound, likewise with a step
    of its own) or ``hsic``. D_m is a decoder per modality, scored by the users' output rows x_u. A weight of
    0 leaves out its term with all its parts: without KL the latents are not stochastic, without redundancy
    there is no critic and no step of its own.

    Two of the terms have another form each, which lets them act on what they are for (results/planted.md).
    ``rate_estimator: hsic``: a_1 prices normalized HSIC(mu_m, x_m), the rate of the HSIC bottleneck (Ma et
    al., AAAI 2020), and nothing is drawn: what shares the features' geometry is priced, most of all their
    largest directions, where KL prices every direction alike.
    ``unique_likelihood: softmax``: -log p(y | z_m) is that of the user's item among the batch's, over
    cos(x_u, D_m(z_m)) / tau, as L_2 of IBMRec.

    Raises:
        ConfigurationError: the backbone has no latents by modality, or a redundancy would be of one modality.
    """

    name = "mrdib"
    settings: ClassVar[tuple[Declaration, ...]] = SETTINGS
    requires = frozenset({LATENTS})
    excludes: ClassVar = {"fib": WHY_ALONE, "gib": WHY_ALONE}
    terms: ClassVar = TERMS
    between_modalities = frozenset({"redundancy"})
    labels: ClassVar = LABELS

    kl_batches: Tensor

    def __init__(self, model: Backbone, config: Any, dataset: Any):
        super().__init__(model, config, dataset)
        self.kl_weight, self.redundancy_weight = config["kl_weight"], config["redundancy_weight"]
        self.unique_weight, self.critic_rate = config["unique_weight"], config["critic_rate"]
        self.kl_mean, self.free_bits = config["kl_reduction"] == "mean", config["free_bits"]
        self.conditioned = config["redundancy_condition"] == "collaborative"
        self.kl_warmup = config["kl_warmup"]
        if self.kl_warmup:
            # in the state dict, so that a resumed run goes on with the weight it had
            self.register_buffer("kl_batches", torch.zeros((), dtype=torch.long))
        self._cached: CachedPosterior | None = None
        for m in model.modalities:
            self.register_buffer(f"with_feature_{m}", dataset.has_feature[m], persistent=False)
        with torch.no_grad():
            initial = model.feature_encoder.parts()
            check_parts(model, initial)
        with_feature = {m: self._with_feature(m) for m in initial}
        self.gaussian = GaussianLatents(
            model.feature_encoder,
            initial,
            with_feature,
            config["prior_scale"],
            config_noise(config),
            config["noise_input"],
        )
        self.rate: FeatureHSIC | None = None
        if self.kl_weight and config["rate_estimator"] == "hsic":
            encoder = model.feature_encoder
            self.rate = FeatureHSIC(
                encoder.part_features,
                with_feature,
                tuned=encoder.tuned,
                config=config,
                sigma2=MEDIAN,
                estimator=NORMALIZED,
            )
        widths = {m: z.shape[1] for m, z in initial.items()}
        self.redundancy = make_redundancy(config, widths) if self.redundancy_weight else None
        self.decoders: UniqueDecoders | None = None
        if self.unique_weight:
            self.decoders = UniqueDecoders(widths, output_width(model), config["decoder_hidden_size"])
        softmax = self.decoders is not None and config["unique_likelihood"] == "softmax"
        self.known_items = KnownItems(dataset) if softmax else None
        self.unique_temperature = config["unique_temperature"]
        self.contrast_pairs = int(config["contrast_pairs"])
        #: with three weights of 0 the model is its backbone
        self.replaces_latents = any((self.kl_weight, self.redundancy_weight, self.unique_weight))

    def _with_feature(self, modality: str) -> Tensor:
        """Return the items that have a feature of their own, bool ``[n_items]``."""
        return self.get_buffer(f"with_feature_{modality}")

    def subset(self, model: Backbone, subset: BatchSubset, interaction: Interaction) -> BatchSubset:
        """Return the backbone's rows with those of negatives, which the decoders rank."""
        if self._cached is not None and self._cached.interaction is interaction:
            return subset._replace(latents=self._cached.rows)
        if subset.latents is None or self.decoders is None:
            return subset
        return subset._replace(latents=distinct(subset.latents, *ranked_items(model, interaction)))

    def latents(self, model: Backbone, items: Tensor | None) -> DrawnLatents:
        """Return drawn latents with their Gaussians, those of the critic's step if it had this batch."""
        cached, self._cached = self._cached, None
        if cached is not None and cached.rows is items and self.training and torch.is_grad_enabled():
            return self.gaussian.fused(model.feature_encoder, cached.posterior)
        return self.gaussian.fused(
            model.feature_encoder, self.gaussian.posterior(model.feature_encoder, items)
        )

    def train(self, mode: bool = True) -> MRdIB:
        """Set the mode, and drop what a critic's step has kept."""
        self._cached = None
        return super().train(mode)

    # -- the losses ------------------------------------------------------------------------------------------

    def losses(self, model: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted ``kl`` or ``rate``, ``redundancy`` and ``unique``."""
        losses: dict[str, Tensor] = {}
        latents = cast("DrawnLatents", batch.latents)
        if self.kl_weight and self.rate is not None:
            features = model.feature_encoder.part_features
            losses["rate"] = self._kl_weight() * self.rate(latents.posterior.means, batch, features)
        elif self.kl_weight:
            losses["kl"] = self._kl_weight() * self.kl(
                latents.posterior, batch.items, batch.latent_rows(batch.items)
            )
        if self.redundancy is not None:
            shared = self._shared_rows(model, latents.draws, batch.items, batch.latent_rows)
            losses["redundancy"] = self.redundancy_weight * self.redundancy(shared)
        if self.decoders is not None:
            losses["unique"] = self.unique_weight * self.unique_loss(model, batch)
        return losses

    def _kl_weight(self) -> float:
        """Return a_1 of this batch: a linear warm-up, so that the means learn before they are priced."""
        if not self.kl_warmup or not self.training:
            return self.kl_weight
        self.kl_batches += 1
        return self.kl_weight * min(1.0, int(self.kl_batches) / self.kl_warmup)

    def kl(self, posterior: Posterior, items: Tensor, rows: Tensor) -> Tensor:
        """Return sum_m mean_i KL(q(z_m|x_i) || N(0, I)) of the ``items`` that have m, at ``rows``."""
        divergence = torch.zeros((), device=items.device)
        for m, mean in posterior.means.items():
            known = rows[self._with_feature(m)[items]]
            if known.numel():
                log_variance = F.embedding(known, posterior.log_variances[m])
                rate = priced_rate(F.embedding(known, mean), log_variance, self.free_bits)
                divergence = divergence + (rate / mean.shape[1] if self.kl_mean else rate)
        return divergence

    def unique_loss(self, model: Backbone, batch: Batch) -> Tensor:
        """Return sum_m -log p(y | z_m) of the batch's users: BPR(x_u, D_m(z_m)), or a softmax of cosines."""
        if self.known_items is not None:
            return self._unique_softmax(self.known_items, batch)
        users = F.embedding(batch.users, batch.outputs.user)
        items, where = torch.unique(torch.cat(ranked_items(model, batch.interaction)), return_inverse=True)
        decoded = self._decoded(batch, items)
        pairs = (F.embedding(where, output).split(batch.users.numel()) for output in decoded.values())
        return total(bpr(users, positive, negative) for positive, negative in pairs)

    def _unique_softmax(self, known: KnownItems, batch: Batch) -> Tensor:
        pairs = some(torch.arange(batch.users.numel(), device=batch.users.device), self.contrast_pairs)
        users, of_users = torch.unique(batch.users[pairs], return_inverse=True)
        items, positives = torch.unique(batch.positives[pairs], return_inverse=True)
        outputs, left_out = F.embedding(users, batch.outputs.user), known.among(users, items)
        tau = self.unique_temperature
        return total(
            conditional_contrast(outputs, decoded, positives, tau, of_users=of_users, left_out=left_out)
            for decoded in self._decoded(batch, items).values()
        )

    def _decoded(self, batch: Batch, items: Tensor) -> dict[str, Tensor]:
        """Return D_m(z_m) of some items by modality."""
        rows, draws = batch.latent_rows(items), cast("DrawnLatents", batch.latents).draws
        decoders = cast("UniqueDecoders", self.decoders)
        return decoders({m: F.embedding(rows, z) for m, z in draws.items()})

    def _shared_rows(
        self,
        model: Backbone,
        draws: Mapping[str, Tensor],
        items: Tensor,
        rows: Callable[[Tensor], Tensor],
    ) -> dict[str, Tensor]:
        """Return the draws of those of the distinct ``items`` that have every modality; ``rows``.

        Items -> rows of the draws. With ``redundancy_condition`` without what the items' ids explain.
        """
        items = items[torch.stack([self._with_feature(m)[items] for m in draws]).all(dim=0)]
        shared = rows(items)
        found = {m: F.embedding(shared, z) for m, z in draws.items()}
        if self.conditioned and items.numel():
            ids = model.item_embedding(items).detach()
            found = {m: residuals(z, ids) for m, z in found.items()}
        return found

    # -- the critic's step -----------------------------------------------------------------------------------

    def phases(self, model: Backbone, phases: list[Phase]) -> list[Phase]:
        """Put the critic's step before the model's, which then leaves the critic alone."""
        if self.redundancy is None or not self.redundancy.has_critic:
            return phases
        critic = list(self.redundancy.parameters())
        others = [p for p in model.parameters() if all(p is not c for c in critic)]
        after = [phase._replace(parameters=lambda: others) if phase.main else phase for phase in phases]
        loss = partial(self.critic_loss, model)
        return [Phase("critic", loss, lambda: critic, self.critic_rate), *after]

    def critic_loss(self, model: Backbone, interaction: Interaction) -> NamedLosses:
        """Return what the critics minimize, on fresh draws of the batch's distinct positive items."""
        items, rows = torch.unique(interaction[model.ITEM_ID]), batch_subset_of(model, interaction).latents
        # with their gradients: the encoders do not move before the model's step on this batch, which draws
        # anew from the same Gaussians
        posterior = self.gaussian.posterior(model.feature_encoder, rows)
        self._cached = CachedPosterior(interaction, rows, posterior)
        with torch.no_grad():
            draws = self.gaussian.draw(posterior.at(positions(items, rows)))
        shared = self._shared_rows(model, draws, items, lambda known: positions(known, items))
        return NamedLosses({"critic": cast("Redundancy", self.redundancy).critic_loss(shared)})

    def diagnostics(self, model: Backbone, items: Tensor) -> dict[str, Tensor]:
        """Return ``kl/<modality>`` in nats per item, sigma ``noise/<modality>``, ``redundancy/<a>|<b>``."""
        latents = self.latents(model, items)
        state: dict[str, Tensor] = {}
        for m, log_variance in latents.posterior.log_variances.items():
            known = self._with_feature(m)[items]
            state[f"kl/{m}"] = gaussian_kl(latents.posterior.means[m][known], log_variance[known]).mean()
            state[f"noise/{m}"] = (0.5 * log_variance[known]).exp().mean()
        if self.redundancy is not None:
            shared = self._shared_rows(model, latents.draws, items, lambda chosen: positions(chosen, items))
            estimates = self.redundancy.estimates(shared)
            state.update({f"redundancy/{pair}": value for pair, value in estimates.items()})
        return state
