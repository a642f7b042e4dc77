"""Which arms could still be the best, and which differ from a baseline: one rule for status, verdict and interval."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from blueberry.stats.differences import Df, Difference, smallest_difference, t_quantile, two_way_fit
from blueberry.stats.noise import LEAST_RUNS, Borrowed, measure_noise


def best_arm(values_KN: np.ndarray, borrowed: Borrowed | None = None) -> int | None:
    """The row of least mean; None when every arm diverged or is missing. Ties go to the first row.

    Where rows lack different seeds, what the seeds do to all of them is taken out first, if any two of them share
    enough to be compared pair by pair; else each row's own mean counts. A row of too few runs to be told from others
    is not the best where others can be told apart.
    """
    means_K = means_or_inf(values_KN)
    finite = np.flatnonzero(np.isfinite(means_K)).tolist()
    if not finite:
        return None
    if borrowed is None:
        there_KN = ~np.isnan(values_KN)
        enough = [row for row in finite if there_KN[row].sum() >= LEAST_RUNS]
        finite = enough if len(enough) > 1 else finite
        there = there_KN[finite].astype(np.float32)  # whole numbers are multiplied tens of times slower
        if (there == 0).any() and (there @ there.T >= LEAST_RUNS).all():
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


@dataclass(frozen=True)
class Compared:
    """One row against a reference. Everything that is said of the two follows from `interval`."""

    pair: Difference
    """Row minus reference."""
    interval: tuple[float, float] | None
    """Of the difference: above 0 exactly where the row is worse, below 0 exactly where it is better."""
    error: float
    """One-sided: what the claim that is tested may be wrong with."""

    @property
    def is_worse(self) -> bool:
        return self.interval is not None and self.interval[0] > 0

    @property
    def is_better(self) -> bool:
        return self.interval is not None and self.interval[1] < 0

    @property
    def interval_has_0(self) -> bool:
        return not (self.is_worse or self.is_better)

    def turned(self) -> "Compared":
        """The reference against the row."""
        pair, ends = self.pair, self.interval
        turned = pair if pair.difference is None else replace(pair, difference=-pair.difference)
        return Compared(turned, None if ends is None else (-ends[1], -ends[0]), self.error)


def against_baseline(
    values_KN: np.ndarray, baseline: int, *, alpha: float, borrowed: Borrowed | None = None
) -> dict[int, Compared]:
    """Every other row against this one, all at one error, with symmetric intervals that hold together at 1 - alpha.

    Shapes: (K, n), NaN missing, infinity diverged.
    """
    noise, error = measure_noise(values_KN, borrowed), baseline_error(len(values_KN), alpha)
    compared = {}
    for row in range(len(values_KN)):
        if row != baseline:
            pair, behind = noise.difference(baseline, row), noise.least_run(baseline, row)
            ahead = noise.least_run(row, baseline)
            compared[row] = Compared(pair, pair.interval(1 - 2 * error), error)
            for one in (behind, ahead):
                found = None if one is None else Compared(one, one.interval(1 - 2 * error), error)
                if found is not None and found.is_worse and compared[row].interval_has_0:
                    compared[row] = found if one is behind else found.turned()
    return compared


def against_best(
    values_KN: np.ndarray,
    *,
    alpha: float,
    among: Sequence[int] | None = None,
    best: int | None = None,
    num_others: int = 0,
    borrowed: Borrowed | None = None,
) -> dict[int, Compared]:
    """Every other row of `among` against the row of least mean, or `best`; none where all diverged.

    A row is worse when its one-sided p is at most alpha / (g (g - 1)), g being the rows that are not yet called worse,
    the best among them: the row of least p first, until one fails, and all that are left are tested as that one was.
    So far as rows are told apart, the rest pay for fewer comparisons; the last of them pays for one, two-sided.
    `error` is what a row was tested at, and the lower end of its interval is there: above 0 exactly where it is worse.
    The upper end, which decides nothing, is at the error of the first test, and not below 0: that a row be better than
    the best is not asked. Noise as in `NoiseEstimate.difference`. A row whose runs blow up is worse also where its
    least run is (`NoiseEstimate.least_run`), which then stands for it. Rows that diverged are compared with an
    infinite difference, and count for nothing. `num_others` may be the best too, and are compared elsewhere.

    Any false claim has probability alpha at most where arms are equally good: g of them have g (g - 1) ordered pairs,
    any of which may have the best on one side. Where the best stands out, the lower ends pay
    sum(alpha / (g (g - 1))) = alpha (1 - 1 / K) and the upper ones alpha / K: all intervals hold at once.
    alpha / (K - 1) for every row (Hsu 1984) keeps the best among the rest as surely and is sharper; but it only says
    "not the best": "worse than that arm" is then false in 16% of studies of 13 equal arms, see docs/truth.md. For where
    an optimum lies that is enough: `candidates`.
    Shapes: (K, n), NaN missing, infinity diverged.
    Source: step-down tests (Holm 1979), over the ordered pairs of what is left (Shaffer 1986).
    """
    rows = list(range(len(values_KN)) if among is None else among)
    if best is None:
        leader = best_arm(values_KN[rows], borrowed)
        if leader is None:
            return {}
        best = rows[leader]
    noise, means_K = measure_noise(values_KN, borrowed), means_or_inf(values_KN)
    pairs = {row: [noise.difference(best, row), noise.least_run(best, row)] for row in rows if row != best}
    left = 1 + num_others + sum(bool(np.isfinite(means_K[row])) for row in pairs)
    first = error = first_error(left, alpha)
    compared: dict[int, Compared] = {}
    for row, (pair, best_run) in sorted(pairs.items(), key=lambda item: min(map(_one_sided_p, item[1]))):
        one = Compared(pair, _ends(pair, low=error, high=first), error)
        if best_run is not None and not one.is_worse:
            by_best_run = Compared(best_run, _ends(best_run, low=error, high=first), error)
            one = by_best_run if by_best_run.is_worse else one
        compared[row] = one
        if one.is_worse:
            left -= 1
            error = first_error(left, alpha)
    return {row: compared[row] for row in pairs}


def _one_sided_p(pair: Difference | None) -> float:
    """Of the row being worse; 1 where nothing is known."""
    p = None if pair is None else pair.p_value()
    if pair is None or p is None or pair.difference is None:
        return 1.0
    return p / 2 if pair.difference > 0 else 1 - p / 2


def _ends(pair: Difference, *, low: float, high: float) -> tuple[float, float] | None:
    if pair.difference is None or pair.standard_error is None:
        return None
    below, above = (t_quantile(pair.df, error) * pair.standard_error for error in (low, high))
    return pair.difference - below, max(pair.difference + above, 0.0)


def candidates(
    values_KN: np.ndarray, rows: Sequence[int], *, alpha: float, borrowed: Borrowed | None = None
) -> list[int]:
    """Those of the rows that may be the best that also one-sided alpha / (K - 1) does not tell from the best of them.

    For where an optimum may lie, which makes no claim on any two rows: it is enough that the truly best one is kept.
    Shapes: (K, n); `rows` are those not worse than the best by `against_best`.
    Source: multiple comparisons with the best (Hsu 1984), by t tests and Bonferroni.
    """
    error = alpha / max(len(values_KN) - 1, 1)
    compared = against_best(values_KN, alpha=alpha, among=rows, borrowed=borrowed)
    return [row for row in rows if row not in compared or _one_sided_p(compared[row].pair) > error]
