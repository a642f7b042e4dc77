"""Tallies of every cell in one JSON file, so that measuring may be interrupted, resumed, extended and repeated."""

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

import blueberry
from bench.truth.cells import Cell
from bench.truth.studies import STUDIES

CHUNK = 500
"""Replicates drawn from one generator; chunk c of a cell has the same numbers whatever the total."""

OPTIMUM = ("stats/noise.py", "stats/paired.py", "stats/unresolved.py", "stats/optimum.py")
VERDICTS = (
    *OPTIMUM,
    "stats/multiplicity.py",
    "stats/power.py",
    "stats/verdicts.py",
    "judge/measured.py",
    "judge/comparisons.py",
)
SOURCES = {"optimum": OPTIMUM, "fixed": VERDICTS, "looks": VERDICTS, "more": VERDICTS}
"""What each kind of study measures; tallies of other sources are started anew, or told apart on the page."""


@dataclass
class Tally:
    """Of one measure: how many numbers, their sum and the sum of their squares."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: np.ndarray) -> None:
        there = values[~np.isnan(values)]
        self.count += len(there)
        self.total += float(there.sum())
        self.squares += float(np.square(there).sum())

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    @property
    def standard_error(self) -> float | None:
        if self.count < 2:
            return None
        mean = self.total / self.count
        return math.sqrt(max(self.squares / self.count - mean**2, 0.0) / (self.count - 1))


@dataclass
class CellResult:
    replicates: int = 0
    sources: str = ""
    """Digest of the sources that were measured; chunks of different sources are never added up."""
    tallies: dict[str, Tally] = field(default_factory=dict)


class Results:
    """The file. Written whole after every chunk, by renaming."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: dict[str, CellResult] = {}
        if path.exists():
            for name, body in json.loads(path.read_text()).items():
                tallies = {measure: Tally(*numbers) for measure, numbers in body["tallies"].items()}
                self.cells[name] = CellResult(body["replicates"], body["sources"], tallies)

    def measure(self, cells: Sequence[Cell], replicates: int, *, stale: bool = False) -> None:
        """Bring every cell up to this many replicates. `stale`: start those of other sources anew."""
        digests = {study: source_digest(study) for study in SOURCES}  # now: files may change while this runs
        for number, cell in enumerate(cells, start=1):
            sources = digests[cell.study]
            wanted = min(replicates, cell.most_replicates or replicates)
            wanted = -(-wanted // CHUNK) * CHUNK
            result = self.cells.setdefault(cell.name, CellResult())
            old = result.replicates > 0 and result.sources != sources
            if old and (stale or result.replicates < wanted):
                result = self.cells[cell.name] = CellResult()
            result.sources = result.sources or sources
            began = time.monotonic()
            while result.replicates < wanted:
                chunk = result.replicates // CHUNK
                for name, values in STUDIES[cell.study](cell, generator(cell, chunk), CHUNK).items():
                    result.tallies.setdefault(name, Tally()).add(values)
                result.replicates += CHUNK
                self._write()
                seconds = time.monotonic() - began
                told = f"{number}/{len(cells)} {cell.name}: {result.replicates} of {wanted}, {seconds:.0f} s"
                print(told, file=sys.stderr, flush=True)

    def forget(self, prefix: str) -> None:
        self.cells = {name: result for name, result in self.cells.items() if not name.startswith(prefix)}

    def _write(self) -> None:
        body = {
            name: {
                "replicates": result.replicates,
                "sources": result.sources,
                "tallies": {measure: list(asdict(tally).values()) for measure, tally in result.tallies.items()},
            }
            for name, result in sorted(self.cells.items())
        }
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(body, indent=1) + "\n")
        os.replace(temporary, self.path)


def generator(cell: Cell, chunk: int) -> np.random.Generator:
    key = hashlib.sha256(f"{cell.name}/{chunk}".encode()).digest()
    return np.random.default_rng(int.from_bytes(key[:8], "little"))


def source_digest(study: str) -> str:
    """Of the sources that a study measures."""
    root = Path(blueberry.__file__).parent
    return hashlib.sha256(b"".join((root / name).read_bytes() for name in SOURCES[study])).hexdigest()[:12]
