"""How much repeats of one arm differ, measured or borrowed, and how much of that the arms on one seed share."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import inf, isfinite, sqrt

import numpy as np

from blueberry.errors import TableError
from blueberry.stats.differences import Difference, mean_and_variance
from blueberry.stats.spread import Spread, Variance, larger, median, of_rest, of_runs

LEAST_RUNS = 3
"""Seeds that two arms share, below which they are not compared pair by pair; and runs of each, below which they are not
compared at all by the noise of these runs."""
ONE_WAY = 10.0
"""Times as far above an arm's median its highest run lies as its least one below, where runs blow up."""
ROUNDING = 1e-14
"""Relative to the values: sums of arms that scatter less are all the same."""


@dataclass(frozen=True)
class Borrowed:
    """Noise that is taken from elsewhere: what is claimed with it rests on its being that of these runs too."""

    sd: float
    """Of one run around its arm's mean, in the metric's unit."""
    df: float = inf
    """Degrees of freedom it was measured with; infinite where it is taken as known."""
    source: str = "--sigma"
    """Where it is from, as a person is told."""


def read_sigma(text: str | float) -> Borrowed:
    """ "0.0013" is taken as known; "0.0013/10" was measured over 10 runs of one arm, so with 9 degrees of freedom.

    Raises: TableError for anything else.
    """
    number, _, runs = str(text).partition("/")
    try:
        sd, num_runs = float(number), int(runs) if runs else None
    except ValueError:
        sd, num_runs = 0.0, None
    if not (sd > 0 and isfinite(sd)) or (num_runs is not None and num_runs < 2):
        rule = "must be the sd of one run, above 0, and may say over how many runs it was measured, two or more"
        raise TableError(f"sigma: {text!r}; {rule}; write it as 0.0013 or 0.0013/10")
    return Borrowed(sd, inf if num_runs is None else num_runs - 1)


@dataclass(frozen=True)
class NoiseEstimate:
    """How runs of one arm scatter, and what a difference of arms is uncertain by.

    Two arms that share three seeds are compared on those, pair by pair. Where they share fewer, or nobody says which
    runs share one, all runs of one are compared with all of the other. Which it is follows from the seeds there are,
    not from what was measured.
    """

    values_KN: np.ndarray
    """NaN missing, infinity diverged."""
    runs: Spread
    """Of single runs about their arm's mean: what unpaired differences rest on."""
    rest: Spread
    """Without what a seed does to all arms: what pairs rest on."""
    borrowed: Borrowed | None
    """In place of both, where it was given; nothing is paired then, as it is the sd of single runs."""
    n: int
    """Runs that entered."""

    @property
    def sd(self) -> float | None:
        """Of one run around its arm's mean, of a typical arm. None without a repeated arm."""
        return sqrt(self.runs.typical.value) if self.runs.typical else None

    @property
    def rho(self) -> float | None:
        """Share of sd**2 that arms on one seed have in common; may be slightly negative by chance."""
        one, rest = self.runs.typical, self.rest.typical
        return 1 - rest.value / one.value if one and rest and one.value > 0 else None

    @property
    def paired_sd(self) -> float | None:
        """Of a difference of two typical arms on one seed. None below two arms that share two."""
        return sqrt(2 * self.rest.typical.value) if self.rest.typical else None

    @property
    def prior_df(self) -> float:
        """How alike the arms are in noise; infinite where nothing says that they differ. See `Spread`."""
        return (self.rest if self.rest.typical else self.runs).prior_df

    @property
    def typical(self) -> Variance | None:
        """Of a difference of two typical arms, on one seed or with one run a side; None where no noise is known."""
        if self.borrowed is not None:
            return Variance(2 * self.borrowed.sd**2, self.borrowed.df)
        found = self.rest.typical or self.runs.typical
        return None if found is None else Variance(2 * found.value, found.df)

    def can_compare(self, rows: Collection[int]) -> bool:
        """Whether these rows have runs enough for one of them to be told from another."""
        counts = (~np.isnan(self.values_KN[list(rows)])).sum(axis=1)
        least = 1 if self.borrowed else LEAST_RUNS
        return self.typical is not None and int((counts >= least).sum()) >= min(len(counts), 2) > 0

    def difference(self, a: int, b: int) -> Difference:
        """Row b less row a, with the interval that their runs support."""
        weights_K = np.zeros(len(self.values_KN))
        weights_K[b] += 1.0
        weights_K[a] -= 1.0
        ended_2N = np.logical_not(np.isnan(self.values_KN[[a, b]]))
        shared, runs = int(ended_2N.all(axis=0).sum()), (int(ended_2N[0].sum()), int(ended_2N[1].sum()))
        is_paired = self.borrowed is None and (shared >= LEAST_RUNS or (min(runs) < LEAST_RUNS and shared > 0))
        n = shared if is_paired else min(runs)
        a_diverged, b_diverged = (bool(np.isinf(self.values_KN[row]).any()) for row in (a, b))
        if a_diverged or b_diverged or n == 0:
            value = None if a_diverged == b_diverged else -inf if a_diverged else inf
            return Difference(value, None, n, max(n - 1, 0), is_paired, runs)
        found = self.contrast(weights_K) if is_paired else self._unpaired(weights_K)
        return replace(found, n=n, runs=runs)

    def least_run(self, a: int, b: int) -> Difference | None:
        """The least run of row b less the mean of row a, where runs of b blow up: its highest lies ONE_WAY times as far
        above its median as its least below. None elsewhere, and with borrowed noise.

        Such runs make an arm's noise so large that no mean tells it from another, though every run of it may be worse.
        A run that does not blow up is taken to have the noise of row a, with what the other arms lend to that; so this
        is above 0, beyond what that noise explains, only if all runs of b are worse. It errs where all n of them blow
        up, and where noise that is large but goes both ways looks like that: of equal arms, one with 10 to 100 times
        the noise of the others, it calls one worse in 0.04 to 1.5% of studies of three seeds; without the condition in
        1 to 12%, as three runs of one arm all lie above its mean in one case of eight.
        """
        if self.borrowed is not None or not self.blows_up_K[b]:
            return None
        a_N, b_N = (row[~np.isnan(row)] for row in self.values_KN[[a, b]])
        if len(a_N) < LEAST_RUNS or not np.isfinite(a_N).all():
            return None
        others = replace(self.runs, df_K=np.where(np.arange(len(self.values_KN)) == b, 0.0, self.runs.df_K))
        weights_K = np.zeros(len(self.values_KN))
        weights_K[a] = 1 + 1 / len(a_N)
        variance, runs = others.of(weights_K), (len(a_N), len(b_N))
        error = sqrt(variance.value)
        found = Difference(float(b_N.min() - a_N.mean()), error, len(b_N), variance.df, is_paired=False, runs=runs)
        return replace(found, is_of_best_run=True) if error > 0 else None

    @cached_property
    def blows_up_K(self) -> np.ndarray:
        """Whether the noise of a row goes one way: see `least_run`. Shape (K,)."""
        return np.array([_blows_up(row[~np.isnan(row)]) for row in self.values_KN], dtype=bool)

    def contrast(self, weights_K: np.ndarray) -> Difference:
        """The sum of rows with these coefficients, seed by seed, over the seeds on which all of them ended.

        Its variance is the larger of what the arms' own noise says and what is seen of the sums, which also hold what
        an arm and a seed do together.
        """
        parts_KN = self.values_KN[weights_K != 0]
        ended_KN = parts_KN[:, ~np.isnan(parts_KN).any(axis=0)]
        n = ended_KN.shape[1]
        if np.isinf(parts_KN).any() or n == 0:
            return Difference(None, None, n, max(n - 1, 0))
        sums_N = weights_K[weights_K != 0] @ ended_KN
        if self.borrowed is not None:
            error = self.borrowed.sd * sqrt(float(np.square(weights_K).sum()) / n)
            return Difference(float(sums_N.mean()), error, n, self.borrowed.df, is_borrowed=True)
        if n < LEAST_RUNS:
            return Difference(float(sums_N.mean()), None, n, n - 1)
        if np.ptp(sums_N) <= ROUNDING * np.abs(ended_KN).max():
            sums_N[:] = sums_N[0]
        mean, seen = mean_and_variance(sums_N)
        variance = Variance(seen, n - 1)
        if self.rest.known_K[weights_K != 0].all():
            variance = larger(self.rest.of(np.square(weights_K)), variance)
        return Difference(mean, sqrt(variance.value / n), n, variance.df)

    def _unpaired(self, weights_K: np.ndarray) -> Difference:
        rows = np.flatnonzero(weights_K).tolist()
        ended = [self.values_KN[row][~np.isnan(self.values_KN[row])] for row in rows]
        counts_K = np.ones(len(weights_K))
        counts_K[rows] = [len(values) for values in ended]
        mean = sum(weights_K[row] * float(values.mean()) for row, values in zip(rows, ended, strict=True))
        shares_K = np.square(weights_K) / counts_K
        least = int(counts_K[rows].min())
        if self.borrowed is not None:
            variance = Variance(self.borrowed.sd**2 * float(shares_K.sum()), self.borrowed.df)
        elif least < LEAST_RUNS:
            return Difference(float(mean), None, least, 0, is_paired=False)
        else:
            variance = self.runs.of(shares_K)
        is_borrowed = self.borrowed is not None
        return Difference(
            float(mean), sqrt(variance.value), least, variance.df, is_paired=False, is_borrowed=is_borrowed
        )


def _blows_up(values_N: np.ndarray) -> bool:
    if len(values_N) < LEAST_RUNS or not np.isfinite(values_N).all():
        return False
    least, middle, most = (float(value) for value in (values_N.min(), median(values_N), values_N.max()))
    return most > middle and ONE_WAY * (middle - least) <= most - middle


def measure_noise(values_KN: np.ndarray, borrowed: Borrowed | None = None) -> NoiseEstimate:
    """Measure every arm's noise. Arms that diverged have none.

    Shapes: (K, n), NaN missing, infinity diverged. Units: those of the values.
    Source: two-way analysis of variance without interaction (Scheffé 1959, ch. 4), each arm with its own variance.
    """
    return _measured(values_KN.tobytes(), values_KN.shape, borrowed)


@lru_cache(maxsize=64)  # the same table is judged from several sides
def _measured(values: bytes, shape: tuple[int, int], borrowed: Borrowed | None) -> NoiseEstimate:
    values_KN = np.frombuffer(values).reshape(shape)
    counts_K = np.isfinite(values_KN).sum(axis=1) * ~np.isinf(values_KN).any(axis=1)
    return NoiseEstimate(values_KN, of_runs(values_KN), of_rest(values_KN), borrowed, int(counts_K.sum()))


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
