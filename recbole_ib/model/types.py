"""What flows between the parts of a model in one training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.graph import EdgeGraph

if TYPE_CHECKING:
    from recbole.data.interaction import Interaction

#: one graph of all modalities, one per modality, or none
ItemGraph: TypeAlias = EdgeGraph | Mapping[str, EdgeGraph] | None


class NamedLosses(tuple):
    """A tuple of loss terms with their ``names``; RecBole's trainer sums it as any tuple."""

    names: tuple[str, ...]

    def __new__(cls, terms: Mapping[str, Tensor]) -> NamedLosses:
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
    parameters: Callable[[], Sequence[nn.Parameter]]
    rate: float = 1.0
    main: bool = False


class UserContent(NamedTuple):
    """Theta_2 = [C, Z] of IBMRec Eq. 31.

    Attributes:
        rows: users ``[n]`` -> c_a ``[n, K d]``, their preferences in the space of the concatenated latents.
        parameters: returns C and Z, what makes these rows and the latents.
    """

    rows: Callable[[Tensor], Tensor]
    parameters: Callable[[], Sequence[nn.Parameter]]


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
    """What is scored: ``user`` ``[n_users, D]`` and ``item`` ``[rows, D]``; ``views``: by name, what else the model's own loss reads."""

    user: Tensor
    item: Tensor
    views: Mapping[str, Tensor] = MappingProxyType({})


class BatchSubset(NamedTuple):
    """The rows that the losses of a batch read, each as sorted distinct ids; ``None``: all.

    Attributes:
        latents: items whose latents are read.
        items: items whose encoded rows and outputs are read.
        nodes: nodes (users, then items) whose outputs are read; the other outputs may be NaN.
        graph_items: items whose row of the item graph is read.
    """

    latents: Tensor | None = None
    items: Tensor | None = None
    nodes: Tensor | None = None
    graph_items: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """One batch and everything that its forward pass computes, for the losses to read.

    Attributes:
        interaction: RecBole's batch; ``users``, ``positives``, ``negatives``: its ids ``[B]``, the last ``None`` without sampled negatives.
        subset: the rows that were computed.
        latents: Z^k by name, ``[n_items, d]`` or ``[len(subset.latents), d]``.
        encoded: before the item graph; ``graph``: the backbone's item graph S; ``refined``: S', that of the bottlenecks, or S.
        outputs: on ``refined``.
    """

    interaction: Interaction
    users: Tensor
    positives: Tensor
    negatives: Tensor | None
    subset: BatchSubset
    latents: Mapping[str, Tensor]
    encoded: Encoded
    graph: ItemGraph
    refined: ItemGraph
    outputs: Outputs

    @cached_property
    def items(self) -> Tensor:
        """The distinct positive items, sorted: what the bottlenecks call the batch's items."""
        return torch.unique(self.positives)

    def item_rows(self, items: Tensor) -> Tensor:
        """Where the given items stand in ``encoded.item`` and ``outputs.item``."""
        return positions(items, self.subset.items)

    def latent_rows(self, items: Tensor) -> Tensor:
        """Where the given items stand in ``latents``."""
        return positions(items, self.subset.latents)

    def triplets(self) -> tuple[Tensor, Tensor, Tensor]:
        """The output rows of users, positive and negative items, ``[B, D]`` each."""
        # one gather for positives and negatives together: the backward scatters once. F.embedding, not indexing, whose
        # backward adds in the order of the threads: two runs with one seed would differ on several CPU threads
        items = F.embedding(self.item_rows(torch.cat([self.positives, self.negatives])), self.outputs.item)
        positive, negative = items.split(self.positives.numel())
        return F.embedding(self.users, self.outputs.user), positive, negative


def positions(items: Tensor, rows: Tensor | None) -> Tensor:
    """Where ``items`` stand in the sorted distinct ``rows``; themselves where ``rows`` is ``None``, which means all."""
    return items if rows is None else torch.searchsorted(rows, items)


def distinct(*ids: Tensor) -> Tensor:
    """The distinct ids of several tensors, sorted."""
    return torch.unique(torch.cat(ids))


def item_graph_subset(num_layers: int, *items: Tensor) -> BatchSubset:
    """Return the subset of a model whose losses read the outputs of the given items, each by its own row of a one-layer item graph."""
    return BatchSubset(graph_items=distinct(*items)) if num_layers == 1 else BatchSubset()


def batch_nodes(n_users: int, users: Tensor, *items: Tensor) -> Tensor:
    """Return the distinct users and items of a batch as nodes, users first."""
    return distinct(users, *(n_users + ids for ids in items))


def split_nodes(outputs: Tensor, n_users: int, n_items: int, nodes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Users and items of the nodes' outputs ``[n, D]``; ``nodes``: those that these are of, and every other row becomes NaN.

    NaN and not 0: a loss that reads a row that was not computed is not finite, and training stops with that word.
    """
    if nodes is not None:
        empty = outputs.new_full((n_users + n_items, outputs.shape[1]), torch.nan)
        outputs = empty.index_copy(0, nodes, outputs)
    user, item = outputs.split([n_users, n_items])
    return user, item


class Backbone(Protocol):
    """What a bottleneck reads of the model that holds it: RecBole's names, and those of :mod:`recbole_ib.model.base`."""

    training: bool
    n_users: int
    n_items: int
    embedding_size: int
    modalities: list[str]
    item_embedding: nn.Embedding
    item_graph_kind: str | None
    latents_role: str
    latents_in_score: bool
    logger: Any
    feature_encoder: Any

    def latents(self, items: Tensor | None = None) -> Mapping[str, Tensor]: ...
    def training_latents(self, items: Tensor | None = None) -> Mapping[str, Tensor]: ...
    def item_graph(self, latents: Mapping[str, Tensor]) -> ItemGraph: ...
    def refine(self, graph: ItemGraph, latents: Mapping[str, Tensor]) -> ItemGraph: ...
    def apply_item_graph(self, encoded: Encoded, graph: ItemGraph, nodes: Tensor | None = None) -> Outputs: ...
    def user_content(self) -> UserContent | None: ...
    def batch_subset(self, interaction: Interaction) -> BatchSubset: ...
    def parameters(self, recurse: bool = True) -> Any: ...
    def forward(self, latents: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]: ...
    def train(self, mode: bool = True) -> Any: ...
