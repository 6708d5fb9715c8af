"""Runs that were never trained: manifests and files of users with numbers that a test plants, in the form of real ones."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_ib.experiments.results import Comparison, Entry

TEXT = {
    "encoder": "all-MiniLM-L6-v2, title and overview",
    "file": "text.npy",
    "shape": [1447, 384],
    "covered": 1440,
    "digest": "7e" * 16,
}
VISUAL = {"encoder": "CLIP ViT-B/32, poster", "file": "visual.npy", "shape": [1447, 512], "covered": 1431, "digest": "c4" * 16}


@dataclass
class Made:
    """A model to make runs of. ``skill`` shifts where its users' test items are ranked; ``tail`` shifts those of rare items."""

    name: str
    skill: float = 0.0
    tail: float = 0.0
    epochs: int = 60
    seconds: float = 1.0
    features: dict = field(default_factory=lambda: {"text": TEXT, "visual": VISUAL})
    given: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    note: str = "tuned, 12 trials"
    trials: int | None = 12
    model: str | None = None


def digest(*parts) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def people(n_users: int, split: int) -> pd.DataFrame:
    """Users with training and test items: the same for one split, whatever the model."""
    rng = np.random.default_rng(split)
    n_train = np.clip(rng.lognormal(3.2, 0.8, n_users).astype(int), 3, 400)
    n_test = np.clip(rng.binomial(n_train, 0.12) + 1, 1, 60)
    return pd.DataFrame({"user_id": [str(u) for u in rng.permutation(n_users) + 1], "n_train": n_train, "n_test": n_test})


@cache
def tastes(n_users: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """The kinds of all users' test items (0: head, 1: tail, 2: cold), and what every model sees in them alike."""
    same = np.random.default_rng(split + 1)
    taste, kinds, levels = same.normal(0, 0.7, n_users), [], []
    for i, n in enumerate(people(n_users, split)["n_test"]):
        kinds.append(same.choice(3, n, p=[0.6, 0.32, 0.08]))
        levels.append(taste[i] + np.array([0.3, -0.9, -1.7])[kinds[-1]] + 0.8 * same.normal(size=n))
    return np.concatenate(kinds), np.concatenate(levels)


def users_of(made: Made, n_users: int, seed: int, split: int) -> pd.DataFrame:
    """Test items with a rank each, and RecBole's metrics of them."""
    table, own = people(n_users, split), np.random.default_rng([seed, *made.name.encode()])
    kind, level = tastes(n_users, split)
    score = level + np.array([0, made.tail, made.tail])[kind] + made.skill + 0.45 * own.normal(size=len(kind))
    rank = np.floor(np.exp(3.4 - score)).astype(int)
    sizes = table["n_test"].to_numpy()
    starts = np.cumsum(sizes) - sizes

    def by_user(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values.astype(float), starts)

    gain, found = 1 / np.log2(np.clip(rank, 0, None) + 2), {}
    for k in (10, 20):
        hit = rank < k
        found[f"recall@{k}"], found[f"precision@{k}"] = by_user(hit) / sizes, by_user(hit) / k
        ideal = np.cumsum(1 / np.log2(np.arange(k) + 2))[np.minimum(sizes, k) - 1]
        found[f"ndcg@{k}"] = np.minimum(1.0, by_user(hit * gain) / ideal)
    for part, inside in (("head", kind == 0), ("tail", kind > 0), ("cold", kind == 2)):
        there = by_user(inside)
        found[f"recall@20:{part}"] = by_user(inside & (rank < 20)) / np.where(there > 0, there, np.nan)
    columns = [f"{m}@{k}" for m in ("recall", "precision", "ndcg") for k in (10, 20)]
    columns += [f"recall@20:{part}" for part in ("head", "tail", "cold")]
    return pd.concat([table, pd.DataFrame(found)[columns]], axis=1)


def manifest_of(made: Made, users: pd.DataFrame, seed: int, split: int) -> dict:
    """The manifest that a run with these users would leave."""
    rng = np.random.default_rng([seed, 7, *made.name.encode()])
    epochs = made.epochs + (0 if made.config.get("epochs") == made.epochs else int(rng.integers(-5, 6)) if made.epochs > 6 else 0)
    limited = made.config.get("epochs") == made.epochs
    best = epochs - 1 if limited else max(epochs - 11, 0)
    metrics = [c for c in users if "@" in c and ":" not in c]
    test = {c: round(float(users[c].mean()), 4) for c in metrics}
    peak, at = test[metrics[1]] + 0.01 if len(metrics) > 1 else 0.3, np.arange(epochs)
    curve = peak * (1 - 0.85 * np.exp(-at / (best / 4 + 1))) * (1 - 0.0008 * np.clip(at - best, 0, None)) + rng.normal(
        0, 0.0012, epochs
    )
    curve[best] = max(curve) + 1e-4
    seconds = made.seconds * (at + 1) * (1 + 0.02 * rng.random())
    data = {"users": len(users), "items": 1447}
    for part, count in (("train", 44000), ("valid", 5500), ("test", 5490)):
        data[part] = {"interactions": count, "digest": digest(part, split, len(users))}
    config = {
        "epochs": 300, "stopping_step": 10, "learning_rate": 0.001, "train_batch_size": 2048, "metrics": ["Recall", "Precision", "NDCG"],
        "topk": [10, 20], "protocol": "recbole", "valid_metric": "Recall@20", "metric_decimal_place": 4, "seed": seed, "split_seed": split,
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user", "order": "RO", "mode": "full"}, "embedding_size": 64,
        **made.given, **made.config,
    }  # fmt: skip
    versions = {
        "python": "3.11.7",
        "recbole-ib": "0.1.0",
        "recbole": "1.2.1",
        "torch": "2.13.0",
        "numpy": "2.4.6",
        "scipy": "1.17.1",
    }
    return {
        "format": "recbole_ib run 1", "model": made.model or made.name, "dataset": "ml-100k", "seed": seed, "split_seed": split,
        "started": "2026-11-22T09:00:00", "finished": f"2026-11-22T10:{seed % 60:02d}:00", "given": {"seed": seed, **made.given},
        "config": config, "versions": {**versions, "pandas": "2.3.3"},
        "machine": {"system": "Linux", "processor": "x86_64", "cpus": 2, "threads": 1, "device": "cpu"},
        "data": data, "features": made.features, "parameters": 64 * (942 + 1447) + 1000 * len(made.name),
        "result": {
            "best_valid_score": float(curve[best]), "valid_score_bigger": True, "valid_metric": "recall@20", "best_epoch": best,
            "epochs": epochs, "valid": {"recall@20": float(curve[best])}, "test": test,
        },
        "curve": [{"epoch": int(e), "score": float(s), "seconds": float(t)} for e, s, t in zip(at, curve, seconds, strict=True)],
        "losses": {str(e): float(200 * np.exp(-e / 20)) for e in at},
        "seconds": {"set_up": 1.2, "train": float(seconds[-1]), "test": 0.4},
        "memory": {"peak_bytes": int(6e8 + 1e8 * made.seconds), "gpu_peak_bytes": None}, "checkpoint": None, "per_user": None,
    }  # fmt: skip


def write_run(folder: Path, manifest: dict, users: pd.DataFrame | None) -> Path:
    """A manifest and, with ``users``, their file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{manifest['model']}-{digest(manifest['given'], manifest['seed'], str(users is None))[:6]}"
    path = folder / f"{stem}.json"
    assert not path.exists()
    if users is not None:
        users.to_parquet(folder / f"{stem}-users.parquet", index=False)
        manifest = manifest | {"per_user": f"{stem}-users.parquet"}
    path.write_text(json.dumps(manifest))
    return path


def make_entry(folder: Path, made: Made, seeds, n_users: int, shared_split: int | None = 2020) -> Entry:
    """An entry with a run for each seed; ``shared_split`` None: every seed has a split of its own."""
    paths = []
    for seed in seeds:
        split = seed if shared_split is None else shared_split
        users = users_of(made, n_users, seed, split)
        paths.append(write_run(folder / made.name, manifest_of(made, users, seed, split), users))
    return Entry(made.name, paths, made.note, made.trials)


def plain_entry(folder: Path, name: str, values: dict[int, list[float]], **changes) -> Entry:
    """An entry whose users ``u0, u1, ...`` have just these values of recall@20 in each seed; ``per_user=None``: without their file."""
    paths = []
    for seed, numbers in values.items():
        size = len(numbers)
        users = pd.DataFrame({"user_id": [f"u{i}" for i in range(size)], "n_train": range(1, size + 1), "n_test": 1})
        users["recall@20"] = np.array(numbers, dtype=float)
        kept = None if "per_user" in changes else users
        paths.append(write_run(folder / name, manifest_of(Made(name), users, seed, 2020) | changes, kept))
    return Entry(name, paths)


def comparison_of(entries: list[Entry], baseline: str | None = None, **more) -> Comparison:
    return Comparison("A comparison", "ml-100k", entries, baseline or entries[0].name, **more)


NINE = [
    Made("BPR", 0.0, epochs=40, seconds=0.35, features={}),
    Made("LightGCN", 0.16, epochs=75, seconds=1.85, features={}),
    Made("VBPR", 0.1, 0.1, epochs=45, seconds=0.6, given={"reg_weight": 1}),
    Made("LATTICE", 0.24, 0.1, epochs=60, seconds=2.4, given={"reg_weight": 0.001, "knn_k": 20}),
    Made("FREEDOM", 0.2, 0.2, epochs=52, seconds=1.4, given={"reg_weight": 0.01, "knn_k": 10}),
    Made("MGCN", 0.26, 0.12, epochs=66, seconds=2.1, given={"cl_weight": 0.01}),
    Made("VLATTICE", 0.25, 0.16, epochs=58, seconds=2.9, given={"reg_weight": 0.001}),
    Made("MRdIBFREEDOM", 0.23, 0.2, epochs=70, seconds=3.3, given={"kl_weight": 0.001, "redundancy_weight": 0.005, "unique_weight": 0.01}),
    Made("IBMRec", 0.3, 0.25, epochs=80, seconds=5.2,
         given={"fib_weight": 1.4, "sigma2": 0.15, "gib_weight": 3.1, "gib_sigma2": 0.2, "knn_k": 15, "learning_rate": 0.0007}),
]  # fmt: skip
