"""A training whose model is decomposed."""

from recbole_ib import list_models, run_recbole_ib


def train(path, name="VBPR", dataset="planted", **settings):
    base = {"data_path": str(path), "show_progress": False, "train_batch_size": 256, "seed": 1, "use_gpu": False, "epochs": 1}
    if name in list_models():
        base["knn_k"] = 5
    return run_recbole_ib(name, dataset, config_dict={**base, **settings})
