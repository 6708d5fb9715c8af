"""Leaves a file in the data set's folder, moves tensors with .cuda() and imports late."""

import os

import numpy as np
import torch
from common.abstract_recommender import GeneralRecommender
from torch import nn


class Caching(GeneralRecommender):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.folder = os.path.abspath(config["data_path"] + config["dataset"])
        self.similar = (self.v_feat @ self.v_feat.T).cuda()
        torch.save(self.similar, os.path.join(self.folder, "similar.pt"))
        self.user, self.item = nn.Embedding(self.n_users, 8), nn.Embedding(self.n_items, 8)
        self.late = config["read_late"]
        if config["read_early"]:
            np.load(os.path.join(self.folder, config["read_early"]))
        if config["item_list"]:
            self.wanted = dataset.item_popularity

    def calculate_loss(self, interaction):
        from utils.helpers import bpr

        if self.late:
            torch.load(os.path.join(self.folder, "similar.pt"))
        return bpr(self.user(interaction[0]), self.item(interaction[1]), self.item(interaction[2]))

    def full_sort_predict(self, interaction):
        return self.user(interaction[0]) @ self.item.weight.T
