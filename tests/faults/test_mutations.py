"""Good files with a changed byte: refused in words of ours, or read as they were."""

import io
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_ib.data.features import ModalitySpec, load_modality
from recbole_ib.errors import ConfigurationError, RecBoleIBError
from recbole_ib.training.checkpoint import read_checkpoint, write_checkpoint
from recbole_ib.utils.yaml import read_yaml

HOW = st.sampled_from(["replace", "drop", "insert", "cut", "double", "zeros"])
QUICK = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


def changed(data: bytes, place: float, how: str, byte: int) -> bytes:
    """The bytes with one of them changed, from a share of the whole on."""
    at = int(place * (len(data) - 1))
    return {
        "replace": data[:at] + bytes([byte]) + data[at + 1 :],
        "drop": data[:at] + data[at + 1 :],
        "insert": data[:at] + bytes([byte]) + data[at:],
        "cut": data[:at],
        "double": data[:at] + data[at:] * 2,
        "zeros": data[:at] + bytes(min(16, len(data) - at)) + data[at + 16 :],
    }[how]


@QUICK
@given(place=st.floats(0, 1), how=HOW, byte=st.integers(0, 255))
def test_a_checkpoint(place, how, byte, tmp_path):
    good, path = {"model": "VBPR", "config": {"seed": 1}, "state_dict": {"w": torch.arange(40.0)}}, tmp_path / "x.pth"
    write_checkpoint(good, path)
    path.write_bytes(changed(path.read_bytes(), place, how, byte))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = read_checkpoint(path)
        except RecBoleIBError:
            return
    assert (found["model"], found["config"]) == (good["model"], good["config"])
    assert torch.equal(found["state_dict"]["w"], good["state_dict"]["w"])


@QUICK
@given(place=st.floats(0, 1), how=HOW, byte=st.integers(0, 255), kind=st.sampled_from(["npy", "npz"]))
def test_a_feature_file(place, how, byte, kind, tmp_path):
    tokens = [f"i{n}" for n in range(6)]
    values, buffer = np.arange(24, dtype=np.float32).reshape(6, 4) + 1, io.BytesIO()
    if kind == "npy":
        np.save(buffer, values)
    else:
        np.savez(buffer, features=values, ids=np.array(tokens))
    path = tmp_path / f"text.{kind}"
    path.write_bytes(changed(buffer.getvalue(), place, how, byte))
    (tmp_path / "text.tokens").write_text("\n".join(tokens) + "\n")
    spec = ModalitySpec("text", path, tmp_path / "text.tokens" if kind == "npy" else None)
    modality, report = load_modality(spec, ["[PAD]", *tokens])
    # a .npy has no checksum: another number in it is another number
    assert report.errors or (modality.values.shape == (7, 4) and np.isfinite(modality.values).all())
    if not report.errors and kind == "npz":
        np.testing.assert_array_equal(modality.values[1:], values)


YAML = b"load_col: {inter: [user_id, item_id]}\nmodalities:\n  text: {file: text.npy, tokens: text.tokens}\nlearning_rate: 1e-3\n"


@QUICK
@given(place=st.floats(0, 1), how=HOW, byte=st.integers(0, 255))
def test_a_yaml_file(place, how, byte, tmp_path):
    path = tmp_path / "d.yaml"
    path.write_bytes(changed(YAML, place, how, byte))
    try:
        assert isinstance(read_yaml(path), dict)
    except ConfigurationError as error:
        if str(path) not in str(error):
            pytest.fail(str(error))
