# `make demo` answers a question on this machine; `make lint` and `make test` check everything.
PY ?= python3
BIN := .venv/bin
DOCUMENTS := 000-before-after 001-schedule 002-rates 002-horizon 003-search 003-leak 004-ablation 004-accumulation \
             004-schedule 004-stack 004-routing 004-longer

.PHONY: demo test setup lint docs documents truth noise efficiency clean

demo: setup
	$(BIN)/blueberry run studies/demo-lr-sweep.toml

test: setup
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n auto --dist worksteal -q

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	@$(BIN)/python -m tests.test_floors

docs: setup
	$(BIN)/python docs/write_recipes.py
	$(BIN)/python -m tests.test_architecture

truth: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.truth --replicates 10000 --out docs/truth.md --quote docs/judge.md

noise: setup
	for updates in 40 80 160; do $(BIN)/blueberry run bench/noise/pico-$$updates.toml --store bench/noise/.blueberry --quiet; done
	$(BIN)/python -m bench.noise --store bench/noise/.blueberry --out docs/noise.md

efficiency: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.sweep --replays 1000 --out docs/efficiency.md

# Exit code 1 is an answer here: a claim is blocked, a promotion refused.
documents: setup
	for study in $(DOCUMENTS); do \
	  $(BIN)/blueberry run studies/documents/$$study-small.toml --out reports/documents/$$study --quiet || [ $$? -eq 1 ] || exit 1; \
	done
	for study in 000-before-after 001-schedule 004-ablation 004-stack; do \
	  $(BIN)/blueberry promote studies/documents/$$study-small.toml --to documents || [ $$? -eq 1 ] || exit 1; \
	done
	$(BIN)/blueberry ledger --remeasure documents --stages --out reports/documents/ledger --quiet || [ $$? -eq 1 ]
	$(BIN)/python -m bench.documents --out docs/documents.md

setup: .venv/stamp

.venv/stamp: pyproject.toml constraints.txt
	$(PY) -c 'import sys; sys.exit("make: Python 3.11 or newer is needed; set PY=python3.x" if sys.version_info < (3, 11) else 0)'
	$(PY) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv
