"""Tallies of every cell in one JSON file, so that measuring may be interrupted, resumed, extended and repeated."""

import ast
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from itertools import product
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
    "judge/pairs.py",
    "judge/race.py",
    "judge/comparisons.py",
)
DOCTOR = (*VERDICTS, "judge/doctor", "judge/from_rows.py", "judge/row_runs.py", "tables")
SOURCES = {
    "optimum": OPTIMUM,
    "fixed": VERDICTS,
    "race": (*VERDICTS, "stats/anytime.py", "stats/sequential.py"),
    "more": VERDICTS,
    "clean": DOCTOR,
    "defect": DOCTOR,
}
"""What each kind of study measures."""


@dataclass(frozen=True)
class Tally:
    """Of one measure: how many numbers, their sum and the sum of their squares."""

    count: int
    total: float
    squares: float

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None


@dataclass
class CellResult:
    replicates: int = 0
    sources: str = ""
    """Digest of the sources that were measured; chunks of different sources are never added up."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    first: dict[str, Tally] = field(default_factory=dict)
    """Of the first chunk alone: to see whether other sources give the same."""


class Results:
    """The file. Written whole after every chunk, by renaming."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: dict[str, CellResult] = {}
        if path.exists():
            for name, body in json.loads(path.read_text()).items():
                self.cells[name] = CellResult(
                    body["replicates"], body["sources"], _tallies(body["tallies"]), _tallies(body["first"])
                )

    def measure(self, cells: Sequence[Cell], replicates: int) -> None:
        """Bring every cell up to this many replicates: all to 500, to 1,000, to 2,000 ..., so that whenever this is
        interrupted no cell lags far behind.

        A cell that other sources gave is kept if its first chunk comes out the same now, and else measured anew.
        """
        digests = {
            study: source_digest(study) for study in {cell.study for cell in cells}
        }  # now: files may change while this runs
        rounds = [CHUNK * 2**k for k in range(20) if CHUNK * 2**k < replicates]
        for at_least, (number, cell) in product([*rounds, replicates], enumerate(cells, start=1)):
            sources = digests[cell.study]
            size = chunk_size(cell)
            wanted = -(-min(at_least, cell.most_replicates or at_least) // size) * size
            result = self.cells.setdefault(cell.name, CellResult())
            began = time.monotonic()
            if result.sources != sources and (result.replicates == 0 or not _same(result.first, _chunk(cell, 0))):
                result = self.cells[cell.name] = CellResult()
            changed = result.sources != sources
            result.sources = sources
            while result.replicates < wanted:
                tallies = _chunk(cell, result.replicates // size)
                result.first = result.first or tallies
                result.tallies = _sum(result.tallies, tallies)
                result.replicates += size
                changed = True
                self._write()
                seconds = time.monotonic() - began
                told = f"{number}/{len(cells)} {cell.name}: {result.replicates} of {wanted}, {seconds:.0f} s"
                print(told, file=sys.stderr, flush=True)
            if changed:
                self._write()

    def forget(self, prefix: str) -> None:
        self.cells = {name: result for name, result in self.cells.items() if not name.startswith(prefix)}

    def _write(self) -> None:
        body = {
            name: {
                "replicates": result.replicates,
                "sources": result.sources,
                "tallies": {measure: list(astuple(tally)) for measure, tally in result.tallies.items()},
                "first": {measure: list(astuple(tally)) for measure, tally in result.first.items()},
            }
            for name, result in sorted(self.cells.items())
        }
        temporary = self.path.with_suffix(".tmp")
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in body.items())
        temporary.write_text(f"{{\n{lines}\n}}\n")
        os.replace(temporary, self.path)


def chunk_size(cell: Cell) -> int:
    return min(CHUNK, cell.most_replicates or CHUNK)


def _chunk(cell: Cell, chunk: int) -> dict[str, Tally]:
    return tally(STUDIES[cell.study](cell, generator(cell, chunk), chunk_size(cell)))


def tally(measures: dict[str, np.ndarray]) -> dict[str, Tally]:
    """NaN is not counted."""
    tallies: dict[str, Tally] = {}
    for name, values in measures.items():
        there = values[~np.isnan(values)]
        tallies[name] = Tally(len(there), float(there.sum()), float(np.square(there).sum()))
    return tallies


def _sum(a: dict[str, Tally], b: dict[str, Tally]) -> dict[str, Tally]:
    """Of every measure; a chunk may lack one that is rare."""
    nothing = Tally(0, 0.0, 0.0)
    return {name: a.get(name, nothing) + b.get(name, nothing) for name in {**a, **b}}


def _same(a: dict[str, Tally], b: dict[str, Tally]) -> bool:
    """Up to the last digits, which may depend on the order of additions."""
    return set(a) == set(b) and all(np.allclose(astuple(a[name]), astuple(b[name]), rtol=1e-6) for name in a)


def _tallies(body: dict[str, list[float]]) -> dict[str, Tally]:
    return {name: Tally(int(count), total, squares) for name, (count, total, squares) in body.items()}


def generator(cell: Cell, chunk: int) -> np.random.Generator:
    key = hashlib.sha256(f"{cell.name}/{chunk}".encode()).digest()
    return np.random.default_rng(int.from_bytes(key[:8], "little"))


def source_digest(study: str) -> str:
    """Of the code that a study measures, comments and docstrings apart; a folder stands for all of its modules."""
    root = Path(blueberry.__file__).parent
    paths = [path for name in SOURCES[study] for path in sorted((root / name).glob("*.py")) or [root / name]]
    return hashlib.sha256("".join(_code(path) for path in paths).encode()).hexdigest()[:12]


def _code(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            node.body = [one for one in node.body if not _is_text(one)]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
