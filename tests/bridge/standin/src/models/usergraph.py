"""Reads a user graph, scores with a table that training leaves behind, and counts the hooks of the epochs."""

import os

import numpy as np
import torch
from common.abstract_recommender import GeneralRecommender
from torch import nn


class UserGraph(GeneralRecommender):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        folder = config["data_path"] + config["dataset"]
        self.graph = np.load(os.path.join(folder, config["user_graph_dict_file"]), allow_pickle=True).item()
        self.user, self.item = nn.Embedding(self.n_users, 8), nn.Embedding(self.n_items, 8)
        self.constant = torch.rand(self.n_users, 8, requires_grad=True).to(self.device)
        self.result = nn.Parameter(torch.zeros(self.n_users + self.n_items, 8)).to(self.device)
        self.alias = None
        self.events, self.epochs_begun, self.sampled = [], 0, None

    def pre_epoch_processing(self):
        self.events.append("pre")
        self.epochs_begun += 1
        first = [neighbors[0] if neighbors else 0 for neighbors, _ in (self.graph[u] for u in range(self.n_users))]
        self.sampled = torch.tensor(first)

    def post_epoch_processing(self):
        self.events.append("post")
        return "epoch done"

    def forward(self, interaction):
        interaction[1] += self.n_users
        interaction[2] += self.n_users
        self.alias = self.user.weight
        users = self.alias + self.user.weight[self.sampled] + 0.01 * self.constant
        self.result = torch.cat([users, self.item.weight])
        return self.result

    def calculate_loss(self, interaction):
        table = self.forward(interaction)
        u, p, n = (table[interaction[i]] for i in range(3))
        return -torch.log(torch.sigmoid((u * (p - n)).sum(dim=1))).mean()

    def full_sort_predict(self, interaction):
        return self.result[: self.n_users][interaction[0]] @ self.result[self.n_users :].T
