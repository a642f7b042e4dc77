# `make demo` answers a question on this machine; `make lint` and `make test` check everything.
PY ?= python3
BIN := .venv/bin

.PHONY: demo test setup lint docs truth noise efficiency clean

demo: setup
	$(BIN)/blueberry run studies/demo-lr-sweep.toml

test: setup
	$(BIN)/pytest -n auto --dist worksteal -q

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	@$(BIN)/python -m tests.test_floors

docs: setup
	$(BIN)/python docs/write_recipes.py
	$(BIN)/python -m tests.test_architecture

truth: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.truth --replicates 10000 --out docs/truth.md

noise: setup
	for updates in 40 80 160; do $(BIN)/blueberry run bench/noise/pico-$$updates.toml --store bench/noise/.blueberry --quiet; done
	$(BIN)/python -m bench.noise --store bench/noise/.blueberry --out docs/noise.md

efficiency: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.sweep --replays 1000 --out docs/efficiency.md

setup: .venv/stamp

.venv/stamp: pyproject.toml constraints.txt
	$(PY) -c 'import sys; sys.exit("make: Python 3.11 or newer is needed; set PY=python3.x" if sys.version_info < (3, 11) else 0)'
	$(PY) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv
