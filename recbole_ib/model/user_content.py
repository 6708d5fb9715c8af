"""The content preferences of the users, which the contrast of FIB trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class UserContent(NamedTuple):
    """Theta_2 = [C, Z] of IBMRec Eq. 31.

    Attributes:
        rows: users ``[n]`` -> c_a ``[n, K d]``, their preferences in the space of the concatenated latents.
        parameters: returns C and Z, what makes these rows and the latents.
        ids: users ``[n]`` -> p_a ``[n, d]``, whose products with the model's ``item_embedding`` are its
            collaborative score; ``None``: the model has no such rows.
    """

    rows: Callable[[Tensor], Tensor]
    parameters: Callable[[], Sequence[Tensor]]
    ids: Callable[[Tensor], Tensor] | None = None


def repeated_content(table: nn.Embedding, n_modalities: int, encoder: nn.Module) -> UserContent:
    """Return the preferences of users whose one table scores every modality: its rows, once per modality."""
    return UserContent(
        lambda users: table(users).repeat(1, n_modalities),
        lambda: [table.weight, *encoder.parameters()],
        table,
    )


def content_per_modality(
    tables: Mapping[str, nn.Embedding], encoder: nn.Module, ids: nn.Embedding | None = None
) -> UserContent:
    """Return the preferences of users with a table per modality: their rows, side by side."""
    return UserContent(
        lambda users: torch.cat([table(users) for table in tables.values()], dim=1),
        lambda: [*(table.weight for table in tables.values()), *encoder.parameters()],
        ids,
    )
