"""How the pre-trained features of the items enter a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from recbole_ib.ops.linear import Linear, reads_bfloat16
from recbole_ib.utils.validate import choice

RAW_FEATURES = ("tuned", "frozen")


def is_tuned(config) -> bool:
    """Yaml key ``raw_features``: ``tuned`` trains the features too, as several authors' releases do; ``frozen`` does not."""
    return choice(config, "raw_features", RAW_FEATURES) == "tuned"


# a float16 table is converted in blocks of at most this many numbers (64 MiB of float32)
BLOCK_NUMBERS = 1 << 24


class HalfTable(nn.Module):
    """A constant table ``[n, d]`` that stays in float16, memory-mapped by its data set; float32 rows of it on demand.

    Args:
        parts: float16 ``[n, d_p]``, side by side; constants stay out of the state dict.
        normalize: scale the rows of the whole to length 1, in float32.
    """

    def __init__(self, parts: Sequence[Tensor], normalize: bool):
        super().__init__()
        self.n_parts, self.normalize = len(parts), normalize
        for i, part in enumerate(parts):
            self.register_buffer(f"part_{i}", part, persistent=False)

    @property
    def parts(self) -> list[Tensor]:
        return [getattr(self, f"part_{i}") for i in range(self.n_parts)]

    def forward(self, items: Tensor | None = None) -> Tensor:
        """The rows of the given items, float32 ``[b, d]``, or of all."""
        parts = self.parts if items is None else [F.embedding(items, part) for part in self.parts]
        return self._float(parts)

    def through(self, layer: nn.Module) -> Tensor:
        """``layer`` of all rows, ``[n, out]``, block by block: no float32 table is kept for the backward pass, which converts again."""
        n, step = self.part_0.shape[0], max(1, BLOCK_NUMBERS // sum(part.shape[1] for part in self.parts))
        if n <= step:
            return layer(self())
        blocks = (slice(start, start + step) for start in range(0, n, step))
        return torch.cat([checkpoint(self._block, layer, b, use_reentrant=False, preserve_rng_state=False) for b in blocks])

    def _block(self, layer: nn.Module, here: slice) -> Tensor:
        return layer(self._float([part[here] for part in self.parts]))

    def _float(self, parts: list[Tensor]) -> Tensor:
        rows = torch.cat([part.float() for part in parts], dim=1) if len(parts) > 1 else parts[0].float()
        return F.normalize(rows, dim=1) if self.normalize else rows


class LinearEncoder(nn.Module):
    """Z^k = M^k W_k + b_k, one linear layer a modality (IBMRec Eq. 21; T_m or G_m in the other papers).

    Every model that reads features holds this, or a module with the same ``forward``, as ``projections``: a plug-in that replaces the
    projections of a backbone (SGFD) or looks at their weights (InvRL) does it there.

    Args:
        features: modality -> ``[n_items, d_k]``, or several such tables, which are put side by side; constants stay out of the state
            dict. Tables in float16 that are not trained stay as they are, see :class:`HalfTable`; the trained ones are float32.
        out_dim: d.
        normalize: scale feature rows to length 1 first, so that no extractor's scale drowns the id embeddings.
        tuned: train the feature tables too.
        init: of W_k: ``xavier_normal``, ``xavier_uniform``, or ``default``, torch's for a linear layer.
        zero_bias: start b_k at zero; otherwise as torch's linear layers do.
    """

    def __init__(
        self,
        features: Mapping[str, Tensor | Sequence[Tensor]],
        out_dim: int,
        normalize: bool = False,
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
        widths = {}
        for name, given in features.items():
            parts = [given] if isinstance(given, Tensor) else list(given)
            widths[name] = sum(part.shape[1] for part in parts)
            if not tuned and all(part.dtype == torch.float16 for part in parts):
                self.add_module(f"features_{name}", HalfTable(parts, normalize))
                continue
            table = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
            table = table.float() if table.dtype == torch.float16 else table
            table = (F.normalize(table, dim=1) if normalize else table).float()
            if tuned:
                self.register_parameter(f"features_{name}", nn.Parameter(table.clone()))
            else:
                self.register_buffer(f"features_{name}", table, persistent=False)
        self.linear = nn.ModuleDict({m: Linear(widths[m], out_dim) for m in self.modalities})
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for layer in self.linear.values():
            layer.reset_parameters()
            if self.init != "default":
                getattr(nn.init, f"{self.init}_")(layer.weight)
            if self.zero_bias:
                nn.init.zeros_(layer.bias)

    def table(self, name: str) -> Tensor:
        """M^k, float ``[n_items, d_k]``; a copy where it is kept in float16."""
        table = getattr(self, f"features_{name}")
        return table() if isinstance(table, HalfTable) else table

    def rows(self, name: str, items: Tensor | None) -> Tensor:
        """M^k of the given items, ``[n, d_k]``, or of all."""
        if items is None:
            return self.table(name)
        if self.tuned:
            # F.embedding, not indexing: the gradient of a tuned table must not depend on the order of the threads
            return F.embedding(items, getattr(self, f"features_{name}"))
        return self._fetch(name, getattr(self, f"features_{name}"), items)

    def inputs(self, name: str, items: Tensor | None) -> Tensor:
        """What a :class:`recbole_ib.ops.linear.Linear` reads of M^k: :meth:`rows`, and in a mixed step constant ones in bfloat16."""
        table = getattr(self, f"features_{name}")
        if self.tuned or isinstance(table, HalfTable) or not reads_bfloat16(table.device, table.shape[1]):
            return self.rows(name, items)
        copied, version, half = self._copies.get(name, (None, 0, None))
        if copied is not table or version != table._version:
            half = table.bfloat16()
            self._copies[name] = table, table._version, half
        return half if items is None else self._fetch(name, half, items)

    def _fetch(self, name: str, table: Tensor | HalfTable, items: Tensor) -> Tensor:
        # a step asks several times for the rows of the same ids (a latent's mean and its noise), and wide rows are slow to fetch
        if self._fetched is None or self._fetched[0] is not items:
            self._fetched = items, {}
        rows, half = self._fetched[1], isinstance(table, HalfTable)
        key = name, torch.float32 if half else table.dtype
        if key not in rows:
            rows[key] = table(items) if half else F.embedding(items, table)
        return rows[key]

    def train(self, mode: bool = True):
        self._fetched = None
        return super().train(mode)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_fetched": None, "_copies": {}}

    def forward(self, items: Tensor | None = None) -> dict[str, Tensor]:
        return {m: self._project(m, items) for m in self.modalities}

    def _project(self, name: str, items: Tensor | None) -> Tensor:
        table = getattr(self, f"features_{name}")
        if items is None and isinstance(table, HalfTable):
            return table.through(self.linear[name])
        layer = self.linear[name]
        return layer(self.inputs(name, items) if isinstance(layer, Linear) else self.rows(name, items))


def batch_items(*ids: Tensor) -> Tensor:
    """The distinct items of several id tensors, sorted: what :meth:`latent_rows` returns."""
    return torch.unique(torch.cat(ids))
