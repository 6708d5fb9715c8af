"""Incompatibilities of RecBole 1.2.0 / 1.2.1 with today's numpy, scipy, torch, ray and hyperopt.

One :class:`Patch` a difference: its cause, whether the installed versions need it, and what it does.
``apply`` installs the needed ones; it runs when ``recbole_ib`` is imported, before any RecBole module is
used. No other file of this package deals with an incompatibility.
"""

from __future__ import annotations

import importlib.abc
import importlib.metadata
import importlib.util
import inspect
import os
import pickle
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import dok_matrix

from recbole_ib.errors import CheckpointError
from recbole_ib.patches import own_files

#: set to 1 to let RecBole unpickle checkpoints that this process did not write itself; a pickle can run any
#: code
TRUST_VARIABLE = "RECBOLE_IB_TRUST_CHECKPOINTS"


class Patch(NamedTuple):
    """Incompatibility: name, cause, whether it is there, what to install, the release that ends it."""

    name: str
    cause: str
    needed: Callable[[], bool]
    install: Callable[[], None]
    until: str


def apply() -> list[str]:
    """Install every patch that is needed and not yet there; return the names of those installed now."""
    installed = []
    for patch in PATCHES:
        if patch.name not in _installed and patch.needed():
            patch.install()
            _installed.add(patch.name)
            installed.append(patch.name)
    return installed


_installed: set[str] = set()

_NUMPY_ALIASES = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}


def _add_numpy_aliases() -> None:
    for name, value in _NUMPY_ALIASES.items():
        if not hasattr(np, name):
            setattr(np, name, value)


def _dok_update_missing() -> bool:
    return not hasattr(dok_matrix, "_update")


def _add_dok_update() -> None:
    def _update(self: Any, data: Any) -> None:
        """Enter (row, column) -> value pairs without checks."""
        self._dict.update(data)

    dok_matrix._update = _update


# -- torch.load ----------------------------------------------------------------------------------------------

_checkpoint_readers: list[Callable[[dict], dict]] = []


def set_checkpoint_reader(reader: Callable[[dict], dict]) -> None:
    """Pass every checkpoint that RecBole's quick start loads through ``reader``.

    ``reader`` returns it in RecBole's form.
    """
    _checkpoint_readers[:] = [reader]


def _guard_torch_load() -> None:
    plain_load, plain_save = torch.load, torch.save

    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        plain_save(obj, f, *args, **kwargs)
        if _caller().startswith("recbole."):
            own_files.remember(f)

    def load(f: Any, *args: Any, **kwargs: Any) -> Any:
        caller = _caller()
        if not caller.startswith("recbole.") or kwargs.get("weights_only") is not None:
            return plain_load(f, *args, **kwargs)
        checkpoint = _load_for_recbole(plain_load, f, *args, **kwargs)
        if caller == "recbole.quick_start.quick_start":
            for reader in _checkpoint_readers:
                checkpoint = reader(checkpoint)
        return checkpoint

    load.__doc__, save.__doc__ = plain_load.__doc__, plain_save.__doc__
    torch.load, torch.save = load, save


def _caller() -> str:
    return sys._getframe(2).f_globals.get("__name__", "")


def _load_for_recbole(plain_load: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
    if own_files.is_own(f):
        return plain_load(f, *args, **kwargs, weights_only=False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # answered below
            return plain_load(f, *args, **kwargs, weights_only=True)
    except pickle.UnpicklingError as error:
        if os.environ.get(TRUST_VARIABLE) == "1":
            return plain_load(f, *args, **kwargs, weights_only=False)
        raise CheckpointError(
            f"{f} is a checkpoint in RecBole's own format: it holds pickled objects, and reading those can "
            f"run any code. If you know who made it, set the environment variable {TRUST_VARIABLE}=1 and "
            "call again"
        ) from error


def read_pickled_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint in RecBole's own format, its tensors on the CPU, where RecBole may read it too.

    Raises:
        CheckpointError: another process wrote it, and the user has not said to trust it.
    """
    return _load_for_recbole(torch.load, path, map_location="cpu")


# -- RecBole 1.2.1's collector -------------------------------------------------------------------------------


def _collector_moves_numbers() -> bool:
    from recbole.evaluator.collector import Collector  # noqa: PLC0415  (apply runs before RecBole is imported)

    return ".cpu()" in inspect.getsource(Collector.get_data_struct)


def _fix_collector() -> None:
    from recbole.evaluator.collector import Collector, DataStruct  # noqa: PLC0415  (as above)

    original = Collector.get_data_struct

    def get_data_struct(self: Any) -> Any:
        """Call RecBole's method on the tensors alone: numbers and counters have no ``cpu``."""
        everything = self.data_struct
        tensors, others = DataStruct(), {}
        for key, value in everything._data_dict.items():
            if isinstance(value, torch.Tensor):
                tensors.set(key, value)
            else:
                others[key] = value
        self.data_struct = tensors
        returned = original(self)
        for struct in (returned, self.data_struct):
            for key, value in others.items():
                struct.set(key, value)
        return returned

    Collector.get_data_struct = get_data_struct


# -- ray and hyperopt ----------------------------------------------------------------------------------------


class _Proxy:
    """A module with some attributes replaced, for one RecBole module's eyes alone."""

    def __init__(self, module: ModuleType, **replaced: Any):
        self._module = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _version(distribution: str) -> tuple[int, ...]:
    """The installed version's numbers, ``()`` where it is not installed; nothing is imported for it."""
    try:
        text = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ()
    return tuple(int(part) for part in re.findall(r"\d+", text.split("+")[0])[:3])


class _AfterImport(importlib.abc.MetaPathFinder):
    """Runs ``action`` once a module has been imported, so that it need not be imported for being patched."""

    def __init__(self, module: str, action: Callable[[], None]):
        self.module, self.action, self.searching = module, action, False

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        if name != self.module or self.searching:
            return None
        self.searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.searching = False
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            sys.meta_path.remove(self)
            self.action()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _when_imported(module: str, action: Callable[[], None]) -> None:
    if module in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _AfterImport(module, action))


def _fix_tune_report() -> None:
    # recbole.quick_start imports ray, seconds that a run through our own command does without
    _when_imported("recbole.quick_start.quick_start", _replace_tune)


def _replace_tune() -> None:
    quick_start: Any = sys.modules["recbole.quick_start.quick_start"]
    tune = quick_start.tune

    def report(metrics: Any = None, **named: Any) -> Any:
        """Pass ``tune.report(recall=.1)``, as RecBole writes it, on as ``tune.report({"recall": .1})``."""
        values = {**(metrics or {}), **named}
        with warnings.catch_warnings():
            # outside a Ray trial (RecBole's own HyperTuning) there is nobody to report to, which is fine
            warnings.filterwarnings(
                "ignore", message=".*only be called inside a function that is executed by a Tuner"
            )
            return tune.report({k: float(v) for k, v in values.items()})

    quick_start.tune = _Proxy(tune, report=report)


def _fix_exhaustive_search() -> None:
    from recbole.trainer import hyper_tuning  # noqa: PLC0415  (as above)

    random = _Proxy(np.random, RandomState=np.random.default_rng)
    hyper_tuning.np = _Proxy(np, random=random)


def _wrap_output_once() -> None:
    _when_imported("recbole.utils.logger", _replace_colorama_init)


def _replace_colorama_init() -> None:
    from colorama.ansitowin32 import StreamWrapper

    logger: Any = sys.modules["recbole.utils.logger"]
    init = logger.init

    def init_once(*args: Any, **kwargs: Any) -> None:
        if not isinstance(sys.stdout, StreamWrapper):
            init(*args, **kwargs)

    logger.init = init_once


# -- folders -------------------------------------------------------------------------------------------------


def _share_folders() -> None:
    _when_imported("recbole.utils.utils", _replace_ensure_dir)


def _replace_ensure_dir() -> None:
    def ensure_dir(dir_path: Any) -> None:
        os.makedirs(dir_path, exist_ok=True)  # noqa: PTH103  (it runs with the names of recbole.utils.utils)

    # the code, not the name: modules imported before this one hold the function itself
    sys.modules["recbole.utils.utils"].ensure_dir.__code__ = ensure_dir.__code__


# -- warnings ------------------------------------------------------------------------------------------------


def _silence_amp() -> None:
    # RecBole's Trainer builds torch.cuda.amp.GradScaler every epoch; the user cannot do anything about the
    # advice
    warnings.filterwarnings("ignore", message=r".*torch\.cuda\.amp.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r".*GradScaler is enabled, but CUDA is not available.*")


def _silence_pandas() -> None:
    # raised in RecBole's own data set class, whose results are right with the pandas that we ask for
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.data\..*")


PATCHES: tuple[Patch, ...] = (
    Patch(
        "numpy aliases",
        "Config.compatibility_settings reads np.float_, np.complex_ and np.unicode_, which numpy 2.0 removed",
        lambda: any(not hasattr(np, name) for name in _NUMPY_ALIASES),
        _add_numpy_aliases,
        "a RecBole that supports numpy 2",
    ),
    Patch(
        "dok_matrix._update",
        "LightGCN, NGCF, GCMC, NCL and SpectralCF call dok_matrix._update, which scipy 1.13 removed",
        _dok_update_missing,
        _add_dok_update,
        "a RecBole that builds its graphs from coo_matrix",
    ),
    Patch(
        "torch.load",
        "torch 2.6 refuses pickled objects by default, and RecBole's checkpoints pickle its Config",
        lambda: _version("torch") >= (2, 6),
        _guard_torch_load,
        "a RecBole whose checkpoints load with weights_only=True",
    ),
    Patch(
        "Collector.get_data_struct",
        "RecBole 1.2.1 calls .cpu() on plain numbers: ItemCoverage, GiniIndex and their like crash",
        _collector_moves_numbers,
        _fix_collector,
        "RecBole 1.2.0, and any later one that checks the type",
    ),
    Patch(
        "tune.report",
        "objective_function calls tune.report(**metrics); since ray 2.7 it takes one dict",
        lambda: _version("ray") >= (2, 7),
        _fix_tune_report,
        "a RecBole that reports a dict",
    ),
    Patch(
        "hyperopt generators",
        "exhaustive_search passes a RandomState where hyperopt >= 0.2.6 calls Generator.integers",
        lambda: _version("hyperopt") >= (0, 2, 6),
        _fix_exhaustive_search,
        "a RecBole that passes numpy.random.default_rng",
    ),
    Patch(
        "colorama.init",
        "init_logger wraps sys.stdout anew at every run: after some 250 runs in one process a print "
        "recurses too deep",
        lambda: (1, 2) <= _version("recbole") < (1, 3),
        _wrap_output_once,
        "a RecBole that wraps the output once",
    ),
    Patch(
        "ensure_dir",
        "ensure_dir looks for a folder and then makes it: of two runs started together one ends in "
        "FileExistsError",
        lambda: (1, 2) <= _version("recbole") < (1, 3),
        _share_folders,
        "a RecBole that passes exist_ok=True",
    ),
    Patch(
        "amp warnings",
        "torch.cuda.amp.GradScaler warns at every epoch of RecBole's Trainer since torch 2.4",
        lambda: _version("torch") >= (2, 4),
        _silence_amp,
        "a RecBole that uses torch.amp",
    ),
    Patch(
        "pandas warnings",
        "Dataset fills missing values by chained assignment, against which pandas 2.2 warns three times a "
        "run",
        lambda: _version("pandas") >= (2, 2),
        _silence_pandas,
        "a RecBole that supports pandas 3",
    ),
)
