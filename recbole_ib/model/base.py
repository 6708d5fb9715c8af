"""What every multimodal recommender of this package shares: the training step, in the order of IBMRec's Algorithm 1, and scoring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.model.bottleneck import Bottleneck, Composed, batch_subset_of
from recbole_ib.model.graphs import required_modalities
from recbole_ib.model.layers.encoder import ModalityEncoder
from recbole_ib.model.losses import bpr
from recbole_ib.model.scoring import EmbeddingScorer
from recbole_ib.model.settings import Setting
from recbole_ib.model.types import Batch, BatchSubset, Encoded, ItemGraph, NamedLosses, Outputs, Phase, UserContent


class MultimodalRecommender(EmbeddingScorer, metaclass=Composed):
    """Base of all models here: RecBole's ``GeneralRecommender`` on the TRAINING part of a data set with modalities.

    A backbone overrides :meth:`encode` and, as it needs, :meth:`latents`, :meth:`item_graph`, :meth:`apply_item_graph` and
    :meth:`ranking_losses`. It does not mention bottlenecks: they are modules in ``ib``, attached by the class attribute ``bottlenecks``
    or the key ``bottleneck`` (:mod:`recbole_ib.model.bottleneck`), and work on what these five methods return.

    Raises:
        ConfigurationError: the data set has no modality.
    """

    input_type = InputType.PAIRWISE
    settings: ClassVar[tuple[Setting, ...]] = ()
    #: the bottlenecks of the class; any other model takes them by the key ``bottleneck``
    bottlenecks: ClassVar[tuple[str, ...]] = ()
    #: what :meth:`item_graph` returns: ``None``, ``shared`` (one graph of all modalities) or ``modality`` (one per modality)
    item_graph_kind: ClassVar[Literal["shared", "modality"] | None] = None
    #: where the latents act: in the ``score``, in the item ``graph`` alone (and train in the first batch of an epoch), in the ``loss`` alone
    latents_role: ClassVar[Literal["score", "graph", "loss"]] = "score"
    #: whether a batch's loss is the mean over its rows and nothing is drawn per row, so that processes may share a batch; not inherited
    row_mean_losses: ClassVar[bool] = False

    #: the bottlenecks by name, there when the last ``__init__`` has returned
    ib: nn.ModuleDict

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

    # -- what a backbone gives ------------------------------------------------------------------------------------

    def latents(self, items: Tensor | None = None) -> Mapping[str, Tensor]:
        """Return Z^k by name, ``[n_items, d]``, or of the given items ``[n, d]``; nothing without an encoder."""
        return {} if self.encoder is None else self.encoder(items)

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """Return user and item rows without the item graph; ``items``: the item rows of these alone."""
        raise NotImplementedError

    def item_graph(self, latents: Mapping[str, Tensor]) -> ItemGraph:
        """Return the item graph S with its current weights."""
        return None

    def apply_item_graph(self, encoded: Encoded, graph: ItemGraph, nodes: Tensor | None = None) -> Outputs:
        """Return what is scored, given an item graph; ``nodes``: the rows that are read, see :func:`split_nodes`."""
        return Outputs(encoded.user, encoded.item)

    def ranking_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``bpr`` and ``reg``, lambda times the squared norm of the layer-0 rows over the batch size (IBMRec Eq. 29; LightGCN)."""
        losses = {"bpr": bpr(*batch.triplets())}
        items = batch.item_rows(torch.cat([batch.positives, batch.negatives]))
        rows = (F.embedding(batch.users, batch.encoded.user0), F.embedding(items, batch.encoded.item0))
        losses["reg"] = self.reg_weight * (sum(r.square().sum() for r in rows) / batch.users.numel())
        return losses

    def user_content(self) -> UserContent | None:
        """Return the users' content preferences, which L_2 of IBMRec trains; ``None``: the model has none."""
        return None

    def batch_subset(self, interaction: Interaction) -> BatchSubset:
        """Return the rows that the losses of a batch read: an optimization, which a subclass that changes what is read restates."""
        return BatchSubset()

    def pre_epoch(self, epoch: int) -> None:
        """Rebuild what belongs to an epoch; the trainer calls it before every one."""

    # -- training -------------------------------------------------------------------------------------------------

    def calculate_loss(self, interaction: Interaction) -> NamedLosses:
        """Return the loss terms of a batch: Algorithm 1 of IBMRec, lines 4 to 9, of which a plain backbone has two."""
        subset = batch_subset_of(self, interaction)
        latents = self.training_latents(subset.latents)  # Z^k; MRdIB draws them
        encoded = self.encode(latents, subset.items)  # on the user-item graph (Eq. 4-7)
        graph = self.item_graph(latents)  # line 1: S
        graph = graph if subset.graph_items is None else graph.of_rows(subset.graph_items)
        refined = self.refine(graph, latents)  # line 4: S' (Eq. 23-24)
        outputs = self.apply_item_graph(encoded, refined, subset.nodes)  # line 5: user and item representations (Eq. 13)
        users, positives = interaction[self.USER_ID], interaction[self.ITEM_ID]
        negatives = interaction[self.NEG_ITEM_ID] if self.NEG_ITEM_ID in interaction.columns else None
        batch = Batch(interaction, users, positives, negatives, subset, latents, encoded, graph, refined, outputs)
        losses = self.ranking_losses(batch)  # line 6: L_rec (Eq. 29)
        for bottleneck in self.ib.values():
            losses.update(bottleneck.losses(self, batch))  # line 7: HSIC(Z, M) (Eq. 22); line 8: HSIC(Y', Y) (Eq. 28)
        return NamedLosses(losses)  # line 9: L_1, their sum (Eq. 30)

    def training_latents(self, items: Tensor | None = None) -> Mapping[str, Tensor]:
        """Return the latents of a training step: :meth:`latents`, unless a bottleneck draws them."""
        source: Bottleneck | None = next((b for b in self.ib.values() if b.replaces_latents), None)
        return self.latents(items) if source is None else source.latents(self, items)

    def refine(self, graph: ItemGraph, latents: Mapping[str, Tensor]) -> ItemGraph:
        """Return the item graph as the bottlenecks leave it."""
        for bottleneck in self.ib.values():
            graph = bottleneck.item_graph(self, graph, latents)
        return graph

    def phases(self) -> list[Phase]:
        """Return the optimizer steps of every batch, in order: the model's own, with those of the bottlenecks."""
        phases = [Phase("model", self.calculate_loss, lambda: list(self.parameters()), main=True)]
        for bottleneck in self.ib.values():
            phases = bottleneck.phases(self, phases)
        return phases

    # -- scoring --------------------------------------------------------------------------------------------------

    def forward(self, latents: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return all user and item outputs, ``[n_users, D]`` and ``[n_items, D]``; with replaced latents if given."""
        if latents is None:
            read = self.training_latents if self.training else self.latents
            latents = read() if self.latents_in_score else {}
        graph = self.item_graph(latents)
        return self.apply_item_graph(self.encode(latents), self.refine(graph, latents))[:2]

    @property
    def latents_in_score(self) -> bool:
        """Whether a ranking reads the latents, itself or by a bottleneck's gate."""
        return self.latents_role != "loss" or any(b.reads_every_latent for b in self.ib.values())
