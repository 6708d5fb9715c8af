"""Declared settings.

A model, a wrapper or a bottleneck says once what it reads, and everything else follows from that.

    class MyModel(VBPR):
        \"\"\"VBPR with a hinge.\"\"\"

        settings = (
            Setting("hinge_margin", 0.2, "margin of the hinge", Number(above=0),
            search=Search.loguniform(0.01, 1.0)), Override("reg_weight", default=0.1),
            Dropped("normalize_features"),
        )

A class declares what it adds, changes and leaves out compared with the classes it inherits from;
:func:`settings_of` composes these in the order backbone < bottlenecks < the named combination. The defaults
of a run, the check of its values and its keys, the spaces of ``recbole-ib tune``, ``properties/model``,
``properties/bottleneck``, ``properties/tune`` and the tables of the doc pages come from the result
(:mod:`recbole_ib.config.declared`, :mod:`recbole_ib.config.generate`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.utils.validate import Anything, Kind, refusal


@dataclass(frozen=True)
class Search:
    """The values that a search tries, in the notation of :mod:`recbole_ib.tuning.space`.

    kind: ``choice``, ``uniform``, ``loguniform``, ``quniform`` or ``int``; args: what follows it; source:
    where they come from.
    """

    kind: str
    args: tuple[Any, ...]
    source: str = ""

    @classmethod
    def choice(cls, *values: Any, source: str = "") -> Search:
        """Return the search of a few values."""
        return cls("choice", values, source)

    @classmethod
    def loguniform(cls, low: float, high: float, source: str = "") -> Search:
        """Return the search of a range whose magnitudes are equally likely."""
        return cls("loguniform", (low, high), source)

    @classmethod
    def uniform(cls, low: float, high: float, source: str = "") -> Search:
        """Return the search of a range."""
        return cls("uniform", (low, high), source)

    @classmethod
    def integers(cls, low: int, high: int, source: str = "") -> Search:
        """Return the search of the whole numbers from ``low`` to ``high``."""
        return cls("int", (low, high), source)

    def plain(self) -> dict[str, list[Any]]:
        """Return the search as a space file writes it."""
        return {self.kind: list(self.args)}


@dataclass(frozen=True)
class Setting:
    """One key that a model reads.

    key: its name in yaml files and on the command line. default: its value where nothing sets it. doc: its
    meaning. kind: its values, see :mod:`recbole_ib.utils.validate`. source: where the default, or another
    usual value, comes from. search: what ``recbole-ib tune`` tries; ``None`` for a key that it leaves alone.
    symbol: the paper's, beside the name at the axes of pictures. general: the key belongs to every run, and
    its default to ``overall.yaml``.
    """

    key: str
    default: Any
    doc: str
    kind: Kind = dataclasses.field(default_factory=Anything)
    source: str = ""
    search: Search | None = None
    symbol: str = ""
    general: bool = False

    def but(self, **changes: Any) -> Setting:
        """Return this setting with other values in some fields."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, init=False)
class Override:
    """Another default, meaning or search of a key that is declared already.

    For example ``Override("project_above", default=0)``.
    """

    key: str
    changes: Mapping[str, Any]

    def __init__(self, key: str, **changes: Any) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "changes", changes)

    def applied_to(self, setting: Setting) -> Setting:
        """Return the setting with the changes.

        A general key with another default becomes one of the model's.
        """
        return setting.but(general=setting.general and "default" not in self.changes, **self.changes)


@dataclass(frozen=True)
class Dropped:
    """A key that a class does not read, unlike the one it inherits from."""

    key: str


Declaration: TypeAlias = Setting | Override | Dropped


def compose(
    parts: Iterable[tuple[str, Sequence[Declaration]]], general: Iterable[Setting] = ()
) -> dict[str, Setting]:
    """Return the settings of several declarations, a later one above the earlier ones.

    Args:
        parts: who declares, for messages, and the declarations.
        general: settings of every run, which an :class:`Override` may change without a declaration below it.

    Raises:
        ConfigurationError: a change of a key that no class declares, a key declared twice in one
            class, or a default of another kind.
    """
    known = {setting.key: setting for setting in general}
    composed: dict[str, Setting] = {}
    for owner, declarations in parts:
        keys = [declaration.key for declaration in declarations]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigurationError(f"{owner} declares the setting {key} twice; once is enough")
        for declaration in declarations:
            key = declaration.key
            if isinstance(declaration, Setting):
                composed[key] = declaration
                continue
            below = composed.get(key) or known.get(key)
            if below is None:
                raise ConfigurationError(
                    f"{owner} changes the setting {key!r}, which no class below it "
                    f"declares.{nearest(key, {**known, **composed})} A new key is a Setting"
                )
            if isinstance(declaration, Dropped):
                composed.pop(key, None)
            else:
                composed[key] = declaration.applied_to(below)
        _check_defaults(owner, (composed[key] for key in keys if key in composed))
    return composed


def _check_defaults(owner: str, settings: Iterable[Setting]) -> None:
    for setting in settings:
        reason = refusal(setting.key, setting.default, setting.kind)
        if reason is not None:
            raise ConfigurationError(f"{owner} declares a default outside its own bounds: {reason}")


def declares(owner: type) -> bool:
    """Return whether a class itself declares settings.

    An attribute of that name that is no tuple is something else.
    """
    return isinstance(vars(owner).get("settings"), (tuple, list))


def declared_by(owner: type) -> tuple[Declaration, ...]:
    """Return what one class itself declares.

    Raises:
        ConfigurationError: ``settings`` holds something else.
    """
    if not declares(owner):
        return ()
    declarations = vars(owner)["settings"]
    for declaration in declarations:
        if not isinstance(declaration, (Setting, Override, Dropped)):
            raise ConfigurationError(
                f"{owner.__name__}.settings holds Setting, Override and Dropped (recbole_ib.model.settings), "
                f"got {declaration!r}"
            )
    return tuple(declarations)


def settings_of(
    model_class: type,
    bottlenecks: Sequence[str] | None = None,
    *,
    of_bottleneck: Callable[[str], Sequence[Declaration]],
    of_class: Callable[[type], Sequence[Declaration]] = declared_by,
    general: Iterable[Setting] = (),
) -> dict[str, Setting]:
    """Return every setting that a model reads, by key: backbone < bottlenecks < the named combination.

    Args:
        model_class: the model; what its classes without bottlenecks declare is the backbone's.
        bottlenecks: names; default: those of the class.
        of_bottleneck: a bottleneck's name -> what it declares.
        of_class: a class -> what it itself declares.
        general: settings of every run.

    Raises:
        ConfigurationError: declarations that do not fit together, see :func:`compose`.
    """
    names = getattr(model_class, "bottlenecks", ()) if bottlenecks is None else bottlenecks
    classes = [cls for cls in reversed(model_class.__mro__) if cls is not object]
    plain = [cls for cls in classes if not getattr(cls, "bottlenecks", ())]
    combined = [cls for cls in classes if getattr(cls, "bottlenecks", ())]
    parts: list[tuple[str, Sequence[Declaration]]] = [(cls.__name__, of_class(cls)) for cls in plain]
    parts += [(f"the bottleneck {name}", of_bottleneck(name)) for name in names]
    parts += [(cls.__name__, of_class(cls)) for cls in combined]
    return compose(parts, general)


def space_of(settings: Mapping[str, Setting], order: Sequence[str] = ()) -> dict[str, Search]:
    """Return what a search tries, key -> values.

    The keys of ``order`` come first, then the others as they are declared.
    """
    searched = {key: setting.search for key, setting in settings.items() if setting.search is not None}
    return {
        key: searched[key]
        for key in [
            *(key for key in order if key in searched),
            *(key for key in searched if key not in order),
        ]
    }
