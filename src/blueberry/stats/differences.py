"""Arms of a table: their means, the least of these, differences of two within seeds or between all runs, and what a
difference supports: winner, tie or inconclusive, over several comparisons and several looks.

And the other way round: how many seeds a question needs, and how small a difference some seeds can see.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf, isinf, isnan, sqrt
from typing import Literal

import numpy as np

LEAST_RUNS = 3
"""Seeds that two arms share, below which they are not compared pair by pair; and runs of each, below which they are not
compared at all by the noise of these runs."""


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


@dataclass(frozen=True)
class TwoWayFit:
    arm_means: np.ndarray
    """Each arm's mean over all seeds of its block, those it lacks filled in by the fit. Shape (K,).

    A block is the arms that seeds join, one arm to the next. What the seeds do to arms of different blocks is not
    told apart from the arms, so nothing is filled in across blocks: an arm that shares no seed has its plain mean.
    """
    residual: float
    """Sum of squares left by arm + seed."""
    df: int


def two_way_fit(values_KN: np.ndarray) -> TwoWayFit:
    """Least squares of value = arm + seed; NaN cells do not count."""
    num_arms, num_seeds = values_KN.shape
    if values_KN.size and np.isfinite(values_KN).all():  # nothing missing: the means are the least squares
        means = values_KN.mean(axis=1)
        rest_KN = values_KN - means[:, None]
        rest_KN = rest_KN - rest_KN.mean(axis=0)
        return TwoWayFit(means, float(np.square(rest_KN).sum()), (num_arms - 1) * (num_seeds - 1))
    rows, columns = np.nonzero(np.isfinite(values_KN))
    design = np.hstack([np.eye(num_arms)[rows], np.eye(num_seeds)[columns]])
    y = values_KN[rows, columns]
    level = y.mean()
    y = y - level  # a constant is in the span; without it 1e-16 of a large loss would pass for noise
    solution, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    residual = y - design @ solution
    seeds_KN = _seeds_of_blocks(np.isfinite(values_KN))
    seed_means_K = seeds_KN @ solution[num_arms:] / np.maximum(seeds_KN.sum(axis=1), 1)
    return TwoWayFit(level + solution[:num_arms] + seed_means_K, float(residual @ residual), len(y) - int(rank))


def _seeds_of_blocks(there_KN: np.ndarray) -> np.ndarray:
    """The seeds of the block of each arm. Shapes: (K, n) -> (K, n), boolean."""
    seeds_KN = there_KN
    while True:
        shared_KK = seeds_KN.astype(int) @ seeds_KN.T.astype(int) > 0
        wider_KN = shared_KK.astype(int) @ seeds_KN.astype(int) > 0
        if (wider_KN == seeds_KN).all():
            return seeds_KN
        seeds_KN = wider_KN


def mean_or_inf(values_N: np.ndarray) -> float:
    """Mean over the runs that ended: infinite when one diverged, NaN when none ended."""
    total = float(values_N.sum())
    if len(values_N) and total == total:  # nothing is missing
        return total / len(values_N)
    ended = values_N[~np.isnan(values_N)]
    return float(ended.mean()) if len(ended) else float("nan")


def means_or_inf(values_KN: np.ndarray) -> np.ndarray:
    """`mean_or_inf` of every row. Shapes: (K, n) -> (K,)."""
    ended_KN = ~np.isnan(values_KN)
    counts_K = ended_KN.sum(axis=1)
    totals_K = np.where(ended_KN, values_KN, 0.0).sum(axis=1)
    return np.where(counts_K > 0, totals_K / np.maximum(counts_K, 1), np.nan)


def best_arm(values_KN: np.ndarray, *, is_borrowed: bool = False) -> int | None:
    """The row of least mean; None when every arm diverged or is missing. Ties go to the first row.

    Where rows lack different seeds, what the seeds do to all of them is taken out first, if any two of them share
    enough to be compared pair by pair; else each row's own mean counts. A row of too few runs to be told from others
    is not the best where others can be told apart, but for borrowed noise, by which single runs can be.
    """
    means_K = means_or_inf(values_KN)
    finite = np.flatnonzero(np.isfinite(means_K)).tolist()
    if not finite:
        return None
    if not is_borrowed:
        there_KN = ~np.isnan(values_KN)
        enough = [row for row in finite if there_KN[row].sum() >= LEAST_RUNS]
        finite = enough if len(enough) > 1 else finite
        there = there_KN[finite].astype(np.float32)  # whole numbers are multiplied tens of times slower
        if (there == 0).any() and (there @ there.T >= LEAST_RUNS).all():
            return finite[int(np.argmin(two_way_fit(values_KN[finite]).arm_means))]
    return min(finite, key=lambda row: means_K[row])


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


def cautious_sd(sd: float, df: float) -> float:
    """The upper end of the sd's one-sided 80% interval, for what takes it as known; of few repeats far larger.

    Source: chi-squared of a sum of squares.
    """
    from scipy.special import chdtri

    return sd if isinf(df) else sd * sqrt(df / float(chdtri(df, 0.8)))


def spread(values: Sequence[float]) -> float | None:
    """A robust sd: 1.4826 times the median distance from the median; None below three values.

    Of single runs of different changes it holds noise and changes together: about as much as the noise can be.
    """
    if len(values) < 3:
        return None
    values_N = np.asarray(values, dtype=float)
    return float(1.4826 * np.median(np.abs(values_N - np.median(values_N)))) or None


# --- What differences support ---

LEAST_DIVERGED = 3
"""Common seeds on which an arm must diverge, every time, to lose for it."""
POWER = 0.8
MOST_SEEDS = 10_000
"""Beyond this no number of seeds is given: nobody will run them, and the normal model is not good to so many digits."""


@dataclass(frozen=True)
class Df:
    """How degrees of freedom grow with seeds: a number a seed beyond the first, or some that do not grow at all."""

    per_seed: float = 1.0
    fixed: float | None = None
    """Where the noise is that of other runs."""

    @staticmethod
    def of(df: float, size: float, *, is_borrowed: bool = False) -> "Df":
        """As `size` seeds have had these."""
        return Df(fixed=df) if is_borrowed else Df(df / (size - 1) if size > 1 else 1.0)

    def at(self, n: int) -> float:
        return (n - 1) * self.per_seed if self.fixed is None else self.fixed


ONE_A_SEED = Df()


@dataclass(frozen=True)
class Decision:
    verdict: Literal["winner", "tie", "inconclusive"]
    b_is_better: bool | None
    """Which side won; None unless the verdict is winner."""
    interval: tuple[float, float] | None
    """That decided: it excludes 0 exactly where there is a winner."""
    more_seeds: int | None
    """That would settle it with power .8 if the difference and noise measured so far were the true ones: for
    winner or tie, whichever is nearer. None when settled, when the noise is unknown, or above 10,000."""


def decide(
    pair: Difference, *, alpha: float, tie_alpha: float, min_effect: float, interval: tuple[float, float] | None = None
) -> Decision:
    """Judge one difference b - a of a metric where lower is better.

    winner: the interval excludes 0; by default the one at level 1 - alpha (adjusted for the number of comparisons).
    tie: the interval at level 1 - 2 * tie_alpha lies within -+min_effect (two one-sided tests, Schuirmann 1987).
    inconclusive: else.
    A difference that is real and smaller than min_effect is a winner all the same; its interval says how small.
    """
    interval = interval or pair.interval(1 - alpha)
    if pair.difference is None or interval is None or pair.sd is None:
        return Decision("inconclusive", None, None, None)
    if interval[0] > 0 or interval[1] < 0:
        return Decision("winner", pair.difference < 0, interval, None)
    narrow = pair.interval(1 - 2 * tie_alpha)
    assert narrow is not None
    if -min_effect < narrow[0] and narrow[1] < min_effect:
        return Decision("tie", None, interval, None)
    df = Df.of(pair.df, pair.size, is_borrowed=pair.is_borrowed)
    more = more_seeds(pair.difference, pair.sd, pair.size, df, alpha=alpha, tie_alpha=tie_alpha, min_effect=min_effect)
    return Decision("inconclusive", None, interval, more)


def more_seeds(
    difference: float, sd: float, size: float, df: Df, *, alpha: float, tie_alpha: float, min_effect: float
) -> int | None:
    """Further seeds, or runs a side, after which this difference would be settled with power .8, as winner or as tie,
    whichever is nearer, if it and the noise are the true ones; at least 1, None above `MOST_SEEDS`.

    `size` are those there are; `sd` is of the difference on one seed, or of one run a side.
    """
    won = seeds_for_winner(difference, sd, alpha=alpha, df=df)
    most = MOST_SEEDS if won is None else won
    tied = seeds_for_tie(difference, sd, alpha=tie_alpha, min_effect=min_effect, df=df, most=most)
    needed = won if tied is None else tied
    return None if needed is None else max(ceil(needed - size), 1)


def decide_diverged(num_diverged: tuple[int, int], runs: tuple[int, int]) -> Decision:
    """Judge two arms, a and b, when one of them diverged.

    winner: the other arm never diverged, and this one did on every one of its runs, three at least of each. If both
    were equally prone to diverge, that would happen with probability (1/4)**n at most.
    inconclusive: else. One divergence in three ranks an arm last, but does not prove the others safe.
    """
    if min(runs) >= LEAST_DIVERGED and num_diverged in ((runs[0], 0), (0, runs[1])):
        return Decision("winner", num_diverged[1] == 0, None, None)
    return Decision("inconclusive", None, None, None)


def holm_levels(p_values: Sequence[float], alpha: float) -> list[float]:
    """The error each hypothesis may be tested at, so that any false rejection has probability at most alpha.

    The j-th smallest p-value (j = 0, 1, ...) is tested at alpha / (m - j), until one is not rejected; the rest are
    tested at that one's level. So p <= level exactly where Holm rejects, and an interval at 1 - level excludes 0
    exactly there.
    Source: Holm 1979, a step-down Bonferroni; needs no independence.
    """
    levels = [0.0] * len(p_values)
    stopped_at: float | None = None
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        level = alpha / (len(p_values) - rank) if stopped_at is None else stopped_at
        levels[index] = level
        if p_values[index] > level:
            stopped_at = level
    return levels


def power_of_winner(n: int, difference: float, sd: float, *, alpha: float, df: Df = ONE_A_SEED) -> float:
    """Probability that the two-sided t interval at level 1 - alpha excludes 0 on the right side.

    `difference` and `sd` are those of differences on one seed, or with one run a side.
    Source: noncentral t with noncentrality difference * sqrt(n) / sd.
    """
    if sd == 0:
        return 1.0 if difference else alpha / 2
    return _exceeds(df.at(n), abs(difference) * sqrt(n) / sd, t_quantile(df.at(n), alpha / 2))


def power_of_tie(
    n: int, difference: float, sd: float, *, alpha: float, min_effect: float, df: Df = ONE_A_SEED
) -> float:
    """Probability that the interval at level 1 - 2 * alpha lies within -+min_effect.

    Source: two one-sided tests (Schuirmann 1987), by noncentral t (Phillips 1990's first approximation, which
    takes the sd to be the same in both tests: exact in the limit, slightly low at few seeds).
    """
    if sd == 0:
        return 1.0 if abs(difference) < min_effect else 0.0
    critical, scale = t_quantile(df.at(n), alpha), sqrt(n) / sd
    above_lower = _exceeds(df.at(n), (min_effect + abs(difference)) * scale, critical)
    above_upper = _exceeds(df.at(n), (min_effect - abs(difference)) * scale, critical)
    return max(above_lower + above_upper - 1, 0.0)


def seeds_for_winner(difference: float, sd: float, *, alpha: float, df: Df = ONE_A_SEED) -> int | None:
    """Least n at which a true difference becomes a winner with power .8; None above MOST_SEEDS, or for 0."""
    if difference == 0:
        return None
    return _least_seeds(lambda n: power_of_winner(n, difference, sd, alpha=alpha, df=df), df, MOST_SEEDS)


def seeds_for_tie(
    difference: float, sd: float, *, alpha: float, min_effect: float, df: Df = ONE_A_SEED, most: int = MOST_SEEDS
) -> int | None:
    """Least n at which a true difference within -+min_effect becomes a tie with power .8; None above `most`."""
    if abs(difference) >= min_effect:
        return None
    return _least_seeds(lambda n: power_of_tie(n, difference, sd, alpha=alpha, min_effect=min_effect, df=df), df, most)


def smallest_difference(n: int, sd: float, *, alpha: float, df: Df = ONE_A_SEED) -> float | None:
    """The true difference that n seeds, or runs a side, find with power .8; None where they have no df.

    Units: those of `sd`, the sd of the difference on one seed, or with one run a side.
    """
    from scipy.optimize import brentq

    if not df.at(n) > 0:
        return None
    if sd == 0:
        return 0.0

    def shortfall(difference: float) -> float:
        return power_of_winner(n, difference, sd, alpha=alpha, df=df) - POWER

    largest = sd
    while shortfall(largest) < 0:
        largest *= 2
    return float(brentq(shortfall, 0.0, largest, xtol=1e-6 * sd))  # pyright: ignore[reportArgumentType]


def first_error(num_arms: int, alpha: float) -> float:
    """One-sided error at which the first of so many arms is called worse than the best: every ordered pair pays."""
    return alpha / max(num_arms * (num_arms - 1), 2)


def baseline_error(num_arms: int, alpha: float) -> float:
    """One-sided error, on either side, at which each arm is told from a baseline: all others pay, two-sided.

    Source: comparisons with a control (Dunnett 1955), by Bonferroni, so that each may have its own noise.
    """
    return alpha / (2 * max(num_arms - 1, 1))


def smallest_shown(
    sd: float, *, num_seeds: int, num_arms: int, has_baseline: bool, alpha: float, df: Df | None = None
) -> float | None:
    """The true difference that so many seeds find with power .8, at the one-sided error of one claim among so many
    arms, before anything is known of the others: of each against the baseline if there is one, else of which is best.

    `sd` is that of a difference on one seed, or with one run a side; without its degrees of freedom, those of a
    complete table of equally noisy arms.
    """
    error = baseline_error(num_arms, alpha) if has_baseline else first_error(num_arms, alpha)
    return smallest_difference(num_seeds, sd, alpha=2 * error, df=df or Df(float(max(num_arms - 1, 1))))


def _exceeds(df: float, noncentrality: float, critical: float) -> float:
    """Probability that noncentral t exceeds a value; that a normal one does, where df is infinite."""
    from scipy.special import nctdtr

    if isinf(df):
        return t_tail(df, critical - noncentrality)
    below = float(nctdtr(df, noncentrality, critical))
    if isnan(below):  # scipy gives up where the probability is 0 or 1 to all digits
        return 1.0 if noncentrality > critical else 0.0
    return 1 - below


def _least_seeds(power_at: Callable[[int], float], df: Df, most: int) -> int | None:
    """Bisection: power grows with n."""
    least = 2 if df.fixed is None else 1
    if most < least or power_at(most) < POWER:
        return None
    high = least
    while power_at(high) < POWER:
        high = min(2 * high, most)
    low = max(high // 2, least - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_at(middle) >= POWER else (middle, high)
    return max(high, least)
