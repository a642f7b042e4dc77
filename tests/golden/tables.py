"""Small tables of runs in every format, as others leave them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

RATES = {0.01: 3.4, 0.02: 3.2, 0.04: 3.0, 0.08: 3.3}
"""Learning rate and its mean loss: 0.04 is best by far."""


def sweep(seeds: int = 4, loss: str = "val_loss") -> list[dict[str, Any]]:
    """Every rate on every seed; the seeds move all rates alike, but for a little."""
    return [
        {"lr": lr, "seed": seed, loss: round(mean + 0.001 * seed + 0.0002 * ((3 * seed + round(lr * 100)) % 5), 6)}
        for lr, mean in RATES.items()
        for seed in range(seeds)
    ]


def arms() -> list[dict[str, Any]]:
    """Three named arms, of which two cannot be told apart, with times and steps."""
    means = {"baseline": 3.31, "qk-norm": 3.27, "dropout": 3.312}
    return [
        {
            "arm": arm,
            "seed": seed,
            "steps": 1000,
            "training_time": 60 + seed,
            "validation_loss": round(mean + 0.004 * ((7 * seed + 3 * place) % 5 - 2), 4),
        }
        for place, (arm, mean) in enumerate(means.items())
        for seed in range(5)
    ]


def delimited(rows: list[dict[str, Any]], mark: str) -> str:
    lines = [list(rows[0]), *(row.values() for row in rows)]
    return "".join(mark.join("" if cell is None else str(cell) for cell in line) + "\n" for line in lines)


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "# Runs\n\n" + "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


class Table(NamedTuple):
    file: str
    """Its name; a folder for TensorBoard."""
    make: Callable[[], Any]
    """The text of it, or the rows that are logged for TensorBoard."""
    asked: dict[str, Any]
    """How it is analysed."""
    needs: str = ""
    """An extra."""

    def write(self, folder: Path) -> Path:
        path, made = folder / self.file, self.make()
        if isinstance(made, str):
            path.write_text(made, encoding="utf-8")
        else:
            for number, row in enumerate(made):
                log(path / f"run-{number},lr={row['lr']},seed={row['seed']}", row["val_loss"])
        return path


def log(folder: Path, loss: float) -> None:
    """A run's event file, with two values of one scalar."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True)
    with open(folder / "events.out.tfevents.0.here", "wb") as file:
        RecordWriter(file).write(Event(wall_time=0, file_version="brain.Event:2").SerializeToString())
        for step, value in ((0, 8.0), (100, loss)):
            scalar = Summary(value=[Summary.Value(tag="val_loss", simple_value=value)])
            RecordWriter(file).write(Event(wall_time=step, step=step, summary=scalar).SerializeToString())


def diverged() -> str:
    return delimited([*sweep(loss="final_loss"), *({"lr": 0.16, "seed": s, "l": "nan"} for s in range(4))], ",")


TABLES: dict[str, Table] = {
    "csv": Table("sweep.csv", lambda: delimited(sweep(), ","), {"vary": "lr", "min_effect": 0.02, "alpha": 0.04}),
    "csv-diverged": Table("diverged.csv", diverged, {"vary": "lr"}),
    "csv-crashed": Table(
        "crashed.csv", lambda: delimited([{**r, "val_loss": None} for r in sweep(2)], ","), {"vary": "lr"}
    ),
    "csv-one-seed": Table("one.csv", lambda: delimited(sweep(1), ","), {"vary": "lr"}),
    "tsv": Table("arms.tsv", lambda: delimited(arms(), "\t"), {"vary": "arm"}),
    "json": Table("sweep.json", lambda: json.dumps({"runs": sweep()}), {"vary": "lr"}),
    "jsonl": Table(
        "arms.jsonl", lambda: "".join(json.dumps(row) + "\n" for row in arms()), {"vary": "arm", "min_effect": 0.03}
    ),
    "markdown": Table("sweep.md", lambda: markdown(sweep(3)), {"vary": "lr"}),
    "tensorboard": Table("logs", lambda: sweep(3), {"vary": "lr"}, needs="tensorboard"),
}
