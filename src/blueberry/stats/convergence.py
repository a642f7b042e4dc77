"""Time to a target that was fixed beforehand. A run that never gets there takes infinitely long, and counts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isinf


def first_at_target(points: Iterable[tuple[float, float]], target: float) -> float:
    """Position (updates, tokens or seconds) of the first loss at or below the target; infinite when there is none.

    `points` are (position, loss), ascending in position. Nothing is interpolated: what lies between two
    evaluations was not measured.
    """
    return next((position for position, loss in points if loss <= target), inf)


def median_time(times: Sequence[float]) -> float | None:
    """Of several runs; infinite when half of them or more missed, None without a run."""
    ordered = sorted(times)
    if not ordered:
        return None
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return inf if isinf(high) else (low + high) / 2


def median_interval(times: Sequence[float], *, level: float = 0.95) -> tuple[float, float] | None:
    """Of the median time, between two of the times; its upper end may be infinite. None below 6 runs at level .95.

    Needs no shape of the distribution, so misses enter as what they are: later than all others.
    Source: order statistics, the inverted sign test (Conover 1999, ch. 3.2).
    """
    from scipy.special import bdtr

    ordered, n = sorted(times), len(times)
    rank = -1
    while rank + 1 < n / 2 and float(bdtr(rank + 1, n, 0.5)) <= (1 - level) / 2:
        rank += 1
    return (ordered[rank], ordered[n - 1 - rank]) if rank >= 0 else None


@dataclass(frozen=True)
class Race:
    """Two arms to one target, seed by seed."""

    a_first: int
    b_first: int
    equal: int
    """Seeds on which both took the same time; both missing the target is the same."""
    p_value: float
    """Exact, two-sided, that neither tends to be first. With fewer than 6 seeds it cannot fall below .05."""


def compare_times(a: Sequence[float], b: Sequence[float]) -> Race:
    """Who gets there first, by seed; a miss is infinite and loses to any time.

    The size of a lead does not count, because a lead over a miss has none. Shapes: (n,), the same seeds.
    Source: the sign test, seeds on which both are equal left out (Conover 1999, ch. 3.4).
    """
    from scipy.special import bdtr

    a_first = sum(x < y for x, y in zip(a, b, strict=True))
    b_first = sum(y < x for x, y in zip(a, b, strict=True))
    decided = a_first + b_first
    p = min(1.0, 2 * float(bdtr(min(a_first, b_first), decided, 0.5))) if decided else 1.0
    return Race(a_first, b_first, len(a) - decided, p)
