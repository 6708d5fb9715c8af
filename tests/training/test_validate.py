"""The scales of features in the report of ``recbole-ib check``."""

import math

import numpy as np
import pytest
from recbole.utils import get_model

from recbole_ib.cli.main import main
from recbole_ib.config.declared import model_defaults
from recbole_ib.data.modality_spec import RowScales
from recbole_ib.training.validate import check_dataset, scale_notes, scales_text
from tests.support.datasets import planted, write_dataset


def scales(median, cosine=0.0):
    return RowScales(median, median / 2, 2 * median, cosine)


@pytest.fixture(scope="module")
def scaled_path(tmp_path_factory):
    """The planted data with long pictures whose mean is far from 0."""
    pairs, modalities, _, _ = planted()
    modalities["visual"] = 100 + 10 * modalities["visual"]
    return write_dataset(tmp_path_factory.mktemp("scaled"), "planted", pairs, modalities)


def checked(path, **settings):
    return check_dataset(config_dict={"dataset": "planted", "data_path": str(path), "use_gpu": False, **settings})


LENGTHS, ONE_WAY = "median row lengths are text 1", "rows point one way, by the mean cosine of two of them: visual (0.99)"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [LENGTHS, ONE_WAY]),
        ({"model": "BPR"}, [LENGTHS, ONE_WAY]),
        ({"model": "LATTICE"}, [LENGTHS, ONE_WAY]),
        ({"model": "IBMRec", "normalize_features": True}, [ONE_WAY]),
        ({"model": "VLightGCN", "normalize_features": False}, [LENGTHS, ONE_WAY]),
        ({"model": "VBPR", "normalize_features": "columns"}, []),
        ({"normalize_features": "rows"}, [ONE_WAY]),
    ],
)
def test_notes_go_by_what_the_model_makes_of_the_rows(scaled_path, settings, expected):
    report = checked(scaled_path, **settings)
    assert len(report.notes) == len(expected)
    assert all(note.startswith(start) for note, start in zip(report.notes, expected, strict=True)), report.notes
    assert report.errors == []


@pytest.mark.parametrize("name", ["VBPR", "VBPR+fib", "VLightGCN", "IBMRec"])
def test_the_default_is_that_of_the_named_model(scaled_path, name):
    default = model_defaults(get_model(name.split("+")[0]))["normalize_features"]
    notes = checked(scaled_path, model=name).notes
    assert notes == checked(scaled_path, model=name, normalize_features=repr(default)).notes
    assert len(notes) == {"none": 2, "rows": 1, "columns": 0}[default]


def test_usual_features_have_no_note(planted_path):
    report = checked(planted_path, model="VBPR")
    assert report.notes == []
    assert "note" not in report.text()


def test_the_command_prints_them(scaled_path, capsys):
    assert main(["check", "--dataset=planted", f"--data_path={scaled_path}", "--use_gpu=False"]) == 0
    lines = capsys.readouterr().out.splitlines()
    values = np.load(scaled_path / "planted" / "visual.npy").astype(float)
    lengths = np.linalg.norm(values, axis=1)
    unit = values / lengths[:, None]
    cosine = (unit @ unit.T)[np.triu_indices(60, 1)].mean()
    shown = f"  row lengths {np.median(lengths):.3g} (median), {lengths.min():.3g} to {lengths.max():.3g}"
    assert f"{shown}; mean cosine of two rows {cosine:.2f}" in lines
    assert len([line for line in lines if line.startswith("note: ")]) == 2


@pytest.mark.parametrize(
    ("medians", "noted"),
    [
        ([1.0, 9.9], False),
        ([0.5, 5.1], True),
        ([10.0], False),
        ([10.1], True),
        ([0.1], False),
        ([0.09], True),
        ([], False),
    ],
)
def test_bounds_of_the_lengths(medians, noted):
    given = {f"m{i}": scales(median) for i, median in enumerate(medians)}
    assert bool(scale_notes(given, "none")) is bool(scale_notes(given, None)) is noted
    assert scale_notes(given, "rows") == scale_notes(given, "columns") == []


def test_bounds_of_the_cosine():
    assert scale_notes({"text": scales(1.0, 0.5), "one": scales(1.0, math.nan)}, "rows") == []
    (note,) = scale_notes({"text": scales(1.0, 0.51), "image": scales(1.0, 0.9)}, "rows")
    assert "text (0.51), image (0.90)" in note
    assert scale_notes({"text": scales(1.0, 0.9)}, "columns") == []
    assert scales_text(scales(2.0, 0.25)) == "row lengths 2 (median), 1 to 4; mean cosine of two rows 0.25"
    assert scales_text(scales(2.0, math.nan)) == "row lengths 2 (median), 1 to 4"
