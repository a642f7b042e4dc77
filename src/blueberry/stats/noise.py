"""How much repeats of one arm differ, and how much of that the arms on one seed share."""

from dataclasses import dataclass
from math import inf, isfinite, sqrt

import numpy as np

from blueberry.errors import TableError
from blueberry.stats.paired import Floor

LEAST_ARMS = 4
"""Arms that noise is pooled over at least, when there are as many."""


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
    """Two-way components of value = arm + seed + rest, pooled over the better half of the arms."""

    sd: float | None
    """Of one run around its arm's mean: seed and rest together. None without a repeated arm."""
    rho: float | None
    """Share of sd**2 that arms on one seed have in common; may be slightly negative by chance."""
    paired_sd: float | None
    """Of a difference of two arms on one seed: sqrt(2) times the rest's sd. None below two arms."""
    df: float
    """Degrees of freedom that a test may count on with `paired_sd`: those of its sum of squares, or fewer where some
    arms are noisier than others. See `effective_df`."""
    n: int
    """Runs that entered."""

    @property
    def floor(self) -> Floor | None:
        return None if self.paired_sd is None else Floor(self.paired_sd, self.df)


def measure_noise(values_KN: np.ndarray) -> NoiseEstimate:
    """Pool the noise over the better half of the arms that never diverged (at least 4 when there are as many).

    Only the better half: noise grows towards divergence, and the comparisons that are close are among good arms.
    Choosing arms by their means does not bias the variance of Gaussian values.
    Shapes: (K, n), NaN missing, infinity diverged. Units: those of the values.
    Source: two-way analysis of variance without interaction (Scheffé 1959, ch. 4), by least squares, so that cells
    may be missing.
    """
    good_HN = values_KN[better_half(values_KN)]
    finite_HN = np.isfinite(good_HN)
    num_runs = int(finite_HN.sum())
    means_H1 = np.where(finite_HN, good_HN, 0.0).sum(axis=1, keepdims=True) / finite_HN.sum(axis=1, keepdims=True)
    within = float(np.square(np.where(finite_HN, good_HN - means_H1, 0.0)).sum())
    df_within = num_runs - len(good_HN)
    if len(good_HN) == 0 or df_within <= 0:
        return NoiseEstimate(None, None, None, 0, num_runs)
    variance = within / df_within
    fit = two_way_fit(good_HN)
    if fit.df <= 0:
        return NoiseEstimate(sqrt(variance), None, None, 0, num_runs)
    rest = fit.residual / fit.df
    df = min(fit.df, effective_df(values_KN))
    return NoiseEstimate(sqrt(variance), 1 - rest / variance if variance > 0 else None, sqrt(2 * rest), df, num_runs)


def effective_df(values_KN: np.ndarray) -> float:
    """Degrees of freedom of a variance pooled over arms whose noise may differ; infinite below three arms.

    With each arm's own variance v: sum(v)**2 / sum(v**2) times n - 1. So n - 1 where one arm has all the noise:
    the others say nothing of it. All arms that never diverged enter, not only those that are pooled, and where some
    are far noisier the rest are relied on less: at three seeds one arm in fifteen with tenfold noise looks like any
    other, and only what the other arms look like can warn of that.
    Shapes: (K, n), NaN missing, infinity diverged.
    Source: Satterthwaite 1946, Box 1954 (two-way layouts with unequal variances).
    """
    num_finite_K = np.isfinite(values_KN).sum(axis=1)
    usable_K = (num_finite_K >= 2) & ~np.isinf(values_KN).any(axis=1)
    if usable_K.sum() <= 2:
        return inf
    df_K = num_finite_K[usable_K] - 1
    variances_K = arm_variances(values_KN[usable_K])
    squares = float(df_K @ np.square(variances_K))
    if squares == 0:
        return inf
    return float(df_K @ variances_K) ** 2 / squares


def arm_variances(values_KN: np.ndarray) -> np.ndarray:
    """Each arm's own variance, without what the arms on one seed share; not below 0. At least three arms.

    The variance of a difference of two arms is the sum of their own: least squares over all two,
    weighted by their common seeds less one.
    Shapes: (K, n) -> (K,), NaN missing. Units: those of the values, squared.
    Source: Grubbs 1948.
    """
    differences_KKN = values_KN[:, None] - values_KN
    there_KKN = np.isfinite(differences_KKN)
    counts_KK = there_KKN.sum(axis=2)
    means_KK = np.where(there_KKN, differences_KKN, 0.0).sum(axis=2) / np.maximum(counts_KK, 1)
    squares_KK = np.square(np.where(there_KKN, differences_KKN - means_KK[:, :, None], 0.0)).sum(axis=2)
    df_KK = np.maximum(counts_KK - 1, 0) * (1 - np.eye(len(values_KN)))
    normal_KK = df_KK + np.diag(df_KK.sum(axis=1))
    return np.maximum(np.linalg.lstsq(normal_KK, squares_KK.sum(axis=1))[0], 0.0)


def better_half(values_KN: np.ndarray) -> list[int]:
    """Rows with the least means among those that never diverged: half of them, at least 4, all when fewer."""
    finite_KN = np.isfinite(values_KN)
    kept = np.flatnonzero(finite_KN.any(axis=1) & ~np.isinf(values_KN).any(axis=1)).tolist()
    totals_K, counts_K = np.where(finite_KN, values_KN, 0.0).sum(axis=1), finite_KN.sum(axis=1)
    kept.sort(key=lambda row: totals_K[row] / counts_K[row])
    return kept[: max(LEAST_ARMS, -(-len(kept) // 2))]


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
