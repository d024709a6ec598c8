# `make` lists the targets. Everything is installed into .venv, nothing outside the checkout.

PYTHON ?= python3
DATASET ?=
DATA_DIR ?=
RECIPES ?=
BUDGET ?= 5
QUICK ?=

VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# Each file of the tests by one of two processes: most tests keep one core busy.
TWO := --numprocesses 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup lint test test-slow test-portable test-mutations reproduce experiments bench docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: $(INSTALLED) ## Make .venv with everything installed, genrecls editable (cheap to repeat; PYTHON=python3)

$(INSTALLED): $(PY) requirements.txt requirements-dev.txt requirements-docs.txt setup.cfg pyproject.toml
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(PY):
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON) here: install Python 3.11 or later, or name one with PYTHON=/path/to/python3." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is older than Python 3.11: name a later one with PYTHON=python3.11." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian: apt install python3-venv)." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

lint: setup ## Check style, types and the rooms
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

test: setup ## Run the tests that are quick
	$(PY) -m pytest $(TWO) -m "not slow"

test-slow: setup ## Run the tests that take longer
	$(PY) -m pytest $(TWO) -m slow

test-portable: setup ## Compute on emulated processors of other kinds, and compare every bit (needs qemu-x86_64), 9 minutes
	@$(PY) tests/portable.py

test-mutations: setup ## Change 500 single bytes of a run, its evaluation and its cache: no figure may move
	@$(PY) tests/mutations.py 500

reproduce: setup ## Train and evaluate twice, compare bit by bit (DATASET=synth|gtzan, DATA_DIR=folder of the corpus)
	@$(PY) experiments/reproduce.py --dataset $(or $(DATASET),synth) $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")

experiments: setup ## Train and score every recipe, BUDGET=5 minutes each (RECIPES=files or folders, DATASET, DATA_DIR: another corpus)
	@$(PY) experiments/run_recipes.py $(RECIPES) $(if $(BUDGET),--budget $(BUDGET)) \
	  $(if $(DATASET),--dataset $(DATASET)) $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")

bench: setup ## Measure the speed beside reference pipelines (QUICK=1: only see that it runs), about 35 minutes
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@$(PY) benchmarks/bench.py $(if $(QUICK),--quick --out build/bench)

docs: setup ## Write the command reference and build docs/ as a site, build/docs/index.html
	$(PY) docs/reference.py
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict
	@echo "Open build/docs/index.html (to search, serve it: $(PY) -m http.server -d build/docs)"

clean: ## Remove .venv, build and tool leftovers; never corpora, caches or runs
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache experiments/reproduce-*
	find genrecls tests experiments benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Kept: res/ (corpora and caches) and experiments/runs/ (runs). Remove those by hand if you mean to."
