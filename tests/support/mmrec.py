"""The stand-in for a checkout of MMRec, and short runs of its models."""

import shutil
from pathlib import Path

STANDIN = Path(__file__).parents[1] / "bridge" / "standin"


def copy_of_standin(folder: Path) -> Path:
    return Path(shutil.copytree(STANDIN, folder / "checkout", ignore=shutil.ignore_patterns("__pycache__")))


def settings_of(planted_path, **changes) -> dict:
    base = {"data_path": str(planted_path), "mmrec_path": str(STANDIN), "show_progress": False, "use_gpu": False, "seed": 1}
    return {**base, "train_batch_size": 256, **changes}


def one_epoch(model, train, epoch=0):
    model.train()
    model.pre_epoch(epoch)
    for batch in train:
        losses = model.calculate_loss(batch)
    model.eval()
    return losses
