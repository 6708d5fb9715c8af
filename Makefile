# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# A torch for the CPU alone saves gigabytes on Linux:  make run TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Options for `make run`, e.g.  make run ARGS="--model=LATTICE --epochs=20"
ARGS ?=
# one test process a core; one in all:  make test PARALLEL=
PARALLEL ?= -n logical --dist loadgroup

.PHONY: venv run test test-slow lint bench clean

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

test-slow: venv
	$(BIN)/python -m pytest $(PARALLEL) -m "slow or not slow"

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: venv
	$(BIN)/python benchmarks/sparse_product.py
	$(BIN)/python benchmarks/hsic.py
	$(BIN)/python benchmarks/bottleneck_overhead.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
