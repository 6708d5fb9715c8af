"""Information bottlenecks in pure torch: HSIC, the edge gate, feature- and graph-level bottlenecks, contrast."""

from recbole_ib.bottleneck.contrastive import conditional_contrast, two_view_contrast
from recbole_ib.bottleneck.feature import FeatureBottleneck
from recbole_ib.bottleneck.gate import ConcreteEdgeGate
from recbole_ib.bottleneck.graph import GraphBottleneck
from recbole_ib.bottleneck.hsic import hsic, rbf_hsic
from recbole_ib.bottleneck.kernels import centre, rbf_kernel

__all__ = [
    "ConcreteEdgeGate",
    "FeatureBottleneck",
    "GraphBottleneck",
    "centre",
    "conditional_contrast",
    "hsic",
    "rbf_hsic",
    "rbf_kernel",
    "two_view_contrast",
]
