"""Protocols: which known items a ranking leaves out at test, and the cut-offs that go with it."""

from __future__ import annotations

from recbole.utils import ModelType

from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.utils.types import ConfigLike

RECBOLE, MMREC = "recbole", "mmrec"
#: protocol -> the settings that it brings along, below the model's, the data set's and the user's own
PROTOCOLS: dict[str, dict] = {
    RECBOLE: {},
    MMREC: {
        "metrics": ["Recall", "NDCG", "Precision", "MAP"],
        "topk": [5, 10, 20, 50],
        "valid_metric": "Recall@20",
    },
}


def protocol_settings(name: object) -> dict:
    """Return what a protocol sets.

    Raises:
        ConfigurationError: an unknown protocol.
    """
    if not isinstance(name, str) or name not in PROTOCOLS:
        raise ConfigurationError(
            f"protocol is {name!r}.{nearest(str(name), PROTOCOLS)} Allowed: {', '.join(PROTOCOLS)}"
        )
    return PROTOCOLS[name]


def check_protocol(config: ConfigLike) -> None:
    """Check that MMRec's protocol has a meaning: it is a full ranking of a general recommender.

    Raises:
        ConfigurationError: another kind of model or of evaluation.
    """
    if config["protocol"] != MMREC:
        return
    if config["MODEL_TYPE"] not in (ModelType.GENERAL, ModelType.TRADITIONAL):
        raise ConfigurationError(
            f"protocol: mmrec is for general recommenders, {config['model']} is a "
            f"{config['MODEL_TYPE'].name} one"
        )
    if config["eval_args"]["mode"]["test"] != "full":
        mode = config["eval_args"]["mode"]["test"]
        raise ConfigurationError(
            f"protocol: mmrec ranks all items at test, eval_args asks for {mode!r}; set mode: full"
        )
