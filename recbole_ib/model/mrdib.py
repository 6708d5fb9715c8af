"""MRdIB on the backbones of its paper, and two more (arXiv 2509.20225).

See :class:`recbole_ib.model.bottlenecks.mrdib.MRdIB`.
"""

from __future__ import annotations

from typing import ClassVar

from recbole_ib.model.backbones.dualgnn import DualGNN
from recbole_ib.model.backbones.freedom import FREEDOM
from recbole_ib.model.backbones.lattice import LATTICE
from recbole_ib.model.backbones.mgcn import MGCN
from recbole_ib.model.backbones.mmgcn import MMGCN
from recbole_ib.model.backbones.soil import SOIL
from recbole_ib.model.backbones.vbpr import VBPR
from recbole_ib.model.settings import Declaration, Override


class MRdIBVBPR(VBPR):
    """MRdIB on VBPR.

    One Gaussian per modality, fused by their sum, takes the place of the one projection of all features.
    """

    bottlenecks = ("mrdib",)


class MRdIBMMGCN(MMGCN):
    """MRdIB on MMGCN."""

    bottlenecks = ("mrdib",)
    settings: ClassVar[tuple[Declaration, ...]] = (
        Override(
            "project_above",
            default=0,
            doc="every modality is projected: one that passes as it is has no latent to compress",
        ),
    )


class MRdIBDualGNN(DualGNN):
    """MRdIB on DualGNN."""

    bottlenecks = ("mrdib",)


class MRdIBFREEDOM(FREEDOM):
    """MRdIB on FREEDOM, whose latents act in the loss alone."""

    bottlenecks = ("mrdib",)


class MRdIBMGCN(MGCN):
    """MRdIB on MGCN."""

    bottlenecks = ("mrdib",)


class MRdIBSOIL(SOIL):
    """MRdIB on SOIL."""

    bottlenecks = ("mrdib",)


class MRdIBLATTICE(LATTICE):
    """MRdIB on LATTICE with its learned item graph."""

    bottlenecks = ("mrdib",)
