"""Packaging of recbole-ib."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "recbole_ib" / "version.py").read_text(encoding="utf-8"), re.MULTILINE)[1]

setup(
    name="recbole-ib",
    version=VERSION,
    description="Information-bottleneck recommenders (IBMRec, MRdIB) and multimodal baselines for RecBole",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.14",
    packages=[*find_packages(include=["recbole_ib", "recbole_ib.*"]), "recbole_ib.properties"],
    # the yaml files stand at the top of the repository and are installed inside the package
    package_dir={"recbole_ib.properties": "properties"},
    package_data={
        "recbole_ib": ["data/sample/*", "experiments/report/templates/*"],
        "recbole_ib.properties": ["*.yaml", "*/*.yaml", "*/*/*.yaml"],
    },
    install_requires=[
        # 1.2.1 asks for ray<=2.6.3, which has no wheel for Python 3.12 and later; pip settles on 1.2.0
        "recbole>=1.2,<1.3",
        "torch>=2.6",
        "numpy>=1.26",
        "scipy>=1.13",
        # clusters as labels for SGFD; RecBole needs it too
        "scikit-learn>=1.3",
        "threadpoolctl",
        # with pandas 3, 13 of 70 of RecBole's own data tests fail (copy-on-write)
        "pandas>=2.0,<3",
        # the charts of tune, compare, robustness and plot-information
        "matplotlib>=3.7",
        # per-user metrics, recommendations
        "pyarrow>=14",
        # the report of compare
        "jinja2>=3",
        "pyyaml",
        "tqdm",
        # recbole.quick_start imports ray; recbole 1.2.0 does not declare it, nor kmeans-pytorch
        "ray[tune]>=2.50",
        "optuna>=4",
        "hyperopt",
        "kmeans-pytorch",
    ],
    extras_require={
        # knn_search: faiss, or auto above 200,000 items
        "faiss": ["faiss-cpu"],
        # peers of benchmarks/speed.py; measured with cornac 3.0.1 and implicit 0.7.3
        "bench": ["cornac", "implicit"],
        "dev": ["pytest>=8", "pytest-xdist>=3.6", "ruff", "build", "setuptools>=77", "faiss-cpu"],
    },
    entry_points={"console_scripts": ["recbole-ib=recbole_ib.cli.main:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
