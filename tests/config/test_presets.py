"""Presets: config files of the package by name, and what those of the papers hold."""

from pathlib import Path

import pytest
import torch

from recbole_ib.config.checks import our_keys, unread_settings
from recbole_ib.config.config import Config
from recbole_ib.config.declared import bottleneck_settings
from recbole_ib.config.presets import preset_title, presets, read_config_file
from recbole_ib.config.recbole_keys import recbole_keys
from recbole_ib.config.serialize import quoted
from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.options import read_settings
from recbole_ib_cli.main import read_words
from tests.support.config_files import set_key, write_yaml

PAPER = {
    "train_batch_size": 1024,
    "learning_rate": 5e-4,
    "stopping_step": 10,
    "stopping_batches": 0,
    "valid_metric": "Recall@20",
    "embedding_size": 64,
    "init_std": 0.01,
    "item_graph": "frozen",
    "fib_weight": 1.0,
    "sigma2": 0.15,
    "fib_estimator": "biased",
    "contrastive_negatives": "batch",
    "contrastive_correction": False,
    "contrastive_condition": "none",
    "contrastive_rate": 1.0,
    "contrastive_temperature": 0.2,
    "gib_weight": 0.5,
    "gib_sigma2": 0.15,
    "gib_estimator": "biased",
    "gate": "concrete",
    "gate_self_loops": True,
    "gate_rows": "free",
    "gate_prior_weight": 0.0,
    "gate_bias": 0.0,
    "gate_start": 0.5,
    "hsic_items": 0,
    "contrast_pairs": 0,
}
RELEASE = {
    "learning_rate": 1e-3,
    "reg_weight": 1e-4,
    "gate": "published",
    "gate_temperature": 0.2,
    "gib_weight": 2.0,
    "gib_sigma2": 0.25,
}
CONTENTS = {
    "ibmrec-paper": PAPER,
    "ibmrec-paper-sports": {**PAPER, "sigma2": 0.2, "gib_sigma2": 0.25},
    "ibmrec-paper-clothing": {**PAPER, "fib_weight": 3.0, "sigma2": 0.25, "gib_weight": 20.0, "gib_sigma2": 0.25},
    "ibmrec-authors-code": {**PAPER, **RELEASE},
    "mrdib-paper": {
        "train_batch_size": 2048,
        "learning_rate": 1e-3,
        "stopping_step": 20,
        "stopping_batches": 0,
        "valid_metric": "Recall@5",
        "topk": [5, 20],
        "embedding_size": 64,
        "kl_weight": 0.005,
        "redundancy_weight": 0.05,
        "unique_weight": 0.005,
        "unique_likelihood": "bpr",
        "rate_estimator": "kl",
        "kl_reduction": "sum",
        "kl_warmup": 0,
        "free_bits": 0.0,
        "noise_input": "features",
        "prior_scale": 1.0,
        "redundancy_estimator": "mine",
        "redundancy_condition": "none",
        "hsic_items": 0,
        "contrast_pairs": 0,
    },
}
#: other numbers of ibmrec-paper
SAME = ("ibmrec-paper-sports", "ibmrec-paper-clothing")
IBMREC = [name for name in CONTENTS if name.startswith("ibmrec")]
FIB, GIB = (set(bottleneck_settings(name)) - {"hsic_items"} for name in ("fib", "gib"))  # both read it
#: model -> what it does not read of a preset of its paper
UNREAD = {
    "IBMRec": set(),
    "VLATTICE+fib+gib": set(),
    "IBMRecWoFIB": FIB,
    "IBMRecWoGIB": GIB,
    "IBMRecVBPR": GIB | {"item_graph", "init_std"},
    "IBMRecVLightGCN": GIB | {"item_graph"},
    "IBMRecLATTICE": FIB | {"init_std"},
}
MRDIB = ["VBPR", "MMGCN", "DualGNN", "LATTICE", "FREEDOM", "MGCN", "SOIL"]
RUNS = [
    *((preset, model) for preset in IBMREC for model in UNREAD),
    *(("mrdib-paper", f"MRdIB{backbone}") for backbone in MRDIB),
    ("mrdib-paper", "VLATTICE+mrdib"),
]

# -- what they hold ---------------------------------------------------------------------------------------------------


def test_all_are_there():
    assert set(presets()) == set(CONTENTS)


@pytest.mark.parametrize("name", CONTENTS)
def test_a_preset_holds_what_was_published_each_key_with_its_source(name):
    settings, text = read_config_file(name), presets()[name].read_text(encoding="utf-8")
    assert settings == CONTENTS[name]
    assert {key: type(value) for key, value in settings.items()} == {key: type(value) for key, value in CONTENTS[name].items()}
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line.partition(":")[0] for line in lines] == list(settings)
    assert all(part in line.partition("# ")[2] for line in lines for part in "[]")
    assert text.startswith(f"# {preset_title(presets()[name])}\n")
    assert f"--config_files={name} " in text


@pytest.mark.parametrize("name", CONTENTS)
def test_every_key_is_declared_or_recboles(name):
    assert set(read_config_file(name)) <= our_keys() | recbole_keys()


@pytest.mark.parametrize("name", SAME)
def test_the_papers_data_sets_differ_in_alpha_beta_and_sigma2_alone(name):
    baby, other = (presets()[preset].read_text(encoding="utf-8").splitlines() for preset in ("ibmrec-paper", name))
    assert len(baby) == len(other)
    differing = [line.partition(":")[0] for line, there in zip(other, baby, strict=True) if line != there]
    assert differing[2:] == ["fib_weight", "sigma2", "gib_weight", "gib_sigma2"]
    assert all(line.startswith("#") for line in differing[:2])


# -- the models that they run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "model"), RUNS)
def test_the_values_arrive_and_only_other_models_keys_are_not_read(name, model):
    config = Config(model, "ml-100k", [f"{name}.yaml"])
    assert {key: config[key] for key in CONTENTS[name]} == CONTENTS[name]
    assert set(unread_settings(config)) == set(CONTENTS[name]) & UNREAD.get(model, set())


@pytest.mark.parametrize(("name", "model"), [run for run in RUNS if run[0] not in SAME])
def test_the_models_train_a_batch(name, model, build):
    # as a comparison passes settings on; the word none stays a word there too
    config, built, train, *_ = build(model, **quoted(read_config_file(name)))
    assert config["contrastive_condition" if name in IBMREC else "redundancy_condition"] == "none"
    built.pre_epoch(0)
    batch = next(iter(train))
    for phase in built.phases():
        loss = sum(phase.loss(batch))
        loss.backward()
        assert torch.isfinite(loss)


@pytest.mark.parametrize(("name", "kind"), [("ibmrec-paper", "concrete"), ("ibmrec-authors-code", "published")])
def test_the_gate_is_the_presets(name, kind, build):
    _, built, *_ = build("IBMRec", **quoted(read_config_file(name)))
    gates = built.ib["gib"].gates["shared"]
    assert (gates.kind, gates.rows, gates.self_loops, gates.sigma2) == (kind, "free", True, CONTENTS[name]["gib_sigma2"])
    fib = built.ib["fib"]
    assert (fib.conditioned, fib.offsets, fib.known_items) == (False, None, None)


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ibmrec-paper", "ibmrec-paper.yaml", Path("ibmrec-paper.yaml")])
def test_a_name_is_written_with_the_suffix_or_without(name):
    assert read_config_file(name) == PAPER


def test_a_file_that_exists_wins_over_a_preset():
    write_yaml(Path("ibmrec-paper.yaml"), epochs=1)
    assert read_config_file("ibmrec-paper.yaml") == {"epochs": 1}
    assert read_config_file("ibmrec-paper") == PAPER


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ibmrec-papr", "ibmrec-paper"),
        ("ibmrec-papr.yaml", r"ibmrec-paper\.yaml"),
        ("IBMRec-paper.yaml", r"ibmrec-paper\.yaml"),
        ("./ibmrec-paper.yaml", r"ibmrec-paper\.yaml"),
        ("elsewhere/mrdib-paper.yaml", r"mrdib-paper\.yaml"),
        ("setings.yaml", r"settings\.yaml"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_and_all_presets(name, near):
    write_yaml(Path("settings.yaml"), epochs=1)
    with pytest.raises(ConfigurationError, match=rf"no config file {name}\. Did you mean {near}\b") as caught:
        Config("IBMRec", "ml-100k", [name])
    assert str(caught.value).endswith(f"Presets: {', '.join(presets())}")


# -- precedence -------------------------------------------------------------------------------------------------------


def test_the_command_line_wins_over_a_preset_and_that_over_the_model_and_the_data_set(own_properties):
    set_key(own_properties / "dataset" / "ml-100k.yaml", "stopping_step", 7)
    plain, preset = Config("IBMRec", "ml-100k"), Config("IBMRec", "ml-100k", ["ibmrec-paper"])
    # overall.yaml, the data set, the model
    keys = ("learning_rate", "stopping_step", "gib_weight")
    assert [plain[key] for key in keys] == [1e-3, 7, 0.5]
    assert [preset[key] for key in keys] == [5e-4, 10, 0.5]
    assert Config("IBMRec", "ml-100k", ["ibmrec-paper-clothing"])["gib_weight"] == 20.0
    given = {"stopping_step": 3, "gib_weight": 4.0}
    config = Config("IBMRec", "ml-100k", ["ibmrec-paper-clothing"], given, argv=["--gib_weight=5"])
    assert [config[key] for key in keys] == [5e-4, 3, 5]


def test_later_files_win():
    file = write_yaml(Path("mine.yaml"), sigma2=0.5, epochs=4)
    config = Config("IBMRec", "ml-100k", ["ibmrec-paper-sports", file])
    assert (config["sigma2"], config["gib_sigma2"], config["epochs"]) == (0.5, 0.25, 4)
    assert Config("IBMRec", "ml-100k", [file, "ibmrec-paper-sports"])["sigma2"] == 0.2


def test_a_comparison_takes_presets_by_blank():
    write_yaml(Path("mine.yaml"), epochs=4)
    words = ["compare", "--models=IBMRec", "--dataset=ml-100k", "--config_files=ibmrec-paper.yaml mine.yaml"]
    files, _ = read_settings(read_words(words))
    assert files == {**PAPER, "epochs": 4}
