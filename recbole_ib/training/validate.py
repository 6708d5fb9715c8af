"""The checks that training starts with, without a training, and a report on the data set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from recbole.data import create_samplers
from recbole.data.dataset import Dataset
from recbole.utils import init_seed

from recbole_ib.config.argv import parse_arguments
from recbole_ib.config.config import Config
from recbole_ib.data.dataset import MultimodalDataset
from recbole_ib.data.features import load_modality
from recbole_ib.data.modality_spec import ModalityReport
from recbole_ib.errors import FeatureError
from recbole_ib.model.registry import CATALOG


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
                    f"{report.zero_rows}, "
                    f"duplicate rows {report.duplicate_rows}"
                )
                if report.graph_edges is not None:
                    lines.append(f"  item graph: {report.graph_edges} edges, {spec.item_graph_file}")
            lines += [f"  warning: {text}" for text in report.warnings]
            lines += [f"  ERROR: {text}" for text in report.errors]
        if not self.modalities:
            lines.append("no modality is named: RecBole's own models run, multimodal ones do not")
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

    Args: as of :func:`recbole_ib.training.run.run_recbole_ib`; the model does not matter.

    Returns:
        A :class:`DatasetReport`.

    Raises:
        ConfigurationError: a wrong setting, or a data set that is not there.
        FeatureError: interactions that RecBole cannot load.
    """
    given = {**(config_dict or {}), **parse_arguments(argv)}
    model = given["model"] if given.get("model") in CATALOG else "VLATTICE"
    config = Config(model, None, config_file_list, config_dict, argv=argv)
    specs = MultimodalDataset.modality_specs(config)
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        dataset = UncheckedDataset(config)
    except ValueError as error:
        # RecBole's words for a missing file, a missing column, or filters that leave nothing
        raise FeatureError(f"{config['data_path']}: RecBole cannot load the interactions: {error}") from error
    finally:
        logger.setLevel(level)
    tokens = [str(t) for t in dataset.field2id_token[dataset.iid_field]]
    dtype = MultimodalDataset.feature_dtype(config)
    reports = [load_modality(spec, tokens, with_duplicates=True, dtype=dtype)[1] for spec in specs]
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
        warnings=[f"the {name} split is empty" for name in ("valid", "test") if len(parts[name]) == 0],
    )


def _split(dataset: Dataset) -> list[Dataset]:
    init_seed(dataset.config["seed"], dataset.config["reproducibility"])
    return dataset.build()
