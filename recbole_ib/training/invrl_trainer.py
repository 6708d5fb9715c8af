"""The staged training of InvRL: environments and mask first, then the backbone on the masked features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from torch import Tensor
from torch.nn.utils.clip_grad import clip_grad_norm_

from recbole_ib.data.train_loader import DeviceTrainLoader
from recbole_ib.errors import ConfigurationError, TrainingError
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.layers.encoder import ModalityEncoder
from recbole_ib.model.wrappers.invrl import (
    environment_losses,
    fill_environments,
    gate,
    mask_loss,
    redraw_first_layers,
    use_mask,
    variant_penalty,
)
from recbole_ib.ops.linear import mixed
from recbole_ib.training.trainer import MultimodalTrainer

#: environments stand once no larger share of the interactions moves
SETTLED = 0.01
#: alpha and lambda grow by this from round to round, as released
GROWTH = 1.05
PAIRS_AT_A_TIME = 1 << 16


class InvRLTrainer(MultimodalTrainer):
    """Trainer that learns the mask of :class:`recbole_ib.model.wrappers.invrl.InvRL` before it trains.

    Checkpoints are written in the training proper, and hold the mask: a resumed run goes on there. One that
    was interrupted before learns the mask again.
    """

    def fit(
        self,
        train_data: AbstractDataLoader,
        valid_data: AbstractDataLoader | None = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict | None]:
        """Learn the mask where there is none yet, and train on the masked features."""
        if not bool(self.model.mask_learned):
            self.model.set_mask(self.learn_mask(train_data))
        return super().fit(train_data, valid_data, verbose, saved, show_progress, callback_fn)

    def learn_mask(self, train_data: AbstractDataLoader) -> Tensor:
        """Run all stages but the last; return m, ``[D]``."""
        config, model, started = self.config, self.model, time.perf_counter()
        n_pairs, n_environments = len(train_data._dataset), int(config["n_environments"])
        if n_environments > n_pairs:
            raise ConfigurationError(
                f"n_environments is {n_environments}, more than the {n_pairs} training interactions"
            )
        backbone = model.fresh_backbone()
        fresh = {name: value.clone() for name, value in backbone.state_dict().items()}
        self._train_backbone(backbone, self._loader(train_data), int(config["pretrain_epochs"]))
        self._report("backbone pretrained", started)
        pretrained = {name: value.clone() for name, value in backbone.state_dict().items()}
        alpha, lam = float(config["invariance_weight"]), float(config["mask_weight"])
        mask = torch.zeros_like(model.mask)
        for number in range(1, int(config["invrl_rounds"]) + 1):
            name = f"round {number} of {config['invrl_rounds']}"
            labels = self._find_environments(train_data, backbone, fresh, mask, name)
            backbone.load_state_dict(pretrained)
            mask = self._fit_mask(train_data, backbone, labels, alpha, lam, name)
            alpha, lam = alpha * GROWTH, lam * GROWTH
            # the mask's training froze and redrew the parameters that both share
            backbone.requires_grad_(True)
        self._report("mask learned, all stages", started)
        return mask

    # -- environments ----------------------------------------------------------------------------------------

    def _find_environments(
        self,
        train_data: AbstractDataLoader,
        backbone: MultimodalRecommender,
        fresh: dict,
        mask: Tensor,
        name: str,
    ) -> Tensor:
        """Step 1: a label an interaction, in the order of the training data, ``[n_interactions]``."""
        n, config = int(self.config["n_environments"]), self.config
        labels = fill_environments(torch.randint(n, (len(train_data._dataset),)), n)
        if n == 1:
            return labels
        weight = float(config["variant_weight"])
        for repeat in range(1, int(config["environment_repeats"]) + 1):
            started, scores = time.perf_counter(), []
            for e in range(n):
                backbone.load_state_dict(fresh)
                loader = self._loader(train_data, torch.nonzero(labels == e).flatten())
                self._train_backbone(
                    backbone,
                    loader,
                    int(config["environment_epochs"]),
                    lambda: weight * variant_penalty(backbone, mask),
                )
                scores.append(self._pair_scores(backbone, train_data._dataset.inter_feat))
            nearest_environment = torch.stack(scores).argmax(dim=0)
            moved = float((nearest_environment != labels).float().mean())
            labels = fill_environments(nearest_environment, n)
            sizes = torch.bincount(labels, minlength=n).tolist()
            self._report(f"{name}, environments {repeat}: {100 * moved:.1f} % moved, sizes {sizes}", started)
            if moved <= SETTLED:
                break
        return labels

    @torch.no_grad()
    def _pair_scores(self, backbone: MultimodalRecommender, pairs: Interaction) -> Tensor:
        backbone.eval()
        chunks = (pairs[start : start + PAIRS_AT_A_TIME] for start in range(0, len(pairs), PAIRS_AT_A_TIME))
        return torch.cat([backbone.predict(chunk.to(self.device)).cpu() for chunk in chunks])

    # -- mask ------------------------------------------------------------------------------------------------

    def _fit_mask(
        self,
        train_data: AbstractDataLoader,
        backbone: MultimodalRecommender,
        labels: Tensor,
        alpha: float,
        lam: float,
        name: str,
    ) -> Tensor:
        """Step 2: W and mu on a batch of every environment a step; clamp(mu + .5, 0, 1).

        In float32 with ``enable_amp`` too: the penalty compares gradients that differ by little, and
        differentiates them again.
        """
        config, started = self.config, time.perf_counter()
        loaders = [
            self._loader(train_data, torch.nonzero(labels == e).flatten())
            for e in range(int(config["n_environments"]))
        ]
        steps, streams = max(len(loader) for loader in loaders), [_endless(loader) for loader in loaders]
        backbone.train().requires_grad_(False)
        weights = redraw_first_layers(_encoder(backbone))
        mu = torch.zeros_like(self.model.mask).requires_grad_(True)
        optimizer = torch.optim.Adam([*weights, mu], lr=float(config["mask_learning_rate"]))
        for epoch in range(int(config["mask_epochs"])):
            backbone = self.model.rebuilt(backbone, gate(mu))
            total: Any = 0.0
            for step in range(steps):
                if step == 0 or backbone.latents_role == "graph":
                    backbone.pre_epoch(epoch)
                use_mask(_encoder(backbone), gate(mu, float(config["mask_noise"])))
                batches = [next(stream).to(self.device) for stream in streams]
                loss = mask_loss(environment_losses(backbone, batches), weights, mu, alpha, lam)
                for parameter, gradient in zip(
                    [*weights, mu], torch.autograd.grad(loss, [*weights, mu]), strict=True
                ):
                    parameter.grad = gradient
                optimizer.step()
                total = total + loss.detach()
            _check_finite(total, "the mask; a lower invariance_weight or mask_learning_rate often helps")
        mask = gate(mu).detach()
        spread = ", ".join(
            f"{part} {value:.3f}"
            for part, value in (("least", mask.min()), ("mean", mask.mean()), ("most", mask.max()))
        )
        self._report(f"{name}, mask of {mask.numel()} features: {spread}", started)
        return mask

    # -- both ------------------------------------------------------------------------------------------------

    def _loader(self, train_data: AbstractDataLoader, index: Tensor | None = None) -> Any:
        """Return a loader on the training interactions, or some of them.

        Negatives are drawn as for all of them.
        """
        dataset = train_data._dataset
        if index is not None:
            dataset = dataset.copy(dataset.inter_feat[index])
        loader = type(train_data)(self.config, dataset, train_data._sampler, shuffle=self.config["shuffle"])
        if isinstance(train_data, DeviceTrainLoader):
            loader.share_draws(train_data)
        return loader

    def _train_backbone(
        self,
        backbone: MultimodalRecommender,
        loader: Any,
        epochs: int,
        penalty: Callable[[], Tensor] | None = None,
    ) -> None:
        """Train plainly by the run's optimizer, without evaluation."""
        parameters = list(backbone.parameters())
        optimizer = self._build_optimizer(params=parameters, weight_decay=self.weight_decay)
        for epoch in range(epochs):
            backbone.train()
            backbone.pre_epoch(epoch)
            total: Any = 0.0
            for batch in loader:
                optimizer.zero_grad(set_to_none=True)
                with mixed(self.enable_amp, self.device):
                    loss: Any = sum(backbone.calculate_loss(batch.to(self.device)))
                    if penalty is not None:
                        loss = loss + penalty()
                    loss.backward()
                if self.clip_grad_norm:
                    clip_grad_norm_(parameters, **self.clip_grad_norm)
                optimizer.step()
                total = total + loss.detach()
            _check_finite(total, "a backbone before the mask; a lower learning_rate often helps")

    def _report(self, what: str, started: float) -> None:
        self.logger.info(f"InvRL {what} [time: {time.perf_counter() - started:.2f}s]")


def _endless(loader: Any) -> Iterator:
    while True:
        yield from loader


def _check_finite(total: Any, what: str) -> None:
    if not bool(torch.isfinite(torch.as_tensor(total))):
        raise TrainingError(f"training loss is not finite, of {what}. A lower learning_rate often helps")


def _encoder(backbone: MultimodalRecommender) -> ModalityEncoder:
    if backbone.encoder is None:
        raise ConfigurationError(f"InvRL masks features, and {type(backbone).__name__} projects none")
    return backbone.encoder
