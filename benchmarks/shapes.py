"""Synthetic data sets of named sizes in this package's format, for the other benchmarks.

    python benchmarks/shapes.py SHAPE [...] [--data dataset/benchmarks]

``baby``, ``sports`` and ``clothing`` have the users, items and interactions of Amazon's 5-core sets of these names and two modalities of
their widths (image 4096, text 384). ``series-N`` (10k, 30k, 100k, 300k, 1m items) has N/2 users, 10 N interactions and two modalities
of width 64, so that features do not hide what grows with the catalog. Popularity follows a power law, every user has at least 5
interactions and every item 1, none is given twice. Only the sizes are real: a figure of quality on these sets means nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import yaml
from pyarrow import csv

#: interactions that every user has at least
LEAST = 5
#: items share this many directions of taste, each item near one of the clusters
CLUSTERS, RANK = 64, 32
#: an item's popularity is (rank + SHIFT)^-POPULARITY; ACTIVITY is the standard deviation of the logarithm of the users' activity
POPULARITY, SHIFT, ACTIVITY = 0.8, 20, 0.8
DATA = Path("dataset/benchmarks")


class Shape(NamedTuple):
    """The size of a data set; ``modalities``: name -> width."""

    name: str
    users: int
    items: int
    interactions: int
    modalities: dict[str, int]


def series(size: str) -> Shape:
    """``10k``, ``1m`` or a plain number of items, as the shape ``series-<size>``."""
    text = size.lower()
    items = int(float(text.rstrip("km")) * {"k": 1_000, "m": 1_000_000}.get(text[-1], 1))
    return Shape(f"series-{size}", items // 2, items, 10 * items, {"image": 64, "text": 64})


AMAZON = {"image": 4096, "text": 384}
SHAPES = {
    "baby": Shape("baby", 19_445, 7_050, 160_792, AMAZON),
    "sports": Shape("sports", 35_598, 18_357, 296_337, AMAZON),
    "clothing": Shape("clothing", 39_387, 23_033, 278_677, AMAZON),
    **{f"series-{size}": series(size) for size in ("10k", "30k", "100k", "300k", "1m")},
}


def shape_of(name: str) -> Shape:
    """A shape by name, also ``series-<any size>``. Raises ValueError for another name."""
    if name in SHAPES:
        return SHAPES[name]
    try:
        return series(name.removeprefix("series-")) if name.startswith("series-") else SHAPES[name]
    except (KeyError, ValueError, IndexError):
        raise ValueError(f"there is no shape {name!r}; allowed: {', '.join(SHAPES)}, series-<items>") from None


def make(shape: str | Shape, folder: str | Path = DATA, seed: int = 0) -> Path:
    """Write ``folder/NAME`` unless it is there; the data path, ``folder`` made absolute. The same seed gives the same files."""
    shape = shape_of(shape) if isinstance(shape, str) else shape
    folder = Path(folder).resolve()
    if (folder / shape.name).is_dir():
        return folder
    here = folder / f".{shape.name}.{os.getpid()}"
    here.mkdir(parents=True)
    try:
        rng = np.random.default_rng([seed, zlib.crc32(shape.name.encode())])
        write_interactions(here / f"{shape.name}.inter", *interactions(shape, rng))
        for name, values in features(shape, rng):
            np.save(here / f"{name}.npy", values)
        np.savetxt(here / "items.tokens", np.arange(1, shape.items + 1), fmt="%d")
        settings = {
            "load_col": {"inter": ["user_id", "item_id"]},
            "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user", "order": "RO", "mode": "full"},
            "modalities": {m: {"file": f"{m}.npy", "tokens": "items.tokens"} for m in shape.modalities},
        }
        (here / f"{shape.name}.yaml").write_text(yaml.safe_dump(settings))
        try:
            here.rename(folder / shape.name)
        except OSError:  # another benchmark made it meanwhile
            if not (folder / shape.name).is_dir():
                raise
    finally:
        shutil.rmtree(here, ignore_errors=True)
    return folder


def interactions(shape: Shape, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of all interactions, from 0, sorted by user; int64 ``[n]`` each. Raises ValueError for an impossible shape."""
    if shape.interactions < max(LEAST * shape.users, shape.items) or shape.interactions > shape.users * shape.items // 4:
        raise ValueError(f"{shape}: too few interactions for its users and items, or too many to be sparse")
    users = rng.permutation(np.repeat(np.arange(shape.users), degrees(shape, rng)))
    # the first slots take every item once, the others draw by popularity; of equal pairs np.unique keeps the first
    popular = np.cumsum((np.arange(1, shape.items + 1) + SHIFT) ** -POPULARITY)
    by_rank = rng.permutation(shape.items)
    items = np.concatenate([rng.permutation(shape.items), by_popularity(by_rank, popular, shape.interactions - shape.items, rng)])
    kept, first = np.unique(users * shape.items + items, return_index=True)
    missing = np.ones(users.size, dtype=bool)
    missing[first] = False
    missing, tries = users[missing], 0
    while missing.size:
        # a very active user soon has the popular items: later draws come from all items alike
        spread = rng.random(missing.size) < min(1.0, tries / 8)
        drawn = np.where(spread, rng.integers(shape.items, size=missing.size), by_popularity(by_rank, popular, missing.size, rng))
        keys, first = np.unique(missing * shape.items + drawn, return_index=True)
        new = kept[np.minimum(np.searchsorted(kept, keys), kept.size - 1)] != keys
        kept = np.concatenate([kept, keys[new]])
        kept.sort(kind="stable")  # two sorted runs: one merge
        missing, tries = np.delete(missing, first[new]), tries + 1
    return np.divmod(kept, shape.items)


def degrees(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Interactions a user: at least ``LEAST``, at most half of the items, ``shape.interactions`` in all."""
    spare = shape.interactions - LEAST * shape.users
    weight = rng.lognormal(sigma=ACTIVITY, size=shape.users)
    found = LEAST + rng.multinomial(spare, weight / weight.sum())
    limit = max(LEAST, shape.items // 2)
    while (over := int((found - limit).clip(0).sum())) > 0:
        found = found.clip(max=limit)
        open_to_more = np.flatnonzero(found < limit)
        found += np.bincount(rng.choice(open_to_more, size=over), minlength=shape.users)
    return found


def by_popularity(by_rank: np.ndarray, cumulated: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Items drawn with the weights whose sums are ``cumulated``."""
    at = np.searchsorted(cumulated, rng.random(size) * cumulated[-1], side="right")
    return by_rank[np.minimum(at, by_rank.size - 1)]


def features(shape: Shape, rng: np.random.Generator):
    """(modality, float32 ``[items, width]``): the center of the item's cluster, low-rank differences from it, and noise."""
    cluster = rng.integers(CLUSTERS, size=shape.items)
    taste = rng.standard_normal((shape.items, RANK), dtype=np.float32)
    for name, width in shape.modalities.items():
        centers = rng.standard_normal((CLUSTERS, width), dtype=np.float32)
        directions = rng.standard_normal((RANK, width), dtype=np.float32) / np.float32(RANK**0.5)
        values = rng.standard_normal((shape.items, width), dtype=np.float32)
        values *= 0.3
        values += centers[cluster]
        values += 0.5 * taste @ directions
        yield name, values


def write_interactions(path: Path, users: np.ndarray, items: np.ndarray) -> None:
    """An atomic file; the tokens are the numbers from 1."""
    with path.open("wb") as file:
        file.write(b"user_id:token\titem_id:token\n")
        table = pa.table({"u": users + 1, "i": items + 1})
        csv.write_csv(table, file, csv.WriteOptions(include_header=False, delimiter="\t"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="+", metavar="SHAPE", help=f"{', '.join(SHAPES)}, or series-<items>")
    parser.add_argument("--data", default=DATA, type=Path)
    given = parser.parse_args()
    for name in given.shapes:
        print(make(name, given.data) / name)


if __name__ == "__main__":
    main()
