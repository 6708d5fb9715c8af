"""How the pre-trained features of the items enter a model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.model.settings import choice

RAW_FEATURES = ("tuned", "frozen")


def is_tuned(config) -> bool:
    """Yaml key ``raw_features``: ``tuned`` trains the features too, as several authors' releases do; ``frozen`` does not."""
    return choice(config, "raw_features", RAW_FEATURES) == "tuned"


class FeatureProjections(nn.Module):
    """Z^k = M^k W_k + b_k, one linear layer a modality (IBMRec Eq. 21; T_m or G_m in the other papers).

    Every model that reads features holds this, or a module with the same ``forward``, as ``projections``: a plug-in that replaces the
    projections of a backbone (SGFD) or looks at their weights (InvRL) does it there.

    Args:
        features: modality -> ``[n_items, d_k]``; constants stay out of the state dict.
        out_dim: d.
        normalise: scale feature rows to length 1 first, so that no extractor's scale drowns the id embeddings.
        tuned: train the feature tables too.
        init: of W_k: ``xavier_normal``, ``xavier_uniform``, or ``default``, torch's for a linear layer.
        zero_bias: start b_k at zero; otherwise as torch's linear layers do.
    """

    def __init__(
        self,
        features: Mapping[str, Tensor],
        out_dim: int,
        normalise: bool = False,
        tuned: bool = False,
        init: str = "xavier_normal",
        zero_bias: bool = True,
    ):
        super().__init__()
        self.modalities, self.out_dim, self.tuned = list(features), out_dim, tuned
        self.init, self.zero_bias = init, zero_bias and init != "default"
        for name, table in features.items():
            table = (F.normalize(table, dim=1) if normalise else table).float()
            if tuned:
                self.register_parameter(f"features_{name}", nn.Parameter(table.clone()))
            else:
                self.register_buffer(f"features_{name}", table, persistent=False)
        self.linear = nn.ModuleDict({m: nn.Linear(features[m].shape[1], out_dim) for m in self.modalities})
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for layer in self.linear.values():
            layer.reset_parameters()
            if self.init != "default":
                getattr(nn.init, f"{self.init}_")(layer.weight)
            if self.zero_bias:
                nn.init.zeros_(layer.bias)

    def table(self, name: str) -> Tensor:
        """M^k, ``[n_items, d_k]``."""
        return getattr(self, f"features_{name}")

    def rows(self, name: str, items: Tensor | None) -> Tensor:
        """M^k of the given items, ``[n, d_k]``, or of all."""
        # F.embedding, not indexing: the gradient of a tuned table must not depend on the order of the threads
        return self.table(name) if items is None else F.embedding(items, self.table(name))

    def forward(self, items: Tensor | None = None) -> dict[str, Tensor]:
        return {m: self.linear[m](self.rows(m, items)) for m in self.modalities}


def batch_items(*ids: Tensor) -> Tensor:
    """The distinct items of several id tensors, sorted: what :meth:`latent_rows` returns."""
    return torch.unique(torch.cat(ids))
