"""SLMRec: self-supervised branches of one user table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.graph import mean_propagation
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.graphs import training_adjacency
from recbole_ib.model.layers.encoder import LinearEncoder, ModalityEncoder, make_encoder
from recbole_ib.model.layers.id_tables import id_tables, reset_tables
from recbole_ib.model.losses import in_batch_contrast
from recbole_ib.model.settings import Declaration, Override, Search, Setting
from recbole_ib.model.shared_settings import EMBEDDING_SIZE, FEATURE_ENCODER, N_LAYERS
from recbole_ib.model.types import Batch, Encoded, UserContent
from recbole_ib.model.user_content import repeated_content
from recbole_ib.utils.validate import Number, OneOf

#: the name of the id branch beside those of the modalities
ID = "id"


class SLMRec(MultimodalRecommender):
    """SLMRec (Tao et al., IEEE TMM 2022, "Self-Supervised Learning for Multimedia Recommendation").

    One user table P; branches I = LightGCN([P; Q]) and V_m = LightGCN([P; G_m]), G_m = F_m W_m + b_m with
    unit rows F_m; users and items are linear maps of the concatenated branches. Loss NCE(user, item) (cosine,
    in-batch) + ssl_weight * the task:

    - ``fac`` (fine and coarse): x <- A_s x in turn from x = I_i, one stage per modality, the last halving the
      width; at stage s a plain dot product of x with B_s V_s,i over ssl_temperature, cross entropy to the
      batch's diagonal;
    - ``fd`` (feature dropout): two views, each with dropout after every layer, NCE of users and of items;
    - ``fm`` (feature masking): two views, each without the item input of one branch drawn at random.

    s = <user, item>. No negative items.

    Yaml: ``embedding_size``, ``n_layers``, ``fusion``, ``temperature``, ``ssl_task``, ``ssl_weight``,
    ``ssl_temperature``, ``ssl_dropout`` (fd).
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        Override("stopping_step", default=20, source="published tables; release 50"),
        Override(
            "train_neg_sample_args",
            default=None,
            doc="the other items of a batch are the negatives; none is drawn",
        ),
        Override(
            "learning_rate",
            default=0.01,
            source="release",
            search=Search.choice(1.0e-4, 1.0e-3, 1.0e-2, 1.0e-1, source="the benchmarks' grid on Amazon"),
        ),
        Override("weight_decay", default=1.0e-4, source="release"),
        EMBEDDING_SIZE.but(source="release: 64"),
        FEATURE_ENCODER,
        N_LAYERS.but(default=3, source="release"),
        Setting(
            "fusion",
            "concat",
            "concat: a linear map of all branches; mean",
            OneOf("concat", "mean"),
            source="release: concat",
        ),
        Setting("temperature", 0.2, "of the main loss", Number(above=0), source="release"),
        Setting(
            "ssl_task",
            "fac",
            "fine and coarse, feature dropout or feature masking",
            OneOf("fac", "fd", "fm"),
            source="release: fac",
        ),
        Setting(
            "ssl_temperature",
            0.2,
            "of the task",
            Number(above=0),
            source="release",
            search=Search.choice(0.1, 0.2, 0.5, 1.0, source="the benchmarks' grid on Amazon"),
        ),
        Setting(
            "ssl_weight",
            0.1,
            "of the task; 0: no task, and none of its layers",
            Number(least=0),
            source="release",
            search=Search.choice(0.01, 0.05, 0.1, 0.5, 1.0, source="the benchmarks' grid on Amazon"),
        ),
        Setting("ssl_dropout", 0.3, "of ssl_task fd", Number(least=0, below=1), source="release"),
    )

    encoder: ModalityEncoder

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        width = self.embedding_size
        self.n_layers = int(config["n_layers"])
        self.temperature = float(config["temperature"])
        self.ssl_temperature = float(config["ssl_temperature"])
        self.ssl_weight, self.ssl_dropout = float(config["ssl_weight"]), float(config["ssl_dropout"])
        self.task = config["ssl_task"] if self.ssl_weight else None
        self.fusion = config["fusion"]
        self.adjacency = training_adjacency(dataset, "sym")
        features = dataset.modalities
        self.encoder = make_encoder(
            config,
            lambda size: LinearEncoder(
                features, size, normalize=True, init="xavier_uniform", zero_bias=False
            ),
            width,
        )
        self.user_embedding, self.item_embedding = id_tables(self.n_users, self.n_items, width)
        self.branches = [ID, *self.modalities]
        if self.fusion == "concat":
            self.user_fusion = nn.Linear(len(self.branches) * width, width)
            self.item_fusion = nn.Linear(len(self.branches) * width, width)
        if self.task == "fac":
            # every stage keeps the width but the last, which halves it
            widths = [width] * (len(self.modalities) - 1) + [width // 2]
            self.coarse = nn.ModuleDict(
                {m: nn.Linear(width, w) for m, w in zip(self.modalities, widths, strict=True)}
            )
            self.fine = nn.ModuleDict(
                {m: nn.Linear(width, w) for m, w in zip(self.modalities, widths, strict=True)}
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw ids, encoder and all linear layers anew: weights Xavier uniform, biases as torch does."""
        reset_tables(self.user_embedding, self.item_embedding)
        for layer in (m for m in self.modules() if isinstance(m, nn.Linear)):
            layer.reset_parameters()
            nn.init.xavier_uniform_(layer.weight)

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """Return the fused branches; ``views``: their layer-0 item rows, and ``branches``, their outputs."""
        inputs = {ID: self.item_embedding.weight, **{m: latents[m] for m in self.modalities}}
        propagated = self.branch_outputs(inputs)
        user, item = self.fuse(propagated)
        views = {**inputs, "branches": propagated}
        return Encoded(user, item, self.user_embedding.weight, self.item_embedding.weight, views)

    def branch_outputs(self, inputs: Mapping[str, Tensor], dropout: float = 0.0) -> Tensor:
        """Return all branches side by side, ``[U + N, (1 + M) d]``.

        One propagation of the concatenation is one of each.
        """
        user0 = self.user_embedding.weight
        nodes = torch.cat([user0.repeat(1, len(inputs)), torch.cat(list(inputs.values()), dim=1)])
        if not dropout:
            return mean_propagation(self.adjacency, nodes, self.n_layers)
        total = layer = nodes
        for _ in range(self.n_layers):
            layer = F.dropout(self.adjacency(layer), dropout, self.training)
            total = total + layer
        return total / (self.n_layers + 1)

    def fuse(self, propagated: Tensor) -> tuple[Tensor, Tensor]:
        """Return the user and item rows of the branches' outputs: their linear map, or their mean."""
        user, item = propagated.split([self.n_users, self.n_items])
        if self.fusion == "concat":
            return self.user_fusion(user), self.item_fusion(item)
        parts = [x.view(x.shape[0], len(self.branches), -1).mean(dim=1) for x in (user, item)]
        return parts[0], parts[1]

    def ranking_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``nce`` and the term of the task."""
        users, items, outputs, views = batch.users, batch.positives, batch.outputs, batch.encoded.views
        losses = {
            "nce": in_batch_contrast(
                F.embedding(users, outputs.user), F.embedding(items, outputs.item), self.temperature
            )
        }
        if self.task == "fac":
            losses["fac"] = self.ssl_weight * self.fine_and_coarse(
                F.embedding(items + self.n_users, views["branches"])
            )
        elif self.task is not None:
            losses[self.task] = self.ssl_weight * self.two_views(users, items, views)
        return losses

    def fine_and_coarse(self, branches: Tensor) -> Tensor:
        """Return the sum of the stages' cross entropies, given the items' branch rows ``[B, (1 + M) d]``."""
        x, *views = branches.split(self.embedding_size, dim=1)
        target = torch.arange(branches.shape[0], device=branches.device)
        loss: float | Tensor = 0.0
        for name, view in zip(self.modalities, views, strict=True):
            x = self.coarse[name](x)
            loss = loss + F.cross_entropy(x @ self.fine[name](view).T / self.ssl_temperature, target)
        return cast("Tensor", loss)

    def two_views(self, users: Tensor, items: Tensor, views: Mapping[str, Tensor]) -> Tensor:
        """Return the contrast of two views of the batch's users and items, by dropout or by masks."""
        inputs = {b: views[b] for b in self.branches}
        if self.task == "fd":
            outputs = [self.fuse(self.branch_outputs(inputs, self.ssl_dropout)) for _ in range(2)]
        else:
            # two different branches, each masked in one view
            masked = torch.randperm(len(self.branches))[:2].tolist()
            outputs = [
                self.fuse(self.branch_outputs({b: x * float(b != hidden) for b, x in inputs.items()}))
                for hidden in (self.branches[i] for i in masked)
            ]
        (user_a, item_a), (user_b, item_b) = outputs
        t = self.ssl_temperature
        of_users = in_batch_contrast(F.embedding(users, user_a), F.embedding(users, user_b), t)
        return of_users + in_batch_contrast(F.embedding(items, item_a), F.embedding(items, item_b), t)

    def user_content(self) -> UserContent:
        """Return the user table, once per modality: it is the layer 0 of every branch."""
        return repeated_content(self.user_embedding, len(self.modalities), self.encoder)
