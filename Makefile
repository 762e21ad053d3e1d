# Needs Python 3.11 or newer, git and make; everything else is set up here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check docs format bench soak lock clean

demo: $(READY)
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
	$(BIN)/python benchmarks/batch.py
	$(BIN)/python benchmarks/watching.py
	$(BIN)/python -m benchmarks.report
	$(BIN)/python benchmarks/live.py

soak: $(READY)
	$(BIN)/python -m benchmarks.soak

# The lock file: every package of the tests and of flaude itself, with its hashes.
lock: $(READY)
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --group dev pyproject.toml --output-file requirements/dev.txt

$(READY): pyproject.toml requirements/dev.txt src/flaude/_version.py
	$(PYTHON) -c 'import sys; sys.exit("flaude needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) .cache dist build docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
