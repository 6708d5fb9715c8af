"""Loss terms of one training step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.types import NamedLosses


def named_losses(losses: Any) -> NamedLosses:
    """Name what RecBole lets ``calculate_loss`` return, a tensor or a tuple of them."""
    if isinstance(losses, NamedLosses):
        return losses
    if isinstance(losses, tuple):
        return NamedLosses({f"loss_{i}": value for i, value in enumerate(losses, start=1)})
    return NamedLosses({"loss": losses})


def not_finite(model: nn.Module, phase: str, terms: Mapping[str, float], of: str = "") -> ValueError:
    """Return the error of a loss that is not finite, with its terms."""
    listed = ", ".join(f"{name} = {value:g}" for name, value in terms.items())
    partial = (
        isinstance(model, MultimodalRecommender)
        and type(model).batch_subset is not MultimodalRecommender.batch_subset
    )
    hint = (
        "; a loss that reads outputs outside of the model's batch_subset finds NaN there" if partial else ""
    )
    return ValueError(
        f"training loss of phase {phase} is not finite{of}: {listed}. A lower learning_rate often helps{hint}"
    )
