"""Loss terms of one training step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from recbole_ib.errors import TrainingError
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.types import NamedLosses


def named_losses(losses: Any) -> NamedLosses:
    """Name what RecBole lets ``calculate_loss`` return, a tensor or a tuple of them."""
    if isinstance(losses, NamedLosses):
        return losses
    if isinstance(losses, tuple):
        return NamedLosses({f"loss_{i}": value for i, value in enumerate(losses, start=1)})
    return NamedLosses({"loss": losses})


class NamedLossLogger:
    """RecBole's logger of Weights & Biases, which would show a model's loss terms as one tuple.

    Args:
        logger: RecBole's.
    """

    def __init__(self, logger: Any):
        self._logger = logger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    def log_metrics(self, metrics: Mapping[str, Any], head: str = "train", commit: bool = True) -> None:
        """Log an epoch's numbers: ``train_loss`` as a sum, and every term by its name."""
        losses, found = metrics.get("train_loss"), dict(metrics)
        if isinstance(losses, NamedLosses):
            terms = {f"train_loss/{n}": float(v) for n, v in zip(losses.names, losses, strict=True)}
            found = {**found, "train_loss": sum(terms.values()), **terms}
        self._logger.log_metrics(found, head=head, commit=commit)


def not_finite(model: nn.Module, phase: str, terms: Mapping[str, float], of: str = "") -> TrainingError:
    """Return the error of a loss that is not finite, with its terms."""
    listed = ", ".join(f"{name} = {value:g}" for name, value in terms.items())
    partial = (
        isinstance(model, MultimodalRecommender)
        and type(model).batch_subset is not MultimodalRecommender.batch_subset
    )
    hint = (
        "; a loss that reads outputs outside of the model's batch_subset finds NaN there" if partial else ""
    )
    return TrainingError(
        f"training loss of phase {phase} is not finite{of}: {listed}. A lower learning_rate often helps{hint}"
    )
