"""Rows that are no runs: copies, dots where others were left out, means and spreads below the runs they sum up."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from blueberry.tables.columns import LEAST_DIGITS, kind_by_name
from blueberry.tables.rows import Placed, is_finite, significant_digits

MEANS = frozenset(("mean", "average", "avg", "\u03bc", "mean of seeds"))
SPREADS = frozenset(
    ("std", "sd", "stdev", "std dev", "stddev", "sem", "stderr", "variance", "range", "min", "max", "median", "\u03c3")
)
"""What a row of a summary is called; those of the second kind only below one of the first, or under seeds."""
LEAST_SUMMED = 2
WITHIN = 0.1
"""Of the range of what is summed up: how far from the mean a row called so may be."""


def without_summaries(rows: Sequence[Placed]) -> tuple[Sequence[Placed], list[str]]:
    """The rows that are runs, and what a person should know of the others."""
    said: list[str] = []
    known = [one for one in rows if any(value is not None for value in one[1].values())]
    if known and len(known) < len(rows):
        said.append(f"{len(rows) - len(known)} of {len(rows)} rows say nothing, and are no runs")
        rows = known
    once: dict[str, Placed] = {}
    for place, values in rows:
        once.setdefault(repr(values) if _is_measured(values) else place, (place, values))
    if len(once) < len(rows):
        said.append(f"{len(rows) - len(once)} of {len(rows)} rows stand twice, to the last digit, and count once")
        rows = [*once.values()]
    for column in dict.fromkeys(name for _, values in rows[:1] for name in values):
        named = [summary_in(values.get(column)) for _, values in rows]
        runs = [one for one, name in zip(rows, named, strict=True) if name is None]
        if any(named) and len(runs) >= LEAST_SUMMED and _are_summaries(column, rows, named, runs):
            words = ", ".join(
                dict.fromkeys(f"{values[column]}" for (_, values), name in zip(rows, named, strict=True) if name)
            )
            said.append(f"rows called {words:.80} ({column}) sum up the others, and are no runs")
            return runs, said
    return rows, said


def _is_measured(values: Mapping[str, Any]) -> bool:
    """Whether a row says so much that another run would not have said the same: a text, and a number of many digits."""
    results = [one for name, one in values.items() if kind_by_name(name) == "result" and is_finite(one)]
    digits = [significant_digits(repr(one)) for one in results]
    return max(digits, default=0) >= LEAST_DIGITS and any(isinstance(one, str) for one in values.values())


def summary_in(cell: Any) -> str | None:
    """What a cell says a row is, "mean" of "Mean (3 seeds)" or "mean \u00b1 std"; None where it names a run."""
    if not isinstance(cell, str) or len(cell) > 40:
        return None
    words = (
        cell.casefold().replace("*", " ").replace("\u00b1", "(").replace("+/-", "(").replace("/", "(").partition("(")[0]
    )
    word = " ".join(words.replace(".", " ").split())
    return word if word in MEANS | SPREADS else None


def _are_summaries(column: str, rows: Sequence[Placed], named: Sequence[str | None], runs: Sequence[Placed]) -> bool:
    """Under seeds and numbers anything so called is one; among names the row called mean has to be the mean."""
    if kind_by_name(column) == "seed" or all(is_finite(values.get(column)) for _, values in runs):
        return True
    means = [values for (_, values), name in zip(rows, named, strict=True) if name in MEANS]
    for mean in means[:1]:
        for name, value in mean.items():
            others = [values.get(name) for _, values in runs]
            numbers = [one for one in others if is_finite(one)]
            if is_finite(value) and len(numbers) == len(others) and max(numbers) > min(numbers):
                return abs(value - fmean(numbers)) <= WITHIN * (max(numbers) - min(numbers))
    return False
