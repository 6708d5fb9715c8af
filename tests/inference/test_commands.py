"""The commands recommend, similar and export."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import recbole_ib
from recbole_ib import load
from recbole_ib.cli import main
from recbole_ib.patches.compat import TRUST_VARIABLE
from tests.support.processes import fresh_python
from tests.support.recommend import in_another_process, train

# -- tokens that look like numbers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """BPR on tokens such as 007 and 7, under field names of the data set's own."""
    folder = tmp_path_factory.mktemp("numbers")
    here = folder / "data" / "numbers"
    here.mkdir(parents=True)
    users, items = [f"{u:03d}" for u in range(10)] + ["7", "1e3", "-0"], [f"{i:02d}" for i in range(12)] + ["1.0", 'a,"b"']
    rng = np.random.default_rng(0)
    taken = [f"{u}\t{i}" for u in users for i in items if rng.random() < 0.4]
    (here / "numbers.inter").write_text("\n".join(["reader:token\tbook:token", *taken]) + "\n")
    fields = {"USER_ID_FIELD": "reader", "ITEM_ID_FIELD": "book", "load_col": {"inter": ["reader", "book"]}}
    fields |= {"topk": [5], "valid_metric": "Recall@5"}
    return train(folder / "data", folder / "saved", "BPR", "numbers", **fields), {tuple(line.split("\t")) for line in taken}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tokens_stay_text_in_files(numbers, tmp_path, ending, capsys):
    checkpoint, taken = numbers
    (tmp_path / "users.txt").write_text("007\n\n7\n1e3\n  \n-0\n")
    out = tmp_path / f"recs.{ending}"
    assert main.main(["recommend", checkpoint, "--users", str(tmp_path / "users.txt"), "--k=3", f"--out={out}"]) == 0
    assert capsys.readouterr().out == f"4 users, 12 rows: {out}\n"
    text = {"reader": str, "book": str}
    found = pd.read_csv(out, dtype=text) if ending == "csv" else pd.read_parquet(out)
    assert list(found.columns) == ["reader", "book", "rank", "score"]
    assert list(dict.fromkeys(found["reader"])) == ["007", "7", "1e3", "-0"]
    expected = load(checkpoint).recommend(["007", "7", "1e3", "-0"], k=3)
    assert list(found["book"]) == list(expected["book"])
    assert list(found["rank"]) == [1, 2, 3] * 4
    np.testing.assert_array_equal(found["score"].astype(np.float32), expected["score"])
    assert not taken & set(zip(found["reader"], found["book"], strict=True))


# -- commands ---------------------------------------------------------------------------------------------------------


def test_the_command_writes_all_users(vbpr, recommender, tmp_path, capsys):
    out = tmp_path / "recs.csv"
    out.write_text("old")
    assert main.main(["recommend", vbpr, "--k", "4", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"80 users, 320 rows: {out}\n"
    found = pd.read_csv(out, dtype={"user_id": str, "item_id": str})
    pd.testing.assert_frame_equal(found.astype({"score": np.float32}), recommender.recommend(k=4))
    assert main.main(["recommend", vbpr, "--k", "60", "--keep-seen", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"80 users, {80 * 60} rows: {out}\n"
    assert main.main(["recommend", vbpr, "--k", "61", "--keep-seen", "--out", str(out)]) == 0
    assert "80 of 80 users have fewer than 61 items" in capsys.readouterr().err


def test_unknown_users_of_a_file_are_named_by_line(vbpr, tmp_path, capsys):
    users, out = tmp_path / "users.txt", tmp_path / "recs.csv"
    users.write_text("\ufeffu1\n\nu99\nu2\r\nu1\nx\n", encoding="utf-8")
    words = ["recommend", vbpr, f"--users={users}", "--k=2", f"--out={out}"]
    assert main.main(words) == 1
    message = capsys.readouterr().err
    assert "2 of 5 users are not in the data set 'planted' of the run (line 3: 'u99', line 6: 'x')" in message
    assert "Did you mean u9" in message
    assert "--skip-unknown" in message
    assert not out.exists()
    assert main.main([*words, "--skip-unknown"]) == 0
    captured = capsys.readouterr()
    assert "2 of 5 users are not in the data set" in captured.err
    assert captured.out == f"2 users, 4 rows: {out}\n"
    assert list(pd.read_csv(out)["user_id"]) == ["u1", "u1", "u2", "u2"]
    users.write_text("x\n")
    assert main.main([*words, "--skip-unknown"]) == 1
    assert "no user is left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out=recs.txt"], "must end in .parquet or .csv"),
        (["--out=recs"], "must end in .parquet or .csv"),
        (["--out=none/recs.csv"], "no folder none"),
        (["--out=recs.csv", "--skip-unknown"], "--skip-unknown goes with --users"),
        (["--out=recs.csv", "--users=none.txt"], "cannot read none.txt"),
        (["--out=recs.csv", "--users=empty.txt"], "empty.txt holds no user"),
        (["--out=recs.csv", "--users=latin.txt"], "no UTF-8 text"),
        (["--out=folder.csv"], "is a folder"),
    ],
)
def test_what_is_wrong_is_said_before_the_model_is_read(words, message, capsys):
    Path("empty.txt").write_text("\n \n")
    Path("latin.txt").write_bytes("é".encode("latin-1"))
    Path("folder.csv").mkdir()
    assert main.main(["recommend", "no-such.pth", *words]) == 1
    assert message in capsys.readouterr().err
    assert not Path("recs.csv").exists()


@pytest.mark.parametrize("k", ["0", "-3", "two", "1.5"])
def test_a_wrong_k_of_a_command_is_refused(k, capsys):
    assert main.main(["recommend", "run.pth", f"--k={k}", "--out=recs.csv"]) == 2
    assert "a whole number of at least 1 is needed" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_file_is_whole_or_not_there(vbpr, tmp_path, ending, capsys, monkeypatch):
    out = tmp_path / f"recs.{ending}"

    def break_off(frame, path, **settings):
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, f"to_{ending}", break_off)
    assert main.main(["recommend", vbpr, f"--out={out}"]) == 1
    assert f"cannot write {out}: No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_similar_items_are_printed(vbpr, recommender, capsys):
    assert main.main(["similar", vbpr, "i3", "i4", "--k=2"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["item_id", "similar_item", "rank", "score"]
    expected = recommender.similar(["i3", "i4"], k=2)
    assert lines[1:] == [[a, b, str(r), f"{s:.4f}"] for a, b, r, s in expected.itertuples(index=False)]
    assert main.main(["similar", vbpr, "i3", "i444"]) == 1
    assert "Did you mean i44" in capsys.readouterr().err


def test_the_export_command(vbpr, tmp_path, capsys):
    pytest.importorskip("faiss")
    out = tmp_path / "out"
    assert main.main(["export", vbpr, str(out), "--faiss"]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 80 users, 60 items, ")
    assert (out / "items.faiss").is_file()
    assert main.main(["export", vbpr, str(out)]) == 1
    assert "already there" in capsys.readouterr().err
    assert main.main(["export", vbpr, str(out), "--force"]) == 0
    assert not (out / "items.faiss").exists()


@pytest.mark.parametrize("command", ["recommend", "similar", "export"])
def test_help_of_the_commands(command, capsys):
    assert main.main([command, "--help"]) == 0
    assert f"recbole-ib {command}" in capsys.readouterr().out


def test_another_process_gives_the_same_recommendations(vbpr, recommender, tmp_path):
    done = in_another_process("recommend", vbpr, "--k=5", f"--out={tmp_path / 'there.csv'}")
    assert done.returncode == 0, done.stderr[-2000:]
    recommender.recommend(k=5).to_csv("here.csv", index=False)
    assert (tmp_path / "there.csv").read_bytes() == Path("here.csv").read_bytes()


def test_another_process_reads_a_recbole_model_by_consent_alone(bpr, tmp_path):
    out = tmp_path / "there.csv"
    done = in_another_process("recommend", bpr, "--k=5", f"--out={out}")
    assert done.returncode == 1
    assert f"set the environment variable {TRUST_VARIABLE}=1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
    done = in_another_process("recommend", bpr, "--k=5", f"--out={out}", trust=True)
    assert done.returncode == 0, done.stderr[-2000:]
    load(bpr).recommend(k=5).to_csv("here.csv", index=False)
    assert out.read_bytes() == Path("here.csv").read_bytes()


def test_faiss_is_not_imported_before_it_is_needed():
    script = "import recbole_ib, sys; assert 'faiss' not in sys.modules; assert callable(recbole_ib.load)"
    done = fresh_python("-c", script)
    assert done.returncode == 0, done.stderr
    assert "load" in recbole_ib.__all__
