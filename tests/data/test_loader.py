"""RecBole's data set class with our reader: ids kept, exact order by time, repeats named, for RecBole's own models too."""

import numpy as np
import pytest
from recbole.data import create_dataset, data_preparation

from recbole_ib.config.config import Config
from recbole_ib.data.intervals import parse_intervals
from recbole_ib.data.repeats import repeats
from recbole_ib.errors import ConfigurationError
from recbole_ib.training.validate import check_dataset


def dataset(folder, lines, model="BPR", header="user_id:token\titem_id:token", parts=None, **settings):
    """The data set ``d`` of these lines, or of the parts' lines."""
    here = folder / "d"
    here.mkdir(parents=True, exist_ok=True)
    for name, text in (parts or {"": lines}).items():
        (here / f"d{f'.{name}' if name else ''}.inter").write_text("\n".join([header, *text]) + "\n")
    columns = [field.split(":")[0] for field in header.split("\t")]
    given = {"load_col": {"inter": columns}, "data_path": str(folder), "use_gpu": False, **settings}
    return create_dataset(Config(model, "d", config_dict=given))


def tokens(data, part):
    users, items = (data.field2id_token[f][part.inter_feat[f].numpy()] for f in (data.uid_field, data.iid_field))
    return list(zip(users, items, strict=True))


@pytest.mark.parametrize("word", ["NA", "None", "nan", "null"])
def test_users_and_items_of_these_names_are_kept(tmp_path, word):
    rows = [(word if u == 0 else f"u{u}", word if i == 5 else f"i{i}") for u in range(8) for i in range(u, u + 9)]
    data = dataset(tmp_path, [f"{u}\t{i}" for u, i in rows])
    assert set(zip(*(data.field2id_token[f][data.inter_feat[f]] for f in ("user_id", "item_id")), strict=True)) == set(rows)
    assert word in data.field2token_id["user_id"]


@pytest.mark.parametrize("split", [{"LS": "valid_and_test"}, {"RS": [0.8, 0.1, 0.1]}])
def test_order_by_time_is_exact(tmp_path, split):
    """As float32 today's seconds are known to 128 of them."""
    rng = np.random.default_rng(0)
    rows = [(u, i, 1_700_000_000 + 100_000 * u + 10 * k) for u in range(20) for k, i in enumerate(rng.permutation(40)[:10])]
    order = rng.permutation(len(rows))
    lines = [f"u{u}\ti{i}\t{t}" for u, i, t in (rows[n] for n in order)]
    data = dataset(
        tmp_path,
        lines,
        header="user_id:token\titem_id:token\ttimestamp:float",
        eval_args={"order": "TO", "split": split, "group_by": "user"},
    )
    train, valid, test = data.build()
    times = {(f"u{u}", f"i{i}"): t for u, i, t in rows}
    for earlier, later in ((train, valid), (valid, test)):
        for user in range(20):
            before = [times[pair] for pair in tokens(data, earlier) if pair[0] == f"u{user}"]
            after = [times[pair] for pair in tokens(data, later) if pair[0] == f"u{user}"]
            assert max(before) < min(after)


def test_repeats_are_counted_with_what_to_do(tmp_path, caplog):
    lines = [f"u{u}\ti{i}" for u in range(10) for i in range(u, u + 8)]
    doubled = dataset(tmp_path, [*lines, *lines[:7]])
    (text,) = repeats(doubled)
    assert text.startswith("7 of 87 interactions repeat")
    assert "rm_dup_inter: first" in text
    doubled.build()
    assert text in caplog.text
    assert repeats(dataset(tmp_path, [*lines, *lines[:7]], rm_dup_inter="first")) == []
    dataset(tmp_path, [*lines, *lines[:7]])
    report = check_dataset(
        config_dict={"dataset": "d", "data_path": str(tmp_path), "load_col": {"inter": ["user_id", "item_id"]}}
    )
    assert any("7 of 87 interactions repeat" in warning for warning in report.warnings)
    assert "warning: 7 of 87" in report.text()


def test_benchmark_files_that_share_pairs_are_named(tmp_path):
    train = [f"u{u}\ti{i}" for u in range(10) for i in range(u, u + 8)]
    parts = {"train": train, "valid": ["u0\ti15", "u1\ti1"], "test": ["u0\ti2", "u0\ti15", "u2\ti0"]}
    found = repeats(dataset(tmp_path, [], parts=parts, benchmark_filename=["train", "valid", "test"]))
    assert [text.split(" ")[:4] for text in found] == [["1", "of", "the", "2"], ["1", "of", "the", "3"], ["1", "of", "the", "3"]]
    assert "validation file (valid) stand in the training file (train)" in found[0]
    assert "test file (test) stand in the validation file (valid)" in found[2]


@pytest.mark.parametrize(("protocol", "masked"), [("recbole", False), ("mmrec", True)])
def test_mmrecs_protocol_leaves_out_training_items_that_are_test_items_too(tmp_path, protocol, masked):
    train = [f"u{u}\ti{i}" for u in range(10) for i in range(u, u + 8)]
    parts = {"train": train, "valid": [f"u{u}\ti{u + 9}" for u in range(10)], "test": ["u0\ti2", "u0\ti11", "u3\ti0"]}
    data = dataset(
        tmp_path,
        [],
        parts=parts,
        benchmark_filename=["train", "valid", "test"],
        protocol=protocol,
        topk=[5],
        valid_metric="Recall@5",
    )
    _, valid, test = data_preparation(data.config, data)
    ids = data.field2token_id
    user, both = ids["user_id"]["u0"], ids["item_id"]["i2"]
    assert (both in test.uid2history_item[user].tolist()) is masked
    assert both in test.uid2positive_item[user].tolist()
    assert ids["item_id"]["i9"] not in valid.uid2history_item[user].tolist()
    assert (ids["item_id"]["i9"] in test.uid2history_item[user].tolist()) is not masked


@pytest.mark.parametrize("text", ["[5", "5", "abc", "[5,3]", "[a,b]", "[1,2,3]", "{5,6}", "[nan,3]", "", "[1,2];"])
def test_an_interval_that_is_none_is_refused(text):
    with pytest.raises(ConfigurationError, match=r"user_inter_num_interval is .*it takes an interval such as"):
        parse_intervals(text, "user_inter_num_interval")


def test_intervals():
    assert parse_intervals(None) is None
    assert parse_intervals("[5,inf)") == [("[", 5.0, float("inf"), ")")]
    assert parse_intervals(" (0,1] ; [3,4)") == [("(", 0.0, 1.0, "]"), ("[", 3.0, 4.0, ")")]
