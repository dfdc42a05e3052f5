# `make help` lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= python3
ARGS ?=
# Files of tests run side by side: one more than two cores, as many wait for a server most of the time.
WORKERS ?= 3

BOOTSTRAP := $(PYTHON) devstack/bootstrap.py
DEV := $(BOOTSTRAP) --dev --no-system --
# Node comes with the development packages: the system's may be too old or absent.
NPM := $(DEV) env --chdir=clients/js
# npm writes that file last.
NODE_PACKAGES := [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund
PROTOS := $(wildcard proto/*/v1/*.proto)
PROTOC = python -m grpc_tools.protoc -I. --python_out=$(1) --grpc_python_out=$(1) --mypy_out=$(1) \
	--mypy_grpc_out=$(1) $(PROTOS)
LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-find-links --no-emit-index-url --no-annotate --no-header --quiet

.PHONY: help run test bench load faults faults-long soak test-web lint format proto check-generated lock web clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Start everything on this machine, installing what is missing; Ctrl-C stops it
	@$(BOOTSTRAP) -- python -m devstack $(ARGS)

test: ## Run all tests against real servers they start themselves; ARGS="-k name" picks some
	@$(BOOTSTRAP) --dev -- env --chdir=clients/js sh -c '$(NODE_PACKAGES)'
	@$(DEV) python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

bench: ## Measure the whole system beside this machine's limits; ARGS="saturation --runs 5" picks
	@$(BOOTSTRAP) --dev -- python -m loadtests $(ARGS)

load: ## Load the whole system with Locust; ARGS="--users 300 --run-time 60s"
	@$(BOOTSTRAP) --dev -- python -m loadtests.locust $(ARGS)

faults: ## Kill, stall and cut off everything under load, a few minutes; ARGS="--only service-killed"
	@$(BOOTSTRAP) --dev -- python -m tests.faults --short $(or $(ARGS),--at-once 2)

faults-long: ## The same for an hour, in random combinations; ARGS="--minutes 180 --report report.md"
	@$(BOOTSTRAP) --dev -- python -m tests.faults --minutes 60 $(ARGS)

soak: ## Hours at half load: memory, tasks, descriptors and connections stay flat; ARGS="--hours 8"
	@$(BOOTSTRAP) --dev -- python -m tests.faults.soak $(ARGS)

test-web: ## Check and test the browser client
	@$(NPM) sh -c '{ $(NODE_PACKAGES); } && npm run check && npm test'

lint: ## Check style, types and the direction of imports
	@$(DEV) ruff check
	@$(DEV) ruff format --check
	@$(DEV) mypy --strict
	@$(DEV) lint-imports

format: ## Put the Python code into the agreed form
	@$(DEV) ruff check --fix
	@$(DEV) ruff format

proto: ## Generate the gRPC stubs from proto/*/v1/*.proto
	@$(DEV) $(call PROTOC,.)

check-generated: ## Fail if stubs or demo page are not what their sources give
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(DEV) $(call PROTOC,"$$folder") && \
	diff -r -u -x '__init__.py' -x '__pycache__' -x '*.proto' proto "$$folder/proto" || \
	{ echo 'The gRPC stubs are not current: make proto'; exit 1; }
	@$(NPM) sh -c '{ $(NODE_PACKAGES); } && npm run check:static'

lock: ## Bring the hash-locked requirement files up to pyproject.toml; ARGS=--upgrade for new versions
	@$(DEV) $(LOCK) $(ARGS) --output-file requirements.lock
	@$(DEV) $(LOCK) $(ARGS) --extra dev --output-file requirements-dev.lock

web: ## Build the browser client and the demo page into gateway/static
	@$(NPM) sh -c '{ $(NODE_PACKAGES); } && npm run build'

clean: ## Delete .venv, caches, builds, and .run WITH its messages
	@if [ -e .run/lock ] && ! flock --nonblock .run/lock true; then \
		echo 'The stack runs: stop it first'; exit 1; fi
	@rm -rf .venv .run .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis test-artefacts
	@rm -rf broker_config/mosquitto/build clients/js/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
