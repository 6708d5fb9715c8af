"""Scores from similarities alone: no parameter, no training."""

from common.abstract_recommender import GeneralRecommender


class Untrained(GeneralRecommender):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.scores = dataset.inter_matrix(form="csr").toarray() @ (self.t_feat @ self.t_feat.T).cpu().numpy()

    def calculate_loss(self, interaction):
        raise AssertionError("is not trained")

    def full_sort_predict(self, interaction):
        import torch

        return torch.from_numpy(self.scores[interaction[0].cpu().numpy()])
