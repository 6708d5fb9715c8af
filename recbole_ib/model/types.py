"""What flows between the parts of a model in one training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError
from recbole_ib.graph import EdgeGraph
from recbole_ib.model.user_content import UserContent

if TYPE_CHECKING:
    from recbole.data.interaction import Interaction

#: one graph of all modalities, one per modality, or none
ItemGraph: TypeAlias = EdgeGraph | Mapping[str, EdgeGraph] | None


class NamedLosses(tuple):
    """A tuple of loss terms with their ``names``; RecBole's trainer sums it as any tuple."""

    names: tuple[str, ...]

    def __new__(cls, terms: Mapping[str, Tensor]) -> NamedLosses:
        """Return the values of ``terms``, with their names."""
        self = super().__new__(cls, terms.values())
        self.names = tuple(terms)
        return self


class Phase(NamedTuple):
    """One optimizer step of every batch.

    Attributes:
        name: of the step, in logs and checkpoints.
        loss: batch -> its loss terms.
        parameters: returns what the step updates.
        rate: the learning rate of the step as a multiple of ``learning_rate``.
        main: the step of the model's own loss, which takes the weight decay and is RecBole's ``optimizer``.
    """

    name: str
    loss: Callable[[Interaction], tuple[Tensor, ...]]
    parameters: Callable[[], Sequence[Tensor]]
    rate: float = 1.0
    main: bool = False


class Encoded(NamedTuple):
    """What a backbone computes before the item graph is applied.

    Attributes:
        user: ``[n_users, D]``.
        item: ``[rows, D]``, from the user-item graph (of MMGCN, which has one per modality, the id rows).
        user0: ``[n_users, D]``, the layer-0 user rows.
        item0: ``[rows, D]``, the layer-0 item rows, which the item graph propagates.
        views: by name, what else the model's own graph or loss reads.
    """

    user: Tensor
    item: Tensor
    user0: Tensor
    item0: Tensor
    views: Mapping[str, Tensor] = MappingProxyType({})


class Outputs(NamedTuple):
    """What is scored.

    Attributes:
        user: ``[n_users, D]``.
        item: ``[rows, D]``.
        views: by name, what else the model's own loss reads.
    """

    user: Tensor
    item: Tensor
    views: Mapping[str, Tensor] = MappingProxyType({})


class BatchSubset(NamedTuple):
    """The rows that the losses of a batch read; ``None``: all.

    Attributes:
        latents: items whose latents are read, sorted and distinct.
        items: items whose encoded rows and outputs are read, sorted and distinct.
        nodes: nodes (users, then items) whose outputs are read, sorted and distinct; the other outputs may be
            NaN.
        graph_items: items whose row of the item graph is read, in any order, also several times.
    """

    latents: Tensor | None = None
    items: Tensor | None = None
    nodes: Tensor | None = None
    graph_items: Tensor | None = None

    def graph_rows(self, graph: ItemGraph) -> ItemGraph:
        """Return an item graph with the rows that are read; :attr:`graph_items` go with one shared graph."""
        return graph if self.graph_items is None else cast("EdgeGraph", graph).of_rows(self.graph_items)


@dataclass(frozen=True)
class Batch:
    """One batch and everything that its forward pass computes, for the losses to read.

    Attributes:
        interaction: RecBole's batch.
        users: its user ids ``[B]``.
        positives: its item ids ``[B]``.
        sampled_negatives: ids ``[B]``, or ``None`` for a model that ranks no sampled items.
        subset: the rows that were computed.
        latents: Z^k by name, ``[n_items, d]`` or ``[len(subset.latents), d]``.
        encoded: rows before the item graph.
        graph: the backbone's item graph S.
        refined: S', the item graph of the bottlenecks, or S.
        outputs: rows on ``refined``.
    """

    interaction: Interaction
    users: Tensor
    positives: Tensor
    sampled_negatives: Tensor | None
    subset: BatchSubset
    latents: Mapping[str, Tensor]
    encoded: Encoded
    graph: ItemGraph
    refined: ItemGraph
    outputs: Outputs

    @classmethod
    def of(cls, model: Backbone, interaction: Interaction, *computed: Any) -> Batch:
        """Return a batch of RecBole's with what a model has computed of it: the fields from ``subset`` on."""
        sampled = interaction[model.NEG_ITEM_ID] if model.NEG_ITEM_ID in interaction.columns else None
        return cls(interaction, interaction[model.USER_ID], interaction[model.ITEM_ID], sampled, *computed)

    @property
    def negatives(self) -> Tensor:
        """The sampled negative items, ``[B]``.

        Raises:
            ConfigurationError: the batch has none.
        """
        if self.sampled_negatives is None:
            raise ConfigurationError("the model's loss reads sampled negatives; set train_neg_sample_args")
        return self.sampled_negatives

    @cached_property
    def items(self) -> Tensor:
        """The distinct positive items, sorted: what the bottlenecks call the batch's items."""
        return torch.unique(self.positives)

    def item_rows(self, items: Tensor) -> Tensor:
        """Return where items stand in ``encoded.item`` and ``outputs.item``."""
        return positions(items, self.subset.items)

    def latent_rows(self, items: Tensor) -> Tensor:
        """Return where items stand in ``latents``."""
        return positions(items, self.subset.latents)

    def triplets(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the output rows of users, positive and negative items, ``[B, D]`` each."""
        # one gather for positives and negatives together: the backward scatters once. F.embedding, not
        # indexing, whose backward adds in the order of the threads: two runs with one seed would differ on
        # several CPU threads
        items = F.embedding(self.item_rows(torch.cat([self.positives, self.negatives])), self.outputs.item)
        positive, negative = items.split(self.positives.numel())
        return F.embedding(self.users, self.outputs.user), positive, negative


def positions(items: Tensor, rows: Tensor | None) -> Tensor:
    """Return where ``items`` stand in the sorted distinct ``rows``; ``None``, which means all: themselves."""
    return items if rows is None else torch.searchsorted(rows, items)


def distinct(*ids: Tensor) -> Tensor:
    """Return the distinct ids of several tensors, sorted."""
    return torch.unique(torch.cat(ids))


def item_graph_subset(num_layers: int, *items: Tensor) -> BatchSubset:
    """Return the subset of a model whose losses read the outputs of ``items`` alone.

    In a one-layer item graph each of them reads its own row.
    """
    return BatchSubset(graph_items=torch.cat(items)) if num_layers == 1 else BatchSubset()


def some(ids: Tensor, most: int) -> Tensor:
    """Return at most ``most`` of some ids, drawn without replacement from torch's generator; 0: all.

    They keep their order. A mean over pairs of a batch's rows is estimated by such a sample without bias, at
    a cost that no longer grows with the batch.
    """
    if not most or ids.numel() <= most:
        return ids
    return ids[torch.randperm(ids.numel(), device=ids.device)[:most].sort().values]


def batch_nodes(n_users: int, users: Tensor, *items: Tensor) -> Tensor:
    """Return the distinct users and items of a batch as nodes, users first."""
    return distinct(users, *(n_users + ids for ids in items))


def split_nodes(
    outputs: Tensor, n_users: int, n_items: int, nodes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the rows of all users and of all items, given the outputs of nodes.

    Args:
        outputs: ``[n, D]``.
        n_users: the number of users, which are the first nodes.
        n_items: the number of items.
        nodes: the node of each row; ``None``: the rows are those of all nodes. Every other row becomes NaN,
            not 0: a loss that reads a row that was not computed is not finite, and training stops with
            that message.
    """
    if nodes is not None:
        empty = outputs.new_full((n_users + n_items, outputs.shape[1]), torch.nan)
        outputs = empty.index_copy(0, nodes, outputs)
    user, item = outputs.split([n_users, n_items])
    return user, item


class Backbone(Protocol):
    """What a bottleneck reads of the model that holds it.

    The names are RecBole's and those of :class:`recbole_ib.model.base.MultimodalRecommender`.
    """

    USER_ID: str
    ITEM_ID: str
    NEG_ITEM_ID: str
    training: bool
    n_users: int
    n_items: int
    embedding_size: int
    modalities: list[str]
    item_embedding: nn.Embedding
    logger: Any

    @property
    def item_graph_kind(self) -> str | None:
        """Whether there is one item graph, one per modality, or none."""

    @property
    def latents_role(self) -> str:
        """Where the latents act."""

    @property
    def latents_in_score(self) -> bool:
        """Whether a ranking reads the latents."""

    @property
    def feature_encoder(self) -> Any:
        """The :class:`recbole_ib.model.layers.encoder.ModalityEncoder` of the model, or ``None``."""

    @property
    def ib(self) -> Mapping[str, Any]:
        """The bottlenecks by name."""

    def latents(self, items: Tensor | None = None) -> Mapping[str, Tensor]:
        """Return Z^k by name."""

    def training_latents(self, items: Tensor | None = None) -> Mapping[str, Tensor]:
        """Return the latents of a training step, which a bottleneck may draw."""

    def item_graph(self, latents: Mapping[str, Tensor]) -> ItemGraph:
        """Return the item graph S."""

    def refine(self, graph: ItemGraph, latents: Mapping[str, Tensor]) -> ItemGraph:
        """Return S', the item graph as the bottlenecks leave it."""

    def apply_item_graph(self, encoded: Encoded, graph: ItemGraph, nodes: Tensor | None = None) -> Outputs:
        """Return what is scored on an item graph."""

    def user_content(self) -> UserContent | None:
        """Return the users' content preferences, if the model has any."""

    def batch_subset(self, interaction: Interaction) -> BatchSubset:
        """Return the rows that the model's own losses of a batch read."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Return all parameters, those of the bottlenecks too."""

    def forward(self, latents: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return all user and item outputs."""

    def train(self, mode: bool = True) -> Any:
        """Set training or evaluation mode."""
