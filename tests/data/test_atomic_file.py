"""Atomic files: the frame that RecBole's own reader makes, where that one is right; ids as they stand where it is not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recbole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recbole.utils import FeatureType

from recbole_ib.data.atomic_file import MISSING_NUMBERS, Form, read_atomic
from recbole_ib.errors import DataError

EXAMPLES = Path(recbole.__file__).parent / "dataset_example" / "ml-100k"


def recboles(path, separator="\t", encoding="utf-8"):
    """What RecBole 1.2 does in ``Dataset._load_feat``."""
    with path.open(encoding=encoding) as file:
        head = file.readline()[:-1].split(separator)
    types = {field: np.float64 if field.endswith(":float") else str for field in head}
    frame = pd.read_csv(path, delimiter=separator, usecols=head, dtype=types, encoding=encoding, engine="python")
    frame.columns = [field.split(":")[0] for field in head]
    for field in head:
        name, kind = field.split(":")
        if kind == "token_seq":
            frame[name] = [np.array([part for part in text.split(" ") if part]) for text in frame[name].fillna("")]
        elif kind == "float_seq":
            frame[name] = [np.array([float(part) for part in text.split(" ") if part]) for text in frame[name].fillna("")]
    return frame


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        if len(expected) and isinstance(expected[name].iloc[0], np.ndarray):
            for mine, theirs in zip(found[name], expected[name], strict=True):
                np.testing.assert_array_equal(mine, theirs)
        else:
            pd.testing.assert_series_equal(found[name], expected[name], check_exact=True)


@pytest.mark.parametrize("ending", ["inter", "item", "user", "kg", "link"])
def test_recboles_examples_are_read_as_by_recbole(ending):
    path = EXAMPLES / f"ml-100k.{ending}"
    assert_equal(read_atomic(path, Form())[0], recboles(path))


def write(folder, text, **options):
    path = folder / "x.inter"
    path.write_text(text, **options)
    return path


def test_numbers_are_recboles_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(0)
    values = [repr(float(v)) for v in rng.uniform(-1e12, 1e12, 2000)] + [
        repr(float(v)) for v in rng.random(500) * 10.0 ** rng.integers(-300, 300, 500)
    ]
    values += ["1", "-0", "007", "1e5", "+3", ".5", "5.", " 4", *(v for v in MISSING_NUMBERS if v)]
    path = write(tmp_path, "u:token\tx:float\n" + "".join(f"a\t{v}\n" for v in values))
    assert_equal(read_atomic(path, Form())[0], recboles(path))


NO_ID = '"\t\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029'
TOKENS = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters=NO_ID), min_size=1, max_size=8)
ROWS = st.lists(st.tuples(TOKENS, TOKENS, st.floats(-1e9, 1e9)), min_size=1, max_size=12)


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_any_table_of_texts_comes_back_as_it_was_written(rows, tmp_path):
    path = tmp_path / "any.inter"
    path.write_text("u:token\ti:token\tx:float\n" + "".join(f"{u}\t{i}\t{x!r}\n" for u, i, x in rows), encoding="utf-8")
    frame, _, _ = read_atomic(path, Form())
    assert list(zip(frame["u"], frame["i"], strict=True)) == [(u, i) for u, i, _ in rows]
    np.testing.assert_allclose(frame["x"], [x for *_, x in rows], rtol=1e-14)


WORDS = ["NA", "None", "nan", "null", "NaN", "N/A", "<NA>", "#N/A", "TRUE", "1e3", "007", "1.0", "-", "é", "日本"]


@pytest.mark.parametrize("word", WORDS)
def test_ids_are_text_as_they_stand(tmp_path, word):
    frame, _, _ = read_atomic(write(tmp_path, f"u:token\ti:token\n{word}\t{word}\nb\tc\n", encoding="utf-8"), Form())
    assert frame.to_numpy().tolist() == [[word, word], ["b", "c"]]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('"Heroes"', "Heroes"),
        ('"a ""b"" c"', 'a "b" c'),
        ('"Weird Al" Yankovic', '"Weird Al" Yankovic'),
        ('"45 Grave', '"45 Grave'),
        ('12" single', '12" single'),
        ('a"', 'a"'),
        ('"', '"'),
        ('"tab\there"', "tab\there"),
    ],
)
def test_quotes(tmp_path, written, read):
    """Enclosing ones go, as in CSV and under RecBole; every other one belongs to the id."""
    frame, _, _ = read_atomic(write(tmp_path, f"u:token\ti:token\n{written}\tx\na\t{written}\n"), Form())
    assert frame.to_numpy().tolist() == [[read, "x"], ["a", read]]


def test_a_field_in_quotes_may_go_over_lines_as_under_recbole(tmp_path):
    text = 'i:token\ttitle:token_seq\ty:float\n1\t"The\nlong ""one"""\t2\n"2"\t"a\n\n\tb"\t3\n3\tplain\t4\n4\t"stray\t5\n'
    frame, _, _ = read_atomic(write(tmp_path, text.replace(":token_seq", ":token").replace('4\t"stray\t5\n', "")), Form())
    plain = pd.read_csv(tmp_path / "x.inter", sep="\t", dtype={"i:token": str}, engine="python")
    assert frame.to_numpy().tolist() == plain.to_numpy().tolist()
    assert frame.iloc[1, 1] == "a\n\n\tb"
    # a quote that belongs to the text joins nothing, and lines are named as they stand in the file
    stray, _, _ = read_atomic(write(tmp_path, text), Form())
    assert len(stray) == 4
    with pytest.raises(DataError, match=r"line 7: y is of type float, and this is no number: 'x'"):
        read_atomic(write(tmp_path, text.replace("plain\t4", "plain\tx")), Form())
    with pytest.raises(DataError, match=r"line 7 has 2 fields .*lines 7"):
        read_atomic(write(tmp_path, text.replace("plain\t4", "plain")), Form())


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffu:token\tx:float\na\t1\nb\t2\n",
        "u:token\tx:float\r\na\t1\r\nb\t2\r\n",
        "u:token\tx:float\ra\t1\rb\t2\r",
        "u:token\tx:float\na\t1\nb\t2",
        "u:token\tx:float\n\na\t1\n\n\nb\t2\n\n",
    ],
)
def test_marks_ends_of_lines_and_blank_lines(tmp_path, text):
    path = tmp_path / "x.inter"
    path.write_bytes(text.encode())
    frame, _, _ = read_atomic(path, Form())
    assert frame.to_numpy().tolist() == [["a", 1.0], ["b", 2.0]]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig", "cp1252"])
def test_other_encodings(tmp_path, encoding):
    path = write(tmp_path, "u:token\ti:token\nZoé\tx\n", encoding=encoding)
    assert read_atomic(path, Form(encoding=encoding))[0].to_numpy().tolist() == [["Zoé", "x"]]


def test_columns_that_are_not_wanted_are_not_read(tmp_path):
    path = write(tmp_path, "u:token\tx:float\tw:float_seq\na\tbad\t1 2\n")
    frame, columns, header = read_atomic(path, Form(), lambda name: name != "x")
    assert [c.name for c in columns] == list(frame) == ["u", "w"]
    assert [c.kind for c in header] == [FeatureType.TOKEN, FeatureType.FLOAT, FeatureType.FLOAT_SEQ]


def test_separators_of_several_characters(tmp_path):
    path = write(tmp_path, "u:token::i:token\n".replace("::", "||") + "a||b\nc||d\n")
    assert read_atomic(path, Form("||"))[0].to_numpy().tolist() == [["a", "b"], ["c", "d"]]
    assert read_atomic(write(tmp_path, "u:token,g:token_seq\na,x|y\n"), Form(",", "|"))[0]["g"][0].tolist() == ["x", "y"]


def test_the_line_is_that_of_the_file(tmp_path):
    with pytest.raises(
        DataError, match=r"line 6: x is of type float, and this is no number: 'bad'.* 2 lines of this kind: lines 6, 7"
    ):
        read_atomic(
            write(tmp_path, "u:token\tx:float\na\t1\n\n\nb\tbad\nc\tworse\n".replace("b\t", "\nb\t", 1)[:-1] + "\n"), Form()
        )


GOOD = ("u:token\ti:token\tx:float\n" + "".join(f"u{n}\ti{n % 3}\t{n}.5\n" for n in range(8))).encode()


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, len(GOOD) - 1),
    how=st.sampled_from(["replace", "drop", "insert", "cut", "double"]),
    byte=st.integers(0, 255),
)
def test_a_changed_file_is_refused_or_read_with_all_its_lines(place, how, byte, tmp_path):
    """Never a traceback, and never a line that goes missing."""
    data = {
        "replace": GOOD[:place] + bytes([byte]) + GOOD[place + 1 :],
        "drop": GOOD[:place] + GOOD[place + 1 :],
        "insert": GOOD[:place] + bytes([byte]) + GOOD[place:],
        "cut": GOOD[:place],
        "double": GOOD[:place] + GOOD[place:] * 2,
    }[how]
    path = tmp_path / "changed.inter"
    path.write_bytes(data)
    try:
        frame, _, _ = read_atomic(path, Form())
    except DataError:
        return
    text = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert len(frame) == len([line for line in text.split(b"\n")[1:] if line])
