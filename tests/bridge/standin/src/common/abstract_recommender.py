"""A stand-in for the base class of MMRec's models, written for these tests: the same interface, none of its code."""

from pathlib import Path

import numpy as np
import torch
from torch import nn


class GeneralRecommender(nn.Module):
    def __init__(self, config, loader):
        super().__init__()
        self.n_users, self.n_items = loader.dataset.get_user_num(), loader.dataset.get_item_num()
        self.device = config["device"]
        self.v_feat = self.t_feat = None
        if config["is_multimodal_model"] and not config["end2end"]:
            folder = Path(config["data_path"] + config["dataset"])
            self.v_feat = self.table(folder / config["vision_feature_file"])
            self.t_feat = self.table(folder / config["text_feature_file"])
            assert self.v_feat is not None or self.t_feat is not None

    def table(self, file):
        return torch.from_numpy(np.load(file)).float().to(self.device) if file.is_file() else None

    def pre_epoch_processing(self):
        pass

    def post_epoch_processing(self):
        pass
