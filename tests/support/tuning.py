"""A small search."""

#: settings of every trial
SMALL = {"epochs": 3, "train_batch_size": 256, "use_gpu": False, "show_progress": False, "state": "ERROR", "seed": 7, "knn_k": 5}
SPACE = {"learning_rate": {"choice": [0.001, 0.01]}, "reg_weight": {"loguniform": [1e-5, 1e-2]}}
