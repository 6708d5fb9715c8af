"""What would leave a bottleneck out without a word is refused, and said."""

import pickle
from pathlib import Path

import pytest
from recbole.quick_start import run_recbole

from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.backbones.freedom import FREEDOM
from recbole_ib.model.backbones.vlightgcn import VLightGCN
from recbole_ib.model.registry import register_model
from recbole_ib.model.types import Phase
from recbole_ib.training.run import run_recbole_ib
from recbole_ib.training.trainer import MultimodalTrainer
from tests.support.bottlenecks import resolved
from tests.support.datasets import planted, write_dataset
from tests.support.processes import fresh_python


class OwnLoss(VLightGCN):
    """A user's backbone with a loss that no bottleneck reaches."""

    def calculate_loss(self, interaction):
        return super().calculate_loss(interaction)


class OwnLatents(VLightGCN):
    """A user's backbone whose latents are not those of its modalities."""

    def latents(self, items=None):
        return {m: 2 * z for m, z in self.encoder.parts(items).items()}


class TwoSteps(VLightGCN):
    """A user's backbone with two optimizer steps per batch."""

    def phases(self):
        return [*super().phases(), Phase("again", self.calculate_loss, lambda: list(self.parameters()))]


@pytest.mark.parametrize(
    ("backbone", "bottleneck", "message"),
    [
        (OwnLoss, "fib", "OwnLoss has a calculate_loss of its own.*put its loss into ranking_losses"),
        (TwoSteps, "mrdib", "one training step per batch; TwoSteps has phases of its own"),
    ],
)
def test_a_backbone_that_would_lose_the_terms_is_refused(backbone, bottleneck, message):
    with pytest.raises(ConfigurationError, match=message):
        Config(backbone, "ml-100k", config_dict={"bottleneck": bottleneck})


def test_mrdib_refuses_latents_that_its_draws_would_not_make(build):
    register_model(OwnLatents)
    with pytest.raises(ConfigurationError, match=r"those of OwnLatents's encoder do not make its latents"):
        build("OwnLatents+mrdib")
    _, model, _, _, _ = build("OwnLatents+fib")
    assert list(model.ib) == ["fib"]


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
    with pytest.raises(ConfigurationError, match=r"chosen\.yaml sets bottleneck, which.*command line"):
        Config("VLATTICE", "chosen", config_dict={"data_path": str(path)})


def test_the_configuration_of_a_combination_can_be_pickled():
    """RecBole pickles a Config, and with it the model class; a fresh process makes the same model of it."""
    config = Config("FREEDOM+fib+gib", "ml-100k")
    again = pickle.loads(pickle.dumps(config))
    assert (again["model"], again["bottleneck"]) == ("FREEDOM+fib+gib", "fib,gib")
    assert again.model_class is config.model_class is FREEDOM
    script = (
        "import pickle, recbole_ib; from recbole_ib.model.bottleneck import bottleneck_names\n"
        f"config = pickle.loads({pickle.dumps(config)!r})\n"
        "print(config['model'], *bottleneck_names(config.model_class, config), config.model_class.__name__)"
    )
    done = fresh_python("-c", script)
    assert done.stdout.split()[-4:] == ["FREEDOM+fib+gib", "fib", "gib", "FREEDOM"], done.stderr[-2000:]


def test_recboles_run_can_be_resumed_by_our_command(planted_path):
    silenced = {"data_path": str(planted_path), "show_progress": False, "use_gpu": False, "knn_k": 5, "epochs": 1}
    run_recbole("IBMRecWoFIB", "planted", config_dict=silenced)
    (last,) = Path("saved").glob("*-last.pth")
    result = run_recbole_ib("VLATTICE+gib", "planted", config_dict={**silenced, "epochs": 2, "resume_checkpoint": str(last)})
    assert result["model"] == "IBMRecWoFIB"
