"""Outputs of a search: the test of the winner, tables, settings, checkpoint and plots."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from recbole.config import Config

from recbole_ib.errors import ConfigurationError
from recbole_ib.model.registry import is_multimodal
from recbole_ib.training.manifest import RunRecord, versions, write_records
from recbole_ib.training.patience import how_it_ended, patience_of
from recbole_ib.training.run import prepare
from recbole_ib.tuning import trials_table
from recbole_ib.tuning.options import Options
from recbole_ib.tuning.trial import Job, Record, load_weights, trial_settings
from recbole_ib.utils.files import write_text
from recbole_ib.utils.ray import chdir


@dataclass
class TuneResult:
    """Result of :func:`recbole_ib.tuning.search.tune`.

    Attributes:
        best: the settings of the winner, searched and given.
        trials: one row per trial, best first.
        folder: where everything lies.
    """

    best: dict
    best_valid_score: float
    valid_result: dict
    test_result: dict
    trials: pd.DataFrame
    folder: Path
    text: str


def write_outputs(
    job: Job, base: Config, how: Options, records: list[Record], folder: Path, command: str, seconds: float
) -> TuneResult:
    """Test the winner and write every file.

    Raises:
        ConfigurationError: no trial finished.
    """
    bigger, keys = bool(base["valid_metric_bigger"]), list(job.space)
    ordered = trials_table.ranked(records, bigger)
    frame = trials_table.trials_frame(records, keys, bigger)
    frame_file = folder / "trials.csv"
    trials_table.write_trials(frame, frame_file)
    failed = [record for record in ordered if record.status == "failed"]
    failures = [
        f"{r.id} failed ({trials_table.values_text(r.values)}): {' '.join(r.error.split())}" for r in failed
    ]
    winner = next((r for r in ordered if r.status != "failed" and r.best_score is not None), None)
    if winner is None or winner.best_score is None:
        raise ConfigurationError(
            "\n".join(
                [f"none of the {len(records)} trials finished:", *failures, f"see {folder / 'trials.csv'}"]
            )
        )

    source, metric, score = Path(job.folder) / winner.id, base["valid_metric"], winner.best_score
    valid, test = test_winner(job, winner, source, folder / "best.pth")
    settings = {
        "model": _name(job, base),
        "dataset": job.given.dataset,
        **job.given.settings,
        **winner.values,
    }
    comment = [
        command,
        f"{time.strftime('%Y-%m-%d %H:%M')}: best of {len(records)} trials by valid {metric}: {score:.6g}",
        "recbole-ib --config_files THIS_FILE trains with these settings",
    ]
    trials_table.write_best(folder / "best.yaml", settings, comment)
    result = {
        "model": base["model"],
        "dataset": job.given.dataset,
        "trial": winner.id,
        "values": winner.values,
        "best_epoch": winner.best_epoch,
        "best_valid_score": winner.best_score,
        "valid_metric": base["valid_metric"],
        "valid": valid,
        "test": test,
        "trials": len(records),
        "failed": len(failed),
        "epochs": sum(r.epochs for r in records),
        "trial_seconds": sum(r.seconds for r in records),
        "seconds": seconds,
        "command": command,
        "versions": versions(),
    }
    write_text(folder / "result.json", json.dumps(result, indent=1, default=str) + "\n")

    from recbole_ib.tuning.plots import Facts, write_plots

    facts = Facts(
        base["model"],
        job.given.dataset,
        str(base["valid_metric"]),
        bigger,
        int(base["seed"]),
        how.search,
        len(records),
    )
    pictures = write_plots(ordered, job.space, facts, folder, how.heatmaps)

    lines = [
        "",
        trials_table.terminal_table(frame, keys, base["valid_metric"]),
        "",
        f"best trial {winner.id}: {trials_table.values_text(winner.values)}",
        _metrics(valid, test),
        f"settings: {folder / 'best.yaml'}; checkpoint: {folder / 'best.pth'}; all trials: {frame_file}",
        f"pictures: {', '.join(str(path) for path in pictures)}",
        *(f"WARNING: {text}" for text in failures),
    ]
    return TuneResult(settings, score, valid, test, frame, folder, "\n".join(lines))


def _name(job: Job, base: Config) -> str:
    return base["model"] if isinstance(job.given.model, type) else job.given.model


def _metrics(valid: dict, test: dict) -> str:
    return "\n".join(f"{name:<14} valid {valid[name]:.4f}  test {test[name]:.4f}" for name in test)


def test_winner(job: Job, record: Record, source: Path, target: Path) -> tuple[dict, dict]:
    """Evaluate a trial's best epoch on the validation and the test set.

    Its checkpoint goes to ``target``, and a manifest beside it.
    """
    if record.checkpoint is None or not (source / record.checkpoint).is_file():
        raise ConfigurationError(
            f"the checkpoint of the best trial, {source / str(record.checkpoint)}, is not there any more"
        )
    device = {} if job.gpu else {"use_gpu": False}
    config = job.given.config({**trial_settings(record.values, source), **device})
    weights, history = source / record.checkpoint, RunRecord()
    # a Trainer opens an event file of tensorboard in the working directory when it is setup
    with tempfile.TemporaryDirectory(prefix="recbole-ib-tune-") as scratch, chdir(scratch):
        setup = prepare(config, dataset=job.data.copy(config))
        setup.trainer.eval_collector.data_collect(setup.train_data)
        ours = is_multimodal(config.model_class)
        if ours:
            shutil.copyfile(weights, target)
        else:
            load_weights(setup.trainer.model, weights)
            # as RecBole writes them, so that its own functions read it
            setup.trainer._save_checkpoint(record.best_epoch, verbose=False, saved_model_file=str(target))
        options = {
            "load_best_model": ours,
            "model_file": str(target) if ours else None,
            "show_progress": False,
        }
        history.begin_training()
        valid, test = (
            {name: float(value) for name, value in setup.trainer.evaluate(part, **options).items()}
            for part in (setup.valid_data, setup.test_data)
        )
        history.end_test()
    history.trained_here, history.curve, history.epochs = False, record.curve, record.epochs
    history.seconds["train"] = record.seconds
    setup.trainer.stopping_step = patience_of(setup.trainer, setup.train_data)
    waited = sum(point["epoch"] > (record.best_epoch or 0) for point in record.curve)
    history.ended = "scheduler" if record.status == "stopped" else how_it_ended(setup.trainer, waited)
    result = {
        "checkpoint": str(target),
        "best_valid_score": record.best_score,
        "best_valid_result": valid,
        "test_result": test,
    }
    write_records(setup, history, {**result, "valid_score_bigger": bool(config["valid_metric_bigger"])})
    return valid, test


test_winner.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test
