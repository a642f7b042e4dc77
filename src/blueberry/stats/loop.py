"""Keep or discard, change after change: evidence that may be looked at after every run, an error over the whole loop.

A loop tries one change after another and keeps those that seem better. Each change has an e-value: a number that is 1
on average, or less, at every time at which anyone may look, if the change does not make the metric less. It is kept
when its e-value reaches 1 / alpha_j, where the alpha_j of the changes add up to alpha. So the chance that a loop ever
keeps a change that is no improvement is at most alpha: however many changes there are, however often each is looked at,
whatever runs they share.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, isinf, log, log1p, sqrt
from typing import Literal

import numpy as np

SCALES = ((2.0, 0.8), (20.0, 0.2))
"""Sizes of the improvements that evidence is sought for, in sds of one run, and their weights: half-normal ones, mostly
up to four, and, so that a few runs are enough for what is plain to see, ten times as large."""
SPENDING = 1.3
"""Exponent by which later changes are tested more strictly."""
_ZETA = 3.931949211809544
"""The sum of j ** -SPENDING over all j from 1 on (the Riemann zeta function)."""
MOST_RUNS = 16
"""Of each side: a change that would not be shown by so many is not worth them."""
LEAST_DF = 3
"""Degrees of freedom below which runs are needed to know the noise, whatever the difference."""
HEAVY_DF = 3
"""Degrees of freedom of Student's t: the tails that one run alone may have."""
LEAST_BASELINE = LEAST_DF + 1
"""Runs of the baseline that are asked for where nothing else tells the noise."""
USUAL_NULL = 0.9
"""Share of changes that do nothing, before the loop is looked at."""
_PRIOR_RUNS = 10
"""Changes that this share is taken to have been seen on."""
FAR = 5.0
"""Sds of one run."""
_GRID, _COARSEST, _ROUNDS = 400, 0.5, 6
"""Levels that are told apart in hindsight, sds between two at most, and rounds in which the share is learned."""


@dataclass(frozen=True)
class Run:
    """A finished run as a loop has it, in the order in which they ended. Less of `value` is better."""

    arm: str
    value: float
    seed: int | None = None


@dataclass(frozen=True)
class Gap:
    """How a candidate stands against a baseline at one time."""

    difference: float | None
    """Candidate minus baseline: below 0 it is better. None until both have a run (or, paired, a common seed)."""
    num_baseline: int
    num_candidate: int
    sd: float | None
    """Of one run; of one paired difference where `paired`. None where nothing tells it."""
    df: float
    """Degrees of freedom of `sd`; infinite where it is taken as known."""
    paired: bool = False
    rises: tuple[float, float] = (0.0, 0.0)
    """How much larger the difference is without the candidate's least run, and without the baseline's largest; paired,
    without the pair of the least difference, and 0."""
    falls: tuple[float, float] = (0.0, 0.0)
    """How much smaller without the candidate's largest run, and without the baseline's least; paired likewise."""

    @property
    def variance_factor(self) -> float:
        """Of the difference, in units of sd ** 2."""
        return 1 / self.num_candidate + (0.0 if self.paired else 1 / self.num_baseline)


@dataclass(frozen=True)
class Look:
    """One change, judged."""

    decision: Literal["keep", "discard", "run again"]
    gap: Gap
    """At the look that decided."""
    evidence: float
    """The largest e-value so far, which is what counts."""
    error: float
    """alpha_j: kept when the evidence reaches 1 / error."""
    interval: tuple[float, float] | None
    """Of the difference: each end may be wrong with probability `error`, over all looks. Below 0 exactly where kept."""
    more_baseline: int = 0
    more_candidate: int = 0
    """Runs to do next: those that would settle it if the difference and the noise so far are the true ones, but no more
    than the candidate has. So a change that was lucky once costs little."""


def error_of_change(position: int, alpha: float) -> float:
    """The error that the change at this position (from 1) may spend: alpha * position**-1.3 / 3.93.

    All changes together, however many, spend alpha.
    Source: Bonferroni over an open list; the exponent spends a quarter on the first and leaves the hundredth 1 / 1,566.
    """
    return alpha * position**-SPENDING / _ZETA


def log_evidence(gap: Gap, *, shift: float = 0.0) -> float:
    """Natural log of the e-value against "the candidate is not better than the baseline less `shift`".

    The least of all runs, of all but the candidate's luckiest and of all but the baseline's unluckiest one: heavy tails
    make single runs far off, and no change is kept for one of them. Where a side has one run, which cannot be left
    out, it is at most 1 / p of a noise with tails as heavy as t with HEAVY_DF degrees of freedom.
    Units: none. 0 or less without a difference. Never above log(2) until two runs tell the noise.
    """
    from scipy.special import stdtr

    if gap.difference is None:
        return 0.0
    difference, sd = gap.difference + shift, gap.sd
    least = log_e_value(difference, sd, gap.df, gap.variance_factor)
    for rise, factor in _without_one(gap):
        least = min(least, log_e_value(difference + rise, sd, gap.df, factor))
    if sd and min(gap.num_baseline, gap.num_candidate) == 1:
        t = difference / (sd * sqrt(gap.variance_factor))
        least = min(least, -log(max(float(stdtr(HEAVY_DF, t * sqrt(HEAVY_DF / (HEAVY_DF - 2)))), 1e-300)))
    return least


def _without_one(gap: Gap) -> list[tuple[float, float]]:
    """How the difference rises, and its variance factor then, without the run of each side that speaks most for the
    candidate, where there are others. The noise stays that of all."""
    b, c = gap.num_baseline, gap.num_candidate
    if gap.paired:
        return [(gap.rises[0], 1 / (c - 1))] if c > 1 else []
    without_c = [(gap.rises[0], 1 / (c - 1) + 1 / b)] if c > 1 else []
    return without_c + ([(gap.rises[1], 1 / c + 1 / (b - 1))] if b > 1 else [])


def log_e_value(difference: float, sd: float | None, df: float, factor: float) -> float:
    """Natural log of the e-value of a difference whose variance is factor * sd ** 2.

    The likelihood of improvements of the SCALES over that of none, as a function of t, which is all that is left of the
    runs where neither the level nor the sd of a run is known (their right Haar priors). As runs come in, of either
    side, it is a test martingale where there is no difference, a supermartingale where the candidate is worse.
    Source: mixtures of Robbins 1970; group-invariant e-statistics, Perez-Ortiz, Lardy, de Heide and Grünwald 2024.
    """
    if sd is None or df <= 0:  # only the sign of the difference is known
        difference, sd, df = float(np.sign(difference)), 0.0, 0.0
    one, other = (log(weight) + _log_mixture(difference, sd, df, factor, scale) for scale, weight in SCALES)
    return max(one, other) + log1p(exp(-abs(one - other)))


def _log_mixture(difference: float, sd: float, df: float, factor: float, scale: float) -> float:
    """Of the likelihood ratio of t, over improvements of half-normal size: in closed form, by Student's t."""
    from scipy.special import log_ndtr, stdtr

    width = scale**2 / factor
    shrink = width / (1 + width)
    if isinf(df):
        t = difference / (sd * sqrt(factor))
        return log(2) - log1p(width) / 2 + t * t * shrink / 2 + float(log_ndtr(-t * sqrt(shrink)))
    across = difference**2 + df * sd**2 * factor
    x = 0.0 if across == 0 else difference / sqrt(across)
    left = 1 - x * x * shrink
    tail = float(stdtr(df + 1, -x * sqrt(shrink / left) * sqrt(df + 1)))
    return log(2) - log1p(width) / 2 - (df + 1) / 2 * log(left) + log(max(tail, 1e-300))


def interval_of(gap: Gap, error: float) -> tuple[float, float] | None:
    """Of the difference, for every time at which anyone may look: the shifts whose evidence stays below 1 / error.

    None where the noise is not known, or known too little for so small an error.
    """
    if gap.difference is None or not gap.sd or gap.df <= 0:
        return None
    high = _upper_end(gap, error)
    mirrored = replace(gap, difference=-gap.difference, rises=(-gap.falls[0], -gap.falls[1]))
    low = None if high is None else _upper_end(mirrored, error)
    return None if high is None or low is None else (-low, high)


def _upper_end(gap: Gap, error: float) -> float | None:
    from scipy.optimize import brentq

    assert gap.difference is not None
    assert gap.sd is not None

    def short(end: float) -> float:
        return log_evidence(gap, shift=-end) + log(error)

    most = gap.difference + 1e4 * gap.sd * sqrt(gap.variance_factor)
    return None if short(most) <= 0 else float(brentq(short, gap.difference, most))  # pyright: ignore[reportArgumentType]


class Tally:
    """Sums over the runs seen so far, by arm: what the gap of any two arms needs.

    Where `sd` is given, noise is taken from elsewhere, with `df`; else it is pooled over all arms that were repeated.
    A second run of one arm on one seed repeats the first and counts for nothing.
    """

    def __init__(self, sd: float | None = None, df: float = inf, *, runs: Iterable[Run] = ()) -> None:
        self._sd, self._df = sd, df
        self._values: dict[str, list[float]] = {}
        self._by_seed: dict[str, dict[int, float]] = {}
        self._squares: dict[str, float] = {}
        for run in runs:
            self.add(run)

    def add(self, run: Run) -> bool:
        """Whether it counts."""
        if run.seed is not None:
            seeds = self._by_seed.setdefault(run.arm, {})
            if run.seed in seeds:
                return False
            seeds[run.seed] = run.value
        values = self._values.setdefault(run.arm, [])
        values.append(run.value)
        self._squares[run.arm] = _squares(values)
        return True

    def values(self, arm: str) -> list[float]:
        return self._values.get(arm, [])

    def noise(self) -> tuple[float | None, float]:
        """The sd of one run and its degrees of freedom; None, 0 where no run was repeated with another result."""
        if self._sd is not None:
            return self._sd, self._df
        df = sum(len(values) - 1 for values in self._values.values())
        squares = sum(self._squares.values())
        return (sqrt(squares / df), df) if squares > 0 else (None, 0.0)

    def gap(self, baseline: str, candidate: str, *, paired: bool = False) -> Gap:
        """The larger of the pooled noise and that of these two arms alone counts: either may be the noisier one."""
        b, c = self.values(baseline), self.values(candidate)
        sd, df = self.noise()
        if paired:
            ours, theirs = self._by_seed.get(candidate, {}), self._by_seed.get(baseline, {})
            differences = [value - theirs[seed] for seed, value in ours.items() if seed in theirs]
            n = len(differences)
            mean = sum(differences) / n if n else None
            own = sqrt(_squares(differences) / (n - 1)) if n > 1 else None
            up, down = _changes_without_an_end(differences)
            return Gap(mean, n, n, own or None, n - 1 if own else 0.0, True, (up, 0.0), (down, 0.0))
        if not b or not c:
            return Gap(None, len(b), len(c), sd, df)
        difference = sum(c) / len(c) - sum(b) / len(b)
        if self._sd is None and sd is not None and len(b) > 1 and len(c) > 1:
            welch = self._squares[candidate] / (len(c) - 1) / len(c) + self._squares[baseline] / (len(b) - 1) / len(b)
            sd = max(sd, sqrt(welch / (1 / len(c) + 1 / len(b))))
        (up_c, down_c), (up_b, down_b) = _changes_without_an_end(c), _changes_without_an_end(b)
        return Gap(difference, len(b), len(c), sd, df, rises=(up_c, -down_b), falls=(down_c, -up_b))


def judge_change(
    runs: Sequence[Run],
    baseline: str,
    candidate: str,
    *,
    position: int,
    alpha: float,
    sd: float | None = None,
    df: float = inf,
) -> Look:
    """Keep a change, discard it, or run again: from all runs of the loop so far, in their order.

    `position` counts the changes that were looked at up to this one. Each run of the two arms is a look. A change that
    was shown once stays kept. One that is not better so far is discarded: that needs no proof. So is one that MOST_RUNS
    of each would not show even if it were one standard error better than measured.
    Where the two arms have three seeds or more in common, they are compared seed by seed: which seeds there are decides
    that, not what came out.
    """
    error = error_of_change(position, alpha)
    threshold = -log(error)
    tally = Tally(sd, df)
    paired = sd is None and len(_seeds(runs, baseline) & _seeds(runs, candidate)) >= 3
    best = 0.0
    gap = tally.gap(baseline, candidate, paired=paired)
    for run in runs:
        if not tally.add(run) or run.arm not in (baseline, candidate):
            continue
        gap = tally.gap(baseline, candidate, paired=paired)
        best = max(best, log_evidence(gap))
        if best >= threshold:
            return Look("keep", gap, exp(min(best, 700)), error, interval_of(gap, error))
    interval = interval_of(gap, error)
    more = None if gap.difference is not None and gap.difference >= 0 else more_runs(gap, threshold)
    if more is None:
        return Look("discard", gap, exp(best), error, interval)
    step = max(gap.num_candidate, 1) if gap.df >= LEAST_DF or gap.paired else LEAST_BASELINE
    return Look("run again", gap, exp(best), error, interval, *(min(num, step) for num in more))


def more_runs(gap: Gap, threshold: float) -> tuple[int, int] | None:
    """Runs of baseline and candidate, as few as there can be, that would bring the log evidence to the threshold.

    If the difference so far is the true one; else, where MOST_RUNS of each would not do, if it is one standard error
    better. None where that would not do either. Where nothing is known of the noise: what would tell it.
    """
    if gap.difference is None:
        short = 1 if gap.paired else max(1 - gap.num_baseline, 0)
        return short, 1 if gap.paired else max(1 - gap.num_candidate, 0)
    if gap.df < LEAST_DF and not gap.paired:
        return max(LEAST_BASELINE - gap.num_baseline, 0), 0 if gap.num_baseline < LEAST_BASELINE else 1
    if gap.sd is None:
        return 1, 1
    whole = _grown(gap, gap.difference, 2 * MOST_RUNS)
    slack = max(gap.variance_factor - whole.variance_factor, 0.0)
    for difference in (gap.difference, gap.difference - gap.sd * sqrt(slack)):
        if log_evidence(_grown(gap, difference, 2 * MOST_RUNS)) < threshold:
            continue
        low, high = 0, 2 * MOST_RUNS  # more runs of one difference are more evidence
        while high - low > 1:
            total = (low + high) // 2
            low, high = (low, total) if log_evidence(_grown(gap, difference, total)) >= threshold else (total, high)
        grown = _grown(gap, difference, high)
        return grown.num_baseline - gap.num_baseline, grown.num_candidate - gap.num_candidate
    return None


def _grown(gap: Gap, difference: float, total: int) -> Gap:
    """After so many more runs in all, given to whichever side has fewer, up to MOST_RUNS; the candidate first.

    Without runs that are far off, except where no more would be run: there it is what it is.
    """
    b, c = gap.num_baseline, gap.num_candidate
    if gap.paired:
        n = max(min(b + total, MOST_RUNS), b)
        rises = gap.rises if n == b else (0.0, 0.0)
        return Gap(difference, n, n, gap.sd, n - 1, paired=True, rises=rises)
    for _ in range(total):
        if c <= b and c < MOST_RUNS:
            c += 1
        elif b < MOST_RUNS:
            b += 1
    more = b + c - gap.num_baseline - gap.num_candidate
    return Gap(difference, b, c, gap.sd, gap.df + more, rises=(0.0, 0.0) if more else gap.rises)


def needed_sd(gap: Gap, error: float) -> float | None:
    """The largest sd of one run, were it known, at which this difference would be kept; None if it is not better, or is
    not without one of its runs."""
    from scipy.optimize import brentq

    if gap.difference is None or gap.difference >= 0:
        return None

    def short(log_sd: float) -> float:
        return log_evidence(replace(gap, sd=exp(log_sd), df=inf)) + log(error)

    size = log(-gap.difference)
    if short(size - 7) <= 0:
        return None
    return exp(float(brentq(short, size - 7, size + 7)))  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Trial:
    """One change of a loop and how it ended."""

    value: float
    """Mean over its runs."""
    num_runs: int
    kept: bool


@dataclass(frozen=True)
class Hindsight:
    """What all runs of a loop together say of each of its changes, and of what was gained."""

    chances_of_null: tuple[float, ...]
    """Of each change: that it is no improvement."""
    gain: float
    """Expected value of the last kept arm less that of the first, in the unit of the values."""


def hindsight(first: Trial, changes: Sequence[Trial], sd: float) -> Hindsight:
    """Which changes did nothing, by all values of a loop at once: each kept arm is the baseline of those after it.

    A change improves, by a half-normal size of the smaller of the SCALES; does nothing; or makes it worse, by up to
    twice that. What share improves has a beta prior of mean 1 - USUAL_NULL worth ten changes, and is learned here.
    That a change was kept because it came out low needs no correction: all values are conditioned on. A discarded one
    that came out FAR above what was kept is none, and tells nothing of the rest. Whatever came out more than twice as
    far from it, above or below, is beyond doubt; where it was kept, the levels begin anew with it. Improvements so
    large tell nothing of how many small ones there are.
    Units: those of the values; `sd` is that of one run.
    Source: forward-backward smoothing of a hidden level (Rabiner 1989); empirical Bayes for the share (Efron 2008).
    """
    chances_J = np.ones(len(changes))
    stretches: list[tuple[list[Trial], list[int]]] = [([first], [])]
    base = first
    for place, one in enumerate(changes):
        height = (one.value - base.value) / sd
        if abs(height) > 2 * FAR:
            chances_J[place] = float(height > 0)
            stretches += [([one], [])] if one.kept else []
        elif one.kept or height < FAR:
            stretches[-1][0].append(one)
            stretches[-1][1].append(place)
        base = one if one.kept else base
    num_large = int((chances_J == 0).sum())
    levels = [_Levels(told, sd) for told, _ in stretches]
    better, gain = 1 - USUAL_NULL, 0.0
    for _ in range(_ROUNDS):
        shares_3 = np.array([better, (1 - better) / 2, (1 - better) / 2])
        smoothed = [one.smoothed(shares_3) for one in levels]
        for (_, places), (found, _, _) in zip(stretches, smoothed, strict=True):
            chances_J[places] = found
        share = (1 - chances_J).sum() - num_large + (1 - USUAL_NULL) * _PRIOR_RUNS
        better = float(share / (len(changes) - num_large + _PRIOR_RUNS))
        gain = stretches[-1][0][0].value - first.value + (smoothed[-1][2] - smoothed[0][1]) * sd
    return Hindsight(tuple(map(float, chances_J)), gain)


class _Levels:
    """The levels that trials may have come from, in sds of one run from the first. Shapes: J trials, G levels."""

    def __init__(self, told: Sequence[Trial], sd: float) -> None:
        self.told = told
        heights = [(one.value - told[0].value) / sd for one in told]
        low, high = min(heights), max(heights)
        step = min(max((high - low + 8) / _GRID, 0.05), _COARSEST)
        self.grid_G = np.arange(low - 4, high + 4, step)
        sizes = np.arange(step, 2 * FAR + step, step)
        lower, higher = (np.exp(-0.5 * np.square(sizes / scale)) for scale in (SCALES[0][0], 2 * SCALES[0][0]))
        self.lower, self.higher = lower / lower.sum(), higher / higher.sum()
        self.likely_JG = np.array([
            np.exp(-0.5 * one.num_runs * np.square(height - self.grid_G))
            for one, height in zip(told, heights, strict=True)
        ])  # fmt: skip

    def moved(self, mass_G: np.ndarray) -> np.ndarray:
        """After an improvement, nothing, a worsening. Shapes: (G,) -> (3, G)."""
        return np.stack([_shifted(mass_G, self.lower, -1), mass_G, _shifted(mass_G, self.higher, 1)])

    def seen(self, mass_G: np.ndarray) -> np.ndarray:
        """The same the other way: of each level before, what is found after. Shapes: (G,) -> (3, G)."""
        return np.stack([_shifted(mass_G, self.lower, 1), mass_G, _shifted(mass_G, self.higher, -1)])

    def smoothed(self, shares_3: np.ndarray) -> tuple[list[float], float, float]:
        """Of each trial but the first the chance that it is no improvement; the expected first and last level."""
        before = [self.likely_JG[0] / self.likely_JG[0].sum()]
        for one, likely_G in zip(self.told[1:], self.likely_JG[1:], strict=True):
            found_G = shares_3 @ (self.moved(before[-1]) if one.kept else self.seen(likely_G))
            after_G = found_G * (likely_G if one.kept else before[-1])
            before.append(after_G / max(after_G.sum(), 1e-300))
        later_G = np.ones(len(self.grid_G))
        chances: list[float] = []
        for place in range(len(self.told) - 1, 0, -1):
            if self.told[place].kept:
                later_G = self.likely_JG[place] * later_G
                each_3 = shares_3 * (self.moved(before[place - 1]) @ later_G)
                later_G = shares_3 @ self.seen(later_G)
            else:
                found_3G = self.seen(self.likely_JG[place])
                each_3 = shares_3 * (found_3G @ (before[place - 1] * later_G))
                later_G = later_G * (shares_3 @ found_3G)
            later_G = later_G / max(later_G.max(), 1e-300)
            chances.insert(0, float(1 - each_3[0] / max(each_3.sum(), 1e-300)))
        start_G = before[0] * later_G
        start = float(start_G @ self.grid_G / max(start_G.sum(), 1e-300))
        return chances, start, float(before[-1] @ self.grid_G / before[-1].sum())


def _shifted(mass_G: np.ndarray, sizes: np.ndarray, sign: int) -> np.ndarray:
    """Mass moved up the grid (or down) by sizes of one step or more, whose weights are given; what leaves is lost."""
    if sign > 0:
        return np.concatenate([[0.0], np.convolve(mass_G, sizes)])[: len(mass_G)]
    return _shifted(mass_G[::-1], sizes, 1)[::-1]


def kept_by_chance(num_changes: int) -> float:
    """Changes that a loop keeps on average if none of them does anything, each is run once, and the least value wins.

    The j-th is the least of j + 1 equal ones with probability 1 / (j + 1), whatever the noise.
    Source: records of exchangeable sequences (Rényi 1962).
    """
    return sum(1 / (j + 1) for j in range(1, num_changes + 1))


def _squares(values: Sequence[float]) -> float:
    """Sum of squares about the mean; 0 where all are equal, which rounding must not hide."""
    if len(values) < 2 or min(values) == max(values):
        return 0.0
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values)


def _changes_without_an_end(values: Sequence[float]) -> tuple[float, float]:
    """Of their mean, without the least of them (0 or more) and without the largest (0 or less)."""
    if len(values) < 2:
        return 0.0, 0.0
    mean = sum(values) / len(values)
    return (mean - min(values)) / (len(values) - 1), (mean - max(values)) / (len(values) - 1)


def _seeds(runs: Sequence[Run], arm: str) -> set[int]:
    return {run.seed for run in runs if run.arm == arm and run.seed is not None}
