"""One check for every number that is made of others: can it be printed so, given what rounding hid of its parts?

Each printed number is an interval. An operation on intervals gives an interval; a statement is contradicted where that
does not meet the interval of what is stated, which was rounded or cut off.
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
SLACK = 1e-9
"""Relative, for arithmetic in floats."""


@dataclass(frozen=True)
class Operation:
    """A way to make a number of several."""

    of: Callable[[Sequence[float]], float]
    says: str = "is {value:.5g}"
    """What is right, in words."""
    of_two: bool = False
    """It may grow or shrink with either end, and its sign is left out; others grow with every input."""


def _relative(ends: Sequence[float]) -> float:
    return ends[1] / ends[0] - 1 if ends[0] else math.inf


def _factor(ends: Sequence[float]) -> float:
    return max(ends) / min(ends) if min(ends) > 0 else math.inf


OPERATIONS: dict[str, Operation] = {
    "mean": Operation(fmean),
    "median": Operation(median),
    "sum": Operation(math.fsum, "add up to {value:,.6g}"),
    "time": Operation(math.fsum, "add up to {value:,.0f} s = {minutes:.1f} minutes"),
    "last": Operation(lambda values: values[-1]),
    "minimum": Operation(min),
    "maximum": Operation(max),
    "perplexity": Operation(lambda values: math.exp(min(values[0], 700.0))),
    "sd": Operation(stdev),
    "percent": Operation(_relative, "is {value:+.2%}", of_two=True),
    "difference": Operation(lambda ends: ends[1] - ends[0], of_two=True),
    "factor": Operation(_factor, "is a factor of {value:.3g}", of_two=True),
    "decades": Operation(lambda ends: abs(math.log10(ends[1] / ends[0])), "are {value:.2f} decades", of_two=True),
}


@dataclass(frozen=True)
class Way:
    """One way in which a number may have been made."""

    op: str
    inputs: tuple[Number, ...]

    @property
    def value(self) -> float:
        return OPERATIONS[self.op].of([one.value for one in self.inputs])

    def interval(self) -> tuple[float, float]:
        """Every value that rounding leaves open; of two ends, every size."""
        operation = OPERATIONS[self.op]
        corners = [(one.low, one.high) for one in self.inputs]
        if self.op == "sd":  # of a sample or a population, a standard error, or half of a 95% interval of the mean
            values, slack = [one.value for one in self.inputs], 1.5 * max(one.half for one in self.inputs)
            return pstdev(values) - slack, stdev(values) + slack
        if operation.of_two:
            if min(low for low, _ in corners) <= 0 and self.op != "difference":
                return -math.inf, math.inf
            found = [operation.of(ends) for ends in product(*corners)]
            low = 0.0 if min(found) <= 0 <= max(found) else min(map(abs, found))
            high = max(map(abs, found))
            return (0.0, high + DECADES) if self.op == "decades" else (low, high)
        low, high = operation.of([low for low, _ in corners]), operation.of([high for _, high in corners])
        if self.op == "time":
            return TOTAL_OF_TIMES[0] * low, TOTAL_OF_TIMES[1] * high
        return (low * (1 - 1e-4), high * (1 + 1e-4)) if self.op == "perplexity" else (low, high)

    def allows(self, stated: Number) -> bool:
        """Whether the intervals meet."""
        low, high = self.interval()
        value = abs(stated.value) if OPERATIONS[self.op].of_two else stated.value
        least, most = value - stated.half, value + 2 * stated.half  # what was cut off is more than what is printed
        if self.op == "factor" and value < 1:  # 0.5x is twice as small
            least, most = 1 / max(most, 1e-9), 1 / max(least, 1e-9)
        slack = SLACK * max(abs(low), abs(high)) + 1e-12
        return low - slack <= most and least <= high + slack


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
        op, value = self.ways[0].op, self.ways[0].value
        says = OPERATIONS[op].says
        if self.stated.is_percent and op != "percent":
            says = "is {value:.2%}"
        right = says.format(value=value, minutes=value / 60)
        message = f"{place}: {self.what} {right}, printed {self.stated.text}{self.unit}"
        return block("arithmetic", message, self.remedy)
