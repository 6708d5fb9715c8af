"""The yaml keys of the modalities: what they say, and wrong entries by name."""

from pathlib import Path

import pytest

from recbole_ib.data import features
from recbole_ib.data.modality_spec import ModalitySpec, parse_modalities
from recbole_ib.errors import ConfigurationError

BASE = Path("base")


@pytest.mark.parametrize("entries", [None, {}])
def test_no_entries_are_no_modalities(entries):
    assert parse_modalities(entries, BASE) == []


def test_entry_with_every_key():
    entry = {"file": "t.npy", "tokens": "t.tokens", "missing": "zero", "encoder": "MiniLM", "item_graph_file": "g.npz"}
    expected = ModalitySpec("text", BASE / "t.npy", BASE / "t.tokens", "zero", "MiniLM", BASE / "g.npz")
    assert parse_modalities({"text": entry}, BASE) == [expected]


def test_entry_with_the_file_alone_takes_the_mean():
    assert parse_modalities({"text": {"file": "t.npz"}}, BASE) == [ModalitySpec("text", BASE / "t.npz", None, "mean")]


@pytest.mark.parametrize(
    ("entries", "parts"),
    [
        ({"text": {"file": "t.npy", "token": "t"}}, ["modalities.text", "'token'", "Did you mean tokens?"]),
        ({"text": {"file": "t.npy", "mising": "zero"}}, ["'mising'", "Did you mean missing?"]),
        ({"text": {"file": "t.npy", "zzz": 1}}, ["'zzz'", "file, tokens, missing, encoder, item_graph_file"]),
        ({"text": {"file": "t.npy", 5: 1}}, ["unknown key 5"]),
        ({"my text": {"file": "t.npy"}}, ["modalities.my text", "letters, digits"]),
        ({"a.b": {"file": "t.npy"}}, ["modalities.a.b", "letters, digits"]),
        ({1: {"file": "t.npy"}}, ["modalities.1", "letters, digits"]),
        ({"text": {"file": "t.npy", "missing": "median"}}, ["modalities.text.missing", "'median'", "mean, zero, error"]),
        ({"text": {"file": "t.npy", "missing": None}}, ["modalities.text.missing", "None"]),
        ({"text": {"tokens": "t.tokens"}}, ["modalities.text", "'file'"]),
        ({"text": {"file": ""}}, ["modalities.text", "'file'"]),
        ({"text": "t.npy"}, ["modalities.text", "mapping", "'t.npy'"]),
        (["text"], ["modalities must map", "['text']"]),
    ],
)
def test_bad_entries_are_named(entries, parts):
    with pytest.raises(ConfigurationError) as caught:
        parse_modalities(entries, BASE)
    for part in parts:
        assert part in str(caught.value)


ENTRIES = {name: {"file": f"{name}.npz"} for name in ("text", "visual", "audio")}


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (None, ["text", "visual", "audio"]),
        (["audio", "text"], ["audio", "text"]),
        ("visual", ["visual"]),
    ],
)
def test_use_modalities_chooses_and_orders(only, names):
    assert [spec.name for spec in parse_modalities(ENTRIES, BASE, only)] == names


@pytest.mark.parametrize(
    ("only", "parts"),
    [
        (["vissual"], ["use_modalities", "'vissual'", "Did you mean visual?", "text, visual, audio"]),
        (["text", "smell"], ["'smell'", "text, visual, audio"]),
        ([], ["at least one"]),
        (["text", "text"], ["none twice", "['text', 'text']"]),
    ],
)
def test_bad_use_modalities_are_named(only, parts):
    with pytest.raises(ConfigurationError) as caught:
        parse_modalities(ENTRIES, BASE, only)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("t.npz", BASE / "t.npz"),
        ("deep/t.npz", BASE / "deep" / "t.npz"),
        ("/elsewhere/t.npz", Path("/elsewhere/t.npz")),
        ("~/t.npz", Path.home() / "t.npz"),
        ("recbole_ib:data/sample/t.npz", Path(features.__file__).parent / "sample" / "t.npz"),
    ],
)
def test_paths(given, expected):
    (spec,) = parse_modalities({"text": {"file": given}}, BASE)
    assert spec.file == expected
