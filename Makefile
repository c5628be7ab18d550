# Every target does its own set-up. `make demo` and `make test` work on a fresh Debian machine, as root.
.PHONY: demo test lint unit store kernel power bench bench-quick lock clean
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
SHELL := /bin/bash

PY := .venv/bin/python
STAMP := .venv/.installed

$(STAMP): requirements.lock pyproject.toml tools/bootstrap
	@tools/bootstrap

demo: $(STAMP)
	@$(PY) -m conformance.lab -- python3 -m conformance.demo

lint: $(STAMP)
	@echo "== lint and types"
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

unit: $(STAMP)
	@echo "== unit tests"
	$(PY) -m pytest -q tests/unit $(ARGS)

store: $(STAMP)
	@echo "== the lease store, with real processes"
	$(PY) -m conformance.lab.tools strace host-local
	$(PY) -m pytest -q $(or $(ARGS),-n 2 tests/store)

kernel: $(STAMP)
	@$(PY) -m conformance.lab -- python3 -m pytest -q -p no:cacheprovider $(or $(ARGS),-n 2 tests/kernel)

power: $(STAMP)
	@echo "== loss of power"
	$(PY) -m pytest -q tests/power $(ARGS)

test: lint unit store kernel power

lock: $(STAMP)
	@.venv/bin/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url \
	  --no-emit-find-links --extra dev --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv build dist *.egg-info
