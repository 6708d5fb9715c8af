"""Which known items a ranking leaves out at test, and the cut-offs that go with it: RecBole's way, or MMRec's."""

from __future__ import annotations

from recbole.utils import ModelType

from recbole_ib.errors import ConfigurationError, nearest

RECBOLE, MMREC = "recbole", "mmrec"
#: protocol -> the settings that it brings along, below the model's, the data set's and the user's own
PROTOCOLS: dict[str, dict] = {
    RECBOLE: {},
    MMREC: {"metrics": ["Recall", "NDCG", "Precision", "MAP"], "topk": [5, 10, 20, 50], "valid_metric": "Recall@20"},
}


def protocol_settings(name) -> dict:
    """What a protocol sets. Raises ConfigurationError for an unknown one."""
    if name not in PROTOCOLS:
        raise ConfigurationError(f"protocol is {name!r}.{nearest(str(name), PROTOCOLS)} Allowed: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def check_protocol(config) -> None:
    """Raise ConfigurationError where MMRec's protocol has no meaning: it is a full ranking of a general recommender."""
    if config["protocol"] != MMREC:
        return
    if config["MODEL_TYPE"] not in (ModelType.GENERAL, ModelType.TRADITIONAL):
        raise ConfigurationError(
            f"protocol: mmrec is for general recommenders, {config['model']} is a {config['MODEL_TYPE'].name} one"
        )
    if config["eval_args"]["mode"]["test"] != "full":
        mode = config["eval_args"]["mode"]["test"]
        raise ConfigurationError(f"protocol: mmrec ranks all items at test, eval_args asks for {mode!r}; set mode: full")
