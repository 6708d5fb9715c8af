"""Information bottlenecks as modules that any backbone holds: contract, registry, attachment.

``bottlenecks = ("fib", "gib")`` in a class, or ``--bottleneck=fib,gib`` on the command line, attaches
them; a user's own one joins by :func:`register_bottleneck` and is then a name like the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, TypeVar

from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.model.settings import Declaration
from recbole_ib.model.types import Backbone, Batch, BatchSubset, ItemGraph, Phase
from recbole_ib.utils.classes import full_name, same_class

#: between the backbone's name and those of its bottlenecks
PLUS = "+"
#: what a bottleneck may ask of its backbone
LATENTS, ITEM_GRAPH = "latents", "item_graph"


class Bottleneck(nn.Module):
    """Base of the bottlenecks: what is squeezed between a backbone's parts, with its loss terms and steps.

    A model calls the hooks in the order in which one training step needs them. Every hook has a default that
    changes nothing.

    Args:
        model: the finished backbone.
        config: RecBole's configuration, with the values of :attr:`settings`.
        dataset: the training data of the model.

    Raises:
        ConfigurationError: the backbone lacks what :attr:`requires` names.
    """

    #: the word of the key ``bottleneck``
    name: ClassVar[str]
    #: its yaml keys
    settings: ClassVar[tuple[Declaration, ...]] = ()
    #: :data:`LATENTS`, :data:`ITEM_GRAPH`
    requires: ClassVar[frozenset[str]] = frozenset()
    #: names that it does not go together with, and why
    excludes: ClassVar[Mapping[str, str]] = {}
    #: whether :meth:`latents` stands for those of the backbone in training
    replaces_latents: bool = False
    #: whether it reads the latents of all items in every step and every ranking
    reads_every_latent: ClassVar[bool] = False
    #: loss term -> the settings that switch it off: what ``recbole-ib ablate`` takes out one by one
    terms: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: its terms that are between modalities: a run on one modality alone goes without them
    between_modalities: ClassVar[frozenset[str]] = frozenset()
    #: prefix of its diagnostics -> (title, unit) in plots
    labels: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def __init__(self, model: Backbone, config: Any, dataset: Any):
        super().__init__()
        if LATENTS in self.requires:
            check_latents(model, config, self.name)
        if ITEM_GRAPH in self.requires and model.item_graph_kind is None:
            raise ConfigurationError(
                f"{self.name} refines an item graph, and {backbone_of(type(model)).__name__} has none "
                "(item_graph_kind is None); LATTICE, VLATTICE, MICRO, FREEDOM, MGCN and SOIL have one"
            )

    def subset(self, model: Backbone, subset: BatchSubset, interaction: Interaction) -> BatchSubset:
        """Return the rows that a batch needs, given those that the backbone's losses read."""
        return subset

    def latents(self, model: Backbone, items: Tensor | None) -> Mapping[str, Tensor]:
        """Return the latents of a training step in place of the backbone's, with :attr:`replaces_latents`."""
        return model.latents(items)

    def item_graph(self, model: Backbone, graph: ItemGraph, latents: Mapping[str, Tensor]) -> ItemGraph:
        """Return the item graph to train and rank with, given the backbone's."""
        return graph

    def losses(self, model: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Return its weighted loss terms of a batch, by name."""
        return {}

    def phases(self, model: Backbone, phases: list[Phase]) -> list[Phase]:
        """Return the optimizer steps of every batch: those so far, with its own before or after them."""
        return phases

    def diagnostics(self, model: Backbone, items: Tensor) -> dict[str, Tensor]:
        """Return scalars by name that tell what it lets through of the given distinct items."""
        return {}


AnyBottleneck = TypeVar("AnyBottleneck", bound=type[Bottleneck])
BOTTLENECKS: dict[str, type[Bottleneck]] = {}


def register_bottleneck(bottleneck: AnyBottleneck) -> AnyBottleneck:
    """Register a bottleneck under its ``name``, for the key ``bottleneck`` and names such as ``VBPR+mine``.

    Usable as a decorator of the class.

    Raises:
        ConfigurationError: no subclass of :class:`Bottleneck`, no usable name, or the name of another one.
    """
    candidate: object = bottleneck
    if not (isinstance(candidate, type) and issubclass(candidate, Bottleneck)):
        raise ConfigurationError(
            f"a bottleneck is a subclass of recbole_ib.model.bottleneck.Bottleneck, got {bottleneck!r}"
        )
    name = getattr(bottleneck, "name", None)
    if not isinstance(name, str) or not name.isidentifier() or name != name.lower():
        raise ConfigurationError(
            f"{bottleneck.__name__}.name is {name!r}; a bottleneck's name is a word of small letters, digits "
            "and _, such as fib"
        )
    other = BOTTLENECKS.get(name, bottleneck)
    if not same_class(other, bottleneck):
        raise ConfigurationError(
            f"the name {name!r} is that of {full_name(other)}; rename {bottleneck.__name__}"
        )
    BOTTLENECKS[name] = bottleneck
    return bottleneck


def parse_bottlenecks(value: Any) -> tuple[str, ...]:
    """Return the names in ``fib,gib``, ``fib+gib`` or a list, in the order in which they are registered.

    Raises:
        ConfigurationError: an unknown name, one given twice, or two that do not go together.
    """
    if value is None or value == "":
        return ()
    if not isinstance(value, (str, list, tuple)):
        raise ConfigurationError(
            f"bottleneck is {value!r}; it takes names, such as fib,gib. Allowed: {', '.join(BOTTLENECKS)}"
        )
    words = value.replace(PLUS, ",").split(",") if isinstance(value, str) else value
    names = [str(word).strip().lower() for word in words]
    for name in names:
        if name not in BOTTLENECKS:
            raise ConfigurationError(
                f"there is no bottleneck {name!r}.{nearest(name, BOTTLENECKS)} Allowed: "
                f"{', '.join(BOTTLENECKS)}. One of your own is known after recbole_ib.register_bottleneck"
            )
    if len(set(names)) != len(names):
        raise ConfigurationError(f"bottleneck is {value!r}; name each one once, such as fib,gib")
    for name in names:
        for other, reason in BOTTLENECKS[name].excludes.items():
            if other in names:
                raise ConfigurationError(f"bottleneck is {value!r}: {reason}")
    return tuple(name for name in BOTTLENECKS if name in names)


def bottleneck_names(model_class: type, config: Any) -> tuple[str, ...]:
    """Return the bottlenecks of a model: those of its class, or of the key ``bottleneck``."""
    return tuple(getattr(model_class, "bottlenecks", ())) or parse_bottlenecks(config["bottleneck"])


def backbone_of(model_class: type) -> type:
    """Return the class beneath a class with bottlenecks; a class without any is its own."""
    return next(cls for cls in model_class.__mro__ if not getattr(cls, "bottlenecks", ()))


class Composed(type):
    """Metaclass that attaches the bottlenecks when the last ``__init__`` of a model has returned.

    No backbone has to attach them itself.
    """

    def __call__(cls, config: Any, dataset: Any) -> Any:
        """Return the model with its bottlenecks."""
        model = super().__call__(config, dataset)
        # last, so that the order of the parameters is the backbone's: optimizers keep their state by it
        model.ib = nn.ModuleDict()
        for name in bottleneck_names(cls, config):
            model.ib[name] = BOTTLENECKS[name](model, config, dataset)
        return model


def batch_subset_of(model: Backbone, interaction: Interaction) -> BatchSubset:
    """Return the rows that one batch needs, of the model and its bottlenecks.

    A ``batch_subset`` holds for the methods that it was written for: where a subclass changes one of them and
    restates nothing, all rows are computed.
    """
    subset = model.batch_subset(interaction) if restates_subset(type(model)) else BatchSubset()
    bottlenecks = list(model.ib.values())
    for bottleneck in bottlenecks:
        subset = bottleneck.subset(model, subset, interaction)
    return subset if any(b.reads_every_latent for b in bottlenecks) else subset._replace(graph_items=None)


@cache
def restates_subset(model_class: type) -> bool:
    """Return whether ``batch_subset`` is defined at or below every method whose reads it describes."""
    readers = ("latents", "encode", "item_graph", "apply_item_graph", "ranking_losses", "calculate_loss")
    depth = next(i for i, cls in enumerate(model_class.__mro__) if "batch_subset" in vars(cls))
    return not any(name in vars(cls) for cls in model_class.__mro__[:depth] for name in readers)


def check_latents(model: Backbone, config: Any, bottleneck: str) -> None:
    """Raise ConfigurationError for a backbone that does not project features."""
    name, encoder = backbone_of(type(model)).__name__, model.feature_encoder
    if encoder is None:
        remedy = (
            "set item_graph: learned"
            if config["item_graph"] == "frozen"
            else "choose a backbone that projects features"
        )
        raise ConfigurationError(
            f"{bottleneck} works on the item latents, and {name} has none with these settings: features "
            f"enter it through its item graph alone; {remedy}"
        )
    unprojected = encoder.unprojected
    if unprojected:
        raise ConfigurationError(
            f"{bottleneck} works on projected features, and {name} takes {', '.join(unprojected)} as they "
            "are; set project_above: 0"
        )
