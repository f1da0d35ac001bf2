# The two commands of the README, and what developers need. Each works from a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

SETS ?= ../shared/data/yardstick

.PHONY: demo test check docs yardstick peers results clean

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "atomreel needs Python 3.11 or newer; got $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'torch==2.13.0'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[simulate,train,fast,spm,imagej,movie,test,dev,docs]'
	@touch $@

demo: $(STAMP)          ## simulate a WS2 movie, analyse it, compare with the truth
	$(BIN)/python examples/demo.py

test: $(STAMP) check    ## everything: style, types, layers, all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs -n auto --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(STAMP)
	$(BIN)/mkdocs build --strict --site-dir site

yardstick: $(STAMP)     ## run and score the simulated sets with known truth
	$(BIN)/python benchmarks/score.py

peers: $(STAMP)         ## the same set by AtomAI, atomap, trackpy and blob_log, in environments of their own
	$(BIN)/python benchmarks/peers/compare.py $(SETS)/Y1_columns/images $(SETS)/Y1_columns/truth.parquet $(SETS)/../../yardstick out/peers-run

results: $(STAMP)       ## regenerate docs/results.md
	$(BIN)/python benchmarks/results.py

clean:
	rm -rf $(VENV) site demo build dist
