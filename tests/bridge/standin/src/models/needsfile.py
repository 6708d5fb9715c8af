"""Reads a file that its own tools make."""

from pathlib import Path

from common.abstract_recommender import GeneralRecommender


class NeedsFile(GeneralRecommender):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.text = Path(config["item_graph_dict_file"]).read_text()
