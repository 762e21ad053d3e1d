# Needs Python 3.11 or newer, git and make; everything else is set up here.
# Another Python, beside the first: make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready

.PHONY: demo test check docs format bench soak lock clean

demo: $(INSTALLED)
	$(BIN)/flaude demo

test: $(READY)
	scripts/install-test-tools
	$(BIN)/python -m pytest -n 6 --dist worksteal $(ARGS)

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory docs

# The site, into docs/_build; nothing is fetched, and a warning is an error.
docs: $(READY)
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going docs docs/_build

format: $(READY)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(READY)
	$(BIN)/python -m benchmarks.scale --json build/benchmarks.json $(ARGS)
	$(BIN)/python benchmarks/watching.py
	$(BIN)/python benchmarks/live.py
	$(BIN)/python benchmarks/prompts.py
	$(BIN)/python -m benchmarks.report

soak: $(READY)
	$(BIN)/python -m benchmarks.soak

# The lock files: every package of flaude itself, and of the tests too, with their hashes.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: $(INSTALLED)
	$(BIN)/pip install --quiet uv
	$(LOCK) --group dev pyproject.toml --output-file requirements/dev.txt
	$(LOCK) --group build pyproject.toml --constraint requirements/dev.txt --output-file requirements/run.txt

PIP := $(BIN)/pip install --quiet --disable-pip-version-check
$(INSTALLED): pyproject.toml requirements/run.txt src/flaude/_version.py
	$(PYTHON) -c 'import sys; sys.exit("flaude needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --requirement requirements/run.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

$(READY): $(INSTALLED) requirements/dev.txt
	$(PIP) --require-hashes --requirement requirements/dev.txt
	touch $@

clean:
	rm -rf $(VENV) .venv .venv-3.* .cache dist build docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
