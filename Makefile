# Market Spine. `make help` lists the targets from the comments beside them; CONTRIBUTING.md has the plain commands.
# Variables: PYTHON (3.11 or newer), JOBS (test processes), PYTEST_ARGS, PORT (of dev), MARKET_SPINE_HOME (the store).

PYTHON ?= python3
JOBS ?= 2
PYTEST_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
DOC_TESTS := market_spine_tests/test_house.py $(wildcard market_spine_tests/test_docs.py)
UV_VERSION := 0.13.8  # resolves for every platform at once, which pip-tools cannot
PORT ?= 3000
MARKET_SPINE_HOME ?= $(CURDIR)/.market_spine
# Dagster takes no relative folder.
override export MARKET_SPINE_HOME := $(abspath $(MARKET_SPINE_HOME))

.DEFAULT_GOAL := help
.PHONY: help install demo test check lint types imports docs dev lock bench test-extended test-duckdb-1 clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The stamp is older than the lock file after a pull that changed a version; then, and only then, pip runs again.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Market Spine needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

install: $(STAMP) ## Install locked versions and the project into .venv

demo: $(STAMP) ## Show the whole way of synthetic weeks through the platform
	$(BIN)/spine demo

test: lint types imports ## Everything that must hold: checks, then tests
	$(PYTEST) -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

test-extended: $(STAMP) ## The tests that `make test` leaves out: more cases, minutes
	$(PYTEST) -m extended -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

check: lint types imports docs ## Lint, types, import contracts, documentation

lint: $(STAMP) ## Style and likely mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## Static types, strict
	$(BIN)/mypy

imports: $(STAMP) ## Import contracts: imports only run downward
	$(BIN)/lint-imports

docs: $(STAMP) ## House rules and documentation
	$(PYTEST) -q $(DOC_TESTS)

dev: $(STAMP) ## Dagster on http://127.0.0.1:3000: pages and daemon
	$(BIN)/spine init
	DAGSTER_HOME=$(MARKET_SPINE_HOME)/dagster PYTHONWARNINGS='ignore:Function `dev_command` is superseded' \
	  $(BIN)/dagster dev --host 127.0.0.1 --port $(PORT)

lock: ## Resolve pyproject.toml anew into requirements.lock
	$(PYTHON) -m venv build/uv
	build/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	UV_CUSTOM_COMPILE_COMMAND="make lock" build/uv/bin/uv pip compile --quiet --no-config --upgrade --universal \
	  --generate-hashes --no-strip-extras --python-version 3.11 --extra dev --output-file requirements.lock pyproject.toml

bench: $(STAMP) ## Measure sizes and times on generated weeks
	$(BIN)/python -m benchmarks

test-duckdb-1: ## All tests on DuckDB 1.5, in an environment of its own
	$(PYTHON) -m venv build/duckdb-1
	build/duckdb-1/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	build/duckdb-1/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	build/duckdb-1/bin/python -m pip install --quiet --disable-pip-version-check "duckdb>=1.5,<1.6"
	build/duckdb-1/bin/python -m pytest -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

clean: ## Remove caches and builds; .venv and the store stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.*
	find $(wildcard market_spine market_spine_tests benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +
