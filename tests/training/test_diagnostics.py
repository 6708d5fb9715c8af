"""A measured run is the same run; its settings, and the file that it writes."""

import csv
import math
from pathlib import Path

import pytest
import torch
from recbole.utils import get_trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recbole_ib import list_models
from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError
from recbole_ib.training import diagnostics
from recbole_ib.training.checkpoint import last_path
from recbole_ib.training.diagnostics import (
    BEFORE_TRAINING,
    Diagnostics,
    DiagnosticsFile,
    Settings,
    diagnostics_path,
    diagnostics_settings,
    item_ids,
    read_diagnostics,
    why_unavailable,
)
from tests.support.diagnostics import looker, measured, run
from tests.support.mrdib import PAPER_MRDIB
from tests.support.training import STAGES

SIZES = {"diagnostics_items": 40, "diagnostics_users": 20}
SMALL = {"embedding_size": 8, "feature_dim": 8}


@pytest.fixture
def build(build):
    return lambda name, **changes: build(name, **{**STAGES.get(name, {}), **changes})


# -- a run ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("IBMRec", {}),
        ("LATTICE", {"item_graph": "learned"}),
        ("MICRO", {}),
        ("FREEDOM", {"edge_dropout": 0.5}),
        ("SGFD", {}),
        ("InvRL", {}),
        ("SLMRec", {"ssl_task": "fd"}),
        # its redundancy is estimated by permutation: the one measure that draws
        ("MRdIBVBPR", {**PAPER_MRDIB, "redundancy_weight": 0.1}),
    ],
)
def test_a_measured_run_is_the_same_run(build, name, changes):
    """Equal, not close: losses of every epoch, all metrics, all weights."""
    plain, expected = run(build, name, 4, **changes)
    looked_at, got = run(build, name, 4, diagnostics=True, **SIZES, **changes)
    assert looked_at.train_loss_dict == plain.train_loss_dict
    assert looked_at.best_valid_score == plain.best_valid_score
    assert looked_at.best_valid_result == plain.best_valid_result
    assert got == expected
    weights = plain.model.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in looked_at.model.state_dict().items())
    assert sorted(measured(looked_at)) == [-1, 0, 1, 2, 3]
    assert not diagnostics_path(plain.saved_model_file).exists()


def test_off_computes_nothing(build, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("measured")

    monkeypatch.setattr("recbole_ib.training.trainer.Diagnostics", refuse)
    trainer, _ = run(build, "VBPR", 1)
    assert not list(Path(trainer.checkpoint_dir).glob("*.csv"))


@pytest.mark.parametrize(("name", "changes"), [*((name, {}) for name in list_models()), ("MRdIBMGCN", PAPER_MRDIB)])
def test_every_model_can_be_measured(build, name, changes):
    trainer, _ = run(build, name, 2, saved=False, diagnostics=True, **SIZES, **SMALL, **changes)
    found, model = measured(trainer), trainer.model
    assert sorted(found) == [-1, 0, 1]
    assert all(math.isfinite(value) for values in found.values() for value in values.values())
    for epoch, values in found.items():
        families = {n.split("/")[0] for n in values}
        assert ({"loss", "valid"} <= families) is (epoch >= 0)
        for latent in model.latents():
            assert 0 <= values[f"nhsic_features/{latent}"] <= 1 + 1e-12
            assert (f"nhsic_ids_independent/{latent}" in values) is (item_ids(model) is not None)
        parts = {} if model.feature_encoder is None else model.feature_encoder.parts()
        for modality in parts:
            assert (f"share/{modality}" in values) is model.latents_in_score
            assert values.get(f"share/{modality}", 0) >= 0
        for bottleneck in model.ib.values():
            assert set(bottleneck.diagnostics(model, torch.arange(1, 9))) <= set(values)
        if changes:
            assert {"kl/text", "noise/visual", "redundancy/text|visual"} <= set(values)
        if len(parts) > 1:
            a, b = parts
            assert values[f"information/{a}|{b}"] >= 0
    assert found[1]["valid/recall@20"] == pytest.approx(trainer._latest_valid_result["recall@20"])


@pytest.mark.parametrize("name", ["LATTICE", "MICRO"])
def test_a_model_without_latents_records_losses_metric_and_gradients(build, name):
    trainer, _ = run(build, name, 1, item_graph="frozen", diagnostics=True)
    found = measured(trainer)
    gradients = {"gradient", "gradient_norm"}
    assert {n.split("/")[0] for n in found[0]} == {"loss", "valid", *gradients}
    # the initial point has neither loss nor metric
    assert {n.split("/")[0] for n in found[-1]} == gradients


def test_the_file_holds_what_a_recomputation_gives(build):
    trainer, _ = run(build, "IBMRec", 3, diagnostics=True, learning_rate=0.01, **SIZES)
    with open(diagnostics_path(trainer.saved_model_file), encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["epoch", "name", "value"]
    found = {(int(e), n): float(v) for e, n, v in rows}
    assert len(found) == len(rows)
    # the run's best epoch, from its checkpoint in a fresh model
    _, model, train, _, _ = build("IBMRec")
    state = torch.load(trainer.saved_model_file, weights_only=True)
    model.load_state_dict(state["state_dict"])
    again = Diagnostics(model, train, Settings(40, 20)).measure()
    assert {n for e, n in found if e == state["epoch"] and n.split("/")[0] not in ("loss", "valid")} == set(again)
    for name, value in again.items():
        assert found[state["epoch"], name] == pytest.approx(value, rel=1e-6, abs=1e-9)
    assert found[state["epoch"], "valid/recall@20"] == pytest.approx(state["best_valid_result"]["recall@20"])
    for epoch, total in trainer.train_loss_dict.items():
        terms = [v for (e, n), v in found.items() if e == epoch and n.startswith("loss/")]
        assert sum(terms) == pytest.approx(total)
    # and the initial point
    _, fresh, train, _, _ = build("IBMRec")
    for name, value in looker(fresh, train).measure().items():
        assert found[BEFORE_TRAINING, name] == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_a_resumed_run_goes_on_in_the_same_file(build):
    settings = {"diagnostics": True, **SIZES}
    whole, _ = run(build, "IBMRec", 5, **settings)
    first, _ = run(build, "IBMRec", 3, **settings)
    before = measured(first)
    resumed, _ = run(build, "IBMRec", 5, resume=last_path(first.saved_model_file), **settings)
    assert resumed.saved_model_file == first.saved_model_file
    assert measured(resumed) == measured(whole)
    assert {e: v for e, v in measured(resumed).items() if e < 3} == before


def test_resuming_from_an_earlier_epoch_drops_the_later_ones(build):
    settings = {"diagnostics": True, **SIZES}
    first, _ = run(build, "VBPR", 2, **settings)
    earlier = {path: path.read_bytes() for path in (Path(first.saved_model_file), last_path(first.saved_model_file))}
    further, _ = run(build, "VBPR", 4, resume=last_path(first.saved_model_file), **settings)
    whole = measured(further)
    assert sorted(whole) == [-1, 0, 1, 2, 3]
    with open(diagnostics_path(first.saved_model_file), "a", encoding="utf-8") as file:
        file.write("9,share/text,0.5\n10,share/te")
    for path, content in earlier.items():
        path.write_bytes(content)
    again, _ = run(build, "VBPR", 4, resume=last_path(first.saved_model_file), **settings)
    assert measured(again) == whole


def test_diagnostics_may_be_switched_on_and_off_by_a_resumed_run(build):
    first, _ = run(build, "VBPR", 2)
    last = last_path(first.saved_model_file)
    resumed, _ = run(build, "VBPR", 4, resume=last, diagnostics=True, diagnostics_items=10, diagnostics_users=3)
    assert sorted(measured(resumed)) == [2, 3]
    again, _ = run(build, "VBPR", 5, resume=last)
    assert sorted(measured(again)) == [2, 3]


def test_tensorboard_and_the_log_are_told(build, caplog):
    with caplog.at_level("INFO"):
        trainer, _ = run(build, "VLightGCN", 2, diagnostics=True, saved=False, **SIZES)
    path = diagnostics_path(trainer.saved_model_file)
    assert len([r for r in caplog.records if str(path) in r.getMessage()]) == 1
    assert not [r for r in caplog.records if "illegal" in r.getMessage()]
    assert path.parent == Path(trainer.checkpoint_dir)
    assert not Path(trainer.saved_model_file).exists()
    trainer.tensorboard.flush()
    events = EventAccumulator(trainer.tensorboard.log_dir)
    events.Reload()
    a, b = trainer.model.modalities
    for tag, name in (("share/text", "share/text"), (f"information/{a}_{b}", f"information/{a}|{b}")):
        found = events.Scalars(f"Information/{tag}")
        assert [e.step for e in found] == [-1, 0, 1]
        expected = [values[name] for _, values in sorted(measured(trainer).items())]
        assert [e.value for e in found] == pytest.approx(expected)


def test_only_evaluated_epochs_are_measured(build):
    trainer, _ = run(build, "VBPR", 4, diagnostics=True, eval_step=2, **SIZES)
    assert sorted(measured(trainer)) == [-1, 1, 3]
    config, model, train, _, _ = build("VBPR", epochs=2, diagnostics=True)
    trainer = get_trainer(config["MODEL_TYPE"], "VBPR")(config, model)
    trainer.fit(train, None, verbose=False)
    assert sorted(measured(trainer)) == [-1]


# -- settings and files -----------------------------------------------------------------------------------------------


def test_off_by_default(build):
    config, *_ = build("VBPR")
    assert config["diagnostics"] is False
    assert diagnostics_settings(config) is None
    assert why_unavailable(config) is None


def test_settings_are_read_and_checked(build):
    config, *_ = build("VBPR", diagnostics=True)
    assert diagnostics_settings(config) == Settings(2000, 256)
    for key, value, message in (
        ("diagnostics", "often", "diagnostics is 'often'; allowed: True, False"),
        ("diagnostics_items", 1, "diagnostics_items is 1; it takes a whole number, 2 or more"),
        ("diagnostics_users", 0, "diagnostics_users is 0"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            build("VBPR", **{"diagnostics": True, key: value})
        config, model, *_ = build("VBPR", diagnostics=True)
        config[key] = value
        with pytest.raises(ConfigurationError, match=message):
            get_trainer(config["MODEL_TYPE"], "VBPR")(config, model)


def test_what_cannot_be_measured_is_said(build, planted_path):
    base = {"data_path": str(planted_path), "use_gpu": False}
    assert "does nothing for BPR" in why_unavailable(Config("BPR", "planted", config_dict={**base, "diagnostics": True}))
    assert why_unavailable(Config("BPR", "planted", config_dict=base)) is None
    assert why_unavailable(build("VBPR", diagnostics=True)[0]) is None
    assert "eval_step is 0" in why_unavailable(build("VBPR", diagnostics=True, eval_step=0)[0])


def test_a_file_is_continued_replaced_and_read(tmp_path):
    path = tmp_path / "run-diagnostics.csv"
    file = DiagnosticsFile(path)
    file.append(-1, {"a/x,y": 0.1 + 0.2})
    file.append(0, {"a/x,y": 1e-300, "b": float("nan")})
    records = read_diagnostics(path)
    assert records[:2] == [(-1, "a/x,y", 0.1 + 0.2), (0, "a/x,y", 1e-300)]
    assert math.isnan(records[2].value)
    DiagnosticsFile(path, first_epoch=0).append(0, {"b": 2.0})
    assert read_diagnostics(path) == [(-1, "a/x,y", 0.1 + 0.2), (0, "b", 2.0)]
    DiagnosticsFile(path)
    assert read_diagnostics(path) == []
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        (b"", "starts with nothing"),
        (b"a,b\n1,2\n", "starts with a, b; needed are the columns epoch, name, value"),
        (b"epoch,name,value\nx,share,1\n0,share,1\n", r"line 2: 'x,share,1'"),
        (b"\xff\xfe\x00", "is no csv file"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "other.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        read_diagnostics(path)


def test_a_cut_off_last_line_is_left_out(tmp_path):
    path = tmp_path / "cut.csv"
    path.write_text("epoch,name,value\n0,share/text,0.25\n1,share/text,0.")
    assert read_diagnostics(path) == [(0, "share/text", 0.25)]


def test_the_path_lies_beside_the_checkpoint():
    assert diagnostics_path("saved/VBPR-x-1.2.pth") == Path("saved/VBPR-x-1.2-diagnostics.csv")


def test_the_module_names_what_it_writes():
    """Every family that a run writes is explained in the documentation."""
    text = (Path(diagnostics.__file__).parents[2] / "docs" / "diagnostics.md").read_text(encoding="utf-8")
    for family in (
        "hsic_features",
        "nhsic_features_independent",
        "nhsic_ids",
        "information",
        "share",
        "valid",
        "loss",
        "gradient",
        "gradient_norm",
        "kl",
        "gate",
    ):
        assert f"`{family}/" in text
