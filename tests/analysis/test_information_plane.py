"""The pictures of ``recbole-ib plot-information``, and what it says about files that it cannot draw."""

import builtins
from pathlib import Path

import numpy as np
import pytest

from recbole_ib.analysis import information_plane
from recbole_ib.analysis.information_plane import Run, family_of, labels, panels, read_runs
from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.metrics import smaller_is_better
from recbole_ib.training.diagnostics import DiagnosticsFile
from recbole_ib.utils.plotting import COLORS
from tests.support.commands import command


@pytest.fixture
def drawing():
    """matplotlib is an extra: what needs it is left out where it is missing."""
    pytest.importorskip("matplotlib")


def write(path, epochs=4, latents=("text", "visual"), ids=True, metric="recall@20", best=2):
    """A file as a run writes it, with smooth made-up values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = DiagnosticsFile(path)
    for epoch in range(-1, epochs):
        values = {}
        for i, name in enumerate(latents):
            values[f"nhsic_features/{name}"] = 0.9 - 0.05 * epoch - 0.1 * i
            values[f"nhsic_features_independent/{name}"] = 0.02
            if ids:
                values[f"nhsic_ids/{name}"] = 0.1 + 0.03 * epoch + 0.1 * i
                values[f"nhsic_ids_independent/{name}"] = 0.03
            values[f"share/{name}"] = 0.2 + 0.1 * i
            values[f"kl/{name}"] = 30.0 - epoch
        values |= {"information/text|visual": 1.0, "gate/mean": 0.5, "gate/closed": 0.1, "gate/entropy": 0.6, "own": float("nan")}
        if epoch >= 0:
            values |= {"loss/bpr": 3.0, "loss/critic": -0.5, f"valid/{metric}": -abs(epoch - best)}
        file.append(epoch, values)
    return path


def pixels(path):
    from PIL import Image

    with Image.open(path) as image:
        image.verify()
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def colors(path):
    return len(np.unique(pixels(path).astype(int) @ [1 << 16, 1 << 8, 1]))


def has_color(path, code):
    wanted = [int(code[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((pixels(path) == wanted).all(axis=2).any())


@pytest.mark.usefixtures("drawing")
def test_one_run_is_drawn_beside_its_file(tmp_path, capsys):
    source = write(tmp_path / "saved" / "VBPR-x-diagnostics.csv")
    assert command("plot-information")([str(source)]) == 0
    expected = [source.parent / f"VBPR-x-diagnostics-{kind}.png" for kind in ("plane", "curves")]
    assert capsys.readouterr().out.split() == [str(p) for p in expected]
    for path in expected:
        assert path.stat().st_size > 5000
        assert min(pixels(path).shape[:2]) > 200
        assert colors(path) > 10
        assert has_color(path, COLORS[0])


@pytest.mark.usefixtures("drawing")
def test_several_runs_overlay_in_colors_of_their_own(tmp_path, capsys):
    files = [write(tmp_path / f"{name}-diagnostics.csv", epochs=n) for name, n in (("a", 3), ("b$_c", 5), ("d", 1))]
    out = tmp_path / "new" / "folder"
    assert command("plot-information")([*map(str, files), f"--out={out}"]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["information-curves.png", "information-plane.png"]
    for path in out.iterdir():
        assert all(has_color(path, COLORS[i]) for i in range(3))
    assert capsys.readouterr().out.count(".png") == 2


@pytest.mark.usefixtures("drawing", "small_pictures")
@pytest.mark.parametrize("made", [{"ids": False}, {"latents": ()}])
def test_without_latents_or_ids_there_is_no_plane(tmp_path, capsys, made):
    source = write(tmp_path / "x-diagnostics.csv", **made)
    assert command("plot-information")([str(source), "--out", str(tmp_path)]) == 0
    assert "no information plane" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["x-diagnostics-curves.png"]


@pytest.mark.usefixtures("drawing", "small_pictures")
def test_a_run_that_has_only_started_is_drawn(tmp_path):
    assert command("plot-information")([str(write(tmp_path / "x.csv", epochs=0))]) == 0
    assert len(list(tmp_path.glob("*.png"))) == 2


@pytest.mark.usefixtures("drawing", "small_pictures")
def test_axes_titles_and_caption(tmp_path, monkeypatch):
    figures, make = [], information_plane.new_figure
    monkeypatch.setattr(information_plane, "new_figure", lambda *a: figures.append(make(*a)) or figures[-1])
    command("plot-information")([str(write(tmp_path / "x-diagnostics.csv"))])
    plane, curves = figures
    for figure in figures:
        assert figure.get_suptitle()
        assert figure.get_supxlabel() == "x-diagnostics.csv"
    (axes,) = plane.axes
    assert "nHSIC(Z, M)" in axes.get_xlabel()
    assert "nHSIC(Z, ids)" in axes.get_ylabel()
    legend = [t.get_text() for t in axes.get_legend().get_texts()]
    assert legend == ["x", "before training", "best validation, epoch 2"]
    line, start, best = axes.lines[:3]
    np.testing.assert_allclose(line.get_xydata()[:, 0], [0.85 - 0.05 * e for e in range(-1, 4)])
    np.testing.assert_allclose(line.get_xydata()[:, 1], [0.15 + 0.03 * e for e in range(-1, 4)])
    np.testing.assert_allclose(start.get_xydata(), [[0.9, 0.12]])
    np.testing.assert_allclose(best.get_xydata(), [[0.75, 0.21]])
    titles = {a.get_title(): a for a in curves.axes}
    assert "share" in titles["Share in the score"].get_ylabel()
    assert "nats" in titles["Information between modalities"].get_ylabel()
    assert "recall@20" in titles["Validation"].get_ylabel()
    assert all("epochs" in a.get_xlabel() for a in curves.axes)
    assert "own" not in titles


def test_the_best_epoch_follows_the_metric():
    rising = {0: 0.1, 1: 0.3, 2: 0.3, 3: 0.2}
    assert Run("a", Path("a"), {"valid/ndcg@10": rising}).best_epoch() == 1
    assert Run("a", Path("a"), {"valid/rmse": rising}).best_epoch() == 0
    assert Run("a", Path("a"), {"share/text": rising}).best_epoch() is None
    assert smaller_is_better("LogLoss")
    assert not smaller_is_better("recall@20")


def test_a_mean_needs_every_latent():
    run = Run("a", Path("a"), {"nhsic_ids/x": {0: 0.2, 1: 0.4}, "nhsic_ids/y": {1: 0.6}, "nhsic_ids_independent/x": {0: 9.0}})
    assert run.mean("nhsic_ids") == {1: pytest.approx(0.5)}
    assert run.mean("share") == {}
    assert run.plane() == {}


def test_families_in_their_order():
    assert family_of("gate/entropy/text") == "gate/entropy"
    assert family_of("gate/mean/text") == "gate"
    assert family_of("nhsic_ids_independent/text") == "nhsic_ids"
    run = Run("a", Path("a"), {name: {0: 1.0} for name in ("mine/x", "valid/r", "nhsic_ids/x", "nhsic_ids_independent/x")})
    assert panels([run]) == {"nhsic_ids": ["nhsic_ids/x", "nhsic_ids_independent/x"], "valid": ["valid/r"], "mine": ["mine/x"]}


def test_runs_of_one_name_are_told_apart_by_folder(tmp_path):
    assert labels([Path("a/x-diagnostics.csv"), Path("b/y.csv")]) == ["x", "y"]
    assert labels([Path("a/x-diagnostics.csv"), Path("b/x-diagnostics.csv")]) == [str(Path("a/x")), str(Path("b/x"))]
    source = write(tmp_path / "x.csv")
    assert len(read_runs([source, str(source)])) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file .*x.csv"),
        ("user,item\n1,2\n", "needed are the columns epoch, name, value"),
        ("", "starts with nothing"),
        ("epoch,name,value\n", "holds no measurement"),
        ("epoch,name,value\n0,share/x,nan\n", "holds no measurement"),
    ],
)
def test_what_cannot_be_drawn_is_named(tmp_path, content, message):
    path = tmp_path / "x.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        command("plot-information")([str(path)])
    assert not list(tmp_path.glob("*.png"))


def test_a_missing_matplotlib_is_named(tmp_path, monkeypatch):
    imported = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError("No module named 'matplotlib'")
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigurationError, match="pip install matplotlib"):
        command("plot-information")([str(write(tmp_path / "x.csv"))])


def test_out_must_be_a_folder(tmp_path):
    source = write(tmp_path / "x.csv")
    with pytest.raises(ConfigurationError, match="--out=FOLDER"):
        command("plot-information")([str(source), f"--out={source}"])


@pytest.mark.parametrize(("argv", "status"), [([], 2), (["--what"], 2), (["-h"], 0)])
def test_usage(argv, status, capsys):
    assert command("plot-information")(argv) == status
    printed = capsys.readouterr()
    assert "plot-information" in printed.out + printed.err
