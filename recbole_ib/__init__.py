"""recbole_ib: information-bottleneck recommenders and multimodal baselines for RecBole.

Importing it registers every model of the catalog with RecBole.
"""

import importlib

from recbole_ib import deprecated
from recbole_ib.utils import threads

threads.wait_briefly()

# ruff: noqa: E402  (torch must not be imported before that, nor RecBole before compat has run)
from recbole_ib.patches import compat

compat.apply()

from recbole_ib.errors import (
    CheckpointError,
    ConfigurationError,
    ConversionError,
    FeatureError,
    RecBoleIBError,
)
from recbole_ib.inference.recommender import load
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.bottleneck import Bottleneck, register_bottleneck
from recbole_ib.model.layers.encoder import ModalityEncoder, register_encoder
from recbole_ib.model.registry import list_models, register_model
from recbole_ib.model.settings import Search, Setting
from recbole_ib.patches.install import register_all
from recbole_ib.training.checkpoint import read_checkpoint
from recbole_ib.training.run import run_recbole_ib
from recbole_ib.version import __version__

register_all()
deprecated.install()

__all__ = [
    "Bottleneck",
    "CheckpointError",
    "ConfigurationError",
    "ConversionError",
    "FeatureError",
    "ModalityEncoder",
    "MultimodalRecommender",
    "RecBoleIBError",
    "Search",
    "Setting",
    "__version__",
    "list_models",
    "load",
    "read_checkpoint",
    "register_bottleneck",
    "register_encoder",
    "register_model",
    "run_recbole_ib",
    "tune",  # noqa: F822  (__getattr__)
]


def __getattr__(name: str) -> object:
    if name == "tune":
        # Ray Tune takes seconds to import: only who searches pays for it
        from recbole_ib.tuning.search import tune

        return tune
    if name in deprecated.MODULES:
        # attributes of old modules warn
        return importlib.import_module(f"recbole_ib.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
