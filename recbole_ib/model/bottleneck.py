"""Bottlenecks on any backbone: the class that a backbone and the names of bottlenecks make.

This is the one mechanism: ``IBMRec`` or ``MRdIBFREEDOM`` are such classes with a name in the catalog, and
``--model=FREEDOM --bottleneck=fib,gib`` makes one that has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from recbole.utils import get_model

from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.model.base import MultimodalRecommender, backbone_of
from recbole_ib.model.ibmrec import FIB, GIB, InformationBottleneck
from recbole_ib.model.mrdib import MRDIB, DisentangledBottleneck
from recbole_ib.model.wrappers.base import BackboneWrapper

#: name -> the class that puts it on a backbone, in the order in which names are written
BOTTLENECKS: dict[str, type] = {FIB: InformationBottleneck, GIB: InformationBottleneck, MRDIB: DisentangledBottleneck}
#: between the backbone's name and those of the bottlenecks in the name of a class
PLUS = "+"


def parse_bottlenecks(value: str | Sequence[str]) -> tuple[str, ...]:
    """``fib,gib``, ``fib+gib`` or a list, as a tuple in the order of :data:`BOTTLENECKS`.

    Raises:
        ConfigurationError: an unknown name, one given twice, none, or two that do not go together.
    """
    if not isinstance(value, (str, list, tuple)):
        raise ConfigurationError(f"bottleneck is {value!r}; it takes names, such as fib,gib. Allowed: {', '.join(BOTTLENECKS)}")
    words = value.replace(PLUS, ",").split(",") if isinstance(value, str) else value
    names = [str(word).strip().lower() for word in words]
    for name in names:
        if name not in BOTTLENECKS:
            raise ConfigurationError(
                f"there is no bottleneck {name!r}.{nearest(name, BOTTLENECKS)} Allowed: {', '.join(BOTTLENECKS)}"
            )
    if len(set(names)) != len(names) or not names:
        raise ConfigurationError(f"bottleneck is {value!r}; name each one once, such as fib,gib")
    if len({BOTTLENECKS[name] for name in names}) > 1:
        raise ConfigurationError(
            f"bottleneck is {value!r}: fib and gib go together, mrdib stands alone (fib and mrdib both shape the item latents, and the "
            "papers' training steps differ)"
        )
    return tuple(name for name in BOTTLENECKS if name in names)


def bottlenecked(backbone: type, names: tuple[str, ...], named: Iterable[type] = ()) -> type:
    """The class of a backbone with bottlenecks.

    Args:
        backbone: a subclass of :class:`recbole_ib.model.base.MultimodalRecommender`.
        names: as of :func:`parse_bottlenecks`.
        named: classes that have names of their own; one of them with this backbone and these bottlenecks is taken as it is.

    Raises:
        ConfigurationError: no recommender of ours, a plug-in, a class that has other bottlenecks already, or one whose loss they
            could not reach.
    """
    if not issubclass(backbone, MultimodalRecommender):
        raise ConfigurationError(
            f"{backbone.__name__} is no multimodal model of recbole_ib: a bottleneck needs a backbone that reads item features"
        )
    if issubclass(backbone, BackboneWrapper):
        raise ConfigurationError(
            f"{backbone.__name__} is a plug-in itself; a bottleneck works on a backbone, not around a plug-in"
        )
    if backbone.bottlenecks:
        if backbone.bottlenecks == names:
            return backbone
        raise ConfigurationError(
            f"{backbone.__name__} has the bottleneck {','.join(backbone.bottlenecks)} already and cannot take {','.join(names)}; name "
            f"its backbone: --model={backbone_of(backbone).__name__} --bottleneck={','.join(names)}"
        )
    for method in ("calculate_loss", "batch_pass"):
        if getattr(backbone, method) is not getattr(MultimodalRecommender, method):
            raise ConfigurationError(
                f"{backbone.__name__} has a {method} of its own, which would leave the terms of {','.join(names)} out; put its loss into "
                "ranking_losses or pass_losses"
            )
    if len(backbone.training_phases) > 1:
        raise ConfigurationError(f"a bottleneck needs a backbone with one training step a batch; {backbone.__name__} has more")
    for model_class in named:
        own = model_class.bottlenecks if issubclass(model_class, MultimodalRecommender) else ()
        if own == names and model_class.__bases__ == (BOTTLENECKS[names[0]], backbone):
            return model_class
    return _made(backbone, names)


@cache
def _made(backbone: type, names: tuple[str, ...]) -> type:
    name = PLUS.join([backbone.__name__, *names])
    mixin = BOTTLENECKS[names[0]]
    doc = f"{backbone.__name__} with {' and '.join(names)}, see :class:`{mixin.__module__}.{mixin.__name__}`."
    return type(name, (mixin, backbone), {"bottlenecks": names, "__module__": __name__, "__doc__": doc, "__qualname__": name})


def __getattr__(name: str) -> type:
    """A class without a name of its own, for pickle: RecBole pickles a Config, and with it the model class."""
    backbone, plus, names = name.partition(PLUS)
    if not plus:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _made(get_model(backbone), parse_bottlenecks(names))
