"""Bottlenecks that a model holds: by configuration and by name, on every backbone, in whole runs."""

import math

import pytest
import torch
from recbole.config import Config as RecBoleConfig
from recbole.quick_start import load_data_and_model
from recbole.utils import get_model

from recbole_ib.config.checks import unread_settings
from recbole_ib.config.config import Config
from recbole_ib.config.declared import model_defaults
from recbole_ib.config.serialize import config_from_plain, plain_config
from recbole_ib.errors import ConfigurationError
from recbole_ib.model import registry
from recbole_ib.model.backbones.freedom import FREEDOM
from recbole_ib.model.backbones.lattice import LATTICE
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.bottleneck import (
    BOTTLENECKS,
    backbone_of,
    bottleneck_names,
    parse_bottlenecks,
)
from recbole_ib.model.registry import CATALOG, backbone_class, bottlenecks_of, is_wrapper, register_model, resolve_model
from recbole_ib.training.run import run_recbole_ib
from tests.support.bottlenecks import PAPER_FIB, named, resolved
from tests.support.formulas import naive_hsic
from tests.support.mrdib import PAPER_MRDIB
from tests.support.processes import fresh_python
from tests.support.training import first_batch, fit, scores_of

BACKBONES = [name for name, entry in CATALOG.items() if entry.bottlenecks == "-" and not is_wrapper(get_model(name))]
WITH_GRAPH = ["LATTICE", "VLATTICE", "MICRO", "FREEDOM", "MGCN", "SOIL"]
NAMED = [name for name, entry in CATALOG.items() if entry.bottlenecks != "-"]


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("fib", ("fib",)),
        ("gib,fib", ("fib", "gib")),
        ("FIB + gib", ("fib", "gib")),
        (["gib", "fib"], ("fib", "gib")),
        ("mrdib", ("mrdib",)),
        (None, ()),
        ("", ()),
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
    declared = {"bottlenecks", "settings", "search_order"}
    assert not {key for key in vars(model_class) if not key.startswith("__")} - declared - {"_abc_impl"}


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_settings_are_the_backbones_and_the_bottlenecks(backbone, bottleneck):
    config = Config(backbone, "ml-100k", config_dict={"bottleneck": bottleneck})
    own = model_defaults(get_model(backbone))
    extra = model_defaults(config.model_class, bottlenecks_of(config["model"], config.model_class))
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
        ("SGFD", "fib", "SGFD is a wrapper itself"),
        ("mmrec:FREEDOM", "fib", "model of MMRec's"),
        ("FREEDON", "fib", "there is no model 'FREEDON'. Did you mean FREEDOM"),
        ("FREEDON+fib", None, "there is no model 'FREEDON'"),
        ("FREEDOM+", None, r"the model is 'FREEDOM\+'; name a bottleneck behind \+, such as FREEDOM\+fib"),
    ],
)
def test_models_that_take_no_bottleneck_are_refused(model, bottleneck, message):
    with pytest.raises(ConfigurationError, match=message):
        Config(model, "ml-100k", config_dict={"bottleneck": bottleneck})


def test_a_combination_is_the_backbones_class_under_a_name_and_no_backbone():
    first = Config("LATTICE+fib", "ml-100k")
    second = Config("LATTICE", "ml-100k", config_dict={"bottleneck": "fib"})
    assert first.model_class is second.model_class is get_model("LATTICE+fib") is LATTICE
    assert first["model"] == second["model"] == "LATTICE+fib"
    assert first["bottleneck"] == second["bottleneck"] == "fib"
    assert bottlenecks_of(first["model"], LATTICE) == bottleneck_names(LATTICE, first) == ("fib",)
    assert LATTICE.bottlenecks == bottlenecks_of("LATTICE", LATTICE) == ()
    with pytest.raises(ConfigurationError, match=r"there is no backbone 'LATTICE\+fib'"):
        backbone_class("LATTICE+fib")


def test_the_bottlenecks_in_a_name_need_no_resolved_model(monkeypatch):
    monkeypatch.setattr(registry, "_aliases", {})
    assert bottlenecks_of("LATTICE+gib+fib", LATTICE) == ("fib", "gib")
    assert bottlenecks_of("mmrec:FREEDOM", LATTICE) == ()


class Own(LATTICE):
    """A user's own backbone."""


def test_a_users_own_class_takes_bottlenecks():
    assert Config(Own, "ml-100k", config_dict={"bottleneck": "gib"})["model"] == "Own+gib"
    assert resolve_model(Own, "gib") == "Own+gib"
    assert get_model("Own+gib") is Own


def test_bottlenecks_are_modules_of_the_model_in_their_order(build):
    _, plain, _, _, _ = build("FREEDOM")
    assert len(plain.ib) == 0
    _, model, _, _, _ = build("FREEDOM+fib+gib")
    assert type(model) is FREEDOM
    assert {name: type(module) for name, module in model.ib.items()} == {name: BOTTLENECKS[name] for name in ("fib", "gib")}
    assert list(model.ib) == ["fib", "gib"]
    added = set(dict(model.named_parameters())) - set(dict(plain.named_parameters()))
    assert added == {f"ib.{name}" for name, _ in model.ib.named_parameters()}
    assert added


class Late(LATTICE):
    """A user's backbone that is finished by its own ``__init__``."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        assert not hasattr(self, "ib")
        self.item_embedding = torch.nn.Embedding(self.n_items, 3)
        self.user_embedding = torch.nn.Embedding(self.n_users, 3)
        self.embedding_size = 3


def test_bottlenecks_see_the_finished_backbone(build):
    register_model(Late)
    _, model, train, _, _ = build(resolve_model("Late", "gib"), feature_dim=4)
    assert model.ib["gib"].gates["shared"].gate.target.in_features == 3 + 2 * 4
    assert model.calculate_loss(first_batch(train)).names == ("bpr", "reg", "gib")


# -- every backbone ---------------------------------------------------------------------------------------------------


#: the terms of MRdIB by default, and those of its paper
TERMS_BY_SETTINGS = {"mrdib": [({}, ("rate", "unique")), (PAPER_MRDIB, ("kl", "redundancy", "unique"))]}


@pytest.mark.parametrize("bottleneck", ["fib", "gib", "fib,gib", "mrdib"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_takes_every_bottleneck_or_says_what_it_lacks(build, backbone, bottleneck):
    name = Config(backbone, "ml-100k", config_dict={"bottleneck": bottleneck})["model"]
    if "gib" in bottleneck and backbone not in WITH_GRAPH:
        with pytest.raises(ConfigurationError, match=f"gib refines an item graph, and {backbone} has none"):
            build(name, project_above=0)
        return
    _, plain, train, _, _ = build(backbone, project_above=0)
    plain.pre_epoch(0)
    batch = first_batch(train)
    own = plain.calculate_loss(batch).names
    for settings, added in TERMS_BY_SETTINGS.get(bottleneck, [({}, tuple(bottleneck.split(",")))]):
        config, model, train, valid, _ = build(name, epochs=1, project_above=0, **settings)
        trainer = fit(config, model, train, valid)
        assert 0 <= trainer.best_valid_score <= 1
        model.train()
        model.pre_epoch(0)
        assert model.calculate_loss(batch).names == (*own, *added)


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
    assert set(model.state_dict()) - set(plain.state_dict()) <= {f"ib.mrdib.gaussian.scale_{m}" for m in model.modalities}


@pytest.mark.parametrize("backbone", WITH_GRAPH)
def test_a_gate_that_is_open_everywhere_changes_no_score(build, backbone):
    config, model, _, _, _ = build(resolved(backbone, "gib"))
    _, plain, _, _, _ = build(backbone)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith("ib.gib.")}
    plain.load_state_dict(weights)
    users = torch.arange(1, 9)
    expected = scores_of(plain, config, users)
    assert not torch.allclose(scores_of(model, config, users), expected)
    gates = model.ib["gib"].gates
    assert list(gates) == (model.modalities if model.item_graph_kind == "modality" else ["shared"])
    for gate in gates.values():
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
    assert model.user_content().rows(torch.arange(1, 4)).shape == (3, width)


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
    _, model, train, _, _ = build("MGCN+fib+gib", **{**PAPER_FIB, "fib_weight": 2.0}, gib_weight=3.0, raw_features="frozen")
    gates = model.ib["gib"].gates
    assert list(gates) == ["text", "visual"]
    batch = first_batch(train)
    for gate in gates.values():
        gate.gate.eval()
    losses = named(model.calculate_loss(batch))
    with torch.no_grad():
        items = torch.unique(batch["item_id"])
        z = model.latents()
        ids = model.item_embedding.weight
        graphs = model.item_graph(z)
        refined = {m: gates[m].refine(graphs[m], torch.cat([z[m], ids], dim=1)) for m in z}
        encoded = model.encode(z)
        after, before = (model.apply_item_graph(encoded, g).item[items] for g in (refined, graphs))
        fib = sum(naive_hsic(z[m][items].double().numpy(), model.encoder.table(m)[items].double().numpy(), 0.15) for m in z)
        gib = naive_hsic(after.double().numpy(), before.double().numpy(), 0.15)
    assert float(losses["fib"]) == pytest.approx(2 * fib, rel=1e-3)
    assert float(losses["gib"]) == pytest.approx(3 * gib, rel=1e-3)


def test_gate_state_on_known_gates(build):
    _, model, _, _, _ = build("FREEDOM+gib", gate_bias=0.0)
    with torch.no_grad():
        gate = model.ib["gib"].gates["shared"].gate
        gate.output.weight.zero_()
        gate.output.bias.fill_(3.0)
    model.eval()
    rho = 1 / (1 + math.exp(-3.0))
    state = model.ib["gib"].diagnostics(model, torch.arange(1, 20))
    assert float(state["gate/mean"]) == pytest.approx(rho, rel=1e-4)
    assert (float(state["gate/open"]), float(state["gate/closed"])) == (1.0, 0.0)
    assert float(state["gate/entropy"]) == pytest.approx(-rho * math.log(rho) - (1 - rho) * math.log(1 - rho), rel=1e-3)


@pytest.mark.parametrize("self_loops", [True, False])
def test_an_edge_is_closed_below_a_tenth_and_open_above_nine_tenths(build, monkeypatch, self_loops):
    _, model, _, _, _ = build("FREEDOM+gib", gate_self_loops=self_loops, gate_bias=0.0)
    planted_gates = torch.tensor([0.03, 0.09, 0.11, 0.5, 0.89, 0.91, 0.95, 0.97])
    graph = model.item_graph(model.latents())
    loops = graph.structure.rows == graph.structure.cols
    edges = graph.weights != 0 if self_loops else (graph.weights != 0) & ~loops
    gates = torch.full(edges.shape, 0.5)
    gates[edges] = planted_gates[torch.arange(int(edges.sum())) % 8]
    monkeypatch.setattr(model.ib["gib"].gates["shared"].gate, "logits", lambda nodes, structure: torch.logit(gates))
    state = model.ib["gib"].diagnostics(model.eval(), torch.arange(1, 20))
    counted = gates[edges]
    assert float(state["gate/closed"]) == pytest.approx(float((counted < 0.1).float().mean()))
    assert float(state["gate/open"]) == pytest.approx(float((counted > 0.9).float().mean()))
    # two and three of eight, but for the edges after the last eight
    assert float(state["gate/closed"]) == pytest.approx(2 / 8, abs=0.02)
    assert float(state["gate/open"]) == pytest.approx(3 / 8, abs=0.02)


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
    assert get_model(config["model"]) is config.model_class is FREEDOM
    assert bottlenecks_of(config["model"], config.model_class) == bottleneck_names(config.model_class, config) == ("gib",)
    assert RecBoleConfig("FREEDOM", "planted", config_dict={"data_path": str(planted_path)})["model"] == "FREEDOM"


def test_a_fresh_process_loads_a_model_without_a_name(planted_path, tmp_path):
    silenced = {"data_path": str(planted_path), "epochs": 1, "show_progress": False, "use_gpu": False, "knn_k": 5}
    result = run_recbole_ib("FREEDOM", "planted", config_dict={**silenced, "bottleneck": "fib,gib"})
    assert result["model"] == "FREEDOM+fib+gib"
    _, model, *_ = load_data_and_model(result["checkpoint"])
    assert type(model) is FREEDOM
    assert list(model.ib) == ["fib", "gib"]
    script = (
        "import recbole_ib; from recbole.quick_start import load_data_and_model, run_recbole; from recbole.utils import get_trainer\n"
        f"config, model, _, _, _, test = load_data_and_model({result['checkpoint']!r})\n"
        "trainer = get_trainer(config['MODEL_TYPE'], config['model'])(config, model)\n"
        "print(repr(dict(trainer.evaluate(test, load_best_model=False, show_progress=False))))"
    )
    done = fresh_python("-c", script)
    assert done.returncode == 0, done.stderr[-2000:]
    namespace = {"OrderedDict": dict, "np": __import__("numpy")}
    assert eval(done.stdout.strip().splitlines()[-1], namespace) == result["test_result"]


def test_settings_survive_a_checkpoint():
    config = Config("BM3", "ml-100k", config_dict={"bottleneck": "fib", "fib_weight": 3.0})
    again = config_from_plain(plain_config(config))
    assert (again["model"], again["bottleneck"], again["fib_weight"]) == ("BM3+fib", "fib", 3.0)
    assert again.model_class is config.model_class
