"""The manifest of a run: what it holds is what was run."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from recbole.data import create_dataset
from recbole.quick_start import run_recbole

from recbole_ib import read_checkpoint, run_recbole_ib
from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError
from recbole_ib.training.manifest import read_manifest
from recbole_ib.training.run import fit, prepare
from tests.support.datasets import planted, write_dataset
from tests.support.processes import fresh_python

QUIET = {"epochs": 4, "show_progress": False, "state": "ERROR", "metric_decimal_place": 14}


@pytest.fixture
def data_path(tmp_path):
    pairs, modalities, *_ = planted()
    return write_dataset(tmp_path / "data", "tiny", pairs, modalities)


def run(data_path, model="VBPR", **given):
    result = run_recbole_ib(model, "tiny", config_dict={**QUIET, "data_path": str(data_path), **given})
    return result, read_manifest(result["manifest"])


def test_it_holds_the_run(data_path):
    result, manifest = run(data_path, seed=7, learning_rate=0.01)
    assert manifest["result"]["test"] == result["test_result"]
    assert manifest["result"]["valid"] == result["best_valid_result"]
    assert manifest["result"]["best_epoch"] == read_checkpoint(result["checkpoint"])["epoch"]
    assert manifest["result"]["epochs"] == len(manifest["curve"]) == len(manifest["losses"]) == 4
    assert max(entry["score"] for entry in manifest["curve"]) == result["best_valid_score"]
    assert [entry["epoch"] for entry in manifest["curve"]] == [0, 1, 2, 3]
    assert (manifest["seed"], manifest["split_seed"], manifest["given"]["learning_rate"]) == (7, 7, 0.01)
    assert manifest["config"]["embedding_size"] == 64
    assert manifest["data"]["users"] == 80
    assert manifest["data"]["items"] == 60
    assert set(manifest["features"]) == {"text", "visual"}
    assert manifest["features"]["text"]["shape"][0] == 61
    assert manifest["parameters"] == sum(v.numel() for v in read_checkpoint(result["checkpoint"])["state_dict"].values())
    assert manifest["seconds"]["train"] == pytest.approx(result["train_seconds"], abs=1e-6)
    assert manifest["memory"]["peak_bytes"] > 50e6
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["checkpoint"] in result["checkpoint"]


def test_digests_tell_data_apart_and_not_orders(tmp_path):
    pairs, modalities, *_ = planted()
    found = []
    for name, these, features in (
        ("a", pairs, modalities),
        ("b", pairs[::-1], modalities),
        ("c", pairs[:-1], modalities),
        ("d", pairs, {**modalities, "text": modalities["text"] + 1}),
    ):
        write_dataset(tmp_path / name, "tiny", these, features, benchmark_filename=None)
        dataset = prepare(Config("VBPR", "tiny", config_dict={**QUIET, "data_path": str(tmp_path / name)})).dataset
        from recbole_ib.data.digest import interactions_digests, table_digest

        found.append((interactions_digests({"all": dataset}), {m: table_digest(t) for m, t in dataset.modalities.items()}))
    assert found[0][0] == found[1][0] == found[3][0] != found[2][0]
    assert found[0][1]["visual"] == found[3][1]["visual"]
    assert found[0][1]["text"] != found[3][1]["text"]


@pytest.mark.parametrize("model", ["BPR", "ItemKNN", "LightGCN"])
def test_recboles_own_models_leave_one_too(model, data_path):
    result, manifest = run(data_path, model)
    assert manifest["result"]["test"] == result["test_result"]
    assert manifest["features"] == {}


def test_a_run_without_a_checkpoint_leaves_one(data_path):
    result = run_recbole_ib("VBPR", "tiny", config_dict={**QUIET, "data_path": str(data_path)}, saved=False)
    assert result["checkpoint"] is None
    assert read_manifest(result["manifest"])["checkpoint"] is None


def test_a_resumed_run_names_its_best_epoch(data_path):
    first, _ = run(data_path, epochs=3)
    last = first["checkpoint"].replace(".pth", "-last.pth")
    again, manifest = run(data_path, epochs=4, resume_checkpoint=last)
    whole, expected = run(data_path, epochs=4)
    assert again["best_valid_score"] == whole["best_valid_score"]
    assert manifest["result"]["best_epoch"] == expected["result"]["best_epoch"]
    assert manifest["result"]["epochs"] == 4


def test_split_seed_fixes_the_split_and_nothing_else(data_path):
    digests = {}
    for seed, split in ((1, None), (2, None), (1, 5), (2, 5), (5, None)):
        _, manifest = run(data_path, epochs=1, seed=seed, split_seed=split)
        digests[seed, split] = manifest["data"]["test"]["digest"], manifest["result"]["best_valid_score"]
        assert manifest["split_seed"] == (seed if split is None else split)
    assert digests[1, 5][0] == digests[2, 5][0] == digests[5, None][0]
    assert len({digests[1, None][0], digests[2, None][0], digests[1, 5][0]}) == 3
    assert digests[1, 5][1] != digests[2, 5][1]


def test_a_ready_data_set_gives_the_same_numbers(data_path):
    config = Config("VBPR", "tiny", config_dict={**QUIET, "data_path": str(data_path)})
    dataset = create_dataset(config)
    scores = []
    for given in (None, copy.deepcopy(dataset), dataset):
        torch.rand(3)  # what ran before must not matter
        curve = []
        fit(prepare(config, given), callback=lambda epoch, score, curve=curve: curve.append((epoch, score)))
        scores.append(curve)
    assert len(scores[0]) == 4
    assert scores[0] == scores[1] == scores[2]


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "2020x"])
def test_a_wrong_split_seed_is_refused(wrong, data_path):
    with pytest.raises(ConfigurationError, match="split_seed is"):
        run(data_path, split_seed=wrong)


def test_recboles_own_entry_point_refuses_keys_that_it_does_not_read(data_path):
    with pytest.raises(ConfigurationError, match="split_seed is read by run_recbole_ib"):
        run_recbole(model="VBPR", dataset="tiny", config_dict={**QUIET, "data_path": str(data_path), "split_seed": 3})


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no manifest"), ("{", "no JSON"), ("[1]", "format 'list'"), (json.dumps({"format": "x"}), "format 'x'")],
)
def test_what_is_no_manifest_is_refused(content, said, tmp_path):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=said):
        read_manifest(path)


LARGE_BLOCK = """
import torch
from recbole_ib.utils.malloc import forget_peak, peak_memory
forget_peak()
before = peak_memory()
block = torch.ones(64 << 20, dtype=torch.uint8)
print(peak_memory() - before)
"""


def test_peak_memory_sees_a_large_block():
    """In another process: what this one has freed and kept may hold the block."""
    done = fresh_python("-c", LARGE_BLOCK)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 50e6


@pytest.mark.parametrize("continued", ["{}-last.pth", "{}.pth"])
def test_a_resumed_run_has_the_curve_and_the_seconds_of_its_first_part(continued, data_path):
    first, before = run(data_path, epochs=3)
    _, manifest = run(data_path, epochs=5, resume_checkpoint=continued.format(first["checkpoint"].removesuffix(".pth")))
    _, whole = run(data_path, epochs=5)
    assert [(e["epoch"], e["score"]) for e in manifest["curve"]] == [(e["epoch"], e["score"]) for e in whole["curve"]]
    seconds = [entry["seconds"] for entry in manifest["curve"]]
    assert seconds == sorted(seconds)
    assert manifest["curve"][0] == before["curve"][0]
    assert manifest["seconds"]["train"] >= seconds[-1]
