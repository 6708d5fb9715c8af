"""A user's own bottlenecks: registered, trained, combined with ours, refused with the reason."""

import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from recbole.quick_start import load_data_and_model
from recbole.utils import get_model, init_seed
from torch.nn import functional as F

import recbole_ib
from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.bottleneck import (
    BOTTLENECKS,
    LATENTS,
    Bottleneck,
    parse_bottlenecks,
    register_bottleneck,
)
from recbole_ib.model.types import NamedLosses, Phase
from recbole_ib.training.run import run_recbole_ib
from recbole_ib.training.trainer import MultimodalTrainer
from tests.support.bottlenecks import named
from tests.support.training import first_batch, fit, scores_of


class Squeeze(Bottleneck):
    """An L2 squeeze of the latents of the batch's items."""

    name = "squeeze"
    requires = frozenset({LATENTS})
    excludes: ClassVar = {"mrdib": "squeeze shortens the latents that mrdib measures by their length"}
    weight = 0.5

    def losses(self, model, batch):
        rows = batch.latent_rows(batch.items)
        lengths = [F.embedding(rows, z).square().sum(dim=1).mean() for z in batch.latents.values()]
        return {"squeeze": self.weight * sum(lengths)}

    def diagnostics(self, model, items):
        return {f"length/{name}": z.norm(dim=1).mean() for name, z in model.latents(items).items()}


class Haze(Bottleneck):
    """Noise of a trained strength on the latents of a training step, which a step of its own strengthens."""

    name = "haze"
    requires = frozenset({LATENTS})
    replaces_latents = True

    def __init__(self, model, config, dataset):
        super().__init__(model, config, dataset)
        self.strength = torch.nn.Parameter(torch.zeros(()))

    def latents(self, model, items):
        return {name: z + self.strength.exp() * torch.randn_like(z) for name, z in model.latents(items).items()}

    def phases(self, model, phases):
        own = Phase("haze", lambda interaction: NamedLosses({"strength": -self.strength}), lambda: [self.strength], rate=10.0)
        return [*phases, own]


@pytest.fixture
def register():
    """:func:`register_bottleneck` for the length of a test."""
    before = dict(BOTTLENECKS)
    yield register_bottleneck
    for name in BOTTLENECKS.keys() - before.keys():
        del BOTTLENECKS[name]
    BOTTLENECKS.update(before)


@pytest.mark.parametrize("backbone", ["VBPR", "FREEDOM"])
def test_a_users_bottleneck_by_name_and_by_key(build, register, backbone):
    assert register(Squeeze) is Squeeze
    _, by_name, train, _, _ = build(f"{backbone}+squeeze")
    config, by_key, _, _, _ = build(backbone, bottleneck="squeeze")
    assert config["model"] == f"{backbone}+squeeze"
    batch, found = first_batch(train), []
    for model in (by_name, by_key):
        assert type(model) is get_model(backbone)
        assert type(model.ib["squeeze"]) is Squeeze
        init_seed(1, True)
        model.pre_epoch(0)
        found.append(named(model.calculate_loss(batch)))
    assert list(found[0])[-1] == "squeeze"
    assert found[0] == found[1]
    items = sorted(set(batch["item_id"].tolist()))
    expected = sum(float(z[i] @ z[i]) for z in by_name.latents().values() for i in items) / len(items)
    assert float(found[0]["squeeze"].detach()) == pytest.approx(0.5 * expected, rel=1e-5)


def test_a_users_bottleneck_trains_and_does_its_work(build, register):
    register(Squeeze)
    lengths = {}
    for name in ("VBPR", "VBPR+squeeze"):
        config, model, train, valid, _ = build(name, epochs=20, learning_rate=0.01, stopping_step=100)
        trainer = fit(config, model, train, valid)
        assert all(math.isfinite(loss) for loss in trainer.train_loss_dict.values())
        lengths[name] = float(Squeeze.diagnostics(None, model, torch.arange(1, model.n_items))["length/content"].detach())
    assert lengths["VBPR+squeeze"] < 0.5 * lengths["VBPR"]


def test_a_users_bottleneck_goes_together_with_ours(build, register):
    register(Squeeze)
    assert parse_bottlenecks("squeeze,gib,fib") == ("fib", "gib", "squeeze")
    _, model, train, _, _ = build("VLATTICE", bottleneck="squeeze,gib")
    assert list(model.ib) == ["gib", "squeeze"]
    assert model.calculate_loss(first_batch(train)).names == ("bpr", "reg", "gib", "squeeze")
    assert Config("IBMRec", "ml-100k")["model"] == "IBMRec"
    with pytest.raises(ConfigurationError, match="IBMRec has the bottleneck fib,gib already and cannot take squeeze"):
        Config("IBMRec", "ml-100k", config_dict={"bottleneck": "squeeze"})


def test_a_users_bottleneck_by_the_command(planted_path, register):
    register(Squeeze)
    silenced = {"data_path": str(planted_path), "epochs": 1, "show_progress": False, "use_gpu": False}
    config = Config("VBPR", "planted", config_dict=silenced, argv=["--bottleneck=squeeze"])
    assert (config["model"], config["bottleneck"]) == ("VBPR+squeeze", "squeeze")
    result = run_recbole_ib("VBPR", "planted", config_dict={**silenced, "bottleneck": "squeeze", "diagnostics": True})
    assert result["model"] == "VBPR+squeeze"
    _, model, *_ = load_data_and_model(result["checkpoint"])
    assert list(model.ib) == ["squeeze"]
    (table,) = Path("saved").glob("*.csv")
    assert {"length/content", "loss/squeeze"} <= {line.split(",")[1] for line in table.read_text().splitlines()}


def test_a_users_bottleneck_may_draw_the_latents_and_take_a_step_of_its_own(build, register):
    register(Haze)
    config, model, train, _, _ = build("VBPR+haze")
    haze, items = model.ib["haze"], torch.arange(1, 9)
    assert [(phase.name, phase.rate, phase.main) for phase in model.phases()] == [("model", 1.0, True), ("haze", 10.0, False)]
    own, drawn = model.latents(items)["content"], model.training_latents(items)["content"]
    assert not torch.allclose(own, drawn)
    assert torch.equal(own, model.latents(items)["content"])
    # training reads what it draws, a ranking what the backbone has
    batch, losses = first_batch(train), []
    for strength in (-50.0, 2.0):
        with torch.no_grad():
            haze.strength.fill_(strength)
        losses.append(float(named(model.calculate_loss(batch))["bpr"].detach()))
        users = torch.arange(1, 9)
        _, plain, _, _, _ = build("VBPR")
        plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("ib.")})
        assert torch.equal(scores_of(model, config, users), scores_of(plain, config, users))
        model.train()
        if strength < 0:
            assert losses[0] == pytest.approx(float(named(plain.train().calculate_loss(batch))["bpr"].detach()), rel=1e-5)
    assert abs(losses[1] - losses[0]) > 0.01
    trainer = MultimodalTrainer(config, model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer._step(trainer.phases[1], trainer.processes.share(batch, "cpu"))
    assert {name for name, p in model.named_parameters() if not torch.equal(before[name], p)} == {"ib.haze.strength"}


def test_two_that_exclude_each_other_are_refused_with_the_reason(register):
    register(Squeeze)
    for value in ("squeeze,mrdib", "mrdib+squeeze", ["mrdib", "squeeze"]):
        with pytest.raises(ConfigurationError, match="squeeze shortens the latents that mrdib measures by their length"):
            Config("VBPR", "ml-100k", config_dict={"bottleneck": value})


def test_a_backbone_without_what_a_users_bottleneck_requires_says_so(build, register):
    register(Squeeze)
    with pytest.raises(ConfigurationError, match="squeeze works on the item latents, and LATTICE has none"):
        build("LATTICE+squeeze", item_graph="frozen")


def test_an_unknown_bottleneck_names_the_registered_ones_and_how_to_register(register):
    register(Squeeze)
    with pytest.raises(ConfigurationError, match=r"there is no bottleneck 'squeze'\. Did you mean squeeze") as error:
        Config("VBPR+squeze", "ml-100k")
    assert "Allowed: fib, gib, mrdib, squeeze" in str(error.value)
    assert "recbole_ib.register_bottleneck" in str(error.value)
    assert recbole_ib.register_bottleneck is register_bottleneck


@pytest.mark.parametrize("given", [None, "squeeze", torch.nn.Linear, 3])
def test_what_is_no_bottleneck_is_refused(register, given):
    with pytest.raises(ConfigurationError, match=r"a bottleneck is a subclass of recbole_ib\.model\.bottleneck\.Bottleneck, got"):
        register(given)


def test_an_instance_is_refused(build, register):
    _, model, _, _, _ = build("VBPR")
    with pytest.raises(ConfigurationError, match="a bottleneck is a subclass"):
        register(Squeeze(model, {}, None))


@pytest.mark.parametrize("name", [None, 3, "", "Squeeze", "my-ib", "my ib", "a+b", "a,b", "1st"])
def test_names_that_no_command_could_write_are_refused(register, name):
    before = dict(BOTTLENECKS)
    with pytest.raises(
        ConfigurationError, match=r"Wrong\.name is .*; a bottleneck's name is a word of small letters, digits and _"
    ):
        register(type("Wrong", (Bottleneck,), {} if name is None else {"name": name}))
    assert before == BOTTLENECKS


def test_a_name_that_is_taken_is_refused_and_the_same_class_again_is_not(register):
    with pytest.raises(ConfigurationError, match=r"the name 'fib' is that of recbole_ib.model.bottlenecks.fib.FIB; rename Mine"):
        register(type("Mine", (Bottleneck,), {"name": "fib"}))
    assert BOTTLENECKS["fib"].__module__ == "recbole_ib.model.bottlenecks.fib"
    register(Squeeze)
    register(Squeeze)
    # a notebook's cell that is run again
    again = type("Squeeze", (Squeeze,), {"__module__": Squeeze.__module__, "__qualname__": Squeeze.__qualname__})
    register(again)
    assert BOTTLENECKS["squeeze"] is again
