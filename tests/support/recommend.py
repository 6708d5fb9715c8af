"""Trained models, and naive forms of what is recommended."""

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_ib import list_models, run_recbole_ib
from recbole_ib.patches.compat import TRUST_VARIABLE
from tests.support.datasets import planted
from tests.support.processes import environment, fresh_python
from tests.support.training import STAGES

TRAINED = {"epochs": 25, "learning_rate": 0.01, "embedding_size": 16, "feature_dim": 16, "stopping_step": 100}


def train(path, folder, name="VBPR", dataset="planted", **settings):
    """One run on small data; the path of its checkpoint."""
    base = {"data_path": str(path), "checkpoint_dir": str(folder), "show_progress": False, "train_batch_size": 256, "seed": 1}
    base |= {"use_gpu": False, "epochs": 1}
    base |= {"knn_k": 5, **STAGES.get(name, {})} if name in list_models() else {}
    return run_recbole_ib(name, dataset, config_dict={**base, **settings})["checkpoint"]


def all_scores(recommender) -> np.ndarray:
    """RecBole's scores of all users and items, ``[n, m]``, from the model itself."""
    users = torch.arange(1, len(recommender.user_tokens) + 1)
    with torch.no_grad():
        scores = recommender.model.full_sort_predict(Interaction({recommender.user_field: users}))
    return scores.view(len(users), -1)[:, 1:].numpy()


def naive(recommender, seen: set, k: int) -> list[tuple]:
    """(user, item, rank, score) by a Python loop with a full sort."""
    found = []
    for user, row in zip(recommender.user_tokens, all_scores(recommender), strict=True):
        order = sorted(range(len(row)), key=lambda i: (-row[i], i))
        left = [i for i in order if (user, recommender.item_tokens[i]) not in seen]
        found += [(user, recommender.item_tokens[i], rank, row[i]) for rank, i in enumerate(left[:k], start=1)]
    return found


def planted_seen() -> set:
    return {(f"u{u}", f"i{i}") for u, i in planted()[0]}


def in_another_process(*words, trust=False):
    env = environment(**{TRUST_VARIABLE: "1" if trust else ""})
    return fresh_python("-m", "recbole_ib", *words, env=env)
