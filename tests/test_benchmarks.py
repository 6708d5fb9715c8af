"""The benchmarks' data shapes, worker processes and tables; no assertion on how long anything takes."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from benchmarks import driver, profile_model, scale, shapes, speed, workers
from benchmarks.driver import Contestant, Measured
from benchmarks.shapes import Shape

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
    spec = {**driver.options(tiny, "tiny"), **contestant._asdict()}
    workers.serve([json.dumps({"command": "build", "spec": spec})], answers)
    return Measured(contestant, json.loads(answers.getvalue())["error"])


@pytest.fixture(scope="module")
def measured(tiny, impossible):
    """One group, the reference and a model with bottlenecks; and what cannot be built."""
    contestants = [
        Contestant("VBPR", "ours", "VBPR", settings=SMALL),
        Contestant("IBMRec", "ours", "IBMRec", "VLATTICE", SMALL),
    ]
    results = driver.run_group(contestants, driver.options(tiny, "tiny"), turns=2, batches=2, evaluations=1, report=str)
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


def test_active_users_and_a_small_catalog_still_give_distinct_pairs():
    shape = Shape("dense", 200, 40, 2000, {})
    users, items = shapes.interactions(shape, np.random.default_rng(0))
    assert len(set(zip(users.tolist(), items.tolist(), strict=True))) == 2000
    assert np.bincount(users).min() >= shapes.LEAST
    with pytest.raises(ValueError, match="too few interactions"):
        shapes.interactions(Shape("empty", 200, 40, 900, {}), np.random.default_rng(0))


@pytest.mark.slow
def test_plain_recbole_runs_with_compat_alone(tiny):
    contestant = Contestant("BPR", "plain", "BPR", settings={"train_batch_size": 128})
    found = driver.run_group([contestant], driver.options(tiny, "tiny"), 1, 2, 1, report=str)["BPR"]
    assert found.error is None
    assert found.epoch > 0


@pytest.mark.parametrize("name", ["VBPR", "IBMRec"])
def test_workers_measure(measured, name):
    found = measured[name]
    assert found.error is None
    assert len(found.turns) == 2
    assert found.n_batches > 2
    for value in (
        found.epoch,
        found.cpu_epoch,
        found.evaluation,
        found.startup,
        found.data,
        found.model,
        found.peak,
        found.ratio,
    ):
        assert value > 0
    assert found.data + found.model < found.startup
    assert measured["VBPR"].ratio == 1.0


def test_an_impossible_contestant_is_a_row_with_its_error(measured):
    found = measured[IMPOSSIBLE]
    assert found.error.startswith("ConfigurationError: gib refines an item graph, and VBPR has none")
    assert found.epoch is None


def test_what_exceeds_its_budget_is_an_error(tiny):
    results = driver.run_group(
        [Contestant("VBPR", "ours", "VBPR")], driver.options(tiny, "tiny", budget=0.01), 1, 1, 0, report=str
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
    assert driver.ratio(twice, found) == 45 / 25


def test_few_batches_end_after_their_limit():
    ticks = iter(range(10))
    few = workers.FewBatches(range(100), 3, lambda: next(ticks))
    assert list(few) == [0, 1, 2]
    assert few.stamps == [0, 1, 2, 3]


class Clocked:
    """A loader of ``n`` batches, and the trainer that ranks them, by a clock of its own: 5 s once, 2 s a batch, .5 s a batch of metrics."""

    def __init__(self, n: int):
        self.n, self.now, self.ranked = n, 0.0, 0

    def __len__(self) -> int:
        return self.n

    def __iter__(self):
        return iter(range(self.n))

    def evaluate(self, loader, load_best_model):
        assert isinstance(loader, Clocked)
        for number in loader:
            self.now += 7.0 if number == 0 else 2.0
            self.ranked += 1
        self.now += 0.5 * self.ranked


@pytest.mark.parametrize(("batches", "ranked"), [(None, 10), (3, 3), (1, 1), (10, 10), (99, 10)])
def test_an_evaluation_is_extrapolated_from_its_first_batches(batches, ranked):
    run = workers.RecBoleRun.__new__(workers.RecBoleRun)
    run.valid_data = run.trainer = clocked = Clocked(10)
    run.stamp = lambda: (clocked.now, 0.0)
    # from one batch alone, what happens once cannot be told from the batch
    assert run.evaluate(batches) == pytest.approx(75.0 if batches == 1 else 30.0)
    assert clocked.ranked == ranked


def test_an_evaluation_of_a_few_batches_ranks_all_items(tiny):
    settings = {**SMALL, "eval_batch_size": 91 * 10}
    run = workers.RecBoleRun({**driver.options(tiny, "tiny"), **Contestant("", "ours", "BPR", settings=settings)._asdict()})
    users, original = [], run.trainer.eval_collector.eval_batch_collect

    def collect(scores, *rest):
        users.append(scores.shape)
        return original(scores, *rest)

    run.trainer.eval_collector.eval_batch_collect = collect
    assert run.evaluate(2) > 0
    assert users == [(10, 91), (10, 91)]
    assert set(run.startup) == {"data", "model"}


def test_ours_evaluates_with_its_own_default_batch(tiny):
    spec = {**driver.options(tiny, "tiny"), **Contestant("", "ours", "BPR", settings=SMALL)._asdict()}
    assert "eval_batch_size" not in workers.RecBoleRun(spec).config.external_config_dict


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


def test_with_amp_our_models_run_beside_their_float32_selves():
    found, _ = speed.contestants_of(["VLATTICE", "IBMRec", "VBPR+fib", "BPR"], "none", "VBPR", amp=True)
    again = {c.name: c for c in found if c.settings}
    assert list(again) == ["VBPR (amp)", "VLATTICE (amp)", "IBMRec (amp)", "VBPR+fib (amp)"]
    assert all((c.model, c.settings) == (c.partner, {"enable_amp": True}) for c in again.values())
    made = [[c.name for c in group] for group in speed.groups(found, 5)]
    assert all(len(group) == len(set(group)) <= 5 for group in made)
    for one in found:
        assert any({one.name, one.partner or one.name} <= set(group) for group in made)


@pytest.mark.parametrize("planted", [0.5, 1.0, 2.3])
def test_the_fit_recovers_an_exponent(planted):
    items = np.array([1e4, 3e4, 1e5, 1e6])
    assert scale.exponent(items, 7e-4 * items**planted) == pytest.approx(planted)
    assert scale.exponent([10], [1.0]) is None


def test_scale_reports_sizes_and_exponents():
    made = {}
    for size in (10_000, 40_000):
        turn = {"once": 0.0, "batches": [size / 1e4], "cpu": {"once": 0.0, "batches": [size / 2e4]}}
        made[f"series-{size}"] = {"BPR": Measured(Contestant("BPR", "ours", "BPR"), None, 1.0, 1.0, 5, [turn], peak=1.0)}
    made["series-1m"] = {"BPR": Measured(Contestant("BPR", "ours", "BPR"), "over the budget of 1 s (build)")}
    text = "\n".join(scale.table(made, ["BPR"]))
    assert "| BPR | 40,000 | 20.0 | 10.0 | 5 | 4.00 | 1.00 | - | - | - | 1.00 |" in text
    assert "| BPR | 1.00 | 0.00 | - | 0.00 | 2 |" in text or "| BPR | 1.00 | -0.00 | - | -0.00 | 2 |" in text
    assert "- BPR at 1,000,000 items: over the budget of 1 s (build)" in text


def test_a_size_whose_second_model_is_still_to_come_is_reported():
    measured = {"series-10k": {"BPR": Measured(Contestant("BPR", "ours", "BPR"), startup=1.0)}}
    assert len([line for line in scale.table(measured, ["BPR", "IBMRec"]) if "10,000" in line]) == 1


def test_settings_of_a_run():
    words = ["FREEDOM:train_batch_size=65536", "knn_k=5", "train_batch_size=4096"]
    assert scale.settings_of("FREEDOM", words) == {"train_batch_size": "65536", "knn_k": "5"}
    assert scale.settings_of("IBMRec", words) == {"train_batch_size": "4096", "knn_k": "5"}
    assert scale.settings_of("IBMRec", []) == {}
    assert scale.split_setting("a=b:c=d") == ("", "a", "b:c=d")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("knn_k", "KEY=VALUE or MODEL:KEY=VALUE, not 'knn_k'"),
        ("BPR:=3", "not 'BPR:=3'"),
        ("VBPR:knn_k=3", "for VBPR, which --models lacks"),
    ],
)
@pytest.mark.parametrize("option", ["--set", "--environment"])
def test_a_wrong_setting_is_refused_at_once(capsys, option, setting, message):
    with pytest.raises(SystemExit):
        scale.options(["--models", "BPR", option, setting])
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
def test_the_environment_reaches_the_worker(tiny, monkeypatch):
    given, started = {}, driver.subprocess.Popen

    def start(*args, env, **options):
        given.update(env)
        return started(*args, env=env, **options)

    monkeypatch.setattr(driver.subprocess, "Popen", start)
    options = driver.options(tiny, "tiny", environment={"RECBOLE_IB_DEFAULT_MALLOC": "1", "OMP_NUM_THREADS": "3"})
    driver.Worker(Contestant("BPR", "ours", "BPR"), options).end()
    assert (given["RECBOLE_IB_DEFAULT_MALLOC"], given["OMP_NUM_THREADS"]) == ("1", "3")


def test_mmrecs_speed_is_in_units_of_recboles_lightgcn_of_this_run():
    measured = {
        speed.YARDSTICK: SimpleNamespace(epoch=5.0, evaluation=1.0),
        "VBPR": SimpleNamespace(epoch=2.0, evaluation=0.5),
        "FREEDOM": SimpleNamespace(epoch=None, evaluation=None),
    }
    rows = {line.split("|")[1].strip(): line for line in speed.mmrec_table(measured) if line.startswith("|")}
    cells = [float(cell) for cell in rows["VBPR"].split("|")[2:-1]]
    assert cells == pytest.approx([1.78 * 5, 3.4, 2.0, 0.5, 1.78 * 5 / 2, 6.8], rel=0.01)
    assert rows["FREEDOM"].count("| -") == 4
    assert "no yardstick" in speed.mmrec_table({"VBPR": measured["VBPR"]})[0]


@pytest.mark.parametrize(("script", "expected"), [(scale, (2, 3, 900.0, "scale.md")), (speed, (5, 8, 600.0, "speed.md"))])
def test_the_shared_options_have_their_own_defaults(script, expected, monkeypatch):
    parsers = []
    original = speed.add_options

    def add_options(parser, **defaults):
        original(parser, **defaults)
        parsers.append(parser)
        raise SystemExit

    monkeypatch.setattr(speed, "add_options", add_options)
    monkeypatch.setattr("sys.argv", ["benchmark"])
    with pytest.raises(SystemExit):
        script.main()
    given = parsers[0].parse_args([])
    assert (given.turns, given.batches, given.budget_seconds, given.out.name) == expected
    assert (given.threads, given.device, given.data) == (1, "cpu", shapes.DATA)


def test_scale_from_the_command_line_to_the_table(tmp_path, monkeypatch):
    words = ["--sizes", "90", "--models", "VLATTICE", "--set", "VLATTICE:knn_k=5", "eval_batch_size=900", "--batch", "128"]
    words += [
        "--environment",
        "VLATTICE:RECBOLE_IB_DEFAULT_MALLOC=1",
        "--turns",
        "1",
        "--batches",
        "2",
        "--evaluation-batches",
        "2",
    ]
    words += ["--data", str(tmp_path), "--out", str(tmp_path / "s.md")]
    monkeypatch.setattr("sys.argv", ["scale.py", *words])
    scale.main()
    text = (tmp_path / "s.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("| VLATTICE | 90 |")]
    assert "-" not in row
    assert "from its first 2 batches of users" in text
    assert "`VLATTICE:knn_k=5`" in text
    assert (tmp_path / "s.png").is_file()


def test_the_profile_names_the_parts(tiny):
    spec = {**driver.options(tiny, "tiny"), **Contestant("", "ours", "IBMRec", settings=SMALL)._asdict()}
    training, evaluation, operators, n = profile_model.profile(workers.RecBoleRun(spec), 2)
    assert n == 2
    for name in (
        "loader",
        "L_1: forward, encode",
        "L_1: forward, training_latents",
        "L_1: forward, refine",
        "L_1: forward, apply_item_graph",
        "L_1: forward, losses and the rest",
        "L_1: backward",
        "L_1: optimizer step",
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
