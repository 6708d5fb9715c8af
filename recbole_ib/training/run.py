"""One run: configuration, data, model, training, evaluation."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.data import create_dataset, data_preparation
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.data.transform import construct_transform
from recbole.trainer.trainer import AbstractTrainer
from recbole.utils import EvaluatorType, get_flops, get_model, get_trainer, init_seed, set_color
from torch import nn

from recbole_ib.config.checks import unread_settings
from recbole_ib.config.config import Config
from recbole_ib.errors import CheckpointError, ConfigurationError, TrainingInterrupted
from recbole_ib.model.registry import ensure_known, is_multimodal
from recbole_ib.patches.kernels import applicable, install_fast_kernels
from recbole_ib.training import distributed
from recbole_ib.training.checkpoint import checkpoint_path, last_path
from recbole_ib.training.diagnostics import why_unavailable
from recbole_ib.training.distributed import ProcessGroup, SingleProcess
from recbole_ib.training.manifest import RunRecord, write_records
from recbole_ib.training.patience import cut_warning, how_it_ended, set_patience
from recbole_ib.training.per_user import check_per_user
from recbole_ib.training.price import say_room
from recbole_ib.training.run_log import RunLog, run_log
from recbole_ib.training.threads import threads_of
from recbole_ib.utils.files import remove_scratch
from recbole_ib.utils.malloc import tune_malloc


def run_recbole_ib(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: dict | None = None,
    saved: bool = True,
    argv: Sequence[str] = (),
) -> dict:
    """Train a model on a data set and test its best epoch, as RecBole's quick start does.

    The model is one of ours or one of RecBole's own.

    Args:
        model: a name of the catalog or of RecBole, or a model class (ours, RecBole's or the caller's own).
        dataset: a name; ``ml-100k`` is bundled.
        config_file_list: yaml files, or names of presets such as ``ibmrec-paper``; later ones win.
        config_dict: settings; they win over the files.
        saved: keep the best epoch's checkpoint and test it; without, the last epoch is tested.
        argv: ``--key=value`` words; they win over everything.

    Returns:
        RecBole's result (``best_valid_score``, ``valid_score_bigger``, ``best_valid_result``,
        ``test_result``, plain floats) and ``checkpoint`` (its path or None), ``manifest`` (the path of the
        run's record, see :mod:`recbole_ib.training.manifest`), ``per_user`` (its path or None),
        ``train_seconds``, ``test_seconds``, ``model``, ``dataset``.

    Raises:
        RecBoleIBError: a wrong setting, feature file or checkpoint, before training starts.
        TrainingInterrupted: a KeyboardInterrupt, with the checkpoint that ``resume_checkpoint`` goes on with.
    """
    tune_malloc()
    if isinstance(model, type):
        ensure_known(model)
    config = Config(model, dataset, config_file_list, config_dict, argv=argv)
    with (
        distributed.process_group(config) as processes,
        run_log(config, processes.first) as log,
        threads_of(config),
    ):
        return _run(config, saved, processes, log)


@dataclass
class RunSetup:
    """What a run trains with: settings, the whole data set, its three loaders, and the trainer.

    The network is the trainer's ``model``.
    """

    config: Config
    dataset: Dataset
    train_data: AbstractDataLoader
    valid_data: AbstractDataLoader
    test_data: AbstractDataLoader
    trainer: AbstractTrainer


def prepare(config: Config, dataset: Dataset | None = None) -> RunSetup:
    """Seed, load and split the data, and build model and trainer: all of a run before its first epoch.

    Args:
        config: of the run.
        dataset: what ``recbole.data.create_dataset`` gives for these settings, to be used instead of loading
            it again. It is split in place: every run needs a copy of its own. The run's numbers are those of
            one that loads the data itself.

    Raises:
        RecBoleIBError: settings, features or a checkpoint that training must not start with.
    """
    logger = getLogger()
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config) if dataset is None else dataset
    logger.info(dataset)
    _check_cut_offs(config, dataset)
    init_seed(split_seed(config), config["reproducibility"])
    train_data, valid_data, test_data = data_preparation(config, dataset)

    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    network = _build_model(config, train_data._dataset).to(config["device"])
    logger.info(network)
    if not is_multimodal(config.model_class):
        # RecBole counts them here, on a copy of the model; left out, a model that draws random numbers in
        # predict() would differ
        flops = get_flops(network, dataset, config["device"], logger, construct_transform(config))
        logger.info(set_color("FLOPs", "blue") + f": {flops}")

    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, network)
    if not is_multimodal(config.model_class) and hasattr(trainer, "saved_model_file"):
        # RecBole's names have one-second resolution: two runs started together would test each other's
        # weights
        trainer.saved_model_file = str(
            checkpoint_path(config["checkpoint_dir"], config["model"], config["dataset"])
        )
    if not is_multimodal(config.model_class):
        # our own trainer does it in fit, under RecBole's entry points too
        set_patience(trainer, train_data)
    if applicable(config):
        install_fast_kernels(network, trainer)
    if config["resume_checkpoint"]:
        _resume(trainer, config)
    return RunSetup(config, dataset, train_data, valid_data, test_data, trainer)


def split_seed(config: Config) -> int:
    """Return the seed of the random split: the key ``split_seed``, or the run's own ``seed``."""
    chosen = config["split_seed"]
    if chosen is None:
        return config["seed"]
    if isinstance(chosen, bool) or not isinstance(chosen, int) or chosen < 0:
        raise ConfigurationError(
            f"split_seed is {chosen!r}; allowed: a whole number from 0 on, or none for that of the run"
        )
    return chosen


def _run(config: Config, saved: bool, processes: SingleProcess | ProcessGroup, log: RunLog) -> dict:
    logger = getLogger()
    logger.info(sys.argv)
    if processes.size > 1:
        logger.info(f"{processes.size} processes share every batch")
    logger.info(config)
    unread = unread_settings(config)
    if unread:
        logger.warning(
            f"{config['model']} does not read {', '.join(unread)}: other models do, this run is the same "
            "without"
        )
    if why_unavailable(config):
        logger.warning(why_unavailable(config))
    if not is_multimodal(config.model_class) and config["defaults"] == "recbole_ib":
        logger.info(
            "Data, metrics, early stopping and kernels are recbole_ib's; --defaults=recbole keeps RecBole's "
            "own, bit for bit"
        )
    check_per_user(config, processes.size)
    if processes.first:
        remove_scratch(config["checkpoint_dir"])

    record = RunRecord()
    run = prepare(config)
    trainer = run.trainer
    if isinstance(getattr(trainer, "model", None), nn.Module):
        say_room(trainer.model, config["device"], config["checkpoint_dir"], saved)
    log.started = True
    record.begin_training()
    try:
        best_valid_score, best_valid_result = fit(run, saved=saved, callback=record.evaluated)
        record.ended = how_it_ended(trainer, getattr(trainer, "cur_step", 0))
        cut = cut_warning(trainer) if record.ended == "epochs" and processes.first else None
        if cut:
            logger.warning(cut)
        record.begin_test()
        test_result = trainer.evaluate(
            run.test_data, load_best_model=saved, show_progress=config["show_progress"]
        )
        record.end_test()
    except KeyboardInterrupt:
        raise _interrupted(run, saved) from None
    except Exception:
        _close_board(trainer)
        raise
    _close_board(trainer)

    best_valid_result, test_result = _floats(best_valid_result), _floats(test_result)
    logger.info(set_color("best valid ", "yellow") + f": {best_valid_result}")
    logger.info(set_color("test result", "yellow") + f": {test_result}")
    result = {
        "model": config["model"],
        "dataset": config["dataset"],
        "best_valid_score": float(best_valid_score),
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": best_valid_result,
        "test_result": test_result,
        "checkpoint": str(trainer.saved_model_file) if saved else None,
        "train_seconds": record.seconds["train"],
        "test_seconds": record.seconds["test"],
    }
    paths = write_records(run, record, result) if processes.first else {}
    return {**result, "manifest": paths.get("manifest"), "per_user": paths.get("per_user")}


def _close_board(trainer: Any) -> None:
    """End the thread that waits for tensorboard's events.

    Not after Ctrl-C: what it waits for may have been cut in the middle, and the process ends anyway.
    """
    board: Any = getattr(trainer, "tensorboard", None)
    if hasattr(board, "close"):
        board.close()


def fit(
    run: RunSetup, saved: bool = True, callback: Callable[[int, float], None] | None = None
) -> tuple[float, dict | None]:
    """Train, and return the best validation score and the metrics of its epoch.

    ``callback(epoch, score)`` is called after every evaluation.
    """
    arguments = {"saved": saved, "show_progress": run.config["show_progress"]}
    # RecBole's trainer of decision trees takes no callback
    if callback is not None and "callback_fn" in inspect.signature(run.trainer.fit).parameters:
        arguments["callback_fn"] = callback
    return run.trainer.fit(run.train_data, run.valid_data, **arguments)


def _check_cut_offs(config: Config, dataset: Dataset) -> None:
    """Raise ConfigurationError for a topk above the number of items, before the first evaluation fails."""
    if config["eval_type"] == EvaluatorType.RANKING and max(config["topk"]) > dataset.item_num:
        raise ConfigurationError(
            f"topk asks for the best {max(config['topk'])} items, and the data set {config['dataset']!r} has "
            f"{dataset.item_num - 1} after filtering; lower topk"
        )


def _build_model(config: Config, dataset: Dataset) -> Any:
    try:
        return get_model(config["model"])(config, dataset)
    except ConfigurationError:
        raise
    except (ValueError, TypeError) as error:
        if not is_multimodal(config.model_class):
            raise
        raise ConfigurationError(f"{config['model']} cannot be built with these settings: {error}") from error


def _resume(trainer: AbstractTrainer, config: Config) -> None:
    if not is_multimodal(config.model_class):
        raise CheckpointError(
            f"{config['model']} is RecBole's own model: RecBole's checkpoints hold neither the random state "
            "nor the best result, so a resumed run would not be the same run. resume_checkpoint works for "
            "the models of recbole_ib"
        )
    trainer.resume_checkpoint(config["resume_checkpoint"])


def _interrupted(run: RunSetup, saved: bool) -> TrainingInterrupted:
    """Return the error with the file that ``resume_checkpoint`` goes on with: the last epoch or the best."""
    if not is_multimodal(run.config.model_class):
        return TrainingInterrupted(
            f"{run.config['model']} is RecBole's own model, whose training cannot be resumed"
        )
    best = Path(run.trainer.saved_model_file)
    checkpoint = next((path for path in (last_path(best), best) if saved and path.is_file()), None)
    if checkpoint is None:
        return TrainingInterrupted("no epoch was evaluated and saved, so nothing can be resumed")
    return TrainingInterrupted(
        f"resume_checkpoint={checkpoint} goes on after the last evaluated epoch", checkpoint
    )


def _floats(result: Any) -> dict[str, float] | None:
    return None if result is None else {name: float(value) for name, value in result.items()}


def format_result(result: dict) -> str:
    """Return the result of a run as a table: one line per metric, validation (best epoch) beside test."""
    valid, test = result["best_valid_result"] or {}, result["test_result"] or {}
    names = list(dict.fromkeys([*valid, *test]))
    width = max(len("metric"), *(len(n) for n in names)) if names else len("metric")
    rule = "-" * (width + 20)
    lines = [
        f"{result['model']} on {result['dataset']}",
        rule,
        f"{'metric':<{width}} {'valid':>9} {'test':>9}",
        rule,
    ]
    for name in names:
        cells = [f"{values[name]:>9.4f}" if name in values else f"{'-':>9}" for values in (valid, test)]
        lines.append(f"{name:<{width}} {cells[0]} {cells[1]}")
    lines.append(rule)
    lines.append(f"trained in {result['train_seconds']:.1f} s, tested in {result['test_seconds']:.1f} s")
    if result["checkpoint"]:
        lines.append(f"checkpoint: {result['checkpoint']}")
    return "\n".join(lines)
