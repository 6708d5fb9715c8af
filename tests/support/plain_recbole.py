"""A tiny data set and settings for RecBole's own models, in this process and in others."""

from importlib.metadata import version

from recbole_ib.patches import compat
from tests.support import processes

SETTINGS = {
    "data_path": "data",
    "epochs": 1,
    "embedding_size": 4,
    "metrics": ["Recall"],
    "topk": [2],
    "valid_metric": "Recall@2",
    "use_gpu": False,
    "gpu_id": "",
    "state": "ERROR",
    "show_progress": False,
    "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"},
}

#: what a scenario may use
PRELUDE = f"settings = {SETTINGS!r}\n"


def write_tiny(folder):
    """A data set of 12 users and 10 items, in which every user has five items."""
    (folder / "tiny").mkdir(parents=True)
    rows = [f"u{u}\ti{(u * 3 + k * k) % 10}\t{k}" for u in range(12) for k in range(5)]
    rows = sorted({row.rsplit("\t", 1)[0]: row for row in rows}.values())
    text = "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows])
    (folder / "tiny" / "tiny.inter").write_text(text + "\n")


def run_python(code, folder, **more):
    """Run code in a fresh interpreter inside ``folder``."""
    env = processes.environment(RAY_AIR_NEW_OUTPUT="0", **more)
    env.pop(compat.TRUST_VARIABLE, None)
    return processes.fresh_python("-c", code, cwd=folder, env=env)


def installed_versions():
    """The versions that decide which patches are needed, for the reasons of skipped tests."""
    return ", ".join(f"{name} {version(name)}" for name in ("recbole", "numpy", "scipy", "torch", "ray", "hyperopt"))
