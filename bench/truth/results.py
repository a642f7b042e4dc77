"""Tallies of every cell in one JSON file, so that measuring may be interrupted, resumed, extended and repeated."""

import ast
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import astuple, dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

import blueberry
from bench.truth.cells import Cell
from bench.truth.studies import STUDIES

CHUNK = 500
"""Replicates drawn from one generator; chunk c of a cell has the same numbers whatever the total."""

VERDICTS = ("stats", "judge")
DOCTOR = ("stats", "judge", "tables")
SOURCES = {
    "optimum": ("stats",),
    "fixed": VERDICTS,
    "factorial": VERDICTS,
    "race": VERDICTS,
    "more": VERDICTS,
    "loop": ("stats/loop.py",),
    "clean": DOCTOR,
    "defect": DOCTOR,
}
"""The folders, or files, that each kind of study measures."""


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

    def measure(self, cells: Sequence[Cell], replicates: int, workers: int = 1) -> None:
        """Bring every cell up to this many replicates: all to 500, to 1,000, to 2,000 ..., so that whenever this is
        interrupted no cell lags far behind.

        A cell that other sources gave is kept if its first chunk comes out the same now, and else measured anew.
        """
        digests = {
            study: source_digest(study) for study in {cell.study for cell in cells}
        }  # now: files may change while this runs
        with ProcessPoolExecutor(workers) as pool:
            self._check(cells, digests, pool)
            rounds = [CHUNK * 2**k for k in range(20) if CHUNK * 2**k < replicates]
            for at_least in [*rounds, replicates]:
                missing = [(cell, chunk) for cell in cells for chunk in self._missing(cell, at_least)]
                measured = pool.map(_chunk, *zip(*missing, strict=True)) if missing else ()
                for number, ((cell, _), tallies) in enumerate(zip(missing, measured, strict=True), start=1):
                    result = self.cells[cell.name]
                    result.first = result.first or tallies
                    result.tallies = _sum(result.tallies, tallies)
                    result.replicates += chunk_size(cell)
                    self._write()
                    told = f"{number}/{len(missing)} {cell.name}: {result.replicates} of {at_least}"
                    print(told, file=sys.stderr, flush=True)

    def _check(self, cells: Sequence[Cell], digests: Mapping[str, str], pool: Executor) -> None:
        """Forget every cell whose first chunk other sources gave and these do not."""
        others = [cell for cell in cells if self.cells.get(cell.name, CellResult()).sources != digests[cell.study]]
        known = [cell for cell in others if cell.name in self.cells]
        firsts = pool.map(_chunk, known, [0] * len(known))
        same = {
            cell.name for cell, first in zip(known, firsts, strict=True) if _same(self.cells[cell.name].first, first)
        }
        for cell in others:
            if cell.name not in same:
                self.cells[cell.name] = CellResult()
            self.cells[cell.name].sources = digests[cell.study]
        self._write()

    def _missing(self, cell: Cell, at_least: int) -> range:
        """Numbers of the chunks that a cell lacks."""
        size = chunk_size(cell)
        return range(
            self.cells[cell.name].replicates // size, -(-min(at_least, cell.most_replicates or at_least) // size)
        )

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
    """Of the code that a study measures, comments and docstrings apart."""
    root = Path(blueberry.__file__).parent
    given = [root / name for name in SOURCES[study]]
    paths = [path for one in given for path in ([one] if one.is_file() else sorted(one.rglob("*.py")))]
    return hashlib.sha256("".join(_code(path.read_text()) for path in paths).encode()).hexdigest()[:12]


@cache  # several kinds of study measure the same files
def _code(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            node.body = [one for one in node.body if not _is_text(one)]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
