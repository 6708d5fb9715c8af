"""HSIC between latents and the features that they are made of: FIB's loss, and MRdIB's rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.bottleneck import FeatureBottleneck, FeatureKernels, median_sigma2
from recbole_ib.model.bottlenecks.known_items import spread_ids
from recbole_ib.model.types import Batch, some

#: the value of ``sigma2`` that takes it from the features
MEDIAN = "median"

#: items (None: all) -> the features of each latent, ``[n, d_k]`` by its name
Features = Callable[[Tensor | None], Mapping[str, Tensor]]


class FeatureHSIC(nn.Module):
    """sum_k HSIC(Z^k, M^k) of a batch's items, every latent on those that have its feature.

    It has no parameters, and adds nothing to a checkpoint.

    Args:
        features: what the latents are made of, also of every later call.
        masks: latent name -> the items that have a feature of their own, bool ``[n_items]``.
        tuned: whether the features change in every step, and their kernels with them.
        config: of the run, for ``kernel_memory`` and ``hsic_items``.
        sigma2: of the kernels; :data:`MEDIAN`: half the features' median squared distance, by latent name.
        estimator: one of :data:`recbole_ib.bottleneck.hsic.HSIC_ESTIMATORS`.
    """

    def __init__(
        self,
        features: Features,
        masks: Mapping[str, Tensor],
        *,
        tuned: bool,
        config: Any,
        sigma2: float | str,
        estimator: str,
    ):
        super().__init__()
        self.most_items = int(config["hsic_items"])
        for name, mask in masks.items():
            self.register_buffer(f"mask_{name}", mask, persistent=False)
        rows = {name: features(spread_ids(mask))[name] for name, mask in masks.items()}
        if sigma2 == MEDIAN:
            medians = {name: median_sigma2(x) if len(x) > 1 else 1.0 for name, x in rows.items()}
            self.loss = FeatureBottleneck(medians, estimator)
        else:
            self.loss = FeatureBottleneck(float(sigma2), estimator)
        widths = {} if tuned else {name: x.shape[1] for name, x in rows.items()}
        n_items = next(iter(masks.values())).numel()
        most_bytes = config["kernel_memory"] * 2**30 / len(masks)
        self.kernels = FeatureKernels(self.loss.sigma2, n_items, widths, most_bytes)

    def mask(self, name: str) -> Tensor:
        """Return the items that have the feature of a latent, bool ``[n_items]``."""
        return self.get_buffer(f"mask_{name}")

    def forward(self, latents: Mapping[str, Tensor], batch: Batch, features: Features) -> Tensor:
        """Return the loss of the batch's distinct positive items, or of some; ``latents`` have their rows."""
        items = some(batch.items, self.most_items)
        rows = batch.latent_rows(items)
        known = {name: self.mask(name)[items] for name in latents}
        z = {name: F.embedding(rows[known[name]], table) for name, table in latents.items()}
        return self.loss.of_kernels(z, self.kernels.of(items, known, features))
