"""The measures, by naive forms of their equations, and a run that must not notice them."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.utils import get_trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recbole_ib import list_models
from recbole_ib.bottleneck.alignment import alignment, mean_row, median_rbf_kernel, sample_ids, variance_share
from recbole_ib.bottleneck.kernels import center
from recbole_ib.bottleneck.mutual_information import gaussian_information
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
    evaluation_mode,
    item_ids,
    read_diagnostics,
    why_unavailable,
)
from tests.support.training import STAGES

SIZES = {"diagnostics_items": 40, "diagnostics_users": 20}
SMALL = {"embedding_size": 8, "feature_dim": 8}


@pytest.fixture
def build(build):
    return lambda name, **changes: build(name, **{**STAGES.get(name, {}), **changes})


def run(build, name, epochs, resume=None, saved=True, **changes):
    config, model, train, valid, test = build(name, epochs=epochs, **changes)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    if resume:
        trainer.resume_checkpoint(resume)
    trainer.fit(train, valid, verbose=False, saved=saved)
    return trainer, trainer.evaluate(test, load_best_model=saved)


def measured(trainer):
    """epoch -> name -> value; a name that stands twice is an error."""
    found = {}
    for record in read_diagnostics(diagnostics_path(trainer.saved_model_file)):
        assert record.name not in found.setdefault(record.epoch, {})
        found[record.epoch][record.name] = record.value
    return found


def looker(model, train, items=40, users=20):
    return Diagnostics(model, train._dataset, Settings(items, users))


def shares_of(model, train):
    found = looker(model, train).measure()
    return {n.removeprefix("share/"): v for n, v in found.items() if n.startswith("share/")}


# -- measures ---------------------------------------------------------------------------------------------------------


def naive_kernel(x):
    x = x.double().numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    n = len(x)
    square = [[((x[i] - x[j]) ** 2).sum() for j in range(n)] for i in range(n)]
    pairs = sorted(square[i][j] for i in range(n) for j in range(n) if i != j)
    median = pairs[(len(pairs) - 1) // 2]
    return np.array([[math.exp(-d / (2 * median)) for d in row] for row in square])


def naive_hsic(a, b):
    n = len(a)
    h = np.eye(n) - 1 / n
    return np.trace(a @ h @ b @ h) / (n - 1) ** 2


@pytest.mark.parametrize("n", [2, 3, 17])
def test_normalized_hsic_equals_the_naive_one(n):
    x, y = torch.randn(n, 5), torch.randn(n, 3)
    a, b = naive_kernel(x), naive_kernel(y)
    np.testing.assert_allclose(median_rbf_kernel(x).numpy(), a, atol=1e-12)
    found = alignment(center(median_rbf_kernel(x)), center(median_rbf_kernel(y)))
    assert float(found.hsic) == pytest.approx(naive_hsic(a, b), rel=1e-9)
    expected = naive_hsic(a, b) / math.sqrt(naive_hsic(a, a) * naive_hsic(b, b))
    assert float(found.normalized) == pytest.approx(expected, rel=1e-9)


def test_rows_that_are_the_same_have_one():
    x = torch.randn(50, 4)
    for y in (x, 3 * x, x[:, [2, 0, 3, 1]]):
        found = alignment(center(median_rbf_kernel(x)), center(median_rbf_kernel(y)))
        assert float(found.normalized) == pytest.approx(1)
        assert float(found.independent) < 0.5


def test_independent_rows_have_the_independence_level():
    torch.manual_seed(0)
    found = alignment(center(median_rbf_kernel(torch.randn(600, 4))), center(median_rbf_kernel(torch.randn(600, 6))))
    assert 0 < float(found.independent) < 0.02
    assert float(found.normalized) == pytest.approx(float(found.independent), abs=0.005)


def test_the_independence_level_is_the_mean_over_all_permutations():
    from itertools import permutations

    a, b = (center(median_rbf_kernel(torch.randn(5, 3))) for _ in range(2))
    orders = [list(p) for p in permutations(range(5))]
    mean = np.mean([float(alignment(a, b[p][:, p]).normalized) for p in orders])
    assert float(alignment(a, b).independent) == pytest.approx(mean)


def test_a_side_without_any_difference_depends_on_nothing():
    x = torch.randn(30, 4)
    for constant in (torch.zeros(30, 4), torch.randn(1, 4).expand(30, 4), torch.randn(30, 1).abs() * torch.randn(1, 4)):
        kernel = median_rbf_kernel(constant)
        assert torch.equal(kernel, torch.ones_like(kernel))
        found = alignment(center(median_rbf_kernel(x)), center(kernel))
        assert [float(v) for v in found[1:]] == [0, 0]
        assert float(found.hsic) == pytest.approx(0, abs=1e-15)


def test_many_equal_rows_leave_a_width():
    x = torch.randn(3, 4)[torch.tensor([0] * 20 + [1, 2])]
    kernel = median_rbf_kernel(x)
    assert torch.equal(kernel[:20, :20], torch.ones(20, 20, dtype=torch.double))
    assert float(kernel[0, 20]) < 0.9


@pytest.mark.parametrize("shape", [(1, 3), (4,), (2, 2, 2)])
def test_shapes_without_pairs_of_rows_are_refused(shape):
    with pytest.raises(ValueError, match="at least 2 rows"):
        median_rbf_kernel(torch.ones(shape))


@pytest.mark.parametrize("shapes", [((3, 3), (4, 4)), ((3, 2), (3, 2)), ((1, 1), (1, 1))])
def test_kernels_of_other_sizes_are_refused(shapes):
    with pytest.raises(ValueError, match="two square kernels"):
        alignment(*(torch.ones(s) for s in shapes))


def test_the_share_is_the_lost_spread():
    s, without = torch.randn(6, 9), torch.randn(6, 9)
    lost = np.mean([np.var((s - without)[u].numpy(), ddof=1) for u in range(6)])
    whole = np.mean([np.var(s[u].numpy(), ddof=1) for u in range(6)])
    assert float(variance_share(s, without)) == pytest.approx(lost / whole, rel=1e-5)
    assert float(variance_share(s, s + torch.randn(6, 1))) == pytest.approx(0, abs=1e-12)
    assert float(variance_share(torch.ones(6, 9), without)) == 0


def test_the_mean_of_equal_rows_is_that_row_to_the_last_digit():
    table = torch.randn(1, 7).expand(1001, 7)
    mask = torch.rand(1001) < 0.7
    assert torch.equal(mean_row(table, mask), table)
    rows = torch.randn(5, 3)
    mask = torch.tensor([False, True, True, False, True])
    torch.testing.assert_close(mean_row(rows, mask), rows[[1, 2, 4]].mean(dim=0).expand(5, 3))


# -- shares of a model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["VBPR", "VLightGCN", "MMGCN", "SLMRec"])
def test_a_modality_whose_weights_are_zero_has_no_share(build, name):
    _, model, train, _, _ = build(name, **SMALL, project_above=0)
    with torch.no_grad():
        if name == "VBPR":
            model.encoder.linear["content"].weight[:, : model.encoder.columns["text"]] = 0
        else:
            model.encoder.linear[model.modalities[0]].weight.zero_()
    shares = shares_of(model, train)
    assert list(shares) == model.modalities
    none, some = shares.values()
    assert none == pytest.approx(0, abs=1e-9)
    assert some > 1e-3


def test_the_only_contributor_has_all_of_the_score(build):
    _, model, train, _, _ = build("VBPR", **SMALL)
    with torch.no_grad():
        model.item_embedding.weight.zero_()
        model.encoder.linear["content"].weight[:, : model.encoder.columns["text"]] = 0
    none, every = shares_of(model, train).values()
    assert none == pytest.approx(0, abs=1e-9)
    assert every == pytest.approx(1, abs=1e-6)


def test_shares_equal_those_of_the_scores_by_hand(build):
    """VBPR: the contribution of a modality to s_ui is <p_u, W_m f_mi>."""
    _, model, train, _, _ = build("VBPR", **SMALL)
    found = looker(model, train)
    content = model.user_embedding.weight[found.users, 8:].detach().double()
    user, item = (x.detach().double() for x in model())
    whole = (user[found.users] @ item[found.items].T).var(dim=1).mean()
    for name, part in model.encoder.parts(found.items).items():
        expected = (content @ part.detach().double().T).var(dim=1).mean() / whole
        assert shares_of(model, train)[name] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("name", ["SGFD", "InvRL"])
def test_parts_that_do_not_make_the_latents_are_not_measured(build, name):
    """A plug-in that changes what VBPR's one projection does: its rows are no sum over the modalities any more."""
    trainer, _ = run(build, name, 1, saved=False, backbone="VBPR", diagnostics=True, **SIZES, **SMALL)
    names = measured(trainer)[0]
    latents = trainer.model.latents()
    encoder = trainer.model.feature_encoder
    projections = getattr(encoder, "replaced", encoder)  # SGFD's students stand on VBPR's
    sums = projections.fuse(projections.parts())
    assert list(projections.parts()) == ["text", "visual"]
    apart = not torch.allclose(sums["content"], latents["content"], atol=1e-5)
    assert ("share/content" in names) is apart
    assert ("share/text" in names) is not apart
    assert any(n.startswith("information/") for n in names) is not apart


@pytest.mark.parametrize("name", ["BM3", "FREEDOM"])
def test_latents_outside_the_score_have_no_share(build, name):
    _, model, train, _, _ = build(name, **SMALL)
    found = looker(model, train).measure()
    assert not [n for n in found if n.startswith("share/")]
    assert "nhsic_features/text" in found


# -- samples ----------------------------------------------------------------------------------------------------------


def test_the_sample_is_drawn_once_from_what_has_features_and_interactions(build):
    _, model, train, _, _ = build("VBPR")
    dataset = train._dataset
    dataset.has_feature["text"][:30] = False
    dataset.has_feature["visual"][:20] = False
    first = looker(model, train, items=10, users=10)
    torch.manual_seed(5)
    again = looker(model, train, items=10, users=10)
    assert torch.equal(first.items, again.items)
    assert torch.equal(first.users, again.users)
    assert first.items.numel() == 10
    assert first.items.min() >= 20
    assert set(first.users.tolist()) <= set(dataset.inter_feat["user_id"].tolist())
    everything = looker(model, train, items=10**6, users=10**6)
    assert everything.items.tolist() == list(range(20, dataset.item_num))
    assert 0 not in everything.users.tolist()


def test_a_modality_is_measured_on_the_items_that_have_it(build):
    _, model, train, _, _ = build("VLightGCN", **SMALL)
    dataset = train._dataset
    dataset.has_feature["text"][:30] = False
    found = looker(model, train, items=1000).measure()
    latents = {m: z.detach() for m, z in model.latents().items()}
    features = model.encoder.features()
    rows = {"text": torch.arange(30, dataset.item_num), "visual": torch.arange(1, dataset.item_num)}
    for name, ids in rows.items():
        z, m = naive_kernel(latents[name][ids]), naive_kernel(features[name][ids])
        assert found[f"hsic_features/{name}"] == pytest.approx(naive_hsic(z, m), rel=1e-5)
        q = naive_kernel(model.item_embedding.weight.detach()[ids])
        expected = naive_hsic(z, q) / math.sqrt(naive_hsic(z, z) * naive_hsic(q, q))
        assert found[f"nhsic_ids/{name}"] == pytest.approx(expected, rel=1e-5)
    a, b = model.modalities
    both = rows["text"]
    assert found[f"information/{a}|{b}"] == pytest.approx(float(gaussian_information(latents[a][both], latents[b][both])))


def test_a_modality_that_no_item_has_is_left_out(build):
    _, model, train, _, _ = build("VLightGCN", **SMALL)
    train._dataset.has_feature["text"][:] = False
    found = looker(model, train).measure()
    assert not [n for n in found if "text" in n]
    assert "share/visual" in found


def test_sample_ids_are_sorted_and_distinct():
    mask = torch.rand(100) < 0.5
    ids = sample_ids(mask, 7, torch.Generator().manual_seed(1))
    assert ids.tolist() == sorted(set(ids.tolist()))
    assert bool(mask[ids].all())


def test_trained_features_are_measured_as_they_are_now(build):
    _, model, train, _, _ = build("MGCN", **SMALL, raw_features="tuned")
    found = looker(model, train)
    before = found.measure()
    assert found.measure() == before
    with torch.no_grad():
        model.encoder.table("text").normal_()
    assert found.measure()["hsic_features/text"] != before["hsic_features/text"]


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
        ("MRdIBVBPR", {"redundancy_estimator": "mine", "redundancy_weight": 0.1}),
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


@pytest.mark.parametrize("name", list_models())
def test_every_model_can_be_measured(build, name):
    trainer, _ = run(build, name, 2, saved=False, diagnostics=True, **SIZES, **SMALL)
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
        if len(parts) > 1:
            a, b = parts
            assert values[f"information/{a}|{b}"] >= 0
    assert found[1]["valid/recall@20"] == pytest.approx(trainer._latest_valid_result["recall@20"])


@pytest.mark.parametrize("name", ["LATTICE", "MICRO"])
def test_a_model_without_latents_records_losses_and_metric(build, name):
    trainer, _ = run(build, name, 1, item_graph="frozen", diagnostics=True)
    found = measured(trainer)
    assert {n.split("/")[0] for n in found[0]} == {"loss", "valid"}
    # the initial point has neither
    assert -1 not in found


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
    again = Diagnostics(model, train._dataset, Settings(40, 20)).measure()
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


# -- looking on -------------------------------------------------------------------------------------------------------


def test_looking_on_leaves_modes_cache_and_random_state(build):
    _, model, train, _, _ = build("IBMRec")
    model.train()
    model.item_graph_layer.eval()
    modes = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    with evaluation_mode(model):
        assert not any(m.training for m in model.modules())
        assert not torch.is_grad_enabled()
        torch.rand(3)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    model.eval()
    kept = model.embeddings()
    looker(model, train).measure()
    assert model.embeddings() is kept
    assert all(torch.equal(a, b) for a, b in zip(kept, model(), strict=True))


def test_modes_come_back_after_an_error(build):
    _, model, _, _, _ = build("VBPR")
    with pytest.raises(ZeroDivisionError), evaluation_mode(model):
        raise ZeroDivisionError
    assert model.training


def test_the_cache_is_right_after_a_measure_in_training_mode(build):
    _, model, train, _, _ = build("VLATTICE")
    model.train()
    looker(model, train).measure()
    assert model._embeddings is None
    with torch.no_grad():
        model.item_embedding.weight.add_(1.0)
    model.eval()
    assert all(torch.equal(a, b) for a, b in zip(model.embeddings(), model(), strict=True))


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
        "kl",
        "gate",
    ):
        assert f"`{family}/" in text
