"""Declared settings: the files that follow from them, the check of values, composition, and that models read what they declare."""

from __future__ import annotations

import math
import shutil

import pytest
from recbole.config import Config as RecBoleConfig
from recbole.utils import get_model, get_trainer

from recbole_ib.config import declared, generate
from recbole_ib.config.config import Config
from recbole_ib.config.declared import (
    bottleneck_settings,
    check_values,
    general_settings,
    model_defaults,
    model_settings,
    model_space,
    run_settings,
)
from recbole_ib.config.layers import our_yaml, properties_folder
from recbole_ib.config.recbole_keys import recbole_keys
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.backbones.mgcn import MGCN
from recbole_ib.model.backbones.vbpr import VBPR
from recbole_ib.model.bottleneck import BOTTLENECKS
from recbole_ib.model.registry import is_wrapper, list_models
from recbole_ib.model.settings import Dropped, Override, Search, Setting, compose, declared_by, space_of
from recbole_ib.tuning.plots import axis_name
from recbole_ib.tuning.space import parse_space
from recbole_ib.utils.validate import (
    AnyOf,
    Anything,
    Bool,
    FilePath,
    Integer,
    MappingOf,
    Number,
    OneOf,
    Text,
    Unset,
    refusal,
)
from recbole_ib.utils.yaml import read_yaml
from tests.support.processes import fresh_python

MODELS = list_models()
OURS = ("fib", "gib", "mrdib")

# -- generated files --------------------------------------------------------------------------------------------------


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


# -- values -----------------------------------------------------------------------------------------------------------

CANDIDATES = [
    "banana",
    "",
    None,
    True,
    -1,
    0,
    1,
    1.5,
    -1e9,
    1e9,
    math.nan,
    math.inf,
    [],
    {},
    {"text": "x"},
    [1],
    (1, 2),
    object(),
    10**400,
]


def wrong_values(setting):
    return [value for value in CANDIDATES if refusal(setting.key, value, setting.kind) is not None]


def settings_with_bounds():
    """A model, a setting of its own: every declared key of every kind once."""
    seen = {}
    for name in MODELS:
        for setting in model_settings(get_model(name)).values():
            if not isinstance(setting.kind, Anything):
                seen.setdefault((setting.key, setting.kind.short), (name, setting))
    for setting in general_settings().values():
        if setting.key != "defaults" and not isinstance(setting.kind, Anything):
            seen.setdefault((setting.key, setting.kind.short), ("VBPR", setting))
    return list(seen.values())


BOUNDED = settings_with_bounds()


@pytest.mark.parametrize(("name", "setting"), BOUNDED, ids=lambda part: getattr(part, "key", part))
def test_every_wrong_value_is_refused(name, setting):
    """``banana`` or ``[]`` for a number, -1 for a width, 2 for a part of 1, None, not a number: one error that names the key."""
    wrong = wrong_values(setting)
    assert len(wrong) >= 4
    settings = {key: general.default for key, general in general_settings().items()}
    settings.update(model_defaults(get_model(name)), model=name)
    if is_wrapper(get_model(name)):
        settings = {**model_defaults(get_model(settings["backbone"])), **settings}
    check_values(get_model(name), settings)
    for value in wrong:
        with pytest.raises(ConfigurationError) as error:
            check_values(get_model(name), {**settings, setting.key: value})
        lines = str(error.value).splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith(f"{setting.key} is {value!r}; ")
        assert f" Its default is {setting.default!r}: {setting.doc}" in lines[0]


@pytest.mark.parametrize(("name", "setting"), BOUNDED, ids=lambda part: getattr(part, "key", part))
def test_a_wrong_value_is_refused_before_the_data_are_read(name, setting, tmp_path):
    """By Config itself; the data set is an empty folder, which nothing could read."""
    (tmp_path / "data" / "empty").mkdir(parents=True)
    value = next(value for value in wrong_values(setting) if not isinstance(value, str))
    with pytest.raises(ConfigurationError, match=rf"^{setting.key} is "):
        Config(name, "empty", config_dict={"data_path": "data", setting.key: value})


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("IBMRec", {"sigma2": 0}, "sigma2 is 0; it takes a number above 0. Its default is 0.15: sigma^2 of the FIB kernel"),
        ("FREEDOM", {"image_weight": 1.5}, "image_weight is 1.5; it takes a number from 0 to 1. Its default is 0.1"),
        ("SGFD", {"backbone": "FREEDOM", "edge_dropout": 1}, "edge_dropout is 1; it takes a number below 1"),
        ("FREEDOM+fib", {"fib_weight": -2}, "fib_weight is -2; it takes a number, 0 or more"),
        ("VLATTICE", {"item_graph": "frosen"}, "item_graph is 'frosen'; allowed: learned, frozen. Did you mean frozen?"),
        ("VLATTICE", {"modality_weights": [1, 2]}, "modality_weights is [1, 2]; allowed: learned, equal, or a weight per"),
        ("MRdIBVBPR", {"prior_scale": "start"}, "prior_scale is 'start'; it takes a number above 0, or initial"),
        ("BPR", {"per_user": "often"}, "per_user is 'often'; allowed: True, False"),
        ("BPR", {"save_last": 3}, "save_last is 3; allowed: True, False"),
    ],
)
def test_the_error_says_what_is_allowed(model, settings, message):
    with pytest.raises(ConfigurationError) as error:
        Config(model, "ml-100k", config_dict=settings)
    assert str(error.value).startswith(message)


def test_all_wrong_values_are_in_one_error():
    with pytest.raises(ConfigurationError) as error:
        Config("IBMRec", "ml-100k", config_dict={"sigma2": -1, "gate_start": 1, "n_layers": 1.5})
    assert [line.split()[0] for line in str(error.value).splitlines()] == ["n_layers", "sigma2", "gate_start"]


def test_recboles_own_config_checks_the_values_of_our_models():
    with pytest.raises(ConfigurationError, match=r"^sigma2 is -1; it takes a number above 0\. Its default is 0\.15"):
        RecBoleConfig(model="IBMRec", dataset="ml-100k", config_dict={"sigma2": -1})
    assert RecBoleConfig(model="BPR", dataset="ml-100k", config_dict={"embedding_size": -1})["embedding_size"] == -1


def test_values_within_the_bounds_are_kept_as_they_were_given():
    given = {"n_layers": 3.0, "reg_weight": 0, "normalize_features": 1, "modality_weights": {"text": 1, "visual": 0}}
    config = Config("VLATTICE", "ml-100k", config_dict=given)
    assert {key: config[key] for key in given} == given


@pytest.mark.parametrize(
    ("kind", "inside", "outside", "what"),
    [
        (Integer(), [0, 3, 2.0], [-1, 1.5, True, "3"], "it takes a whole number, 0 or more"),
        (Integer(None), [-5], [0.5], "it takes a whole number"),
        (Number(), [-1.5, 0], [math.nan, math.inf, "1", False], "it takes a number"),
        (Number(least=0, below=1), [0, 0.99], [1, -0.1], "it takes a number from 0 to below 1"),
        (Number(least=0, most=1), [0, 1], [1.01], "it takes a number from 0 to 1"),
        (Number(above=0, below=1), [0.5], [0, 1], "it takes a number above 0 and below 1"),
        (Number(below=1), [-3, 0.9], [1], "it takes a number below 1"),
        (OneOf("a", "b"), ["a"], ["c", 1, None, ["a"]], "allowed: a, b"),
        (Bool(), [True, False, 0, 1], ["yes", 2, 0.0, None], "allowed: True, False"),
        (Text("a name"), ["x"], ["", 1, None], "it takes a name"),
        (FilePath(), ["a/b", generate.ROOT], ["", 3], "it takes a path"),
        (Unset(), [None], [0, ""], "it takes none"),
        (MappingOf(Number(least=0), "{a: 1}"), [{"x": 2}], [{}, {"x": -1}, [1]], "it takes a mapping such as {a: 1}"),
        (AnyOf(Number(above=0), OneOf("initial")), [1, "initial"], [0, "x"], "it takes a number above 0, or initial"),
        (Anything(), [None, object()], [], "it takes any value"),
    ],
)
def test_kinds_of_values(kind, inside, outside, what):
    assert [value for value in inside if not kind.contains(value)] == []
    assert [value for value in outside if kind.contains(value)] == []
    assert kind.what == what
    assert kind.short


# -- composition ------------------------------------------------------------------------------------------------------

WIDTH = Setting("width", 4, "a width", Integer(1), search=Search.choice(4, 8), symbol="$w$")


def test_a_later_declaration_lies_above_an_earlier_one():
    composed = compose(
        [("Base", (WIDTH, Setting("depth", 1, "a depth"))), ("Sub", (Override("width", default=8), Dropped("depth")))]
    )
    assert composed == {"width": WIDTH.but(default=8)}
    assert (composed["width"].search, composed["width"].symbol) == (WIDTH.search, "$w$")


def test_a_general_setting_becomes_the_models_with_a_default_of_its_own():
    general = (Setting("rate", 0.1, "a rate", Number(), general=True),)
    searched = compose([("Model", (Override("rate", search=Search.uniform(0.0, 1.0)),))], general)
    assert declared.defaults(searched) == {}
    assert space_of(searched) == {"rate": Search("uniform", (0.0, 1.0))}
    assert declared.defaults(compose([("Model", (Override("rate", default=0.2),))], general)) == {"rate": 0.2}


@pytest.mark.parametrize(
    ("declarations", "message"),
    [
        (
            (Override("widht", default=3),),
            "Sub changes the setting 'widht', which no class below it declares. Did you mean width",
        ),
        ((Dropped("height"),), "Sub changes the setting 'height'"),
        ((WIDTH, WIDTH), "Sub declares the setting width twice"),
        ((Override("width", default=0),), "outside its own bounds: width is 0; it takes a whole number, 1 or more"),
    ],
)
def test_declarations_that_do_not_fit_are_refused(declarations, message):
    with pytest.raises(ConfigurationError, match=message):
        compose([("Base", (WIDTH,)), ("Sub", declarations)])


def test_settings_that_hold_something_else():
    class Wrong:
        settings = (WIDTH, "width")

    class Other:
        settings = frozenset({"width"})

    with pytest.raises(ConfigurationError, match=r"Wrong\.settings holds Setting, Override and Dropped .*got 'width'"):
        declared_by(Wrong)
    assert declared_by(Other) == ()


def test_the_order_of_a_search():
    settings = compose([("Model", (WIDTH, Setting("a", 1, "a", search=Search.integers(1, 3)), Setting("b", 2, "b")))])
    assert list(space_of(settings)) == ["width", "a"]
    assert list(space_of(settings, order=("a", "none"))) == ["a", "width"]


def test_backbone_below_bottlenecks_below_the_named_combination():
    combined, backbone = (model_settings(get_model(name)) for name in ("MRdIBMMGCN", "MMGCN"))
    mrdib = bottleneck_settings("mrdib")
    assert list(combined) == [*backbone, *mrdib]
    changed = {key for key, setting in combined.items() if setting != {**backbone, **mrdib}[key]}
    assert changed == {"project_above"}
    assert (combined["project_above"].default, backbone["project_above"].default) == (0, 512)


def test_a_users_bottleneck_declares_its_own(monkeypatch):
    class OwnBottleneck:
        settings = (Setting("own_weight", 2.0, "of the own term", Number(least=0), search=Search.loguniform(0.1, 10.0)),)

    monkeypatch.setitem(BOTTLENECKS, "own", OwnBottleneck)
    assert bottleneck_settings("own") == {"own_weight": OwnBottleneck.settings[0]}
    assert "own_weight" in declared.declared_keys()
    composed = model_settings(VBPR, ("fib", "own"))
    assert {"fib_weight", "own_weight"} <= set(composed)
    assert list(composed).index("own_weight") > list(composed).index("fib_weight")
    # nothing of a user's is written into the package
    assert not any("own" in path for path in generate.generated_files())


def test_a_user_class_inherits_changes_and_drops():
    class OwnMGCN(MGCN):
        settings = (Override("cl_weight", default=0.5, search=None), Dropped("knn_k"))

    own, base = model_settings(OwnMGCN), model_settings(MGCN)
    assert list(own) == [key for key in base if key != "knn_k"]
    assert set(model_space(OwnMGCN)) == set(model_space(MGCN)) - {"knn_k", "cl_weight"}
    assert declared.undeclared_classes(OwnMGCN) == []


def test_the_class_of_the_page_works(tmp_path):
    """docs/settings.md: its model's settings are read, checked and searched."""
    page = (generate.ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    (tmp_path / "run.py").write_text(
        "from mine import HingeVBPR\n"
        "from recbole_ib.config.config import Config\n"
        "from recbole_ib.tuning.space import shipped_space\n"
        "config = Config('HingeVBPR', 'ml-100k', argv=['--hinge=squared'])\n"
        "print([config[key] for key in ('hinge_margin', 'hinge', 'reg_weight', 'embedding_size')])\n"
        "print({key: domain.args for key, domain in shipped_space(config).items()})\n"
        "Config(HingeVBPR, 'ml-100k', argv=['--hinge=cubed'])\n"
    )
    run = fresh_python("run.py", cwd=tmp_path)
    values, space = run.stdout.splitlines()
    assert values == "[0.2, 'squared', 0.1, 64]"
    assert "'hinge_margin': (0.01, 1.0)" in space
    assert "'learning_rate': (0.0001, 0.001)" in space
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].endswith(
        "hinge is 'cubed'; allowed: plain, squared. Its default is 'plain': plain, or its square"
    )


# -- what models read -------------------------------------------------------------------------------------------------

#: read by the trainer, the loaders or RecBole, in every run
ELSEWHERE = {"learning_rate", "learning_rate_decay", "stopping_step", "train_neg_sample_args", "weight_decay"}
#: settings with which a branch reads more, by model
BRANCHES = {
    "VLATTICE": {"item_graph": "learned"},
    "IBMRec": {"item_graph": "learned"},
    "IBMRecWoFIB": {"item_graph": "learned"},
    "IBMRecWoGIB": {"item_graph": "learned"},
    "InvRL": {
        "epochs": 1, "pretrain_epochs": 1, "invrl_rounds": 1, "n_environments": 2, "environment_epochs": 1, "environment_repeats": 1,
        "mask_epochs": 1,
    },
}  # fmt: skip
#: read where the labels are a field of the items, which the planted data have not; tests/model/test_sgfd.py
UNREACHED = {"label_position"}
#: refused with feature_encoder: mlp, which mixes what mrdib draws one by one
MIXED = {"MRdIBVBPR": {"encoder_hidden_size"}}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_reads_what_it_declares_and_nothing_else(name, build, monkeypatch):
    reads = set()
    original = RecBoleConfig.__getitem__

    def record(self, key):
        reads.add(key)
        return original(self, key)

    branch = dict(BRANCHES.get(name, {}))
    if name not in MIXED and "feature_encoder" in run_settings(get_model(name), build(name)[0]):
        branch["feature_encoder"] = "mlp"
    for settings in ({}, branch) if branch else ({},):
        config, _, train, valid, _ = build(name, **settings)
        with monkeypatch.context() as patched:
            patched.setattr(RecBoleConfig, "__getitem__", record)
            model = get_model(name)(config, train._dataset)
            if name == "InvRL" and settings:
                get_trainer(config["MODEL_TYPE"], name)(config, model).fit(train, valid, saved=False, verbose=False)
    own = set(run_settings(get_model(name), config))
    assert own - reads - ELSEWHERE - UNREACHED - MIXED.get(name, set()) == set(), "declared, and not read"
    known = {*general_settings(), *our_yaml("overall"), *recbole_keys()} - declared_by_models()
    # the base takes a penalty's weight of 0 where a model has none; an error looks at item_graph
    assert reads - own - known <= {"reg_weight", "item_graph"}, "read, and not declared"


def declared_by_models():
    """Keys of models alone, though RecBole's models have some of the same name: reg_weight, n_layers."""
    return set().union(*(model_defaults(get_model(name)) for name in MODELS)) - set(general_settings())
