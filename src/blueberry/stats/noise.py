"""How much repeats of one arm differ, measured or borrowed; how much of that the arms on one seed share; and what the
noise of some arms says of that of the others.

A few runs of one arm say little of its noise: three seeds leave a factor of six open. Where arms are about equally
noisy, each may borrow from the rest; where a few are far noisier than the others, none may. How alike they are is
estimated from all of them and decides how much is borrowed, so nothing is tested first and chosen afterwards.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import inf, isfinite, log, sqrt
from typing import cast

import numpy as np

from blueberry.errors import TableError
from blueberry.stats.differences import LEAST_RUNS, Difference, mean_and_variance

PRIOR_DF = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, inf)
"""How alike arms may be in noise: the degrees of freedom of the scaled inverse chi-squared distribution that their
variances are drawn from. Infinite: all the same."""
LEAST_SPREAD = 3
"""Arms from which on it can be seen how alike they are."""
STEPS = 9
"""Of Newton's method, from the mean of the logs: to more digits than are needed."""
ROUNDS = 3
"""Of weighing arms by their noise and measuring it again: enough for two digits."""
SMALLEST = 1e-5
"""Of the median variance: an arm's that is below is taken as this, since 0 is a coincidence of rounding (as limma)."""


@dataclass(frozen=True)
class Variance:
    value: float
    df: float
    """Degrees of freedom that a t test may count on."""


@dataclass(frozen=True)
class Spread:
    """The noise of every arm, each measured from its own runs. Shapes (K,)."""

    variances_K: np.ndarray
    """Of one run; whatever where `df_K` is 0."""
    df_K: np.ndarray
    """0 where an arm's noise is unknown."""
    counts_for: float = 1.0
    """The share of these degrees of freedom that is left where arms share their noise."""

    @property
    def known_K(self) -> np.ndarray:
        return self.df_K > 0

    @cached_property
    def typical(self) -> Variance | None:
        """The scale of the distribution that the arms' variances are drawn from, with what a comparison of two such
        arms may count on; None where no arm has a known one."""
        known_K = self.known_K
        if not known_K.any():
            return None
        scale = float(_scales(np.array([self.prior_df]), self.variances_K[known_K][None], self.df_K[known_K][None])[0])
        two = 2 * median(self.df_K[known_K])
        total = self.counts_for * float(self.df_K[known_K].sum())
        return Variance(scale, min(two + _prior_df_of(2 * self.prior_df, total - two), total))

    @cached_property
    def prior_df(self) -> float:
        """How alike the arms are, by the likelihood of their variances.

        Source: the hierarchical model of limma (Smyth 2004): variances are scaled F, with the df of each and these.
        """
        known_K = self.known_K
        if known_K.sum() < LEAST_SPREAD or not self.variances_K[known_K].any():
            return inf
        return _likeliest(_raised(self.variances_K[known_K]), self.df_K[known_K])

    def of(self, weights_K: np.ndarray) -> Variance:
        """The variance of a sum of independent arms' errors, each weighted by the square of its coefficient.

        `own` is what those arms themselves say, with Satterthwaite's degrees of freedom. The other arms say what their
        noise is likely to be, with as many degrees of freedom as they are alike and many. The two are averaged on the
        log scale, where a few noisy arms among the others do little, but the result is never below `own`: an arm that
        is seen to be noisy is taken to be, and then the others lend the fewer degrees of freedom, the further it is.
        Where no other arm is known, or the arms have nothing in common, only `own` is left: Student's t for two arms
        on the same seeds, Welch's for two on others.
        Shapes: (K,), 0 for arms that do not enter.
        Source: moderated variances (Smyth 2004); Satterthwaite 1946, Welch 1947. Its error and power: docs/truth.md.
        """
        inside_K, others_K = weights_K > 0, (weights_K == 0) & self.known_K
        assert self.known_K[inside_K].all()
        raised_K = self.variances_K.copy()
        raised_K[self.known_K] = _raised(self.variances_K[self.known_K])
        parts = weights_K[inside_K] * raised_K[inside_K]
        own = float(parts.sum())
        if own == 0:  # every value of every arm is the same
            return Variance(0.0, float(self.df_K[inside_K].sum()))
        df = own**2 / float((parts**2 / self.df_K[inside_K]).sum())
        if not others_K.any():
            return Variance(own, df)
        there, prior_df = self.df_K[others_K], self.prior_df
        scale = float(_scales(np.array([prior_df]), raised_K[others_K][None], there[None])[0])
        expected = scale * float(weights_K.sum())
        known = there if prior_df == inf else there * prior_df / (there + prior_df)
        alike = prior_df * own**2 / float((parts**2).sum())
        lent = _prior_df_of(alike, self.counts_for * float(known.sum()))
        both = lent + df
        mean = (lent * (log(expected) + _bias(lent)) + df * (log(own) + _bias(df))) / both - _bias(both)
        return Variance(max(float(np.exp(mean)), own), df + lent * min(expected / own, 1.0))


def larger(one: Variance, other: Variance) -> Variance:
    """The larger of two estimates of one variance. The smaller lends it degrees of freedom as far as they agree."""
    low, high = sorted((one, other), key=lambda variance: variance.value)
    if high.value == 0:
        return high
    return Variance(high.value, high.df + max(low.df - high.df, 0.0) * low.value / high.value)


def of_runs(values_KN: np.ndarray) -> Spread:
    """Each arm's variance about its mean. Runs on one seed, in whatever arms, count once for what arms lend to others:
    the seed may have done the same to all of them.

    Shapes: (K, n), NaN missing. Rows with an infinite value are left out.
    """
    there_KN = _there(values_KN)
    counts_K = there_KN.sum(axis=1)
    df_K = np.maximum(counts_K - 1, 0).astype(float)
    variances_K = np.square(_centred(values_KN, there_KN)).sum(axis=1) / np.maximum(df_K, 1)
    total = float(df_K.sum())
    apart = there_KN.any(axis=0).sum() - _num_blocks(there_KN)
    return Spread(variances_K, df_K, min(float(apart) / total, 1.0) if total else 1.0)


def of_rest(values_KN: np.ndarray) -> Spread:
    """Each arm's variance about arm + seed, with what a seed does to all arms taken out by weighted least squares.

    An arm's weight is the inverse of its variance, so that noisy arms do not blur what a seed does; variances and
    weights are found in turn. Those that decide weights are drawn towards each other, so that no arm takes all of it.
    The degrees of freedom are what the fit leaves of each arm's own: for two arms together those of their differences.
    Shapes: (K, n), NaN missing. Rows with an infinite value are left out.
    Source: two-way layouts with unequal variances (Grubbs 1948), by residuals and leverages.
    """
    there_KN = _there(values_KN)
    counts_K = there_KN.sum(axis=1)
    centred_KN = _centred(values_KN, there_KN)
    ss_K = np.square(centred_KN).sum(axis=1)
    nothing = Spread(np.zeros(len(values_KN)), np.zeros(len(values_KN)))
    if (there_KN.sum(axis=0) < 2).all() or not ss_K.any():
        shared = there_KN[:, there_KN.sum(axis=0) >= 2].sum(axis=1) >= 2
        return Spread(np.zeros(len(values_KN)), np.where(shared, np.maximum(counts_K - 1, 0) / 2.0, 0.0))
    seen_K, found = counts_K >= 2, nothing
    likely_K = np.where(seen_K, ss_K / np.maximum(counts_K - 1, 1), 0.0)
    for _ in range(ROUNDS):
        likely_K[seen_K] = _raised(likely_K[seen_K])
        weights_K = np.where(seen_K, median(likely_K[seen_K]) / np.where(seen_K, likely_K, 1.0), 0.0)
        found = _about_seeds(there_KN, centred_KN, counts_K, weights_K)
        known_K, prior_df = found.known_K, found.prior_df
        scale = found.typical.value if found.typical else 0.0
        if prior_df == inf:
            likely_K = np.where(seen_K, scale, 0.0)
        else:
            sums_K = prior_df * scale + found.df_K * found.variances_K
            likely_K = np.where(known_K, sums_K / (prior_df + found.df_K), np.where(seen_K, scale, 0.0))
        if not likely_K.any():
            break
    return found


def _about_seeds(there_KN: np.ndarray, centred_KN: np.ndarray, counts_K: np.ndarray, weights_K: np.ndarray) -> Spread:
    """One weighted fit of arm + seed, with the arms taken out beforehand."""
    there = there_KN.astype(float)
    if there_KN.all():  # the weighted mean of a seed is the least squares
        shares_K = weights_K / weights_K.sum()
        df_K = np.maximum((counts_K - 1) * (1 - shares_K), 0.0)
        left_K = np.square(centred_KN - shares_K @ centred_KN).sum(axis=1)
        return Spread(np.where(df_K > 1e-6, left_K / np.maximum(df_K, 1e-6), 0.0), np.where(df_K > 1e-6, df_K, 0.0))
    per_run_K = weights_K / np.maximum(counts_K, 1)
    normal_NN = np.diag(weights_K @ there) - (there * per_run_K[:, None]).T @ there
    inverse_NN = np.linalg.pinv(normal_NN, rcond=1e-10, hermitian=True)
    seeds_N = inverse_NN @ (weights_K @ centred_KN)
    shifts_K = there @ seeds_N / np.maximum(counts_K, 1)
    rest_KN = there * (centred_KN - seeds_N + shifts_K[:, None])
    spent_K = there @ np.diag(inverse_NN) - ((there @ inverse_NN) * there).sum(axis=1) / np.maximum(counts_K, 1)
    df_K = np.maximum(counts_K - 1, 0) - weights_K * spent_K
    df_K = np.where((weights_K > 0) & (df_K > 1e-6), df_K, 0.0)
    return Spread(np.where(df_K > 0, np.square(rest_KN).sum(axis=1) / np.where(df_K > 0, df_K, 1.0), 0.0), df_K)


def _there(values_KN: np.ndarray) -> np.ndarray:
    return np.isfinite(values_KN) & ~np.isinf(values_KN).any(axis=1, keepdims=True)


def _centred(values_KN: np.ndarray, there_KN: np.ndarray) -> np.ndarray:
    """Less the mean of its row; 0 where nothing is. Equal values give exactly 0."""
    if there_KN.all():
        shifted_KN = values_KN - values_KN[:, :1]
        return shifted_KN - (shifted_KN.sum(axis=1) / max(values_KN.shape[1], 1))[:, None]
    first_K = np.array([row[here][0] if here.any() else 0.0 for row, here in zip(values_KN, there_KN, strict=True)])
    shifted_KN = np.where(there_KN, values_KN - first_K[:, None], 0.0)
    means_K = shifted_KN.sum(axis=1) / np.maximum(there_KN.sum(axis=1), 1)
    return np.where(there_KN, shifted_KN - means_K[:, None], 0.0)


def _num_blocks(there_KN: np.ndarray) -> int:
    """Groups of arms that seeds join, one arm to the next."""
    if there_KN.all(axis=0).any():
        return 1
    from scipy.sparse.csgraph import connected_components

    rows = there_KN[there_KN.any(axis=1)].astype(np.float32)  # whole numbers are multiplied tens of times slower
    return int(connected_components(rows @ rows.T, directed=False)[0]) if len(rows) else 0


def _raised(variances_K: np.ndarray) -> np.ndarray:
    positive = variances_K[variances_K > 0]
    return np.maximum(variances_K, SMALLEST * median(positive)) if len(positive) else variances_K


def median(values_N: np.ndarray) -> float:
    """As numpy's, of a few values without NaN, in a tenth of the time."""
    ordered, half = sorted(values_N.tolist()), len(values_N) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _prior_df_of(alike: float, known: float) -> float:
    """Of a variance foretold by others: uncertain because arms differ (`alike`) and because few tell (`known`)."""
    return 0.0 if known <= 0 else known if alike == inf else 1 / (1 / alike + 1 / known)


def _bias(df: float) -> float:
    """How far the mean log of a variance with so many degrees of freedom lies below the log of its mean."""
    from scipy.special import digamma

    if df <= 0:
        return 0.0
    return log(df / 2) - float(cast(float, digamma(df / 2)))


def _scales(prior_df_G: np.ndarray, variances_GK: np.ndarray, df_GK: np.ndarray) -> np.ndarray:
    """The likeliest scale of each row at each prior df, by Newton steps in its log; the pooled variance at infinity.

    Shapes: (G,), (G or 1, K) twice -> (G,).
    """
    sums_GK = df_GK * variances_GK
    totals_G = df_GK.sum(axis=1)
    pooled_G = sums_GK.sum(axis=1) / totals_G * np.ones(len(prior_df_G))
    is_finite_G = np.isfinite(prior_df_G)
    if not is_finite_G.any() or not (variances_GK > 0).all():
        return pooled_G
    finite_G = np.where(is_finite_G, prior_df_G, 1.0)[:, None]
    at_G = np.log(variances_GK).mean(axis=1) * np.ones(len(prior_df_G))
    weighed_GK = (df_GK + finite_G) * sums_GK
    for _ in range(STEPS):
        spread_GK = finite_G * np.exp(at_G)[:, None]
        both_GK = spread_GK + sums_GK
        shares_GK = weighed_GK / both_GK
        slopes_G = np.add.reduce(shares_GK * spread_GK / both_GK, axis=1)
        steps_G = (np.add.reduce(shares_GK, axis=1) - totals_G) / np.maximum(slopes_G, 1e-300)
        before_G = at_G
        at_G = before_G + np.minimum(np.maximum(steps_G, -2.0), 2.0)  # np.clip takes ten times as long
        if (at_G == before_G).all():
            break
    return np.where(is_finite_G, np.exp(at_G), pooled_G)


def _likeliest(variances_K: np.ndarray, df_K: np.ndarray) -> float:
    """The prior df that the arms' variances have most likelihood at, each at its likeliest scale."""
    from scipy.special import gammaln

    prior_G = np.array(PRIOR_DF)
    scales_G1 = _scales(prior_G, variances_K[None], df_K[None])[:, None]
    ratios_GK, finite_G1 = variances_K / scales_G1, np.where(np.isfinite(prior_G), prior_G, 1.0)[:, None]
    common_GK = df_K / 2 * np.log(df_K / 2) + (df_K / 2 - 1) * np.log(ratios_GK) - np.log(scales_G1) - gammaln(df_K / 2)
    spread_GK = (
        gammaln((df_K + finite_G1) / 2)
        - gammaln(finite_G1 / 2)
        - df_K / 2 * np.log(finite_G1 / 2)
        - (df_K + finite_G1) / 2 * np.log1p(df_K * ratios_GK / finite_G1)
    )
    same_GK = -df_K * ratios_GK / 2
    likelihood_G = (common_GK + np.where(np.isfinite(prior_G)[:, None], spread_GK, same_GK)).sum(axis=1)
    return float(prior_G[int(np.argmax(likelihood_G))])


# --- What a difference of arms is uncertain by ---

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
