"""Checkpoints of version 0.1.0: the names that their tensors have today."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

#: old name -> new one, the first that fits; ``{encoder}`` is ``encoder``, or ``encoder.first`` where a second
#: layer follows (DualGNN)
RULES = (
    (r"projections\.", r"{encoder}."),
    (r"second\.", r"encoder.second."),
    (r"item_view\.", r"item_graph_layer."),
    (r"(layers\.[^.]+\.\d+\.)neighbours\.", r"\1neighbors."),
    (r"gib\.(gate\.(?:target|source|output)\.)", r"ib.gib.gates.shared.\1"),
    (r"gib\.", r"ib.gib.gates."),
    (r"gate_projections\.", r"ib.gib.encoder."),
    (r"variance\.", r"ib.mrdib.gaussian.variance."),
    (r"prior_scale_", r"ib.mrdib.gaussian.scale_"),
    (r"(redundancy|decoders)\.", r"ib.mrdib.\1."),
)


def renamed_state(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """Return the state dict of a model of 0.1.0 under today's names, in the same order.

    Args:
        state_dict: of any model of 0.1.0's catalog, with its bottlenecks; of a wrapper, its backbone's names
            stand behind ``backbone.``.
    """
    return {_renamed(name, state_dict): value for name, value in state_dict.items()}


def _renamed(name: str, state_dict: Mapping[str, object]) -> str:
    owner = "backbone." if name.startswith("backbone.") else ""
    encoder = (
        "encoder.first" if any(other.startswith(f"{owner}second.") for other in state_dict) else "encoder"
    )
    for old, new in RULES:
        changed, count = re.subn(f"^{re.escape(owner)}{old}", owner + new.format(encoder=encoder), name)
        if count:
            return changed
    return name
