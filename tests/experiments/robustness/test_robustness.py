"""The grid: resumed, reported as its runs say, chosen on validation, with failures written down."""

import csv
import re
import shutil
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from scipy import stats

from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments import jobs as job_module
from recbole_ib.experiments.jobs import train
from recbole_ib.experiments.model_spec import parse_models
from recbole_ib.experiments.robustness.options import read_robustness_options
from recbole_ib.experiments.robustness.report import Facts, choose, draw_curves, markdown, plain_one, relative_change
from recbole_ib.experiments.robustness.run import budget_warnings, widest_graph
from recbole_ib.training.manifest import read_manifest
from tests.support.commands import arguments, command
from tests.support.datasets import planted, write_dataset

run = command("robustness")

SPEC = "--spec={n_users: 100, n_items: 70, width: 32, factors: 1}"
GRID = [
    "--models=VLATTICE,IBMRec",
    "--levels=0,0.5",
    "--seeds=0,1",
    SPEC,
    "--curves=false",
    "--epochs=2",
    "--train_batch_size=256",
]


def read(out):
    with (out / "runs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def section(text: str, title: str) -> dict[str, list[str]]:
    body = text.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in body.splitlines() if line.startswith("|")]
    return {row[0].replace("\\|", "|"): row[1:] for row in rows[2:]}


@pytest.fixture(scope="module", autouse=True)
def in_this_process():
    """Trainings in this process instead of Ray's, which starts one for each."""

    def run_jobs(jobs, resources, keep_checkpoints, ended):
        for job in jobs:
            ended(job, *train(job, resources.cpus, keep_checkpoints))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_module, "run_jobs", run_jobs)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("grid") / "out"
    assert run([*GRID, f"--out={out}"]) == 0
    return out


def test_every_run_of_the_grid_is_a_row_with_metrics_and_probes(finished):
    rows = read(finished)
    found = {(r["model"], float(r["level"]), int(r["seed"])) for r in rows}
    assert found == set(product(("VLATTICE", "IBMRec"), (0.0, 0.5), (0, 1)))
    for row in rows:
        assert row["error"] == ""
        assert 0 <= int(row["best_epoch"]) < 2
        assert 0 < float(row["test_recall@20"]) < 1
        assert row["best_valid_score"] == row["valid_recall@20"]
        assert repr(float(row["test_ndcg@20"])) == row["test_ndcg@20"]
        for rows_of, part in product(
            ("latents", "items"), ("unique_visual", "redundant", "synergistic", "irrelevant", "nuisance")
        ):
            assert 0 <= float(row[f"{rows_of}_r2_{part}"]) <= 1
            assert 0 <= float(row[f"{rows_of}_share_{part}"]) <= 1
    irrelevant = {level: [float(r["latents_share_irrelevant"]) for r in rows if float(r["level"]) == level] for level in (0, 0.5)}
    assert max(irrelevant[0]) < 0.15 < min(irrelevant[0.5])


def test_nothing_is_left_but_data_and_results(finished):
    assert {p.name for p in finished.iterdir()} == {".lock", "data", "runs", "runs.csv", "robustness.md"}
    assert not list(finished.rglob("*.pth"))


def test_every_run_keeps_its_manifest(finished):
    rows = {(r["model"], float(r["level"]), int(r["seed"])): r for r in read(finished)}
    manifests = [read_manifest(path) for path in (finished / "runs").glob("*/*.json") if path.name != job_module.MEASURES_FILE]
    assert len(manifests) == 8
    for manifest in manifests:
        (level,) = (level for level in (0.0, 0.5) if f"-{level:g}-s" in manifest["dataset"])
        row = rows[manifest["model"], level, manifest["seed"]]
        assert repr(manifest["result"]["test"]["recall@20"]) == row["test_recall@20"]
        assert manifest["given"]["epochs"] == 2


def test_a_folder_may_move_and_changed_data_are_trained_on_again(finished, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(job_module, "run_jobs", lambda jobs, *_: trained.extend(jobs))
    out = shutil.copytree(finished, tmp_path / "out")
    assert run([*GRID, f"--out={out}"]) == 0
    assert trained == []
    assert (out / "runs.csv").read_bytes() == (finished / "runs.csv").read_bytes()
    (inter,) = (out / "data").glob("planted-*-0-s1/*.inter")
    inter.write_text("\n".join(inter.read_text().splitlines()[:-1]) + "\n")
    assert run([*GRID, f"--out={out}"]) == 1
    assert [(job.name, job.settings["seed"]) for job in trained] == [("VLATTICE", 1), ("IBMRec", 1)]
    trained.clear()
    run([*GRID, f"--out={out}", "--fresh"])
    assert len(trained) == 8


def test_a_finished_run_is_not_trained_again_and_another_setting_is(finished, monkeypatch):
    trained = []
    monkeypatch.setattr(job_module, "run_jobs", lambda jobs, *_: trained.extend(jobs))
    before = (finished / "runs.csv").read_bytes()
    assert run([*GRID, f"--out={finished}"]) == 0
    assert trained == []
    assert (finished / "runs.csv").read_bytes() == before
    run([*GRID, f"--out={finished}", "--reg_weight=0.1"])
    assert len(trained) == 8
    trained.clear()
    run([*GRID[1:], f"--out={finished}", "--models=VLATTICE,VLATTICE:reg_weight=.1"])
    assert [(job.name, job.settings["reg_weight"]) for job in trained] == [("VLATTICE", 0.1)] * 4


def test_the_report_says_what_the_runs_say(finished):
    run([*GRID, f"--out={finished}"])
    text, rows = (finished / "robustness.md").read_text(), read(finished)

    def values(model, level):
        by_seed = {int(r["seed"]): float(r["test_recall@20"]) for r in rows if (r["model"], float(r["level"])) == (model, level)}
        return np.array([by_seed[0], by_seed[1]])

    table, own = section(text, "Test Recall@20"), section(text, "Change with the level")
    against = section(text, "Change against the backbone at the same level")
    for model in ("VLATTICE", "IBMRec"):
        for i, level in enumerate((0.0, 0.5)):
            v = values(model, level)
            assert table[model][i] == f"{v.mean():.4f} ± {abs(v[0] - v[1]) / np.sqrt(2):.4f}"
            zero = values(model, 0.0)
            assert own[model][i] == f"{100 * np.mean(v / zero - 1):+.1f} %"
    assert set(against) == {"IBMRec"}
    for i, level in enumerate((0.0, 0.5)):
        model, backbone = values("IBMRec", level), values("VLATTICE", level)
        d = model - backbone
        error = d.std(ddof=1) / np.sqrt(2)
        # two seeds that differ by the same leave nothing to test
        p = f"{2 * stats.t.sf(abs(d.mean() / error), 1):.3f}" if error > 1e-12 else "-"
        assert against["IBMRec"][i] == f"{100 * np.mean(d / backbone):+.1f} % (p {p})"
    probes = [line for line in text.split("### In the item latents")[1].splitlines() if line.startswith("| IBMRec | 0.5")]
    here = [r for r in rows if (r["model"], float(r["level"])) == ("IBMRec", 0.5)]
    expected = [np.mean([float(r[f"latents_{k}_irrelevant"]) for r in here]) for k in ("r2", "share")]
    assert f"{expected[0]:.2f} / {expected[1]:.3f}" in probes[0].split("|")[7]
    assert "recbole-ib robustness --models=VLATTICE,IBMRec" in text
    assert '"n_users": 100' in text


def test_a_failing_model_is_written_down_and_the_others_go_on(tmp_path, capsys):
    words = [
        "--models=VLATTICE:modality_weights={sound: 1.0},VBPR",
        "--levels=0",
        "--seeds=0",
        SPEC,
        "--curves=false",
        "--epochs=1",
    ]
    assert run([*words, f"--out={tmp_path}"]) == 1
    rows = {r["model"]: r for r in read(tmp_path)}
    assert "sound" in rows["VLATTICE:modality_weights={sound: 1.0}"]["error"]
    assert float(rows["VBPR"]["test_recall@20"]) > 0
    text = (tmp_path / "robustness.md").read_text()
    assert section(text, "Test Recall@20")["VLATTICE:modality_weights={sound: 1.0}"] == ["failed"]
    assert "## Failed runs" in text
    assert "One seed: no spread and no test" in text
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["features", "edges"])
def test_noise_in_a_data_set_of_ones_own(kind, tmp_path):
    pairs, modalities, _, _ = planted()
    path = write_dataset(tmp_path / "data", "mine", pairs, modalities)
    words = ["--models=VLATTICE", f"--noise={kind}", "--dataset=mine", f"--data_path={path}", "--use_modalities=[text]"]
    words += ["--levels=0,1", "--seeds=0", "--epochs=1", "--curves=false", "--knn_k=5", f"--out={tmp_path / 'out'}"]
    assert run(words) == 0
    rows = read(tmp_path / "out")
    assert len(rows) == 2
    assert rows[0]["test_recall@20"] != rows[1]["test_recall@20"]
    assert "latents_r2_redundant" not in rows[0]
    assert not list((tmp_path / "out").rglob("visual*"))


@pytest.mark.slow
def test_processes_find_the_same_numbers(finished, tmp_path):
    command_line = [
        sys.executable,
        "-c",
        "import sys; from recbole_ib.cli.main import main; sys.exit(main(['robustness', *sys.argv[1:]]))",
    ]
    done = subprocess.run([*command_line, *GRID, f"--out={tmp_path}", "--jobs=2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted, found = (
        {(r["model"], r["level"], r["seed"]): r["test_recall@20"] for r in read(out)} for out in (finished, tmp_path)
    )
    assert found == wanted


# -- parts ----------------------------------------------------------------------------------------------------------------


def row(model, candidate, level, seed, valid, test, **more):
    base = {
        "model": model,
        "candidate": candidate,
        "level": level,
        "seed": seed,
        "best_valid_score": valid,
        "valid_score_bigger": True,
    }
    return {**base, "test_recall@20": test, **more}


def test_candidates_are_chosen_by_mean_validation_and_never_by_test():
    (model_spec,) = parse_models("VBPR:reg_weight=1|2|3")
    rows = [row("VBPR:reg_weight=1|2|3", "reg_weight=1", 0.5, s, v, 0.9) for s, v in ((0, 0.10), (1, 0.30))]
    rows += [row("VBPR:reg_weight=1|2|3", "reg_weight=2", 0.5, s, v, 0.1) for s, v in ((0, 0.22), (1, 0.20))]
    # the best of all, but not for every seed
    rows += [row("VBPR:reg_weight=1|2|3", "reg_weight=3", 0.5, 0, 0.9, 0.9)]
    rows += [row("VBPR:reg_weight=1|2|3", "reg_weight=3", 0.5, 1, 0.9, 0.9, error="x")]
    cell = choose(rows, model_spec, 0.5, [0, 1])
    assert cell.candidate == "reg_weight=2"
    np.testing.assert_array_equal(cell.values("test_recall@20"), [0.1, 0.1])
    lower = [{**r, "valid_score_bigger": False} for r in rows]
    assert choose(lower, model_spec, 0.5, [0, 1]).candidate == "reg_weight=1"
    assert choose(rows, model_spec, 0.6, [0, 1]) is None
    text = markdown(rows, [model_spec], Facts("c", "planted", None, None, [0.5], [0, 1]))
    assert section(text, "Candidates")["VBPR:reg_weight=1|2|3"] == ["reg_weight=2 (of 3)"]


def test_relative_change_is_paired():
    model, backbone = np.array([0.2, 0.5, 0.4]), np.array([0.1, 0.4, 0.5])
    change, p = relative_change(model, backbone)
    assert change == pytest.approx((1.0 + 0.25 - 0.2) / 3)
    assert p == pytest.approx(stats.ttest_1samp(model - backbone, 0).pvalue)
    assert np.isnan(relative_change(model[:1], backbone[:1])[1])
    assert np.isnan(relative_change(model, np.zeros(3))[0])


def test_models_are_read_with_settings_and_alternatives():
    a, b, c, d = parse_models("VLATTICE,VBPR+mrdib:kl_weight=0|.1;sizes=[1,2]|3,IBMRecVBPR,mmrec:DRAGON:lr=1")
    assert (a.name, a.candidates, a.backbone) == ("VLATTICE", ({},), None)
    assert (b.name, b.backbone) == ("VBPR+mrdib", "VBPR")
    assert b.candidates == tuple({"kl_weight": k, "sizes": s} for k, s in product((0, 0.1), ([1, 2], 3)))
    assert c.backbone == "VBPR"
    assert (d.name, d.candidates, d.backbone) == ("mmrec:DRAGON", ({"lr": 1},), None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models="], "no model"),
        (["--models=VBPR,VBPR"], "twice"),
        (["--models=VBPR,,BPR"], "empty name"),
        (["--models=VBPR:reg_weight"], "no key=value"),
        (["--models=VBPR:reg_weight=1;reg_weight=2"], "given twice"),
        (["--models=VBPR:seed=1"], "whole comparison"),
        (["--models=VBPR:bottleneck=fib"], r"VBPR\+fib"),
        (["--seed=3"], "--?seeds=3"),
        (["--noise=feature"], "Did you mean features"),
        (["--noise=features"], "--dataset says"),
        (["--noise=features", "--dataset=ml-100k", "--spec={width: 8}"], "planted data"),
        (["--dataset=ml-100k"], "makes its own data"),
        (["--modalities={}"], "have their own"),
        (["--levels=0,1"], "below 1"),
        (["--levels=0,x"], "separated by commas"),
        (["--seeds=1,1"], "different numbers"),
        (["--jobs=0"], "from 1 on"),
        (["--spec=3"], "mapping"),
        (["--spec={width: 8, irrelevance: .1}"], "--levels"),
        (["--spec={withd: 8}"], "Did you mean width"),
        (["--curves=maybe"], "true, false"),
    ],
)
def test_commands_that_make_no_sense_are_refused(words, message):
    with pytest.raises(ConfigurationError, match=message):
        read_robustness_options(arguments("robustness", words))


def test_wrong_settings_are_refused_before_training_with_the_models_name(tmp_path, monkeypatch):
    monkeypatch.setattr(job_module, "run_jobs", lambda *_: pytest.fail("trained"))
    for model, message in (("VBPX", "VBPX.*Did you mean VBPR"), ("VBPR:reg_weigth=1", "reg_weigth.*Did you mean reg_weight")):
        with pytest.raises(ConfigurationError, match=message):
            run([f"--models={model}", "--levels=0", "--seeds=0", SPEC, "--curves=false", f"--out={tmp_path}"])


def test_different_budgets_are_named():
    (text,) = budget_warnings(parse_models("VBPR,VLATTICE:reg_weight=1|2"))
    assert "VBPR: 1, VLATTICE:reg_weight=1|2: 2" in text
    assert budget_warnings(parse_models("VBPR:n=1|2,VLATTICE:reg_weight=1|2")) == []


def test_ready_graphs_are_as_wide_as_the_widest_model_needs():
    words = ["--noise=edges", "--dataset=ml-100k"]
    assert widest_graph(read_robustness_options(arguments("robustness", [*words, "--models=VLATTICE:knn_k=5|15,VBPR"]))) == 15
    assert widest_graph(read_robustness_options(arguments("robustness", [*words, "--models=VLATTICE,VBPR"]))) == 10
    assert widest_graph(read_robustness_options(arguments("robustness", [*words, "--models=VLATTICE,VBPR", "--knn_k=7"]))) == 7


def test_curves_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    model_specs = parse_models("VBPR,IBMRec")
    rows = [row("VBPR", "-", level, s, 0.1, 0.3 - 0.1 * level + 0.01 * s) for level, s in product((0.0, 0.5), (0, 1))]
    facts = Facts("c", "planted", None, {"width": 64}, [0.0, 0.5], [0, 1])
    draw_curves(rows, model_specs, facts, tmp_path / "recall.png")
    assert (tmp_path / "recall.png").read_bytes()[:4] == b"\x89PNG"


def test_help_is_printed(capsys):
    assert run(["--help"]) == 0
    assert "--levels" in capsys.readouterr().out


def test_a_model_is_compared_with_the_backbone_that_shares_its_settings():
    text = "LATTICE:knn_k=5|10,LATTICE:item_graph=frozen,LATTICE+gib:item_graph=frozen;gib_weight=0|1,LATTICE+fib,IBMRec"
    model_specs = parse_models(text)
    learned, frozen, gib, fib, other = model_specs
    assert plain_one(gib, model_specs) is frozen
    assert plain_one(fib, model_specs) is learned
    assert plain_one(other, model_specs) is None
