"""How the pre-trained features of the items enter a model: one class per kind of encoder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError
from recbole_ib.model.graphs import any_feature
from recbole_ib.model.layers.feature_scaling import FeatureScaling
from recbole_ib.model.layers.feature_table import HalfTable
from recbole_ib.model.losses import total
from recbole_ib.model.settings import Setting
from recbole_ib.ops.linear import Linear, linear, reads_bfloat16
from recbole_ib.utils.classes import full_name, same_class
from recbole_ib.utils.validate import Integer


class ModalityEncoder(nn.Module):
    """Base of the encoders, Z^k of the item features M^k: ``forward(items) -> {name: [n, d]}``.

    Without ``items`` it encodes all of them.

    Bottlenecks, wrappers and diagnostics read a backbone's features through these methods alone. Names are
    those of the latents, which are the modalities unless an encoder mixes them (:class:`ConcatEncoder`).

    Attributes:
        modalities: the names, in order.
        out_dim: d.
        tuned: whether the features are trained too.
    """

    #: its own yaml keys
    settings: ClassVar[tuple[Setting, ...]] = ()
    modalities: list[str]
    out_dim: int
    tuned: bool

    @classmethod
    def build(cls, config: Any, linear: Callable[[int], ModalityEncoder], out_dim: int) -> ModalityEncoder:
        """Return an encoder of width ``out_dim``; ``linear``: width -> the backbone's own projections."""
        raise NotImplementedError

    def rows(self, name: str, items: Tensor | None) -> Tensor:
        """Return M^k of the given items, ``[n, d_k]``, or of all."""
        raise NotImplementedError

    def inputs(self, name: str, items: Tensor | None) -> Tensor:
        """Return what a :class:`recbole_ib.ops.linear.Linear` reads of M^k: :meth:`rows`, maybe in bfloat16.

        In a mixed step constant rows are, where that pays.
        """
        return self.rows(name, items)

    def table(self, name: str) -> Tensor:
        """Return M^k, float ``[n_items, d_k]``; a copy where it is kept in float16."""
        return self.rows(name, None)

    def first_layer(self, name: str) -> nn.Linear:
        """Return the layer that reads the features."""
        raise NotImplementedError

    def set_first_layer(self, name: str, layer: nn.Linear) -> None:
        """Put another layer in its place."""
        raise NotImplementedError

    def replace_projections(self, make: Callable[[ModalityEncoder], ModalityEncoder]) -> ModalityEncoder:
        """Return this encoder with what ``make`` gives in the place of its linear projections."""
        return make(self)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        raise NotImplementedError

    @property
    def widths(self) -> dict[str, int]:
        """d_k by name."""
        return {name: self.rows(name, torch.zeros(1, dtype=torch.long)).shape[1] for name in self.modalities}

    @property
    def unprojected(self) -> list[str]:
        """The modalities that pass as they are, as no latent of a bottleneck may."""
        return []

    def features(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """Return M^k by name, as constants."""
        return {name: self.rows(name, items).detach() for name in self.modalities}

    def masks(self, dataset: Any) -> dict[str, Tensor]:
        """Return by name the items that have a feature of their own, bool ``[n_items]``."""
        return dict(dataset.has_feature)

    def parts(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """Return the part of the latents that each modality makes: modality -> ``[n, d]``."""
        return self(items)

    def part_features(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """Return what those parts are made of, modality -> ``[n, d_m]``, as constants.

        In a mixed step as the projections read them.
        """
        return {name: self.inputs(name, items).detach() for name in self.modalities}

    def fuse(self, parts: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the latents of the modalities' parts."""
        return parts


AnyEncoder = TypeVar("AnyEncoder", bound=type[ModalityEncoder])
#: value of the key ``feature_encoder`` -> class
ENCODERS: dict[str, type[ModalityEncoder]] = {}


def register_encoder(name: str) -> Callable[[AnyEncoder], AnyEncoder]:
    """Make an encoder known as a value of the key ``feature_encoder``; a decorator of its class.

    Raises:
        ConfigurationError: no subclass of :class:`ModalityEncoder`, or the name of another one.
    """

    def register(encoder: AnyEncoder) -> AnyEncoder:
        candidate: object = encoder
        if not inspect.isclass(candidate) or not issubclass(candidate, ModalityEncoder):
            raise ConfigurationError(
                f"an encoder is a subclass of recbole_ib.ModalityEncoder, got {encoder!r}"
            )
        known = ENCODERS.get(name, encoder)
        if not same_class(known, encoder):
            raise ConfigurationError(f"feature_encoder: {name} is {full_name(known)}; take another name")
        ENCODERS[name] = encoder
        return encoder

    return register


def make_encoder(config: Any, linear: Callable[[int], ModalityEncoder], out_dim: int) -> ModalityEncoder:
    """Return the encoder of a backbone by the key ``feature_encoder``.

    Args:
        config: of the run.
        linear: width -> the backbone's own linear projections, with its tables, initial values and
            activations.
        out_dim: d.
    """
    return ENCODERS[config["feature_encoder"]].build(config, linear, out_dim)


def is_tuned(config: Any) -> bool:
    """Return whether the key ``raw_features`` trains the features too, as several authors' releases do."""
    return config["raw_features"] == "tuned"


@register_encoder("linear")
class LinearEncoder(ModalityEncoder):
    """Z^k = M^k W_k + b_k, one linear layer per modality (IBMRec Eq. 21; T_m or G_m in the other papers).

    Args:
        features: name -> ``[n_items, d_k]``, or several such tables, which are put side by side, in a list
            or by modality; constants stay out of the state dict. Tables in float16 that are not trained stay
            as they are, see :class:`HalfTable`; the trained ones are float32.
        out_dim: d.
        normalize: scale feature rows first, so that no extractor's scale drowns the id embeddings: True for
            rows of length 1, or :func:`recbole_ib.model.layers.feature_scaling.feature_scaling`.
        tuned: train the feature tables too.
        init: of W_k: ``xavier_normal``, ``xavier_uniform``, or ``default``, torch's for a linear layer.
        zero_bias: start b_k at zero; otherwise as torch's linear layers do.
    """

    def __init__(
        self,
        features: Mapping[str, Tensor | Sequence[Tensor] | Mapping[str, Tensor]],
        out_dim: int,
        normalize: bool | FeatureScaling = False,
        tuned: bool = False,
        init: str = "xavier_normal",
        zero_bias: bool = True,
    ):
        super().__init__()
        self.modalities, self.out_dim, self.tuned = list(features), out_dim, tuned
        self.init, self.zero_bias = init, zero_bias and init != "default"
        #: the ids that rows were last asked for, and the rows of constant tables by name
        self._fetched: tuple[Tensor, dict[tuple[str, torch.dtype], Tensor]] | None = None
        #: by name, a constant table, its version, and its copy in bfloat16
        self._copies: dict[str, tuple[Tensor, int, Tensor]] = {}
        widths, scaling = {}, FeatureScaling.of(normalize)
        for name, tables in features.items():
            parts = {name: tables} if isinstance(tables, Tensor) else tables
            if not isinstance(parts, Mapping):
                parts = {f"{name}_{i}": part for i, part in enumerate(parts)}
            widths[name] = sum(part.shape[1] for part in parts.values())
            table = scaling.table(parts, tuned)
            if isinstance(table, HalfTable):
                self.add_module(f"features_{name}", table)
            elif tuned:
                self.register_parameter(f"features_{name}", nn.Parameter(table.clone()))
            else:
                self.register_buffer(f"features_{name}", table, persistent=False)
        self.linear = nn.ModuleDict({m: Linear(widths[m], out_dim) for m in self.modalities})
        self.reset_parameters()

    @classmethod
    def build(cls, config: Any, linear: Callable[[int], ModalityEncoder], out_dim: int) -> ModalityEncoder:
        """Return the linear projections themselves."""
        return linear(out_dim)

    def first_layer(self, name: str) -> nn.Linear:
        """Return W_k, b_k."""
        return cast("nn.Linear", self.linear[name])

    def set_first_layer(self, name: str, layer: nn.Linear) -> None:
        """Put another W_k, b_k in its place."""
        self.linear[name] = layer

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for layer in (self.first_layer(name) for name in self.linear):
            layer.reset_parameters()
            if self.init != "default":
                getattr(nn.init, f"{self.init}_")(layer.weight)
            if self.zero_bias:
                nn.init.zeros_(layer.bias)

    def table(self, name: str) -> Tensor:
        """Return M^k, float ``[n_items, d_k]``; a copy where it is kept in float16."""
        table = getattr(self, f"features_{name}")
        return table() if isinstance(table, HalfTable) else table

    def rows(self, name: str, items: Tensor | None) -> Tensor:
        """Return M^k of the given items, ``[n, d_k]``, or of all."""
        if items is None:
            return self.table(name)
        if self.tuned:
            # F.embedding, not indexing: the gradient of a tuned table must not depend on the order of the
            # threads
            return F.embedding(items, getattr(self, f"features_{name}"))
        return self._fetch(name, getattr(self, f"features_{name}"), items)

    def inputs(self, name: str, items: Tensor | None) -> Tensor:
        """Return :meth:`rows`; in a mixed step constant ones in bfloat16, where that pays."""
        table = getattr(self, f"features_{name}")
        if self.tuned or isinstance(table, HalfTable) or not reads_bfloat16(table.device, table.shape[1]):
            return self.rows(name, items)
        copy = self._copies.get(name)
        if copy is None or copy[0] is not table or copy[1] != table._version:
            copy = self._copies[name] = table, table._version, table.bfloat16()
        return copy[2] if items is None else self._fetch(name, copy[2], items)

    def _fetch(self, name: str, table: Tensor | HalfTable, items: Tensor) -> Tensor:
        # a step asks several times for the rows of the same ids (a latent's mean and its noise), and wide
        # rows are slow to fetch
        if self._fetched is None or self._fetched[0] is not items:
            self._fetched = items, {}
        rows = self._fetched[1]
        key = name, torch.float32 if isinstance(table, HalfTable) else table.dtype
        if key not in rows:
            rows[key] = table(items) if isinstance(table, HalfTable) else F.embedding(items, table)
        return rows[key]

    def train(self, mode: bool = True) -> LinearEncoder:
        """Set the mode, and drop the rows of the last step."""
        self._fetched = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fetched": None, "_copies": {}}

    def forward(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """Return Z^k by name (IBMRec Eq. 21)."""
        return {m: self._project(m, items) for m in self.modalities}

    def _project(self, name: str, items: Tensor | None) -> Tensor:
        table = getattr(self, f"features_{name}")
        if items is None and isinstance(table, HalfTable):
            return table.through(self.linear[name])
        layer = self.linear[name]
        return layer(self.inputs(name, items) if isinstance(layer, Linear) else self.rows(name, items))


class ConcatEncoder(LinearEncoder):
    """z = W [f_1 ; .. ; f_M] + b, one latent of all modalities side by side (VBPR).

    With W = [W_1 .. W_M] the part of a modality is W_m f_m, and the latent their sum; the first part
    carries b.

    Args:
        features: modality -> ``[n_items, d_m]``.
        out_dim: d.
        normalize: scale the rows first, every modality alike, as in :class:`LinearEncoder`.
    """

    LATENT = "content"

    def __init__(
        self, features: Mapping[str, Tensor], out_dim: int, normalize: bool | FeatureScaling = False
    ):
        super().__init__({self.LATENT: features}, out_dim, normalize)
        self.columns = {m: table.shape[1] for m, table in features.items()}

    def masks(self, dataset: Any) -> dict[str, Tensor]:
        """Return the items that have any feature of their own."""
        return {self.LATENT: any_feature(dataset)}

    def parts(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """Return W_m f_m by modality, the first one with the bias."""
        layer, columns = self.first_layer(self.LATENT), self._columns(items)
        weights = layer.weight.split(list(self.columns.values()), dim=1)
        parts = {m: linear(x, w) for (m, x), w in zip(columns.items(), weights, strict=True)}
        first = next(iter(parts))
        return {**parts, first: parts[first] + layer.bias}

    def part_features(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """Return f_m by modality, as constants."""
        return {m: x.detach() for m, x in self._columns(items).items()}

    def fuse(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sum of the parts."""
        return {self.LATENT: total(parts.values())}

    def _columns(self, items: Tensor | None) -> dict[str, Tensor]:
        rows = self.inputs(self.LATENT, items).split(list(self.columns.values()), dim=1)
        return dict(zip(self.columns, rows, strict=True))


@register_encoder("mlp")
class MLPEncoder(ModalityEncoder):
    """Z^k = W'_k lrelu(M^k W_k + b_k) + b'_k: a hidden layer per modality (DualGNN's MLP).

    Args:
        first: the linear projections to the hidden width.
        out_dim: d.
    """

    settings = (Setting("encoder_hidden_size", 64, "feature_encoder: mlp, its hidden width", Integer(1)),)

    def __init__(self, first: ModalityEncoder, out_dim: int):
        super().__init__()
        self.modalities, self.out_dim, self.tuned = first.modalities, out_dim, first.tuned
        self.first = first
        self.second = nn.ModuleDict({m: nn.Linear(first.out_dim, out_dim) for m in self.modalities})

    @classmethod
    def build(cls, config: Any, linear: Callable[[int], ModalityEncoder], out_dim: int) -> MLPEncoder:
        """Return one with ``encoder_hidden_size`` hidden numbers."""
        return cls(linear(int(config["encoder_hidden_size"])), out_dim)

    def forward(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """Return Z^k by name."""
        return {m: self.second[m](F.leaky_relu(hidden)) for m, hidden in self.first(items).items()}

    def reset_parameters(self) -> None:
        """Draw both layers anew."""
        self.first.reset_parameters()
        for layer in self.second.values():
            cast("nn.Linear", layer).reset_parameters()

    def rows(self, name: str, items: Tensor | None) -> Tensor:
        """Return M^k of the given items, or of all."""
        return self.first.rows(name, items)

    def inputs(self, name: str, items: Tensor | None) -> Tensor:
        """Return what the first layer reads."""
        return self.first.inputs(name, items)

    def table(self, name: str) -> Tensor:
        """Return M^k."""
        return self.first.table(name)

    def first_layer(self, name: str) -> nn.Linear:
        """Return the layer that reads the features."""
        return self.first.first_layer(name)

    def set_first_layer(self, name: str, layer: nn.Linear) -> None:
        """Put another layer in its place."""
        self.first.set_first_layer(name, layer)

    def replace_projections(self, make: Callable[[ModalityEncoder], ModalityEncoder]) -> ModalityEncoder:
        """Return this encoder on the projections that ``make`` gives."""
        self.first = self.first.replace_projections(make)
        return self

    @property
    def unprojected(self) -> list[str]:
        """The modalities that the first layer leaves as they are."""
        return self.first.unprojected

    def masks(self, dataset: Any) -> dict[str, Tensor]:
        """Return the items that have a feature of their own, by name."""
        return self.first.masks(dataset)
