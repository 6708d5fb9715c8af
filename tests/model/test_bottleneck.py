"""Bottlenecks by configuration: the same classes as by name, on every backbone, or a refusal that says what is missing."""

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from recbole.config import Config as RecBoleConfig
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_model

from recbole_ib.config.checks import unread_settings
from recbole_ib.config.config import Config
from recbole_ib.config.declared import model_defaults
from recbole_ib.config.serialize import config_from_plain, plain_config
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.backbones.lattice import LATTICE
from recbole_ib.model.backbones.vlightgcn import VLightGCN
from recbole_ib.model.base import MultimodalRecommender, backbone_of
from recbole_ib.model.bottleneck import BOTTLENECKS, bottlenecked, parse_bottlenecks
from recbole_ib.model.registry import CATALOG, backbone_class, is_wrapper, register_model
from recbole_ib.model.types import Phase
from recbole_ib.training.run import run_recbole_ib
from recbole_ib.training.trainer import MultimodalTrainer
from tests.bottleneck.test_hsic import naive_hsic
from tests.conftest import planted, write_dataset
from tests.model.test_behavior import first_batch, fit, scores_of

BACKBONES = [name for name, entry in CATALOG.items() if entry.bottlenecks == "-" and not is_wrapper(get_model(name))]
WITH_GRAPH = ["LATTICE", "VLATTICE", "MICRO", "FREEDOM", "MGCN", "SOIL"]
NAMED = [name for name, entry in CATALOG.items() if entry.bottlenecks != "-"]


def named(losses):
    return dict(zip(losses.names, losses, strict=True))


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("fib", ("fib",)),
        ("gib,fib", ("fib", "gib")),
        ("FIB + gib", ("fib", "gib")),
        (["gib", "fib"], ("fib", "gib")),
        ("mrdib", ("mrdib",)),
    ],
)
def test_names_of_bottlenecks(value, names):
    assert parse_bottlenecks(value) == names


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("fub", "there is no bottleneck 'fub'. Did you mean fib.*Allowed: fib, gib, mrdib"),
        ("fib,fib", "name each one once"),
        ("fib,", "there is no bottleneck ''"),
        ("fib,mrdib", "mrdib stands alone"),
    ],
)
def test_wrong_names_of_bottlenecks_are_refused(value, message):
    with pytest.raises(ConfigurationError, match=message):
        Config("VLATTICE", "ml-100k", config_dict={"bottleneck": value})


@pytest.mark.parametrize("name", NAMED)
def test_a_backbone_with_bottlenecks_is_the_class_with_a_name(name):
    """One mechanism: a name of the catalog stands for a backbone and its bottlenecks."""
    model_class = get_model(name)
    backbone = backbone_of(model_class).__name__
    assert backbone == CATALOG[name].backbone
    by_key = Config(backbone, "ml-100k", config_dict={"bottleneck": ",".join(model_class.bottlenecks)})
    by_name = Config(name, "ml-100k")
    by_plus = Config("+".join([backbone, *model_class.bottlenecks]), "ml-100k")
    assert by_key.model_class is by_name.model_class is by_plus.model_class is model_class
    assert plain_config(by_key) == plain_config(by_name) == plain_config(by_plus)
    assert not {key for key in vars(model_class) if not key.startswith("__")} - {"bottlenecks", "_abc_impl"}


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_settings_are_the_backbones_and_the_bottlenecks(backbone, bottleneck):
    config = Config(backbone, "ml-100k", config_dict={"bottleneck": bottleneck})
    own = model_defaults(get_model(backbone))
    extra = model_defaults(config.model_class)
    assert set(own) < set(extra)
    # nothing of the backbone's changes but what a named class's own yaml says (MRdIBMMGCN projects all modalities)
    changed = {key for key in own if extra[key] != own[key]}
    assert changed <= ({"project_above"} if config["model"] == "MRdIBMMGCN" else set())
    assert {key: config[key] for key in extra if key not in ("train_neg_sample_args",)} == {
        key: value for key, value in extra.items() if key not in ("train_neg_sample_args",)
    }


def test_the_settings_of_a_bottleneck_are_read_with_it_alone():
    given = {"fib_weight": 2.0, "gate_bias": 0.5}
    assert unread_settings(Config("FREEDOM", "ml-100k", config_dict=given)) == ["fib_weight", "gate_bias"]
    assert unread_settings(Config("FREEDOM", "ml-100k", config_dict={**given, "bottleneck": "fib"})) == ["gate_bias"]
    assert unread_settings(Config("FREEDOM+fib+gib", "ml-100k", config_dict=given)) == []


def test_two_settings_that_differ_are_refused():
    assert Config("FREEDOM+fib", "ml-100k", config_dict={"bottleneck": "fib"})["model"] == "FREEDOM+fib"
    with pytest.raises(ConfigurationError, match="give the bottlenecks once"):
        Config("FREEDOM+fib", "ml-100k", config_dict={"bottleneck": "gib"})


@pytest.mark.parametrize(
    ("model", "bottleneck", "message"),
    [
        ("IBMRec", "mrdib", "IBMRec has the bottleneck fib,gib already.*--model=VLATTICE --bottleneck=mrdib"),
        ("BPR", "fib", "BPR is RecBole's own model"),
        ("SGFD", "fib", "SGFD is a plug-in itself"),
        ("mmrec:FREEDOM", "fib", "model of MMRec's"),
        ("FREEDON", "fib", "there is no model 'FREEDON'. Did you mean FREEDOM"),
        ("FREEDON+fib", None, "there is no model 'FREEDON'"),
        ("FREEDOM+", None, "there is no bottleneck ''"),
    ],
)
def test_models_that_take_no_bottleneck_are_refused(model, bottleneck, message):
    with pytest.raises(ConfigurationError, match=message):
        Config(model, "ml-100k", config_dict={"bottleneck": bottleneck})


def test_a_made_class_is_no_backbone_and_made_once():
    first = Config("LATTICE+fib", "ml-100k").model_class
    assert Config("LATTICE", "ml-100k", config_dict={"bottleneck": "fib"}).model_class is first
    assert first.__mro__[1:3] == (BOTTLENECKS["fib"], LATTICE)
    with pytest.raises(ConfigurationError, match=r"there is no backbone 'LATTICE\+fib'"):
        backbone_class("LATTICE+fib")


class Own(LATTICE):
    """A user's own backbone."""


def test_a_users_own_class_takes_bottlenecks():
    assert Config(Own, "ml-100k", config_dict={"bottleneck": "gib"})["model"] == "Own+gib"
    assert bottlenecked(Own, ("gib",)).__mro__[2] is Own


# -- every backbone ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bottleneck", ["fib", "gib", "fib,gib", "mrdib"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_takes_every_bottleneck_or_says_what_it_lacks(build, backbone, bottleneck):
    name = Config(backbone, "ml-100k", config_dict={"bottleneck": bottleneck})["model"]
    if "gib" in bottleneck and backbone not in WITH_GRAPH:
        with pytest.raises(ConfigurationError, match=f"gib refines an item graph, and {backbone} has none"):
            build(name, project_above=0)
        return
    config, model, train, valid, _ = build(name, epochs=1, project_above=0)
    _, plain, _, _, _ = build(backbone, project_above=0)
    trainer = fit(config, model, train, valid)
    assert 0 <= trainer.best_valid_score <= 1
    model.train()
    model.pre_epoch(0)
    added = ("kl", "redundancy", "unique") if bottleneck == "mrdib" else tuple(bottleneck.split(","))
    batch = first_batch(train)
    plain.pre_epoch(0)
    assert model.calculate_loss(batch).names == (*plain.calculate_loss(batch).names, *added)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("bottleneck", ["fib", "mrdib"])
def test_with_weights_of_zero_the_loss_is_the_backbones(build, backbone, bottleneck):
    zero = {"fib_weight": 0.0, "kl_weight": 0.0, "redundancy_weight": 0.0, "unique_weight": 0.0, "project_above": 0}
    _, model, train, _, _ = build(resolved(backbone, bottleneck), **zero)
    _, plain, _, _, _ = build(backbone, **zero)
    batch = first_batch(train)
    found = []
    for network in (model, plain):
        torch.manual_seed(3)
        network.pre_epoch(0)
        found.append(named(network.calculate_loss(batch)))
    assert list(found[0]) == list(found[1])
    for term, value in found[1].items():
        torch.testing.assert_close(found[0][term], value, rtol=1e-5, atol=1e-7)
    assert set(model.state_dict()) - set(plain.state_dict()) <= {f"prior_scale_{m}" for m in model.modalities}


def resolved(backbone, bottleneck):
    return Config(backbone, "ml-100k", config_dict={"bottleneck": bottleneck})["model"]


@pytest.mark.parametrize("backbone", WITH_GRAPH)
def test_a_gate_that_is_open_everywhere_changes_no_score(build, backbone):
    config, model, _, _, _ = build(resolved(backbone, "gib"))
    _, plain, _, _, _ = build(backbone)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith(("gib.", "gate_projections."))}
    plain.load_state_dict(weights)
    users = torch.arange(1, 9)
    expected = scores_of(plain, config, users)
    assert not torch.allclose(scores_of(model, config, users), expected)
    for gate in model.gib.values() if model.item_graph_kind == "modality" else [model.gib]:
        torch.nn.init.constant_(gate.gate.output.bias, 40.0)
    model.train()
    torch.testing.assert_close(scores_of(model, config, users), expected)


@pytest.mark.parametrize(
    "backbone", [b for b in BACKBONES if get_model(b).user_content is not MultimodalRecommender.user_content]
)
def test_l2_compares_users_and_items_in_one_space(build, backbone):
    _, model, _, _, _ = build(resolved(backbone, "fib"), project_above=0)
    assert [phase.name for phase in model.phases()] == ["L_1", "L_2"]
    width = sum(z.shape[1] for z in model.latents(torch.arange(1, 3)).values())
    assert model.user_content(torch.arange(1, 4)).shape == (3, width)


@pytest.mark.parametrize("backbone", ["LATTICE", "MICRO", "MGCN", "SOIL"])
def test_without_content_preferences_fib_has_one_step(build, backbone):
    _, model, _, _, _ = build(resolved(backbone, "fib"))
    assert [phase.name for phase in model.phases()] == ["model"]


@pytest.mark.parametrize("bottleneck", ["fib", "mrdib"])
def test_a_backbone_without_latents_says_so(build, bottleneck):
    with pytest.raises(
        ConfigurationError, match=f"{bottleneck} works on the item latents, and LATTICE has none.*item_graph: learned"
    ):
        build(resolved("LATTICE", bottleneck), item_graph="frozen")


def test_fib_and_gib_of_a_graph_a_modality(build):
    """MGCN: a gate for each modality's graph, one HSIC of the outputs, HSIC(Z, M) of the batch's items."""
    _, model, train, _, _ = build("MGCN+fib+gib", fib_weight=2.0, gib_weight=3.0, raw_features="frozen")
    assert list(model.gib) == ["text", "visual"]
    batch = first_batch(train)
    for gate in model.gib.values():
        gate.gate.eval()
    losses = named(model.calculate_loss(batch))
    with torch.no_grad():
        items = torch.unique(batch["item_id"])
        z = model.latents()
        ids = model.item_embedding.weight
        graphs = model.item_graph(z)
        refined = {m: model.gib[m].refine(graphs[m], torch.cat([z[m], ids], dim=1)) for m in z}
        encoded = model.encode(z)
        after, before = model.attach(encoded, refined)[1][items], model.attach(encoded, graphs)[1][items]
        fib = sum(naive_hsic(z[m][items].double().numpy(), model.encoder.table(m)[items].double().numpy(), 0.15) for m in z)
        gib = naive_hsic(after.double().numpy(), before.double().numpy(), 0.15)
    assert float(losses["fib"]) == pytest.approx(2 * fib, rel=1e-3)
    assert float(losses["gib"]) == pytest.approx(3 * gib, rel=1e-3)


def test_gate_state_on_known_gates(build):
    _, model, _, _, _ = build("FREEDOM+gib")
    with torch.no_grad():
        model.gib.gate.output.weight.zero_()
        model.gib.gate.output.bias.fill_(3.0)
    model.eval()
    rho = 1 / (1 + math.exp(-3.0))
    state = model.bottleneck_state(torch.arange(1, 20))
    assert float(state["gate/mean"]) == pytest.approx(rho, rel=1e-4)
    assert (float(state["gate/open"]), float(state["gate/closed"])) == (1.0, 0.0)
    assert float(state["gate/entropy"]) == pytest.approx(-rho * math.log(rho) - (1 - rho) * math.log(1 - rho), rel=1e-3)


# -- whole runs -------------------------------------------------------------------------------------------------------


def test_by_key_and_by_name_give_the_same_numbers(planted_path):
    silenced = {
        "data_path": str(planted_path),
        "epochs": 2,
        "show_progress": False,
        "use_gpu": False,
        "knn_k": 5,
        "save_last": False,
    }
    by_key = run_recbole_ib("VLATTICE", "planted", config_dict={**silenced, "bottleneck": "gib,fib"})
    by_name = run_recbole_ib("IBMRec", "planted", config_dict=silenced)
    assert by_key["model"] == by_name["model"] == "IBMRec"
    assert by_key["test_result"] == by_name["test_result"]


def test_recboles_own_config_knows_the_key(planted_path):
    config = RecBoleConfig("FREEDOM", "planted", config_dict={"data_path": str(planted_path), "bottleneck": "gib"})
    assert config["model"] == "FREEDOM+gib"
    assert get_model(config["model"]).bottlenecks == ("gib",)
    assert RecBoleConfig("FREEDOM", "planted", config_dict={"data_path": str(planted_path)})["model"] == "FREEDOM"


def test_a_fresh_process_loads_a_model_without_a_name(planted_path, tmp_path):
    silenced = {"data_path": str(planted_path), "epochs": 1, "show_progress": False, "use_gpu": False, "knn_k": 5}
    result = run_recbole_ib("FREEDOM", "planted", config_dict={**silenced, "bottleneck": "fib,gib"})
    assert result["model"] == "FREEDOM+fib+gib"
    _, model, *_ = load_data_and_model(result["checkpoint"])
    assert type(model).__name__ == "FREEDOM+fib+gib"
    script = (
        "import recbole_ib; from recbole.quick_start import load_data_and_model, run_recbole; from recbole.utils import get_trainer\n"
        f"config, model, _, _, _, test = load_data_and_model({result['checkpoint']!r})\n"
        "trainer = get_trainer(config['MODEL_TYPE'], config['model'])(config, model)\n"
        "print(repr(dict(trainer.evaluate(test, load_best_model=False, show_progress=False))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    namespace = {"OrderedDict": dict, "np": __import__("numpy")}
    assert eval(done.stdout.strip().splitlines()[-1], namespace) == result["test_result"]


def test_settings_survive_a_checkpoint():
    config = Config("BM3", "ml-100k", config_dict={"bottleneck": "fib", "fib_weight": 3.0})
    again = config_from_plain(plain_config(config))
    assert (again["model"], again["bottleneck"], again["fib_weight"]) == ("BM3+fib", "fib", 3.0)
    assert again.model_class is config.model_class


# -- what would leave a bottleneck out without a word -------------------------------------------------------------------


class OwnLoss(VLightGCN):
    """A user's backbone with a loss that no bottleneck reaches."""

    def calculate_loss(self, interaction):
        return super().calculate_loss(interaction)


class OwnLatents(VLightGCN):
    """A user's backbone whose latents are not those of its modalities."""

    def latents(self, items=None):
        return {m: 2 * z for m, z in self.modality_latents(items).items()}


class TwoSteps(VLightGCN):
    training_phases = (*VLightGCN.training_phases, Phase("again", "calculate_loss", "parameters"))


@pytest.mark.parametrize(
    ("backbone", "bottleneck", "message"),
    [
        (OwnLoss, "fib", "OwnLoss has a calculate_loss of its own.*ranking_losses or pass_losses"),
        (TwoSteps, "mrdib", "one training step a batch; TwoSteps has more"),
    ],
)
def test_a_backbone_that_would_lose_the_terms_is_refused(backbone, bottleneck, message):
    with pytest.raises(ConfigurationError, match=message):
        Config(backbone, "ml-100k", config_dict={"bottleneck": bottleneck})


def test_mrdib_refuses_latents_that_its_draws_would_not_make(build):
    register_model(OwnLatents)
    with pytest.raises(ConfigurationError, match=r"OwnLatents\.modality_latents does not make its latents"):
        build("OwnLatents+mrdib")
    _, model, _, _, _ = build("OwnLatents+fib")
    assert model.bottlenecks == ("fib",)


@pytest.mark.parametrize("bottleneck", ["fib", "mrdib"])
def test_a_modality_that_is_not_projected_is_refused(build, bottleneck):
    with pytest.raises(
        ConfigurationError, match=f"{bottleneck} works on projected features, and MMGCN takes text, visual as they are"
    ):
        build(resolved("MMGCN", bottleneck), project_above=512)


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("IBMRec", "fib_weight", -1),
        ("IBMRec", "gib_weight", float("nan")),
        ("IBMRec", "contrastive_rate", -0.5),
        ("MRdIBVBPR", "kl_weight", True),
        ("MRdIBVBPR", "redundancy_weight", -1e-9),
        ("MRdIBVBPR", "unique_weight", "x"),
    ],
)
def test_weights_are_numbers_from_0_on(build, model, key, value):
    with pytest.raises(ConfigurationError, match=f"{key} is .*; it takes a number"):
        build(model, **{key: value})


def test_the_second_step_has_its_own_rate_or_is_left_out(build):
    config, model, _, _, _ = build("IBMRec", contrastive_rate=0.1)
    trainer = MultimodalTrainer(config, model)
    trainer._set_learning_rate(0)
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in trainer.optimizers.items()}
    assert rates == pytest.approx({"L_1": 1e-3, "L_2": 1e-4})
    assert trainer.optimizer is trainer.optimizers["L_1"]
    _, model, _, _, _ = build("IBMRec", contrastive_rate=0)
    assert [phase.name for phase in model.phases()] == ["model"]


@pytest.mark.parametrize("value", [5, 0, True, {"fib": 1}])
def test_a_bottleneck_that_is_no_name(value):
    with pytest.raises(ConfigurationError, match=r"bottleneck is .*it takes names"):
        Config("VLATTICE", "ml-100k", config_dict={"bottleneck": value})


def test_a_data_sets_yaml_does_not_choose_the_model(tmp_path):
    pairs, modalities, _, _ = planted(20, 20)
    path = write_dataset(tmp_path, "chosen", pairs, modalities, bottleneck="fib")
    with pytest.raises(ConfigurationError, match=r"the yaml of the data set 'chosen' sets bottleneck: 'fib'.*command line"):
        Config("VLATTICE", "chosen", config_dict={"data_path": str(path)})


def test_classes_without_a_name_can_be_pickled():
    config = Config("FREEDOM+fib+gib", "ml-100k")
    assert pickle.loads(pickle.dumps(config.model_class)) is config.model_class
    script = f"import pickle, sys; print(pickle.loads({pickle.dumps(config.model_class)!r}).__mro__[2].__name__)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.stdout.split()[-1:] == ["FREEDOM"], done.stderr[-2000:]


def test_recboles_run_can_be_resumed_by_our_command(planted_path):
    silenced = {"data_path": str(planted_path), "show_progress": False, "use_gpu": False, "knn_k": 5, "epochs": 1}
    run_recbole("IBMRecWoFIB", "planted", config_dict=silenced)
    (last,) = Path("saved").glob("*-last.pth")
    result = run_recbole_ib("VLATTICE+gib", "planted", config_dict={**silenced, "epochs": 2, "resume_checkpoint": str(last)})
    assert result["model"] == "IBMRecWoFIB"
