"""IBMRec: the published combinations of its two bottlenecks with backbones, and the ablations.

"Less is More: Information Bottleneck Denoised Multimedia Recommendation", arXiv 2501.12175. In every
mini-batch:

    L_1 = L_backbone + alpha HSIC(Z, M) + beta HSIC(Y', Y)                   updates everything       (Eq. 30)
    L_2 = -mean log exp(cos(c_a, z_i)/tau) / sum_j exp(cos(c_a, z_j)/tau)    updates [C, Z] alone     (Eq. 31)

Algorithm 1 stands in :meth:`recbole_ib.model.base.MultimodalRecommender.calculate_loss` (lines 4 to 9, in
their order) and :meth:`recbole_ib.model.bottlenecks.fib.FIB.phases` (lines 10 to 12); HSIC(Z, M) and L_2 are
:class:`~recbole_ib.model.bottlenecks.fib.FIB`, S' and HSIC(Y', Y) are
:class:`~recbole_ib.model.bottlenecks.gib.GIB`. Both work on any backbone:
``--model=FREEDOM --bottleneck=fib,gib``.
"""

from __future__ import annotations

from recbole_ib.model.backbones.lattice import LATTICE
from recbole_ib.model.backbones.vbpr import VBPR
from recbole_ib.model.backbones.vlattice import VLATTICE
from recbole_ib.model.backbones.vlightgcn import VLightGCN


class IBMRec(VLATTICE):
    """IBMRec on VLATTICE, with both bottlenecks: the paper's model."""

    bottlenecks = ("fib", "gib")
    #: the paper's three first
    search_order = (
        "fib_weight",
        "sigma2",
        "gib_weight",
        "gib_sigma2",
        "contrastive_temperature",
        "knn_k",
        "reg_weight",
        "learning_rate",
    )


class IBMRecWoFIB(VLATTICE):
    """IBMRec without the feature-level bottleneck, and without L_2, its maximizing half; Table 4."""

    bottlenecks = ("gib",)


class IBMRecWoGIB(VLATTICE):
    """IBMRec without the graph-level bottleneck; Table 4."""

    bottlenecks = ("fib",)


class IBMRecVBPR(VBPR):
    """FIB on VBPR; Table 3."""

    bottlenecks = ("fib",)


class IBMRecVLightGCN(VLightGCN):
    """FIB on VLightGCN; Table 3."""

    bottlenecks = ("fib",)


class IBMRecLATTICE(LATTICE):
    """GIB on LATTICE; Table 3."""

    bottlenecks = ("gib",)
