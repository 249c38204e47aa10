# Needs Python >= 3.11, git and make. `make` alone says what there is.

PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,$(shell \
	command -v $(name) >/dev/null 2>&1 && \
	$(name) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && \
	echo $(name))))
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
export PYTHONPATH := .

.DEFAULT_GOAL := help
.PHONY: help install run api worker test browser test-fast test-faults test-security bench check openapi lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Create .venv from requirements.lock (the other targets do it by themselves)

$(STAMP): requirements.lock
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 with venv found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing into $(VENV), once: half a minute or more"
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

run: $(STAMP) ## Try it: embedded Valkey, API, worker, a first tenant and a curl
	@exec $(PY) -m app.dev

api: $(STAMP) ## The API alone
	@exec $(PY) -m app.main

worker: $(STAMP) ## The worker alone
	@exec $(PY) -m worker.main

test: $(STAMP) browser ## The whole suite, on real servers that it starts itself
	$(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile --ignore tests/faults --ignore tests/worker
	$(PY) -m pytest tests/faults tests/worker # alone: they measure time

browser: # the tests of the dashboard say what to install where this cannot
	@for name in $$CHROMIUM chromium chromium-browser google-chrome-stable google-chrome; do \
		command -v $$name >/dev/null && exit 0; done; \
	test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || true

test-fast: $(STAMP) ## Without the tests marked slow, until the first failure
	$(PY) -m pytest -x -q -m "not slow and not long"

test-faults: $(STAMP) ## The long proof: the model, every fault, every mutation (half an hour)
	$(PY) -m tests.faults.everything

test-security: $(STAMP) ## The long search for holes: ten minutes of Schemathesis, fuzzing, the matrix, the gates, the canaries
	SECURITY=full $(PY) -m pytest -m "long or not long" tests/api tests/security

bench: $(STAMP) ## Benchmarks (about half an hour; needs wrk), into tests/bench/RESULTS.md; QUICK=1: 3 minutes, only printed
	@$(PY) -m tests.bench

check: $(STAMP) ## Lint, format, types, floors
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -q tests/test_floors.py

openapi: $(STAMP) ## Rewrite the committed API document
	$(PY) -m app.api.openapi > tests/api/openapi.json

COMPILE := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11

lock: ## Choose new versions (needs uv): all, and of those what the container image installs
	$(COMPILE) --upgrade --all-extras pyproject.toml -o requirements.lock
	$(COMPILE) -c requirements.lock --no-annotate pyproject.toml -o requirements-run.lock
	@! grep -n '://' requirements.lock requirements-run.lock

clean: ## Remove the environment and caches; .data stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
