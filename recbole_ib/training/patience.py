"""How long a run waits for a better epoch, and what ended it."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any

from recbole.data.dataloader import AbstractDataLoader
from recbole.trainer import Trainer
from recbole.trainer.trainer import AbstractTrainer, TraditionalTrainer

KEY = "stopping_batches"


def patience(stopping_step: int, stopping_batches: int, epoch_batches: int, eval_step: int) -> int:
    """Return how many evaluations without a better score training survives.

    ::

        max(stopping_step, ceil(stopping_batches / (epoch_batches * eval_step)))

    Args:
        stopping_step: evaluations that it survives at least.
        stopping_batches: training batches that it survives at least; 0: RecBole's rule, ``stopping_step``.
        epoch_batches: batches per epoch.
        eval_step: epochs per evaluation; 0: none is made.
    """
    batches = epoch_batches * eval_step
    if batches <= 0:
        return stopping_step
    return max(stopping_step, -(-int(stopping_batches) // batches))


def patience_of(trainer: AbstractTrainer, train_data: AbstractDataLoader) -> int:
    """Return the :func:`patience` of a trainer with these settings and batches."""
    config: Any = trainer.config
    batches = config[KEY] if _stops_early(trainer) else None
    return patience(config["stopping_step"], batches or 0, len(train_data), trainer.eval_step)


def set_patience(
    trainer: AbstractTrainer, train_data: AbstractDataLoader, resumed: Mapping[str, Any] | None = None
) -> None:
    """Set a trainer's ``stopping_step`` to its :func:`patience`, and log it.

    The settings keep the user's ``stopping_step``.

    Args:
        trainer: one of ours or RecBole's.
        train_data: what it will train on.
        resumed: settings of the checkpoint that it goes on from. One older than the key trained by
            ``stopping_step`` alone, and goes on so unless the key is given.
    """
    config, logger = trainer.config, getLogger()
    if not _stops_early(trainer) or not config[KEY]:
        return
    if resumed is not None and KEY not in resumed and KEY in getattr(config, "overall_defaults", {}):
        logger.info(f"The checkpoint is older than {KEY}: its rule holds, stopping_step alone")
        return
    trainer.stopping_step = patience_of(trainer, train_data)
    logger.info(
        f"patience: {trainer.stopping_step} evaluations (stopping_step {config['stopping_step']}, {KEY} "
        f"{config[KEY]} of {len(train_data)} batches an epoch)"
    )


def how_it_ended(trainer: AbstractTrainer, waited: int) -> str | None:
    """Return what ended a run: ``patience`` or ``epochs``.

    ``None`` for a model that is not trained in epochs, and where a resumed run had passed its ``epochs``.

    Args:
        trainer: of the run.
        waited: evaluations since the best one.
    """
    if not _stops_early(trainer):
        return None
    if waited > trainer.stopping_step:
        return "patience"
    return None if trainer.start_epoch > trainer.epochs else "epochs"


def cut_warning(trainer: Any) -> str | None:
    """Return the warning of a training that ``epochs`` ended.

    ``None`` where nothing was trained, or nothing evaluated.
    """
    if trainer.best_valid_result is None or trainer.start_epoch >= trainer.epochs:
        return None
    best = (trainer.epochs // trainer.eval_step - trainer.cur_step) * trainer.eval_step - 1
    return (
        f"Training was cut at its limit of {trainer.epochs} epochs: epoch {best} is the best so far, and "
        f"early stopping waits {trainer.stopping_step} evaluations. More epochs could raise it"
    )


def _stops_early(trainer: AbstractTrainer) -> bool:
    """Return whether a trainer has epochs of batches, with an evaluation behind."""
    return (
        isinstance(trainer, Trainer) and not isinstance(trainer, TraditionalTrainer) and trainer.eval_step > 0
    )
