"""The commands compare and ablate: which trainings they ask for, with which settings, and what they refuse."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import yaml

from recbole_ib.cli.main import main
from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments import ablate
from recbole_ib.experiments import jobs as job_module
from recbole_ib.experiments import options as option_module
from recbole_ib.experiments.jobs import train
from recbole_ib.experiments.model_spec import parse_models
from recbole_ib.training.manifest import read_manifest
from recbole_ib.utils.ray import lock_directory
from tests.support.commands import arguments
from tests.support.datasets import planted, write_dataset

pytestmark = pytest.mark.usefixtures("small_pictures")


@pytest.fixture
def data_path(tmp_path):
    pairs, modalities, *_ = planted()
    return write_dataset(tmp_path / "data", "tiny", pairs, modalities)


@pytest.fixture
def here(monkeypatch):
    """Trainings in this process instead of Ray's; the list of those that were asked for."""
    asked = []

    def run_jobs(jobs, resources, keep_checkpoints, ended):
        for job in jobs:
            asked.append(job)
            ended(job, *train(job, resources.cpus, keep_checkpoints))

    monkeypatch.setattr(job_module, "run_jobs", run_jobs)
    return asked


def words(data_path, out, *more):
    return ["--dataset=tiny", f"--data_path={data_path}", f"--out={out}", "--epochs=2", *more]


def tune(folder, model, settings, trials=3):
    (folder / model).mkdir(parents=True)
    (folder / model / "best.yaml").write_text(yaml.safe_dump(settings))
    with (folder / model / "trials.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["trial", "error"], *([f"t{i}", "two\nlines"] for i in range(trials))])


def test_compare_trains_reports_and_does_not_train_twice(data_path, tmp_path, here, capsys):
    out = tmp_path / "out"
    argv = ["compare", "--models", "BPR", "VBPR", "VBPR:reg_weight=0.1", *words(data_path, out, "--seeds=2")]
    assert main(argv) == 0
    assert len(here) == 6
    with (out / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"BPR", "VBPR", "VBPR:reg_weight=0.1"} <= {value for row in rows for value in row.values()}
    assert "VBPR:reg_weight=0.1" in (out / "report.html").read_text()
    said = capsys.readouterr().out
    assert "6 runs, 6 of them to be trained" in said
    assert f"report: {out / 'report.html'}" in said
    digests = {read_manifest(job.manifest())["data"]["test"]["digest"] for job in here}
    assert len(digests) == 1  # one split, whatever the seed
    # one seed and one model more: those alone are trained
    assert main([*argv[:4], "VBPR:reg_weight=0.1", "FREEDOM", *words(data_path, out, "--seeds=3")]) == 0
    assert len(here) == 6 + 3 + 3


def test_a_failed_model_is_named_and_the_rest_is_reported(data_path, tmp_path, here, capsys, monkeypatch):
    out = tmp_path / "out"
    from recbole_ib.model.backbones.vbpr import VBPR

    def breaks(self, interaction):
        raise RuntimeError("the loss of this test")

    monkeypatch.setattr(VBPR, "calculate_loss", breaks)
    assert main(["compare", "--models", "BPR", "VBPR", *words(data_path, out, "--seeds", "3", "7")]) == 1
    said = capsys.readouterr().out
    assert "failed: VBPR, seed 3: RuntimeError: the loss of this test" in said
    assert "the loss of this test" in (out / "report.html").read_text()
    assert "BPR" in (out / "table.md").read_text()
    monkeypatch.undo()
    assert {job.settings["seed"] for job in here} == {3, 7}


def test_settings_come_in_their_order(data_path, tmp_path):
    tuned, file = tmp_path / "tuned", tmp_path / "all.yaml"
    tune(
        tuned,
        "VBPR",
        {"model": "VBPR", "dataset": "tiny", "learning_rate": 0.1, "reg_weight": 0.3, "embedding_size": 16, "split_seed": 4},
    )
    file.write_text("learning_rate: 0.5\nstopping_step: 3\n")
    more = [*words(data_path, tmp_path, f"--tuned={tuned}", "--reg_weight=0.2"), f"--config_files={file}"]
    options = option_module.read_options(arguments("compare", ["--models=VBPR", *more]))
    (model_spec,) = parse_models("VBPR:embedding_size=8")
    entry = option_module.make_entry(model_spec, options)
    assert entry.settings["stopping_step"] == 3  # a file's, below
    assert entry.settings["learning_rate"] == 0.1  # the search's, above the files
    assert entry.settings["reg_weight"] == 0.2  # the command's
    assert entry.settings["embedding_size"] == 8  # the model's own
    assert entry.settings["split_seed"] == 4
    assert entry.trials == 3
    assert entry.note == "tuned"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--models", "VBPR:reg_weight=.1|.2"], "leaves a choice"),
        (["--models", "VBPRR"], "there is no model 'VBPRR'. Did you mean VBPR"),
        (["--models", "VBPR:reg_wieght=.1"], "model 'VBPR:reg_wieght=.1': unknown setting 'reg_wieght'. Did you mean reg_weight"),
        (["--models", "VBPR", "--metric=recall@7"], "which VBPR does not compute"),
        (["--models", "VBPR", "--seed=3"], "it from --seeds"),
        (["--models", "VBPR", "--checkpoint_dir=x"], "it from --out"),
        (["--models", "VBPR", "--seeds", "0"], "--seeds 0: allowed"),
        (["--models", "VBPR", "--seeds", "1,1"], "--seeds 1,1: allowed"),
        (["--models", "VBPR", "--seeds", "a"], "--seeds a: allowed"),
        (["--models", "VBPR", "--baseline=BPR"], "--baseline 'BPR' is not compared. Did you mean VBPR"),
        (["--models", "VBPR", "--cpus-per-run=0"], "--cpus-per-run must be above 0"),
        (["--models", "VBPR", "BPR:split_seed=3"], "different splits of the data"),
        (["--models", "VBPR", "--tuned=nowhere"], "holds no VBPR/best.yaml"),
        (["--models", "FREEDOM", "--bottleneck=fib"], "it from --models, as NAME+fib"),
        (["--models", "VBPR:per_user=False"], "model 'VBPR:per_user=False': per_user is not for one run alone"),
        (["--models", "VBPR", "--eval_args={'mode': 'uni5'}"], "mode 'uni5'"),
        (["--models", "VBPR", "--seeds", "2020"], "One seed is written with a comma: 2020,"),
    ],
)
def test_wrong_words_are_refused_before_training(argv, said, data_path, tmp_path, here, capsys):
    assert main(["compare", *argv, *words(data_path, tmp_path / "out")]) == 1
    assert said in capsys.readouterr().err
    assert not here


def test_a_search_of_another_model_is_refused(data_path, tmp_path, here, capsys):
    tune(tmp_path / "tuned", "BPR", {"model": "VBPR"})
    assert main(["compare", "--models", "BPR", *words(data_path, tmp_path / "out", f"--tuned={tmp_path / 'tuned'}")]) == 1
    assert "was tuned for VBPR, not for BPR" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "model", "searched"),
    [
        ("IBMRec", "VLATTICE+fib+gib", {"model": "IBMRec"}),
        ("FREEDOM+fib", "FREEDOM+fib", {"model": "FREEDOM", "bottleneck": "fib"}),
    ],
)
def test_a_search_is_found_under_either_name_and_its_keys_of_one_run_are_left_out(folder, model, searched, data_path, tmp_path):
    more = {"per_user": False, "metric_decimal_place": 2, "seed": 9, "fib_weight": 0.7}
    tune(tmp_path / "tuned", folder, {**searched, **more})
    more = words(data_path, tmp_path, f"--tuned={tmp_path / 'tuned'}")
    options = option_module.read_options(arguments("compare", [f"--models={model}", *more]))
    found = option_module.make_entry(parse_models(model)[0], options).settings
    assert found["fib_weight"] == 0.7
    assert not {"per_user", "metric_decimal_place", "seed", "bottleneck", "model"} & set(found)


def test_the_default_data_path_is_the_callers(data_path, tmp_path, here, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data_path.rename(tmp_path / "dataset")
    assert main(["compare", "--models", "BPR", "--dataset=tiny", "--epochs=1", "--seeds=1"]) == 0
    assert len(here) == 1
    assert (tmp_path / "compare" / "tiny" / "report.html").is_file()


def test_files_of_ones_own_are_not_replaced(data_path, tmp_path, here, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "table.csv").write_text("mine")
    assert main(["compare", "--models", "BPR", *words(data_path, out)]) == 1
    assert "holds files that the report would replace (table.csv)" in capsys.readouterr().err
    assert (out / "table.csv").read_text() == "mine"


def test_a_folder_is_for_one_command_at_a_time(data_path, tmp_path, here, capsys):
    out = tmp_path / "out"
    with lock_directory(out):
        assert main(["compare", "--models", "BPR", *words(data_path, out)]) == 1
    assert "another command is writing into" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["compare", "--models", "BPR", *words(data_path, tmp_path / "file")]) == 1
    assert "is, or lies in, a file" in capsys.readouterr().err
    assert not here


def test_checkpoints_that_are_asked_for_later_are_trained_for(data_path, tmp_path, here):
    argv = ["compare", "--models", "VBPR", *words(data_path, tmp_path / "out", "--seeds=1")]
    assert main(argv) == 0
    assert main([*argv, "--keep-checkpoints"]) == 0
    assert len(here) == 2
    assert list((tmp_path / "out" / "runs").glob("*/*.pth"))
    assert main([*argv, "--keep-checkpoints"]) == 0
    assert len(here) == 2


def test_a_search_on_other_data_is_refused(data_path, tmp_path, here, capsys):
    tune(tmp_path / "tuned", "VBPR", {"dataset": "ml-100k"})
    assert main(["compare", "--models", "VBPR", *words(data_path, tmp_path / "out", f"--tuned={tmp_path / 'tuned'}")]) == 1
    assert "was tuned on 'ml-100k', this comparison is on 'tiny'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        (["5"], [0, 1, 2, 3, 4]),
        (["3", "7"], [3, 7]),
        (["3,7"], [3, 7]),
        (["9,"], [9]),
        (["1"], [0]),
        (["2020"], None),
        (["3", "3"], None),
        (["-1"], None),
    ],
)
def test_seeds(given, seeds):
    if seeds is None:
        with pytest.raises(ConfigurationError):
            option_module.read_seeds(given)
    else:
        assert option_module.read_seeds(given) == seeds


def test_data_that_changed_are_trained_on_again(data_path, tmp_path, here):
    argv = ["compare", "--models", "BPR", "VBPR", *words(data_path, tmp_path / "out", "--seeds=1")]
    assert main(argv) == 0
    assert len(here) == 2
    features = data_path / "tiny" / "text.npy"
    np.save(features, np.load(features) + 1)
    assert main(argv) == 0
    assert [job.name for job in here[2:]] == ["VBPR"]  # BPR reads no features
    inter = data_path / "tiny" / "tiny.inter"
    inter.write_text("\n".join(inter.read_text().splitlines()[:-1]) + "\n")
    assert main(argv) == 0
    assert [job.name for job in here[3:]] == ["BPR", "VBPR"]


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("IBMRec", {"IBMRec": "IBMRec", "w/o FIB": "IBMRecWoFIB", "w/o GIB": "IBMRecWoGIB", "w/o IB (VLATTICE)": "VLATTICE"}),
        ("FREEDOM+fib", {"FREEDOM+fib": "FREEDOM+fib", "w/o IB (FREEDOM)": "FREEDOM"}),
        (
            "MRdIBMGCN",
            {
                "MRdIBMGCN": "MRdIBMGCN",
                "w/o rate": "MRdIBMGCN",
                "w/o unique": "MRdIBMGCN",
                "w/o IB (MGCN)": "MGCN",
            },
        ),
        (
            "MRdIBVBPR:redundancy_weight=0.01",
            {
                "MRdIBVBPR:redundancy_weight=0.01": "MRdIBVBPR",
                "w/o rate": "MRdIBVBPR",
                "w/o redundancy": "MRdIBVBPR",
                "w/o unique": "MRdIBVBPR",
                "w/o IB (VBPR)": "VBPR",
            },
        ),
    ],
)
def test_variants_of_a_model(model, parts, data_path, tmp_path):
    options = option_module.read_options(arguments("ablate", [f"--model={model}", *words(data_path, tmp_path)]))
    (whole,) = parse_models(model)
    variants, groups = ablate.variants(whole, options)
    assert groups[ablate.ALL_MODALITIES] == list(parts)
    by_text = {entry.name: entry for entry in variants}
    for text, name in parts.items():
        made = Config(by_text[text].model, "tiny", None, by_text[text].settings)
        assert made["model"] == Config(name, "tiny", None, {"data_path": str(data_path)})["model"]
    if model.startswith("MRdIB"):
        assert by_text["w/o rate"].settings["kl_weight"] == 0
        assert by_text["w/o unique"].settings["unique_weight"] == 0
    if "redundancy" in model:
        assert by_text["w/o redundancy"].settings["redundancy_weight"] == 0
    alone = [entry for entry in variants if entry.name.endswith(" alone")]
    assert [entry.settings["use_modalities"] for entry in alone] == [["text"], ["visual"]] * 2
    shown = groups[ablate.ONE_MODALITY]
    assert shown == [f"{text}, {m} alone" for text in (model, list(parts)[-1]) for m in ("text", "visual")]
    assert {name for names in groups.values() for name in names} == set(by_text)


def test_a_modality_alone_goes_without_the_terms_between_modalities(data_path, tmp_path):
    spec = "MRdIBVBPR:redundancy_weight=0.01"
    options = option_module.read_options(arguments("ablate", [f"--model={spec}", *words(data_path, tmp_path)]))
    variants, groups = ablate.variants(parse_models(spec)[0], options)
    by_text = {entry.name: entry for entry in variants}
    alone = [by_text[text] for text in groups[ablate.ONE_MODALITY]]
    assert len(alone) == 4
    assert all(entry.settings["redundancy_weight"] == 0.0 for entry in alone if entry.model == "MRdIBVBPR")
    assert by_text[groups[ablate.ALL_MODALITIES][0]].settings["redundancy_weight"] == 0.01


def test_variants_take_the_tuned_settings_of_the_whole_model(data_path, tmp_path):
    tuned = tmp_path / "tuned"
    tune(tuned, "IBMRec", {"reg_weight": 0.5, "fib_weight": 3.0}, trials=7)
    tune(tuned, "VLATTICE", {"reg_weight": 0.25}, trials=4)
    more = words(data_path, tmp_path, f"--tuned={tuned}")
    options = option_module.read_options(arguments("ablate", ["--model=IBMRec", *more]))
    variants, _ = ablate.variants(parse_models("IBMRec")[0], options)
    by_text = {entry.name: entry for entry in variants}
    assert by_text["w/o GIB"].settings["reg_weight"] == 0.5
    assert (by_text["w/o GIB"].note, by_text["w/o GIB"].trials) == ("tuned as IBMRec", 7)
    assert by_text["w/o IB (VLATTICE)"].settings["reg_weight"] == 0.25
    assert (by_text["w/o IB (VLATTICE)"].note, by_text["w/o IB (VLATTICE)"].trials) == ("tuned", 4)


@pytest.mark.parametrize(
    ("model", "said"), [("VBPR", "has no bottleneck to leave out"), ("BPR", "no bottleneck"), ("IBMRec,VBPR", "one model")]
)
def test_what_cannot_be_taken_apart_is_refused(model, said, data_path, tmp_path, here, capsys):
    assert main(["ablate", f"--model={model}", *words(data_path, tmp_path / "out")]) == 1
    assert said in capsys.readouterr().err
    assert not here


def test_ablate_writes_the_same_report(data_path, tmp_path, here):
    out = tmp_path / "out"
    assert main(["ablate", "--model=IBMRec", *words(data_path, out, "--seeds=1")]) == 0
    assert len(here) == 8
    page = (out / "report.html").read_text()
    for text in ("w/o FIB", "w/o GIB", "w/o IB (VLATTICE)", "IBMRec, text alone", ablate.ALL_MODALITIES, ablate.ONE_MODALITY):
        assert text in page, text


def test_help_and_unknown_forms(capsys):
    assert main(["compare", "--help"]) == 0
    assert "--tuned" in capsys.readouterr().out
    assert main(["ablate"]) == 2


def test_two_lines_with_the_same_settings_are_one_training(data_path, tmp_path, here):
    assert main(["compare", "--models", "IBMRec", "VLATTICE+fib+gib", *words(data_path, tmp_path / "out", "--seeds=1")]) == 0
    assert len(here) == 1
