"""Interventions on the features of a trained model: a modality's rows shuffled, or the modality removed."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_ib.data.dataset import MultimodalDataset
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.layers.encoder import LinearEncoder


class Shuffled:
    """A modality whose rows are permuted among the items that have one: item i gets that of ``source[i]``.

    Args:
        known: bool ``[n_items]``, items with a feature of their own; the others, and padding, keep their row.
        rng: where the permutation comes from.
    """

    def __init__(self, known: Tensor, rng: np.random.Generator):
        ids = torch.nonzero(known).flatten()
        self.source = torch.arange(known.numel())
        self.source[ids] = ids[torch.from_numpy(rng.permutation(ids.numel()))]

    def table(self, table: Tensor) -> Tensor:
        """Return the changed feature table."""
        return table[self.source.to(table.device)]

    def graph(self, graph: sp.csr_array) -> sp.csr_array:
        """Return the changed ready item graph."""
        source = self.source.numpy()
        return sp.csr_array(graph[source][:, source])

    def known(self, known: Tensor) -> Tensor:
        """Return which items count as having the modality."""
        return known


class Removed:
    """A modality without information.

    The mean row of the items ``known`` to have one stands for all items, and no item has neighbors.
    """

    def __init__(self, known: Tensor):
        self.had = known

    def table(self, table: Tensor) -> Tensor:
        """Return the changed feature table."""
        flat = table.clone()
        flat[1:] = table[self.had.to(table.device)].mean(dim=0, dtype=torch.float64).to(table.dtype)
        return flat

    def graph(self, graph: sp.csr_array) -> sp.csr_array:
        """Return the changed ready item graph."""
        # an item without a neighbor is linked to itself, in graphs computed from features as in ready ones;
        # padding is not
        items = np.arange(1, graph.shape[0])
        return sp.csr_array((np.ones(items.size, dtype=np.float32), (items, items)), shape=graph.shape)

    def known(self, known: Tensor) -> Tensor:
        """Return which items count as having the modality."""
        # one item keeps it: models take means over the items that have a modality when they are built, and
        # one item has no neighbors
        kept = torch.zeros_like(known)
        kept[torch.nonzero(known).max()] = True
        return kept


Change = Shuffled | Removed


def altered_dataset(dataset: MultimodalDataset, changes: Mapping[str, Change]) -> MultimodalDataset:
    """Return a view of a data set whose features, and ready item graphs, are changed.

    All else is shared with the original.
    """
    view = copy.copy(dataset)
    for attribute, method in (("modalities", "table"), ("has_feature", "known"), ("item_graphs", "graph")):
        values = dict(getattr(dataset, attribute))
        values.update({m: getattr(change, method)(values[m]) for m, change in changes.items() if m in values})
        setattr(view, attribute, values)
    view.graph_cache = None
    return view


def alter_trained_tables(
    network: nn.Module, widths: Mapping[str, int], changes: Mapping[str, Change]
) -> None:
    """Change the feature tables that a model has trained, in place.

    They are weights, and come from the checkpoint.

    Args:
        network: every :class:`recbole_ib.model.layers.encoder.LinearEncoder` in it with ``tuned`` tables is
            changed. A table is that of the modality of its name, or all modalities side by side (VBPR).
        widths: columns of every modality, in the model's order.
        changes: per modality.

    Raises:
        ConfigurationError: a trained table that is neither.
    """
    for module in network.modules():
        if not isinstance(module, LinearEncoder) or not module.tuned:
            continue
        for name in module.modalities:
            table = module.table(name)
            if name in widths:
                parts = {name: table}
            elif table.shape[1] == sum(widths.values()):
                parts = dict(zip(widths, table.split(list(widths.values()), dim=1), strict=True))
            else:
                raise ConfigurationError(
                    f"the trained table {name!r} has {table.shape[1]} columns: it is no modality "
                    f"({', '.join(widths)}) nor all of them side by side, so what to change in it is "
                    "unknown. raw_features: frozen leaves the features as they are"
                )
            with torch.no_grad():
                for m, part in parts.items():
                    if m in changes:
                        part.copy_(changes[m].table(part))
