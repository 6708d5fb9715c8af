"""BM3: bootstrapped representations, without negatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.graph import mean_propagation
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.graphs import training_adjacency
from recbole_ib.model.layers.encoder import LinearEncoder, ModalityEncoder, is_tuned, make_encoder
from recbole_ib.model.layers.id_tables import id_tables, reset_tables
from recbole_ib.model.losses import unsquared_norms
from recbole_ib.model.settings import Declaration, Override, Search, Setting
from recbole_ib.model.shared_settings import (
    EMBEDDING_SIZE,
    FEATURE_ENCODER,
    N_LAYERS,
    PUBLISHED_PATIENCE,
    RAW_FEATURES,
    searched_rate,
)
from recbole_ib.model.types import Batch, BatchSubset, Encoded, ItemGraph, Outputs, UserContent, distinct
from recbole_ib.model.user_content import repeated_content
from recbole_ib.utils.validate import Number


class BM3(MultimodalRecommender):
    """BM3 (Zhou et al., WWW 2023, "Bootstrap Latent Representations for Multi-modal Recommendation").

    [X_u; X_i] = LightGCN([P; Q]), X_i <- X_i + Q; T_m = F_m W_m + b_m; one predictor f, linear. With
    c(a, b) = 1 - mean cos(a, b) and a target x~ = dropout(x) that takes no gradient, the loss of a batch of
    pairs (u, i) is

        c(f(x_u), x_i~) + c(f(x_i), x_u~) + reg_weight (|X_u| + |X_i|) / n_items
        + cl_weight sum_m [ c(f(t_mi), x_i~) + c(f(t_mi), t_mi~) ].

    No negative items; s = <f(x_u), f(x_i)>.

    Yaml: ``embedding_size``, ``n_layers``, ``target_dropout`` p, ``reg_weight`` (of the unsquared norms),
    ``cl_weight``, ``raw_features``.
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        PUBLISHED_PATIENCE,
        Override(
            "train_neg_sample_args",
            default=None,
            doc="BM3 learns from pairs alone; no negative item is drawn: leave it, negatives would be drawn "
            "and not read",
        ),
        EMBEDDING_SIZE.but(doc="width d of the embeddings, also of T_m", source="paper: 64"),
        FEATURE_ENCODER,
        N_LAYERS.but(
            default=1,
            source="paper: Baby 1, Sports 1, Electronics 2",
            search=Search.choice(1, 2, source="paper's grid"),
        ),
        Setting(
            "target_dropout",
            0.5,
            "p, of the targets",
            Number(least=0, below=1),
            source="paper: Baby .5, Sports .5, Electronics .3",
            search=Search.choice(0.3, 0.5, source="paper's grid"),
        ),
        Setting(
            "reg_weight",
            0.1,
            "of the unsquared norms",
            Number(least=0),
            source="paper: Baby .1, Sports .01, Electronics .1",
            search=Search.choice(0.1, 0.01, source="paper's grid"),
        ),
        Setting("cl_weight", 2.0, "of the modality alignment", Number(least=0), source="paper"),
        RAW_FEATURES,
        searched_rate("around the default, which the paper fixes at 1e-3"),
    )

    latents_role = "loss"

    encoder: ModalityEncoder

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.n_layers = int(config["n_layers"])
        self.target_dropout = float(config["target_dropout"])
        self.cl_weight = float(config["cl_weight"])
        self.adjacency = training_adjacency(dataset, "sym")
        # as released, no bias starts at zero: ids are tiny at first, so a shared direction of all f(x) gives
        # the cosines a start (with f's bias at zero, training is far slower and ends lower:
        # results/amazon-baby.md)
        features, tuned = dataset.modalities, is_tuned(config)
        self.encoder = make_encoder(
            config,
            lambda size: LinearEncoder(features, size, tuned=tuned, zero_bias=False),
            self.embedding_size,
        )
        self.predictor = nn.Linear(self.embedding_size, self.embedding_size)
        self.user_embedding, self.item_embedding = id_tables(self.n_users, self.n_items, self.embedding_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw ids, predictor and encoder anew."""
        reset_tables(self.user_embedding, self.item_embedding)
        self.predictor.reset_parameters()
        nn.init.xavier_normal_(self.predictor.weight)
        self.encoder.reset_parameters()

    def batch_subset(self, interaction: Interaction) -> BatchSubset:
        """Return the positive items: T_m acts in the loss of the batch alone."""
        return BatchSubset(latents=distinct(interaction[self.ITEM_ID]))

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """Return LightGCN of the ids, with Q added to the items; ``views``: T_m, for the loss."""
        user0, item0 = self.user_embedding.weight, self.item_embedding.weight
        nodes = mean_propagation(self.adjacency, torch.cat([user0, item0]), self.n_layers)
        user, item = nodes.split([self.n_users, self.n_items])
        return Encoded(user, item + item0, user0, item0, latents)

    def apply_item_graph(self, encoded: Encoded, graph: ItemGraph, nodes: Tensor | None = None) -> Outputs:
        """Return f(x_u) and f(x_i); there is no item graph."""
        return Outputs(self.predictor(encoded.user), self.predictor(encoded.item))

    def target(self, x: Tensor) -> Tensor:
        """Return x~, a dropped-out copy without gradient: with one, all representations would collapse."""
        return F.dropout(x.detach(), self.target_dropout, self.training)

    def ranking_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``rec``, ``reg`` and ``align_<modality>``."""
        users, items, encoded, outputs = batch.users, batch.positives, batch.encoded, batch.outputs
        user_target = self.target(F.embedding(users, encoded.user))
        item_target = self.target(F.embedding(items, encoded.item))
        by_user = cosine_gap(F.embedding(users, outputs.user), item_target)
        rec = by_user + cosine_gap(F.embedding(items, outputs.item), user_target)
        # row 0 is padding: it has no edge and no gradient but that of the norm
        losses = {"rec": rec, "reg": self.reg_weight * unsquared_norms(encoded.user[1:], encoded.item[1:])}
        rows = batch.latent_rows(items)
        for name in self.modalities:
            content = F.embedding(rows, encoded.views[name])
            online = self.predictor(content)
            gaps = cosine_gap(online, item_target) + cosine_gap(online, self.target(content))
            losses[f"align_{name}"] = self.cl_weight * gaps
        return losses

    def user_content(self) -> UserContent:
        """Return the user table, once per modality."""
        return repeated_content(self.user_embedding, len(self.modalities), self.encoder)


def cosine_gap(a: Tensor, b: Tensor) -> Tensor:
    """Return c(a, b) = 1 - mean_b cos(a_b, b_b); two ``[n, d]`` -> scalar in [0, 2]."""
    return 1 - F.cosine_similarity(a, b, dim=1).mean()
