"""The embeddings of the ids of users and items, and how they start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import nn


def id_tables(
    n_users: int, n_items: int, width: int, user_width: int | None = None
) -> tuple[nn.Embedding, nn.Embedding]:
    """Return P ``[n_users, user_width]`` and Q ``[n_items, width]``; both have one width by default."""
    return nn.Embedding(n_users, user_width or width), nn.Embedding(n_items, width)


def user_tables(n_users: int, widths: Mapping[str, int]) -> Mapping[str, nn.Embedding]:
    """Return T_m ``[n_users, width]``, the users' preferences by modality, as a ``ModuleDict``."""
    tables = nn.ModuleDict({m: nn.Embedding(n_users, width) for m, width in widths.items()})
    return cast("Mapping[str, nn.Embedding]", tables)


def reset_tables(*tables: nn.Embedding, std: float | None = None) -> None:
    """Draw tables anew, in order: from N(0, std^2), or by default Xavier uniform, each by its own shape."""
    for table in tables:
        if std is None:
            nn.init.xavier_uniform_(table.weight)
        else:
            nn.init.normal_(table.weight, std=std)


def lengthen(table: nn.Embedding, width: int, least_std: float) -> None:
    """Scale the first ``width`` columns of a table that Xavier has drawn to ``least_std``, if that is more.

    Xavier's standard deviation is sqrt(2 / (rows + columns)) and falls with the number of rows.
    """
    xavier = math.sqrt(2 / (table.num_embeddings + table.embedding_dim))
    if xavier < least_std:
        with torch.no_grad():
            table.weight[:, :width].mul_(least_std / xavier)


def joint_xavier_std(user: nn.Embedding, item: nn.Embedding) -> float:
    """Return Xavier's standard deviation of all rows, for users and items that are one table in a paper."""
    return math.sqrt(2 / (user.num_embeddings + item.num_embeddings + user.embedding_dim))
