"""RecBole's evaluation collector without its dense matrices of hits.

The same numbers, and one search for the top k a batch.
"""

from __future__ import annotations

import recbole.trainer.trainer
import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector
from recbole.evaluator.collector import DataStruct
from torch import Tensor

#: what this collector gathers itself; the rest of what metrics need is RecBole's
RANKED = ("rec.items", "rec.topk")


class RankingCollector(Collector):
    """RecBole's ``Collector``; a hit is looked up among the user's own positives.

    RecBole marks the positives in a matrix of users x items and sums its rows, which costs more than the
    ranking itself.
    """

    def __init__(self, config: Config):
        super().__init__(config)
        self._ranked: dict[str, list[Tensor]] = {name: [] for name in RANKED if self.register.need(name)}
        for name in self._ranked:
            delattr(self.register, name)

    def eval_batch_collect(
        self, scores_tensor: Tensor, interaction: Interaction, positive_u: Tensor, positive_i: Tensor
    ) -> None:
        """Collect what the metrics need of a batch."""
        if self._ranked:
            top = torch.topk(scores_tensor, max(self.topk), dim=-1).indices
            tables = {
                "rec.items": lambda: top,
                "rec.topk": lambda: hits(top, positive_u, positive_i, scores_tensor.shape[1]),
            }
            for name, batches in self._ranked.items():
                batches.append(tables[name]().cpu())
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)

    def get_data_struct(self) -> DataStruct:
        """Return what was collected, and begin anew."""
        for name, batches in self._ranked.items():
            if batches:
                self.data_struct.set(name, torch.cat(batches))
                batches.clear()
        return super().get_data_struct()


def hits(top: Tensor, positive_u: Tensor, positive_i: Tensor, n_items: int) -> Tensor:
    """Return which of the ranked items are positives, and how many positives a user has.

    Args:
        top: ranked items, int64 ``[n_users, k]``.
        positive_u: the user's row of every positive, int64 ``[n]``, in any order.
        positive_i: its item.
        n_items: more than any item id.

    Returns:
        0 or 1 per ranked item, then the number of positives, int64 ``[n_users, k + 1]``.
    """
    n_users = top.shape[0]
    # distinct: in RecBole's matrix a pair that is given twice counts once
    keys = torch.unique(positive_u.to(top.device) * n_items + positive_i.to(top.device))
    lengths = torch.bincount(keys // n_items, minlength=n_users)
    if not keys.numel():
        return torch.cat([torch.zeros_like(top), lengths.unsqueeze(1)], dim=1)
    ranked = top + torch.arange(n_users, device=top.device).unsqueeze(1) * n_items
    is_hit = keys[torch.searchsorted(keys, ranked).clamp_max_(keys.numel() - 1)] == ranked
    return torch.cat([is_hit.long(), lengths.unsqueeze(1)], dim=1)


def patch() -> None:
    """Let every trainer of RecBole's collect this way."""
    recbole.trainer.trainer.Collector = RankingCollector
