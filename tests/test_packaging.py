"""What a wheel holds, and that it works without the checkout."""

import email
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import recbole_ib
from recbole_ib.config.presets import presets
from recbole_ib.model.bottleneck import BOTTLENECKS
from recbole_ib.model.registry import CATALOG

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    words = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (made,) = folder.glob("recbole_ib-*.whl")
    return made


def test_the_wheel_holds_yaml_features_and_license(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    models = [f"{folder}/{name}.yaml" for folder in ("model", "tune") for name in CATALOG]
    bottlenecks = [f"{folder}bottleneck/{name}.yaml" for folder in ("", "tune/") for name in BOTTLENECKS]
    spaces = [path.relative_to(ROOT / "properties").as_posix() for path in (ROOT / "properties" / "tune").glob("*.yaml")]
    assert len(spaces) >= 31
    named = [f"presets/{name}.yaml" for name in presets()]
    assert "presets/ibmrec-paper.yaml" in named
    for name in ("overall.yaml", "dataset/ml-100k.yaml", *models, *spaces, *bottlenecks, *named):
        assert f"recbole_ib/properties/{name}" in names
    for name in ("README.md", "text.npy", "text.tokens", "visual.npy", "visual.tokens"):
        assert f"recbole_ib/data/sample/{name}" in names
    assert "recbole_ib/experiments/report/templates/report.html.j2" in names
    assert "recbole_ib/py.typed" in names
    modules = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("recbole_ib*/**/*.py")]
    assert len(modules) > 100
    assert set(modules) <= set(names)
    assert any(n.endswith("LICENSE") for n in names)
    assert not any(n.startswith(("tests/", "benchmarks/")) for n in names)


def test_the_installed_wheel_trains_without_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    script = "import recbole_ib, sys; from recbole_ib.cli.main import main; print(recbole_ib.__file__); "
    script += "sys.exit(main(['--model=VBPR', '--dataset=ml-100k', '--epochs=1', '--config_files=mrdib-paper']))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(site) in done.stdout
    assert "VBPR on ml-100k" in done.stdout
    # the preset's cut-offs
    assert "recall@5" in done.stdout.lower()


def test_the_wheel_names_its_python_versions_its_needs_and_its_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        information = next(n for n in archive.namelist() if n.endswith("dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(information))
        scripts = archive.read(information.replace("METADATA", "entry_points.txt")).decode()
    assert metadata["Version"] == recbole_ib.__version__
    assert metadata["License-Expression"] == "MIT"
    assert set(metadata["Requires-Python"].split(",")) == {">=3.10", "<3.14"}
    assert {"bench", "completion", "dev", "faiss"} <= set(metadata.get_all("Provides-Extra"))
    assert any(need.startswith("recbole<1.3") for need in metadata.get_all("Requires-Dist"))
    assert metadata.get_payload().startswith("#")  # the README
    assert "recbole-ib = recbole_ib_cli.main:main" in scripts


def test_the_version_is_one_number():
    assert recbole_ib.__version__.count(".") == 2
    assert f"## {recbole_ib.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CATALOG)
def test_every_model_has_its_yaml_and_its_line_in_the_readme(name):
    assert (ROOT / "properties" / "model" / f"{name}.yaml").is_file()
    assert f"`{name}`" in (ROOT / "README.md").read_text(encoding="utf-8")
