"""Information bottlenecks in pure torch.

HSIC, edge gate, feature and graph bottlenecks, contrast, rate and redundancy.
"""

from recbole_ib.bottleneck.contrastive import conditional_contrast, two_view_contrast
from recbole_ib.bottleneck.critics import CLUB, MINE
from recbole_ib.bottleneck.disentangle import REDUNDANCY_ESTIMATORS, Redundancy, UniqueDecoders, residuals
from recbole_ib.bottleneck.feature import FeatureBottleneck, FeatureKernels, median_sigma2
from recbole_ib.bottleneck.gate import ConcreteEdgeGate, gate_statistics
from recbole_ib.bottleneck.graph import GraphBottleneck
from recbole_ib.bottleneck.hsic import hsic, rbf_hsic, unbiased_hsic
from recbole_ib.bottleneck.kernels import ConstantKernel, center, rbf_kernel
from recbole_ib.bottleneck.mutual_information import (
    club_bound,
    donsker_varadhan,
    gaussian_information,
    infonce_bound,
)
from recbole_ib.bottleneck.variational import LogVarianceHead, gaussian_kl, priced_rate, reparameterize

__all__ = [
    "CLUB",
    "MINE",
    "REDUNDANCY_ESTIMATORS",
    "ConcreteEdgeGate",
    "ConstantKernel",
    "FeatureBottleneck",
    "FeatureKernels",
    "GraphBottleneck",
    "LogVarianceHead",
    "Redundancy",
    "UniqueDecoders",
    "center",
    "club_bound",
    "conditional_contrast",
    "donsker_varadhan",
    "gate_statistics",
    "gaussian_information",
    "gaussian_kl",
    "hsic",
    "infonce_bound",
    "median_sigma2",
    "priced_rate",
    "rbf_hsic",
    "rbf_kernel",
    "reparameterize",
    "residuals",
    "two_view_contrast",
    "unbiased_hsic",
]
