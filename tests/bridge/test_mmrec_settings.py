"""The bridge to MMRec, with a stand-in checkout of our own: settings, every message, the command line."""

import json

import pytest
import yaml

from recbole_ib import run_recbole_ib
from recbole_ib.bridge.checkout import open_checkout
from recbole_ib.bridge.interface import choose_modalities
from recbole_ib.bridge.mmrec import mmrec_models
from recbole_ib.cli import main
from recbole_ib.config.config import Config
from recbole_ib.config.serialize import config_from_plain, plain_config
from recbole_ib.errors import ConfigurationError
from tests.support.mmrec import STANDIN, copy_of_standin, one_epoch, settings_of

# -- settings -----------------------------------------------------------------------------------------------------------


def test_precedence_of_settings(bridged, tmp_path):
    config, model, _, _, _ = bridged("PlainBPR")
    seen = model.network.config
    assert (config["embedding_size"], seen["embedding_size"], model.network.item.embedding_dim) == (16, 16, 16)
    assert (config["learning_rate"], seen["dropout"], seen["reg_weight"]) == (0.01, 0.8, 1e-4)
    assert seen["layer_weights"] == [1, 2]
    assert config["learning_rate_decay"] == pytest.approx(0.96**2)
    # the data, the machine and the evaluation are RecBole's
    assert (seen["seed"], seen["epochs"], seen["topk"], seen["USER_ID_FIELD"]) == (1, 300, [10, 20], "user_id")
    assert (seen["overall_only"], seen["model"], seen["dataset"], seen["nobody_sets_this"]) == (7, "PlainBPR", "planted", None)
    assert "nobody_sets_this" not in seen
    seen["nobody_sets_this"] = 3
    assert seen["nobody_sets_this"] == 3

    config, model, _, _, _ = bridged("PlainBPR", embedding_size=4, dropout=0.5, overall_only=8, learning_rate_scheduler=[0.5, 50])
    assert (model.network.item.embedding_dim, model.network.dropout, model.network.config["overall_only"]) == (4, 0.5, 8)
    assert config["learning_rate_decay"] == 0.5


def test_keys_of_the_checkout_are_known_and_others_refused(planted_path):
    given = settings_of(planted_path, layer_weights=[1], read_late=False)
    assert Config("mmrec:Caching", "planted", config_dict=settings_of(planted_path, read_late=True))["read_late"]
    with pytest.raises(ConfigurationError, match="unknown setting 'read_late'"):
        Config("mmrec:PlainBPR", "planted", config_dict=given)
    with pytest.raises(ConfigurationError, match=r"'layer_weight'.*Did you mean layer_weights"):
        Config("mmrec:PlainBPR", "planted", config_dict=settings_of(planted_path, layer_weight=[1]))


def test_the_first_of_the_searched_values_is_said(bridged, caplog):
    with caplog.at_level("INFO"):
        bridged("PlainBPR", dropout=0.5)
    assert "reg_weight=0.0001 of [0.0001, 0.001]" in caplog.text
    assert "dropout=" not in caplog.text
    assert "vision = visual, text = text" in caplog.text


def test_the_config_can_be_made_again(planted_path, monkeypatch, tmp_path):
    monkeypatch.chdir(STANDIN.parent)
    config = Config("mmrec:plainbpr", "planted", config_dict=settings_of(planted_path, mmrec_path="standin"))
    plain = json.loads(json.dumps(plain_config(config)))
    assert plain["model"] == "mmrec:PlainBPR"
    monkeypatch.chdir(tmp_path)
    again = config_from_plain(plain)
    assert again.model_class is config.model_class
    assert again["mmrec_path"] == str(STANDIN)
    assert plain_config(again) == plain


# -- messages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("PlainBPR", {"mmrec_path": None}, "say where it is with --mmrec_path=DIR"),
        ("PlainBPR", {"mmrec_path": "nowhere"}, "there is no folder .*nowhere"),
        ("PlainBPR", {"mmrec_path": str(STANDIN / "src" / "configs")}, "neither src/models nor models"),
        ("PlainBRP", {}, "no model 'PlainBRP' in .*models. Did you mean PlainBPR.*It has: Caching, "),
        ("Othername", {}, "othername.py defines no class named 'Othername'.*its classes: Different"),
        (
            "NeedsPackage",
            {},
            "needspackage.py, line 3 needs the package package_that_nobody_has.*pip install package_that_nobody_has",
        ),
        ("NeedsOwn", {}, "imports common.absent, which this checkout does not have"),
        (
            "NeedsFile",
            {},
            "reads the file that item_graph_dict_file names, item_graph_dict_2.npy, .*give --item_graph_dict_file=PATH",
        ),
        ("NeedsFile", {"item_graph_dict_file": "mine.npy"}, "item_graph_dict_file: there is no file mine.npy"),
        ("Caching", {"read_early": "other.npy"}, "reads other.npy from the data set's folder .*which the bridge does not make"),
        ("Caching", {"item_list": True}, "asks its training data for 'item_popularity'.*inter_matrix"),
        ("PlainBPR", {"embedding_size": "x"}, "PlainBPR cannot be built with these settings: .* in .*plainbpr.py, line 13"),
        ("PlainBPR", {"use_full_sampling": True}, "use_full_sampling is set.*batches of users"),
        ("PlainBPR", {"end2end": True}, "raw images and texts"),
        ("PlainBPR", {"mmrec_modalities": {"vision": "pictures"}}, "vision is 'pictures', but .* are text, visual"),
        ("PlainBPR", {"mmrec_modalities": {"audio": "text"}}, "allowed are the keys vision and text"),
        ("PlainBPR", {"learning_rate_scheduler": 0.9}, r"a list \[g, epochs\]"),
    ],
)
def test_messages(bridged, name, settings, message):
    with pytest.raises(ConfigurationError, match=f"(?s){message}"):
        bridged(name, **settings)


def test_a_file_that_is_read_in_training(bridged):
    _, model, train, _, _ = bridged("Caching", read_late=True)
    with pytest.raises(ConfigurationError, match="after it is built"):
        one_epoch(model, train)


def test_a_file_that_is_no_python(tmp_path):
    other = copy_of_standin(tmp_path)
    (other / "src" / "models" / "broken.py").write_text("class Broken(:\n")
    assert "mmrec:PlainBPR" in mmrec_models(other)
    with pytest.raises(ConfigurationError, match=r"broken\.py is no valid Python"):
        open_checkout(other).model("broken")


def test_a_class_that_is_no_model(bridged, tmp_path):
    other = copy_of_standin(tmp_path)
    body = "class Nothing:\n    def __init__(self, config, dataset):\n        pass\n"
    (other / "src" / "models" / "nothing.py").write_text(body)
    with pytest.raises(ConfigurationError, match="is no model of MMRec"):
        bridged("Nothing", mmrec_path=str(other))


@pytest.mark.parametrize("text", ["a: [", "- 1\n"])
def test_a_broken_yaml(bridged, tmp_path, text):
    other = copy_of_standin(tmp_path)
    (other / "src" / "configs" / "model" / "PlainBPR.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"PlainBPR\.yaml"):
        bridged("PlainBPR", mmrec_path=str(other))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["text"], {"text": "text"}),
        (["visual", "text"], {"vision": "visual", "text": "text"}),
        (["image", "audio", "textual"], {"vision": "image", "text": "textual"}),
    ],
)
def test_modalities_by_name(names, expected):
    assert choose_modalities(names, None) == expected


@pytest.mark.parametrize("names", [["audio"], ["text", "clip"], ["image", "visual", "text"]])
def test_names_that_do_not_decide(names):
    with pytest.raises(ConfigurationError, match="mmrec_modalities="):
        choose_modalities(names, None)


# -- the command line ---------------------------------------------------------------------------------------------------


def test_the_command_trains(planted_path, capsys):
    words = [
        "--model=mmrec:plainbpr",
        f"--mmrec_path={STANDIN}",
        "--dataset=planted",
        f"--data_path={planted_path}",
        "--epochs=1",
    ]
    assert main.main([*words, "--layer_weights=[2]", "--show_progress=False"]) == 0
    assert "mmrec:PlainBPR on planted" in capsys.readouterr().out
    assert main.main([*words, "--layer_weight=[2]"]) == 1
    assert "unknown setting 'layer_weight'" in capsys.readouterr().err
    assert main.main(["--model=mmrec:PlainBPR", "--dataset=planted"]) == 1
    assert "--mmrec_path=DIR" in capsys.readouterr().err


def test_the_command_lists_the_models(capsys):
    assert main.main(["models", f"--mmrec_path={STANDIN}"]) == 0
    listed = capsys.readouterr().out.split()
    assert listed == mmrec_models(STANDIN)
    assert "mmrec:NoNeg" in listed
    assert "mmrec:Different" not in listed
    assert main.main(["models", "--mmrec_path=nowhere"]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_a_config_file_names_the_model(planted_path, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"model": "mmrec:NoNeg", "dataset": "planted", **settings_of(planted_path, epochs=1)}))
    assert run_recbole_ib(config_file_list=[str(file)])["model"] == "mmrec:NoNeg"
