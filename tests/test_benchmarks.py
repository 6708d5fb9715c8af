"""The benchmarks' data shapes, worker processes and tables; no assertion on how long anything takes."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import profile_model, scale, shapes, speed, workers
from benchmarks.shapes import Shape
from benchmarks.workers import Contestant, Measured

TINY = Shape("tiny", 120, 90, 1000, {"image": 12, "text": 8})
SMALL = {"train_batch_size": 128, "knn_k": 5}
IMPOSSIBLE = "VBPR+gib"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return shapes.make(TINY, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def impossible(tiny):
    """A contestant that cannot be built; asked in this process, the answer is the one that a worker gives."""
    contestant, answers = Contestant(IMPOSSIBLE, "ours", IMPOSSIBLE, "VBPR", SMALL), io.StringIO()
    spec = {**workers.options(tiny, "tiny"), **contestant._asdict()}
    workers.serve([json.dumps({"command": "build", "spec": spec})], answers)
    return Measured(contestant, json.loads(answers.getvalue())["error"])


@pytest.fixture(scope="module")
def measured(tiny, impossible):
    """One group, the reference and a model with bottlenecks; and what cannot be built."""
    contestants = [
        Contestant("VBPR", "ours", "VBPR", settings=SMALL),
        Contestant("IBMRec", "ours", "IBMRec", "VLATTICE", SMALL),
    ]
    results = workers.run_group(contestants, workers.options(tiny, "tiny"), turns=2, batches=2, evaluations=1, report=str)
    return speed.merge([{**results, IMPOSSIBLE: impossible}], "VBPR")


def test_a_shape_is_what_it_says(tiny):
    pairs = pd.read_csv(tiny / "tiny" / "tiny.inter", sep="\t")
    users, items = (pairs[column].value_counts() for column in pairs)
    assert (len(pairs), len(users), len(items)) == (1000, 120, 90)
    assert users.min() >= shapes.LEAST
    assert items.min() >= 1
    assert not pairs.duplicated().any()
    assert items.max() > 2 * items.median() > 4 * items.min()
    for name, width in TINY.modalities.items():
        table = np.load(tiny / "tiny" / f"{name}.npy")
        assert (table.shape, table.dtype) == ((90, width), np.float32)


def test_a_seed_gives_the_same_files_and_another_seed_others(tiny, tmp_path):
    again, other = shapes.make(TINY, tmp_path / "again"), shapes.make(TINY, tmp_path / "other", seed=1)
    for file in ("tiny.inter", "image.npy", "text.npy", "items.tokens", "tiny.yaml"):
        assert (again / "tiny" / file).read_bytes() == (tiny / "tiny" / file).read_bytes()
    assert (other / "tiny" / "tiny.inter").read_bytes() != (tiny / "tiny" / "tiny.inter").read_bytes()


def test_a_shape_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "tiny").mkdir()
    assert shapes.make(TINY, tmp_path) == tmp_path
    assert not list((tmp_path / "tiny").iterdir())


@pytest.mark.parametrize(
    ("name", "size"),
    [("baby", (19_445, 7_050, 160_792)), ("sports", (35_598, 18_357, 296_337)), ("clothing", (39_387, 23_033, 278_677)),
     ("series-1m", (500_000, 1_000_000, 10_000_000)), ("series-20k", (10_000, 20_000, 200_000))],
)  # fmt: skip
def test_named_shapes(name, size):
    assert shapes.shape_of(name)[1:4] == size


@pytest.mark.parametrize("name", ["babies", "series-", "series-many"])
def test_an_unknown_shape_is_named(name):
    with pytest.raises(ValueError, match=f"no shape '{name}'; allowed: baby"):
        shapes.shape_of(name)


def test_active_users_and_a_small_catalogue_still_give_distinct_pairs():
    shape = Shape("dense", 200, 40, 2000, {})
    users, items = shapes.interactions(shape, np.random.default_rng(0))
    assert len(set(zip(users.tolist(), items.tolist(), strict=True))) == 2000
    assert np.bincount(users).min() >= shapes.LEAST
    with pytest.raises(ValueError, match="too few interactions"):
        shapes.interactions(Shape("empty", 200, 40, 900, {}), np.random.default_rng(0))


@pytest.mark.slow
def test_plain_recbole_runs_with_compat_alone(tiny):
    contestant = Contestant("BPR", "plain", "BPR", settings={"train_batch_size": 128})
    found = workers.run_group([contestant], workers.options(tiny, "tiny"), 1, 2, 1, report=str)["BPR"]
    assert found.error is None
    assert found.epoch > 0


@pytest.mark.parametrize("name", ["VBPR", "IBMRec"])
def test_workers_measure(measured, name):
    found = measured[name]
    assert found.error is None
    assert len(found.turns) == 2
    assert found.n_batches > 2
    for value in (found.epoch, found.cpu_epoch, found.evaluation, found.startup, found.peak, found.ratio):
        assert value > 0
    assert measured["VBPR"].ratio == 1.0


def test_an_impossible_contestant_is_a_row_with_its_error(measured):
    found = measured[IMPOSSIBLE]
    assert found.error.startswith("ConfigurationError: gib refines an item graph, and VBPR has none")
    assert found.epoch is None


def test_what_exceeds_its_budget_is_an_error(tiny):
    results = workers.run_group(
        [Contestant("VBPR", "ours", "VBPR")], workers.options(tiny, "tiny", budget=0.01), 1, 1, 0, report=str
    )
    assert results["VBPR"].error == "over the budget of 0.01 s (build)"


def test_the_table_has_every_contestant(measured):
    lines = speed.table(measured)
    assert len(lines[0].split("|")) == len(speed.COLUMNS) + 2
    rows = {line.split("|")[1].strip(): line for line in lines[2:] if line.startswith("|")}
    assert list(rows) == list(measured)
    assert rows[IMPOSSIBLE].count("| -") == len(speed.COLUMNS) - 1
    assert lines[-1].startswith(f"- {IMPOSSIBLE}: ConfigurationError")


def test_files_of_a_run(measured, tmp_path):
    speed.write_csv(tmp_path / "speed.csv", {"tiny": measured})
    table = pd.read_csv(tmp_path / "speed.csv")
    assert list(table["contestant"]) == list(measured)
    assert table["epoch_seconds"].notna().tolist() == [True, True, False]
    speed.draw(tmp_path / "speed.png", {"tiny": measured})
    scale.draw(tmp_path / "scale.png", {"series-10k": measured, "series-20k": measured}, list(measured))
    assert (tmp_path / "speed.png").stat().st_size > 1000
    assert (tmp_path / "scale.png").stat().st_size > 1000


def test_an_epoch_is_extrapolated_from_a_turn():
    # started at 1; the loader was asked at 3, 8 (a slow first batch), 10, 12, and ended at 14
    turn = workers.split_turn(1.0, [3.0, 8.0, 10.0, 12.0, 14.0])
    assert turn == {"once": 2.0 + 3.0, "batches": [2.0, 2.0, 2.0]}
    found = Measured(Contestant("a", "ours", "A"), n_batches=10, turns=[turn])
    assert found.epoch == 25.0
    twice = Measured(Contestant("b", "ours", "B"), n_batches=20, turns=[turn])
    assert workers.ratio(twice, found) == 45 / 25


def test_few_batches_end_after_their_limit():
    ticks = iter(range(10))
    few = workers.FewBatches(range(100), 3, lambda: next(ticks))
    assert list(few) == [0, 1, 2]
    assert few.stamps == [0, 1, 2, 3]


def test_groups_hold_the_reference_and_the_base_of_everyone():
    names = ["VBPR", "A", "B", "C", "D", "LATTICE", "MMGCN"]
    contestants = [Contestant(name, "ours", name) for name in names]
    contestants += [Contestant(f"{base}+{n}", "ours", base, base) for base in ("VBPR", "LATTICE") for n in range(4)]
    made = speed.groups(contestants, 4)
    assert {c.name for group in made for c in group} == {c.name for c in contestants}
    for group in made:
        members = [c.name for c in group]
        assert members[0] == "VBPR"
        assert len(members) == len(set(members)) <= 4
        assert all(c.partner is None or c.partner in members for c in group)
    assert speed.groups(contestants[:1], 4) == [contestants[:1]]


@pytest.mark.parametrize("planted", [0.5, 1.0, 2.3])
def test_the_fit_recovers_an_exponent(planted):
    items = np.array([1e4, 3e4, 1e5, 1e6])
    assert scale.exponent(items, 7e-4 * items**planted) == pytest.approx(planted)
    assert scale.exponent([10], [1.0]) is None


def test_scale_reports_sizes_and_exponents():
    made = {}
    for size in (10_000, 40_000):
        turn = {"once": 0.0, "batches": [size / 1e4]}
        made[f"series-{size}"] = {"BPR": Measured(Contestant("BPR", "ours", "BPR"), None, 1.0, 1.0, 5, [turn], peak=1.0)}
    made["series-1m"] = {"BPR": Measured(Contestant("BPR", "ours", "BPR"), "over the budget of 1 s (build)")}
    text = "\n".join(scale.table(made, ["BPR"]))
    assert "| BPR | 40,000 | 20.0 | 5 | 4.00 | 1.00 | 1.00 |" in text
    assert "| BPR | 1.00 | 0.00 | 0.00 | 2 |" in text or "| BPR | 1.00 | -0.00 | -0.00 | 2 |" in text
    assert "- BPR at 1,000,000 items: over the budget of 1 s (build)" in text


def test_the_profile_names_the_parts(tiny):
    spec = {**workers.options(tiny, "tiny"), **Contestant("", "ours", "IBMRec", settings=SMALL)._asdict()}
    training, evaluation, operators, n = profile_model.profile(workers.RecBoleRun(spec), 2)
    assert n == 2
    for name in (
        "loader",
        "L_1: forward, encode",
        "L_1: forward, ranking_graph",
        "L_1: backward",
        "L_1: optimiser step",
        "L_2: backward",
    ):
        assert training[name] > 0
    assert set(evaluation) == {"loader", "scores", "mask", "top-k", "metrics", "the rest"}
    assert "aten::mm" in operators


def test_a_clock_counts_every_second_once(monkeypatch):
    ticks = iter([0.0, 1.0, 4.0, 6.0])
    monkeypatch.setattr(profile_model.time, "perf_counter", lambda: next(ticks))
    clock = profile_model.Clock()
    with clock.of("outer"), clock.of("inner"):
        pass
    assert dict(clock.seconds) == {"outer": 3.0, "inner": 3.0}
