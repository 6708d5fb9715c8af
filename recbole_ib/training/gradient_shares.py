"""Gradients of the loss terms: how hard each of them pulls at which parameters.

One training batch, the same for every run on a data set; nothing of the run changes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_ib.bottleneck import GraphBottleneck, LogVarianceHead
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.layers.encoder import ModalityEncoder
from recbole_ib.training.checkpoint import random_state, restore_random_state
from recbole_ib.training.step import named_losses

#: the term that the others are compared with
REFERENCE = "bpr"

#: group of parameters -> the modules that they belong to; ``users`` are the embeddings of all users
GROUPS: dict[str, type[nn.Module]] = {
    "latents": ModalityEncoder,
    "gate": GraphBottleneck,
    "noise": LogVarianceHead,
}

#: what torch's modules keep their members in
REGISTRIES = ("_parameters", "_buffers", "_modules")


class GradientShares:
    """Gradient norms of the loss terms of a fixed batch, by groups of parameters.

    Args:
        model: one of ours.
        train_data: its training batches. The first one of a seed of its own is drawn once.
        seed: of the batch, and of what the losses draw.
    """

    def __init__(self, model: MultimodalRecommender, train_data: Any, seed: int):
        self.model, self.train_data, self.seed = model, train_data, seed
        self._batch: Interaction | None = None

    def measure(self, epoch: int) -> dict[str, float]:
        """Return the shares by name, see docs/diagnostics.md.

        Args:
            epoch: whose first batch this would be.
        """
        groups = parameter_groups(self.model)
        if not groups:
            return {}
        with untouched(self.model, getattr(self.train_data, "generator", None)), torch.enable_grad():
            batch = self._fixed_batch().to(next(self.model.parameters()).device)
            self._seed()
            self.model.train()
            # a graph that belongs to an epoch is built anew: its first batch alone trains what S is made of
            self.model.pre_epoch(epoch)
            return shares(gradient_norms(self.model, batch, groups))

    def _fixed_batch(self) -> Interaction:
        if self._batch is None:
            self._seed()
            self.train_data.generator.manual_seed(self.seed)
            # RecBole's trainer sets it for dynamic negatives, after the first measure
            self.train_data.get_model(self.model)
            self._batch = next(iter(self.train_data))
        return self._batch

    def _seed(self) -> None:
        random.seed(self.seed)
        np.random.seed(self.seed)
        torch.manual_seed(self.seed)


def parameter_groups(model: MultimodalRecommender) -> dict[str, list[nn.Parameter]]:
    """Return the trained parameters of every group that the model has any of."""
    groups: dict[str, list[nn.Parameter]] = {}
    for name, module in model.named_modules():
        names = [group for group, kind in GROUPS.items() if isinstance(module, kind)]
        if (
            isinstance(module, nn.Embedding)
            and module.num_embeddings == model.n_users
            # a catalog may have as many items as users
            and "item" not in name.rpartition(".")[2]
        ):
            names.append("users")
        for group in names:
            groups.setdefault(group, []).extend(p for p in module.parameters() if p.requires_grad)
    # an encoder may hold another one
    distinct = {group: list({id(p): p for p in parameters}.values()) for group, parameters in groups.items()}
    return {group: parameters for group, parameters in distinct.items() if parameters}


def gradient_norms(
    model: MultimodalRecommender, interaction: Interaction, groups: Mapping[str, Sequence[nn.Parameter]]
) -> dict[tuple[str, str], float]:
    """Return (term, group) -> norm of the term's gradient, of every group that the term reaches.

    Of a group those parameters count that the term's phase updates.
    """
    norms: dict[tuple[str, str], float] = {}
    for phase in model.phases():
        updated = {id(parameter) for parameter in phase.parameters()}
        own = {group: [p for p in parameters if id(p) in updated] for group, parameters in groups.items()}
        wanted = list({id(p): p for parameters in own.values() for p in parameters}.values())
        if not wanted:
            continue
        losses = named_losses(phase.loss(interaction))
        for term, value in zip(losses.names, losses, strict=True):
            if not value.requires_grad:
                continue
            found: Sequence[Tensor | None] = torch.autograd.grad(
                value, wanted, retain_graph=True, allow_unused=True
            )
            squares = {
                id(p): float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2
                for p, gradient in zip(wanted, found, strict=True)
                if gradient is not None
            }
            for group, parameters in own.items():
                reached = [squares[id(p)] for p in parameters if id(p) in squares]
                if reached:
                    norms[term, group] = math.sqrt(sum(reached))
    return norms


def shares(norms: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Return ``gradient/<term>/<group>``, the norm over that of bpr, and bpr's own as ``gradient_norm/...``.

    Where bpr's is 0, or the model has no such term, it is the norm itself.
    """
    values: dict[str, float] = {}
    for (term, group), norm in norms.items():
        if term == REFERENCE:
            values[f"gradient_norm/{term}/{group}"] = norm
        else:
            values[f"gradient/{term}/{group}"] = norm / (norms.get((REFERENCE, group), 0.0) or 1.0)
    return values


@contextmanager
def untouched(model: nn.Module, generator: torch.Generator | None) -> Iterator[None]:
    """Leave a model and the random state as they were.

    That is every attribute and member of every module, the values of the buffers that a checkpoint holds, and
    every generator of random numbers.

    Args:
        model: whose training methods may be called within.
        generator: of the training batches.
    """
    state = random_state(generator)
    attributes = [
        (module, dict(vars(module)), [dict(getattr(module, name)) for name in REGISTRIES])
        for module in model.modules()
    ]
    buffers = [(buffer, buffer._version, buffer.clone()) for buffer in stored_buffers(model)]
    try:
        yield
    finally:
        for module, values, members in attributes:
            vars(module).clear()
            vars(module).update(values)
            for name, entries in zip(REGISTRIES, members, strict=True):
                registry = getattr(module, name)
                registry.clear()
                registry.update(entries)
        with torch.no_grad():
            for buffer, version, value in buffers:
                if buffer._version != version:
                    buffer.copy_(value)
        restore_random_state(state, generator)


def stored_buffers(model: nn.Module) -> list[Tensor]:
    """Return the buffers of the state dict; the others are constants."""
    return [
        buffer
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    ]
