"""Interface that an MMRec model expects: a configuration, interactions, a folder with features.

Ids start from 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from recbole_ib.data.modality_spec import USUAL_NAMES
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.graph import user_co_occurrence

FEATURE_FILES = {"vision": "vision_feature_file", "text": "text_feature_file"}
#: neighbors kept of every user in a user graph, as the published preparation of DualGNN keeps them
USER_NEIGHBORS = 200


class ModelConfig(dict):
    """Settings as MMRec models read them: ``config[key]`` is None for a key that is not set."""

    def __missing__(self, key: Any) -> Any:
        return None

    @property
    def final_config_dict(self) -> dict:
        """The settings themselves."""
        return self


class TrainingInteractions:
    """Training interactions, as both of the objects that MMRec models expect: loader and ``dataset``.

    Args:
        config: the model's settings.
        users: int array ``[n]``, ids from 0.
        items: int array ``[n]``, ids from 0.
        n_users: users without the padding row.
        n_items: items without the padding row.
    """

    def __init__(self, config: ModelConfig, users: np.ndarray, items: np.ndarray, n_users: int, n_items: int):
        self.config, self.device = config, config["device"]
        self.uid_field, self.iid_field = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
        self.df = pd.DataFrame({self.uid_field: users, self.iid_field: items})
        self.user_num, self.item_num, self.inter_num = n_users, n_items, len(users)
        self.n_users, self.n_items = n_users, n_items
        self.dataset_name = config["dataset"]
        self.dataset_path = str(Path(config["data_path"]) / config["dataset"])
        self.batch_size = self.step = config["train_batch_size"]
        self.sparsity = 1 - self.inter_num / max(n_users * n_items, 1)
        self.shuffle, self.neg_sampling = True, bool(config["use_neg_sampling"])

    def __getattr__(self, name: str) -> None:
        # only for names that were not found; copying asks for some before __init__ has run
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"the model asks its training data for {name!r}, which the bridge does not offer; it offers "
            f"{', '.join(sorted(n for n in {*vars(self), *vars(type(self))} if not n.startswith('_')))}"
        )

    @property
    def dataset(self) -> TrainingInteractions:
        """The interactions themselves."""
        return self

    def get_user_num(self) -> int:
        """Return the number of users."""
        return self.user_num

    def get_item_num(self) -> int:
        """Return the number of items."""
        return self.item_num

    def __len__(self) -> int:
        return math.ceil(self.inter_num / self.batch_size)

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> Any:
        """Return the training matrix ``[n_users, n_items]`` as ``coo`` or ``csr``.

        Its entries are ones, or the values of a column of ``df``.
        """
        if form not in ("coo", "csr"):
            raise NotImplementedError(f"inter_matrix: form is {form!r}; allowed: coo, csr")
        if value_field is not None and value_field not in self.df:
            raise ValueError(
                f"inter_matrix: there is no column {value_field!r}; there are {', '.join(self.df)}"
            )
        values = np.ones(self.inter_num) if value_field is None else self.df[value_field].to_numpy()
        pairs = (self.df[self.uid_field].to_numpy(), self.df[self.iid_field].to_numpy())
        matrix = sp.coo_matrix((values, pairs), shape=(self.user_num, self.item_num))
        return matrix if form == "coo" else matrix.tocsr()

    @cached_property
    def all_items(self) -> list[int]:
        """Items with an interaction."""
        return self.df[self.iid_field].unique().tolist()

    @cached_property
    def all_uids(self) -> np.ndarray:
        """Users with an interaction."""
        return self.df[self.uid_field].unique()

    @cached_property
    def all_items_set(self) -> set[int]:
        """Items with an interaction."""
        return set(self.all_items)

    @cached_property
    def all_users_set(self) -> set[int]:
        """Users with an interaction."""
        return set(self.all_uids.tolist())

    @cached_property
    def history_items_per_u(self) -> dict[int, set[int]]:
        """User -> the items."""
        return {int(u): set(i.tolist()) for u, i in self.df.groupby(self.uid_field)[self.iid_field]}

    @cached_property
    def history_users_per_i(self) -> dict[int, set[int]]:
        """Item -> the users."""
        return {int(i): set(u.tolist()) for i, u in self.df.groupby(self.iid_field)[self.uid_field]}


def choose_modalities(names: list[str], setting: object) -> dict[str, str]:
    """Return which of the data set's modalities are MMRec's ``vision`` and ``text``.

    For example ``{vision: image, text: text}``.

    Args:
        names: the data set's modalities.
        setting: the yaml key ``mmrec_modalities``; without it the names decide.

    Raises:
        ConfigurationError: a setting that names something else, or names that do not decide.
    """
    here = f"the data set's modalities are {', '.join(names) or 'none'}"
    if setting is None:
        chosen = {}
        for part, usual in USUAL_NAMES.items():
            fitting = [name for name in names if name.lower() in usual]
            if len(fitting) > 1:
                raise ConfigurationError(
                    f"several modalities may be MMRec's {part}: {', '.join(fitting)}. {_example(fitting)}"
                )
            if fitting:
                chosen[part] = fitting[0]
        unknown = [name for name in names if name not in chosen.values()]
        if not chosen or (unknown and len(chosen) < len(USUAL_NAMES)):
            raise ConfigurationError(
                f"MMRec's models know vision and text; {here}, and not each name says which. "
                f"{_example(names)}"
            )
        return chosen
    if not isinstance(setting, Mapping) or not setting or set(setting) - set(USUAL_NAMES):
        raise ConfigurationError(
            f"mmrec_modalities is {setting!r}; allowed are the keys vision and text. {_example(names)}"
        )
    for part, name in setting.items():
        if name not in names:
            raise ConfigurationError(
                f"mmrec_modalities: {part} is {name!r}, but {here}.{nearest(str(name), names)}"
            )
    return dict(setting)


def _example(names: list[str]) -> str:
    first, last = (names[0], names[-1]) if names else ("image", "text")
    pair = f"vision: {first}" if first == last else f"vision: {first}, text: {last}"
    return f'Say it with --mmrec_modalities="{{{pair}}}"'


def user_neighbors(matrix: sp.csr_matrix, top: int = USER_NEIGHBORS) -> dict[int, list[list]]:
    """:func:`recbole_ib.graph.user_co_occurrence` as MMRec keeps it.

    ``user -> [neighbor ids, numbers of shared items]``.

    Best first, equal ones by id; a user who shares nothing has empty lists. The numbers are floats, as models
    take a softmax of them.
    """
    counts = user_co_occurrence(matrix, top)
    graph = {}
    for user, (low, high) in enumerate(zip(counts.indptr[:-1], counts.indptr[1:], strict=True)):
        order = low + np.lexsort((counts.indices[low:high], -counts.data[low:high]))
        graph[user] = [counts.indices[order].tolist(), counts.data[order].astype(float).tolist()]
    return graph
