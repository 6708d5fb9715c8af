"""What flows between the parts of a model."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ib.graph import EdgeGraph


class Phase(NamedTuple):
    """One optimizer step of every batch: ``loss`` and ``parameters`` name methods of the model.

    rate: the step's learning rate as a multiple of ``learning_rate``.
    """

    name: str
    loss: str
    parameters: str
    rate: float = 1.0


class NamedLosses(tuple):
    """A tuple of loss terms that knows their names; RecBole's trainer sums it as any tuple."""

    names: tuple[str, ...]

    def __new__(cls, terms: Mapping[str, Tensor]):
        self = super().__new__(cls, terms.values())
        self.names = tuple(terms)
        return self


class Encoded(NamedTuple):
    """What a backbone knows before the item graph is applied.

    user: ``[n_users, D]``; item: ``[rows, D]``, from the user-item graph (of MMGCN, which has one a modality, the id rows); item0:
    ``[rows, D]``, the layer-0 item rows that the item graph propagates; user0: ``[n_users, D]``, the layer-0 user rows; views: by
    name, what else a model's own graph or loss reads.
    """

    user: Tensor
    item: Tensor
    user0: Tensor
    item0: Tensor
    views: Mapping[str, Tensor] = MappingProxyType({})


class Joined(NamedTuple):
    """What :meth:`MultimodalRecommender.join` makes of an encoding and an item graph: outputs ``[n_users, D]`` and ``[rows, D]``.

    views: by name, what else a model's own loss reads.
    """

    user: Tensor
    item: Tensor
    views: Mapping[str, Tensor] = MappingProxyType({})


class BatchPass(NamedTuple):
    """Everything that one batch's forward pass computes, for the losses to read.

    rows, latent_rows: the item rows of ``encoded`` and ``joined``, and of ``latents``, as sorted distinct ids; ``None`` for all.
    graph: the backbone's item graph(s); ranking_graph: the one that ``joined`` was made with. output_rows: see
    :meth:`MultimodalRecommender.output_rows`.
    """

    interaction: Interaction
    rows: Tensor | None
    latent_rows: Tensor | None
    latents: Mapping[str, Tensor]
    encoded: Encoded
    graph: EdgeGraph | Mapping[str, EdgeGraph] | None
    ranking_graph: EdgeGraph | Mapping[str, EdgeGraph] | None
    joined: Joined
    output_rows: Tensor | None = None

    def at(self, items: Tensor) -> Tensor:
        """Where the given items stand in ``joined.item``."""
        return items if self.rows is None else torch.searchsorted(self.rows, items)

    def latents_at(self, items: Tensor) -> Tensor:
        """Where the given items stand in ``latents``."""
        return items if self.latent_rows is None else torch.searchsorted(self.latent_rows, items)
