"""Checkpoints that version 0.1.0 wrote, after two epochs on the planted data: they load, recommend and go on as they would have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import recbole_ib
from recbole_ib.errors import CheckpointError
from recbole_ib.training.checkpoint import FORMAT, read_checkpoint
from recbole_ib.training.upgrade import renamed_state
from tests.support.bottlenecks import PAPER_IBMREC
from tests.support.mrdib import PAPER_MRDIB

KEPT = Path(__file__).with_name("checkpoints")
EXPECTED = json.loads((KEPT / "expected.json").read_text())
#: the settings of the runs
SETTINGS = {
    "use_gpu": False, "show_progress": False, "seed": 1, "embedding_size": 4, "feature_dim": 4, "gate_hidden_size": 4,
    "critic_hidden_size": 4, "decoder_hidden_size": 4, "knn_k": 5, "train_batch_size": 128, "topk": [5], "valid_metric": "Recall@5",
    "save_last": True, "stopping_step": 50,
}  # fmt: skip


#: what 0.1.0 had for defaults, and what is another one now
OLD_DEFAULTS = {"IBMRec": PAPER_IBMREC, "MRdIBMGCN": PAPER_MRDIB, "FREEDOM+fib+gib": PAPER_IBMREC}


@pytest.fixture
def kept(tmp_path):
    """``kept(model)``: a copy of its checkpoint that a test may write beside."""

    def copy(model: str) -> Path:
        return Path(shutil.copy(KEPT / f"{model}.pth", tmp_path))

    return copy


@pytest.mark.parametrize("model", EXPECTED)
def test_it_recommends_what_0_1_0_recommended(model, kept, planted_path):
    found = recbole_ib.load(kept(model), data_path=planted_path).recommend(["u1", "u2"], k=5)
    for user, items in EXPECTED[model]["recommended"].items():
        own = found[found["user_id"] == user]
        assert own["item_id"].tolist() == [item for item, _ in items]
        assert own["score"].tolist() == pytest.approx([score for _, score in items], rel=1e-4)


@pytest.mark.parametrize("model", EXPECTED)
def test_it_goes_on_as_0_1_0_would_have(model, kept, planted_path, tmp_path):
    """Weights, optimizers and random state: the losses of the epochs after it are those of the run that was never interrupted."""
    settings = {**SETTINGS, "data_path": str(planted_path), "checkpoint_dir": str(tmp_path / "saved"), "epochs": 4}
    settings["resume_checkpoint"] = str(kept(model))
    result = recbole_ib.run_recbole_ib(model, "planted", config_dict={**settings, **OLD_DEFAULTS[model]})
    losses = json.loads(Path(result["manifest"]).read_text())["losses"]
    wanted = EXPECTED[model]["losses"]
    assert losses.keys() == wanted.keys()
    assert [losses[epoch] for epoch in wanted] == pytest.approx(list(wanted.values()), rel=1e-3)


@pytest.mark.parametrize("model", EXPECTED)
def test_with_todays_defaults_it_is_another_run(model, kept, planted_path, tmp_path):
    settings = {**SETTINGS, "data_path": str(planted_path), "checkpoint_dir": str(tmp_path / "saved"), "epochs": 4}
    with pytest.raises(CheckpointError, match="of a run with other settings") as refusal:
        recbole_ib.run_recbole_ib(model, "planted", config_dict={**settings, "resume_checkpoint": str(kept(model))})
    assert [key for key in OLD_DEFAULTS[model] if f" {key}: {OLD_DEFAULTS[model][key]!r} then, " not in str(refusal.value)] == []


@pytest.mark.parametrize("model", EXPECTED)
def test_its_tensors_have_todays_names_and_order(model, kept, build):
    state = read_checkpoint(kept(model))
    assert state["format"] == FORMAT
    name, _, bottlenecks = model.partition("+")
    small = {key: SETTINGS[key] for key in SETTINGS if key.endswith(("_size", "_dim")) and "batch" not in key}
    _, network, *_ = build(
        name, **small, **OLD_DEFAULTS[model], **({"bottleneck": bottlenecks.replace("+", ",")} if bottlenecks else {})
    )
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in state["state_dict"].items()} == shapes


def test_every_kind_of_old_name():
    old = [
        "item_view.views.text.graph.weights.logits", "projections.linear.text.weight", "second.text.bias",
        "layers.visual.0.neighbours.weight", "gib.gate.target.weight", "gib.text.gate.output.bias",
        "gate_projections.linear.text.bias", "variance.text.linear.weight", "prior_scale_text", "redundancy.critics.0.a",
        "decoders.decoders.0.0.weight", "user_embedding.weight", "purifier.gate.text.weight",
    ]  # fmt: skip
    new = [
        "item_graph_layer.views.text.graph.weights.logits", "encoder.first.linear.text.weight", "encoder.second.text.bias",
        "layers.visual.0.neighbors.weight", "ib.gib.gates.shared.gate.target.weight", "ib.gib.gates.text.gate.output.bias",
        "ib.gib.encoder.linear.text.bias", "ib.mrdib.gaussian.variance.text.linear.weight", "ib.mrdib.gaussian.scale_text",
        "ib.mrdib.redundancy.critics.0.a", "ib.mrdib.decoders.decoders.0.0.weight", "user_embedding.weight", "purifier.gate.text.weight",
    ]  # fmt: skip
    assert list(renamed_state(dict.fromkeys(old))) == new
    plain = {name: None for name in old if not name.startswith("second.")}
    assert "encoder.linear.text.weight" in renamed_state(plain)
    wrapped = {f"backbone.{name}": None for name in plain} | {"students.replaced.linear.text.weight": None}
    renamed = renamed_state(wrapped)
    assert {"backbone.encoder.linear.text.weight", "students.replaced.linear.text.weight"} <= renamed.keys()


def test_a_format_of_the_future_is_refused(kept, tmp_path):
    state = torch.load(kept("IBMRec"), weights_only=True)
    torch.save({**state, "format": "recbole_ib 3"}, tmp_path / "later.pth")
    with pytest.raises(CheckpointError, match="format 'recbole_ib 3', this one reads 'recbole_ib 2'"):
        read_checkpoint(tmp_path / "later.pth")
