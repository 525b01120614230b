# What there is to do with a checkout. `make` alone says so.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.pumice-setup
ARGS ?=
SEEDS ?= 1000
FIRST ?= 0
ONLY ?=
MINUTES ?= 10

.PHONY: help setup run test test-computing test-cluster test-clients test-records test-rest test-fences test-kernel check bench simulate chaos lock packages openapi

help:
	@echo 'make setup   a virtual environment in $(VENV) with the locked packages (Python >= 3.11; PYTHON=… picks one)'
	@echo 'make run     set up, then `pumice up` (ARGS="--port 8777 …")'
	@echo 'make test    set up, then the unit, conformance, simulation, cluster and integration tests'
	@echo 'make test-kernel  what needs a kernel with iSCSI and NBD, in a user-mode Linux guest (root; fetches Debian packages)'
	@echo 'make check   formatting, lint, types, import contracts, generated files'
	@echo 'make simulate  SEEDS=1000 histories of the control plane on virtual time, from FIRST=0 on'
	@echo '               (FIRST=7 ONLY=2,5 replays events 2 and 5 of history 7 and prints all that happens)'
	@echo 'make chaos   MINUTES=10 of kills and pauses of every process under load; a report (ARGS=--help says what there is)'
	@echo 'make bench   the benchmarks (ARGS="--quick …"; ARGS=--help says what there is)'
	@echo 'make lock    resolve pyproject.toml anew into requirements.lock'

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@.ci/ensure_venv $(PYTHON) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: setup
	$(BIN)/pumice up $(ARGS)

packages:
	@.ci/ensure_packages tests/debian-packages.txt

# Two at a time where they do not disturb each other, in this order; then those that need the machine for themselves.
# Files of tests/integration that are in no list belong to the rest, so none is forgotten.
CLIENTS := $(addprefix tests/integration/test_,openstack_cli.py cinderclient.py sdk.py wire.py fuzz.py bytes.py)
RECORDS := $(addprefix tests/integration/test_,stores.py migrations.py postgresql.py keystone.py policy.py operator_api.py)
FENCES := tests/integration/test_fences.py
ALONE := $(addprefix tests/integration/test_,restart.py chaos.py)
REST := $(filter-out $(CLIENTS) $(RECORDS) $(FENCES) $(ALONE),$(wildcard tests/integration/test_*.py))

test: setup packages
	@echo 'forty minutes: computing, cluster, clients, records, rest and fences two at a time (each says how it went when it is done)'
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-computing test-cluster test-clients test-records test-rest test-fences
	$(BIN)/python -m pytest $(ALONE) $(ARGS)

test-computing:
	$(BIN)/python -m pytest tests/unit tests/conformance tests/simulation $(ARGS)

test-cluster:
	$(BIN)/python -m pytest tests/cluster $(ARGS)

test-clients:
	$(BIN)/python -m pytest $(CLIENTS) $(ARGS)

test-records:
	$(BIN)/python -m pytest $(RECORDS) $(ARGS)

test-rest:
	$(BIN)/python -m pytest $(REST) $(ARGS)

test-fences:
	$(BIN)/python -m pytest $(FENCES) $(ARGS)

test-kernel: setup packages
	$(BIN)/python -m pytest tests/kernel/test_kernel.py $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@diff -q <($(BIN)/python -m serve_app.wire.openapi) docs/openapi.json >/dev/null || \
	    { echo 'docs/openapi.json is not what the routes say: make openapi' >&2; exit 1; }

openapi: setup
	$(BIN)/python -m serve_app.wire.openapi > docs/openapi.json

bench: setup packages
	$(BIN)/python -m tests.bench $(ARGS)

simulate: setup
	$(BIN)/python -m tests.simulation.runner $(SEEDS) $(FIRST) $(ONLY)

chaos: setup packages
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(ARGS)

lock: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip-tools>=7.5,<8'
	$(BIN)/python -m piptools compile --quiet --strip-extras --generate-hashes --allow-unsafe --extra dev \
	    --output-file requirements.lock pyproject.toml
