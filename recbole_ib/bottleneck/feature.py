"""FIB, the feature-level bottleneck."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.bottleneck.hsic import rbf_hsic
from recbole_ib.bottleneck.kernels import check_sigma2


class FeatureBottleneck(nn.Module):
    """L_FIB = sum_k HSIC(Z^k, M^k) on the items of a batch (IBMRec Eq. 22). No parameters of its own.

    Args:
        features: modality -> the pre-trained features M^k, ``[n_items, d_k]``; kept as unit rows, without gradient.
        sigma2: sigma^2 of the RBF kernel, on both sides.
    """

    def __init__(self, features: Mapping[str, Tensor], sigma2: float):
        super().__init__()
        self.sigma2 = check_sigma2(sigma2)
        self.modalities = list(features)
        for name, table in features.items():
            self.register_buffer(f"unit_{name}", F.normalize(table.detach().float(), dim=1), persistent=False)

    def forward(self, latents: Mapping[str, Tensor], items: Tensor) -> Tensor:
        """The loss of the given items.

        Args:
            latents: modality -> Z^k of exactly these items, ``[n, d]``.
            items: DISTINCT item ids, int64 ``[n]``; an item given twice would be pushed away from itself.

        Returns:
            A scalar; 0 for fewer than two items.
        """
        if items.numel() < 2:
            return next(iter(latents.values())).sum() * 0.0
        total = 0.0
        for name in self.modalities:
            with torch.no_grad():
                unit = getattr(self, f"unit_{name}")[items]
                kernel = (unit @ unit.T).sub_(1.0).div_(self.sigma2).exp_()
            total = total + rbf_hsic(latents[name], sigma2=self.sigma2, kernel_y=kernel)
        return total

    def extra_repr(self) -> str:
        return f"modalities={self.modalities}, sigma2={self.sigma2}"
