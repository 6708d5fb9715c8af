"""MultimodalDataset and its checks: features follow tokens through RecBole's filtering, renumbering and splitting."""

import json
import logging

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import yaml
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import Dataset
from recbole.utils import init_seed

from recbole_ib import run_recbole_ib
from recbole_ib.cli.main import main
from recbole_ib.config.config import Config
from recbole_ib.data.dataset import MultimodalDataset
from recbole_ib.errors import ConfigurationError, FeatureError
from recbole_ib.training.validate import check_dataset

TOY_ITEMS = list("abcdef")


def built(toy, model="VBPR", **settings) -> Dataset:
    return create_dataset(Config(model, config_dict={**toy.settings, **settings}))


def checked(toy, **settings):
    return check_dataset(config_dict={**toy.settings, **settings})


def command(toy, *words) -> list[str]:
    return ["check", "--dataset=toy", f"--data_path={toy.data_path}", "--use_gpu=False", *words]


def edit_yaml(toy, change) -> None:
    """Change the settings that lie beside the toy's files."""
    path = toy.folder / "toy.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(settings)
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")


def cut_text(toy) -> None:
    (toy.folder / "text.npy").write_bytes((toy.folder / "text.npy").read_bytes()[:100])


def spoil_visual(toy) -> None:
    np.savez(toy.folder / "visual.npz", features=np.full((2, 3), np.nan, np.float32), ids=["a", "c"])


# -- alignment --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filtered", [True, False])
def test_every_internal_id_has_the_row_of_its_token(toy, filtered):
    """The 2-core drops x1 and y1 from the middle of the file, which shifts the ids of all items behind them."""
    every = {} if filtered else {"user_inter_num_interval": "[0,inf)", "item_inter_num_interval": "[0,inf)"}
    dataset = built(toy, **every)
    tokens = list(dataset.field2id_token["item_id"])
    assert sorted(tokens[1:]) == (TOY_ITEMS if filtered else [*TOY_ITEMS, "x1", "y1"])
    assert list(dataset.modalities) == ["text", "visual"]
    assert all(table.dtype == torch.float32 and not table[0].any() for table in dataset.modalities.values())
    mean = np.mean([row for token, row in toy.visual.items() if token in tokens], axis=0, dtype=np.float64)
    for i, token in enumerate(tokens[1:], start=1):
        np.testing.assert_array_equal(dataset.modalities["text"][i].numpy(), toy.text[token])
        assert dataset.has_feature["text"][i]
        assert bool(dataset.has_feature["visual"][i]) == (token in toy.visual)
        expected = toy.visual.get(token, mean.astype(np.float32))
        np.testing.assert_allclose(dataset.modalities["visual"][i].numpy(), expected, rtol=1e-6)


def test_filtering_shifts_the_ids(toy):
    """The premise of the test above: unfiltered, x1 stands before b."""
    every = {"user_inter_num_interval": "[0,inf)", "item_inter_num_interval": "[0,inf)"}
    assert built(toy, **every).token2id("item_id", "b") == built(toy).token2id("item_id", "b") + 1


def test_order_of_interactions_changes_ids_not_features(toy):
    before = built(toy)
    header, *rows = (toy.folder / "toy.inter").read_text().splitlines()
    (toy.folder / "toy.inter").write_text("\n".join([header, *reversed(rows)]) + "\n")
    after = built(toy)
    assert list(before.field2id_token["item_id"]) != list(after.field2id_token["item_id"])
    for name in ("text", "visual"):
        for token in TOY_ITEMS:
            one, other = (d.modalities[name][d.token2id("item_id", token)] for d in (before, after))
            torch.testing.assert_close(one, other)


def test_item_graph_follows_the_ids(toy):
    tokens = list(toy.text)
    dense = np.arange(1.0, 65.0, dtype=np.float32).reshape(8, 8)
    sp.save_npz(toy.folder / "graph.npz", sp.csr_array(dense))
    edit_yaml(toy, lambda s: s["modalities"]["text"].update(item_graph_file="graph.npz"))
    dataset = built(toy)
    assert list(dataset.item_graphs) == ["text"]
    graph, ids = dataset.item_graphs["text"].toarray(), dataset.field2id_token["item_id"]
    assert not graph[0].any()
    assert not graph[:, 0].any()
    for i in range(1, 7):
        for j in range(1, 7):
            assert graph[i, j] == dense[tokens.index(ids[i]), tokens.index(ids[j])]


def test_splits_share_the_features(toy):
    config = Config("VBPR", config_dict=toy.settings)
    dataset = create_dataset(config)
    loaders = data_preparation(config, dataset)
    assert [len(loader._dataset) for loader in loaders] == [8, 4, 4]
    for loader in loaders:
        for name in ("text", "visual"):
            assert loader._dataset.modalities[name] is dataset.modalities[name]
            assert loader._dataset.has_feature[name] is dataset.has_feature[name]
        assert loader._dataset.field2id_token["item_id"] is dataset.field2id_token["item_id"]


@pytest.mark.parametrize(("model", "expected"), [("IBMRec", MultimodalDataset), ("VBPR", MultimodalDataset), ("BPR", Dataset)])
def test_dataset_class_of_a_model(toy, model, expected):
    assert type(built(toy, model)) is expected


@pytest.mark.parametrize("only", [["text"], ["visual"], ["visual", "text"], "visual"])
def test_use_modalities(toy, only):
    dataset = built(toy, use_modalities=only)
    assert list(dataset.modalities) == list(dataset.has_feature) == ([only] if isinstance(only, str) else only)


def test_feature_path_moves_relative_files(toy, tmp_path):
    for path in [*toy.folder.glob("text.*"), toy.folder / "visual.npz"]:
        path.rename(tmp_path / path.name)
    dataset = built(toy, feature_path=str(tmp_path))
    assert list(dataset.modalities) == ["text", "visual"]


def test_no_modalities(toy):
    assert built(toy, modalities=None).modalities == {}


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_broken_files_are_all_named_before_training(toy):
    cut_text(toy)
    spoil_visual(toy)
    with pytest.raises(FeatureError) as caught:
        run_recbole_ib("VBPR", config_dict={**toy.settings, "epochs": 1}, saved=False)
    assert "text.npy: not a readable .npy" in str(caught.value)
    assert "visual.npz: 2 of 2 rows hold NaN" in str(caught.value)


def test_broken_file_that_is_not_used_does_no_harm(toy):
    cut_text(toy)
    assert list(built(toy, use_modalities=["visual"]).modalities) == ["visual"]


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"use_modalities": ["txt"]}, ["'txt'", "Did you mean text?"]),
        ({"use_modalities": []}, ["at least one"]),
        ({"modalities": {"text": {"file": "text.npy", "token": "text.tokens"}}}, ["'token'", "Did you mean tokens?"]),
    ],
)
def test_wrong_settings(toy, settings, parts):
    with pytest.raises(ConfigurationError) as caught:
        built(toy, **settings)
    for part in parts:
        assert part in str(caught.value)


# -- check ------------------------------------------------------------------------------------------------------------


def test_report_counts(toy):
    """By hand from the table in conftest.py: each user's last item is tested, the one before validates."""
    report = checked(toy)
    assert (report.name, report.folder) == ("toy", str(toy.folder))
    assert (report.users, report.items, report.interactions) == (4, 6, 16)
    assert report.split_sizes == {"train": 8, "valid": 4, "test": 4}
    # nobody trains on e or f: e and f validate, e is tested
    assert report.cold_items == {"valid": 2, "test": 1}
    assert report.errors == []
    text, visual = report.modalities
    assert (text.spec.name, text.covered, text.n_items, text.shape, text.dtype) == ("text", 6, 6, (8, 5), "float32")
    assert (visual.spec.name, visual.covered, visual.n_items, visual.zero_rows) == ("visual", 4, 6, 1)
    assert any("2 of 8 rows belong to no item" in w and "y1, x1" in w for w in text.warnings)
    assert any("2 of 6 items have no row" in w for w in visual.warnings)


def test_report_counts_duplicate_rows(toy):
    rows = [toy.visual["a"], toy.visual["a"], toy.visual["c"], toy.visual["a"]]
    np.savez(toy.folder / "visual.npz", features=np.stack(rows), ids=["a", "b", "c", "d"])
    assert checked(toy).modalities[1].duplicate_rows == 2


def test_report_has_the_split_of_training(toy):
    settings = {"eval_args": {"split": {"RS": [0.5, 0.25, 0.25]}, "order": "RO", "group_by": "user", "mode": "full"}}
    report = checked(toy, **settings)
    config = Config("VBPR", config_dict={**toy.settings, **settings})
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = ({int(i) for i in part.inter_feat["item_id"]} for part in create_dataset(config).build())
    assert report.cold_items == {"valid": len(valid - train), "test": len(test - train)}
    assert report.split_sizes == {"train": 8, "valid": 4, "test": 4}


def test_report_names_every_broken_file(toy):
    """One broken file does not hide the next, and the interactions are reported all the same."""
    cut_text(toy)
    spoil_visual(toy)
    report = checked(toy)
    assert len(report.errors) == 2
    assert "text.npy" in report.errors[0]
    assert "visual.npz" in report.errors[1]
    assert (report.users, report.items) == (4, 6)
    assert "unreadable" in report.text()


def test_report_leaves_the_log_level(toy):
    """A function that a notebook calls before training must not silence the training."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    checked(toy)
    assert root.level == logging.INFO


def test_report_text(toy):
    edit_yaml(toy, lambda s: s["modalities"]["text"].update(encoder="MiniLM"))
    text = checked(toy).text()
    for part in (
        "users 4, items 6, interactions 16",
        "train 8, valid 4, test 4",
        "2 in valid, 1 in test",
        "modality text: 8 x 5 float32",
        "encoder: MiniLM",
        "covers 6 of 6 items (100.0 %), zero rows 0, duplicate rows 0",
        "covers 4 of 6 items (66.7 %), zero rows 1",
        "encoder: not stated",
        "training would accept",
    ):
        assert part in text


def test_report_of_a_set_without_modalities(toy):
    report = checked(toy, modalities=None)
    assert (report.errors, report.modalities) == ([], [])
    assert "no modality is named" in report.text()


@pytest.mark.parametrize("model", ["BPR", "IBMRec"])
def test_the_model_does_not_matter(toy, model):
    report = checked(toy, model=model)
    assert (report.users, report.items, report.split_sizes) == (4, 6, {"train": 8, "valid": 4, "test": 4})
    assert report.errors == []


def test_command_accepts(toy, capsys):
    assert main(command(toy)) == 0
    out = capsys.readouterr().out
    assert "users 4, items 6" in out
    assert "training would accept" in out


@pytest.mark.parametrize(
    ("breaking", "words", "parts"),
    [
        (cut_text, [], ["text.npy", "not a readable .npy"]),
        (spoil_visual, [], ["visual.npz", "NaN"]),
        (
            None,
            ["--modalities={text: {file: text.npy, tokens: text.tokens, missing: error}, visual: {file: vis.npz}}"],
            ["visual.npz"],
        ),
        (None, ["--modalities={visual: {file: visual.npz, missing: error}}"], ["2 of 6 items have no row", "missing: error"]),
    ],
)
def test_command_refuses_what_training_refuses(toy, capsys, breaking, words, parts):
    if breaking:
        breaking(toy)
    assert main(command(toy, *words)) == 1
    captured = capsys.readouterr()
    assert "training would refuse" in captured.out
    assert captured.err == ""
    for part in ["ERROR", *parts]:
        assert part in captured.out
    with pytest.raises(FeatureError):
        create_dataset(Config("VBPR", config_dict=toy.settings, argv=words))


def test_command_accepts_without_the_broken_modality(toy):
    cut_text(toy)
    assert main(command(toy, "--use_modalities=[visual]")) == 0


def test_command_warns_of_an_empty_split(toy, capsys):
    """RecBole trains without one; the user should know before."""
    split = {"split": {"RS": [1, 0, 0]}, "order": "TO", "group_by": "user", "mode": "full"}
    assert main(command(toy, f"--eval_args={json.dumps(split)}")) == 0
    out = capsys.readouterr().out
    assert "warning: the valid split is empty" in out
    assert "warning: the test split is empty" in out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--use_modalities=[txt]"], ["'txt'", "Did you mean text?"]),
        (["--use_modality=[text]"], ["'use_modality'", "use_modalities"]),
        (["--user_inter_num_interval=[99,inf)"], ["filter"]),
    ],
)
def test_command_prints_wrong_settings_without_a_traceback(toy, capsys, words, parts):
    assert main(command(toy, *words)) == 1
    err = capsys.readouterr().err
    for part in parts:
        assert part in err


def test_command_without_the_interactions(toy, capsys):
    (toy.folder / "toy.inter").unlink()
    assert main(command(toy)) == 1
    assert "toy.inter" in capsys.readouterr().err


# -- the bundled sample -----------------------------------------------------------------------------------------------


def test_bundled_sample(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = check_dataset(config_dict={"dataset": "ml-100k", "use_gpu": False})
    assert (report.users, report.items, report.interactions) == (938, 1008, 54413)
    assert sum(report.split_sizes.values()) == 54413
    assert {r.spec.name: (r.covered, r.n_items) for r in report.modalities} == {"text": (1008, 1008), "visual": (977, 1008)}
    assert {r.spec.name: r.shape for r in report.modalities} == {"text": (1682, 384), "visual": (1350, 480)}
    assert report.errors == []


# -- float16 ----------------------------------------------------------------------------------------------------------


def test_float16_features_are_rounded_and_kept_below_the_data_sets_folder(toy):
    plain, half = built(toy), built(toy, feature_dtype="float16")
    for name, table in plain.modalities.items():
        assert half.modalities[name].dtype == torch.float16
        assert torch.equal(half.modalities[name], table.half())
        assert torch.equal(half.has_feature[name], plain.has_feature[name])
    files = sorted(p.name.split("-")[0] for p in (toy.folder / ".recbole_ib_cache").iterdir())
    assert files == ["text", "visual"]


def test_nothing_is_written_into_recboles_own_package():
    assert MultimodalDataset.feature_cache(Config("VBPR", "ml-100k")).parts == ("saved", ".recbole_ib_cache")


def test_another_feature_dtype_is_refused(toy):
    with pytest.raises(ConfigurationError, match=r"feature_dtype is 'bfloat16'; allowed: float32, float16"):
        built(toy, feature_dtype="bfloat16")


def test_the_check_says_what_float16_cannot_hold_and_writes_nothing(toy):
    values = np.load(toy.folder / "text.npy")
    values[1, 2] = 1e6  # of f
    np.save(toy.folder / "text.npy", values)
    assert checked(toy).errors == []
    (error,) = checked(toy, feature_dtype="float16").errors
    assert "f (row 1)" in error
    assert not (toy.folder / ".recbole_ib_cache").exists()
    with pytest.raises(FeatureError, match=r"f \(row 1\)"):
        built(toy, feature_dtype="float16")
