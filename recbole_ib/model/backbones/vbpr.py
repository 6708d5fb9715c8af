"""VBPR: matrix factorization with a projected content part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from recbole.data.interaction import Interaction
from torch import Tensor
from torch.nn import functional as F

from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.layers.encoder import ConcatEncoder, ModalityEncoder, make_encoder
from recbole_ib.model.layers.feature_scaling import feature_scaling
from recbole_ib.model.layers.id_tables import id_tables, lengthen, reset_tables
from recbole_ib.model.losses import bpr, unsquared_batch_norms
from recbole_ib.model.settings import Declaration, Search, Setting
from recbole_ib.model.shared_settings import (
    EMBEDDING_SIZE,
    FEATURE_ENCODER,
    NORMALIZE_FEATURES,
    searched_rate,
)
from recbole_ib.model.types import Batch, BatchSubset, Encoded, UserContent, distinct
from recbole_ib.utils.validate import Number


class VBPR(MultimodalRecommender):
    """VBPR (He & McAuley, AAAI 2016), in the form that multimodal benchmarks compare with.

    s_ui = <p_u, [q_i ; W f_i + b]> with f_i the raw concatenation of all modalities, p_u ``[2d]``; loss
    BPR + reg_weight * (|P_B| + |Y_B+| + |Y_B-|) / B, the norms NOT squared (RecBole's ``EmbLoss``).

    A row in a batch of B has a gradient of reg_weight / (B sqrt(B)) or so from the penalty, whatever its
    length, and one of the length of the rows that it meets over B from BPR: ids that start shorter than
    reg_weight / sqrt(B) shrink each other to 0. ``least_init_std`` keeps those of large tables above it;
    content, whose latents are long, needs no such start.

    Yaml: ``embedding_size`` d, ``reg_weight``, ``normalize_features``, ``least_init_std``.
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        EMBEDDING_SIZE.but(doc="d, of ids and of the content part; user rows are 2d"),
        FEATURE_ENCODER,
        Setting(
            "reg_weight",
            1.0,
            "of the unsquared norms",
            Number(least=0),
            source="chosen on amazon-baby and ml-100k, validation",
            search=Search.choice(
                2.0, 1.0, 0.1, 0.01, 1.0e-3, 1.0e-4, 1.0e-5, source="the benchmarks' grid on Amazon"
            ),
        ),
        NORMALIZE_FEATURES.but(source="chosen by validation, results/bottlenecks.md"),
        Setting(
            "least_init_std",
            0.02,
            "ids start with Xavier's standard deviation, which falls with their number, but none below this: "
            "reg_weight would close them for good; 0: Xavier's",
            Number(least=0),
            source="amazon-sports and amazon-baby, results/bottlenecks.md; the benchmarks: 0",
        ),
        searched_rate("around the default"),
    )

    LATENT = "content"
    row_mean_losses = True

    encoder: ModalityEncoder

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        features = {m: dataset.modalities[m] for m in self.modalities}
        scaling, width = feature_scaling(config, dataset), self.embedding_size
        self.encoder = make_encoder(config, lambda size: ConcatEncoder(features, size, scaling), width)
        self.user_embedding, self.item_embedding = id_tables(self.n_users, self.n_items, width, 2 * width)
        self.least_std = float(config["least_init_std"])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw ids and encoder anew."""
        reset_tables(self.user_embedding, self.item_embedding)
        for table in (self.user_embedding, self.item_embedding):
            lengthen(table, self.embedding_size, self.least_std)
        self.encoder.reset_parameters()

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """Return p_u and [q_i ; W f_i + b], of all items or of some."""
        ids = self.item_embedding.weight if items is None else self.item_embedding(items)
        item = torch.cat([ids, latents[ConcatEncoder.LATENT]], dim=1)
        user = self.user_embedding.weight
        return Encoded(user, item, user, item)

    def batch_subset(self, interaction: Interaction) -> BatchSubset:
        """Return the batch's items: projecting all of them costs as much as the rest of the step."""
        items = distinct(interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID])
        return BatchSubset(latents=items, items=items)

    def ranking_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``bpr`` and ``reg``, of the norms that are not squared."""
        losses = {"bpr": bpr(*batch.triplets())}
        tables = [F.embedding(batch.users, batch.outputs.user)]
        tables += [
            F.embedding(batch.item_rows(ids), batch.outputs.item)
            for ids in (batch.positives, batch.negatives)
        ]
        losses["reg"] = self.reg_weight * unsquared_batch_norms(*tables)
        return losses

    def user_content(self) -> UserContent:
        """Return the second halves of the users' rows.

        Their id halves stand in the same table; the gradient of these under L_2 is zero.
        """
        table = self.user_embedding
        return UserContent(
            lambda users: table(users)[:, self.embedding_size :],
            lambda: [table.weight, *self.encoder.parameters()],
            lambda users: table(users)[:, : self.embedding_size],
        )
