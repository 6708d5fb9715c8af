"""Record what every model computes in its first 20 steps, to the last bit, and compare two records.

    python benchmarks/equality.py --out after.json [--against before.json]

A record holds, for each model of the catalog and each backbone with each bottleneck that fits, the loss terms of 20 steps (two epochs of
ten batches, seed 0, one thread, planted data), a digest of all parameters and one of all scores afterwards. The digests do not depend on
the names of the parameters, so a record of an older checkout compares too: run this file there with PYTHONPATH set to the checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import yaml

import recbole_ib

try:
    from recbole_ib.config.checks import our_keys
    from recbole_ib.config.config import Config
    from recbole_ib.training.run import prepare
except ImportError:  # 0.1.0
    from recbole_ib.config import Config, our_keys
    from recbole_ib.quick_start import set_up as prepare

N_USERS, N_ITEMS, GROUPS, N_PAIRS, BATCHES, EPOCHS = 60, 50, 4, 640, 10, 2
BOTTLENECKS = ("fib", "gib", "fib,gib", "mrdib")
#: the papers' terms, which are not the defaults
PAPER_FIB = {"fib_estimator": "biased", "sigma2": 0.15, "fib_weight": 1.0, "contrastive_negatives": "batch"}
PAPER_GIB = {"gate_self_loops": True}
PAPER_MRDIB = {
    "rate_estimator": "kl", "kl_reduction": "sum", "kl_weight": 1e-3, "redundancy_weight": 1e-3, "unique_likelihood": "bpr",
    "unique_weight": 1e-3, "noise_input": "features", "prior_scale": 1.0,
}  # fmt: skip


def write_planted(folder: Path) -> None:
    """Write the data set ``planted``: a modality that tells an item's group, and one of noise that four items lack."""
    rng = np.random.default_rng(0)
    item_group, user_group = np.arange(N_ITEMS) % GROUPS, np.arange(N_USERS) % GROUPS
    affinity = rng.random((N_USERS, N_ITEMS)) + 0.8 * (user_group[:, None] == item_group[None, :])
    # every user and item is there, and the number of interactions is the same on any machine
    chosen = np.sort(np.argsort(-affinity, axis=None, kind="stable")[:N_PAIRS])
    here = folder / "planted"
    here.mkdir()
    lines = ["user_id:token\titem_id:token", *(f"u{pair // N_ITEMS}\ti{pair % N_ITEMS}" for pair in chosen)]
    (here / "planted.inter").write_text("\n".join(lines) + "\n")
    tables = {
        "text": np.eye(GROUPS)[item_group] + 0.1 * rng.standard_normal((N_ITEMS, GROUPS)),
        "visual": rng.standard_normal((N_ITEMS, 6)),
    }
    entries = {}
    for name, table in tables.items():
        rows = N_ITEMS if name == "text" else N_ITEMS - 4
        np.save(here / f"{name}.npy", table[:rows].astype(np.float32))
        (here / f"{name}.tokens").write_text("".join(f"i{i}\n" for i in range(rows)))
        entries[name] = {"file": f"{name}.npy", "tokens": f"{name}.tokens"}
    settings = {"load_col": {"inter": ["user_id", "item_id"]}, "modalities": entries}
    (here / "planted.yaml").write_text(yaml.safe_dump(settings))


def digest(tensors) -> str:
    """One digest of all tensors, whatever their order and names."""
    parts = sorted(hashlib.sha256(t.detach().cpu().contiguous().numpy().tobytes()).hexdigest() for t in tensors)
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def planted_run(model: str, data_path: Path, **settings):
    """Return all of a run on the planted data before its first epoch, after writing the data where they are not there."""
    if not (data_path / "planted").exists():
        write_planted(data_path)
    config = Config(
        model,
        "planted",
        config_dict={
            "data_path": str(data_path), "seed": 0, "use_gpu": False, "show_progress": False, "epochs": EPOCHS, "eval_step": 0,
            "train_batch_size": -(-N_PAIRS * 8 // 10 // BATCHES), "knn_k": 5, "topk": [5], "valid_metric": "Recall@5", **settings,
        },
    )  # fmt: skip
    return prepare(config)


def record(model: str, data_path: Path, **settings) -> dict:
    """Train 20 steps; the sums of the loss terms of each epoch, and the digests."""
    run = planted_run(model, data_path, **settings)
    run.trainer.fit(run.train_data, None, saved=False, callback_fn=None)
    losses = {str(epoch): float(value).hex() for epoch, value in run.trainer.train_loss_dict.items()}
    latest = getattr(run.trainer, "_latest_losses", None) or getattr(run.trainer, "latest_losses", None)
    network = run.trainer.model.eval()
    users = torch.arange(N_USERS + 1)
    with torch.no_grad():
        scores = network.full_sort_predict({network.USER_ID: users})
    return {
        "losses": losses,
        "terms": {name: float(value).hex() for name, value in zip(latest.names, latest, strict=True)},
        "parameters": digest(network.parameters()),
        "scores": digest([scores]),
    }


def cases() -> list[tuple[str, dict]]:
    """Every model of the catalog as it stands, and every backbone with each bottleneck."""
    names = recbole_ib.list_models()
    backbones = [n for n in names if not n.startswith(("IBMRec", "MRdIB")) and n not in ("InvRL", "SGFD")]
    small = {
        "InvRL": {"pretrain_epochs": 1, "invrl_rounds": 1, "environment_epochs": 1, "environment_repeats": 1, "mask_epochs": 1}
    }
    plain = [(n, small.get(n, {})) for n in names]
    plain.append(("SLMRec", {"ssl_task": "fd"}))
    plain.append(("MICRO", {"cl_items": "batch"}))
    plain.append(("LATTICE", {"item_graph": "frozen"}))
    plain.append(("VLATTICE", {"item_graph": "learned"}))
    plain.extend(("SGFD", {"backbone": b}) for b in ("FREEDOM", "DualGNN"))
    plain.extend(("IBMRec", settings) for settings in (PAPER_FIB, PAPER_GIB))
    variants = ({}, {"kl_weight": 0}, {"redundancy_estimator": "club"}, {"prior_scale": "initial"})
    plain.extend(("MRdIBVBPR", {**PAPER_MRDIB, **settings}) for settings in variants)
    plain.extend(
        ("MRdIBMGCN", {**PAPER_MRDIB, **settings}) for settings in ({"redundancy_estimator": "hsic"}, {"unique_weight": 0})
    )
    plain.append(("LATTICE", {"item_graph": "frozen", "bottleneck": "gib"}))
    plain.append(("MMGCN", {"project_above": 0, "bottleneck": "fib"}))
    plain.extend(("IBMRec", settings) for settings in ({"fib_weight": 0}, {"contrastive_rate": 0}, {"n_item_layers": 2}))
    return plain + [(n, {"bottleneck": b}) for n in backbones for b in BOTTLENECKS]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the record, as JSON")
    parser.add_argument("--against", type=Path, help="a record to compare with; exit status 1 if anything differs")
    parser.add_argument("--models", nargs="+", help="these models alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    args.out = args.out.resolve()
    before = json.loads(args.against.read_text()) if args.against else None
    found: dict[str, dict | str] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for model, settings in cases():
            if args.models and model not in args.models:
                continue
            label = model + "".join(f" {k}={v}" for k, v in settings.items())
            try:
                # 0.1.0 lacks the keys whose only value it has
                known = {k: v for k, v in settings.items() if k not in {*PAPER_FIB, *PAPER_GIB, *PAPER_MRDIB} or k in our_keys()}
                found[label] = record(model, Path(folder), **known)
            except recbole_ib.RecBoleIBError as error:
                found[label] = "refused"
                print(f"{label}: {str(error)[:150]}", file=sys.stderr)
            print(label, found[label] if isinstance(found[label], str) else found[label]["parameters"], flush=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    if before is None:
        return 0
    differing = [label for label in before if label in found and before[label] != found[label]]
    missing = [] if args.models else sorted(before.keys() ^ found.keys())
    for label in differing:
        print(f"DIFFERS {label}\n  before {before[label]}\n  after  {found[label]}")
    print(f"{len(found)} recorded, {len(differing)} differ, in one record alone: {missing or 'none'}")
    return 1 if differing or missing else 0


if __name__ == "__main__":
    sys.exit(main())
