"""Checkpoints: tensors and plain values, written whole or not at all, read without unpickling."""

from __future__ import annotations

import errno
import os
import pickle
import pickletools
import random
import re
import secrets
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.utils import get_local_time

from recbole_ib.config.serialize import config_from_plain
from recbole_ib.errors import CheckpointError, PickledCheckpointError
from recbole_ib.model.registry import MMREC_PREFIX
from recbole_ib.patches import compat
from recbole_ib.training.upgrade import renamed_state
from recbole_ib.utils.files import atomic_write

FORMAT = "recbole_ib 2"
#: that of version 0.1.0, whose tensors have other names
FIRST_FORMAT = "recbole_ib 1"
#: where RecBole is not to look for pickled data sets and loaders; empty would mean its own file names
UNREAD_PICKLES = {
    "dataset_save_path": str(Path(os.devnull) / "none"),
    "dataloaders_save_path": str(Path(os.devnull) / "none"),
}


def checkpoint_path(folder: str | Path, model: str, dataset: str) -> Path:
    """Return a name that no other run takes: two of the same second differ in their last six digits."""
    return Path(folder) / f"{model}-{dataset}-{get_local_time()}-{secrets.token_hex(3)}.pth"


def last_path(best: str | Path) -> Path:
    """Return the path of the last epoch's file, beside the best epoch's.

    An interrupted run continues from it.
    """
    best = Path(best)
    return best.with_name(f"{best.stem}-last{best.suffix}")


def write_checkpoint(state: dict, path: str | Path) -> None:
    """Write ``state`` to ``path`` in one step.

    A reader sees the old file or the new one, never half of one.
    """
    with atomic_write(path) as scratch:
        try:
            torch.save({"format": FORMAT, **state}, scratch)
        except RuntimeError as error:
            # torch's words for a disk that is full: "unexpected pos 64 vs 0" of its archive's writer
            if not re.search(r"unexpected pos|inline_container|PytorchStreamWriter", str(error)):
                raise
            code = errno.ENOSPC
            raise OSError(code, os.strerror(code), str(Path(path).parent)) from None


def read_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict:
    """Read a checkpoint of ours with ``weights_only=True``.

    Returns:
        A dict with ``model``, ``dataset``, ``config`` (plain settings), ``epoch``, ``state_dict``,
        ``optimizers``, ``best_valid_score``, ``best_valid_result``, ``cur_step``, ``random_state``.

    Raises:
        CheckpointError: no such file, not one of ours, or damaged; PickledCheckpointError where it may be one
            of RecBole's own models.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    if not _holds_pickle(path):
        raise CheckpointError(
            f"{path} is no checkpoint, or damaged: a run writes NAME.pth, as its last lines and its manifest "
            "say"
        )
    try:
        with warnings.catch_warnings():
            # of a file that RecBole wrote, which is refused below
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            state = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise PickledCheckpointError(
            f"{path} holds pickled objects: it is no checkpoint of recbole_ib, perhaps one of RecBole's own "
            f"models ({error})"
        ) from None
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError, LookupError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint ({error})") from None
    _check_whole(path)
    state = upgraded(state)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(
            f"{path} is no checkpoint of this version of recbole_ib: format {found!r}, this one reads "
            f"{FORMAT!r}"
        )
    return state


def _holds_pickle(path: str | Path) -> bool:
    """Return whether torch may have written a file; nothing in it is executed."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith("data.pkl")]
                pickled = archive.read(names[0]) if names else b""
        else:
            pickled = Path(path).read_bytes()
        return len([None for _ in pickletools.genops(pickled)]) > 0
    except (
        ValueError,
        KeyError,
        IndexError,
        OSError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
    ):
        return False


def _check_whole(path: str | Path) -> None:
    """Refuse a file whose bytes are not those that were written: torch does not look at their checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint ({error})") from None
    if damaged is not None:
        raise CheckpointError(
            f"{path} is damaged: the checksum of {damaged} is another one; take a copy of the file, or train "
            "again"
        )


def upgraded(state: Any) -> Any:
    """Return what version 0.1.0 wrote as this version writes it, and anything else as it is."""
    if not isinstance(state, dict) or state.get("format") != FIRST_FORMAT:
        return state
    return {**state, "format": FORMAT, "state_dict": renamed_state(state["state_dict"])}


def own_code(settings: dict, checkpoint: str | Path, mmrec_path: str | Path | None = None) -> dict:
    """Return the settings of a checkpoint without the folder of code that it names.

    Args:
        settings: of the checkpoint.
        checkpoint: the file, for the message. With :data:`TRUST_VARIABLE` it is trusted with that folder too.
        mmrec_path: the folder that the user names.

    Raises:
        CheckpointError: the model is one of a checkout of MMRec, and the user names none.
    """
    of_checkout = str(settings.get("model")).lower().startswith(MMREC_PREFIX)
    if of_checkout and mmrec_path is None and os.environ.get(compat.TRUST_VARIABLE) == "1":
        return settings
    if of_checkout and mmrec_path is None:
        raise CheckpointError(
            f"{checkpoint} is of {settings['model']}, whose class is imported from a checkout of MMRec. A "
            "checkpoint never says which folder to import: give yours with --mmrec_path=DIR "
            f"(mmrec_path=...), or set {compat.TRUST_VARIABLE}=1 if you know who made it"
        )
    return {**settings, "mmrec_path": None if mmrec_path is None else str(mmrec_path)}


def random_state(generator: torch.Generator | None) -> dict:
    """Return the state of every random number generator of a run, as tensors and plain values."""
    legacy: Any = np.random.get_state()
    name, keys, position, has_gauss, cached = legacy
    version, internal, gauss = random.getstate()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "loader": None if generator is None else generator.get_state(),
    }


def restore_random_state(state: dict, generator: torch.Generator | None) -> None:
    """Set the generators to what :func:`random_state` returned.

    Raises:
        CheckpointError: ``generator`` is of another kind of device than the one whose state was kept.
    """
    kept = None if generator is None else state["loader"]
    if generator is not None and kept is not None and kept.numel() != generator.get_state().numel():
        raise CheckpointError(
            f"the run drew its batches on another kind of device than {generator.device.type} (sampling: "
            "device), whose random state does not fit here; continue it on a device of that kind "
            "(--use_gpu=True or False)"
        )
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
    if generator is not None and kept is not None:
        generator.set_state(kept.cpu())


def _for_recbole(checkpoint: Any) -> Any:
    """Give a checkpoint of ours the form of RecBole's: a Config under the key ``config``."""
    checkpoint = upgraded(checkpoint)
    if isinstance(checkpoint, dict) and checkpoint.get("format") == FORMAT:
        settings = own_code(checkpoint["config"], "this checkpoint")
        return {**checkpoint, "config": config_from_plain(settings, **UNREAD_PICKLES)}
    return checkpoint


compat.set_checkpoint_reader(_for_recbole)
