# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# A torch for the CPU alone saves gigabytes on Linux:  make run TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Options for `make run`, e.g.  make run ARGS="--model=LATTICE --epochs=20"
ARGS ?=
# one test process a core, a file's costly fixtures made once; one process in all:  make test PARALLEL=
PARALLEL ?= -n logical --dist loadfile
# the examples in the docstrings of pure functions
DOCTESTS := --doctest-modules recbole_ib/bottleneck recbole_ib/graph recbole_ib/ops
# what `make profile` looks into, e.g.  make profile MODEL=FREEDOM ARGS="--shape=sports"
MODEL ?= IBMRec
# where `make bench` writes its tables and pictures
BENCH := build/benchmarks

.PHONY: venv run test test-slow faults coverage generate lint mypy docs bench profile clean

venv: $(STAMP)

$(STAMP): setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(STAMP)

run: venv
	$(BIN)/python run_recbole_ib.py $(ARGS)

test: venv
	$(BIN)/python -m pytest $(PARALLEL)
	$(BIN)/python -m pytest $(DOCTESTS)

test-slow: venv
	$(BIN)/python -m pytest $(PARALLEL) -m "slow or not slow"
	$(BIN)/python -m pytest $(DOCTESTS)

# inputs that must be refused, or read right: what happens to each, counted by group (tests/faults)
faults: venv
	$(BIN)/python -m tests.faults

# branches too; fails under 90 %; the pages are in build/coverage/html
coverage: venv
	mkdir -p build/coverage
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term --cov-report=html

# the yaml files of models, bottlenecks and spaces, and the tables of the doc pages, from the declarations in recbole_ib/model
generate: venv
	$(BIN)/python -m recbole_ib.config.generate

lint: venv mypy
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/lint-imports
	$(BIN)/codespell

mypy: venv
	$(BIN)/mypy

# the site in build/site; a broken link fails
docs: venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: venv
	$(BIN)/python benchmarks/sparse_product.py
	$(BIN)/python benchmarks/hsic.py
	$(BIN)/python benchmarks/bottleneck_overhead.py
	$(BIN)/python benchmarks/speed.py --shapes baby --models VBPR LATTICE FREEDOM VLATTICE IBMRec --turns 3 --out $(BENCH)/speed.md
	$(BIN)/python benchmarks/scale.py --sizes 10k 20k 40k --out $(BENCH)/scale.md

profile: venv
	$(BIN)/python benchmarks/profile_model.py $(MODEL) $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
