"""Our own runs, as the tables that stand beside this file: made from a store, and read."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from blueberry.records import RunResult
from blueberry.study.store import Store

RATES = Path(__file__).parent / "rates.csv"
CHANGES = Path(__file__).parent / "changes.csv"
RATE = "optimizer.muon.learning_rate"
RUNGS = (9, 27)
"""Updates, of 80, after which halving looks at a run: a ninth of it, and a third."""
MEAN_OVER = 5
"""The training loss of one update is of one batch; a rung's is the mean of so many, the last of them the rung's."""
SETTINGS = {
    "dropout": ("model.dropout", 0.1),
    "warmup": ("schedule.warmup_fraction", 0.25),
    "floor": ("schedule.floor_fraction", 0.0),
    "decay": ("optimizer.muon.weight_decay", 0.1),
    "top1": ("model.feed_forward.top_k", 1),
    "clip": ("train.clip_norm", 0.25),
}
"""The changes of `pico-changes.toml`."""


def make(folder: Path) -> None:
    """Both tables, from a store where `pico-rates.toml` and `pico-changes.toml` have run."""
    with Store.open(folder, create=False) as store:
        runs = {study.name: tuple(study.runs) for study in store.studies()}
        rates = store.results(runs["pico-rates"]).values()
        changes = store.results(runs["pico-changes"]).values()
    _write(
        RATES,
        ("learning_rate", "seed", *(f"train_loss_{rung}" for rung in RUNGS), "val_loss"),
        [(f"{one.recipe[RATE]:g}", one.recipe["seed"], *map(_loss_at(one), RUNGS), _end(one)) for one in rates],
    )
    _write(
        CHANGES,
        (*SETTINGS, "seed", "val_loss"),
        [
            (*(int(one.recipe[name] == value) for name, value in SETTINGS.values()), one.recipe["seed"], _end(one))
            for one in changes
        ],
    )


def _loss_at(run: RunResult) -> Callable[[int], str]:
    losses = np.array(run.curve.train_loss, dtype=float)
    return lambda rung: f"{np.mean(losses[rung - MEAN_OVER : rung]):.6f}"


def _end(run: RunResult) -> str:
    return f"{run.metric('val_loss'):.6f}"


def _write(path: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    rows.sort(key=lambda row: tuple(map(float, row)))
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def read_rates() -> tuple[tuple[float, ...], np.ndarray]:
    """Rates, and their losses: shape (rates, seeds, rungs and the end)."""
    with RATES.open() as file:
        rows = [[float(cell) for cell in row.values()] for row in csv.DictReader(file)]
    rates = tuple(sorted({row[0] for row in rows}))
    losses_KNE = np.full((len(rates), 1 + max(int(row[1]) for row in rows), len(RUNGS) + 1), np.nan)
    for rate, seed, *losses in rows:
        losses_KNE[rates.index(rate), int(seed)] = losses
    return rates, losses_KNE


def read_changes() -> tuple[np.ndarray, np.ndarray]:
    """All combinations of the changes, and their losses. Shapes: (64, 6) of -1 and +1; (64, seeds)."""
    with CHANGES.open() as file:
        rows = [[float(cell) for cell in row.values()] for row in csv.DictReader(file)]
    held = sorted({tuple(row[: len(SETTINGS)]) for row in rows})
    losses_KN = np.full((len(held), 1 + max(int(row[-2]) for row in rows)), np.nan)
    for row in rows:
        losses_KN[held.index(tuple(row[: len(SETTINGS)])), int(row[-2])] = row[-1]
    return 2 * np.array(held) - 1, losses_KN
