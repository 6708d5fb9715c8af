"""FIB, the feature-level bottleneck."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from recbole_ib.bottleneck.hsic import rbf_hsic
from recbole_ib.bottleneck.kernels import ConstantKernel, check_sigma2, rbf_kernel


class FeatureBottleneck(nn.Module):
    """Feature-level bottleneck: L_FIB = sum_k HSIC(Z^k, M^k) on the items of a batch (IBMRec Eq. 22).

    It has no parameters.

    Args:
        sigma2: sigma^2 of the RBF kernel, on both sides.

    Example:
        >>> latents = {"text": torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)}
        >>> loss = FeatureBottleneck(sigma2=1.0)(latents, {"text": torch.tensor([[3.0], [-2.0]])})
        >>> round(loss.item(), 4)  # (1 - exp(-2))^2
        0.7476
    """

    def __init__(self, sigma2: float):
        super().__init__()
        self.sigma2 = check_sigma2(sigma2)

    def forward(self, latents: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of some items.

        The rows of a modality must be DISTINCT items that have a feature of their own: an item given twice,
        or two items with the same filled-in row, would be pushed away from each other, and a zero row has no
        direction.

        Args:
            latents: modality -> Z^k, ``[n_k, d]``.
            features: modality -> the pre-trained features M^k of the same items, ``[n_k, d_k]``, without
                gradient.

        Returns:
            A scalar; a modality with fewer than two items adds 0.
        """
        with torch.no_grad():
            kernels = {
                name: rbf_kernel(m, self.sigma2) for name, m in features.items() if latents[name].shape[0] > 1
            }
        return self.of_kernels(latents, kernels)

    def of_kernels(self, latents: Mapping[str, Tensor], kernels: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of some items whose features' kernels ``[n_k, n_k]`` are known.

        A kernel of fewer than two rows is not read.
        """
        total = torch.zeros((), device=next(iter(latents.values())).device)
        for name, z in latents.items():
            few = z.shape[0] < 2
            total = total + (
                z.sum() * 0.0 if few else rbf_hsic(z, sigma2=self.sigma2, kernel_y=kernels[name])
            )
        return total

    def extra_repr(self) -> str:
        """Return what ``repr`` shows: sigma^2."""
        return f"sigma2={self.sigma2}"


class FeatureKernels:
    """Kernels of pre-trained features for :meth:`FeatureBottleneck.of_kernels`.

    They are kept whole where that pays, or computed for a batch.

    Args:
        sigma2: sigma^2 of the RBF kernel.
        n_items: rows of a feature table.
        widths: latent name -> d_k, of tables that never change.
        most_bytes: for the whole kernel of one table, see :meth:`ConstantKernel.worth`.

    Example:
        >>> features = {"text": torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])}
        >>> kernels = FeatureKernels(sigma2=1.0, n_items=3, widths={"text": 2}, most_bytes=0)
        >>> items = torch.tensor([0, 2])
        >>> known = {"text": torch.tensor([True, True])}
        >>> kernels.of(items, known, lambda ids: {name: table[ids] for name, table in features.items()})
        {'text': tensor([[1., 1.],
                [1., 1.]])}
    """

    def __init__(self, sigma2: float, n_items: int, widths: Mapping[str, int], most_bytes: float):
        self.sigma2 = sigma2
        self.kept = {
            name: ConstantKernel(sigma2)
            for name, d in widths.items()
            if ConstantKernel.worth(n_items, d, most_bytes)
        }

    def of(
        self,
        items: Tensor,
        known: Mapping[str, Tensor],
        features: Callable[[Tensor | None], Mapping[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Return the kernel of each name, ``[n_k, n_k]``, without gradient.

        Args:
            items: distinct ids ``[n]``.
            known: latent name -> bool ``[n]``, the items that have a feature of their own.
            features: ids, or ``None`` for all -> name -> M^k of these.
        """
        if not all(kernel.known for kernel in self.kept.values()):
            for name, table in features(None).items():
                if name in self.kept:
                    self.kept[name].compute(table)
        kernels = {name: kernel.of(items[known[name]]) for name, kernel in self.kept.items()}
        if len(kernels) < len(known):
            rows = features(items)
            with torch.no_grad():
                for name in known.keys() - kernels.keys():
                    kernels[name] = rbf_kernel(rows[name][known[name]], self.sigma2)
        return kernels
