"""The files that follow from the declared settings."""

from __future__ import annotations

import shutil

import pytest
from recbole.utils import get_model

from recbole_ib.config import declared, generate
from recbole_ib.config.declared import (
    bottleneck_settings,
    general_settings,
    model_defaults,
    model_settings,
    model_space,
)
from recbole_ib.config.layers import our_yaml, properties_folder
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.registry import list_models
from recbole_ib.model.settings import Setting, space_of
from recbole_ib.tuning.plots import axis_name
from recbole_ib.tuning.space import parse_space
from recbole_ib.utils.validate import (
    AnyOf,
    Number,
    OneOf,
    refusal,
)
from recbole_ib.utils.yaml import read_yaml
from tests.support.processes import fresh_python

MODELS = list_models()
OURS = ("fib", "gib", "mrdib")


def test_the_files_of_the_repository_are_what_make_generate_writes():
    # in a process of its own, where no test has registered anything
    run = fresh_python("-m", "recbole_ib.config.generate", "--check", cwd=generate.ROOT)
    assert (run.stdout, run.returncode) == ("", 0), run.stderr


def test_make_generate_mends_what_was_edited(tmp_path, monkeypatch, capsys):
    for folder in ("properties", "docs"):
        shutil.copytree(generate.ROOT / folder, tmp_path / folder)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate.generated_files, "__defaults__", (tmp_path,))
    monkeypatch.setattr(generate.stale_files, "__defaults__", (tmp_path,))
    yaml, page, old = (
        tmp_path / name for name in ("properties/model/VBPR.yaml", "docs/models/bm3.md", "properties/model/Old.yaml")
    )
    kept = yaml.read_text(), page.read_text()
    yaml.write_text(kept[0].replace("64", "65"))
    page.write_text(kept[1].replace("| 64 |", "| 65 |"))
    old.write_text("a: 1\n")
    paths = ["properties/model/VBPR.yaml", "docs/models/bm3.md", "properties/model/Old.yaml"]
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out.split() == paths
    assert old.is_file()
    assert generate.main([]) == 0
    assert capsys.readouterr().out.split() == paths
    assert (yaml.read_text(), page.read_text()) == kept
    assert not old.exists()
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize("name", MODELS)
def test_a_models_yaml_reads_back_as_its_defaults(name):
    settings = model_settings(get_model(name))
    written = our_yaml(f"model/{name}")
    assert written == model_defaults(get_model(name))
    assert {key: type(value) for key, value in written.items()} == {key: type(settings[key].default) for key in written}
    text = (properties_folder() / "model" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# {name} (")
    for setting in settings.values():
        assert f"{setting.key}: " in text
        assert f"{setting.doc}" in text


@pytest.mark.parametrize("name", MODELS)
def test_a_models_space_reads_back_as_it_is_declared(name):
    written = read_yaml(properties_folder() / "tune" / f"{name}.yaml")
    searched = model_space(get_model(name))
    assert written == {key: search.plain() for key, search in searched.items()}
    assert list(written) == list(searched)
    settings, space = model_settings(get_model(name)), parse_space(written, name)
    for key, domain in space.items():
        # every value that a search may draw is one that the model takes
        ends = domain.values() if domain.kind in ("choice", "int") else domain.args[:2]
        assert [refusal(key, value, settings[key].kind) for value in ends] == [None] * len(ends)


@pytest.mark.parametrize("name", OURS)
def test_a_bottlenecks_files_read_back_as_it_is_declared(name):
    settings = bottleneck_settings(name)
    assert our_yaml(f"bottleneck/{name}") == {key: setting.default for key, setting in settings.items()}
    plain = {key: search.plain() for key, search in space_of(settings).items()}
    assert our_yaml(f"tune/bottleneck/{name}") == plain


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, 3, -1, 0.5, 1e-05, 5e-324, 1e22, -2.5, "learned", "a b", "1e-3", "true", "~", "null", "", "12"],
)
def test_a_value_is_written_so_that_it_reads_back(value, tmp_path):
    (tmp_path / "a.yaml").write_text(f"key: {generate.value_text(value)}\nlist: {generate.value_text([value])}\n")
    written = read_yaml(tmp_path / "a.yaml")
    assert written == {"key": value, "list": [value]}
    assert type(written["key"]) is type(value)


def test_every_page_has_the_tables_of_its_model():
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (generate.ROOT / "docs" / "models").glob("*.md")}
    assert len(pages) >= 11
    names = {name.lower(): name for name in MODELS}
    for stem, text in pages.items():
        assert [match["name"] for match in generate.TABLE.finditer(text)] == [names[stem]]
        assert [key for key in model_settings(get_model(names[stem])) if f"\n| `{key}` | " not in text] == []
    text = (generate.ROOT / "docs" / "bottlenecks.md").read_text(encoding="utf-8")
    assert sorted(match["name"] for match in generate.TABLE.finditer(text)) == sorted(OURS)


def test_a_table_of_nothing_is_refused():
    page = "<!-- settings of Nothing, written by `make generate` -->\n<!-- end of settings -->\n"
    with pytest.raises(ConfigurationError, match="marked for 'Nothing', which is neither a model nor a bottleneck"):
        generate.with_tables(page)


def test_a_bar_in_a_cell_does_not_end_it():
    row = generate.settings_table({"a": Setting("a", 1.0, "of mean|W|", AnyOf(Number(), OneOf("x", "y")))}).splitlines()[2]
    assert row == r"| `a` | 1.0 | float, `x`, `y` | of mean\|W\| |  |"


def test_general_settings_have_the_defaults_of_overall_yaml():
    overall = our_yaml("overall")
    general = {key: setting.default for key, setting in general_settings().items() if key in overall}
    assert general == {key: overall[key] for key in general}
    # RecBole's own of these, and those that a Config checks on its own
    assert set(overall) - set(general) == {"metrics", "topk", "valid_metric", "eval_batch_size", "epochs", "train_batch_size"}


def test_a_symbol_belongs_to_one_key_and_is_drawn_at_the_axes():
    known = declared.symbols()
    assert set(known) == {
        "fib_weight", "sigma2", "gib_weight", "gib_sigma2", "contrastive_temperature", "knn_k", "kl_weight", "redundancy_weight",
        "unique_weight",
    }  # fmt: skip
    assert len(set(known.values())) == len(known)
    assert (axis_name("fib_weight"), axis_name("learning_rate")) == (r"fib_weight ($\alpha$)", "learning_rate")
