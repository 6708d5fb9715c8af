"""Latents that are drawn: a Gaussian per modality around a backbone's own projections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.bottleneck import LogVarianceHead, reparameterize
from recbole_ib.model.layers.encoder import ModalityEncoder

#: the value of ``prior_scale`` that takes the backbone's own latents at the start for the unit
INITIAL = "initial"
#: no scale or noise starts below it: a projection may start at zero
SMALLEST_SCALE = 1e-6
#: the range of log sigma^2, and the one that it may start in, in units of the prior
LOG_VARIANCE, START = (-24.0, 6.0), (-22.0, 4.0)
#: what the heads of log sigma^2 read
NOISE_INPUTS = ("features", "latent")


class Posterior(NamedTuple):
    """q(z_m | x_m).

    By modality the means and log sigma^2, ``[n, d]``, in units of the prior's standard deviation.
    """

    means: dict[str, Tensor]
    log_variances: dict[str, Tensor]

    def at(self, rows: Tensor) -> Posterior:
        """Return the Gaussians of some rows."""
        return Posterior(*({m: F.embedding(rows, table) for m, table in part.items()} for part in self))


class DrawnLatents(dict[str, Tensor]):
    """The latents that the backbone takes, latent name -> ``[n, d]``.

    Attributes:
        draws: modality -> what they are made of, in units of the prior.
        posterior: what the draws come from.
    """

    def __init__(self, fused: Mapping[str, Tensor], draws: dict[str, Tensor], posterior: Posterior):
        super().__init__(fused)
        self.draws, self.posterior = draws, posterior


class GaussianLatents(nn.Module):
    """z_m = s (mu_m + sigma_m eps), one Gaussian per modality (MRdIB).

    s mu_m is the encoder's own projection, and log sigma_m^2 a linear head on the features, or on mu_m: a
    trunk with two heads, as usual in variational encoders (Alemi et al., ICLR 2017).

    Args:
        encoder: of the backbone; not part of this module.
        initial: modality -> its part of the latents at the start, ``[n_items, d]``.
        own: modality -> the items that have a feature of their own, bool ``[n_items]``.
        prior_scale: s, in units of the backbone's latents; :data:`INITIAL`: their own spread at the start.
        initial_noise: sigma at the start, as a part of that spread; ``None``: the latents are their means,
            nothing is drawn.
        noise_input: one of :data:`NOISE_INPUTS`.
    """

    def __init__(
        self,
        encoder: ModalityEncoder,
        initial: Mapping[str, Tensor],
        own: Mapping[str, Tensor],
        prior_scale: float | str,
        initial_noise: float | None,
        noise_input: str = "features",
    ):
        super().__init__()
        self.reads_latents = noise_input == "latent"
        # the root of the sum over the number, not of the mean: without any item that has the modality it is 0
        known = {m: z[own[m]] for m, z in initial.items()}
        spread = {m: float((z.square().sum() / max(1, z.numel())).sqrt()) for m, z in known.items()}
        for m, value in spread.items():
            scale = max(value, SMALLEST_SCALE) if prior_scale == INITIAL else float(prior_scale)
            # in the state dict: weights that are loaded bring their units along
            self.register_buffer(f"scale_{m}", torch.tensor(scale))
        self.variance: nn.ModuleDict | None = None
        if initial_noise is None:
            return
        self.variance = nn.ModuleDict()
        for m, x in encoder.part_features().items():
            if not self.reads_latents:
                self.register_buffer(f"unit_scale_{m}", unit_scale(x), persistent=False)
            start = 2 * math.log(max(initial_noise * spread[m], SMALLEST_SCALE) / self.scale(m))
            width = initial[m].shape[1] if self.reads_latents else x.shape[1]
            self.variance[m] = LogVarianceHead(
                width, initial[m].shape[1], LOG_VARIANCE, min(max(start, START[0]), START[1])
            )

    def scale(self, modality: str) -> Tensor:
        """Return s, the prior's standard deviation in units of the backbone's latents."""
        return self.get_buffer(f"scale_{modality}")

    def posterior(self, encoder: ModalityEncoder, items: Tensor | None) -> Posterior:
        """Return mu and log sigma^2 of the given items, or of all."""
        means = {m: z / self.scale(m) for m, z in encoder.parts(items).items()}
        return Posterior(means, self._log_variances(encoder, items, means))

    def _log_variances(
        self, encoder: ModalityEncoder, items: Tensor | None, means: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return log sigma_m^2 by modality, ``[n, d]``; nothing where nothing is drawn.

        The heads read unit rows, so that noise does not depend on the scale of features or projections, and
        constants, so that it shapes neither.
        """
        if self.variance is None:
            return {}
        if self.reads_latents:
            rows = {m: mean.detach() for m, mean in means.items()}
        else:
            rows = encoder.part_features(items)
        return {
            m: head(rows[m], self._unit_scale(encoder, m, rows[m], items))
            for m, head in self.variance.items()
        }

    def _unit_scale(
        self, encoder: ModalityEncoder, modality: str, rows: Tensor, items: Tensor | None
    ) -> Tensor:
        """Return 1 / ||x|| of every row, ``[n, 1]``; of features that are not trained it is known."""
        if self.reads_latents or encoder.tuned:
            return unit_scale(rows)
        scale = self.get_buffer(f"unit_scale_{modality}")
        return scale if items is None else F.embedding(items, scale)

    def draw(self, posterior: Posterior) -> dict[str, Tensor]:
        """Return mu + sigma eps by modality; in evaluation mode the means."""
        if not self.training or self.variance is None:
            return posterior.means
        return {m: reparameterize(mean, posterior.log_variances[m]) for m, mean in posterior.means.items()}

    def fused(self, encoder: ModalityEncoder, posterior: Posterior) -> DrawnLatents:
        """Return the latents that the backbone takes, made of fresh draws in its own units."""
        draws = self.draw(posterior)
        return DrawnLatents(encoder.fuse({m: z * self.scale(m) for m, z in draws.items()}), draws, posterior)


def unit_scale(rows: Tensor) -> Tensor:
    """Return 1 / ||x_i||, ``[n, d] -> [n, 1]``; a row of zeros stays one."""
    return rows.norm(dim=1, keepdim=True).clamp_min(SMALLEST_SCALE).reciprocal()


def config_noise(config: Any) -> float | None:
    """Return the noise that the latents start with, or ``None`` without KL: they are not stochastic."""
    return config["initial_noise"] if config["kl_weight"] and config["rate_estimator"] == "kl" else None
