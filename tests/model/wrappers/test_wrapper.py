import pytest
import torch

from recbole_ib.config.config import Config
from recbole_ib.config.declared import model_defaults
from recbole_ib.config.serialize import config_from_plain, plain_config
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.registry import backbone_class, is_wrapper, register_model
from recbole_ib.model.wrappers.base import BackboneWrapper
from tests.support.training import first_batch, scores_of

BACKBONES = ["VBPR", "VLightGCN", "LATTICE", "VLATTICE", "BM3", "FREEDOM"]


@register_model
class Bare(BackboneWrapper):
    """A plug-in that changes nothing."""


@pytest.fixture
def pair(build):
    """A backbone, and the same one inside a plug-in that changes nothing."""

    def make(name, **settings):
        return build(name, **settings), build("Bare", backbone=name, **settings)

    return make


@pytest.mark.parametrize("name", BACKBONES)
def test_a_plugin_that_changes_nothing_is_its_backbone(pair, name):
    (config, alone, train, _, _), (_, wrapped, _, _, _) = pair(name)
    users = torch.arange(1, 9)
    assert torch.equal(scores_of(alone, config, users), scores_of(wrapped, config, users))
    for model in (alone, wrapped):
        model.train()
        torch.manual_seed(5)
        model.pre_epoch(0)
    batch = first_batch(train)
    torch.manual_seed(6)
    expected = alone.calculate_loss(batch)
    torch.manual_seed(6)
    got = wrapped.calculate_loss(batch)
    assert got.names == expected.names
    assert torch.equal(torch.stack(list(got)), torch.stack(list(expected)))
    assert wrapped.latents_in_score == alone.latents_in_score
    assert wrapped.latents_role == alone.latents_role
    assert wrapped.feature_encoder is wrapped.backbone.encoder
    assert list(wrapped.feature_encoder.features()) == list(alone.encoder.features())


def test_scores_are_computed_anew_after_training_and_after_loading(pair):
    (config, _, _, _, _), (_, model, _, _, _) = pair("VBPR")
    users = torch.arange(1, 5)
    before = scores_of(model, config, users)
    state = {k: v + 1.0 for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    assert not torch.equal(scores_of(model, config, users), before)
    loaded = scores_of(model, config, users)
    model.train()
    with torch.no_grad():
        model.backbone.user_embedding.weight.neg_()
    assert not torch.equal(scores_of(model, config, users), loaded)


# -- the layers of the configuration ----------------------------------------------------------------------------------


def test_the_backbones_yaml_lies_below_the_plugins():
    config = Config("SGFD", "ml-100k", argv=["--backbone=FREEDOM", "--n_layers=3"])
    assert (config["edge_dropout"], config["n_layers"], config["sgfd_labels"]) == (0.8, 3, "kmeans")
    assert config["item_graph"] is None  # LATTICE's, the default backbone


def test_the_plugins_default_backbone():
    config = Config("SGFD", "ml-100k")
    assert (config["backbone"], config["item_graph"], config["learning_rate_decay"]) == ("LATTICE", "learned", 0.96)


def test_the_backbone_may_come_from_any_layer(tmp_path):
    (tmp_path / "run.yaml").write_text("backbone: BM3\n")
    assert Config("SGFD", "ml-100k", config_file_list=[str(tmp_path / "run.yaml")])["target_dropout"] == 0.5
    assert Config("SGFD", "ml-100k", config_dict={"backbone": "BM3"})["target_dropout"] == 0.5
    folder = tmp_path / "data" / "mine"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("backbone: BM3\n")
    config = Config("SGFD", "mine", config_dict={"data_path": str(tmp_path / "data")})
    assert (config["backbone"], config["target_dropout"]) == ("BM3", 0.5)


def test_a_plain_copy_of_the_settings_keeps_the_backbone():
    config = Config("SGFD", "ml-100k", argv=["--backbone=BM3", "--target_dropout=0.3"])
    again = config_from_plain(plain_config(config))
    assert (again["backbone"], again["target_dropout"], again["cl_weight"]) == ("BM3", 0.3, config["cl_weight"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FREEDON", "no backbone 'FREEDON'. Did you mean FREEDOM"),
        ("LightGCN", "Did you mean VLightGCN"),
        ("IBMRec", "no backbone 'IBMRec'"),
        ("SGFD", "no backbone 'SGFD'"),
        ("none", "no backbone None"),
    ],
)
def test_a_wrong_backbone_names_the_right_ones(name, message):
    with pytest.raises(ConfigurationError, match=message) as error:
        Config("SGFD", "ml-100k", config_dict={"backbone": name})
    assert "Allowed: VBPR, VLightGCN, LATTICE" in str(error.value)


def test_a_backbone_without_projections_is_refused(build):
    with pytest.raises(ConfigurationError, match="LATTICE has none with these settings; set item_graph: learned"):
        build("SGFD", item_graph="frozen")


def test_a_users_own_backbone():
    from recbole_ib.model.backbones.vbpr import VBPR
    from tests.model.wrappers import test_wrapper

    class OwnBackbone(VBPR):
        pass

    OwnBackbone.__qualname__, OwnBackbone.__module__ = "OwnBackbone", test_wrapper.__name__
    register_model(OwnBackbone)
    assert backbone_class("OwnBackbone") is OwnBackbone
    config = Config("SGFD", "ml-100k", config_dict={"backbone": "OwnBackbone"})
    assert config["reg_weight"] == model_defaults(backbone_class("VBPR"))["reg_weight"]


def test_which_classes_are_plugins():
    assert is_wrapper(Bare)
    assert not is_wrapper(backbone_class("LATTICE"))
