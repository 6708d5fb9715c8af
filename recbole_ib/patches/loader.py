"""RecBole's data set class: files by our reader, clear refusals, exact order by time, repeated events named.

For every model, RecBole's own too: a baseline and a multimodal model must see the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource

from recbole_ib.data.atomic_file import Column, Form, read_atomic
from recbole_ib.data.intervals import parse_intervals
from recbole_ib.data.repeats import warn_of_repeats
from recbole_ib.errors import ConfigurationError, DataError, first_few, nearest

#: settings that leave out rows
FILTERS = (
    "val_interval",
    "user_inter_num_interval",
    "item_inter_num_interval",
    "filter_inter_by_user_or_item",
    "rm_dup_inter",
)


def patch() -> None:
    """Replace or wrap the methods of RecBole's ``Dataset``, once."""
    if Dataset._load_feat is _load_feat:
        return
    Dataset._load_feat = _load_feat
    Dataset._parse_intervals_str = _parse_intervals_str
    for name, wrapper in WRAPPERS.items():
        original = getattr(Dataset, name)
        setattr(Dataset, name, wraps(original)(wrapper(original)))


# -- reading -------------------------------------------------------------------------------------------------


def _load_feat(self: Dataset, filepath: str, source: Any) -> pd.DataFrame | None:
    """Read an atomic file as RecBole's method of this name, by :mod:`recbole_ib.data.atomic_file`.

    Raises:
        DataError: see :func:`recbole_ib.data.atomic_file.read_atomic`; a column that ``load_col`` names and
            the file lacks; a row without a user or an item.
    """
    load_col, unload_col = self._get_load_and_unload_col(source)
    if load_col == set():
        return None
    form = _form(self.config)
    path = Path(filepath)

    def wanted(name: str) -> bool:
        return (load_col is None or name in load_col) and not (unload_col and name in unload_col)

    frame, columns, header = read_atomic(path, form, wanted)
    names = [column.name for column in header]
    lacking = [name for name in load_col or () if name not in names]
    if lacking:
        raise DataError(
            f"{path} has no column {lacking[0]!r}, which load_col names.{nearest(lacking[0], names)} Its "
            f"columns: {', '.join(names)}"
        )
    if not columns:
        self.logger.warning(f"No columns has been loaded from [{source}]")
        return None
    _record(self, columns, frame, source)
    _check_ids(self, path, frame, names, source)
    return frame


def _form(config: Any) -> Form:
    separators = {key: config[key] for key in ("field_separator", "seq_separator")}
    for key, value in separators.items():
        if not isinstance(value, str) or not value or "\n" in value or '"' in value:
            raise ConfigurationError(
                f"{key} is {value!r}; it takes one or more characters that are no quote and no newline"
            )
    encoding = config["encoding"] or "utf-8"
    return Form(**separators, encoding=str(encoding))


def _record(self: Dataset, columns: list[Column], frame: pd.DataFrame, source: Any) -> None:
    """Keep what RecBole keeps of every column: source, type, length of sequences, buckets."""
    for name, kind in columns:
        if isinstance(source, FeatureSource) or source != "link":
            self.field2source[name], self.field2type[name] = source, kind
            if not kind.value.endswith("seq"):
                self.field2seqlen[name] = 1
            if "float" in kind.value:
                self.field2bucketnum[name] = 2
        if not kind.value.endswith("seq"):
            continue
        longest = max(map(len, frame[name]), default=0)
        most = (self.config["seq_len"] or {}).get(name)
        if most:
            frame[name] = [values[:most] for values in frame[name]]
        self.field2seqlen[name] = min(most, longest) if most else longest


def _check_ids(self: Dataset, path: Path, frame: pd.DataFrame, names: Sequence[str], source: Any) -> None:
    """Refuse interactions without a column of users or items, or with empty ids in it."""
    ids = {"USER_ID_FIELD": self.uid_field, "ITEM_ID_FIELD": self.iid_field}
    interactions = source == FeatureSource.INTERACTION
    for key, field in ids.items():
        if field is None:
            continue
        if interactions and field not in frame:
            left_out = (
                " The file has it; load_col or unload_col leaves it out."
                if field in names
                else nearest(field, names)
            )
            raise DataError(
                f"{path}: there is no column {field!r}, which {key} names.{left_out} Its columns: "
                f"{', '.join(names)}"
            )
        own = source in (FeatureSource.INTERACTION, FeatureSource.USER, FeatureSource.ITEM)
        if own and field in frame and frame[field].dtype == object:
            empty = np.flatnonzero(frame[field].isna().to_numpy())
            if empty.size:
                raise DataError(
                    f"{path}: {empty.size} rows have an empty {field}: rows "
                    f"{first_few((empty + 1).tolist())} below the header. Give each its id, or delete these "
                    "lines"
                )
    if interactions and not len(frame):
        raise DataError(f"{path} has a header and no rows")


def _files_first(original: Callable) -> Callable:
    def _load_inter_feat(self: Dataset, token: str, dataset_path: str) -> None:
        names = self.benchmark_filename_list
        if names is not None and (
            isinstance(names, str) or not isinstance(names, Sequence) or len(names) != 3
        ):
            raise ConfigurationError(
                f"benchmark_filename is {names!r}; it takes the names of three parts, such as [train, valid, "
                f"test], for the files {token}.train.inter and so on"
            )
        middles = [""] if names is None else [f".{name}" for name in names]
        for middle in middles:
            path = Path(dataset_path) / f"{token}{middle}.inter"
            if not path.is_file():
                here = sorted(p.name for p in Path(dataset_path).glob("*.inter"))
                what = "is a folder, not a file" if path.is_dir() else "is not there"
                found = f" Files of interactions there: {', '.join(here)}." if here else ""
                raise DataError(
                    f"{path} {what}.{found} It holds the interactions, one a line below a header such as "
                    "user_id:token"
                )
        original(self, token, dataset_path)

    return _load_inter_feat


def _parse_intervals_str(self: Dataset, text: Any) -> Any:  # noqa: ARG001  (RecBole's signature)
    return parse_intervals(text)


# -- filters -------------------------------------------------------------------------------------------------


def _known_fields(original: Callable) -> Callable:
    def _filter_by_field_value(self: Dataset) -> None:
        given = self.config["val_interval"] or {}
        if not isinstance(given, dict):
            raise ConfigurationError(
                f"val_interval is {given!r}; it takes a mapping such as {{rating: '[4,inf)'}}"
            )
        for field in given:
            if field not in self.field2type:
                known = list(self.field2type)
                raise ConfigurationError(
                    f"val_interval names {field!r}, and no column of that name is "
                    f"read.{nearest(field, known)} Columns that are: {', '.join(known)} (load_col says which)"
                )
            if self.field2type[field].value.startswith("token") and isinstance(given[field], str):
                raise ConfigurationError(
                    f"val_interval of {field!r}, a column of tokens, is {given[field]!r}; it takes a list of "
                    "tokens"
                )
        original(self)

    return _filter_by_field_value


def _rows_left(original: Callable) -> Callable:
    def _reset_index(self: Dataset) -> None:
        for name in self.feat_name_list:
            if getattr(self, name).empty:
                active = [f"{key}: {self.config[key]!r}" for key in FILTERS if self.config[key]]
                what = {
                    "inter_feat": "interaction",
                    "user_feat": "row of users",
                    "item_feat": "row of items",
                }.get(name, name)
                raise DataError(
                    f"no {what} of the data set {self.dataset_name!r} is left after filtering by "
                    f"{'; '.join(active) or 'nothing'}. Filters that keep less than all are too strict "
                    "together"
                )
        original(self)

    return _reset_index


# -- time ----------------------------------------------------------------------------------------------------


def _exact_times(original: Callable) -> Callable:
    def _change_feat_format(self: Dataset) -> None:
        times = self.inter_feat.get(self.time_field, None)
        # RecBole's rows become float32, in which seconds of today are known to two minutes
        self._exact_times = (
            times.to_numpy(np.float64, copy=True) if times is not None and times.dtype.kind in "iuf" else None
        )
        original(self)

    return _change_feat_format


def _sort_exactly(original: Callable) -> Callable:
    def sort(self: Dataset, by: Any, ascending: Any = True) -> None:
        times, fields = getattr(self, "_exact_times", None), [by] if isinstance(by, str) else list(by)
        plain = ascending is True or (isinstance(ascending, (list, tuple)) and all(ascending))
        if times is None or self.time_field not in fields or not plain or len(times) != len(self.inter_feat):
            original(self, by, ascending)
            return
        keys = [times if field == self.time_field else self.inter_feat[field].numpy() for field in fields]
        order = np.lexsort(keys[::-1])
        self.inter_feat._reindex(order)
        self._exact_times = times[order]

    return sort


def _shuffled(original: Callable) -> Callable:
    def shuffle(self: Dataset) -> None:
        self._exact_times = None
        original(self)

    return shuffle


def _splittable(original: Callable) -> Callable:
    def build(self: Dataset) -> Any:
        arguments = self.config["eval_args"]
        by_time = arguments.get("order") == "TO"
        if by_time and self.benchmark_filename_list is None and self.time_field not in self.inter_feat:
            raise ConfigurationError(
                f"eval_args order: TO sorts by time, and no column {self.time_field!r} is read. Name the "
                f"column of times by TIME_FIELD and add it to load_col ({self.config['load_col']}), or take "
                "order: RO"
            )
        modes = arguments.get("mode", {})
        labeled = "labeled" in (modes.values() if isinstance(modes, dict) else [modes])
        if labeled and (self.label_field is None or self.label_field not in self.inter_feat):
            raise ConfigurationError(
                f"eval_args mode: labeled ranks labeled rows, and no column {self.label_field!r} is read. "
                "Name the column of labels by LABEL_FIELD, or make it by threshold such as {rating: 4}"
            )
        warn_of_repeats(self)
        return original(self)

    return build


WRAPPERS: dict[str, Callable[[Callable], Callable]] = {
    "_load_inter_feat": _files_first,
    "_filter_by_field_value": _known_fields,
    "_reset_index": _rows_left,
    "_change_feat_format": _exact_times,
    "sort": _sort_exactly,
    "shuffle": _shuffled,
    "build": _splittable,
}
