"""Several processes make the steps of one: slices of a batch in one process, and whole commands under torchrun."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import get_model, init_seed

from recbole_ib.config.config import Config
from recbole_ib.distributed.launch import own_device, visible_devices
from recbole_ib.distributed.share import Share, WholeBatch
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.registry import CATALOG
from recbole_ib.training import distributed
from recbole_ib.training.checkpoint import last_path, read_checkpoint
from recbole_ib.training.run import format_result, run_recbole_ib
from recbole_ib.training.trainer import MultimodalTrainer

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
if sys.platform == "linux":
    ENVIRONMENT["GLOO_SOCKET_IFNAME"] = "lo"  # a machine's own name need not resolve
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
#: relative, of float32 sums in another order; what is no mean over rows differs by 5e-3 at the least
ROUNDING = 1e-5
SHARING = ["VBPR", "VLightGCN", "LATTICE", "VLATTICE", "MMGCN", "GRCN", "DualGNN", "FREEDOM"]
#: equal with their default settings, and refused all the same
EQUAL_BY_SETTING = {
    "MICRO": "with cl_items: batch the contrast is among the batch's items",
    "InvRL": "its trainer has stages of its own before the last one",
    "SGFD": "its terms are means over the items that have a label, and its loss is that of any backbone",
}


# -- slices of a batch ------------------------------------------------------------------------------------------------


def gradients(model, share):
    """Loss terms and gradients of a slice (or of a whole batch), unweighted."""
    model.zero_grad(set_to_none=True)
    init_seed(7, True)
    with share:
        losses = model.calculate_loss(share.interaction)
    sum(losses).backward()
    return [v.item() for v in losses], [None if p.grad is None else p.grad.double() for p in model.parameters()]


def in_slices(model, interaction, size, start):
    """The weighted sums over the slices; ``start`` brings the model to where the batch begins."""
    sums = [[] for _ in range(size)]

    def one(rank, add):
        start()
        share = Share(interaction, rank, size, add)
        return share.weight, *gradients(model, share)

    for rank in range(size):
        one(rank, lambda x, rank=rank: sums[rank].append(x) or x)
    found = []
    for rank in range(size):
        calls = iter(range(len(sums[0])))
        found.append(one(rank, lambda x, calls=calls: sum(sums[r][i] for i in [next(calls)] for r in range(size))))
    terms = [sum(w * t[i] for w, t, _ in found) for i in range(len(found[0][1]))]
    grads = []
    for i in range(len(found[0][2])):
        present = [w * g[i] for w, _, g in found if g[i] is not None]
        grads.append(sum(present) if present else None)
    return terms, grads


def worst_difference(build, name, rows, size, **settings):
    """The largest relative difference of a loss term or gradient, over the first and a later batch of an epoch."""
    _, model, train, _, _ = build(name, train_batch_size=rows, **settings)
    # away from the start, where whole gradients vanish
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    model.train()
    batches = iter(train)
    worst = 0.0

    def first_batch():
        init_seed(3, True)
        model.pre_epoch(0)

    for start in (first_batch, lambda: None):
        interaction = next(batches)
        start()
        terms, grads = gradients(model, WholeBatch(interaction))
        sliced_terms, sliced = in_slices(model, interaction, size, start)
        worst = max([worst, *(abs(a - b) / (abs(a) + 1e-9) for a, b in zip(terms, sliced_terms, strict=True))])
        largest = max(float(g.norm()) for g in grads if g is not None)
        for whole, parts in zip(grads, sliced, strict=True):
            if whole is None or parts is None:
                assert whole is parts, "a parameter has a gradient in the whole batch or in the slices alone"
                continue
            # a gradient that is zero but for rounding (FREEDOM's biases cancel out of a difference) is compared with the largest one
            worst = max(worst, float((whole - parts).norm() / (whole.norm() + 1e-4 * largest)))
    return worst


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize(("rows", "size"), [(101, 2), (3, 4)], ids=["uneven halves", "an empty slice"])
def test_slices_make_the_losses_and_gradients_of_the_batch(build, name, rows, size):
    assert worst_difference(build, name, rows, size) < ROUNDING


@pytest.mark.parametrize("settings", [{"item_graph": "frozen"}, {"reg_weight": 0.1, "train_neg_sample_args": {"sample_num": 3}}])
def test_slices_do_so_with_other_settings(build, settings):
    """The item graph's weights learned on a frozen graph; several negatives a row."""
    assert worst_difference(build, "LATTICE", 50, 3, **settings) < ROUNDING


@pytest.mark.parametrize("name", sorted(set(CATALOG) - set(SHARING) - set(EQUAL_BY_SETTING)))
def test_the_refused_models_would_train_otherwise(build, name):
    assert worst_difference(build, name, 100, 2) > 100 * ROUNDING


def test_the_declared_models_are_the_proven_ones():
    assert [name for name in CATALOG if distributed.can_share(get_model(name))] == sorted(SHARING, key=list(CATALOG).index)


def test_a_subclass_does_not_inherit_the_declaration():
    class OtherLoss(get_model("VBPR")):
        pass

    assert not distributed.can_share(OtherLoss)
    assert not distributed.can_share(get_model("IBMRec"))


def test_slices_part_a_batch(build):
    batch = Interaction({"user_id": torch.arange(11)})
    for size in (1, 2, 3, 11, 16):
        shares = [Share(batch, rank, size, lambda x: x) for rank in range(size)]
        assert sum(s.weight for s in shares) == pytest.approx(1)
        rows = torch.cat([s.interaction["user_id"] for s in shares if s.weight])
        assert rows.tolist() == list(range(11))
        # every process has rows to compute with
        assert min(len(s.interaction) for s in shares) >= 1


def test_batches_that_differ_between_processes_end_the_run():
    processes = object.__new__(distributed.ProcessGroup)
    processes.rank, processes.size = 1, 2
    batch = Interaction({"user_id": torch.arange(5)})
    processes.sum = lambda own: own * 2
    assert processes.share(batch, "cpu").interaction["user_id"].tolist() == [2, 3, 4]
    processes.sum = lambda own: own * 2 + 1
    with pytest.raises(RuntimeError, match="process 1 of 2 drew another batch"):
        processes.share(batch, "cpu")


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.fixture
def under_torchrun(monkeypatch):
    """What torchrun tells the second of two processes."""
    told = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("model", ["IBMRec", "MGCN", "SGFD", "FREEDOM+fib", "BPR"])
def test_a_model_that_cannot_share_is_refused_before_anything_is_loaded(under_torchrun, planted_path, model):
    settings = {"data_path": str(planted_path), "use_gpu": False}
    with pytest.raises(ConfigurationError) as error:
        run_recbole_ib(model, "planted", config_dict=settings)
    message = str(error.value)
    assert message.startswith(f"{model} cannot be trained by several processes")
    assert f"Models that can: {', '.join(sorted(SHARING, key=list(CATALOG).index))}." in message
    assert "without torchrun" in message
    assert not Path("log").exists()


@pytest.mark.parametrize("key", ["save_dataset", "save_dataloaders"])
def test_files_that_all_would_write_are_refused(under_torchrun, planted_path, key):
    with pytest.raises(ConfigurationError, match=f"{key}: several processes would write the same file"):
        run_recbole_ib("VBPR", "planted", config_dict={"data_path": str(planted_path), key: True, "use_gpu": False})


def test_a_data_set_that_would_be_downloaded_is_refused(under_torchrun):
    with pytest.raises(ConfigurationError, match="download the data set by a run without torchrun first"):
        run_recbole_ib("VBPR", "amazon-books", config_dict={"data_path": "nowhere", "use_gpu": False})


def test_recboles_own_route_names_torchrun(build, planted_path):
    with pytest.raises(
        ConfigurationError, match=r"nproc is 2: .* start the processes with torchrun: torchrun --nproc_per_node=2"
    ):
        Config("VBPR", "planted", config_dict={"data_path": str(planted_path), "nproc": 2})
    config, model, _, _, _ = build("VBPR")
    config["single_spec"] = False
    with pytest.raises(ConfigurationError, match=r"nproc > 1 is refused for VBPR: .*torchrun --nproc_per_node=2"):
        MultimodalTrainer(config, model)


def test_recboles_own_entry_point_is_refused(under_torchrun, build):
    config, model, _, _, _ = build("VBPR")
    with pytest.raises(ConfigurationError, match="call run_recbole_ib, or: torchrun"):
        MultimodalTrainer(config, model)


def test_hidden_gpus_stay_hidden(under_torchrun, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_devices() == "0,1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_devices() == ""


def test_other_commands_are_refused(under_torchrun, capsys):
    from recbole_ib.cli.main import main

    assert main(["models"]) == 1
    assert "recbole-ib (process 1 of 2): models runs in one process" in capsys.readouterr().err


def test_more_processes_than_gpus_are_refused(under_torchrun, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigurationError, match=r"more processes than it has visible GPUs \(1\)"):
        own_device(torch.device("cuda"))
    assert own_device(torch.device("cpu")) == torch.device("cpu")


# -- under torchrun ---------------------------------------------------------------------------------------------------

#: batches of an odd number of rows with an uneven last one, and evaluations of several batches
SETTINGS = {
    "train_batch_size": 101, "eval_batch_size": 900, "knn_k": 5, "use_gpu": False, "show_progress": False, "learning_rate": 0.01,
}  # fmt: skip
RUNS = {
    "FREEDOM": {"model": "FREEDOM", "epochs": 4},
    "VBPR": {"model": "VBPR", "epochs": 30, "stopping_step": 1, "stopping_batches": 0},
    "device": {"model": "VBPR", "epochs": 3, "sampling": "device"},
    "sampled": {
        "model": "VBPR",
        "epochs": 2,
        "eval_args": {"mode": "uni5"},
        "metrics": ["NDCG", "MAP"],
        "valid_metric": "NDCG@10",
    },
}
SCRIPT = """
import json, os, sys
from recbole_ib import run_recbole_ib
if __name__ == "__main__":
    runs, settings, found = *json.loads(sys.argv[1]), {}
    for name, run in runs.items():
        found[name] = run_recbole_ib(dataset="planted", config_dict={**settings, **run})
    again = {"model": "FREEDOM", "epochs": 6, "resume_checkpoint": found["FREEDOM"]["checkpoint"].replace(".pth", "-last.pth")}
    found["resumed"] = run_recbole_ib(dataset="planted", config_dict={**settings, **again})
    with open("result-" + os.environ["RANK"] + ".json", "w") as file:
        json.dump(found, file)
"""


def torchrun(*words, **kwargs):
    done = subprocess.run([*TORCHRUN, *words], capture_output=True, text=True, env=ENVIRONMENT, timeout=400, **kwargs)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def losses(result, folder="."):
    return read_checkpoint(last_path(Path(folder) / result["checkpoint"]))["train_loss_dict"]


def test_two_processes_give_the_losses_and_results_of_one(tmp_path, planted_path):
    settings = {**SETTINGS, "data_path": str(planted_path)}
    (tmp_path / "run.py").write_text(SCRIPT)
    torchrun("run.py", json.dumps([RUNS, settings]), cwd=tmp_path)
    files = [len(list((tmp_path / folder).iterdir())) for folder in ("saved", "log_tensorboard")]
    both = [json.loads((tmp_path / f"result-{rank}.json").read_text()) for rank in range(2)]
    alone = {**RUNS, "resumed": {"model": "FREEDOM", "epochs": 6}}
    stopped = []
    for name, run in alone.items():
        expected = run_recbole_ib(dataset="planted", config_dict={**settings, **run, "checkpoint_dir": "one"})
        for got in both:
            for key in ("best_valid_score", "best_valid_result", "test_result"):
                # sums in another order may swap two items that score alike: one hit of one user
                assert got[name][key] == pytest.approx(expected[key], abs=5e-3), (name, key)
            assert got[name]["checkpoint"] == both[0][name]["checkpoint"]
        curve = losses(both[0][name], tmp_path)
        # the resumed run went on in the files of the run before
        if name != "FREEDOM":
            assert curve == pytest.approx(losses(expected), rel=1e-4), name
            stopped.append(len(curve))
    assert stopped[0] < 30
    # the best epoch's file, the last one's and the manifest, of every run that was not a resumed one; events of all
    assert files == [3 * len(RUNS), len(RUNS) + 1]


def test_the_command_under_torchrun_writes_and_prints_once(tmp_path, planted_path):
    settings = {**SETTINGS, "data_path": str(planted_path), "epochs": 3, "item_graph": "learned", "diagnostics": True}
    words = [f"--{key}={value}" for key, value in settings.items()]
    done = torchrun("-m", "recbole_ib", "--model=VLATTICE", "--dataset=planted", *words, cwd=tmp_path)
    logs = [len(list((tmp_path / folder).iterdir())) for folder in ("log/VLATTICE", "log_tensorboard")]
    expected = run_recbole_ib("VLATTICE", "planted", config_dict={**settings, "checkpoint_dir": "one"})
    row = r"^((?:recall|precision|ndcg)@\d+) +(\S+) +(\S+)$"
    printed, table = (re.findall(row, text, re.MULTILINE) for text in (done.stdout, format_result(expected)))
    assert [name for name, *_ in printed] == [name for name, *_ in table]
    numbers = [[float(value) for _, *pair in rows for value in pair] for rows in (printed, table)]
    assert numbers[0] == pytest.approx(numbers[1], abs=5e-3)
    assert done.stderr.count("epoch 0 training") == 1
    assert "2 processes share every batch" in done.stderr
    names = sorted(p.name for p in (tmp_path / "saved").iterdir())
    assert [re.sub(r".*-[0-9a-f]{6}", "", name) for name in names] == ["-diagnostics.csv", "-last.pth", ".json", ".pth"]
    assert logs == [1, 1]
    state = read_checkpoint(tmp_path / "saved" / names[1])
    assert state["train_loss_dict"] == pytest.approx(losses(expected), rel=1e-4)
    # it is one process's checkpoint: one process goes on from it, with the same numbers
    longer = {**settings, "epochs": 5}
    resumed = run_recbole_ib(
        "VLATTICE", "planted", config_dict={**longer, "resume_checkpoint": str(tmp_path / "saved" / names[1])}
    )
    whole = run_recbole_ib("VLATTICE", "planted", config_dict={**longer, "checkpoint_dir": "whole"})
    assert resumed["test_result"] == pytest.approx(whole["test_result"], abs=5e-3)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run(tmp_path, planted_path):
    settings = {**SETTINGS, "data_path": str(planted_path), "epochs": 100000, "stopping_step": 100000}
    words = [f"--{key}={value}" for key, value in settings.items()]
    run = subprocess.Popen(
        [*TORCHRUN, "-m", "recbole_ib", "--model=VBPR", "--dataset=planted", *words],
        cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("saved/*-last.pth")) and time.monotonic() < deadline:
        assert run.poll() is None
        time.sleep(0.1)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, errors = run.communicate(timeout=400)
    assert run.returncode != 0
    assert "SIGKILL" in errors
