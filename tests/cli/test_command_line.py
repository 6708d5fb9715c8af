"""The tree of commands in real processes: what help imports, completion, lists in every form, Ctrl-C while a model is trained."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import recbole_ib
from recbole_ib.errors import TrainingInterrupted
from recbole_ib.experiments.options import joined, read_seeds
from recbole_ib.training import run as training
from recbole_ib.tuning.options import SCHEDULERS, SEARCHES, Options
from recbole_ib_cli.common import WordError
from recbole_ib_cli.main import COMMANDS, build_parser, main, read_words, subparsers
from tests.support.processes import fresh_python

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
HEAVY = ("torch", "recbole", "recbole_ib", "pandas", "numpy", "ray", "yaml")


def imported(*words: str) -> tuple[int, str, list[str]]:
    """Exit status, output and heavy imports of the command line in a process of its own."""
    script = "import sys; from recbole_ib_cli.main import main; status = main(sys.argv[1:])\n"
    script += f"print('HEAVY', *[name for name in {HEAVY} if name in sys.modules]); sys.exit(status)"
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False
    )
    text, _, heavy = done.stdout.rpartition("HEAVY")
    return done.returncode, text + done.stderr, heavy.split()


# -- what is light ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (["--help"], 0, "plot-information"),
        (["tune", "--help"], 0, "--keep-checkpoints"),
        (["--version"], 0, f"recbole-ib {recbole_ib.__version__}"),
        (["chek"], 2, "Did you mean check?"),
        (["compare"], 2, "required: --models, --dataset"),
        (["train", "--epochs"], 1, "--epochs=VALUE"),
        (["--epochs=1", "--epochs=2"], 1, "given twice"),
        (["recommend", "x.pth", "--ot=y.csv"], 2, "--out"),
    ],
)
def test_help_the_version_and_misspelt_words_import_nothing_heavy(words, status, part):
    code, text, heavy = imported(*words)
    assert (code, heavy) == (status, [])
    assert part in text
    assert "Traceback" not in text


def test_importing_the_package_still_registers_its_models():
    script = "import recbole_ib; from recbole.utils import get_model; print(get_model('IBMRec').__name__)"
    done = fresh_python("-c", script)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "IBMRec"


# -- the tree ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_own_help_and_a_function(name, capsys):
    assert main([name, "--help"]) == 0
    assert f"usage: recbole-ib {name} " in capsys.readouterr().out
    assert main(["help", name]) == 0
    assert f"usage: recbole-ib {name} " in capsys.readouterr().out
    module, _, function = COMMANDS[name].target.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_abbreviated(name):
    parser = subparsers(build_parser())[name]
    assert parser.allow_abbrev is False
    option = next(word for action in parser._actions for word in action.option_strings if len(word) > 5)
    with pytest.raises((SystemExit, WordError)):
        read_words([name, option[:-1]])


def test_help_of_tune_names_what_its_options_allow(capsys):
    main(["tune", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ", ".join(SEARCHES) in text
    assert ", ".join(SCHEDULERS) in text


def test_tune_asks_for_its_options_own_defaults():
    args, defaults = vars(read_words(["tune"])), vars(Options())
    assert args["heatmap"] == list(defaults.pop("heatmaps"))
    assert {name: args[name] for name in defaults} == defaults


@pytest.mark.parametrize(
    "words",
    [
        ["--models", "BPR", "VLATTICE+fib:alpha=1|2", "LATTICE:sizes=[1,2]"],
        ["--models=BPR,VLATTICE+fib:alpha=1|2,LATTICE:sizes=[1,2]"],
        ["--models", "BPR,VLATTICE+fib:alpha=1|2", "LATTICE:sizes=[1,2]"],
        ["--models", "BPR,", "VLATTICE+fib:alpha=1|2,", "LATTICE:sizes=[1,2]"],
        ["--models=BPR", "VLATTICE+fib:alpha=1|2,LATTICE:sizes=[1,2]"],
    ],
)
@pytest.mark.parametrize("command", ["compare", "robustness"])
def test_lists_by_blank_or_comma(command, words):
    args = read_words([command, *words, "--dataset", "tiny", "--seeds=3", "7,", "9", "--epochs", "5", "--config_files=a,b"])
    assert joined(args.models) == "BPR,VLATTICE+fib:alpha=1|2,LATTICE:sizes=[1,2]"
    assert read_seeds(args.seeds) == [3, 7, 9]
    assert (args.dataset, args.settings, args.config_files) == ("tiny", ["--epochs=5"], ["a", "b"])


def test_a_file_with_a_comma_in_its_name_is_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a,b.yaml").write_text("")
    assert read_words(["--config_files=a,b.yaml"]).config_files == ["a,b.yaml"]


@pytest.mark.parametrize("name", ["train", "check", "tune", "compare", "ablate", "robustness"])
@pytest.mark.parametrize("words", [["--model=VBPR"], ["--model", "VBPR"]])
def test_model_in_both_forms(name, words):
    needed = {"compare": ["--models=BPR", "--dataset=x"], "ablate": ["--dataset=x"]}.get(name, [])
    args = read_words([name, *needed, *words])
    # a comparison's run refuses it there, and says that --models takes it
    assert (args.settings if name in ("train", "check", "compare", "robustness") else [f"--model={args.model}"]) == [
        "--model=VBPR"
    ]


@pytest.mark.parametrize(
    ("words", "word"),
    [
        # behind a setting a bare word is no further model
        (["compare", "--dataset=x", "--models", "A", "--epochs=5", "B"], "'B'"),
        (["compare", "--dataset=x", "--models", "A", "--epochs", "5", "B"], "'B'"),
        (["train", "--metrics", "Recall", "NDCG"], "'NDCG'"),
        (["tune", "--resume", "yes"], "'yes'"),
        (["train", "--epochs", "--seed=1"], "'--epochs'"),
        (["ablate", "--model=A", "--dataset=x", "--keep-checkpoint", "x"], "Did you mean --keep-checkpoints"),
    ],
)
def test_words_that_nobody_reads_are_refused(words, word, capsys):
    assert main(words) == 1
    assert word in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--fresh"], ["--fresh=true"], ["--fresh=false"], ["--fresh", "--epochs=1"]])
def test_old_spellings_of_robustness(words):
    args = read_words(["robustness", "--levels=0,0.5", "--seeds=0", *words])
    assert args.fresh == ("true" if words and not words[0].endswith("false") else "false")


# -- completion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_printed(shell, capsys):
    pytest.importorskip("shtab")
    assert main(["--print-completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("plot-information", "--keep-checkpoints", "--resume_checkpoint"):
        assert word in script
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=script, text=True, check=False).returncode == 0


def test_bash_completes_a_command_and_its_options(capsys):
    pytest.importorskip("shtab")
    assert main(["--print-completion=bash"]) == 0
    script = capsys.readouterr().out
    (function,) = re.findall(r"complete .*-F (\w+) recbole-ib", script)
    for words, expected in ((["recbole-ib", "comp"], "compare"), (["recbole-ib", "tune", "--keep"], "--keep-checkpoints")):
        line = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; {function}; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash"], input=f"{script}\n{line}\n", capture_output=True, text=True, check=True)
        assert expected in done.stdout.split()


def test_completion_without_shtab_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 1
    assert "pip install 'recbole-ib[completion]'" in capsys.readouterr().err


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------

#: a shell's background job inherits that SIGINT is ignored, and a test may run in one
START = "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
START += "sys.argv[0] = 'recbole-ib'; from recbole_ib_cli.main import main; sys.exit(main())"


def start(folder: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", START, *words],
        cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=(folder / "stderr").open("w"), text=True,
    )  # fmt: skip


def interrupted_when(process: subprocess.Popen, ready, folder: Path) -> str:
    """What the process prints where Ctrl-C is pressed once ``ready()`` is true."""
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, (folder / "stderr").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    return (folder / "stderr").read_text()


@pytest.fixture
def words(planted_path) -> list[str]:
    words = ["--model=VBPR", "--dataset", "planted", f"--data_path={planted_path}", "--train_batch_size=64"]
    return [*words, "--show_progress=False", "--use_gpu=False", "--stopping_step=1000"]


def test_ctrl_c_prints_the_command_that_goes_on(tmp_path, words):
    process = start(tmp_path, *words, "--epochs=400")
    text = interrupted_when(process, lambda: list((tmp_path / "saved").glob("*-last.pth")), tmp_path)
    assert "Traceback" not in text
    (last,) = (tmp_path / "saved").glob("*-last.pth")
    program, *again = shlex.split(text.splitlines()[-1])
    assert program == "recbole-ib"
    assert again == [*words[:1], "--dataset=planted", *words[3:], "--epochs=400", f"--resume_checkpoint=saved/{last.name}"]
    stopped = torch.load(last, weights_only=True)["epoch"]
    assert stopped < 399
    # and once more: the command that goes on goes on
    process = start(tmp_path, *again)
    text = interrupted_when(process, lambda: torch.load(last, weights_only=True)["epoch"] > stopped, tmp_path)
    assert shlex.split(text.splitlines()[-1])[1:] == again


def test_ctrl_c_before_the_first_evaluation_says_that_nothing_can_be_resumed(tmp_path, words):
    process = start(tmp_path, *words, "--epochs=5000", "--eval_step=5000")
    text = interrupted_when(process, lambda: "epoch 0 training" in (tmp_path / "stderr").read_text(), tmp_path)
    assert "Traceback" not in text
    assert text.splitlines()[-1] == (
        "Interrupted: no epoch was evaluated and saved, so nothing can be resumed. The same command starts over"
    )
    assert not list((tmp_path / "saved").glob("*.pth"))


def test_ctrl_c_in_python_carries_the_checkpoint(tmp_path, monkeypatch, planted_path):
    monkeypatch.chdir(tmp_path)
    settings = {"data_path": str(planted_path), "epochs": 5, "show_progress": False, "use_gpu": False}

    fit = training.fit

    def stop(*args, **kwargs):
        fit(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", stop)
    with pytest.raises(TrainingInterrupted, match=r"-last\.pth goes on") as error:
        recbole_ib.run_recbole_ib("VBPR", "planted", config_dict=settings)
    assert error.value.checkpoint.is_file()
    with pytest.raises(TrainingInterrupted, match="nothing can be resumed") as error:
        recbole_ib.run_recbole_ib("VBPR", "planted", config_dict=settings, saved=False)
    assert error.value.checkpoint is None


@pytest.mark.parametrize("name", ["robustness", "models"])
def test_ctrl_c_in_other_commands_ends_with_130_and_one_line(name, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(COMMANDS[name].target.replace(":", "."), stop)
    assert main([name]) == 130
    assert capsys.readouterr().err == f"\n{COMMANDS[name].interrupted}\n"
