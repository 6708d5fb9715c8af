"""BPR on id embeddings and projected text."""

import torch
from common.abstract_recommender import GeneralRecommender
from torch import nn
from utils.helpers import bpr


class PlainBPR(GeneralRecommender):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.config, self.loader, self.seen = config, dataset, None
        self.user = nn.Embedding(self.n_users, config["embedding_size"])
        self.item = nn.Embedding(self.n_items, config["embedding_size"])
        self.text = nn.Linear(self.t_feat.shape[1], config["embedding_size"]) if self.t_feat is not None else None
        self.unused = nn.Linear(2, 2)
        self.weights = config["layer_weights"]
        self.dropout, self.reg_weight = config["dropout"], config["reg_weight"]
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)

    def items(self):
        return self.item.weight + (0 if self.text is None else self.text(self.t_feat))

    def calculate_loss(self, interaction):
        self.seen = interaction.clone()
        users, items = self.user.weight, self.items()
        interaction[1:] += 0  # some models write into the batch
        u, p, n = users[interaction[0]], items[interaction[1]], items[interaction[2]]
        return bpr(u, p, n) + self.reg_weight * torch.ones(1) * (u.square().mean() + p.square().mean())

    def full_sort_predict(self, interaction):
        return self.user.weight[interaction[0]] @ self.items().T
