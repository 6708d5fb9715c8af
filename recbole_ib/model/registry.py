"""The catalog of models, and their registration with RecBole."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

import recbole
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import get_model

from recbole_ib.data.dataset import MultimodalDataset
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.model import bottlenecks  # noqa: F401  (registers them)
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.bottleneck import PLUS, backbone_of, parse_bottlenecks
from recbole_ib.model.wrappers.base import BackboneWrapper


@dataclass(frozen=True)
class ModelEntry:
    """One line of the catalog."""

    name: str
    module: str
    paper: str
    backbone: str
    bottlenecks: str


_IBMREC = "IBMRec, arXiv 2501.12175"

_MRDIB = "MRdIB, arXiv 2509.20225"

CATALOG: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        ModelEntry("VBPR", "backbones.vbpr", "He & McAuley, AAAI 2016", "BPR-MF", "-"),
        ModelEntry("VLightGCN", "backbones.vlightgcn", _IBMREC, "LightGCN", "-"),
        ModelEntry("LATTICE", "backbones.lattice", "Zhang et al., ACM MM 2021", "LightGCN + item graph", "-"),
        ModelEntry("VLATTICE", "backbones.vlattice", _IBMREC, "VLightGCN + item graph", "-"),
        ModelEntry(
            "MMGCN", "backbones.mmgcn", "Wei et al., ACM MM 2019", "a graph network per modality", "-"
        ),
        ModelEntry("GRCN", "backbones.grcn", "Wei et al., ACM MM 2020", "LightGCN, refined graph", "-"),
        ModelEntry(
            "DualGNN", "backbones.dualgnn", "Wang et al., IEEE TMM 2021", "LightGCN + user graph", "-"
        ),
        ModelEntry("SLMRec", "backbones.slmrec", "Tao et al., IEEE TMM 2022", "LightGCN", "-"),
        ModelEntry("MICRO", "backbones.micro", "Zhang et al., IEEE TKDE 2022", "LightGCN + item graphs", "-"),
        ModelEntry("BM3", "backbones.bm3", "Zhou et al., WWW 2023", "LightGCN", "-"),
        ModelEntry("FREEDOM", "backbones.freedom", "Zhou & Shen, ACM MM 2023", "LightGCN + item graph", "-"),
        ModelEntry("MGCN", "backbones.mgcn", "Yu et al., ACM MM 2023", "LightGCN + item graphs", "-"),
        ModelEntry("SOIL", "backbones.soil", "Su et al., ACM MM 2024", "LightGCN + item graphs", "-"),
        ModelEntry("InvRL", "wrappers.invrl", "Du et al., ACM MM 2022", "any that reads features", "-"),
        ModelEntry("SGFD", "wrappers.sgfd", "Liu et al., ACM MM 2023", "any that reads features", "-"),
        ModelEntry("IBMRec", "ibmrec", _IBMREC, "VLATTICE", "FIB, GIB"),
        ModelEntry("IBMRecWoFIB", "ibmrec", _IBMREC + ", Table 4", "VLATTICE", "GIB"),
        ModelEntry("IBMRecWoGIB", "ibmrec", _IBMREC + ", Table 4", "VLATTICE", "FIB"),
        ModelEntry("IBMRecVBPR", "ibmrec", _IBMREC + ", Table 3", "VBPR", "FIB"),
        ModelEntry("IBMRecVLightGCN", "ibmrec", _IBMREC + ", Table 3", "VLightGCN", "FIB"),
        ModelEntry("IBMRecLATTICE", "ibmrec", _IBMREC + ", Table 3", "LATTICE", "GIB"),
        ModelEntry("MRdIBVBPR", "mrdib", _MRDIB, "VBPR", "MRdIB"),
        ModelEntry("MRdIBMMGCN", "mrdib", _MRDIB, "MMGCN", "MRdIB"),
        ModelEntry("MRdIBDualGNN", "mrdib", _MRDIB, "DualGNN", "MRdIB"),
        ModelEntry("MRdIBLATTICE", "mrdib", _MRDIB, "LATTICE", "MRdIB"),
        ModelEntry("MRdIBFREEDOM", "mrdib", _MRDIB, "FREEDOM", "MRdIB"),
        ModelEntry("MRdIBMGCN", "mrdib", _MRDIB, "MGCN", "MRdIB"),
        ModelEntry("MRdIBSOIL", "mrdib", _MRDIB, "SOIL", "MRdIB"),
    )
}

#: names of models that come from the user's checkout of MMRec, see recbole_ib.bridge.mmrec
MMREC_PREFIX = "mmrec:"

#: keys that a MultimodalDataset reads; a saved data set is reused only where they are unchanged
DATASET_KEYS = (
    "modalities",
    "use_modalities",
    "feature_path",
    "feature_dtype",
    "feature_fingerprint",
    "protocol",
    "split_seed",
)


def list_models() -> list[str]:
    """Return the names of the catalog, baselines first."""
    return list(CATALOG)


@cache
def recbole_models() -> tuple[str, ...]:
    """Return the names of RecBole's own models: the class that each model file is named after.

    The sources are parsed and not imported, which would take seconds and optional packages.
    """
    names = set[str]()
    for path in _recbole_sources():
        tree = ast.parse(path.read_bytes())
        classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        names.update(name for name in classes if name.lower() == path.stem)
    return tuple(sorted(names))


@cache
def _recbole_sources() -> tuple[Path, ...]:
    """Return RecBole's model files; each is named after its model, in lower case."""
    return tuple((Path(recbole.__file__).parent / "model").glob("*_recommender/*.py"))


def is_multimodal(model_class: type) -> TypeGuard[type[MultimodalRecommender]]:
    """Return whether our trainer trains a class: a model of the catalog, or another subclass of our base."""
    return inspect.isclass(model_class) and issubclass(model_class, MultimodalRecommender)


def is_wrapper(model_class: type) -> bool:
    """Return whether a class wraps the model that its ``backbone`` key names."""
    return inspect.isclass(model_class) and issubclass(model_class, BackboneWrapper)


def backbone_class(name: object) -> type:
    """Return the class of a model that a wrapper may hold: one of ours, no wrapper, without a bottleneck.

    Raises:
        ConfigurationError: another name.
    """
    allowed = [
        other
        for other, model_class in _registered.items()
        if is_multimodal(model_class) and not is_wrapper(model_class) and not model_class.bottlenecks
    ]
    if name not in allowed:
        raise ConfigurationError(
            f"there is no backbone {name!r}.{nearest(str(name), allowed)} Allowed: {', '.join(allowed)}"
        )
    return _registered[str(name)]


def resolve_model(model: str | type | None, bottleneck: Any) -> str | type | None:
    """Return the registered name of a model with bottlenecks, those of the key or of ``FREEDOM+fib+gib``.

    A combination that the catalog has a name for is that class: VLATTICE with fib and gib is IBMRec. Any
    other one is the backbone's own class under a name such as ``FREEDOM+fib+gib``. Without bottlenecks the
    model is returned as it is.

    Raises:
        ConfigurationError: an unknown model or bottleneck, two settings that differ, or bottlenecks that the
            model cannot take.
    """
    name, plus, written = model.partition(PLUS) if isinstance(model, str) else (model, "", "")
    if model is None or (not plus and (bottleneck is None or bottleneck == "")):
        return model
    names = parse_bottlenecks(written if plus else bottleneck)
    if not names:
        raise ConfigurationError(
            f"the model is {model!r}; name a bottleneck behind {PLUS}, such as {name}+fib"
        )
    if plus and bottleneck not in (None, "") and parse_bottlenecks(bottleneck) != names:
        raise ConfigurationError(
            f"the model is {model}, but bottleneck is {bottleneck!r}; give the bottlenecks once"
        )
    if isinstance(name, str):
        if name.lower().startswith(MMREC_PREFIX):
            raise ConfigurationError(
                f"{name} is a model of MMRec's; a bottleneck needs a backbone of recbole_ib"
            )
        check_model_name(name)
    known_class = _registered.get(name) if isinstance(name, str) else name
    if known_class is None:
        raise ConfigurationError(
            f"{name} is RecBole's own model; a bottleneck needs a backbone that reads item features"
        )
    backbone = _check_takes(known_class, names)
    if backbone.bottlenecks == names:
        return register_model(backbone).__name__
    for entry in CATALOG.values():
        named = _registered[entry.name]
        if named.__bases__ == (backbone,) and getattr(named, "bottlenecks", ()) == names:
            return entry.name
    register_model(backbone)
    alias = PLUS.join([backbone.__name__, *names])
    if _aliases.get(alias) is not backbone:
        _make_known(alias, backbone)
        _aliases[alias] = backbone
    return alias


def bottlenecks_of(model: str, model_class: type) -> tuple[str, ...]:
    """Return the bottlenecks of a resolved name and its class: those of the class, or those in the name."""
    return tuple(getattr(model_class, "bottlenecks", ())) or parse_bottlenecks(model.partition(PLUS)[2])


def _check_takes(backbone: type, names: tuple[str, ...]) -> type[MultimodalRecommender]:
    """Return a class that can have these bottlenecks.

    Raises:
        ConfigurationError: it is no multimodal model, a wrapper, has other bottlenecks, or a loss that would
            leave their terms out.
    """
    if not is_multimodal(backbone):
        raise ConfigurationError(
            f"{backbone.__name__} is no multimodal model of recbole_ib: a bottleneck needs a backbone that "
            "reads item features"
        )
    if is_wrapper(backbone):
        raise ConfigurationError(
            f"{backbone.__name__} is a wrapper itself; a bottleneck works on a backbone, not around a wrapper"
        )
    if backbone.bottlenecks and backbone.bottlenecks != names:
        raise ConfigurationError(
            f"{backbone.__name__} has the bottleneck {','.join(backbone.bottlenecks)} already and cannot "
            f"take {','.join(names)}; name its backbone: --model={backbone_of(backbone).__name__} "
            f"--bottleneck={','.join(names)}"
        )
    if backbone.calculate_loss is not MultimodalRecommender.calculate_loss:
        raise ConfigurationError(
            f"{backbone.__name__} has a calculate_loss of its own, which would leave the terms of "
            f"{','.join(names)} out; put its loss into ranking_losses"
        )
    if backbone.phases is not MultimodalRecommender.phases:
        raise ConfigurationError(
            f"a bottleneck needs a backbone with one training step per batch; {backbone.__name__} has phases "
            "of its own"
        )
    return backbone


def check_model_name(name: str) -> None:
    """Raise ConfigurationError for a name that is neither in the catalog, nor RecBole's, nor registered."""
    if name in CATALOG or name in recbole_models() or name in _registered or name in _aliases:
        return
    known = [*CATALOG, *_registered, *recbole_models()]
    raise ConfigurationError(
        f"there is no model {name!r}.{nearest(name, known)} recbole_ib has {', '.join(CATALOG)}; RecBole's "
        "own models work too: `recbole-ib models` lists all. A model of your checkout of MMRec is "
        f"{MMREC_PREFIX}NAME with --mmrec_path=DIR"
    )


_registered: dict[str, type] = {}
#: names such as FREEDOM+fib+gib -> the backbone's class
_aliases: dict[str, type] = {}


def register_model(model_class: type) -> type:
    """Register a model class with RecBole by its name; usable as a decorator.

    ``recbole.utils.get_model``, ``Config``, ``run_recbole``, ``run_recboles``, ``load_data_and_model``,
    ``objective_function`` and ``HyperTuning`` look a model up by name and then find this class. A subclass of
    :class:`recbole_ib.model.base.MultimodalRecommender` gets our data set and trainer too.

    Raises:
        ConfigurationError: no recommender class, or a name that RecBole, the catalog or another class has.
    """
    if not inspect.isclass(model_class) or not issubclass(model_class, AbstractRecommender):
        raise ConfigurationError(
            f"a model is a subclass of RecBole's AbstractRecommender, got {model_class!r}"
        )
    name = model_class.__name__
    if _registered.get(name) is model_class:
        return model_class
    _check_free(name, model_class)
    if model_class.__qualname__ != name:
        raise ConfigurationError(
            f"{name} must stand at the top level of its module, so that a worker can import it by name"
        )
    _make_known(name, model_class)
    _registered[name] = model_class
    return model_class


def _make_known(name: str, model_class: type) -> None:
    """Enter a class, its data set and its trainer where RecBole looks them up by name."""
    # RecBole imports recbole.model.<kind>_recommender.<lower-case name> and takes the class from it
    package = importlib.import_module("recbole.model.general_recommender")
    alias = ModuleType(
        f"{package.__name__}.{name.lower()}", f"What RecBole imports for {model_class.__module__}.{name}."
    )
    alias.__spec__ = ModuleSpec(alias.__name__, None)
    setattr(alias, name, model_class)
    sys.modules[alias.__name__] = alias
    setattr(package, name.lower(), alias)
    if is_multimodal(model_class):
        # a model names a trainer of its own as text: models lie below trainers and import none
        module, _, trainer = getattr(
            model_class, "trainer_class", "recbole_ib.training.trainer.MultimodalTrainer"
        ).rpartition(".")
        # RecBole looks for <Name>Dataset and <Name>Trainer before it takes the general ones
        setattr(importlib.import_module("recbole.data.dataset"), f"{name}Dataset", MultimodalDataset)
        setattr(
            importlib.import_module("recbole.trainer"),
            f"{name}Trainer",
            getattr(importlib.import_module(module), trainer),
        )


def ensure_known(model_class: type) -> None:
    """Register a model class unless RecBole finds this very class by its name already."""
    name = getattr(model_class, "__name__", "")
    if name not in recbole_models() or get_model(name) is not model_class:
        register_model(model_class)


def _check_free(name: str, model_class: type) -> None:
    """Raise ConfigurationError for a name that another model has, where capitals do not count.

    A module may register its own class again.
    """
    # by the names of the files alone: parsing them would slow down every `import recbole_ib`
    owners = {path.stem: "recbole" for path in _recbole_sources()}
    owners.update({entry.name.lower(): f"recbole_ib.model.{entry.module}" for entry in CATALOG.values()})
    owners.update({other.lower(): cls.__module__ for other, cls in _registered.items()})
    exact = name in CATALOG or name in _registered or name.lower() not in owners
    if not exact or owners.get(name.lower(), model_class.__module__) != model_class.__module__:
        raise ConfigurationError(
            f"the name {name!r} is taken by a model of {owners[name.lower()]} (capitals do not count); "
            f"rename the class {model_class.__module__}.{name}"
        )
