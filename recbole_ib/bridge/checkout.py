"""Checkout of MMRec that a user has: its model classes, settings and modules.

Nothing of it is left in the interpreter.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.utils.yaml import read_yaml

#: packages whose name for pip is not that of their import
PIP_NAMES = {
    "torch_geometric": "torch-geometric", "torch_scatter": "torch-scatter", "torch_sparse": "torch-sparse",
    "sklearn": "scikit-learn", "PIL": "pillow", "cv2": "opencv-python", "yaml": "pyyaml",
    "skimage": "scikit-image",
}  # fmt: skip


class _Finder(MetaPathFinder):
    """Finder of a checkout's top-level packages, searched before ``sys.path`` is."""

    def __init__(self, src: Path, names: frozenset[str]):
        self.src, self.names = src, names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        if path is not None or fullname not in self.names:
            return None  # a submodule: the path of its package leads to it
        folder = self.src / fullname
        if folder.is_dir() and not (folder / "__init__.py").is_file():
            # a folder without __init__.py would lose against any package of that name on sys.path
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(folder)]
            return spec
        return PathFinder.find_spec(fullname, [str(self.src)])


class Checkout:
    """Folder ``src`` of a checkout, see :func:`open_checkout`.

    Its packages have names as general as ``common``, ``utils`` and ``models``. They stand in ``sys.modules``
    only inside :meth:`active`; the caller's own modules of these names step aside for that time and are back
    afterwards. ``sys.path`` is never changed.
    """

    def __init__(self, src: Path):
        self.src = src
        packages = (
            p.name for p in src.iterdir() if p.is_dir() and p.name.isidentifier() and any(p.rglob("*.py"))
        )
        self.names = frozenset(packages) | frozenset(p.stem for p in src.glob("*.py"))
        self.modules: dict[str, ModuleType] = {}
        self._finder = _Finder(src, self.names)

    def _take(self) -> dict[str, ModuleType]:
        """Remove every module below the checkout's top-level names from ``sys.modules`` and return them."""
        return {
            name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in self.names
        }

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let ``import common`` and its like mean the checkout's within the block."""
        others = self._take()
        sys.modules.update(self.modules)
        sys.meta_path.insert(0, self._finder)
        try:
            yield
        finally:
            sys.meta_path.remove(self._finder)
            self.modules = self._take()
            sys.modules.update(others)

    # -- models ----------------------------------------------------------------------------------------------

    def models(self) -> dict[str, Path]:
        """Return class name -> file, for every ``models/<name>.py`` with a class of its own name.

        Capitals do not count.
        """
        models: dict[str, Path] = {}
        for file in sorted((self.src / "models").glob("*.py")):
            try:
                names = _class_names(file)
            except SyntaxError:
                continue
            models.update({name: file for name in names if name.lower() == file.stem.lower()})
        return models

    def model(self, name: str) -> CheckoutModel:
        """Return the model of this name, whose class is imported.

        Raises:
            ConfigurationError: no such model, a package that is missing, or a file that cannot be imported.
        """
        models = self.models()
        match = {known.lower(): known for known in models}.get(name.lower())
        if match is None:
            raise ConfigurationError(self._no_model(name, models))
        file = models[match]
        with self.active():
            importlib.invalidate_caches()
            try:
                module = importlib.import_module(f"models.{file.stem}")
            except Exception as error:
                raise ConfigurationError(
                    self.explain(error, f"{match} cannot be imported from {file}")
                ) from error
        return CheckoutModel(self, match, file, getattr(module, match))

    def _no_model(self, name: str, models: dict[str, Path]) -> str:
        folder = self.src / "models"
        for file in folder.glob("*.py"):
            if file.stem.lower() == name.lower():
                try:
                    classes = ", ".join(_class_names(file)) or "none"
                except SyntaxError as error:
                    return f"{file} is no valid Python: {error}"
                return (
                    f"{file} defines no class named {name!r} (capitals do not count); its classes: {classes}"
                )
        listed = ", ".join(models) or "none"
        return f"there is no model {name!r} in {folder}.{nearest(name, models)} It has: {listed}"

    def explain(self, error: BaseException, what: str) -> str:
        """Return one message for an error of the checkout's code.

        It names what failed, where in the checkout, and what to install if anything.
        """
        frames = [
            f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(self.src)
        ]
        where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else str(self.src)
        missing = error.name if isinstance(error, ModuleNotFoundError) and error.name else None
        if missing is None:
            hint = (
                " Perhaps the installed version of that package is another than the file expects."
                if _is_import(error)
                else ""
            )
            return f"{what}: {type(error).__name__} in {where}: {error}.{hint}"
        top = missing.partition(".")[0]
        if top in self.names:
            return (
                f"{what}: {where} imports {missing}, which this checkout does not have; another commit of it "
                "may"
            )
        pip_name = PIP_NAMES.get(top, top)
        return (
            f"{what}: {where} needs the package {top}, which is not installed. Install it: pip install "
            f"{pip_name}"
        )

    # -- settings --------------------------------------------------------------------------------------------

    def yaml(self, name: str) -> dict:
        """Return ``configs/<name>.yaml``; empty where there is none."""
        return read_yaml(self.src / "configs" / f"{name}.yaml", missing_ok=True)


def _is_import(error: BaseException) -> bool:
    return isinstance(error, ImportError)


def _class_names(file: Path) -> list[str]:
    tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def open_checkout(path: str | Path | None) -> Checkout:
    """The checkout at a path: the folder that holds ``src``, or ``src`` itself.

    Raises:
        ConfigurationError: no path, no such folder, or no folder of models in it.
    """
    if not path:
        raise ConfigurationError(
            "a model mmrec:NAME comes from your own checkout of MMRec: say where it is with --mmrec_path=DIR "
            "(git clone https://github.com/enoche/MMRec)"
        )
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigurationError(f"mmrec_path: there is no folder {folder}")
    for src in (folder / "src", folder):
        if (src / "models").is_dir():
            return _open(src)
    raise ConfigurationError(
        f"mmrec_path: {folder} is no checkout of MMRec, it has neither src/models nor models"
    )


@cache
def _open(src: Path) -> Checkout:
    return Checkout(src)


@dataclass(frozen=True)
class CheckoutModel:
    """One model of a checkout: its class and what its source and yaml say."""

    checkout: Checkout
    name: str
    file: Path
    cls: type = field(repr=False)

    @cached_property
    def overall(self) -> dict:
        """The checkout's settings of all models, one value a key."""
        return _single(self.checkout.yaml("overall"))[0]

    @cached_property
    def _own(self) -> tuple[dict, dict[str, list]]:
        return _single(self.checkout.yaml(f"model/{self.name}"))

    @property
    def settings(self) -> dict:
        """The model's yaml with one value a key: the first where MMRec would search a list."""
        return self._own[0]

    @property
    def searched(self) -> dict[str, list]:
        """The keys under ``hyper_parameters`` of the model's yaml, with their lists."""
        return self._own[1]

    @cached_property
    def reads(self) -> frozenset[str]:
        """Every key that the model's file reads from its configuration."""
        return _keys_read(self.file)

    @cached_property
    def keys(self) -> frozenset[str]:
        """Every key of this model in the checkout: of its yaml files, and read in its source."""
        shared = [_keys_read(file) for file in (self.checkout.src / "common").glob("*.py")]
        return self.reads.union({*self.checkout.yaml("overall")}, self.settings, *shared) - {
            "hyper_parameters"
        }

    @cached_property
    def _methods(self) -> dict[str, _Method]:
        """The methods of the class and of those it inherits from inside the checkout."""
        methods: dict[str, _Method] = {}
        for cls in reversed(self.cls.__mro__):
            module = self.checkout.modules.get(cls.__module__)
            if module is not None and module.__file__:
                methods.update(_methods(Path(module.__file__), cls.__name__))
        return methods

    def _reached(self, start: str) -> list[_Method]:
        """The methods that a call of ``start`` may run, by calls on ``self``."""
        names, todo = set(), [start]
        while todo:
            name = todo.pop()
            if name in self._methods and name not in names:
                names.add(name)
                todo += self._methods[name].calls
        return [self._methods[name] for name in sorted(names)]

    @cached_property
    def assigned_in_training(self) -> frozenset[str]:
        """The attributes that computing the loss assigns."""
        return frozenset().union(*(m.assigns for m in self._reached("calculate_loss")))

    @cached_property
    def left_tables(self) -> frozenset[str]:
        """The attributes that scoring reads and only training computes.

        Scores of such a model lag behind its parameters.
        """
        scoring = self._reached("full_sort_predict")
        read, assigned = (
            frozenset().union(*(getattr(m, part) for m in scoring)) for part in ("reads", "assigns")
        )
        return (self.assigned_in_training & read) - assigned

    @cached_property
    def imports_late(self) -> bool:
        """Does a loaded module of the checkout import another one only inside a function?"""
        names = "|".join(map(re.escape, sorted(self.checkout.names)))
        late = re.compile(rf"^[ \t]+(?:from|import)\s+(?:{names})\b", re.MULTILINE)
        files = (getattr(m, "__file__", None) for m in self.checkout.modules.values())
        return any(late.search(Path(f).read_text(encoding="utf-8", errors="replace")) for f in files if f)


def _single(settings: dict) -> tuple[dict, dict[str, list]]:
    """The settings with the first value of each list to be searched, and those lists."""
    searched = {
        key: settings[key]
        for key in settings.get("hyper_parameters") or ()
        if isinstance(settings.get(key), list) and settings[key]
    }
    return {**settings, **{key: values[0] for key, values in searched.items()}}, searched


def _keys_read(file: Path) -> frozenset[str]:
    text = file.read_text(encoding="utf-8", errors="replace")
    return frozenset(re.findall(r"""config\s*\[\s*["']([\w.]+)["']\s*\]""", text))


@dataclass(frozen=True)
class _Method:
    """What one method does with ``self``: the attributes it assigns and reads, the methods it calls."""

    assigns: frozenset[str]
    reads: frozenset[str]
    calls: tuple[str, ...]


def _methods(file: Path, class_name: str) -> dict[str, _Method]:
    tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            return {f.name: _method(f) for f in node.body if isinstance(f, ast.FunctionDef)}
    return {}


def _method(function: ast.FunctionDef) -> _Method:
    assigns: set[str] = set()
    reads: set[str] = set()
    calls: list[str] = []
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            (assigns if isinstance(node.ctx, ast.Store) else reads).add(node.attr)
        elif isinstance(node, ast.Call):
            if (
                isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "self"
            ):
                calls.append(node.func.attr)
            elif isinstance(node.func, ast.Name) and node.func.id == "self":
                calls.append("forward")
    return _Method(frozenset(assigns), frozenset(reads), tuple(calls))
