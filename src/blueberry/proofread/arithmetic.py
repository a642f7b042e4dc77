"""One check for every number that is made of others: can it be printed so, given what rounding hid of its parts?

Each printed number is an interval. An operation on intervals gives an interval; a statement is contradicted where that
does not meet the interval of what is stated.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean, median, pstdev, stdev

from blueberry.judge.audits import block
from blueberry.judge.judgement import Audit
from blueberry.proofread.printed import Number

TOTAL_OF_TIMES = (0.9, 20.0)
"""A total time over the sum of the times listed: a campaign also loads and evaluates; a wrong unit is 60 times off."""
DECADES = 0.3
"""How far a range may fall short of the orders of magnitude that it is said to span."""
Op = Callable[[Sequence[float]], float]


def _relative(ends: Sequence[float]) -> float:
    return ends[1] / ends[0] - 1 if ends[0] else math.inf


def _factor(ends: Sequence[float]) -> float:
    return max(ends) / min(ends) if min(ends) > 0 else math.inf


OPERATIONS: dict[str, Op] = {
    "mean": fmean,
    "median": median,
    "sum": math.fsum,
    "time": math.fsum,
    "last": lambda values: values[-1],
    "minimum": min,
    "maximum": max,
    "perplexity": lambda values: math.exp(min(values[0], 700.0)),
    "percent": _relative,
    "difference": lambda ends: ends[1] - ends[0],
    "factor": _factor,
    "decades": lambda ends: abs(math.log10(ends[1] / ends[0])),
    "sd": stdev,
}
_OF_TWO = ("percent", "difference", "factor", "decades")
"""These may grow or shrink with either end; the others grow with every input."""


@dataclass(frozen=True)
class Way:
    """One way in which a number may have been made."""

    op: str
    inputs: tuple[Number, ...]

    @property
    def value(self) -> float:
        return OPERATIONS[self.op]([one.value for one in self.inputs])

    def interval(self) -> tuple[float, float]:
        """Every value that rounding leaves open."""
        operation = OPERATIONS[self.op]
        if self.op == "sd":  # of a sample or a population, a standard error, or half of a 95% interval of the mean
            values, slack = [one.value for one in self.inputs], 1.5 * max(one.half for one in self.inputs)
            return pstdev(values) - slack, stdev(values) + slack
        corners = [(one.low, one.high) for one in self.inputs]
        if self.op in _OF_TWO:
            if min(one.low for one in self.inputs) <= 0 and self.op != "difference":
                return -math.inf, math.inf
            found = [operation(ends) for ends in product(*corners)]
        else:
            found = [operation([low for low, _ in corners]), operation([high for _, high in corners])]
        if self.op == "time":
            return TOTAL_OF_TIMES[0] * min(found), TOTAL_OF_TIMES[1] * max(found)
        return min(found), max(found)

    def allows(self, stated: Number) -> bool:
        low, high = self.interval()
        if self.op == "percent":
            return self._allows_percent(stated, low, high)
        if self.op == "difference":
            low, high = (0.0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
            return low - 2 * stated.half <= abs(stated.value) <= high + 2 * stated.half
        if self.op == "decades":
            return high + DECADES >= stated.value
        if self.op == "factor":
            least, most = stated.low - 1e-9, stated.value + 2 * stated.half  # cut off is as good as rounded
            if stated.value < 1:  # 0.5x is twice as small
                least, most = 1 / max(most, 1e-9), 1 / max(least, 1e-9)
            return low <= most and least <= high
        slack = 1e-9 * max(abs(low), abs(high)) + (1e-4 * abs(high) if self.op == "perplexity" else 0.0)
        return low - slack <= stated.high and stated.low <= high + slack

    def _allows_percent(self, stated: Number, low: float, high: float) -> bool:
        """Whatever its sign; cut off is as good as rounded; points of percentages are understood."""
        a, b = self.inputs
        if a.is_percent and b.is_percent:
            points = abs(abs(b.value - a.value) - abs(stated.value))
            if points <= stated.half + a.half + b.half + 1e-12:
                return True
        least = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
        said = abs(stated.value)
        return least - stated.half - 1e-12 <= said <= max(abs(low), abs(high)) + stated.half + 1e-12 or (
            said <= max(abs(low), abs(high)) and least <= said + 2 * stated.half + 1e-12
        )


@dataclass(frozen=True)
class Statement:
    """A number that is said to be made of others."""

    stated: Number
    ways: tuple[Way, ...]
    """How it may have been made; the first is named where none gives the number."""
    what: str
    line: int
    unit: str = ""
    """After the printed number."""
    remedy: str = "print the number that the others give"

    def contradiction(self, place: str) -> Audit | None:
        if not self.ways or any(way.allows(self.stated) for way in self.ways):
            return None
        return block(
            "arithmetic", f"{place}: {self.what} {self._right()}, printed {self.stated.text}{self.unit}", self.remedy
        )

    def _right(self) -> str:
        way = self.ways[0]
        if way.op == "percent":
            return f"is {way.value:+.2%}" if abs(way.value) < 0.3 else f"is {way.value:+.1%}"
        if way.op == "factor":
            return f"is a factor of {way.value:.3g}"
        if way.op == "decades":
            return f"are {way.value:.2f} decades"
        if way.op == "time":
            return f"add up to {way.value:,.0f} s = {way.value / 60:.1f} minutes"
        if way.op == "sum":
            return f"add up to {way.value:,.6g}"
        if self.stated.is_percent:
            return f"is {way.value:.2%}"
        return f"is {way.value:.5g}"
