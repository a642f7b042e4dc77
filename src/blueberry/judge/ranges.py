"""Values of the one varied setting for four purposes: optimal, conservative, fast, and where it turns unstable."""

import math

from blueberry.judge.evidence import ArmRuns
from blueberry.judge.judgement import Ranges
from blueberry.judge.measured import Measured
from blueberry.stats.paired import paired
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
    """Value that reaches the worst unresolved arm's final mean in the fewest updates, on average over its seeds."""
    assert measured.axis is not None
    target = max(mean_or_inf(measured.values_KN[i]) for i in measured.unresolved)
    updates = [_mean_updates(measured.arm(i), target) for i in range(len(measured.evidence.arms))]
    if not math.isfinite(min(updates, default=math.inf)):
        return None
    return measured.axis.values[updates.index(min(updates))]


def _mean_updates(arm: ArmRuns, target: float) -> float:
    """Infinite if any of its runs misses the target, diverges or was not recorded."""
    if not arm.search or not set(arm.search) <= set(arm.evaluations) or math.inf in arm.search.values():
        return math.inf
    reached = [min((u for u, loss in arm.evaluations[s] if loss <= target), default=math.inf) for s in arm.search]
    return sum(reached) / len(reached)
