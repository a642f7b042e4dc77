# Two commands: `make demo` answers a question on this machine, `make test` checks everything.
PY ?= python3
BIN := .venv/bin

.PHONY: demo test setup lint docs clean

demo: setup
	$(BIN)/blueberry run studies/demo-lr-sweep.toml

test: setup
	$(BIN)/pytest -n auto -q

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: setup
	$(BIN)/python docs/write_recipes.py

setup: .venv/stamp

.venv/stamp: pyproject.toml constraints.txt
	$(PY) -c 'import sys; sys.exit("make: Python 3.11 or newer is needed; set PY=python3.x" if sys.version_info < (3, 11) else 0)'
	$(PY) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv
