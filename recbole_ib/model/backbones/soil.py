"""SOIL: MGCN's views on graphs that follow the users' second-order interests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.graph import (
    ConstantGraph,
    SparseMatrix,
    interest_item_graphs,
    normalize_by_row_degree,
    second_order_interactions,
    user_item_adjacency,
)
from recbole_ib.model.backbones.mgcn import MGCN
from recbole_ib.model.graphs import modality_graphs
from recbole_ib.model.layers.fusion import user_item_block
from recbole_ib.model.losses import bpr, in_batch_contrast, total
from recbole_ib.model.settings import Declaration, Dropped, Override, Search, Setting
from recbole_ib.model.shared_settings import searched_rate
from recbole_ib.model.types import Batch
from recbole_ib.utils.validate import Integer, Number

#: as released, no stored entry of a normalized graph falls below it
SMALLEST_ENTRY = 1e-7


class SOIL(MGCN):
    """SOIL (Su et al., ACM MM 2024).

    "SOIL: Contrastive Second-Order Interest Learning for Multimodal Recommendation".

    MGCN's encoder on L = A + second_order_scale * sym([[0, R_a], [R_a^T, 0]]), each normalized on its own,
    and on the item graphs G_m = sym(W_m) + sym(kNN(F_m)); R_a and W_m see :mod:`recbole_ib.graph.interest`.
    Without preference gates:

        side = sum_m (1 - alpha_m) E_m / (M + 1),   output X = C + side,   s = <x_u, x_i>
        loss = BPR(X) + cl_weight [ NCE(side_i, C_i) + NCE(side_u, C_u) ] + user_item_cl_weight [ NCE(X_u,
        C_i) + NCE(X_u, side_i) ].

    With one modality alpha is 1 and the side would be empty; it is then E / 2.

    Yaml: those of MGCN without ``reg_weight``, and ``interest_k`` k_i, ``second_order_k`` k_a,
    ``second_order_scale``, ``cl_weight`` lam_ii, ``user_item_cl_weight`` lam_ui.
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        Dropped("reg_weight"),
        Override("embedding_size", source="release: 64"),
        Override("n_layers", source="release"),
        Override("n_item_layers", source="release"),
        Override("knn_k", search=None, source="release"),
        Override(
            "cl_weight",
            doc="lam_ii, of the contrast of side and behavior; 0 leaves the term out",
            source="paper: Baby .01, Sports .1, Clothing .01",
            search=Search.choice(0.001, 0.01, 0.1, 1.0, source="paper"),
        ),
        Setting(
            "user_item_cl_weight",
            0.01,
            "lam_ui, of the contrast of users and items; 0 leaves the term out",
            Number(least=0),
            source="paper: Baby .01, Sports .01, Clothing .001",
            search=Search.choice(0.001, 0.01, 0.1, 1.0, source="paper"),
        ),
        Setting(
            "interest_k",
            10,
            "k_i, items of interest per user and modality",
            Integer(1),
            source="paper: Baby 10, Sports 5, Clothing 5",
            search=Search.choice(5, 10, 15, 20, source="paper"),
        ),
        Setting(
            "second_order_k",
            2,
            "k_a, second-order interactions per user; 0: R_a = R",
            Integer(),
            source="paper: Baby 2, Sports 6, Clothing 3",
            search=Search.integers(1, 10, source="paper"),
        ),
        Setting(
            "second_order_scale",
            0.5,
            "weight of the second-order graph; .5 as released, 1 in the paper's formula",
            Number(),
        ),
        Override(
            "raw_features", default="frozen", doc="frozen: as released; tuned: the features are trained too"
        ),
        searched_rate("around the default, which the paper fixes", source="release: the same, batch 2048"),
    )
    search_order: ClassVar[tuple[str, ...]] = (
        "cl_weight",
        "user_item_cl_weight",
        "interest_k",
        "second_order_k",
        "learning_rate",
    )

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.user_item_cl_weight = float(config["user_item_cl_weight"])
        if len(self.modalities) == 1:
            self.attention = None

    def build_graphs(self, config: Any, dataset: Any) -> None:
        """Build L, its block for the views' users, and the item graphs G_m."""
        interactions = dataset.inter_matrix(form="csr")
        features, valid = dataset.modalities, dataset.has_feature
        plain = user_item_adjacency(interactions)
        second = second_order_interactions(interactions, features, valid, int(config["second_order_k"]))
        bipartite = sp.csr_array(sp.block_array([[None, second], [second.T, None]]), dtype=np.float32)
        scale = float(config["second_order_scale"])
        augmented = sp.csr_array(plain + scale * normalize_by_row_degree(bipartite, SMALLEST_ENTRY))
        self.adjacency = SparseMatrix(augmented, symmetric=True)
        self.user_item = user_item_block(augmented, self.n_users)
        self.item_graphs = nn.ModuleDict()
        interest = interest_item_graphs(interactions, features, valid, int(config["interest_k"]))
        for name, graph in modality_graphs(config, dataset).items():
            parts = [normalize_by_row_degree(g, SMALLEST_ENTRY) for g in (interest[name], graph)]
            self.item_graphs[name] = ConstantGraph(sp.csr_array(parts[0] + parts[1]))

    def build_preference(self, width: int) -> None:
        """Build no gates."""

    def fuse(self, views: Mapping[str, Tensor], behavior: Tensor) -> Tensor:
        """Return the side ``[n, d]``, which does not read behavior."""
        stacked = [views[m] for m in self.modalities]
        if self.attention is None:
            return stacked[0] / 2
        weights = self.attention(stacked).split(1, dim=1)
        return total((1 - w) * x for w, x in zip(weights, stacked, strict=True)) / (len(stacked) + 1)

    #: the same rows as MGCN's
    batch_subset = MGCN.batch_subset

    def ranking_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``bpr``, ``contrast`` and ``user_item``."""
        users, positives, negatives = batch.users, batch.positives, batch.negatives
        user, item, encoded = batch.outputs.user, batch.outputs.item, batch.encoded
        u, i, j = F.embedding(users, user), F.embedding(positives, item), F.embedding(negatives, item)
        losses = {"bpr": bpr(u, i, j)}
        c_u, c_i = F.embedding(users, encoded.user), F.embedding(positives, encoded.item)
        side_u, side_i, t = u - c_u, i - c_i, self.cl_temperature
        if self.cl_weight:
            losses["contrast"] = self.cl_weight * (
                in_batch_contrast(side_i, c_i, t) + in_batch_contrast(side_u, c_u, t)
            )
        if self.user_item_cl_weight:
            contrast = in_batch_contrast(u, c_i, t) + in_batch_contrast(u, side_i, t)
            losses["user_item"] = self.user_item_cl_weight * contrast
        return losses
