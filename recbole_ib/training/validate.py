"""The checks that training starts with, without a training, and a report on the data set."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from recbole.data import create_samplers
from recbole.data.dataset import Dataset
from recbole.utils import init_seed

from recbole_ib.config.argv import parse_arguments
from recbole_ib.config.config import Config
from recbole_ib.config.declared import run_settings
from recbole_ib.data.dataset import MultimodalDataset
from recbole_ib.data.features import load_modality
from recbole_ib.data.modality_spec import ModalityReport, ModalitySpec, RowScales
from recbole_ib.data.repeats import repeats as dataset_repeats
from recbole_ib.data.row_scales import row_scales
from recbole_ib.errors import FeatureError, RecBoleIBError
from recbole_ib.model.bottleneck import PLUS
from recbole_ib.model.layers.feature_scaling import COLUMNS, NONE, ROWS, scaling_word
from recbole_ib.model.registry import CATALOG

#: unusual are: median row lengths of two modalities whose ratio is larger, one outside of these bounds, and
#: rows whose mean cosine is larger
FAR_APART, USUAL_LENGTHS, ONE_WAY = 10.0, (0.1, 10.0), 0.5


@dataclass
class DatasetReport:
    """Content of a data set. ``errors`` is not empty where training would refuse it."""

    name: str
    folder: str
    users: int
    items: int
    interactions: int
    split_sizes: dict[str, int]
    cold_items: dict[str, int]
    modalities: list[ModalityReport]
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the report as lines for a reader."""
        lines = [
            f"data set {self.name} ({self.folder})",
            f"  users {self.users}, items {self.items}, interactions {self.interactions}",
            "  split: " + ", ".join(f"{k} {v}" for k, v in self.split_sizes.items()),
            "  cold items (no training interaction): "
            + ", ".join(f"{v} in {k}" for k, v in self.cold_items.items()),
        ]
        for report in self.modalities:
            spec = report.spec
            shape = (
                "unreadable"
                if report.shape is None
                else f"{report.shape[0]} x {report.shape[1]} {report.dtype}"
            )
            lines.append(f"modality {spec.name}: {shape}, {spec.file}")
            lines.append(
                f"  encoder: {spec.encoder or 'not stated'}; items without a row get: {spec.missing}"
            )
            if not report.errors:
                share = 100.0 * report.covered / max(1, report.n_items)
                lines.append(
                    f"  covers {report.covered} of {report.n_items} items ({share:.1f} %), zero rows "
                    f"{report.zero_rows}, duplicate rows {report.duplicate_rows}"
                )
                if report.scales is not None:
                    lines.append(f"  {scales_text(report.scales)}")
                if report.graph_edges is not None:
                    lines.append(f"  item graph: {report.graph_edges} edges, {spec.item_graph_file}")
            lines += [f"  warning: {text}" for text in report.warnings]
            lines += [f"  ERROR: {text}" for text in report.errors]
        if not self.modalities:
            lines.append("no modality is named: RecBole's own models run, multimodal ones do not")
        lines += [f"note: {text}" for text in self.notes]
        lines += [f"warning: {text}" for text in self.warnings]
        lines += [
            f"ERROR: {text}" for text in self.errors if not any(text in r.errors for r in self.modalities)
        ]
        lines.append(
            "training would refuse this data set" if self.errors else "training would accept this data set"
        )
        return "\n".join(lines)


class UncheckedDataset(MultimodalDataset):
    """Data set without its modalities.

    They are read one by one, so that one broken file does not hide the next.
    """

    def _load_modalities(self) -> None:
        self.modalities, self.has_feature, self.item_graphs = {}, {}, {}


def check_dataset(
    config_file_list: Sequence[str] | None = None, config_dict: dict | None = None, argv: Sequence[str] = ()
) -> DatasetReport:
    """Build a data set as training would, with all feature files checked and reported.

    Args: as of :func:`recbole_ib.training.run.run_recbole_ib`; of the model, the notes on scales alone read
    ``normalize_features``.

    Returns:
        A :class:`DatasetReport`.

    Raises:
        ConfigurationError: a wrong setting, or a data set that is not there.
        FeatureError: interactions that RecBole cannot load.
    """
    given = {**(config_dict or {}), **parse_arguments(argv)}
    # bottlenecks on a model do not change how it reads features
    named = str(given.get("model")).split(PLUS)[0]
    model = named if named in CATALOG else "VLATTICE"
    config = Config(model, None, config_file_list, config_dict, argv=argv)
    specs = MultimodalDataset.modality_specs(config)
    try:
        with _errors_alone():
            dataset = UncheckedDataset(config)
    except RecBoleIBError:
        raise
    except ValueError as error:
        # RecBole's words for a missing file, a missing column, or filters that leave nothing
        raise FeatureError(f"{config['data_path']}: RecBole cannot load the interactions: {error}") from error
    tokens = [str(t) for t in dataset.field2id_token[dataset.iid_field]]
    dtype = MultimodalDataset.feature_dtype(config)
    reports = [_modality_report(spec, tokens, dtype) for spec in specs]
    repeated = dataset_repeats(dataset)
    built = _split(dataset)
    parts = dict(zip(("train", "valid", "test"), built, strict=True))
    items = {name: np.unique(part.inter_feat[dataset.iid_field].numpy()) for name, part in parts.items()}
    errors = [text for report in reports for text in report.errors]
    if len(parts["train"]) == 0:
        errors.append("the train split is empty")
    try:
        create_samplers(config, dataset, built)
    except ValueError as error:
        errors.append(f"no negative items can be sampled: {error}")
    return DatasetReport(
        name=config["dataset"],
        folder=str(config["data_path"]),
        users=dataset.user_num - 1,
        items=dataset.item_num - 1,
        interactions=sum(len(part) for part in parts.values()),
        split_sizes={name: len(part) for name, part in parts.items()},
        cold_items={name: int(np.setdiff1d(items[name], items["train"]).size) for name in ("valid", "test")},
        modalities=reports,
        errors=errors,
        warnings=[*repeated, *(f"the {n} split is empty" for n in ("valid", "test") if len(parts[n]) == 0)],
        notes=scale_notes(
            {report.spec.name: report.scales for report in reports if report.scales is not None},
            _scaling(config, known=model == named or "normalize_features" in given),
        ),
    )


def _modality_report(spec: ModalitySpec, tokens: Sequence[str], dtype: str) -> ModalityReport:
    modality, report = load_modality(spec, tokens, with_duplicates=True, dtype=dtype)
    if modality is not None and modality.values is not None:
        report.scales = row_scales(modality.values, modality.has_row)
    return report


def _scaling(config: Config, known: bool) -> str | None:
    """Return what ``normalize_features`` is; ``None`` where no model is named, or one without the key."""
    has_key = known and "normalize_features" in run_settings(config.model_class, config)
    return scaling_word(config["normalize_features"]) if has_key else None


def scales_text(scales: RowScales) -> str:
    """Return lengths and directions of a modality's rows, in one line."""
    text = f"row lengths {scales.median:.3g} (median), {scales.least:.3g} to {scales.most:.3g}"
    return text if math.isnan(scales.cosine) else f"{text}; mean cosine of two rows {scales.cosine:.2f}"


def scale_notes(scales: Mapping[str, RowScales], scaling: str | None) -> list[str]:
    """Return what is unusual about the scales of the modalities and can be helped.

    Args:
        scales: by modality.
        scaling: the value of ``normalize_features``; ``None``: it is not known.
    """
    notes = []
    medians = {name: found.median for name, found in scales.items()}
    ends = min(medians.values(), default=1.0), max(medians.values(), default=1.0)
    if scaling in (None, NONE) and (
        ends[1] > FAR_APART * ends[0] or ends[0] < USUAL_LENGTHS[0] or ends[1] > USUAL_LENGTHS[1]
    ):
        listed = ", ".join(f"{name} {median:.3g}" for name, median in medians.items())
        notes.append(
            f"median row lengths are {listed}; normalize_features: {NONE} reads them as they are, {ROWS} or "
            f"{COLUMNS} scales them"
        )
    one_way = [f"{name} ({found.cosine:.2f})" for name, found in scales.items() if found.cosine > ONE_WAY]
    if one_way and scaling != COLUMNS:
        notes.append(
            f"rows point one way, by the mean cosine of two of them: {', '.join(one_way)}; "
            f"normalize_features: {COLUMNS} (VBPR, VLightGCN, VLATTICE) centers them"
        )
    return notes


def _split(dataset: Dataset) -> list[Dataset]:
    init_seed(dataset.config["seed"], dataset.config["reproducibility"])
    # what is repeated stands in the report
    with _errors_alone():
        return dataset.build()


@contextmanager
def _errors_alone() -> Iterator[None]:
    """Log nothing below an error: the report says it."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
