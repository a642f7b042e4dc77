"""Differences of two arms, within seeds or between all runs, with their t intervals; and intervals of one sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isinf, sqrt

import numpy as np


@dataclass(frozen=True)
class Difference:
    """A difference b - a of two arms, or another sum of arms whose coefficients add up to 0.

    Without a standard error there is no interval: a diverged run, or too few runs to know the noise.
    With one of 0 (all differences equal) the interval is the point itself: as certain as the values that were given.
    """

    difference: float | None
    """Of the means; infinite when one side diverged, None when both did, or there is nothing to take it from."""
    standard_error: float | None
    n: int
    """Pairs; of unpaired runs those of the side that has fewer."""
    df: float
    """Degrees of freedom of the standard error; infinite where it is known."""
    is_paired: bool = True
    """Taken within seeds; else between all runs of one side and all of the other."""
    runs: tuple[int, int] = (0, 0)
    """Of a and of b."""
    is_borrowed: bool = False
    """Whether the noise is that of other runs."""
    is_of_best_run: bool = False
    """Whether b's best run stands for it, in place of its mean."""

    @property
    def size(self) -> float:
        """As many pairs, or runs a side, would say as much."""
        return self.n if self.is_paired or not all(self.runs) else 2 / (1 / self.runs[0] + 1 / self.runs[1])

    @property
    def sd(self) -> float | None:
        """Of the difference on one seed, or of one run a side."""
        return None if self.standard_error is None else self.standard_error * sqrt(self.size)

    def interval(self, level: float) -> tuple[float, float] | None:
        """Two-sided t interval: difference -+ t(df) * standard error.

        Source: Student 1908. For one pair of arms, alone and on the same seeds, it covers exactly.
        """
        if self.difference is None or self.standard_error is None:
            return None
        half = t_quantile(self.df, (1 - level) / 2) * self.standard_error
        return (self.difference - half, self.difference + half)

    def p_value(self) -> float | None:
        """Two-sided, against a difference of 0; None where there is no interval."""
        if self.difference is None or self.standard_error is None:
            return None
        if self.standard_error == 0:
            return 1.0 if self.difference == 0 else 0.0
        return 2 * t_tail(self.df, abs(self.difference) / self.standard_error)


def paired(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> Difference:
    """The mean of b - a over the positions where both are present (NaN is missing), by its own noise.

    Shapes: (n,), (n,).
    """
    a_N, b_N = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    both = ~(np.isnan(a_N) | np.isnan(b_N))
    a_N, b_N = a_N[both], b_N[both]
    n = len(a_N)
    a_diverged, b_diverged = bool(np.isinf(a_N).any()), bool(np.isinf(b_N).any())
    if n == 0 or (a_diverged and b_diverged):
        return Difference(None, None, n, max(n - 1, 0))
    if a_diverged or b_diverged:
        return Difference(-inf if a_diverged else inf, None, n, n - 1)
    difference_N = b_N - a_N
    if n == 1:
        return Difference(float(difference_N[0]), None, 1, 0)
    mean, variance = mean_and_variance(difference_N)
    return Difference(mean, sqrt(variance / n), n, n - 1)


def mean_and_variance(values_N: np.ndarray) -> tuple[float, float]:
    """Of two or more finite values; the variance with n - 1."""
    mean = float(values_N.sum()) / len(values_N)  # by hand: numpy's take ten times as long on a few values
    rest_N = values_N - mean
    return mean, float(rest_N @ rest_N) / (len(values_N) - 1)


@lru_cache(maxsize=65_536)  # one study asks for the same few hundreds of times
def t_quantile(df: float, tail: float) -> float:
    """The value that Student's t exceeds with probability `tail`; the normal one where df is infinite."""
    from scipy.special import ndtri, stdtrit

    return -float(ndtri(tail) if isinf(df) else stdtrit(df, tail))


def t_tail(df: float, value: float) -> float:
    """The probability that Student's t exceeds a value."""
    from scipy.special import ndtr, stdtr

    return float(ndtr(-value) if isinf(df) else stdtr(df, -value))


def mean_interval(values: Sequence[float] | np.ndarray, level: float) -> tuple[float, float] | None:
    """t interval of the mean of independent values; None below two finite values, or when any is infinite."""
    values_N = np.asarray(values, dtype=float)
    return paired(np.zeros_like(values_N), values_N).interval(level)


def sd_interval(values: Sequence[float] | np.ndarray, level: float) -> tuple[float, float] | None:
    """Interval of the sd of independent Gaussian values, by chi-squared; None below two, or when any is infinite."""
    from scipy.special import chdtri

    values_N = np.asarray(values, dtype=float)
    if len(values_N) < 2 or not np.isfinite(values_N).all():
        return None
    df, (_, variance) = len(values_N) - 1, mean_and_variance(values_N)
    low, high = (float(chdtri(df, tail)) for tail in ((1 - level) / 2, (1 + level) / 2))
    return sqrt(df * variance / low), sqrt(df * variance / high)
