"""Runs that failed out of so many: exact bounds, and where on an axis failing begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


def binomial_interval(failures: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Of the probability of failing, each side at (1 - level) / 2; (0, 1) for n = 0.

    Covers at least at `level` for every n and probability.
    Source: Clopper and Pearson 1934, by beta quantiles. 0 of n: the upper bound is 1 - ((1 - level) / 2)**(1 / n).
    """
    from scipy.special import betaincinv

    assert 0 <= failures <= n
    tail = (1 - level) / 2
    low = float(betaincinv(failures, n - failures + 1, tail)) if failures else 0.0
    high = float(betaincinv(failures + 1, n - failures, 1 - tail)) if failures < n else 1.0
    return low, high


def upper_bound(failures: int, n: int, *, level: float = 0.95) -> float:
    """One-sided: the largest probability of failing under which so few failures have probability 1 - level."""
    return binomial_interval(failures, n, level=2 * level - 1)[1]


def lower_bound(failures: int, n: int, *, level: float = 0.95) -> float:
    """One-sided: the least probability of failing under which so many failures have probability 1 - level."""
    return binomial_interval(failures, n, level=2 * level - 1)[0]


@dataclass(frozen=True)
class Edge:
    """One value of the axis, and what its runs say of the probability of failing there."""

    x: float
    failures: int
    n: int
    bound: float
    """One-sided: at most so much where nothing failed, at least so much where something did."""


@dataclass(frozen=True)
class Stability:
    """Where along an axis runs fail. Both sides are needed: 0 of 5 is still compatible with .45 (95%, one-sided)."""

    highest_stable: Edge | None
    """Largest value below which, itself included, no run failed; None if the first one did."""
    lowest_unstable: Edge | None
    """Smallest value with a failure; None if there is none."""


def stability(x_K: Sequence[float], failures_K: Sequence[int], n_K: Sequence[int], *, level: float = 0.95) -> Stability:
    """From failures out of n at each value of an ascending axis; values without a run do not count.

    A value without a failure above one with is chance or a second valley, and nobody's stable rate.
    Shapes: (K,) each.
    """
    assert all(a < b for a, b in pairwise(x_K))
    stable = unstable = None
    for x, failures, n in zip(x_K, failures_K, n_K, strict=True):
        if n == 0:
            continue
        if failures:
            unstable = Edge(x, failures, n, lower_bound(failures, n, level=level))
            break
        stable = Edge(x, 0, n, upper_bound(0, n, level=level))
    return Stability(stable, unstable)
