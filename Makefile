# Two commands: `make simulate` runs FedHM on embedded data, `make test` passes the tests. Each sets up .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help simulate test lint format benchmark clean

help: ## show the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/.simulate: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(BIN)/.test: pyproject.toml $(BIN)/.simulate
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

simulate: $(BIN)/.simulate ## run FedHM on the embedded digits: make simulate ARGS="--server.rounds 50"
	$(BIN)/fedhm simulate $(ARGS)

test: $(BIN)/.test ## formatting, lint, types, tests and doctests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

lint: $(BIN)/.test ## formatting, lint and types only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(BIN)/.test ## rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: $(BIN)/.test ## time rounds and the server step on this machine (minutes)
	$(BIN)/python -m benchmarks.round_time
	$(BIN)/python -m benchmarks.server_step

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
