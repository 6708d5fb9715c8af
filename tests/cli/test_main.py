"""The command line: which command runs with which settings, exit statuses, and messages that name the nearest thing."""

from pathlib import Path

import numpy as np
import pytest

from recbole_ib import list_models
from recbole_ib.config.config import Config
from recbole_ib.config.presets import presets
from recbole_ib.errors import CheckpointError, FeatureError
from recbole_ib.model.registry import recbole_models
from recbole_ib.training import run
from recbole_ib_cli import main

RESULT = {
    "model": "VBPR",
    "dataset": "toy",
    "best_valid_result": {"recall@20": 0.25},
    "test_result": {"recall@20": 0.125},
    "train_seconds": 1.0,
    "test_seconds": 0.5,
    "checkpoint": None,
}


@pytest.fixture
def calls(monkeypatch) -> list[dict]:
    """The calls that ``train`` makes, none of which trains."""
    made = []

    def record(**settings):
        made.append(settings)
        return RESULT

    monkeypatch.setattr(run, "run_recbole_ib", record)
    return made


@pytest.fixture
def mmrec(tmp_path, monkeypatch) -> Path:
    """A folder of MMRec's layout in the working directory, named source."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "source"
    folder.mkdir()
    rows = [f"{user}\t{(user + j) % 6}\t{label}" for user in range(5) for j, label in enumerate((0, 0, 1, 2))]
    (folder / "toy.inter").write_text("\n".join(["userID\titemID\tx_label", *rows]) + "\n")
    np.save(folder / "text_feat.npy", np.arange(1.0, 13.0).reshape(6, 2))
    return folder


# -- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
def test_help(capsys, word):
    assert main.main([word]) == 0
    captured = capsys.readouterr()
    for command in ("train", "models", "check", "convert"):
        assert command in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("command", ["train", "models", "check", "convert"])
@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_of_a_command(capsys, command, word):
    assert main.main([command, word]) == 0
    assert "usage: recbole-ib" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "near"),
    [
        (["chek", "--dataset=ml-100k"], "Did you mean check?"),
        (["model"], "Did you mean models?"),
        (["Convert"], "Did you mean convert?"),
        (["IBMRec"], "usage:"),
    ],
)
def test_unknown_command(capsys, argv, near):
    assert main.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    for part in (f"no command {argv[0]!r}", near, "usage: recbole-ib"):
        assert part in captured.err


def test_arguments_come_from_the_shell(capsys, monkeypatch):
    monkeypatch.setattr(main.sys, "argv", ["recbole-ib", "chek"])
    assert main.main() == 2
    assert "'chek'" in capsys.readouterr().err


def test_models_lists_the_catalog_recboles_own_and_the_presets(capsys):
    assert main.main(["models"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    title = rows.index("Presets, --config_files=NAME:")
    listed = dict(row.split(maxsplit=1) for row in rows[title + 1 :])
    assert list(listed) == list(presets())
    assert listed["ibmrec-paper"].startswith("IBMRec as its paper states it (arXiv 2501.12175)")
    assert head.split() == ["model", "backbone", "bottlenecks", "paper"]
    assert [row.split()[0] for row in rows[: len(list_models())]] == list_models()
    assert rows[title - 2].endswith(", ".join(recbole_models()))
    assert {"BPR", "LightGCN", "SASRec"} <= set(recbole_models())


def test_models_takes_no_argument(capsys):
    assert main.main(["models", "IBMRec"]) == 2
    assert "IBMRec" in capsys.readouterr().err


# -- train ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "model", "dataset", "settings", "files"),
    [
        ([], "IBMRec", "ml-100k", [], []),
        (["train"], "IBMRec", "ml-100k", [], []),
        (["--model=VBPR"], "VBPR", "ml-100k", ["--model=VBPR"], []),
        (["train", "--dataset=toy", "--epochs=1"], "IBMRec", "toy", ["--dataset=toy", "--epochs=1"], []),
        (["--config_files=a.yaml"], None, None, [], ["a.yaml"]),
        (["--config_files=a.yaml b.yaml", "--model=BPR"], "BPR", None, ["--model=BPR"], ["a.yaml", "b.yaml"]),
    ],
)
def test_train_passes_the_settings_on(calls, capsys, argv, model, dataset, settings, files):
    assert main.main(argv) == 0
    assert calls == [{"model": model, "dataset": dataset, "argv": settings, "config_file_list": files}]
    out = capsys.readouterr().out
    assert "VBPR on toy" in out
    assert "recall@20    0.2500    0.1250" in out


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("--epochs", ["'--epochs'", "--epochs=VALUE"]),
        ("-epochs=1", ["'-epochs=1'", "--key=value"]),
        ("extra", ["'extra'", "--key=value"]),
    ],
)
def test_words_that_are_no_settings(calls, capsys, word, parts):
    assert main.main(["train", word]) != 0
    err = capsys.readouterr().err
    for part in parts:
        assert part in err
    assert calls == []


def test_setting_given_twice(calls, capsys):
    assert main.main(["--epochs=1", "--epochs=2"]) == 1
    assert "--epochs is given twice, as '1' and '2'" in capsys.readouterr().err
    assert calls == []


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--model=IBMRek"], ["'IBMRek'", "Did you mean IBMRec"]),
        (["--model=LightGNC"], ["'LightGNC'", "LightGCN"]),
        (["--dataset=ml-100"], ["'ml-100'", "Did you mean ml-100k"]),
        (["--learnin_rate=1"], ["'learnin_rate'", "Did you mean learning_rate"]),
        (["--defaults=mine"], ["'mine'", "recbole_ib, recbole"]),
    ],
)
def test_wrong_names_meet_the_nearest_before_training(tmp_path, monkeypatch, capsys, argv, parts):
    monkeypatch.chdir(tmp_path)
    assert main.main(argv) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    for part in ["recbole-ib: ", *parts]:
        assert part in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [FeatureError, CheckpointError])
def test_refusals_end_with_status_1_and_their_text(monkeypatch, capsys, error):
    def refuse(**_):
        raise error("text.npy is broken")

    monkeypatch.setattr(run, "run_recbole_ib", refuse)
    assert main.main(["train"]) == 1
    assert capsys.readouterr().err == "recbole-ib: text.npy is broken\n"


# -- config files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "settings", "files"),
    [
        ([], [], []),
        (["--epochs=1"], ["--epochs=1"], []),
        (["--config_files=a.yaml"], [], ["a.yaml"]),
        (["--config_files=a.yaml b.yaml"], [], ["a.yaml", "b.yaml"]),
        (["--config_files", "a.yaml", "b.yaml", "--epochs=1"], ["--epochs=1"], ["a.yaml", "b.yaml"]),
        (["--epochs=1", "--config_files", "a.yaml"], ["--epochs=1"], ["a.yaml"]),
        (["--config_files=a.yaml", "--epochs=1", "--config_files=b.yaml"], ["--epochs=1"], ["a.yaml", "b.yaml"]),
        (["--config_files", "--epochs=1"], ["--epochs=1"], []),
        (["--config_files="], [], []),
        (["--config_files=a.yaml,b.yaml", "--config_files", "c.yaml, d.yaml"], [], ["a.yaml", "b.yaml", "c.yaml", "d.yaml"]),
        (["--epochs", "1", "--note", "-1", "--config_files", "a.yaml"], ["--epochs=1", "--note=-1"], ["a.yaml"]),
        (["--note=a=b c"], ["--note=a=b c"], []),
        # the form that the usage line shows, split by the shell
        (["--config_files=a.yaml", "b.yaml", "--epochs=1"], ["--epochs=1"], ["a.yaml", "b.yaml"]),
    ],
)
def test_settings_and_config_files_are_told_apart(argv, settings, files):
    args = main.read_words(argv)
    assert (args.settings, args.config_files) == (settings, files)


def test_later_files_and_the_command_line_win(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("learning_rate: 1e-2\nepochs: 7\nstopping_step: 3\n")
    Path("b.yaml").write_text("epochs: 8\nstopping_step: 4\n")
    args = main.read_words(["--config_files=a.yaml b.yaml", "--stopping_step=5"])
    config = Config("VBPR", "ml-100k", args.config_files, {"use_gpu": False}, argv=args.settings)
    assert (config["learning_rate"], config["epochs"], config["stopping_step"]) == (0.01, 8, 5)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["run.yaml", "Did you mean rum.yaml?"]),
        ("model: [VBPR", ["run.yaml", "not valid yaml"]),
        ("- VBPR", ["run.yaml", "must map keys to values"]),
        ("learnin_rate: 1", ["'learnin_rate'", "learning_rate"]),
    ],
)
@pytest.mark.parametrize("command", ["train", "check"])
def test_broken_config_files(tmp_path, monkeypatch, capsys, command, content, parts):
    monkeypatch.chdir(tmp_path)
    Path("rum.yaml").write_text("epochs: 1\n")
    if content is not None:
        Path("run.yaml").write_text(content)
    assert main.main([command, "--model=VBPR", "--dataset=ml-100k", "--config_files=run.yaml"]) == 1
    err = capsys.readouterr().err
    for part in parts:
        assert part in err


def test_a_preset_is_read_from_any_folder(capsys):
    assert main.main(["check", "--model=IBMRec", "--dataset=ml-100k", "--config_files=ibmrec-paper.yaml"]) == 0
    assert main.main(["check", "--model=IBMRec", "--dataset=ml-100k", "--config_files=ibmrec-papr.yaml"]) == 1
    assert "Did you mean ibmrec-paper.yaml" in capsys.readouterr().err


def test_config_files_without_a_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("epochs: 1\n")
    assert main.main(["--config_files=run.yaml"]) == 1
    assert "no model is named" in capsys.readouterr().err


# -- convert and check ------------------------------------------------------------------------------------------------


def test_convert_then_check(mmrec, capsys):
    assert main.main(["convert", "mmrec", "source", "data"]) == 0
    out = capsys.readouterr().out
    for part in ("5 users, 6 items", "train 10, valid 5, test 5", "modality text: 6 x 2"):
        assert part in out
    advice = out.splitlines()[-1].split("recbole-ib ")[1].split()
    assert advice == ["check", "--dataset=toy", "--data_path=data"]
    assert main.main(advice) == 0
    assert "covers 6 of 6 items" in capsys.readouterr().out


def test_check_with_everything_in_a_file(mmrec, capsys):
    assert main.main(["convert", "mmrec", "source", "data", "--name", "mine"]) == 0
    Path("run.yaml").write_text("model: IBMRec\ndataset: mine\ndata_path: data\n")
    assert main.main(["check", "--config_files=run.yaml"]) == 0
    assert "data set mine" in capsys.readouterr().out


def test_convert_refuses_and_replaces(mmrec, capsys):
    words = ["convert", "mmrec", "source", "data"]
    assert main.main(words) == 0
    assert main.main(words) == 1
    assert "--force" in capsys.readouterr().err
    assert main.main([*words, "--force"]) == 0


def test_convert_of_a_broken_folder(mmrec, capsys):
    (mmrec / "text_feat.npy").unlink()
    assert main.main(["convert", "mmrec", "source", "data"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("recbole-ib: source: no feature file")
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "required"),
        (["mmrec", "source"], "OUT"),
        (["cornac", "source", "data"], "'cornac'"),
        (["mmrec", "source", "data", "--overwrite"], "--overwrite"),
    ],
)
def test_convert_with_a_wrong_command_line(mmrec, capsys, words, part):
    assert main.main(["convert", *words]) == 2
    assert part in capsys.readouterr().err
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["no data set is named", "--dataset=NAME"]),
        (["--dataset=toi", "--data_path=data"], ["'toi'", "Did you mean toy"]),
        (["--dataset=toy", "--data_path=data", "--modality=1"], ["'modality'", "modalities"]),
        (["toy"], ["'toy'", "--key=value"]),
    ],
)
def test_check_with_a_wrong_command_line(mmrec, capsys, words, parts):
    assert main.main(["convert", "mmrec", "source", "data"]) == 0
    assert main.main(["check", *words]) != 0
    err = capsys.readouterr().err
    for part in parts:
        assert part in err


# -- looking into models ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["robustness", "decompose", "plot-information"])
def test_commands_of_their_own_modules_have_their_own_help(capsys, command):
    assert main.main([command, "--help"]) == 0
    assert f"recbole-ib {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["robustness", "--models=VBPRR", "--levels=0", "--seeds=0", "--out=grid"], "VBPRR"),
        (["decompose", "nothing.pth"], "nothing.pth"),
        (["plot-information", "nothing.csv"], "nothing.csv"),
    ],
)
def test_their_refusals_name_what_is_wrong(capsys, argv, part):
    assert main.main(argv) == 1
    assert part in capsys.readouterr().err


def test_from_a_run_to_its_plots_and_its_decomposition(tmp_path, monkeypatch, capsys, planted_path):
    """The README's three steps on one small run."""
    monkeypatch.chdir(tmp_path)
    words = ["--model=VBPR", "--bottleneck=mrdib", "--dataset=planted", f"--data_path={planted_path}", "--epochs=2"]
    assert main.main([*words, "--diagnostics=True", "--show_progress=False", "--use_gpu=False"]) == 0
    assert "MRdIBVBPR on planted" in capsys.readouterr().out
    (table,) = Path("saved").glob("*-diagnostics.csv")
    assert main.main(["plot-information", str(table), "--out=plots"]) == 0
    assert len(list(Path("plots").glob("*.png"))) == 2
    (checkpoint,) = (path for path in Path("saved").glob("*.pth") if not path.stem.endswith("-last"))
    capsys.readouterr()
    assert main.main(["decompose", str(checkpoint), "--repeats=1"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("unique", "redundant", "synergistic", "text", "visual"))
