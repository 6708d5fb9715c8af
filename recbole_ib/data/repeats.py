"""Interactions that stand in a data set more than once.

A split may put one of them into training and one into test.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

PARTS = ("training", "validation", "test")


def repeats(dataset: Any) -> list[str]:
    """Return what is repeated, a sentence each, with what to do: pairs of a user and an item.

    Args:
        dataset: RecBole's, before it is split; of benchmark files, pairs are counted between the files.
    """
    feat = dataset.inter_feat
    if dataset.uid_field not in feat or dataset.iid_field not in feat:
        return []
    users, items = (
        np.asarray(feat[field], dtype=np.int64) for field in (dataset.uid_field, dataset.iid_field)
    )
    pairs = users * dataset.item_num + items
    if dataset.benchmark_filename_list is None:
        repeated = pairs.size - np.unique(pairs).size
        if not repeated:
            return []
        text = (
            f"{repeated} of {pairs.size} interactions repeat a user and an item of an earlier one. A split "
            "puts such a pair into training and test, and a model is measured on what it was shown; set "
            "rm_dup_inter: first (or last) to keep one of each"
        )
        return [text]
    ends = np.cumsum([0, *dataset.file_size_list])
    parts = [np.unique(pairs[start:end]) for start, end in itertools.pairwise(ends)]
    found = []
    for place, part in enumerate(parts):
        for earlier in range(place):
            common = np.intersect1d(part, parts[earlier], assume_unique=True).size
            if common:
                names = dataset.benchmark_filename_list
                found.append(
                    f"{common} of the {part.size} pairs of a user and an item in the {PARTS[place]} file "
                    f"({names[place]}) stand in the {PARTS[earlier]} file ({names[earlier]}) too: a model is "
                    "measured on what it was shown. Take them out of one"
                )
    return found


def warn_of_repeats(dataset: Any) -> None:
    """Log :func:`repeats`."""
    for text in repeats(dataset):
        dataset.logger.warning(text)
