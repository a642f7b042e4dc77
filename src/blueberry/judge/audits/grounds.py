"""Audits of what a claim rests on: are there runs enough to know the noise, is what was borrowed theirs, is what
matters far above it; does the range of a setting end too early, and is the curve a valley?"""

import itertools
import math
from collections.abc import Sequence
from statistics import fmean, median, stdev

from blueberry.judge import words
from blueberry.judge.audits import LEAST_AXIS_VALUES, block, warn
from blueberry.judge.effects import find_pooled
from blueberry.judge.judgement import LEAST_BLOCKS, Audit
from blueberry.judge.measured import Measured, axis_values, expected_at
from blueberry.stats.differences import t_quantile
from blueberry.stats.noise import Borrowed

TOO_FEW = "no difference can be told from chance"
"""What is said where runs are too few: it speaks against differences of arms, and against nothing else."""
MOST_SPREADS = 3.0
"""Of one run's sd, that the smallest difference which matters may be without a word."""
EXTENSION = 2
"""Steps of its values by which a range should grow."""
CONTRADICTS = 0.01
"""Error with which fresh seeds may contradict a valley that is one."""


def too_few(measured: Measured) -> list[Audit]:
    """A valley is read from all runs together, however few each value has; single runs can be judged by borrowed
    noise."""
    evidence, borrowed = measured.evidence, measured.evidence.borrowed
    if measured.located is not None:
        return []
    if borrowed is not None:
        return _not_theirs(measured, borrowed)
    looked = measured.race is None or measured.race.taken
    one, short = "seed" if evidence.is_seeded else "run", f"fewer than {LEAST_BLOCKS}"
    numbers = [len(arm.search) for arm in evidence.arms]
    asked = [len(arm.search) for arm in evidence.arms if all(map(math.isfinite, arm.search.values()))] or numbers
    if looked and sum(number >= LEAST_BLOCKS for number in asked) < min(len(asked), 2):
        what = (
            f"arms ended on {_range(numbers, one)} each"
            if evidence.is_seeded
            else f"arms have {_range(numbers, one)} each"
        )
        each = (
            f"run every arm on at least {LEAST_BLOCKS} seeds"
            if evidence.is_seeded
            else f"run every arm {LEAST_BLOCKS} times"
        )
        remedy = f"{each}, or say how such runs scatter (--sigma)" if evidence.source == "table" else each
        if find_pooled(measured) is not None:
            message = f"{what}: no arm is told from another, and main effects only with the interactions as noise"
            return [warn("seeds", message, each)]
        if evidence.loop is not None:
            message = f"the table of a loop that keeps and discards changes: {what}, so no change is told best"
            remedy = f"ask of the loop as a whole which of its keeps stand: blueberry judge {evidence.loop}"
            return [block("seeds", message, remedy)]
        message = f"{what}, and with {short} {TOO_FEW}"
        return [block("seeds", message, remedy)]
    few = [
        arm for arm in evidence.arms if len(arm.search) < LEAST_BLOCKS and all(map(math.isfinite, arm.search.values()))
    ]
    if not few or not looked:
        return []
    numbers = _range([len(arm.search) for arm in few], one)
    message = f"{words.listing([arm.name for arm in few])}: {numbers}; with {short} an arm is told from no other"
    return [
        warn(
            "seeds",
            message,
            f"run it on at least {LEAST_BLOCKS} seeds"
            if len(few) == 1
            else f"run each on at least {LEAST_BLOCKS} seeds",
        )
    ]


def _not_theirs(measured: Measured, borrowed: Borrowed) -> list[Audit]:
    """Runs that scatter more than the noise that was borrowed for them, as one in a hundred would by chance.

    Source: a chi-squared test of the pooled variance; an F test where the borrowed one was itself measured.
    """
    from scipy.special import chdtrc, fdtrc

    runs = measured.noise.runs
    df = float(runs.df_K.sum()) * runs.counts_for
    if df < 1:
        return []
    pooled = float(runs.df_K @ runs.variances_K) / float(runs.df_K.sum())
    ratio = pooled / borrowed.sd**2
    p = float(chdtrc(df, df * ratio) if math.isinf(borrowed.df) else fdtrc(df, borrowed.df, ratio))
    if p > 0.01:
        return []
    message = (
        f"runs of one arm scatter by {math.sqrt(pooled):.2g} here, more than the {borrowed.sd:.2g} borrowed for them"
    )
    return [warn("seeds", message, "borrow the noise of runs like these, or judge them by their own")]


def min_effect(measured: Measured) -> list[Audit]:
    """A table's smallest difference that matters, far above how runs scatter: much that is real counts as equal."""
    evidence, noise = measured.evidence, measured.noise
    sd = evidence.borrowed.sd if evidence.borrowed else noise.sd
    if evidence.source != "table" or not sd or evidence.min_effect <= MOST_SPREADS * sd:
        return []
    times = f"{evidence.min_effect / sd:.2g} times what runs of one arm scatter by ({sd:.2g})"
    message = f"min_effect {evidence.min_effect:g} is {times}, so differences that are easily seen are called ties"
    return [warn("min-effect", message, f"state what matters to you, such as half of that: --min-effect {sd / 2:.2g}")]


def _range(numbers: Sequence[int], noun: str) -> str:
    """e.g. "10 runs", "3 to 5 seeds"."""
    low, high = min(numbers, default=0), max(numbers, default=0)
    return words.count(low, noun) if low == high else f"{low} to {high} {noun}s"


def edge(measured: Measured) -> list[Audit]:
    """The best value, one that the optimum may lie at, or the optimum's interval touches the end of the range."""
    evidence, found = measured.evidence, []
    if measured.best is None:
        return []
    for setting in evidence.vary:
        values = axis_values(evidence, setting)
        if values is None or len(set(values)) < LEAST_AXIS_VALUES:
            continue
        steps = sorted(set(values))
        touching = {values[measured.best]}
        is_axis = measured.sweep is not None and measured.sweep.setting == setting
        if is_axis and (measured.can_judge or measured.located is not None):
            touching |= {values[i] for i in measured.candidates}
        is_log = measured.sweep.is_log if is_axis and measured.sweep else steps[0] > 0
        low = steps[0] in touching and not _is_where_it_ends(steps)
        high = steps[-1] in touching
        if low and high:
            found.append(_both_ends(setting, steps, len(measured.unresolved)))
        elif low or high:
            found.append(_one_end(measured, setting, steps, values[measured.best], is_log=is_log, high=high))
    return found


def _is_where_it_ends(steps: Sequence[float]) -> bool:
    """0, and 1 of what is counted, is where a setting ends, not where somebody stopped."""
    return steps[0] == 0 or (steps[0] == 1 and all(value.is_integer() for value in steps))


def _both_ends(setting: str, steps: list[float], num_unresolved: int) -> Audit:
    low, high = words.setting_value(steps[0]), words.setting_value(steps[-1])
    message = f"{num_unresolved} arms are not separated, from one end of {setting} ({low}) to the other ({high})"
    return block("edge", message, "run more seeds, then extend the range on the side that is left")


def _one_end(measured: Measured, setting: str, steps: list[float], best: float, *, is_log: bool, high: bool) -> Audit:
    end = steps[-1] if high else steps[0]
    reach = measured.evidence.reach.get(setting)
    last = end if reach is None else reach[1] if high else reach[0]
    step = (1 if high else -1) * EXTENSION * _step(steps, reach, is_log=is_log)
    to = last * math.exp(step) if is_log else max(last + step, 0.0)
    if all(value.is_integer() for value in steps):
        to = max(float(round(to)), 1.0, end + 1 if high else 1.0)
    which, direction = ("largest", "up") if high else ("smallest", "down")
    what = "the best value" if best == end else "a value that may be the best"
    message = f"{what} of {setting}, {words.setting_value(end)}, is the {which} tried, so the best may lie beyond"
    remedy = f"extend {setting} {direction} to {words.setting_value(to)}"
    if last != end:
        remedy = f"propose more values, {direction} to {words.setting_value(last)}; if the end stays the best, {remedy}"
    return block("edge", message, remedy)


def _step(steps: list[float], reach: tuple[float, float] | None, *, is_log: bool) -> float:
    """How far values lie apart, in logarithm or as they are: the median on a grid. In a range that values were
    proposed from, chance makes neighbours; there as even spacing would have it."""
    ends = [math.log(value) if is_log else value for value in reach or steps]
    return median(b - a for a, b in itertools.pairwise(ends)) / (len(steps) - 1 if reach else 1)


def valley(measured: Measured) -> list[Audit]:
    """A search along an axis whose runs are not one smooth valley, or that its fresh seeds contradict."""
    search, best = measured.evidence.search, measured.best
    if search is not None and search.is_broken:
        message = f"the runs along the axis are not one smooth valley ({search.ended}), so no optimum is read off them"
        remedy = "look at the curve; a narrower range, or a smoother setting, may have one valley"
        return [warn("valley", message, remedy)]
    if measured.located is None or best is None or len(fresh := list(measured.arm(best).confirm.values())) < 2:
        return []
    if not all(map(math.isfinite, fresh)):
        return []  # `diverged` says so
    expected, n = expected_at(measured, best), len(fresh)
    if not contradicted_by(fresh, expected, num_seeds=measured.located.measured_KN.shape[1]):
        return []
    message = (
        f"{words.count(n, 'fresh seed')} of {measured.arm(best).name} have mean {fmean(fresh):.4g}, above the "
        f"{expected:.4g} that the valley expects there: it is not the smooth valley it was taken for"
    )
    remedy = 'compare the values as they are: [strategy] method = "race", with the values about the best'
    return [block("valley", message, remedy)]


def contradicted_by(fresh: Sequence[float], expected: float, *, num_seeds: int) -> bool:
    """Whether fresh seeds of a value lie further above what a valley, read from so many seeds, expects there than
    chance puts them, at the error CONTRADICTS."""
    n = len(fresh)
    limit = t_quantile(n - 1, CONTRADICTS) * stdev(fresh) * math.sqrt(1 / n + 1 / num_seeds)
    return fmean(fresh) - expected > limit
