"""Synthetic data sets with known truth.

It is known on which part of the features interactions depend, and which part is irrelevant.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recbole_ib.data.convert import write_features
from recbole_ib.errors import ConfigurationError, nearest
from recbole_ib.utils.files import replace_folder

MODALITIES = ("visual", "text")
#: factors in truth.npz that interactions depend on
RELEVANT = ("unique_visual", "unique_text", "redundant", "synergistic")
#: and those that they do not: ``nuisance`` is the n that hides the synergistic factors from each modality
#: alone
IRRELEVANT = ("irrelevant_visual", "irrelevant_text", "nuisance")
#: standard deviation within a cluster, where the centers have 1: neighbors by cosine are those of the cluster
CLUSTER_SPREAD = 0.4
#: every user and every item keeps at least this many interactions
CORE = 5


@dataclass(frozen=True)
class PlantedSpec:
    """What is planted; every field but ``irrelevance`` is the same data set at all levels of a comparison.

    Args:
        n_users: users drawn; those with fewer than 5 interactions are dropped.
        n_items: items drawn; those with fewer than 5 interactions are dropped.
        interactions_per_user: mean; a user draws 5 + Poisson(mean - 5).
        factors: dimensions of every relevant part (visual alone, text alone, both, synergistic).
        width: feature columns of each modality.
        unique: share of a modality's RELEVANT columns that tells what the other modality does not.
        redundant: share of them that both modalities tell.
        synergistic: share of them that only both together tell; the three sum to 1, and a share of 0 leaves
            the part out.
        irrelevance: share of ALL columns of a modality that interactions do not depend on, in [0, 1).
        irrelevant_factors: dimensions of the irrelevant structure of each modality.
        irrelevant_clusters: clusters that these form.
        nuisance: variance of n; one modality's R^2 of the synergistic factors is at most 1 / (1 + nuisance).
        noise: standard deviation of the noise of a column; the columns have variance 1.
        temperature: of the users' choices; small: a user takes the best-scored items.
        rotate: mix the columns of a modality by a random orthogonal map, so that no column is cleanly
            relevant.

    Raises:
        ConfigurationError: a value outside its range, shares that do not sum to 1, or fewer columns than a
            part has factors.
    """

    n_users: int = 800
    n_items: int = 600
    interactions_per_user: float = 10.0
    factors: int = 4
    width: int = 256
    unique: float = 0.4
    redundant: float = 0.4
    synergistic: float = 0.2
    irrelevance: float = 0.0
    irrelevant_factors: int = 8
    irrelevant_clusters: int = 30
    nuisance: float = 9.0
    noise: float = 0.03
    temperature: float = 0.4
    rotate: bool = True

    def __post_init__(self) -> None:
        least = {
            "n_users": 10,
            "n_items": 20,
            "factors": 1,
            "width": 4,
            "irrelevant_factors": 1,
            "irrelevant_clusters": 2,
        }
        for name, low in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ConfigurationError(
                    f"planted {name} is {value!r}; allowed: a whole number from {low} on"
                )
        shares = {name: getattr(self, name) for name in ("unique", "redundant", "synergistic")}
        for name, value in shares.items():
            _check_number(name, value, 0.0, 1.0, "from 0 to 1")
        if abs(sum(shares.values()) - 1.0) > 1e-6:
            listed = ", ".join(f"{name} {value:g}" for name, value in shares.items())
            raise ConfigurationError(
                f"planted {listed} sum to {sum(shares.values()):g}; they are the shares of the relevant "
                "columns and must sum to 1"
            )
        _check_number("irrelevance", self.irrelevance, 0.0, np.nextafter(1.0, 0.0), "from 0 to below 1")
        most = self.n_items / 2
        _check_number(
            "interactions_per_user",
            self.interactions_per_user,
            CORE,
            most,
            f"from {CORE} to {most:g} (half the items)",
        )
        for name in ("temperature", "nuisance"):
            _check_number(name, getattr(self, name), 1e-6, 1e6, "above 0, at most 1e6")
        _check_number("noise", self.noise, 0.0, 1e6, "from 0 on")
        for part, columns in self.columns().items():
            if part != "irrelevant" and getattr(self, part) > 0 and columns < self.factors:
                raise ConfigurationError(
                    f"planted irrelevance {self.irrelevance:g} leaves {columns} of {self.width} columns to "
                    f"the {part} part, whose {self.factors} factors they cannot tell apart; take a larger "
                    f"width, fewer factors or a larger share {part}"
                )

    def columns(self) -> dict[str, int]:
        """Return the columns of one modality; they sum to ``width``.

        Kinds: ``unique``, ``redundant``, ``synergistic`` and ``irrelevant``.
        """
        irrelevant = round(self.irrelevance * self.width)
        relevant = self.width - irrelevant
        ends = [round(relevant * end) for end in np.cumsum([self.unique, self.redundant])]
        unique, both = min(ends[0], relevant), min(ends[1], relevant)
        return {
            "unique": unique,
            "redundant": both - unique,
            "synergistic": relevant - both,
            "irrelevant": irrelevant,
        }


@dataclass(frozen=True)
class Planted:
    """One data set in memory; rows are the items that are left after filtering."""

    users: list[str]
    items: list[str]
    pairs: np.ndarray  # int64 [n, 2], positions in users and items
    features: dict[str, np.ndarray]  # modality -> float32 [n_items, width]
    factors: dict[str, np.ndarray]  # part -> float64 [n_items, k]
    preferences: np.ndarray  # float64 [n_users, relevant dimensions]


def spec_from(settings: dict | None = None, **changes: Any) -> PlantedSpec:
    """Return a spec from plain settings, with a clear error for names that it lacks."""
    known = {field.name for field in fields(PlantedSpec)}
    values = {**(settings or {}), **changes}
    for name in values:
        if name not in known:
            raise ConfigurationError(
                f"spec: unknown key {name!r}.{nearest(name, known)} Allowed: {', '.join(sorted(known))}"
            )
    return PlantedSpec(**values)


def generate(spec: PlantedSpec, seed: int) -> Planted:
    """Draw factors, interactions and features.

    Each is from a stream of its own, so that levels differ in features alone.
    """
    factors = _factors(spec, seed)
    relevant = np.hstack([factors[part] for part in RELEVANT])
    preferences = stream(seed, "preferences").standard_normal((spec.n_users, relevant.shape[1]))
    scores = preferences @ relevant.T / np.sqrt(relevant.shape[1])
    pairs = _k_core(_choices(spec, scores, seed))
    if len(pairs) == 0:
        raise ConfigurationError(
            f"planted: no user and item keep {CORE} interactions each; take more users, fewer items or a "
            "larger temperature"
        )
    features = {modality: _features(spec, seed, modality, factors) for modality in MODALITIES}
    users, user_rows = np.unique(pairs[:, 0], return_inverse=True)
    items, item_rows = np.unique(pairs[:, 1], return_inverse=True)
    return Planted(
        users=[f"u{u}" for u in users],
        items=[f"i{i}" for i in items],
        pairs=np.column_stack([user_rows, item_rows]),
        features={m: values[items].astype(np.float32) for m, values in features.items()},
        factors={part: values[items] for part, values in factors.items()},
        preferences=preferences[users],
    )


def write_planted(folder: str | Path, spec: PlantedSpec, seed: int, name: str | None = None) -> Path:
    """Write a planted data set as RecBole reads it, with its truth.

    ``folder/name`` holds ``name.inter``, for each modality ``.npy`` and ``.tokens``, ``name.yaml`` (split,
    batch size and learning rate that fit its size) and ``truth.npz``: ``items`` (tokens), ``users``,
    ``preferences`` and the factors of every part, rows as ``items``.

    Args:
        folder: the data path to write below.
        spec: what is planted.
        seed: of everything drawn.
        name: the data set's name; default: from the spec, the level and the seed.

    Returns:
        ``folder/name``. It is written beside its place and moved; a data set of that name is replaced.

    Raises:
        ConfigurationError: a name that is none, or a spec that leaves no interaction.
    """
    name = planted_name(spec, seed) if name is None else name
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
        raise ConfigurationError(
            f"a data set's name is made of letters, digits, '-', '_' and inner '.', got {name!r}"
        )
    data = generate(spec, seed)
    head = f"# Planted data of `recbole-ib robustness`, seed {seed}: {json.dumps(asdict(spec))}\n"
    settings = {
        "load_col": {"inter": ["user_id", "item_id"]},
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user", "order": "RO", "mode": "full"},
        "train_batch_size": 1024,
        "learning_rate": 0.005,
        "modalities": {
            m: {
                "file": f"{m}.npy",
                "tokens": f"{m}.tokens",
                "encoder": "planted linear maps of known factors",
            }
            for m in MODALITIES
        },
    }

    def fill(target: Path) -> None:
        lines = [
            "user_id:token\titem_id:token",
            *(f"{data.users[u]}\t{data.items[i]}" for u, i in data.pairs),
        ]
        (target / f"{name}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for modality, values in data.features.items():
            write_features(target, modality, values, data.items)
        (target / f"{name}.yaml").write_text(
            head + yaml.safe_dump(settings, sort_keys=False), encoding="utf-8"
        )
        truth: dict[str, Any] = {
            "items": np.array(data.items),
            "users": np.array(data.users),
            "preferences": data.preferences,
            **data.factors,
        }
        np.savez(target / "truth.npz", **truth)

    return replace_folder(Path(folder), name, fill)


def planted_name(spec: PlantedSpec, seed: int) -> str:
    """Return a name that differs by spec, level and seed."""
    rest = {k: v for k, v in asdict(spec).items() if k != "irrelevance"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:6]
    return f"planted-{digest}-{spec.irrelevance:g}-s{seed}"


def read_truth(folder: str | Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the item tokens of a planted data set, and the factors of every part.

    The factors are float64 ``[n_items, k]``.
    """
    with np.load(Path(folder) / "truth.npz", allow_pickle=False) as archive:
        return [str(t) for t in archive["items"]], {part: archive[part] for part in (*RELEVANT, *IRRELEVANT)}


def _check_number(name: str, value: object, low: float, high: float, allowed: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigurationError(f"planted {name} is {value!r}; allowed: {allowed}")


def _factors(spec: PlantedSpec, seed: int) -> dict[str, np.ndarray]:
    share = {
        "unique_visual": spec.unique,
        "unique_text": spec.unique,
        "redundant": spec.redundant,
        "synergistic": spec.synergistic,
    }
    factors = {}
    for part in RELEVANT:
        drawn = stream(seed, part).standard_normal((spec.n_items, spec.factors))
        factors[part] = standard(drawn) if share[part] > 0 else drawn[:, :0]
    for modality in MODALITIES:
        part = f"irrelevant_{modality}"
        rng = stream(seed, part)
        factors[part] = clustered_factors(
            rng, spec.n_items, spec.irrelevant_factors, spec.irrelevant_clusters
        )
    drawn = stream(seed, "nuisance").standard_normal((spec.n_items, factors["synergistic"].shape[1]))
    factors["nuisance"] = np.sqrt(spec.nuisance) * (standard(drawn) if drawn.size else drawn)
    return factors


def _features(spec: PlantedSpec, seed: int, modality: str, factors: dict[str, np.ndarray]) -> np.ndarray:
    hidden = factors["nuisance"] + (factors["synergistic"] if modality == "visual" else 0.0)
    sources = {
        "unique": factors[f"unique_{modality}"],
        "redundant": factors["redundant"],
        "synergistic": hidden,
        "irrelevant": factors[f"irrelevant_{modality}"],
    }
    blocks = [
        random_columns(stream(seed, f"{modality} {part}"), sources[part], count, spec.noise)
        for part, count in spec.columns().items()
        if count and sources[part].shape[1]
    ]
    features = np.hstack(blocks)
    if spec.rotate:
        q, r = np.linalg.qr(stream(seed, f"{modality} rotation").standard_normal((spec.width, spec.width)))
        # the signs of r make q uniform over the orthogonal maps
        features = features @ (q * np.sign(np.diag(r)))
    return features


def _choices(spec: PlantedSpec, scores: np.ndarray, seed: int) -> np.ndarray:
    """Draw items without replacement by softmax(score / temperature).

    They are the largest sums of score and Gumbel noise. Pairs ``[n, 2]``.
    """
    rng = stream(seed, "choices")
    counts = CORE + rng.poisson(spec.interactions_per_user - CORE, size=spec.n_users)
    counts = np.minimum(counts, spec.n_items - 1)
    keys = scores / spec.temperature + rng.gumbel(size=scores.shape)
    order = np.argsort(-keys, axis=1)
    return np.concatenate([np.column_stack([np.full(n, u), order[u, :n]]) for u, n in enumerate(counts)])


def _k_core(pairs: np.ndarray) -> np.ndarray:
    while len(pairs):
        keep = np.ones(len(pairs), dtype=bool)
        for column in pairs.T:
            keep &= np.bincount(column)[column] >= CORE
        if keep.all():
            break
        pairs = pairs[keep]
    return pairs


# -- random factors and columns ------------------------------------------------------------------------------


def stream(seed: int, name: str) -> np.random.Generator:
    """Return a random stream of its own for every name: what one part draws does not shift another."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def clustered_factors(rng: np.random.Generator, n: int, dimensions: int, clusters: int) -> np.ndarray:
    """Return factors of a structure of its own, ``[n, k]``.

    Rows lie around ``clusters`` random centers; columns have mean 0 and variance 1.
    """
    centers = rng.standard_normal((clusters, dimensions))
    rows = centers[rng.integers(clusters, size=n)] + CLUSTER_SPREAD * rng.standard_normal((n, dimensions))
    return standard(rows)


def random_columns(rng: np.random.Generator, factors: np.ndarray, width: int, noise: float) -> np.ndarray:
    """Return ``width`` random linear maps of the factors ``[n, k]`` plus noise.

    Columns have mean 0 and variance 1; more columns keep the first ones.
    """
    columns = np.empty((factors.shape[0], width))
    for j in range(width):
        column = factors @ rng.standard_normal(factors.shape[1])
        columns[:, j] = standard(standard(column) + noise * rng.standard_normal(factors.shape[0]))
    return columns


def standard(values: np.ndarray) -> np.ndarray:
    """Return columns of mean 0 and variance 1."""
    return (values - values.mean(axis=0)) / values.std(axis=0)
