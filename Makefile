# Two commands: `make simulate` runs FedHM on embedded data, `make test` passes the tests. Each sets up .venv first.
# Any Python from 3.11 on will do; PYTHON=... names one. The first that really runs is taken.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal -q

.DEFAULT_GOAL := help
.PHONY: help simulate test test-long lint format docs dist benchmark figures clean

help: ## show the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/.simulate: pyproject.toml
	@test -n "$(PYTHON)" || { echo "fedhm_jax needs Python 3.11 or newer, and none was found; PYTHON=... names one"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(BIN)/.test: pyproject.toml $(BIN)/.simulate
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

$(BIN)/.long: pyproject.toml $(BIN)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,trackers,recipes]'
	@touch $@

$(BIN)/.docs: pyproject.toml $(BIN)/.simulate
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

$(BIN)/.dist: $(BIN)/.simulate
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build twine
	@touch $@

simulate: $(BIN)/.simulate ## run FedHM on the embedded digits: make simulate ARGS="--server.rounds 50"
	$(BIN)/fedhm simulate $(ARGS)

test: lint ## formatting, lint, types, tests and doctests
	$(PYTEST) -m "not long"

test-long: $(BIN)/.long ## what takes long and seldom tells: kills, several processes, fuzzing, soak
	$(PYTEST) -m long

lint: $(BIN)/.test ## formatting, lint and types only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(BIN)/.test ## rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(BIN)/.docs ## build the pages into build/pages, tutorials run; warnings are errors
	$(BIN)/sphinx-build --fail-on-warning --conf-dir docs . build/pages

dist: $(BIN)/.dist ## build wheel and source distribution into dist
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

benchmark: $(BIN)/.test ## time rounds and the server step on this machine (minutes)
	$(BIN)/python -m benchmarks.round_time
	$(BIN)/python -m benchmarks.server_step

figures: $(BIN)/.test ## measure all of benchmarks/results again (hours; nothing else should run)
	$(BIN)/python -m benchmarks

clean: ## remove the virtual environments and caches
	rm -rf .venv* .pytest_cache .mypy_cache .ruff_cache .hypothesis
