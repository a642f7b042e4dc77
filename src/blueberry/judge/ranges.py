"""Values of the one varied setting for four purposes: optimal, conservative, fast, and where it turns unstable."""

import math

from blueberry.judge.evidence import ArmRuns
from blueberry.judge.judgement import Ranges
from blueberry.judge.measured import Measured
from blueberry.stats.paired import paired
from blueberry.stats.robustness import first_at_target, median_time
from blueberry.stats.unresolved import mean_or_inf


def find_ranges(measured: Measured) -> Ranges:
    """None throughout without a numeric axis; all but `unstable_from` are None while the noise is unknown."""
    axis = measured.axis
    if axis is None:
        return Ranges()
    unstable = [value for i, value in enumerate(axis.values) if is_unstable(measured, i)]
    unstable_from = min(unstable) if unstable else None
    if measured.best is None or not measured.can_judge:
        return Ranges(unstable_from=unstable_from)
    kept = [axis.values[i] for i in measured.unresolved]
    return Ranges(
        optimal=(min(kept), max(kept)),
        conservative=_conservative(measured),
        fast=_fast(measured),
        unstable_from=unstable_from,
    )


def is_unstable(measured: Measured, index: int) -> bool:
    """A run diverged or ended above the loss of guessing uniformly."""
    arm, limit = measured.arm(index), measured.evidence.guessing_loss
    values = [*arm.search.values(), *arm.confirm.values()]
    return any(math.isinf(v) or (limit is not None and v > limit) for v in values)


def _conservative(measured: Measured) -> float | None:
    """Lowest value whose loss exceeds the best arm's by less than min_effect with one-sided error alpha."""
    assert measured.axis is not None
    assert measured.best is not None
    evidence = measured.evidence
    for index, value in enumerate(measured.axis.values):
        if is_unstable(measured, index) or measured.arm(index).crashed:
            continue
        if index == measured.best:
            return value
        pair = paired(measured.values_KN[measured.best], measured.values_KN[index], floor=measured.noise.floor)
        interval = pair.interval(1 - 2 * evidence.alpha / evidence.looks)
        if interval is not None and interval[1] < evidence.min_effect:
            return value
    return None


def _fast(measured: Measured) -> float | None:
    """Value of least median time to the target; None unless it is before all others."""
    assert measured.axis is not None
    _, times = time_to_target(measured)
    first = min(times)
    return measured.axis.values[times.index(first)] if math.isfinite(first) and times.count(first) == 1 else None


def time_to_target(measured: Measured) -> tuple[float, list[float]]:
    """The worst unresolved arm's final mean, and each arm's median updates to it, a miss being infinite.

    A loss in the middle of a schedule, so it says nothing of a shorter schedule's end. The target is
    taken from the same runs, so that every arm that may be the best reaches it on some seeds.
    """
    target = max(mean_or_inf(measured.values_KN[i]) for i in measured.unresolved)
    return target, [_median_updates(arm, target) for arm in measured.evidence.arms]


def _median_updates(arm: ArmRuns, target: float) -> float:
    """Infinite where a run was not recorded, or half of them miss the target."""
    if not set(arm.search) <= set(arm.evaluations) | {s for s, value in arm.search.items() if math.isinf(value)}:
        return math.inf
    times = [first_at_target(arm.evaluations.get(seed, ()), target) for seed in arm.search]
    median = median_time(times)
    return math.inf if median is None else median
