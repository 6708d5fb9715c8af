"""RecBole's data set, with modalities."""

from __future__ import annotations

from pathlib import Path

import recbole
import torch
from recbole.data.dataset import Dataset
from torch import Tensor

from recbole_ib.data.features import FEATURE_DTYPES, load_modality
from recbole_ib.data.float16_cache import CACHE_FOLDER
from recbole_ib.data.modality_spec import ModalitySpec, parse_modalities
from recbole_ib.errors import ConfigurationError, FeatureError
from recbole_ib.utils.types import ConfigLike


class MultimodalDataset(Dataset):
    """Data set of RecBole whose items carry pre-trained features, any number of modalities by any name.

    The yaml key ``modalities`` names the files, ``use_modalities`` a subset, ``feature_path`` the folder that
    relative paths start from (default: the data set's own). Rows follow the items' TOKENS: filtering and
    RecBole's renumbering cannot misalign them. Files are checked when the data set is built, before any
    training.

    With ``feature_dtype: float16`` the aligned tables are kept in :meth:`feature_cache` and mapped: a
    model gathers the rows of a batch and computes in float32. The features are then those of the files,
    rounded to float16.

    Attributes:
        modalities: name -> Tensor ``[n_items, d]`` of ``feature_dtype``; row 0 (padding) is zero.
        has_feature: name -> bool Tensor ``[n_items]``, items that have a row of their own.
        item_graphs: name -> CSR ``[n_items, n_items]`` of the modality's ``item_graph_file``, where one is
            named.
        graph_cache: where large item graphs that are computed from these features are kept for other runs.

    Raises:
        FeatureError: a file that training must not start with; the message names file, count and first
            tokens.
    """

    modalities: dict[str, Tensor]
    has_feature: dict[str, Tensor]
    graph_cache: Path | None

    def _data_processing(self) -> None:
        super()._data_processing()
        self._load_modalities()

    def _load_modalities(self) -> None:
        self.modalities, self.has_feature, self.item_graphs = {}, {}, {}
        tokens = [str(t) for t in self.field2id_token[self.iid_field]]
        errors: list[str] = []
        dtype = self.feature_dtype(self.config)
        cache = self.graph_cache = self.feature_cache(self.config)
        for spec in self.modality_specs(self.config):
            modality, report = load_modality(spec, tokens, dtype=dtype, cache=cache)
            errors += report.errors
            for text in report.warnings:
                self.logger.warning(text)
            if modality is None:
                continue
            self.logger.info(
                f"modality {spec.name}: {report.shape} {report.dtype} from {spec.file}, {report.covered} of "
                f"{report.n_items} items, encoder: {spec.encoder or 'not stated'}"
            )
            self.modalities[spec.name] = torch.from_numpy(modality.values)
            self.has_feature[spec.name] = torch.from_numpy(modality.has_row)
            if modality.item_graph is not None:
                self.item_graphs[spec.name] = modality.item_graph
        if errors:
            raise FeatureError("\n".join(errors))

    @staticmethod
    def feature_dtype(config: ConfigLike) -> str:
        """Return the value of ``feature_dtype``, one of :data:`recbole_ib.data.features.FEATURE_DTYPES`.

        Raises:
            ConfigurationError: another value.
        """
        value = config["feature_dtype"]
        if value not in FEATURE_DTYPES:
            raise ConfigurationError(f"feature_dtype is {value!r}; allowed: {', '.join(FEATURE_DTYPES)}")
        return value

    @staticmethod
    def feature_cache(config: ConfigLike) -> Path:
        """Return the folder of float16 tables and item graphs.

        It is in the data set's folder, or ``checkpoint_dir`` for a set of RecBole's package.
        """
        folder = Path(config["data_path"])
        if Path(recbole.__file__).resolve().parent in folder.resolve().parents:
            folder = Path(config["checkpoint_dir"])
        return folder / CACHE_FOLDER

    @staticmethod
    def modality_specs(config: ConfigLike) -> list[ModalitySpec]:
        """Return the modalities that a configuration names, see :func:`parse_modalities`."""
        base = Path(config["feature_path"] or config["data_path"])
        return parse_modalities(config["modalities"], base, config["use_modalities"])
