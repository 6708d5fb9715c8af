"""Configuration: RecBole's, with our yaml in RecBole's order, and with no key that nothing reads.

Precedence: command line > ``config_dict`` > config files > data set yaml > model yaml > overall.yaml.
RecBole's own defaults lie below ours. For RecBole's own general models our overall and data set defaults hold
too, so that a baseline and a multimodal model run on the same data, metrics and early stopping;
``defaults: recbole`` leaves them out. Sequential, context-aware and knowledge-based models always keep
RecBole's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import recbole.data.utils
from recbole.config import Config as RecBoleConfig
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_ib.bridge.mmrec import mmrec_model
from recbole_ib.config.argv import parse_arguments, parse_value
from recbole_ib.config.checks import check_dataset_name, check_keys, check_metrics, check_valid_metric
from recbole_ib.config.layers import layered_internal_config
from recbole_ib.config.presets import read_config_file
from recbole_ib.config.recbole_values import check_recbole_values
from recbole_ib.data.modality_spec import parse_modalities
from recbole_ib.data.protocol import check_protocol
from recbole_ib.distributed.launch import launched, own_device, refuse_recboles, visible_devices
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.registry import (
    MMREC_PREFIX,
    check_model_name,
    is_multimodal,
    resolve_model,
)

#: how many user-item pairs a batch holds where a model scores them one by one
PAIRS_SCORED_ONE_BY_ONE = 1 << 16

#: settings that are paths
PATH_KEYS = ("data_path", "feature_path", "mmrec_path")


class Config(RecBoleConfig):
    """RecBole's ``Config`` with our defaults and checks.

    Args:
        model: a name, or a model class.
        dataset: a name.
        config_file_list: yaml files, or names of presets; later ones win.
        config_dict: settings.
        argv: ``--key=value`` words of the highest priority. RecBole's Config reads ``sys.argv`` of whatever
            process it runs in (a notebook, pytest, a Ray worker); this one reads what it is given.
        check_keys: refuse keys that nothing reads.

    Raises:
        ConfigurationError: an unknown model, data set or key, with the nearest valid ones; a file that is no
            yaml; settings that do not go together.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        argv: Sequence[str] = (),
        check_keys: bool = True,
    ):
        self._argv, self._check_keys = list(argv), check_keys
        super().__init__(model, dataset, config_file_list, dict(config_dict or {}))
        # what ``sampling`` does not allow is said before the data are loaded
        recbole.data.utils.get_dataloader(self, "train")

    def _load_config_files(self, file_list: Sequence[str] | None) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for file in file_list or []:
            merged.update(read_config_file(file))
        return merged

    def _load_cmd_line(self) -> dict[str, Any]:
        return parse_arguments(self._argv)

    def _convert_config_dict(self, config_dict: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: parse_value(value) if isinstance(value, str) else value for key, value in config_dict.items()
        }

    def _get_model_and_dataset(self, model: Any, dataset: Any) -> Any:
        external = self.external_config_dict
        model = external.get("model") if model is None else model
        dataset = external.get("dataset") if dataset is None else dataset
        if model is None:
            raise ConfigurationError(
                "no model is named: give --model=NAME, such as --model=IBMRec; `recbole-ib models` lists all"
            )
        if dataset is None:
            raise ConfigurationError(
                "no data set is named: give --dataset=NAME, such as --dataset=ml-100k (bundled)"
            )
        model = resolve_model(model, external.get("bottleneck"))
        if isinstance(model, str) and model.lower().startswith(MMREC_PREFIX):
            model = self._mmrec_model(model)
        elif isinstance(model, str):
            check_model_name(model)
        return super()._get_model_and_dataset(model, str(dataset))

    def _mmrec_model(self, name: str) -> str:
        """Register a model of the user's checkout, and return its name as the checkout writes it."""
        path = self.external_config_dict.get("mmrec_path")
        found = mmrec_model(name, path)
        # a checkpoint must find the checkout from any working directory
        self.external_config_dict["mmrec_path"] = str(Path(path).expanduser().resolve())
        return found.__name__

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        layered_internal_config(self, model, model_class, dataset)

    def _set_default_parameters(self) -> None:
        data_path = self.final_config_dict.get("data_path")
        refuse_recboles(self.external_config_dict)
        check_recbole_values(self.final_config_dict, is_multimodal(self.model_class))
        check_metrics(self.final_config_dict)
        try:
            super()._set_default_parameters()
        except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
            raise ConfigurationError(str(error)) from error
        check_valid_metric(self.final_config_dict)
        if (
            self.dataset == "ml-100k"
            and "data_path" in self.external_config_dict
            and (Path(data_path) / "ml-100k").is_dir()
        ):
            # RecBole takes a set of this name from its own wheel whatever data_path says
            self.final_config_dict["data_path"] = str(Path(data_path) / "ml-100k")
        check_protocol(self)
        if self._check_keys:
            check_dataset_name(self)
            check_keys(self, self.external_config_dict)
        self._limit_pairs()
        if is_multimodal(self.model_class):
            self.final_config_dict["feature_fingerprint"] = _fingerprint(self)

    def _limit_pairs(self) -> None:
        """Lower our ``eval_batch_size``, which fits one matrix of scores, where a model scores pair by pair.

        Such a model holds many numbers per pair.
        """
        by_pairs = self.model_class.full_sort_predict is AbstractRecommender.full_sort_predict
        modes = set(self.final_config_dict["eval_args"]["mode"].values())
        if "eval_batch_size" not in self.external_config_dict and (by_pairs or modes != {"full"}):
            batch = min(self.final_config_dict["eval_batch_size"], PAIRS_SCORED_ONE_BY_ONE)
            self.final_config_dict["eval_batch_size"] = batch

    def _init_device(self) -> None:
        if self.final_config_dict.get("use_gpu") is False:
            self.final_config_dict["gpu_id"] = ""  # RecBole looks at the id alone
        elif launched() and "gpu_id" not in self.external_config_dict:
            self.final_config_dict["gpu_id"] = visible_devices()
        super()._init_device()
        self.final_config_dict["device"] = own_device(self.final_config_dict["device"])


def resolve_paths(settings: dict) -> dict:
    """Settings whose paths hold in any working directory."""
    found = dict(settings)
    for key in PATH_KEYS:
        if isinstance(found.get(key), str) and not found[key].startswith("recbole_ib:"):
            found[key] = str(Path(found[key]).expanduser().resolve())
    return found


def absolute_paths(settings: dict, config: Config) -> dict:
    """Return :func:`resolve_paths` of settings, with the ``data_path`` of a configuration."""
    found = resolve_paths(settings)
    if "data_path" in found or config.dataset != "ml-100k":
        found["data_path"] = str(Path(config["data_path"]).parent.resolve())
    return found


def feature_files(config: Config) -> list[Path]:
    """Return the files of the modalities that a configuration uses: features, tokens, item graphs."""
    base = Path(config["feature_path"] or config["data_path"])
    specs = parse_modalities(config["modalities"], base, config["use_modalities"])
    named = [
        path for spec in specs for path in (spec.file, spec.tokens, spec.item_graph_file) if path is not None
    ]
    return [path for path in named if path.is_file()]


def _fingerprint(config: Config) -> list:
    """Path, size and time of every feature file: a saved data set is reused only while they are the same."""
    stats = [(str(path.resolve()), path.stat()) for path in feature_files(config)]
    return [[path, stat.st_size, stat.st_mtime_ns] for path, stat in stats]
