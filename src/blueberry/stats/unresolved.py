"""Which arms could still be the best."""

from collections.abc import Sequence

import numpy as np

from blueberry.stats.noise import measure_noise, two_way_fit
from blueberry.stats.paired import paired, t_quantile


def best_arm(values_KN: np.ndarray) -> int | None:
    """The row of least mean; None when every arm diverged or is missing. Ties go to the first row.

    Where rows lack different seeds, what the seeds do to all of them is taken out first, as far as rows share seeds.
    """
    means_K = means_or_inf(values_KN)
    finite = np.flatnonzero(np.isfinite(means_K)).tolist()
    if not finite:
        return None
    if np.isnan(values_KN[finite]).any():
        return finite[int(np.argmin(two_way_fit(values_KN[finite]).arm_means))]
    return min(finite, key=lambda row: means_K[row])


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


def unresolved(values_KN: np.ndarray, *, alpha: float, looks: int = 1, among: Sequence[int] | None = None) -> list[int]:
    """Rows that may be the best, in order: the row of least mean and those not clearly worse than it.

    A row is dropped when it is worse than the row of least mean with one-sided error alpha / (looks * (K - 1)),
    paired on the seeds both have, noise as in `paired` with the floor of `measure_noise`. A diverged row is out. A row
    with fewer than two common seeds cannot be told apart and stays. Of two rows either might be the false winner, so
    there the error is halved: "a is better" is said only where the two-sided verdict says it.
    `among` are the rows that are left of an earlier look, all on the same seeds; K counts the others too.

    The truly best row is dropped with probability at most alpha. That the rival was chosen by the same data does
    no harm: to be dropped, the best row has to look significantly worse than at least one of K - 1 rows that are
    no better, and each of those errors has probability alpha / (K - 1) at most (Bonferroni).
    How often it is dropped in simulation and in the noise of real runs: docs/truth.md.
    Shapes: (K, n).
    Source: a confidence set of the best (Hsu 1984), here by paired t tests and Bonferroni.
    """
    rows = list(range(len(values_KN)) if among is None else among)
    leader = best_arm(values_KN[rows])
    if leader is None:
        return []
    best = rows[leader]
    floor = measure_noise(values_KN).floor
    error = alpha / (looks * max(len(values_KN) - 1, 2))
    kept = []
    means_K = means_or_inf(values_KN)
    for row in rows:
        if not np.isfinite(means_K[row]):
            continue
        pair = paired(values_KN[best], values_KN[row], floor=floor)
        if row != best and pair.difference is not None and pair.standard_error is not None:
            limit = t_quantile(pair.df, error) * pair.standard_error
            if pair.difference > limit:
                continue
        kept.append(row)
    return kept
