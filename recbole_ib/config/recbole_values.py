"""The values of RecBole's own settings: RecBole trains with some that mean nothing, and ends in tracebacks.

``learner=foo`` is Adam there, ``user_inter_num_interval=[5`` no filter, ``epochs=-1`` a test of an untrained
model; ``stopping_step=abc`` ends a training when it is first read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from recbole_ib.data.intervals import parse_intervals
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.utils.validate import (
    AnyOf,
    Anything,
    Bool,
    FilePath,
    Integer,
    Kind,
    ListOf,
    MappingOf,
    Number,
    OneOf,
    Text,
    Unset,
    refusal,
)

#: numpy's and torch's generators take these
LARGEST_SEED = 2**32 - 1
#: as many places as a float64 has
MOST_PLACES = 17


def _or_none(kind: Kind) -> AnyOf:
    return AnyOf(kind, Unset(), what=f"{kind.what}, or none")


NAMES = ListOf(Text(), "[user_id, item_id]")
COLUMNS = MappingOf(AnyOf(NAMES, OneOf("*")), "{inter: [user_id, item_id]}")
FIELD = Text("the name of a column")

#: RecBole's settings, those of every run
KINDS: dict[str, Kind] = {
    # environment
    "gpu_id": AnyOf(
        Text(),
        OneOf(""),
        Integer(0),
        ListOf(Integer(0), "[0, 1]"),
        what="it takes numbers of GPUs such as 0 or '0,1'",
    ),
    "worker": Integer(0),
    "use_gpu": Bool(),
    "seed": Integer(0, LARGEST_SEED),
    "state": OneOf("INFO", "DEBUG", "WARNING", "ERROR", "CRITICAL", ignore_case=True),
    "reproducibility": Bool(),
    "data_path": FilePath(),
    "checkpoint_dir": FilePath(),
    "show_progress": Bool(),
    "save_dataset": Bool(),
    "dataset_save_path": _or_none(FilePath()),
    "save_dataloaders": Bool(),
    "dataloaders_save_path": _or_none(FilePath()),
    "log_wandb": Bool(),
    "wandb_project": Text("the name of a project"),
    "shuffle": Bool(),
    # training
    "epochs": Integer(1),
    "train_batch_size": Integer(1),
    "learner": OneOf("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam", ignore_case=True),
    "learning_rate": Number(above=0),
    "weight_decay": AnyOf(Number(least=0), Unset(), what="it takes a number, 0 or more"),
    "eval_step": Integer(0),
    "stopping_step": Integer(0),
    "loss_decimal_place": Integer(0, MOST_PLACES),
    "require_pow": Bool(),
    "enable_amp": Bool(),
    "enable_scaler": Bool(),
    "transform": AnyOf(
        OneOf("mask_itemseq", "inverse_itemseq", "crop_itemseq", "reorder_itemseq", "user_defined"), Unset()
    ),
    # evaluation
    "repeatable": Bool(),
    "metrics": AnyOf(
        ListOf(Text(), "[Recall, NDCG]"), Text(), what="it takes a list of metrics such as [Recall, NDCG]"
    ),
    "topk": AnyOf(
        ListOf(Integer(1), "[10, 20]"), Integer(1), what="it takes whole numbers, 1 or more, such as [10, 20]"
    ),
    "valid_metric": Text("a metric such as Recall@20"),
    "eval_batch_size": Integer(1),
    "metric_decimal_place": Integer(0, MOST_PLACES),
    # data
    "field_separator": Text("the text between two fields"),
    "seq_separator": Text("the text between two values of a sequence"),
    "encoding": AnyOf(Text("a name of an encoding such as utf-8"), Unset()),
    **dict.fromkeys(
        ("USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD", "LABEL_FIELD"), _or_none(FIELD)
    ),
    "NEG_PREFIX": Text(),
    "MAX_ITEM_LIST_LENGTH": Integer(1),
    "load_col": _or_none(COLUMNS),
    "unload_col": _or_none(COLUMNS),
    "unused_col": _or_none(COLUMNS),
    "additional_feat_suffix": _or_none(
        AnyOf(NAMES, Text(), what="it takes a list of endings such as [link]")
    ),
    "rm_dup_inter": _or_none(OneOf("first", "last")),
    "threshold": _or_none(MappingOf(Number(), "{rating: 3}")),
    "filter_inter_by_user_or_item": Bool(),
    "benchmark_filename": _or_none(ListOf(Text(), "[train, valid, test]", least=3)),
    "normalize_field": _or_none(NAMES),
    "normalize_all": AnyOf(Bool(), Unset(), what="allowed: True, False"),
    **dict.fromkeys(
        ("alias_of_user_id", "alias_of_item_id", "alias_of_entity_id", "alias_of_relation_id"),
        _or_none(NAMES),
    ),
    "preload_weight": _or_none(MappingOf(FIELD, "{item_id: item_emb}")),
    "seq_len": _or_none(MappingOf(Integer(1), "{item_id_list: 50}")),
    "val_interval": _or_none(MappingOf(Anything(), "{rating: '[4,inf)'}")),
}

#: of RecBole's own models, whose yaml files declare no kinds: names that mean the same in all of them
OWN_MODELS_KINDS: dict[str, Kind] = {
    "embedding_size": Integer(1),
    "n_layers": Integer(0),
    "reg_weight": AnyOf(
        Number(least=0), ListOf(Number(least=0), "[1e-5, 1e-5]"), what="it takes a number, 0 or more"
    ),
    "dropout_prob": Number(least=0, below=1),
}

SPLIT = (
    "allowed: {RS: [0.8, 0.1, 0.1]}, the shares of training, validation and test, or {LS: valid_and_test | "
    "valid_only | test_only}"
)
MODE = (
    "allowed: full, labeled, uniN and popN with N sampled items, such as uni100, or {valid: ..., test: ...} "
    "of these"
)
SAMPLING: dict[str, Kind] = {
    "distribution": AnyOf(OneOf("uniform", "popularity", "none", "None"), Unset()),
    "sample_num": AnyOf(Integer(1), OneOf("none"), what="it takes a whole number, 1 or more"),
    "alpha": AnyOf(Number(least=0), OneOf("none"), what="it takes a number, 0 or more"),
    "dynamic": Bool(),
    "candidate_num": Integer(0),
}


def check_recbole_values(settings: Mapping[str, Any], ours: bool) -> None:
    """Check the values of RecBole's own settings.

    Args:
        settings: of a run, before RecBole reads them.
        ours: whether the model is one of this package, which declares its settings itself.

    Raises:
        ConfigurationError: all values that RecBole would crash at, ignore or take for another, a line each.
    """
    kinds = KINDS if ours else {**OWN_MODELS_KINDS, **KINDS}
    lines = _refusals(settings, kinds)
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        lines += _interval(settings.get(key), key)
    intervals = settings.get("val_interval")
    for field, value in intervals.items() if isinstance(intervals, Mapping) else ():
        lines += _interval(value, f"val_interval of {field!r}") if isinstance(value, str) else []
    lines += _evaluation(settings.get("eval_args"))
    lines += _sampling(settings.get("train_neg_sample_args"))
    lines += _clipping(settings.get("clip_grad_norm"))
    lines += _wandb(settings.get("log_wandb"))
    if lines:
        raise ConfigurationError("\n".join(lines))


def _refusals(values: Mapping[str, Any], kinds: Mapping[str, Kind], of: str = "") -> list[str]:
    """Return why values may not be, a line each; ``of`` is the setting that they are parts of."""
    found = (
        refusal(f"{of} {key}".lstrip(), values[key], kind) for key, kind in kinds.items() if key in values
    )
    return [reason for reason in found if reason is not None]


def _interval(value: object, key: str) -> list[str]:
    try:
        parse_intervals(value, key)
    except ConfigurationError as error:
        return [str(error)]
    return []


def _evaluation(arguments: object) -> list[str]:
    if not isinstance(arguments, Mapping):
        return [f"eval_args is {arguments!r}; it takes a mapping with split, order, group_by and mode"]
    lines = []
    split = arguments.get("split", {"RS": [0.8, 0.1, 0.1]})
    if not _is_split(split):
        lines.append(f"eval_args split is {split!r}; {SPLIT}")
    order, group = arguments.get("order", "RO"), arguments.get("group_by", "user")
    if order not in ("RO", "TO"):
        lines.append(
            f"eval_args order is {order!r}; allowed: RO, at random, and TO, by "
            f"time.{nearest(str(order), ('RO', 'TO'))}"
        )
    if group not in ("user", "none", "None", None):
        lines.append(
            f"eval_args group_by is {group!r}; allowed: user, none.{nearest(str(group), ('user', 'none'))}"
        )
    mode = arguments.get("mode", "full")
    modes = mode if isinstance(mode, Mapping) else {"valid": mode, "test": mode}
    unknown = [key for key in modes if key not in ("valid", "test")]
    if unknown or not modes:
        near = nearest(str(unknown[0]), ("valid", "test")) if unknown else ""
        lines.append(f"eval_args mode is {mode!r}; {MODE}.{near}")
    elif not all(
        isinstance(m, str) and re.fullmatch(r"full|labeled|(uni|pop)[1-9]\d*", m) for m in modes.values()
    ):
        lines.append(f"eval_args mode is {mode!r}; {MODE}")
    return lines


def _is_split(split: object) -> bool:
    if not isinstance(split, Mapping) or len(split) != 1:
        return False
    kind, value = next(iter(split.items()))
    if kind == "LS":
        return value in ("valid_and_test", "valid_only", "test_only")
    shares = ListOf(Number(least=0), "", least=2)
    return kind == "RS" and shares.contains(value) and len(value) <= 3 and value[0] > 0


def _sampling(arguments: object) -> list[str]:
    if arguments is None or arguments in ("None", "none"):
        return []
    if not isinstance(arguments, Mapping):
        example = "it takes a mapping such as {distribution: uniform, sample_num: 1}"
        return [f"train_neg_sample_args is {arguments!r}; {example}"]
    return _refusals(arguments, SAMPLING, "train_neg_sample_args")


def _clipping(arguments: object) -> list[str]:
    if arguments is None:
        return []
    kinds = {"max_norm": Number(above=0), "norm_type": Number(above=0)}
    example = "it takes a mapping such as {max_norm: 5, norm_type: 2}"
    if (
        not isinstance(arguments, Mapping)
        or "max_norm" not in arguments
        or set(arguments) - {*kinds, "error_if_nonfinite", "foreach"}
    ):
        return [f"clip_grad_norm is {arguments!r}; {example}"]
    return _refusals(arguments, kinds, "clip_grad_norm")


def _wandb(wanted: object) -> list[str]:
    if not wanted:
        return []
    spec = find_spec("wandb")
    # a folder wandb beside the program, as a run leaves one, is no package
    if spec is not None and spec.origin is not None:
        return []
    remedy = "pip install wandb, or leave log_wandb out"
    return [f"log_wandb is {wanted!r}, and the package wandb is not installed: {remedy}"]
