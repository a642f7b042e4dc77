"""The difference of two arms on the same seeds, with its t interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite, sqrt

import numpy as np


@dataclass(frozen=True)
class Paired:
    """A difference b - a over the seeds both have.

    With n = 1, or a diverged run, the sd is None and there is no interval: one pair says nothing of its own noise.
    With sd = 0 (all differences equal) the interval is the point itself: as certain as the values that were given.
    """

    difference: float | None
    """Mean of b - a; infinite when one side diverged, None without a common seed or when both diverged."""
    sd: float | None
    """Standard deviation of one paired difference."""
    n: int
    """Seeds that both arms have."""
    df: float
    """Degrees of freedom of `sd`: n - 1, or more when other arms helped to measure the noise."""

    @property
    def standard_error(self) -> float | None:
        return None if self.sd is None else self.sd / sqrt(self.n)

    def interval(self, level: float) -> tuple[float, float] | None:
        """Two-sided t interval: difference -+ t(df) * sd / sqrt(n).

        Source: Student 1908. With df = n - 1 it covers exactly for Gaussian differences.
        """
        if self.difference is None or self.standard_error is None:
            return None
        half = t_quantile(self.df, (1 - level) / 2) * self.standard_error
        return (self.difference - half, self.difference + half)

    def p_value(self) -> float | None:
        """Two-sided, against a difference of 0; None where there is no interval."""
        from scipy.special import stdtr

        if self.difference is None or self.standard_error is None:
            return None
        if self.standard_error == 0:
            return 1.0 if self.difference == 0 else 0.0
        return float(2 * stdtr(self.df, -abs(self.difference) / self.standard_error))


@dataclass(frozen=True)
class Floor:
    """Noise of a paired difference as measured over several arms, with the degrees of freedom it may count for."""

    sd: float
    df: float


def paired(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, *, floor: Floor | None = None) -> Paired:
    """The mean of b - a over the positions where both are present (NaN is missing).

    With a `floor`, the larger of the pair's own sd and the floor's is used, with the floor's degrees of freedom:
    at three seeds a pair's own sd is too uncertain to be of use. They are few where the arms differ in noise, see
    `noise.effective_df`; with fewer than the pair's own n - 1 there is nothing to borrow, and the pair stands alone.
    For two arms the floor is the pair's own.
    Shapes: (n,), (n,).
    """
    a_N, b_N = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if len(a_N) >= 2 and isfinite(a_N.sum() + b_N.sum()):  # the usual case, and a study has many pairs
        return _of_differences(b_N - a_N, floor)
    both = ~(np.isnan(a_N) | np.isnan(b_N))
    a_N, b_N = a_N[both], b_N[both]
    n = len(a_N)
    a_diverged, b_diverged = bool(np.isinf(a_N).any()), bool(np.isinf(b_N).any())
    if n == 0 or (a_diverged and b_diverged):
        return Paired(None, None, n, max(n - 1, 0))
    if a_diverged or b_diverged:
        return Paired(-inf if a_diverged else inf, None, n, n - 1)
    difference_N = b_N - a_N
    if n == 1:
        return Paired(float(difference_N[0]), None, 1, 0)
    return _of_differences(difference_N, floor)


def _of_differences(difference_N: np.ndarray, floor: Floor | None) -> Paired:
    n = len(difference_N)
    mean = float(difference_N.sum()) / n  # by hand: numpy's mean and std take ten times as long on a few values
    rest_N = difference_N - mean
    own = sqrt(float(rest_N @ rest_N) / (n - 1))
    if floor is None or floor.df < n - 1:
        return Paired(mean, own, n, n - 1)
    return Paired(mean, max(own, floor.sd), n, floor.df)


@lru_cache(maxsize=65_536)  # one study asks for the same few hundreds of times
def t_quantile(df: float, tail: float) -> float:
    """The value that Student's t exceeds with probability `tail`."""
    from scipy.special import stdtrit

    return -float(stdtrit(df, tail))


def mean_interval(values: Sequence[float] | np.ndarray, level: float) -> tuple[float, float] | None:
    """t interval of the mean of independent values; None below two finite values, or when any is infinite."""
    values_N = np.asarray(values, dtype=float)
    return paired(np.zeros_like(values_N), values_N).interval(level)
