"""RecBole's trainer, running a model's training phases, with checkpoints that a run can be continued from."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.data.dataloader import AbstractDataLoader
from recbole.trainer import Trainer
from recbole.utils import ensure_dir, set_color
from torch import Tensor
from torch.nn.utils.clip_grad import clip_grad_norm_
from tqdm import tqdm

from recbole_ib.config.serialize import plain_config
from recbole_ib.data.digest import data_digest
from recbole_ib.distributed.launch import COMMAND, RECBOLES_MODE, launched
from recbole_ib.distributed.share import Share, WholeBatch
from recbole_ib.errors import CheckpointError, ConfigurationError
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.types import NamedLosses, Phase
from recbole_ib.ops.linear import has_bfloat16, mixed
from recbole_ib.patches.kernels import FUSED
from recbole_ib.training import distributed
from recbole_ib.training.checkpoint import (
    checkpoint_path,
    last_path,
    random_state,
    read_checkpoint,
    restore_random_state,
    write_checkpoint,
)
from recbole_ib.training.diagnostics import (
    BEFORE_TRAINING,
    Diagnostics,
    DiagnosticsFile,
    diagnostics_path,
    diagnostics_settings,
)
from recbole_ib.training.patience import set_patience
from recbole_ib.training.price import Price
from recbole_ib.training.resume import read_resumable
from recbole_ib.training.step import NamedLossLogger, named_losses, not_finite


class MultimodalTrainer(Trainer):
    """RecBole's ``Trainer`` for models with several ``phases``, see :class:`recbole_ib.model.types.Phase`.

    Every batch runs the phases in order, each with an optimizer of its own (torch's fused ones: one pass over
    the parameters); a model with one phase trains as under RecBole's Trainer. Loss terms carry their names
    into the progress bar, the log and tensorboard.

    Checkpoints hold tensors and plain values. The best epoch (by ``valid_metric``) is kept in
    ``saved_model_file``; with ``save_last`` the latest evaluated epoch lies beside it (``...-last.pth``), and
    ``resume_checkpoint`` continues from either to the same numbers as a run that was never interrupted. With
    ``diagnostics``, :mod:`recbole_ib.training.diagnostics` looks on; with ``enable_amp`` the steps' products
    of features, forward and backward, read bfloat16 (:mod:`recbole_ib.ops.linear`). Under torchrun the
    processes share every batch and every evaluation, and the first one alone writes:
    :mod:`recbole_ib.training.distributed`.
    """

    def __init__(self, config: Config, model: MultimodalRecommender):
        if not config["single_spec"]:
            raise ConfigurationError(
                f"nproc > 1 is refused for {config['model']}: {RECBOLES_MODE}. Train in one process, or let "
                f"torchrun start several: {COMMAND}"
            )
        self.processes = distributed.current()
        if launched() and self.processes.size == 1:
            raise ConfigurationError(
                "torchrun started several processes, and this entry point would let each of them train a "
                f"whole run of its own; call run_recbole_ib, or: {COMMAND}"
            )
        if self.processes.size > 1:
            distributed.check_model(config["model"], type(model))
        if config["enable_scaler"]:
            raise ConfigurationError(
                f"enable_scaler is refused for {config['model']}: enable_amp multiplies in bfloat16, which "
                "has float32's range of exponents, so there is nothing to scale; leave it False"
            )
        super().__init__(config, model)
        if self.enable_amp and not has_bfloat16(torch.device(self.device)):
            self.logger.warning(
                f"enable_amp: {self.device} has no fast bfloat16 products; training stays in float32 and is "
                "no faster"
            )
        ensure_dir(self.checkpoint_dir)
        path = checkpoint_path(self.checkpoint_dir, config["model"], config["dataset"])
        self.saved_model_file = self.processes.from_first(lambda: str(path))
        if isinstance(self.processes, distributed.ProcessGroup):
            self.eval_collector = distributed.SharedCollector(config, self.processes)
        self.wandblogger: Any = NamedLossLogger(self.wandblogger)
        self.phases = model.phases()
        self.optimizers = {phase.name: self._phase_optimizer(phase) for phase in self.phases}
        # RecBole's one optimizer is that of the model's loss: a critic's step may come first
        main = next((phase for phase in self.phases if phase.main), self.phases[0])
        self.optimizer = self.optimizers[main.name]
        #: elsewhere the host would wait for the device in every step; there an epoch's sums tell
        self._checks_every_step = self.device.type == "cpu"
        #: one entry an evaluation, those before an interruption too: epoch, validation score, seconds of
        #: training until then
        self.curve: list[dict] = []
        self.seconds_before, self._began = 0.0, 0.0
        self._train_data: AbstractDataLoader | None = None
        self._data_digest = ""
        self._latest_valid_result: Mapping[str, float] | None = None
        self._latest_losses: NamedLosses | None = None
        self._resumed: dict | None = None
        self._price = Price(self.epochs)
        self._diagnostics_settings = diagnostics_settings(config)
        self._diagnostics: tuple[Diagnostics, DiagnosticsFile] | None = None

    def _phase_optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        parameters = [p for p in phase.parameters() if p.requires_grad]
        # weight decay belongs to the step that trains the whole model; twice a batch would be twice the decay
        decay = self.weight_decay if phase.main else 0.0
        return self._build_optimizer(params=parameters, weight_decay=decay)

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        learner = str(kwargs.get("learner", self.learner)).lower()
        if learner not in FUSED:
            return super()._build_optimizer(**kwargs)
        return FUSED[learner](
            kwargs.get("params", self.model.parameters()),
            lr=kwargs.get("learning_rate", self.learning_rate),
            weight_decay=kwargs.get("weight_decay", self.weight_decay),
            fused=True,
        )

    # -- one epoch -------------------------------------------------------------------------------------------

    def _train_epoch(
        self,
        train_data: AbstractDataLoader,
        epoch_idx: int,
        loss_func: Any = None,  # noqa: ARG002  (RecBole's signature)
        show_progress: bool = False,
    ) -> Any:
        """Pass once over the training data; return the sums of all loss terms, by name."""
        model = self.model
        model.train()
        model.pre_epoch(epoch_idx)
        self._set_learning_rate(epoch_idx)
        bar = (
            tqdm(
                train_data,
                total=len(train_data),
                dynamic_ncols=True,
                desc=set_color(f"Train {epoch_idx:>5}", "pink"),
            )
            if show_progress
            else train_data
        )
        terms_of: dict[str, tuple[str, ...]] = {}
        names: tuple[str, ...] = ()
        totals: Tensor | None = None
        for batch, interaction in enumerate(self._price.of(bar, len(train_data))):
            share = self.processes.share(interaction, self.device)
            terms: dict[str, Tensor] = {}
            for phase in self.phases:
                step_terms = self._step(phase, share)
                terms_of[phase.name] = tuple(step_terms)
                terms.update(step_terms)
            values = torch.stack(list(terms.values())).double()
            names = tuple(terms)
            totals = values if totals is None else totals + values
            if show_progress and (batch % 10 == 0 or batch + 1 == len(train_data)):
                means = (totals / (batch + 1)).tolist()
                bar.set_postfix_str(
                    " ".join(f"{n}/batch={v:.4g}" for n, v in zip(names, means, strict=True)), refresh=False
                )
        if totals is None:
            raise ConfigurationError("the training data has no batch")
        sums = dict(zip(names, totals.tolist(), strict=True))
        for phase_name, own in terms_of.items():
            if not all(math.isfinite(sums[name]) for name in own):
                epoch_means = {name: sums[name] / (batch + 1) for name in own}
                raise not_finite(model, phase_name, epoch_means, f" in the mean of epoch {epoch_idx}")
        self._latest_losses = NamedLosses(sums)
        return self._latest_losses

    def _set_learning_rate(self, epoch: int) -> None:
        """Set lr(epoch) = learning_rate * learning_rate_decay^(epoch / 50), as LATTICE's release."""
        decay = self.config["learning_rate_decay"] or 1.0
        for phase in self.phases:
            for group in self.optimizers[phase.name].param_groups:
                group["lr"] = phase.rate * self.learning_rate * decay ** (epoch / 50)

    def _step(self, phase: Phase, share: Share | WholeBatch) -> dict[str, Tensor]:
        """Make one optimizer step; return the phase's loss terms of the whole batch, detached."""
        optimizer = self.optimizers[phase.name]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for parameter in parameters:
            parameter.grad = None
        with mixed(self.enable_amp, self.device):
            with share:
                losses = named_losses(phase.loss(share.interaction))
            values = self.processes.batch_terms(list(losses), share)
            if self._checks_every_step and not bool(torch.isfinite(torch.as_tensor(sum(values)))):
                raise not_finite(
                    self.model, phase.name, {n: v.item() for n, v in zip(losses.names, values, strict=True)}
                )
            # a phase may own a part of the model alone: the others' gradients are neither computed nor kept
            total: Any = sum(losses)
            (total * share.weight).backward(inputs=parameters)
        self.processes.sum_gradients(parameters)
        if self.clip_grad_norm:
            clip_grad_norm_(parameters, **self.clip_grad_norm)
        optimizer.step()
        return dict(zip(losses.names, values, strict=True))

    def _generate_train_loss_output(self, epoch_idx: int, s_time: float, e_time: float, losses: Any) -> str:
        digits = self.config["loss_decimal_place"] or 4
        terms = ", ".join(
            f"{set_color(n, 'blue')}: {v:.{digits}f}" for n, v in zip(losses.names, losses, strict=True)
        )
        head = set_color(f"epoch {epoch_idx} training", "green")
        return f"{head} [{set_color('time', 'blue')}: {e_time - s_time:.2f}s, {terms}]"

    def _add_train_loss_to_tensorboard(self, epoch_idx: int, losses: Any, tag: str = "Loss/Train") -> None:
        for name, value in zip(losses.names, losses, strict=True):
            self.tensorboard.add_scalar(f"{tag}/{name}", value, epoch_idx)
        self.tensorboard.add_scalar(f"{tag}/total", sum(losses), epoch_idx)

    # -- a run -----------------------------------------------------------------------------------------------

    def fit(
        self,
        train_data: AbstractDataLoader,
        valid_data: AbstractDataLoader | None = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict | None]:
        """Train as RecBole's ``fit``.

        A resumed run goes on after the checkpoint's epoch, and one that had ended does not train again.
        """
        self._began = time.perf_counter()
        self._train_data = train_data
        self._data_digest = data_digest(train_data, valid_data)
        state, self._resumed = self._resumed, None
        set_patience(self, train_data, resumed=None if state is None else state["config"])
        if state is not None:
            if state["data_digest"] != self._data_digest:
                raise CheckpointError(
                    "the checkpoint's run saw other training or validation interactions or other features "
                    "than this one does; with these data it would not continue to its numbers"
                )
            restore_random_state(state["random_state"], train_data.generator)
            stopped = self.cur_step > self.stopping_step
            if stopped or self.start_epoch >= self.epochs:
                self.eval_collector.data_collect(train_data)
                reason = "it had stopped early" if stopped else f"it had reached its {self.epochs} epochs"
                self.logger.info(f"Nothing to continue: {reason}")
                return self.best_valid_score, self.best_valid_result
        self.processes.begin(self.model, self._data_digest)
        self._start_diagnostics(resumed=state is not None)

        def after_evaluation(epoch: int, score: Any) -> None:
            # before the checkpoint: a run continued from it has this epoch's lines
            self._diagnose(epoch, score)
            if saved and self.config["save_last"] and self.processes.first:
                write_checkpoint(
                    self._state(epoch, "last", self.best_valid_result), last_path(self.saved_model_file)
                )
            if callback_fn:
                callback_fn(epoch, score)

        return super().fit(train_data, valid_data, verbose, saved, show_progress, after_evaluation)

    def _start_diagnostics(self, resumed: bool) -> None:
        if self._diagnostics_settings is None or self._train_data is None or not self.processes.first:
            return
        first = self.start_epoch if resumed else BEFORE_TRAINING
        measures = Diagnostics(self.model, self._train_data, self._diagnostics_settings)
        self._diagnostics = measures, DiagnosticsFile(diagnostics_path(self.saved_model_file), first)
        self.logger.info(set_color("Information diagnostics", "blue") + f": {self._diagnostics[1].path}")
        if first == BEFORE_TRAINING:
            self._diagnose(BEFORE_TRAINING)

    def _diagnose(self, epoch: int, score: float | None = None) -> None:
        """Measure and write, with an evaluated epoch's losses and validation metric."""
        if self._diagnostics is None:
            return
        measures, file = self._diagnostics
        values, trained = measures.measure(epoch + 1), dict[str, float]()
        for name, value in values.items():
            # characters that tensorboard would replace with a message for each
            self.tensorboard.add_scalar("Information/" + re.sub(r"[^-/\w.]", "_", name), value, epoch)
        losses = self._latest_losses
        if score is not None and losses is not None:
            trained = {f"loss/{name}": value for name, value in zip(losses.names, losses, strict=True)}
            trained[f"valid/{self.valid_metric}"] = float(score)
        file.append(epoch, {**values, **trained})

    def _valid_epoch(self, valid_data: AbstractDataLoader | None, show_progress: bool = False) -> Any:
        score, result = super()._valid_epoch(valid_data, show_progress)
        self._latest_valid_result = result
        # before RecBole saves the epoch: a run continued from it has the whole curve
        seconds = self.seconds_before + time.perf_counter() - self._began
        self.curve.append(
            {"epoch": next(reversed(self.train_loss_dict)), "score": float(score), "seconds": seconds}
        )
        return score, result

    def evaluate(
        self,
        eval_data: AbstractDataLoader,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Evaluate as RecBole's ``evaluate``.

        Several processes score a part of the batches each, and all return the result of the whole.
        """
        if eval_data and load_best_model and self.processes.size > 1:
            # the file may lie on the first process's machine alone
            path = model_file or self.saved_model_file
            state = self.processes.from_first(lambda: read_checkpoint(path))
            self.model.load_state_dict(state["state_dict"])
            self.model.load_other_parameter(state["other_parameter"])
            self.logger.info(f"Loading model structure and parameters from {path}")
            load_best_model = False
        return super().evaluate(eval_data, load_best_model, model_file, show_progress)

    def _full_sort_batch_eval(self, batched_data: Any) -> Any:
        return super()._full_sort_batch_eval(batched_data) if self._scores_next_batch() else (None,) * 4

    def _neg_sample_batch_eval(self, batched_data: Any) -> Any:
        return super()._neg_sample_batch_eval(batched_data) if self._scores_next_batch() else (None,) * 4

    def _scores_next_batch(self) -> bool:
        return self.processes.size == 1 or self.eval_collector.mine()

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        if not self.processes.first:
            return
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        # RecBole saves a new best epoch BEFORE it enters that epoch's result as the best one
        write_checkpoint(self._state(epoch, "best", self._latest_valid_result), path)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {path}")

    def _state(self, epoch: int, kind: str, best: Mapping[str, float] | None) -> dict:
        return {
            "kind": kind,
            "best_file": Path(self.saved_model_file).name,
            "data_digest": self._data_digest,
            "model": self.config["model"],
            "dataset": self.config["dataset"],
            "config": plain_config(self.config),
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": None if best is None else {k: float(v) for k, v in best.items()},
            "curve": list(self.curve),
            "train_loss_dict": {int(k): float(v) for k, v in self.train_loss_dict.items()},
            "state_dict": self.model.state_dict(),
            "other_parameter": self.model.other_parameter(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "random_state": random_state(getattr(self._train_data, "generator", None)),
        }

    def resume_checkpoint(self, resume_file: str | Path) -> None:
        """Continue from a checkpoint: weights, all optimizers, random state, epoch and early stopping.

        Raises:
            CheckpointError: not readable, of another model or data set, of a run with other settings, or
                without its best epoch's file.
        """
        resume_file = str(resume_file)
        state, best = read_resumable(resume_file, self.config, self.processes)
        self.saved_model_file = best
        try:
            self.model.load_state_dict(state["state_dict"])
        except RuntimeError as error:
            raise CheckpointError(
                f"{resume_file} does not fit this model on this data set: {error}"
            ) from None
        self.model.load_other_parameter(state["other_parameter"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.start_epoch = state["epoch"] + 1
        self.cur_step = state["cur_step"]
        self.best_valid_score = state["best_valid_score"]
        self.best_valid_result = state["best_valid_result"]
        self.train_loss_dict = dict(state["train_loss_dict"])
        self.curve = list(state.get("curve", ()))  # the first versions have none
        self.seconds_before = self.curve[-1]["seconds"] if self.curve else 0.0
        self._resumed = state
        self.logger.info(f"Continue {resume_file} from epoch {self.start_epoch}")
