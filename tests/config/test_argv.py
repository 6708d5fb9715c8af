"""Values and arguments of the command line."""

import re
from pathlib import Path

import pytest
from recbole.config import Config as RecBoleConfig

from recbole_ib.config.argv import parse_arguments, parse_value
from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("0.5", 0.5),
        ("1e-4", 1e-4),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("none", None),
        ("None", None),
        ("null", None),
        ("~", None),
        ("", ""),
        ("[10, 20]", [10, 20]),
        ("['Recall','NDCG']", ["Recall", "NDCG"]),
        ("[Recall,NDCG]", ["Recall", "NDCG"]),
        ("[1e-4,1e-3]", [1e-4, 1e-3]),
        ("{'RS': [0.8, 0.1, 0.1]}", {"RS": [0.8, 0.1, 0.1]}),
        ("{text: .9, visual: .1}", {"text": 0.9, "visual": 0.1}),
        ("{text: 9e-1, visual: 1e-1}", {"text": 0.9, "visual": 0.1}),
        ("{}", {}),
        ("IBMRec", "IBMRec"),
        ("Recall@20", "Recall@20"),
        ("b=c", "b=c"),
        ("data/my set", "data/my set"),
        ("[5,inf)", "[5,inf)"),
        ("(0,5]", "(0,5]"),
        ("[broken", "[broken"),
        ("[a: b: c]", "[a: b: c]"),
        ("1+1", "1+1"),
        ("2**10", "2**10"),
        ("inf", "inf"),
        ("'1'", "1"),
        ("os", "os"),
    ],
)
def test_parse_value(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch executed')",
        "open('executed', 'w')",
        "[open('executed', 'w')]",
        "[__import__('os').system('touch executed'), 1]",
        "{'a': open('executed', 'w')}",
        "!!python/object/apply:os.system ['touch executed']",
        "{a: !!python/object/apply:os.system ['touch executed']}",
        "(lambda: open('executed', 'w'))()",
    ],
)
def test_no_value_is_executed(text):
    parsed = parse_value(text)
    assert not Path("executed").exists()
    # a list of words is a list; nothing in it is anything but text
    assert parsed == text or all(isinstance(part, (str, int)) for part in parsed)


def test_import_call_stays_text():
    text = "__import__('os').system('touch executed')"
    assert parse_value(text) == text
    assert Config("VBPR", "ml-100k", argv=[f"--wandb_project={text}"])["wandb_project"] == text
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    "text",
    ["3", "-2.5", "1e-3", "True", "false", "None", "[1, 2]", "(1, 2)", "{'a': 1}", "'x'", "plain", "b'x'", "{1, 2}", "..."],
)
def test_harmless_values_are_read_as_recbole_reads_them(text):
    recboles = RecBoleConfig._convert_config_dict(None, {"key": text})["key"]
    assert (parse_value(text), type(parse_value(text))) == (recboles, type(recboles))


@pytest.mark.parametrize(
    ("argv", "settings"),
    [
        ([], {}),
        (["--epochs=3", "--learning_rate=1e-4"], {"epochs": 3, "learning_rate": 1e-4}),
        (["--a=b=c"], {"a": "b=c"}),
        (["--a="], {"a": ""}),
        (["--a==b"], {"a": "=b"}),
        (["--eval_args={'split': {'RS': [.8,.1,.1]}}"], {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}}),
        (["--a=x y\nz"], {"a": "x y\nz"}),
        (["--a=1", "--a=1"], {"a": 1}),
        (["--feature_path=~/data"], {"feature_path": "~/data"}),
    ],
)
def test_parse_arguments(argv, settings):
    assert parse_arguments(argv) == settings


def test_duplicate_argument_is_refused():
    with pytest.raises(ConfigurationError, match="--epochs is given twice, as '1' and '2'"):
        parse_arguments(["--epochs=1", "--seed=3", "--epochs=2"])


@pytest.mark.parametrize("word", ["epochs=3", "-epochs=3", "--=3", "--", "epochs", "", "--1a=2", "-- epochs=1", "--ep ochs=1"])
def test_ill_formed_argument_is_quoted(word):
    with pytest.raises(ConfigurationError, match=re.escape(f"cannot read the argument {word!r}")):
        parse_arguments([word])


def test_argument_without_a_value_is_told_the_form():
    with pytest.raises(ConfigurationError, match="Write --save_last=VALUE"):
        parse_arguments(["--save_last"])


def test_interval_of_the_command_line_reaches_the_config_as_text():
    config = Config("VBPR", "ml-100k", argv=["--user_inter_num_interval=[5,inf)"])
    assert config["user_inter_num_interval"] == "[5,inf)"
