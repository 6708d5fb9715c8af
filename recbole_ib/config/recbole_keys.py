"""The settings that RecBole reads.

Those of its yaml files, of its lists of arguments, and a few that its code alone reads.
"""

from __future__ import annotations

from functools import cache

from recbole.utils import argument_list

from recbole_ib.config.layers import RECBOLE_PROPERTIES
from recbole_ib.utils.yaml import read_yaml

#: what RecBole's code takes from a Config and neither its yaml files nor its lists of arguments hold; a test
#: finds them in its sources
CODE_KEYS = frozenset({
    "CROP_ITEM_SEQ", "CROP_ITEM_SEQ_LEN", "INVERSE_ITEM_SEQ", "MASK_INDEX", "MASK_ITEM_SEQ",
    "MODEL_INPUT_TYPE", "MODEL_TYPE", "NEG_ITEMS", "POS_ITEMS", "REORDER_ITEM_SEQ", "cin", "contrast",
    "dataset", "device", "encoding", "eta", "eval_type", "feature_num", "has_residual", "ip",
    "local_rank", "model", "norm", "nproc", "offset", "port", "sim", "single_spec", "tail_ratio",
    "test_neg_sample_args", "token_num_threshold", "use_filter", "valid_neg_sample_args", "verbose",
    "world_size", "xgb_early_stopping_rounds",
})  # fmt: skip

#: in RecBole's lists, and read by nothing
UNREAD_KEYS = frozenset({"config_file"})


@cache
def recbole_keys() -> frozenset[str]:
    """Return every key that RecBole reads."""
    files = [path for path in RECBOLE_PROPERTIES.rglob("*.yaml") if path.stem not in ("url", "kg_url")]
    written = {key for path in files for key in read_yaml(path)}
    lists = (
        argument_list.general_arguments,
        argument_list.training_arguments,
        argument_list.evaluation_arguments,
    )
    listed = {key for names in (*lists, argument_list.dataset_arguments) for key in names}
    return frozenset((written | listed | CODE_KEYS) - UNREAD_KEYS)
