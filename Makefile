# make demo   the main job on real digits: predict, integrate, iterate, train, compare
# make test   the tests, on all cores; `make test-all` adds the slow ones
# make docs   the documentation site, into docs/_build/html/index.html
# make lint   ruff, its formatter, the import contracts, and the types
# Each sets up .venv by itself and needs only Python >= 3.10, pip, make and git.
# Options: PYTHON=python3.12   PYTEST_ARGS="-k limit"   CHECK_ARGS="--width 4096"
#          PYTEST_ARGS="-n 0" (one process)
#          PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" (on Linux: torch without CUDA)

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
CHECK_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary -c constraints.txt
SPHINX := $(BIN)/python -m sphinx -d docs/_build/doctrees -W --keep-going --jobs auto
# What an installation depends on; __init__.py holds the version.
SOURCES := setup.cfg setup.py pyproject.toml constraints.txt odeopt/__init__.py

.PHONY: demo test test-all lint bench docs clean
.DELETE_ON_ERROR:
# Two installations into one environment must not run at once.
.NOTPARALLEL:

demo: $(VENV)/installed-demo
	$(BIN)/odeopt check --out odeopt-check $(CHECK_ARGS)

test: $(VENV)/installed-test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-all: $(VENV)/installed-test
	$(BIN)/python -m pytest -m "" $(PYTEST_ARGS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/basedpyright --verifytypes odeopt --ignoreexternal --pythonpath $(BIN)/python

# In processor time: a machine that others use stretches that on the wall.
bench: $(VENV)/installed-test
	$(BIN)/python -m pytest benchmarks/bench_*.py -m "" --numprocesses 0 --benchmark-timer=time.process_time $(PYTEST_ARGS)
	$(BIN)/python benchmarks/readme_tables.py

# Pages are read and executed once: the second builder, which follows the links to other sites, takes them from the
# first. Without a network it follows none; the third command checks the links inside the site.
docs: $(VENV)/installed-docs
	$(SPHINX) -b html docs docs/_build/html
	$(SPHINX) -b linkcheck docs docs/_build/linkcheck
	$(BIN)/python docs/links.py docs/_build/html

# Leaves the environment, which is slow to make; `rm -rf .venv` removes it.
clean:
	rm -rf build dist odeopt-check docs/_build docs/gallery docs/api/generated .pytest_cache .ruff_cache .hypothesis \
	    .benchmarks .import_linter_cache .grimp_cache .mypy_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -exec rm -rf {} +

# Two stamps for one environment. That of the tests contains that of the demo, and so sets both.
$(VENV)/installed-demo: $(SOURCES) | $(BIN)/python
	@echo "Installing odeopt into $(VENV) (torch is large: some minutes the first time)"
	@$(INSTALL) $(PIP_ARGS) -e ".[data]"
	@touch $@

$(VENV)/installed-test: $(SOURCES) | $(BIN)/python
	@echo "Installing odeopt and its tests into $(VENV) (torch is large: some minutes the first time)"
	@$(INSTALL) $(PIP_ARGS) -e ".[data,test,certify,distributed]"
	@touch $(VENV)/installed-demo $@

$(VENV)/installed-docs: $(VENV)/installed-test
	@$(INSTALL) $(PIP_ARGS) -e ".[data,test,certify,distributed,docs]"
	@touch $(VENV)/installed-demo $(VENV)/installed-test $@

# A half-made environment is removed, lest the next run takes it for a good one.
$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null || { echo "$(PYTHON) not found: install Python >= 3.10, or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "odeopt needs Python >= 3.10, but $(PYTHON) is $$("$(PYTHON)" -V 2>&1): name a newer one, make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "$(PYTHON) -m venv failed: install its venv module (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
