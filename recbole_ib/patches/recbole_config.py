"""RecBole's own Config reads the yaml of this package for its models."""

from __future__ import annotations

from typing import Any

from recbole.config import Config as RecBoleConfig

from recbole_ib.config.checks import check_keys
from recbole_ib.config.config import Config
from recbole_ib.config.layers import layered_internal_config
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.registry import (
    bottlenecks_of,
    is_multimodal,
    resolve_model,
)

#: keys that recbole_ib.training.run reads, and no entry point of RecBole's own
OWN_RUN_KEYS = ("split_seed", "per_user")


def patch() -> None:
    """Let RecBole's own Config read our yaml for the models of the catalog: its entry points run them."""
    original = RecBoleConfig._load_internal_config_dict
    if getattr(original, "_recbole_ib", False):
        return

    def _load_internal_config_dict(
        self: RecBoleConfig, model: str, model_class: type, dataset: str
    ) -> dict | None:
        if isinstance(self, Config) or not is_multimodal(model_class):
            return original(self, model, model_class, dataset)
        layered_internal_config(self, model, model_class, dataset)
        return None

    replacement: Any = _load_internal_config_dict
    replacement._recbole_ib = True
    replacement.original = original
    RecBoleConfig._load_internal_config_dict = _load_internal_config_dict

    names = RecBoleConfig._get_model_and_dataset

    def _get_model_and_dataset(self: RecBoleConfig, model: str | type | None, dataset: str | None) -> Any:
        if not isinstance(self, Config):
            model = self.external_config_dict.get("model") if model is None else model
            model = resolve_model(model, self.external_config_dict.get("bottleneck"))
        return names(self, model, dataset)

    RecBoleConfig._get_model_and_dataset = _get_model_and_dataset

    set_defaults = RecBoleConfig._set_default_parameters

    def _set_default_parameters(self: RecBoleConfig) -> None:
        set_defaults(self)
        if is_multimodal(self.model_class):
            # written one way, however the run was asked for: a checkpoint's settings are compared with it
            self.final_config_dict["bottleneck"] = (
                ",".join(bottlenecks_of(self.final_config_dict["model"], self.model_class)) or None
            )
        if not isinstance(self, Config) and is_multimodal(self.model_class):
            # RecBole's Config also takes the host process's own options for settings: those are not checked
            given = {**self.file_config_dict, **self.variable_config_dict}
            check_keys(self, given)
            for key in OWN_RUN_KEYS:
                if given.get(key):
                    raise ConfigurationError(
                        f"{key} is read by run_recbole_ib and the command recbole-ib, not by RecBole's own "
                        "run"
                    )

    RecBoleConfig._set_default_parameters = _set_default_parameters
