# Needs nothing but make and a Python from 3.11 up; everything else goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
# The API reference, where there is a copy beside the project; else the project's own page of the same calls.
REFERENCE ?= $(or $(wildcard ../shared/spec/api-reference.md),docs/reference/calls.md)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-faults test-spec compatibility check fmt openapi bench bench-gateway bench-coldstart bench-lossless bench-autoscaler bench-balancer lock clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name what; do printf '  make %-16s %s\n' "$$name" "$$what"; done

demo: .venv/.run ## a server, a small model, two questions; cleans up after itself
	$(BIN)/roost demo

serve: .venv/.run ## run a server in this terminal
	$(BIN)/roost serve

test: .venv/.dev ## all tests but those of test-faults and test-spec
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

test-faults: .venv/.dev ## processes killed, hung and restarted under load
	$(BIN)/pytest tests/faults -n 2 --dist loadfile $(ARGS)

test-spec: .venv/.dev ## the published clients, unchanged, against a sandbox (needs node, npm and curl)
	$(BIN)/python -m tests.spec.published
	$(BIN)/pytest tests/spec --ignore tests/spec/test_schemathesis.py -n 2 --dist loadfile --reference $(REFERENCE) $(ARGS)
	$(BIN)/pytest tests/spec/test_schemathesis.py

compatibility: .venv/.dev ## write docs/reference/compatibility.md from what the published clients do
	$(BIN)/python -m tests.spec.published
	$(BIN)/pytest tests/spec/test_clients.py -n 2 --write-table $(ARGS)

check: .venv/.dev ## lint, format, types, layers, architecture
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/architecture

fmt: .venv/.dev ## format the code and mend what the linter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

openapi: .venv/.dev ## write docs/reference/openapi.json, which the tests compare
	$(BIN)/python -m roost.api > docs/reference/.openapi.json
	mv docs/reference/.openapi.json docs/reference/openapi.json

bench: .venv/.dev ## a quick round of all benchmarks
	$(BIN)/python -m benchmarks.gateway --quick --peers nginx,haproxy,roost
	$(BIN)/python -m benchmarks.coldstart --quick
	$(BIN)/python -m benchmarks.autoscaler --quick
	$(BIN)/python -m benchmarks.balancer --quick

bench-gateway: .venv/.dev ## the gateway's cost beside nginx, haproxy, vllm-router and LiteLLM
	$(BIN)/python -m benchmarks.gateway $(ARGS)

bench-lossless: .venv/.dev ## answers lost, cut or doubled while parts of a server are killed
	$(BIN)/python -m benchmarks.lossless $(ARGS)

bench-coldstart: .venv/.dev ## from create to the first token, beside the bare engine
	$(BIN)/python -m benchmarks.coldstart $(ARGS)

bench-autoscaler: .venv/.dev ## the autoscaling policy beside the public ones; traces: ARGS='--traces FOLDER'
	$(BIN)/python -m benchmarks.autoscaler $(ARGS)

bench-balancer: .venv/.dev ## which replica takes a request, beside other routers; traces: ARGS='--traces FOLDER'
	$(BIN)/python -m benchmarks.balancer $(ARGS)

lock: ## pin what is installed now
	$(BIN)/python -m pip install --quiet --upgrade --upgrade-strategy eager -e '.[dev,llamacpp]'
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^roost' > constraints.txt

clean: ## remove the environment and all caches
	rm -rf .venv .cache .bench build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Roost needs Python 3.11 or newer as '$(PYTHON)'; name another one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "'$(PYTHON) -m venv' does not work here; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# What `make demo` and `make serve` need, and what development needs on top.
.venv/.run: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing Roost into .venv ..."
	@$(INSTALL) -e '.[llamacpp]'
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing Roost and its development tools into .venv ..."
	@$(INSTALL) -e '.[dev,llamacpp]'
	@touch $@ .venv/.run
