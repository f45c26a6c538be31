# Two commands are true on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test validate docs lint types setup clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(VENV)/.demo-installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -f $(VENV)/.installed || $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[molecules]'
	touch $@

demo: $(VENV)/.demo-installed  ## the main job: equilibrium samples of alanine dipeptide, with a report
	$(BIN)/heatbath sample alanine-dipeptide --out demo --overwrite
	@echo "Open demo/report/index.html in a browser."

test: setup  ## the fast tests
	$(BIN)/python -m pytest -n 2 -m "not slow"

validate: setup  ## the long tests; their outcomes are written to results/
	$(BIN)/python -m pytest -m slow --record validation

docs: setup  ## the documentation, strictly, into site/
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) site demo
