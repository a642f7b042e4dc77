"""The runs, one row each: out of a store, into `table.csv`, and back as arrays."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blueberry.records import RunResult
from blueberry.study.store import Store

HERE = Path(__file__).parent
TABLE = HERE / "table.csv"
STUDIES = ("pico-40", "pico-80", "pico-160")
RATE = "optimizer.muon.learning_rate"
COLUMNS = (
    "learning_rate",
    "seed",
    "updates",
    "tokens",
    "status",
    "val_loss",
    "val_bits_per_byte",
    "val_accuracy",
    "train_loss",
    "train_seconds",
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Horizon:
    """The runs of one length."""

    updates: int
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    losses_KN: np.ndarray
    """val_loss, nats; infinite where the run diverged. Shape (rates, seeds)."""


def read_store(folder: Path) -> list[Row]:
    """Rows of the studies of which every run ended; an unfinished one is left out whole."""
    rows = []
    with Store.open(folder, create=False) as store:
        registered = {study.name: tuple(study.runs) for study in store.studies()}
        for name in STUDIES:
            wanted = registered.get(name, ())
            results = store.results(wanted)
            if wanted and len(results) == len(wanted):
                rows += [_row(result) for result in results.values()]
    return sorted(rows, key=lambda row: (row["updates"], row["learning_rate"], row["seed"]))


def _row(result: RunResult) -> Row:
    fixed: Row = {
        "learning_rate": result.recipe[RATE],
        "seed": result.recipe["seed"],
        "updates": result.recipe["train.updates"],
        "tokens": result.num_tokens,
        "status": result.status,
    }
    return fixed | {name: result.metric(name) for name in COLUMNS if name not in fixed}


def write_table(rows: list[Row], path: Path = TABLE) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_text(row[name]) for name in COLUMNS] for row in rows)


def _text(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def read_table(path: Path = TABLE) -> list[Horizon]:
    """Shortest first."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    horizons = []
    for updates in sorted({int(row["updates"]) for row in rows}):
        here = [row for row in rows if int(row["updates"]) == updates]
        rates = sorted({float(row["learning_rate"]) for row in here})
        seeds = sorted({int(row["seed"]) for row in here})
        losses_KN = np.full((len(rates), len(seeds)), np.nan)
        for row in here:
            loss = float(row["val_loss"]) if row["status"] == "completed" else np.inf
            losses_KN[rates.index(float(row["learning_rate"])), seeds.index(int(row["seed"]))] = loss
        horizons.append(Horizon(updates, tuple(rates), tuple(seeds), losses_KN))
    return horizons
