"""RecBole's evaluation collector without its dense matrices of hits: the same numbers, and one search for the top k a batch."""

from __future__ import annotations

import recbole.trainer.trainer
import torch
from recbole.evaluator import Collector
from torch import Tensor

#: what this collector gathers itself; the rest of what metrics need is RecBole's
RANKED = ("rec.items", "rec.topk")


class RankingCollector(Collector):
    """RecBole's ``Collector``; a hit is looked up among the user's own positives.

    RecBole marks the positives in a matrix of users x items and sums its rows, which costs more than the ranking itself.
    """

    def __init__(self, config):
        super().__init__(config)
        self._ranked: dict[str, list[Tensor]] = {name: [] for name in RANKED if self.register.need(name)}
        for name in self._ranked:
            delattr(self.register, name)

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        if self._ranked:
            top = torch.topk(scores_tensor, max(self.topk), dim=-1).indices
            found = {
                "rec.items": lambda: top,
                "rec.topk": lambda: hits(top, positive_u, positive_i, scores_tensor.shape[1]),
            }
            for name, batches in self._ranked.items():
                batches.append(found[name]().cpu())
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)

    def get_data_struct(self):
        for name, batches in self._ranked.items():
            if batches:
                self.data_struct.set(name, torch.cat(batches))
                batches.clear()
        return super().get_data_struct()


def hits(top: Tensor, positive_u: Tensor, positive_i: Tensor, n_items: int) -> Tensor:
    """Which of the ranked items are positives (0 or 1), and how many positives a user has: int64 ``[n_users, k + 1]``.

    Args:
        top: ranked items, int64 ``[n_users, k]``.
        positive_u, positive_i: the user's row and the item of every positive, int64 ``[n]``, in any order.
        n_items: more than any item id.
    """
    n_users = top.shape[0]
    # distinct: in RecBole's matrix a pair that is given twice counts once
    keys = torch.unique(positive_u.to(top.device) * n_items + positive_i.to(top.device))
    lengths = torch.bincount(keys // n_items, minlength=n_users)
    if not keys.numel():
        return torch.cat([torch.zeros_like(top), lengths.unsqueeze(1)], dim=1)
    ranked = top + torch.arange(n_users, device=top.device).unsqueeze(1) * n_items
    found = keys[torch.searchsorted(keys, ranked).clamp_max_(keys.numel() - 1)] == ranked
    return torch.cat([found.long(), lengths.unsqueeze(1)], dim=1)


def patch() -> None:
    """Let every trainer of RecBole's collect this way."""
    recbole.trainer.trainer.Collector = RankingCollector
