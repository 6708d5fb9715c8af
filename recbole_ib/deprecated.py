"""Import paths of 0.1.0: each works for one more release, and warns with the name of the new one."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGE = "recbole_ib"
#: old modules and where what they held is now, below the package; an empty text: in several places, see NAMES
MODULES = {
    "checkpoint": "training.checkpoint",
    "comparison": "",
    "comparison.decompose": "analysis.decompose",
    "comparison.information_plots": "analysis.information_plane",
    "comparison.lineup": "experiments.results",
    "comparison.summary": "experiments.report.write",
    "data.check": "training.validate",
    "data.device_loader": "data.train_loader",
    "data.loaders": "data.eval_loader",
    "diagnostics": "training.diagnostics",
    "embeddings": "inference.embeddings",
    "invrl_trainer": "training.invrl_trainer",
    "loading": "training.restore",
    "manifest": "training.manifest",
    "model.bm3": "model.backbones.bm3",
    "model.dualgnn": "model.backbones.dualgnn",
    "model.freedom": "model.backbones.freedom",
    "model.grcn": "model.backbones.grcn",
    "model.invrl": "model.wrappers.invrl",
    "model.lattice": "model.backbones.lattice",
    "model.mgcn": "model.backbones.mgcn",
    "model.micro": "model.backbones.micro",
    "model.mmgcn": "model.backbones.mmgcn",
    "model.plugin": "model.wrappers.base",
    "model.sgfd": "model.wrappers.sgfd",
    "model.slmrec": "model.backbones.slmrec",
    "model.soil": "model.backbones.soil",
    "model.vbpr": "model.backbones.vbpr",
    "model.vlattice": "model.backbones.vlattice",
    "model.vlightgcn": "model.backbones.vlightgcn",
    "per_user": "training.per_user",
    "quick_start": "training.run",
    "recommend": "inference.recommender",
    "registry": "model.registry",
    "trainer": "training.trainer",
}
#: names that are elsewhere than MODULES says, or are called otherwise
NAMES = {
    "comparison.decompose.Removed": "analysis.interventions.Removed",
    "comparison.decompose.Shuffled": "analysis.interventions.Shuffled",
    "comparison.lineup.Lineup": "experiments.results.Comparison",
    "comparison.lineup.Run": "experiments.results.RunResult",
    "comparison.summary.Entry": "experiments.results.Entry",
    "comparison.summary.Lineup": "experiments.results.Comparison",
    "config.Config": "config.config.Config",
    "config.absolute_paths": "config.config.absolute_paths",
    "config.check_keys": "config.checks.check_keys",
    "config.config_from_plain": "config.serialize.config_from_plain",
    "config.feature_files": "config.config.feature_files",
    "config.our_keys": "config.checks.our_keys",
    "config.our_yaml": "config.layers.our_yaml",
    "config.parse_arguments": "config.argv.parse_arguments",
    "config.parse_value": "config.argv.parse_value",
    "config.plain_config": "config.serialize.plain_config",
    "config.plain_value": "config.serialize.plain_value",
    "config.properties_folder": "config.layers.properties_folder",
    "config.quoted": "config.serialize.quoted",
    "config.resolve_paths": "config.config.resolve_paths",
    "config.unread_settings": "config.checks.unread_settings",
    "diagnostics.looking_on": "training.diagnostics.evaluation_mode",
    "loading.load_run": "training.restore.restore_run",
    "loading.quiet": "training.restore.silenced",
    "loading.read_run": "training.restore.read_checkpoint_any",
    "model.plugin.BackbonePlugin": "model.wrappers.base.BackboneWrapper",
    "quick_start.Setup": "training.run.RunSetup",
    "quick_start.set_up": "training.run.prepare",
    "registry.CATALOGUE": "model.registry.CATALOG",
    "registry.is_ours": "model.registry.is_multimodal",
    "registry.is_plugin": "model.registry.is_wrapper",
    "registry.register_all": "patches.install.register_all",
    "registry.with_bottlenecks": "model.registry.resolve_model",
}


def moved_attributes(module: str) -> Callable[[str], object]:
    """Return the ``__getattr__`` of an old module: it finds a name where it is now, and warns.

    Args:
        module: the old name, below the package, such as ``quick_start``.
    """

    def moved(name: str) -> object:
        target = NAMES.get(f"{module}.{name}") or (MODULES.get(module) and f"{MODULES[module]}.{name}")
        absent = AttributeError(f"module {PACKAGE}.{module!s} has no attribute {name!r}")
        # of dunder names the import system and inspect ask every module
        if not target or name.startswith("__"):
            raise absent
        folder, _, attribute = target.rpartition(".")
        try:
            found: object = getattr(importlib.import_module(f"{PACKAGE}.{folder}"), attribute)
        except AttributeError:
            raise absent from None
        text = f"{PACKAGE}.{module}.{name} is {PACKAGE}.{target} now; the old path goes with the next release"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return found

    return moved


class OldPaths(MetaPathFinder, Loader):
    """Finder of the modules of MODULES: until one is imported it is nowhere, not even in ``sys.modules``."""

    def find_spec(self, fullname: str, *_places: object) -> ModuleSpec | None:
        """Return the spec of an old module, ``None`` for every other name."""
        package, _, name = fullname.partition(".")
        if package != PACKAGE or name not in MODULES:
            return None
        return ModuleSpec(fullname, self, is_package=not MODULES[name])

    def exec_module(self, module: ModuleType) -> None:
        """Give the empty module its ``__getattr__``."""
        module.__getattr__ = moved_attributes(module.__name__.partition(".")[2])  # type: ignore[method-assign]


def install() -> None:
    """Let old modules be imported; a module that is there is found first."""
    if not any(isinstance(finder, OldPaths) for finder in sys.meta_path):
        sys.meta_path.append(OldPaths())
