"""What bottlenecks know of a data set: the items that users like, and rows that stand for a table."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_ib.bottleneck.contrastive import KnownPositives, known_positives


class KnownItems(nn.Module):
    """The items of every user's training interactions, to be left out of a contrast's negatives.

    Args:
        dataset: the training data of the model.
    """

    pointers: Tensor
    items: Tensor

    def __init__(self, dataset: Any):
        super().__init__()
        matrix = dataset.inter_matrix(form="csr")
        self.n_items = matrix.shape[1]
        for name, array in (("pointers", matrix.indptr), ("items", matrix.indices)):
            self.register_buffer(name, torch.from_numpy(array).long(), persistent=False)

    def among(self, users: Tensor, items: Tensor) -> KnownPositives:
        """Return which of the DISTINCT ``items`` each user likes, rows as ``users``."""
        return known_positives(KnownPositives(self.pointers, self.items), users, items, self.n_items)


def spread_ids(mask: Tensor, most: int = 2000) -> Tensor:
    """Return evenly spaced ones of the positions that are True.

    They are the same in every process and after a resume.
    """
    ids = mask.nonzero().flatten()
    return ids[torch.linspace(0, ids.numel() - 1, min(most, ids.numel()), device=ids.device).long()]
