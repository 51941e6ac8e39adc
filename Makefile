# Everything that CI runs, and no more than Python 3.11 or newer (with venv and pip), make and git.
# The environment lives in .venv; a second run installs nothing.

PYTHON ?= python3
BIN := .venv/bin
CORE := .venv/.installed-core
DEV := .venv/.installed-dev
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# One test process a core, each with one thread: more threads are slower there, often by far.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

CASE ?= all
DATA ?=
JSON ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-gpu check format bench clean

help:  ## show this list
	@echo "make TARGET [PYTHON=python3.12]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14

demo: $(CORE)  ## train and compare on the built-in synthetic log; report in demo/
	$(BIN)/mdlora demo --out demo

test: $(DEV)  ## the test suite, without slow and GPU tests
	@# numba looks at the file of a kernel alone, and not at those whose functions go into it
	@for file in mdlora/compiled/*.py; do \
		find mdlora/compiled -name '*.nb[ic]' ! -newer $$file -delete; done
	$(PYTEST)

test-slow: $(DEV)  ## tests that take minutes
	$(PYTEST) -m "slow and not gpu" --timeout 1800

test-gpu: $(DEV)  ## tests that need a CUDA device
	$(PYTEST) -n 0 -m gpu

check: $(DEV)  ## lint, format, types, the order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -n 0 tests/test_import_order.py

format: $(DEV)  ## rewrite the code in the house's format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(DEV)  ## speed and memory, half an hour: make bench [CASE=train] [DATA=folder] [JSON=file]
	$(BIN)/mdlora bench $(CASE) $(if $(DATA),--data $(DATA)) $(if $(JSON),--json $(JSON))

clean:  ## remove caches and build outputs; keeps .venv, demo and runs
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find mdlora tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		found="$$($(PYTHON) --version 2>/dev/null || echo not there)"; \
		echo "mdlora needs Python 3.11 or newer, but '$(PYTHON)' is $$found." \
			"Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

$(CORE): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing mdlora into .venv ..."
	@$(PIP) -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing mdlora and its development tools into .venv ..."
	@$(PIP) -e ".[dev]"
	@touch $(CORE) $@
