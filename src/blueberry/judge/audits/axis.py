"""Audits of what is claimed along one numeric setting: whether the range ends too early, and the curve is a valley."""

import itertools
import math
from collections.abc import Sequence
from statistics import fmean, median, stdev

from blueberry.judge import words
from blueberry.judge.audits import LEAST_AXIS_VALUES, block, warn
from blueberry.judge.judgement import Audit
from blueberry.judge.measured import Measured, axis_values, expected_at
from blueberry.stats.differences import t_quantile

EXTENSION = 2
"""Steps of its values by which a range should grow."""
CONTRADICTS = 0.01
"""Error with which fresh seeds may contradict a valley that is one."""


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
        is_axis = measured.axis is not None and measured.axis.setting == setting
        if is_axis and (measured.can_judge or measured.located is not None):
            touching |= {values[i] for i in measured.candidates}
        is_log = measured.axis.is_log if is_axis and measured.axis else steps[0] > 0
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
