"""Settings that several models share, and those of every run, which ``properties/overall.yaml`` holds."""

from __future__ import annotations

from dataclasses import dataclass

from recbole_ib.model.layers.encoder import ENCODERS
from recbole_ib.model.layers.feature_scaling import ROWS, SCALING_WORD
from recbole_ib.model.settings import Override, Search, Setting
from recbole_ib.utils.validate import (
    AnyOf,
    Anything,
    Bool,
    FilePath,
    Integer,
    MappingOf,
    Number,
    OneOf,
    Unset,
)


@dataclass(frozen=True)
class RegisteredEncoder:
    """The names of :data:`recbole_ib.model.layers.encoder.ENCODERS`, a user's own among them."""

    @property
    def what(self) -> str:
        """The names, for messages."""
        return f"allowed: {', '.join(ENCODERS)}"

    @property
    def short(self) -> str:
        """The names, for tables."""
        return " | ".join(ENCODERS)

    def contains(self, value: object) -> bool:
        """Return whether an encoder has this name."""
        return isinstance(value, str) and value in ENCODERS


#: the source of a default that was chosen over all development sets together
DEVELOPMENT = "chosen by validation, results/bottlenecks.md"
#: what a term of a bottleneck is conditioned on; RecBole reads the word none as no value
NONE_OR_COLLABORATIVE = AnyOf(OneOf("none", "collaborative"), Unset(), what="allowed: none, collaborative")

# -- of several models ---------------------------------------------------------------------------------------

EMBEDDING_SIZE = Setting("embedding_size", 64, "width d of the embeddings", Integer(1))
FEATURE_ENCODER = Setting(
    "feature_encoder",
    "linear",
    "what projects the features: linear, or mlp with one hidden layer",
    RegisteredEncoder(),
)
N_LAYERS = Setting("n_layers", 2, "user-item layers", Integer())
N_ITEM_LAYERS = Setting("n_item_layers", 1, "layers of the item graph", Integer())
KNN_K = Setting("knn_k", 10, "K, neighbors per item, itself included", Integer(1), symbol="$K$")
RAW_FEATURES = Setting(
    "raw_features",
    "tuned",
    "tuned: the features are trained too, as released; frozen",
    OneOf("tuned", "frozen"),
)
MODALITY_WEIGHTS = Setting(
    "modality_weights",
    "learned",
    "learned, equal, or a weight per modality: {text: .9, visual: .1}",
    AnyOf(
        OneOf("learned", "equal"),
        MappingOf(Number(least=0), "{text: 0.9, visual: 0.1}"),
        Unset(),
        what="allowed: learned, equal, or a weight per modality: {text: 0.9, visual: 0.1}",
    ),
)
ITEM_GRAPH = Setting(
    "item_graph",
    "learned",
    "learned: as published; frozen: built once, from the raw features",
    OneOf("learned", "frozen"),
)
STATIC_WEIGHT = Setting(
    "static_weight", 0.9, "lambda, the share of the raw features' graph", Number(least=0, most=1)
)
NORMALIZE_FEATURES = Setting(
    "normalize_features",
    ROWS,
    "rows: to length 1 before the projection; columns: each standardized before that",
    SCALING_WORD,
)
KERNEL_MEMORY = Setting(
    "kernel_memory",
    1.0,
    "GiB for the features' kernels, kept for the whole run where all n_items^2 numbers fit; 0: computed in "
    "every batch",
    Number(least=0),
)
HSIC_ITEMS = Setting(
    "hsic_items",
    512,
    "of a batch's distinct items so many, drawn anew each time, are compared by HSIC; 0: all",
    Integer(0),
    source=f"{DEVELOPMENT}; paper: all",
)
CONTRAST_PAIRS = Setting(
    "contrast_pairs",
    0,
    "of a batch's pairs so many, drawn anew each time, are contrasted by the softmax over items; 0: all",
    Integer(0),
    source="paper: all",
)
CL_TEMPERATURE = Setting("cl_temperature", 0.2, "temperature of the contrast", Number(above=0))

#: stopping_step of the models whose published tables were made with it
PUBLISHED_PATIENCE = Override("stopping_step", default=20, source="published tables")
#: the release's learning rate falls by it
RELEASED_DECAY = Override("learning_rate_decay", default=0.96, source="release")


def searched_rate(range_source: str, source: str = "") -> Override:
    """Return the learning rate with a search around the default; ``source``: that of another usual value."""
    return Override(
        "learning_rate", search=Search.loguniform(2.0e-4, 5.0e-3, source=range_source), source=source
    )


def backbone_setting(source: str) -> Setting:
    """Return the key that names a wrapper's backbone.

    Its values are checked by :func:`recbole_ib.model.registry.backbone_class`.
    """
    doc = "a model that reads features; its own settings apply too, one layer below"
    return Setting("backbone", "LATTICE", doc, Anything("name"), source=source)


# -- of every run --------------------------------------------------------------------------------------------


#: the value of ``threads`` that takes the cores which are free
AUTO_THREADS = "auto"


def _general(key: str, default: object, doc: str, kind: object) -> Setting:
    return Setting(key, default, doc, kind, general=True)  # type: ignore[arg-type]


#: our own keys, and those of RecBole's that a model of ours may set; the defaults stand in
#: properties/overall.yaml too, with which a test compares them. A key with the kind Anything is checked
#: elsewhere, with more to say.
GENERAL_SETTINGS: tuple[Setting, ...] = (
    _general("protocol", "recbole", "whose test protocol", Anything("recbole | mmrec")),
    _general(
        "stopping_step", 10, "evaluations without a better valid_metric before training stops", Integer()
    ),
    _general(
        "stopping_batches",
        1000,
        "training batches without a better valid_metric before training stops; 0: stopping_step alone",
        Integer(),
    ),
    _general("sampling", "recbole", "where training batches are made", Anything("recbole | device")),
    _general(
        "threads",
        AUTO_THREADS,
        "CPU threads of a run; auto: one for every core that nothing else keeps busy",
        AnyOf(Integer(1), OneOf(AUTO_THREADS)),
    ),
    _general("learning_rate", 0.001, "of the optimizer", Number()),
    _general("enable_amp", False, "products of features read bfloat16", Bool()),
    _general(
        "learning_rate_decay",
        1.0,
        "g: the rate of an epoch is learning_rate * g^(epoch / 50)",
        AnyOf(Number(above=0), Unset(), what="it takes a number above 0"),
    ),
    _general("bottleneck", None, "bottlenecks on the model", Anything("names")),
    _general("use_modalities", None, "the modalities to use", Anything("list")),
    _general(
        "feature_path", None, "where relative paths of feature files start from", AnyOf(FilePath(), Unset())
    ),
    _general("feature_dtype", "float32", "how features are kept", OneOf("float32", "float16")),
    _general(
        "knn_search", "auto", "how an item graph's neighbors are searched", OneOf("auto", "exact", "faiss")
    ),
    _general("modalities", None, "name -> feature file", Anything("mapping")),
    _general("mmrec_path", None, "a checkout of MMRec", AnyOf(FilePath(), Unset())),
    _general(
        "mmrec_modalities", None, "which modality is MMRec's vision, which its text", Anything("mapping")
    ),
    _general(
        "split_seed",
        None,
        "the seed of the random split",
        AnyOf(Integer(0), Unset(), what="allowed: a whole number from 0 on, or none for that of the run"),
    ),
    _general(
        "per_user",
        False,
        "write every user's test metrics",
        AnyOf(Bool(), Unset(), what="allowed: True, False"),
    ),
    _general(
        "save_last",
        True,
        "keep the latest evaluated epoch too",
        AnyOf(Bool(), Unset(), what="allowed: True, False"),
    ),
    _general("resume_checkpoint", None, "a checkpoint to continue from", AnyOf(FilePath(), Unset())),
    _general(
        "diagnostics",
        False,
        "measure what the latents hold",
        AnyOf(Bool(), Unset(), what="allowed: True, False"),
    ),
    _general("diagnostics_items", 2000, "items that are measured", Integer(2)),
    _general("diagnostics_users", 256, "users whose scores are measured", Integer(1)),
    _general(
        "defaults",
        "recbole_ib",
        "whose defaults RecBole's own models run with",
        OneOf("recbole_ib", "recbole"),
    ),
    # RecBole's own, which no yaml of ours sets for every run
    _general("weight_decay", 0.0, "L2 by the optimizer", Number(least=0)),
    _general(
        "train_neg_sample_args",
        {"distribution": "uniform"},
        "negative items of training",
        Anything("mapping"),
    ),
)
