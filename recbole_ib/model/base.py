"""Base of all models: the training step in the order of IBMRec's Algorithm 1, and scoring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor
from torch.nn import functional as F

from recbole_ib.model.bottleneck import Bottleneck, Composed, batch_subset_of
from recbole_ib.model.graphs import required_modalities
from recbole_ib.model.layers.encoder import ModalityEncoder
from recbole_ib.model.losses import bpr, total
from recbole_ib.model.scoring import EmbeddingScorer
from recbole_ib.model.settings import Declaration
from recbole_ib.model.types import Batch, BatchSubset, Encoded, ItemGraph, NamedLosses, Outputs, Phase
from recbole_ib.model.user_content import UserContent


class MultimodalRecommender(EmbeddingScorer, metaclass=Composed):
    """RecBole's ``GeneralRecommender`` on the TRAINING part of a data set with modalities.

    A backbone overrides :meth:`encode` and, as it needs, :meth:`latents`, :meth:`item_graph`,
    :meth:`apply_item_graph` and :meth:`ranking_losses`. It does not mention bottlenecks: they are modules in
    ``ib``, attached by the class attribute ``bottlenecks`` or the key ``bottleneck``
    (:mod:`recbole_ib.model.bottleneck`), and work on what these five methods return.

    Raises:
        ConfigurationError: the data set has no modality.
    """

    input_type = InputType.PAIRWISE
    settings: ClassVar[tuple[Declaration, ...]] = ()
    #: the bottlenecks of the class; any other model takes them by the key ``bottleneck``
    bottlenecks: ClassVar[tuple[str, ...]] = ()
    #: what :meth:`item_graph` returns: one graph of all modalities (``shared``) or one per ``modality``
    item_graph_kind: ClassVar[Literal["shared", "modality"] | None] = None
    #: where the latents act: in the ``score``, in the item ``graph`` alone (and train in the first batch of
    #: an epoch), in the ``loss`` alone
    latents_role: ClassVar[Literal["score", "graph", "loss"]] = "score"
    #: whether a batch's loss is the mean over its rows and nothing is drawn per row, so that processes may
    #: share a batch; not inherited
    row_mean_losses: ClassVar[bool] = False

    #: the bottlenecks by name: a ``ModuleDict``, filled when the last ``__init__`` has returned
    ib: Mapping[str, Bottleneck]

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.modalities = required_modalities(config, dataset, type(self).__name__)
        self.embedding_size = int(config["embedding_size"])
        self.reg_weight = float(config["reg_weight"] or 0.0)
        self.encoder: ModalityEncoder | None = None

    @property
    def feature_encoder(self) -> ModalityEncoder | None:
        """What encodes the features: the model's own ``encoder``, or that of the backbone that it wraps."""
        return self.encoder

    # -- what a backbone defines -----------------------------------------------------------------------------

    def latents(self, items: Tensor | None = None) -> Mapping[str, Tensor]:
        """Return Z^k by name, ``[n_items, d]``, or ``[n, d]`` of some items; empty without an encoder."""
        return {} if self.encoder is None else self.encoder(items)

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """Return user and item rows without the item graph; with ``items``, the item rows of these alone."""
        raise NotImplementedError

    def item_graph(self, latents: Mapping[str, Tensor]) -> ItemGraph:
        """Return the item graph S with its current weights."""
        return None

    def apply_item_graph(self, encoded: Encoded, graph: ItemGraph, nodes: Tensor | None = None) -> Outputs:
        """Return what is scored on an item graph; rows outside ``nodes`` may be NaN (:func:`split_nodes`)."""
        return Outputs(encoded.user, encoded.item)

    def ranking_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``bpr`` and ``reg``, lambda |layer-0 rows|^2 / batch size (IBMRec Eq. 29; LightGCN)."""
        losses = {"bpr": bpr(*batch.triplets())}
        items = batch.item_rows(torch.cat([batch.positives, batch.negatives]))
        rows = (F.embedding(batch.users, batch.encoded.user0), F.embedding(items, batch.encoded.item0))
        losses["reg"] = self.reg_weight * (total(r.square().sum() for r in rows) / batch.users.numel())
        return losses

    def user_content(self) -> UserContent | None:
        """Return the users' content preferences, which L_2 of IBMRec trains; ``None``: the model has none."""
        return None

    def batch_subset(self, interaction: Interaction) -> BatchSubset:
        """Return the rows that a batch's losses read; a subclass that reads others restates it or has all."""
        return BatchSubset()

    def pre_epoch(self, epoch: int) -> None:
        """Rebuild what belongs to an epoch; the trainer calls it before every one."""

    # -- training --------------------------------------------------------------------------------------------

    def calculate_loss(self, interaction: Interaction) -> NamedLosses:
        """Return the loss terms of a batch: IBMRec's Algorithm 1, lines 4 to 9; a plain backbone has two."""
        subset = batch_subset_of(self, interaction)
        latents = self.training_latents(subset.latents)  # Z^k; MRdIB draws them
        encoded = self.encode(latents, subset.items)  # on the user-item graph (Eq. 4-7)
        graph = subset.graph_rows(self.item_graph(latents))  # line 1: S
        refined = self.refine(graph, latents)  # line 4: S' (Eq. 23-24)
        outputs = self.apply_item_graph(encoded, refined, subset.nodes)  # line 5: users and items (Eq. 13)
        batch = Batch.of(self, interaction, subset, latents, encoded, graph, refined, outputs)
        losses = self.ranking_losses(batch)  # line 6: L_rec (Eq. 29)
        for bottleneck in self.ib.values():
            losses |= bottleneck.losses(self, batch)  # lines 7, 8: HSIC(Z, M) (Eq. 22), HSIC(Y', Y) (Eq. 28)
        return NamedLosses(losses)  # line 9: L_1, their sum (Eq. 30)

    def training_latents(self, items: Tensor | None = None) -> Mapping[str, Tensor]:
        """Return the latents of a training step: :meth:`latents`, unless a bottleneck draws them."""
        source = next((b for b in self.ib.values() if b.replaces_latents), None)
        return self.latents(items) if source is None else source.latents(self, items)

    def refine(self, graph: ItemGraph, latents: Mapping[str, Tensor]) -> ItemGraph:
        """Return the item graph as the bottlenecks leave it."""
        for bottleneck in self.ib.values():
            graph = bottleneck.item_graph(self, graph, latents)
        return graph

    def phases(self) -> list[Phase]:
        """Return the optimizer steps of every batch, in order: the model's own, with those of bottlenecks."""
        phases = [Phase("model", self.calculate_loss, lambda: list(self.parameters()), main=True)]
        for bottleneck in self.ib.values():
            phases = bottleneck.phases(self, phases)
        return phases

    # -- scoring ---------------------------------------------------------------------------------------------

    def forward(self, latents: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return the outputs of all users and items, ``[n_users, D]`` and ``[n_items, D]``."""
        if latents is None:
            read = self.training_latents if self.training else self.latents
            latents = read() if self.latents_in_score else {}
        graph = self.item_graph(latents)
        return self.apply_item_graph(self.encode(latents), self.refine(graph, latents))[:2]

    @property
    def latents_in_score(self) -> bool:
        """Whether a ranking reads the latents, itself or by a bottleneck's gate."""
        return self.latents_role != "loss" or any(b.reads_every_latent for b in self.ib.values())
