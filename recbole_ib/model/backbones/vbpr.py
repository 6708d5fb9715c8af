"""VBPR: matrix factorization with a projected content part."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.graphs import any_feature
from recbole_ib.model.layers.encoder import LinearEncoder
from recbole_ib.model.losses import unsquared_batch_norms
from recbole_ib.model.settings import Search, Setting
from recbole_ib.model.shared_settings import EMBEDDING_SIZE, NORMALIZE_FEATURES, searched_rate
from recbole_ib.model.types import Encoded
from recbole_ib.ops.linear import linear
from recbole_ib.utils.validate import Number


class VBPR(MultimodalRecommender):
    """VBPR (He & McAuley, AAAI 2016), in the form that multimodal benchmarks compare with.

    s_ui = <p_u, [q_i ; W f_i + b]> with f_i the raw concatenation of all modalities, p_u ``[2d]``; loss
    BPR + reg_weight * (|P_B| + |Y_B+| + |Y_B-|) / B, the norms NOT squared (RecBole's ``EmbLoss``).

    Yaml: ``embedding_size`` d, ``reg_weight``, ``normalize_features``.
    """

    settings = (
        EMBEDDING_SIZE.but(doc="d, of ids and of the content part; user rows are 2d"),
        Setting(
            "reg_weight",
            1.0,
            "of the unsquared norms",
            Number(least=0),
            source="chosen on amazon-baby and ml-100k, validation",
            search=Search.choice(2.0, 1.0, 0.1, 0.01, 1.0e-3, 1.0e-4, 1.0e-5, source="the benchmarks' grid on Amazon"),
        ),
        NORMALIZE_FEATURES.but(default=False),
        searched_rate("around the default"),
    )

    LATENT = "content"
    row_mean_losses = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        features = [dataset.modalities[m] for m in self.modalities]
        self.widths = [table.shape[1] for table in features]
        self.projections = LinearEncoder({self.LATENT: features}, self.embedding_size, bool(config["normalize_features"]))
        self.user_embedding = nn.Embedding(self.n_users, 2 * self.embedding_size)
        self.item_embedding = nn.Embedding(self.n_items, self.embedding_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.user_embedding.weight)
        nn.init.xavier_uniform_(self.item_embedding.weight)
        self.projections.reset_parameters()

    def latent_masks(self, dataset) -> dict[str, Tensor]:
        return {self.LATENT: any_feature(dataset)}

    def item_latents(self, items: Tensor | None = None) -> dict[str, Tensor]:
        return self.projections(items)

    def modality_latents(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """W_m f_m, with W = [W_1 .. W_M] and f = [f_1 ; .. ; f_M]; the first one carries the bias. They sum to the latent."""
        layer = self.projections.linear[self.LATENT]
        weights = layer.weight.split(self.widths, dim=1)
        parts = {m: linear(x, w) for (m, x), w in zip(self._columns(items).items(), weights, strict=True)}
        first = self.modalities[0]
        return {**parts, first: parts[first] + layer.bias}

    def modality_features(self, items: Tensor | None = None) -> dict[str, Tensor]:
        return {m: x.detach() for m, x in self._columns(items).items()}

    def fuse_modalities(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {self.LATENT: sum(parts.values())}

    def _columns(self, items: Tensor | None) -> dict[str, Tensor]:
        rows = self.projections.inputs(self.LATENT, items)
        return dict(zip(self.modalities, rows.split(self.widths, dim=1), strict=True))

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        ids = self.item_embedding.weight if items is None else self.item_embedding(items)
        item = torch.cat([ids, latents[self.LATENT]], dim=1)
        user = self.user_embedding.weight
        return Encoded(user, item, user, item)

    def rows_needed(self, interaction) -> Tensor:
        # W f only for the batch's items: projecting all of them costs as much as the rest of the step
        return torch.unique(torch.cat([interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]]))

    def penalty(self, users, positives, negatives, encoded: Encoded, user: Tensor, item: Tensor) -> Tensor:
        rows = (F.embedding(users, user), F.embedding(positives, item), F.embedding(negatives, item))
        return unsquared_batch_norms(*rows)

    def user_content(self, users: Tensor) -> Tensor:
        return self.user_embedding(users)[:, self.embedding_size :]

    def content_parameters(self) -> list[nn.Parameter]:
        # the users' content half shares a table with their id half, whose gradient under L_2 is zero
        return [self.user_embedding.weight, *self.projections.parameters()]
