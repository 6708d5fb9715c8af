"""recbole_ib: information-bottleneck recommenders and multimodal baselines for RecBole.

Importing it registers every model of the catalogue with RecBole.
"""

from recbole_ib import compat

compat.apply()

# ruff: noqa: E402  (RecBole must not be imported before compat has run)
from recbole_ib.checkpoint import read_checkpoint
from recbole_ib.errors import (
    CheckpointError,
    ConfigurationError,
    ConversionError,
    FeatureError,
    RecBoleIBError,
)
from recbole_ib.quick_start import run_recbole_ib
from recbole_ib.recommend import load
from recbole_ib.registry import list_models, register_all, register_model

__version__ = "0.1.0"

register_all()

__all__ = [
    "CheckpointError",
    "ConfigurationError",
    "ConversionError",
    "FeatureError",
    "RecBoleIBError",
    "__version__",
    "list_models",
    "load",
    "read_checkpoint",
    "register_model",
    "run_recbole_ib",
    "tune",
]


def __getattr__(name: str):
    if name == "tune":
        # Ray Tune takes seconds to import: only who searches pays for it
        from recbole_ib.tuning.search import tune

        return tune
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
