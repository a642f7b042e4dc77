"""Whether what was measured keeps what was promised."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.truth.cells import Cell, Gate
from bench.truth.results import CellResult, Tally

LEVEL = 0.05
"""Probability that any gate of the whole page is called failed though all hold (Bonferroni over the gates)."""


@dataclass(frozen=True)
class Judged:
    cell: Cell
    gate: Gate
    tally: Tally
    p_value: float
    """Of the one-sided binomial test that the gate is kept; the smaller one of two where it has two sides."""
    holds: bool

    @property
    def in_doubt(self) -> bool:
        """Whether this cell alone would be called failed, at .05; of many that hold, one in twenty is by chance."""
        return self.holds and self.p_value < LEVEL

    @property
    def margin(self) -> float:
        """How far inside the gate the measured share is; negative outside. To find the worst cell."""
        share, gate = self.tally.mean, self.gate
        assert share is not None
        if gate.bound == "at most":
            return gate.low - share
        if gate.bound == "at least":
            return share - gate.low
        assert gate.high is not None
        return min(share - gate.low, gate.high - share)


def judge_gates(cells: Sequence[Cell], results: dict[str, CellResult]) -> list[Judged]:
    """Every gate that has something measured."""
    found = []
    for cell in cells:
        tallies = results[cell.name].tallies if cell.name in results else {}
        found += [(cell, gate, tallies[gate.measure]) for gate in cell.gates if _is_measured(tallies, gate)]
    return [_judge(cell, gate, tally, LEVEL / len(found)) for cell, gate, tally in found]


def _is_measured(tallies: dict[str, Tally], gate: Gate) -> bool:
    return gate.measure in tallies and tallies[gate.measure].count > 0


def _judge(cell: Cell, gate: Gate, tally: Tally, level: float) -> Judged:
    from scipy.stats import binomtest

    hits, count = round(tally.total), tally.count
    p_values = []
    if gate.bound == "at most":
        p_values.append(binomtest(hits, count, gate.low, "greater").pvalue)
    else:
        p_values.append(binomtest(hits, count, gate.low, "less").pvalue)
    if gate.high is not None:
        p_values.append(binomtest(hits, count, gate.high, "greater").pvalue)
    return Judged(cell, gate, tally, float(min(p_values)), min(p_values) >= level)
