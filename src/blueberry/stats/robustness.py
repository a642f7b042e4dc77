"""How forgiving a setting is: what missing the best rate costs, where runs fail, how soon a target is reached."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, isinf, log

import numpy as np

from blueberry.stats.differences import Difference, best_arm, mean_or_inf, paired

DECADE = 10.0
GRID_POINTS = 400
"""Midpoints of equal parts of the span."""


@dataclass(frozen=True)
class Band:
    """Values of the axis around the best whose interpolated loss is within some delta of the least."""

    low: float
    high: float
    low_is_bounded: bool
    """Whether the loss was seen to rise on this side; else the band goes on beyond the range."""
    high_is_bounded: bool

    @property
    def factor(self) -> float:
        """Width of the band: 4 means that a rate may be wrong by a factor of two either way, if it lies in the
        middle. At least so much where a side is not bounded."""
        return self.high / self.low


def lr_sensitivity(rates_K: np.ndarray, values_KN: np.ndarray, *, cap: float | None = None) -> Difference | None:
    """Expected excess loss of a rate drawn log-uniformly from a decade below to a decade above the best.

    Seed by seed, the loss interpolated linearly in log rate minus that at the best rate, no more than `cap` (the loss
    at the start of training, or of guessing) anywhere: a diverged run counts as the cap. `difference` is the mean
    over seeds, with its t interval. The best rate is that of least mean, so with much noise it is too large.
    None where the range does not reach so far on both sides, fewer than three rates ended on a common seed, or
    a run diverged and there is no cap.
    Shapes: (K,) ascending, (K, n). Units: those of the values.
    Source: Wortsman et al. 2023 (arXiv 2309.14322), LR sensitivity: there over a fixed three decades.
    """
    best = best_arm(values_KN)
    seeds = ~np.isnan(values_KN).any(axis=0)
    if best is None or len(rates_K) < 3 or not seeds.any():
        return None
    x_K, middle = np.log(rates_K), log(rates_K[best])
    reach = log(DECADE) * (1 - 1e-9)  # a grid that ends exactly there, but for rounding
    if x_K[0] > middle - reach or x_K[-1] < middle + reach:
        return None
    capped_KN = values_KN[:, seeds] if cap is None else np.minimum(values_KN[:, seeds], cap)
    if np.isinf(capped_KN).any():
        return None
    grid = middle + log(DECADE) * ((2 * np.arange(GRID_POINTS) + 1) / GRID_POINTS - 1)
    excess_N = np.array([np.interp(grid, x_K, values_K).mean() for values_K in capped_KN.T]) - capped_KN[best]
    return paired(np.zeros_like(excess_N), excess_N)


def band_within(rates_K: np.ndarray, values_KN: np.ndarray, delta: float) -> Band | None:
    """The band around the best rate whose mean loss, interpolated in log rate, exceeds the least by `delta` at most.

    It has no interval: it describes the means, which have theirs. A diverged neighbour ends it at the last finite
    rate. None when nothing is finite. Shapes: (K,) ascending, (K, n).
    """
    best = best_arm(values_KN)
    if best is None:
        return None
    x_K, mean_K = np.log(rates_K), np.array([mean_or_inf(row) for row in values_KN])
    limit = mean_K[best] + delta
    low, low_is_bounded = _crossing(x_K, mean_K, best, limit, step=-1)
    high, high_is_bounded = _crossing(x_K, mean_K, best, limit, step=1)
    return Band(exp(low), exp(high), low_is_bounded, high_is_bounded)


def _crossing(x_K: np.ndarray, mean_K: np.ndarray, start: int, limit: float, *, step: int) -> tuple[float, bool]:
    """Where the means first rise above the limit, and whether they do."""
    here = start
    while 0 <= (ahead := here + step) < len(x_K):
        if np.isinf(mean_K[ahead]):
            return float(x_K[here]), True
        if mean_K[ahead] > limit:
            share = (limit - mean_K[here]) / (mean_K[ahead] - mean_K[here])
            return float(x_K[here] + share * (x_K[ahead] - x_K[here])), True
        if not np.isnan(mean_K[ahead]):
            here = ahead
        else:
            return float(x_K[here]), False
    return float(x_K[here]), False


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


def stability(
    x_K: Sequence[float], failures_K: Sequence[int], n_K: Sequence[int], *, level: float = 0.95
) -> tuple[Edge | None, Edge | None]:
    """Where along an ascending axis runs fail: the largest value below which, itself included, no run failed, and the
    smallest with a failure; None where there is none. Both are needed: 0 of 5 still allows .45 (95%, one-sided).

    From failures out of n at each value; values without a run do not count.
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
    return stable, unstable


def first_at_target(points: Iterable[tuple[float, float]], target: float) -> float:
    """Position (updates, tokens or seconds) of the first loss at or below the target; infinite when there is none.

    `points` are (position, loss), ascending in position. Nothing is interpolated: what lies between two
    evaluations was not measured.
    """
    return next((position for position, loss in points if loss <= target), inf)


@dataclass(frozen=True)
class FirstCleared:
    position: float
    mean: float
    """Over the runs, there."""
    p: float
    """One-sided, there."""


def first_cleared(
    curves: Sequence[Iterable[tuple[float, float]]], target: float, *, alpha: float
) -> FirstCleared | None:
    """The first of the last evaluations at all of which the mean over runs is shown to lie below the target; None
    where the last one does not show it.

    Each evaluation that all runs have is tested by a one-sided t test over the runs, at alpha, from the last one
    backwards until one fails. Their order was fixed beforehand and testing stops at the first that fails, so that any
    false claim among them has probability alpha at most, however many there are and however much they hang together.
    `curves` are (position, loss) of two runs or more, ascending in position.
    Source: tests in a fixed sequence (Maurer, Hothorn and Lehmacher 1995); "p < .01" of records of training speed.
    """
    by_run = [dict(curve) for curve in curves]
    found = None
    for position in sorted(set.intersection(*map(set, by_run)), reverse=True):
        below = paired(np.full(len(by_run), target), [losses[position] for losses in by_run])
        two_sided = below.p_value()
        if two_sided is None or below.difference is None or below.difference >= 0 or two_sided / 2 > alpha:
            break
        found = FirstCleared(position, target + below.difference, two_sided / 2)
    return found


def exchange(curves: Iterable[Sequence[tuple[float, float]]]) -> Difference:
    """What 100 more updates (or tokens) are worth near the end: by how much the loss falls, over several runs.

    Of each run the least-squares slope over the last quarter of its curve, of three points or more. `difference` is
    the mean, with its t interval over runs. While the rate decays, a curve falls faster than longer schedules gain: it
    is then the most that the difference in length can explain.
    Source: least squares; used as an exchange rate of steps for loss by records of training speed.
    """
    falls = []
    for curve in curves:
        points = [point for point in curve if not isinf(point[1])]
        last = [point for point in points if point[0] >= 0.75 * points[-1][0]]
        last = last if len(last) >= 3 else points[-3:]
        if len(last) >= 3:
            x, y = np.array(last, dtype=float).T
            falls.append(-100 * float(np.polyfit(x - x.mean(), y, 1)[0]))
    return paired(np.zeros(len(falls)), np.array(falls))


def median_time(times: Sequence[float]) -> float:
    """Of several runs; infinite when half of them or more missed, or without a run."""
    ordered = sorted(times) or [inf]
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return inf if isinf(high) else (low + high) / 2
