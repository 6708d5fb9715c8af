"""What MRdIB reads, checks and builds for its backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ib.bottleneck import Redundancy
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.bottleneck import backbone_of
from recbole_ib.model.types import Backbone


def ranked_items(model: Backbone, interaction: Interaction) -> tuple[Tensor, Tensor]:
    """Return the positive and negative items of a batch.

    A backbone without sampled negatives takes its neighbors' positives.
    """
    positives = interaction[model.ITEM_ID]
    sampled = model.NEG_ITEM_ID in interaction.columns
    return positives, interaction[model.NEG_ITEM_ID] if sampled else positives.roll(1)


def check_parts(model: Backbone, parts: Mapping[str, Tensor]) -> None:
    """Raise ConfigurationError for a backbone whose parts do not make its latents.

    It would be trained on others than it ranks with.
    """
    if set(parts) != set(model.modalities):
        raise ConfigurationError(
            f"mrdib draws a latent of every modality, and the encoder of {backbone_of(type(model)).__name__} "
            f"makes {', '.join(parts)} of all of them together; set feature_encoder: linear"
        )
    fused, latents = model.feature_encoder.fuse(parts), model.latents()
    if (
        set(parts) != set(model.modalities)
        or set(fused) != set(latents)
        or not all(torch.allclose(fused[k], z, rtol=1e-3, atol=1e-5) for k, z in latents.items())
    ):
        raise ConfigurationError(
            "mrdib draws the parts of the latents by modality, and those of "
            f"{backbone_of(type(model)).__name__}'s encoder do not make its latents; override parts and fuse "
            "of the encoder instead of the model's latents"
        )


def make_redundancy(config: Any, widths: Mapping[str, int]) -> Redundancy:
    """Return the estimator of the redundancy between modalities, of which ``widths`` has two or more."""
    if len(widths) < 2:
        raise ConfigurationError(
            f"the redundancy of MRdIB is between modalities, and the data set {config['dataset']!r} has one "
            f"({', '.join(widths)}); set redundancy_weight: 0 to train without it"
        )
    return Redundancy(
        widths, config["redundancy_estimator"], config["critic_hidden_size"], config["redundancy_sigma2"]
    )


def output_width(model: Backbone) -> int:
    """Return the width of the users' output rows."""
    training = model.training
    # in evaluation mode nothing random is drawn: a run without decoders starts from the same numbers
    model.train(False)
    with torch.no_grad():
        user, _ = model.forward()
    model.train(training)
    return user.shape[1]
