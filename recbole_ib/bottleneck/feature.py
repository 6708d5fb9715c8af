"""FIB, the feature-level bottleneck."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.bottleneck.hsic import BIASED, least_rows, rbf_hsic
from recbole_ib.bottleneck.kernels import ConstantKernel, check_sigma2, rbf_kernel

#: below it a median distance tells that the rows are alike
SMALLEST_SIGMA2 = 1e-6


class FeatureBottleneck(nn.Module):
    """Feature-level bottleneck: L_FIB = sum_k HSIC(Z^k, M^k) on the items of a batch (IBMRec Eq. 22).

    It has no parameters.

    Args:
        sigma2: sigma^2 of the RBF kernel, on both sides, or one per modality.
        estimator: of HSIC, one of :data:`recbole_ib.bottleneck.hsic.HSIC_ESTIMATORS`.

    Example:
        >>> latents = {"text": torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)}
        >>> loss = FeatureBottleneck(sigma2=1.0)(latents, {"text": torch.tensor([[3.0], [-2.0]])})
        >>> round(loss.item(), 4)  # (1 - exp(-2))^2
        0.7476
    """

    def __init__(self, sigma2: float | Mapping[str, float], estimator: str = BIASED):
        super().__init__()
        self.sigma2 = PerModality.of(sigma2)
        self.estimator, self.least_rows = estimator, least_rows(estimator)

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
            A scalar; a modality with fewer items than the estimate needs (2, or 4) adds 0.
        """
        with torch.no_grad():
            kernels = {
                name: rbf_kernel(m, self.sigma2[name])
                for name, m in features.items()
                if latents[name].shape[0] >= self.least_rows
            }
        return self.of_kernels(latents, kernels)

    def of_kernels(self, latents: Mapping[str, Tensor], kernels: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of some items whose features' kernels ``[n_k, n_k]`` are known.

        A kernel of fewer rows than the estimate needs is not read.
        """
        total = torch.zeros((), device=next(iter(latents.values())).device)
        for name, z in latents.items():
            if z.shape[0] < self.least_rows:
                total = total + z.sum() * 0.0
                continue
            total = total + rbf_hsic(
                z, sigma2=self.sigma2[name], kernel_y=kernels[name], estimator=self.estimator
            )
        return total

    def extra_repr(self) -> str:
        """Return what ``repr`` shows: sigma^2 and the estimator."""
        return f"sigma2={self.sigma2.shown}, estimator={self.estimator}"


class PerModality(Mapping[str, float]):
    """Sigma^2 of every modality: the same for all, or each its own.

    Example:
        >>> PerModality.of(0.15)["text"], PerModality.of({"text": 0.2})["text"]
        (0.15, 0.2)
    """

    def __init__(self, shared: float | None, own: Mapping[str, float]):
        self._shared, self._own = shared, dict(own)

    @classmethod
    def of(cls, sigma2: float | Mapping[str, float]) -> PerModality:
        """Return the values of a number or a mapping.

        Raises:
            ValueError: one of them is not positive.
        """
        if isinstance(sigma2, PerModality):
            return sigma2
        if isinstance(sigma2, Mapping):
            return cls(None, {name: check_sigma2(value) for name, value in sigma2.items()})
        return cls(check_sigma2(sigma2), {})

    @property
    def shown(self) -> float | dict[str, float]:
        """What was given."""
        return self._own if self._shared is None else self._shared

    def __getitem__(self, name: str) -> float:
        return self._own[name] if self._shared is None else self._shared

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


def median_sigma2(features: Tensor) -> float:
    """Return half the median squared distance of unit rows: the kernel's median entry is then exp(-1).

    The median heuristic (Gretton et al. 2012), over the pairs of rows that differ.

    Args:
        features: ``[n, d]``, n >= 2, no row all zero.

    Returns:
        A number > 0; 1 where all rows point one way.

    Example:
        >>> median_sigma2(torch.eye(3))  # ||x - y||^2 = 2
        1.0
    """
    unit = F.normalize(features.float(), dim=1)
    cosines = unit @ unit.T
    pairs = torch.triu_indices(len(unit), len(unit), offset=1, device=cosines.device)
    value = float((1.0 - cosines[pairs[0], pairs[1]]).median())
    return value if value > SMALLEST_SIGMA2 else 1.0


class FeatureKernels:
    """Kernels of pre-trained features for :meth:`FeatureBottleneck.of_kernels`.

    They are kept whole where that pays, or computed for a batch.

    Args:
        sigma2: sigma^2 of the RBF kernel, or one per latent name.
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

    def __init__(
        self,
        sigma2: float | Mapping[str, float],
        n_items: int,
        widths: Mapping[str, int],
        most_bytes: float,
    ):
        self.sigma2 = PerModality.of(sigma2)
        self.kept = {
            name: ConstantKernel(self.sigma2[name])
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
                    kernels[name] = rbf_kernel(rows[name][known[name]], self.sigma2[name])
        return kernels
