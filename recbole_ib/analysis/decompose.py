"""Unique, redundant and synergistic shares of a trained model's performance, per modality."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from recbole.evaluator.register import metrics_dict
from recbole.trainer import trainer as recbole_trainer
from recbole.utils import get_trainer
from torch import nn

from recbole_ib.analysis.decomposition import Decomposition, Row, shares
from recbole_ib.analysis.interventions import Change, Removed, Shuffled, alter_trained_tables, altered_dataset
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.model.registry import MMREC_PREFIX, is_multimodal
from recbole_ib.model.wrappers import sgfd
from recbole_ib.training.checkpoint import read_checkpoint
from recbole_ib.training.restore import restore_run, run_config, silenced

PARTS = ("test", "valid")

#: a gain of at most this part of the whole performance is not split: its shares would be rounding and chance
TINY = 0.01


@contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Replace an attribute of a module for the time of the block."""
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


class TrainedModel:
    """A checkpoint's model with its data and split, evaluated as its run evaluated it, on changed data.

    Args:
        checkpoint: a file that a run of ours wrote.
        part: ``test`` or ``valid``.

    Raises:
        CheckpointError: no checkpoint of ours, or the data are not those of the run.
        ConfigurationError: the model has no modalities, is a bridged one, or the run has no such part.
    """

    def __init__(self, checkpoint: str | Path, part: str) -> None:
        self.path, state = str(checkpoint), read_checkpoint(checkpoint)
        name = str(state["config"]["model"])
        if name.lower().startswith(MMREC_PREFIX):
            raise ConfigurationError(
                f"{self.path} is of {name}, a model of another toolkit: which of its weights are feature "
                "tables is unknown. decompose takes the models of recbole_ib"
            )
        self.config = config = run_config(state, checkpoint)
        model_class = config.model_class
        if not is_multimodal(model_class):
            raise ConfigurationError(
                f"{self.path} is of {config['model']}, which is RecBole's own and reads no modality. "
                "decompose takes the models of recbole_ib"
            )
        self.run = restore_run(checkpoint, state, config)
        self.dataset = self.run.train._dataset
        if not getattr(self.dataset, "modalities", None):
            raise ConfigurationError(
                f"the data set {config['dataset']!r} of {self.path} names no modalities: there is nothing to "
                "split"
            )
        self.loader = {"test": self.run.test, "valid": self.run.valid}[part]
        if not self.loader:
            raise ConfigurationError(
                f"the run of {self.path} has no {part} part (eval_args: {config['eval_args']}); choose the "
                "other"
            )
        # the labels teach in training alone, and a checkpoint holds them; clusters of CHANGED features would
        # have other sizes, or not exist
        read_labels = sgfd.item_labels
        self._labels: Callable = lambda config, _dataset: read_labels(config, self.dataset)
        self.widths = {name: table.shape[1] for name, table in self.dataset.modalities.items()}
        self.trainer: Any = None

    @property
    def modalities(self) -> list[str]:
        """The modalities of the data set, in its order."""
        return list(self.widths)

    def network(self, changes: Mapping[str, Change]) -> nn.Module:
        """Return the trained model as it would be on the changed data.

        Graphs are from the data, weights from the checkpoint.
        """
        with _replaced(sgfd, "item_labels", self._labels):
            network = self.run.network(altered_dataset(self.dataset, changes))
        alter_trained_tables(network, self.widths, changes)
        return network

    def performance(self, changes: Mapping[str, Change]) -> dict[str, float]:
        """Return all metrics of the run, by RecBole's evaluator, on the changed data."""
        network = self.network(changes)
        if self.trainer is None:
            # a Trainer opens an event file of tensorboard when it is built; nothing is trained here
            with _replaced(recbole_trainer, "get_tensorboard", lambda _logger: None):
                self.trainer = get_trainer(self.config["MODEL_TYPE"], self.config["model"])(
                    self.config, network
                )
            self.trainer.eval_collector.data_collect(self.run.train)
        self.trainer.model = network
        # where negatives are sampled, all conditions rank against the same ones
        self.run.seed()
        result = self.trainer.evaluate(self.loader, load_best_model=False, show_progress=False)
        return {name: float(value) for name, value in result.items()}


# -- all of it -----------------------------------------------------------------------------------------------


def decompose(
    checkpoint: str | Path, *, repeats: int = 3, seed: int = 0, part: str = "test", metric: str | None = None
) -> Decomposition:
    """Return a trained model's performance on altered modalities, and its shares (:func:`shares`).

    Every modality is taken alone, removed and shuffled.

    Args:
        checkpoint: a file that a run of ours wrote.
        repeats: shuffles per modality.
        seed: of the shuffles.
        part: ``test`` or ``valid``.
        metric: what is split, such as ``Recall@20``; default: the run's ``valid_metric``.

    Raises:
        CheckpointError: no checkpoint of ours, or its data have changed.
        ConfigurationError: a model without modalities, a metric that the run does not compute, or a wrong
            argument.
    """
    if part not in PARTS:
        raise ConfigurationError(f"part is {part!r}; allowed: {', '.join(PARTS)}")
    numbers: dict[str, tuple[object, int]] = {"repeats": (repeats, 1), "seed": (seed, 0)}
    for name, (value, least) in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigurationError(f"{name} must be a whole number of at least {least}, got {value!r}")
    with silenced():
        return _decompose(TrainedModel(checkpoint, part), part, metric, repeats, seed)


def _decompose(
    trained: TrainedModel, part: str, metric: str | None, repeats: int, seed: int
) -> Decomposition:
    names = trained.modalities
    known = trained.dataset.has_feature
    measured: dict[frozenset, dict[str, float]] = {}

    def v(kept: Sequence[str]) -> dict[str, float]:
        # with two modalities, one alone is the other removed
        key = frozenset(kept)
        if key not in measured:
            measured[key] = trained.performance({m: Removed(known[m]) for m in names if m not in key})
        return measured[key]

    metric = _metric(metric or trained.config["valid_metric"], v(names))
    rest = {m: [other for other in names if other != m] for m in names}
    rows = [Row("all", None, v(names))]
    rows += [Row("alone", m, v([m])) for m in names]
    rows += [Row("removed", m, v(rest[m])) for m in names]
    rows.append(Row("none", None, v([])))
    for number, m in enumerate(names):
        draws = [
            trained.performance({m: Shuffled(known[m], np.random.default_rng([seed, number, r]))})
            for r in range(repeats)
        ]
        rows.append(Row("shuffled", m, *_mean_and_sd(draws)))

    whole, nothing = v(names)[metric], v([])[metric]
    splits, reason = [], None
    if len(names) == 1:
        reason = f"The model reads one modality ({names[0]}): shares need two."
    elif whole - nothing <= TINY * abs(whole):
        reason = (
            "The model does not use its modalities when it ranks: all of them together give at most "
            f"{100 * TINY:g} % of its {metric}. No shares. What features do in the training loss alone stays "
            "in the id embeddings, and is not seen here."
        )
    else:
        # two modalities are each other's rest: one split says all
        parts_of = names[:1] if len(names) == 2 else names
        splits = [shares(m, rest[m], v([m])[metric], v(rest[m])[metric], whole, nothing) for m in parts_of]
    return Decomposition(
        model=trained.config["model"],
        dataset=trained.config["dataset"],
        checkpoint=trained.path,
        part=part,
        metric=metric,
        modalities=tuple(names),
        repeats=repeats,
        seed=seed,
        rows=rows,
        shares=splits,
        reason=reason,
    )


def _metric(wanted: str, computed: Mapping[str, float]) -> str:
    """Return the name under which RecBole returns a metric."""
    by_lower = {name.lower(): name for name in computed}
    name = by_lower.get(str(wanted).lower())
    if name is None:
        raise ConfigurationError(
            f"the run does not compute the metric {wanted!r}.{nearest(wanted, computed)} Computed: "
            f"{', '.join(computed)}"
        )
    if metrics_dict[name.split("@")[0].lower()].smaller:
        raise ConfigurationError(
            f"{name} is better the smaller it is; shares are of a performance that grows. Choose another "
            "metric"
        )
    return name


def _mean_and_sd(draws: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float] | None]:
    values = {metric: [draw[metric] for draw in draws] for metric in draws[0]}
    sd = None if len(draws) == 1 else {metric: float(np.std(x, ddof=1)) for metric, x in values.items()}
    return {metric: float(np.mean(x)) for metric, x in values.items()}, sd
