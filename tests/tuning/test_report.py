"""Tables, best.yaml and pictures, from trials with known scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from matplotlib.image import imread

from recbole_ib.config.config import Config
from recbole_ib.errors import ConfigurationError
from recbole_ib.tuning import plots
from recbole_ib.tuning.space import parse_space
from recbole_ib.tuning.trial import Record, read_record, write_record
from recbole_ib.tuning.trials_table import ranked, terminal_table, trials_frame, write_best, write_trials
from tests.support.pictures import save_small

SPACE = parse_space(
    {
        "fib_weight": {"loguniform": [0.1, 5.0]},
        "sigma2": {"choice": [0.1, 0.2, 0.3]},
        "knn_k": {"int": [5, 20]},
        "fusion": {"choice": ["a", None]},
    },
    "x",
)  # fmt: skip
FACTS = plots.Facts("IBMRec", "ml-100k", "Recall@20", True, 7, "optuna", 6)


def trial(name, score, status="finished", weight=1.0, sigma2=0.2, k=10, fusion="a", error=""):
    values = {"fib_weight": weight, "sigma2": sigma2, "knn_k": k, "fusion": fusion}
    best = None if score is None else 1
    return Record(name, values, status, 3, score, best, [], 2.5, 1, "n", 1, None, error)


TRIALS = [
    trial("a", 0.20),
    trial("b", 0.30, weight=0.15, sigma2=0.1, fusion=None),
    trial("c", None, "failed", error="ValueError: two\nlines, and a comma"),
    trial("d", 0.10, "stopped", weight=0.9, k=20),
    trial("e", 0.95, "failed", error="late"),
    trial("f", 0.30, weight=5.0, sigma2=0.1, k=5),
]


def test_trials_are_ranked_best_first_and_failed_ones_last():
    assert [r.id for r in ranked(TRIALS, bigger=True)] == ["b", "f", "a", "d", "e", "c"]
    assert [r.id for r in ranked(TRIALS, bigger=False)] == ["d", "a", "b", "f", "e", "c"]


def test_trials_csv_holds_every_trial_and_setting(tmp_path):
    frame = trials_frame(TRIALS, list(SPACE), bigger=True)
    write_trials(frame, tmp_path / "trials.csv")
    found = pd.read_csv(tmp_path / "trials.csv", keep_default_na=True)
    assert list(found.columns) == ["id", "status", "score", "best_epoch", "epochs", "seconds", "error", *SPACE]
    assert list(found["id"]) == ["b", "f", "a", "d", "e", "c"]
    assert found.set_index("id").loc["c", "error"] == "ValueError: two lines, and a comma"
    assert np.isnan(found.set_index("id").loc["c", "score"])
    assert list(found["fib_weight"]) == [0.15, 5.0, 1.0, 0.9, 1.0, 1.0]


def test_the_terminals_table_shows_the_best():
    text = terminal_table(trials_frame(TRIALS, list(SPACE), True), list(SPACE), "Recall@20", top=2)
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["trial", "valid", "Recall@20"]
    assert [line.split()[0] for line in lines[2:]] == ["b", "f"]
    assert "0.3000" in lines[2]


def test_best_yaml_gives_the_same_settings_to_a_config(tmp_path):
    settings = {
        "model": "IBMRec", "dataset": "ml-100k", "fib_weight": 1.25e-05, "learning_rate": 1e-4,
        "modality_weights": {"text": 0.9, "visual": 0.1},
        "user_inter_num_interval": "[5,100]", "resume_checkpoint": None, "metrics": ["Recall"], "topk": [20], "normalize_features": False,
    }  # fmt: skip
    write_best(tmp_path / "best.yaml", settings, ["a command: with # and 'quotes'"])
    text = (tmp_path / "best.yaml").read_text()
    assert text.startswith("# a command")
    assert yaml.safe_load(text) == settings
    config = Config(config_file_list=[str(tmp_path / "best.yaml")])
    assert {key: config[key] for key in settings} == settings


def test_a_record_is_read_as_it_was_written(tmp_path):
    assert read_record(tmp_path) is None
    record = trial("a", 0.1 + 0.2)
    record.add(0, 0.5, 1.0, bigger=True)
    record.add(1, 0.4, 2.0, bigger=True)
    write_record(record, tmp_path)
    assert read_record(tmp_path) == record
    assert (record.best_score, record.best_epoch, record.epochs) == (0.5, 0, 2)
    # an epoch that is evaluated again replaces what came after it
    record.add(1, 0.6, 3.0, bigger=True)
    assert [p["score"] for p in record.curve] == [0.5, 0.6]


def test_pictures_are_written_and_not_blank(tmp_path):
    made = plots.write_plots(TRIALS, SPACE, FACTS, tmp_path, ["knn_k,fib_weight"])
    names = [path.name for path in made]
    assert names == ["parallel.png", "slices.png", "heatmap-fib_weight-sigma2.png", "heatmap-knn_k-fib_weight.png"]
    for path in made:
        assert imread(path)[..., :3].std() > 0.02
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_one_trial_or_none_can_be_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", save_small)
    plots.write_plots(TRIALS[:1], SPACE, FACTS, tmp_path / "..", ["knn_k,fib_weight"])
    plots.write_plots([TRIALS[2]], SPACE, FACTS, tmp_path / "..", ["knn_k,fib_weight"])


def test_a_heat_maps_cells_hold_mean_best_and_count_of_their_trials():
    figure = Figure()
    scored = [r for r in TRIALS if r.status != "failed"]
    plots.draw_heatmap(figure, scored, SPACE["fib_weight"], SPACE["sigma2"], FACTS)
    mean, best = figure.axes[:2]
    edges = np.geomspace(0.1, 5, 6)
    middle = int(np.searchsorted(edges, 1.0)) - 1
    assert int(np.searchsorted(edges, 0.9)) - 1 == middle
    table, top = (axes.images[0].get_array().filled(np.nan) for axes in (mean, best))
    assert table[1, middle] == pytest.approx((0.20 + 0.10) / 2)
    assert top[1, middle] == pytest.approx(0.20)
    assert (table[0, 0], table[0, 4]) == (0.30, 0.30)
    assert np.isfinite(table).sum() == 3
    assert sorted(text.get_text().splitlines()[1] for text in mean.texts) == ["n = 1", "n = 1", "n = 2"]
    assert len([patch for patch in mean.patches if patch.get_hatch()]) == 12


def test_stopped_trials_are_hollow_in_the_slices():
    figure = Figure()
    plots.draw_slices(figure, [r for r in TRIALS if r.status != "failed"], SPACE, FACTS)
    filled, hollow, ring = figure.axes[0].collections
    assert (len(filled.get_offsets()), len(hollow.get_offsets()), len(ring.get_offsets())) == (3, 1, 1)
    assert len(hollow.get_facecolors()) == 0
    assert figure.axes[0].get_xscale() == "log"
    assert figure.axes[2].get_xscale() == "linear"


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("sigma2", "two different settings"),
        ("sigma2,sigma2", "two different settings"),
        ("sigma2,knn", "'knn' is not searched. Did you mean knn_k"),
    ],
)
def test_wrong_pairs(asked, text):
    with pytest.raises(ConfigurationError, match=text):
        plots.pairs_of(SPACE, [asked])


def test_the_papers_pairs_are_drawn_where_they_are_searched():
    both = parse_space({key: {"choice": [1, 2]} for pair in plots.USUAL_PAIRS for key in pair}, "x")
    assert plots.pairs_of(both, []) == list(plots.USUAL_PAIRS)
    assert plots.pairs_of(SPACE, ["fib_weight,sigma2"]) == [plots.USUAL_PAIRS[0]]
