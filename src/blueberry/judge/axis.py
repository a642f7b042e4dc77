"""What the runs say along one numeric setting (values for purposes, where runs fail, what missing the best costs), and
from which update on they clear a target that was fixed beforehand."""

import math

import numpy as np

from blueberry.judge import words
from blueberry.judge.answers import AxisAnswer, Cleared, Conservative, Failing, Failures, Fast, Robustness
from blueberry.judge.evidence import ArmRuns
from blueberry.judge.judgement import LEAST_BLOCKS, Judgement, Ranges
from blueberry.judge.measured import Measured
from blueberry.stats.robustness import (
    DECADE,
    Edge,
    band_within,
    first_at_target,
    first_cleared,
    lower_bound,
    lr_sensitivity,
    median_time,
    stability,
    upper_bound,
)
from blueberry.stats.unresolved import mean_or_inf


def find_ranges(measured: Measured, answer: AxisAnswer | None) -> Ranges:
    """The values alone. None throughout without a numeric axis; all but `unstable_from` while the noise is unknown."""
    axis = measured.sweep
    if axis is None or answer is None:
        return Ranges()
    unstable = [value for i, value in enumerate(axis.values) if num_failed(measured, i)]
    return Ranges(
        optimal=_optimal(measured, axis.values),
        conservative=answer.conservative.value if answer.conservative else None,
        fast=answer.fast.value if answer.fast else None,
        unstable_from=min(unstable, default=None),
    )


def _optimal(measured: Measured, values: tuple[float, ...]) -> tuple[float, float] | None:
    """Ends of the values that may be the best; of a valley, of the interval of its lowest point."""
    if measured.located is not None and measured.valley is not None:
        return measured.valley.interval
    if measured.best is None or not measured.can_judge:
        return None
    kept = [values[i] for i in measured.unresolved]
    return min(kept), max(kept)


def find_axis_answer(measured: Measured) -> AxisAnswer | None:
    """None without a numeric axis; without answers while the noise is unknown."""
    if measured.sweep is None:
        return None
    if measured.best is None or not measured.can_judge:
        return AxisAnswer()
    return AxisAnswer(
        conservative=_conservative(measured, measured.sweep.values, measured.best),
        fast=_fast(measured, measured.sweep.values),
    )


def num_failed(measured: Measured, index: int) -> int:
    """The runs of an arm, confirming ones included, that diverged or ended above the loss of guessing uniformly."""
    arm, limit = measured.arm(index), measured.evidence.guessing_loss
    values = [*arm.search.values(), *arm.confirm.values()]
    return sum(math.isinf(value) or (limit is not None and value > limit) for value in values)


def find_failures(measured: Measured) -> tuple[Failures, ...]:
    """The arms with a failed run."""
    found = []
    for index, arm in enumerate(measured.evidence.arms):
        failures, n = num_failed(measured, index), len(arm.search) + len(arm.confirm)
        if failures:
            bound = lower_bound(failures, n, level=1 - measured.evidence.alpha)
            found.append(Failures(arm=arm.name, failures=failures, n=n, bound=bound))
    return tuple(found)


def find_robustness(measured: Measured) -> Robustness | None:
    """None without one logarithmic axis, or while the noise is unknown."""
    axis, evidence = measured.sweep, measured.evidence
    if axis is None or not axis.is_log or not measured.can_judge or measured.race is not None:
        return None
    rates_K, values_KN = np.array(axis.values), measured.values_KN
    band = band_within(rates_K, values_KN, evidence.min_effect)
    excess = lr_sensitivity(rates_K, values_KN, cap=evidence.guessing_loss)
    edges = stability(
        axis.values,
        [num_failed(measured, index) for index in range(len(evidence.arms))],
        [len(arm.search) + len(arm.confirm) for arm in evidence.arms],
        level=1 - evidence.alpha,
    )
    return Robustness(
        band=None if band is None else (band.low, band.high),
        band_factor=None if band is None else band.factor,
        band_is_bounded=None if band is None else (band.low_is_bounded, band.high_is_bounded),
        excess=None if excess is None else excess.difference,
        excess_interval=None if excess is None else excess.interval(1 - evidence.alpha),
        span=DECADE,
        stable_to=_failing(edges.highest_stable),
        unstable_from=_failing(edges.lowest_unstable),
    )


def _failing(edge: Edge | None) -> Failing | None:
    return None if edge is None else Failing(value=edge.x, failures=edge.failures, n=edge.n, bound=edge.bound)


def _conservative(measured: Measured, values: tuple[float, ...], best: int) -> Conservative | None:
    """Lowest value whose loss exceeds the best arm's by less than min_effect with one-sided error alpha."""
    evidence = measured.evidence
    for index, value in enumerate(values):
        arm = measured.arm(index)
        if num_failed(measured, index) or arm.crashed:
            continue
        pair = measured.noise.difference(best, index) if index != best else None
        interval = pair and pair.interval(1 - 2 * evidence.alpha / evidence.looks)
        if pair is not None and (interval is None or interval[1] >= evidence.min_effect):
            continue
        n = len(arm.search) + len(arm.confirm)
        return Conservative(
            arm=arm.name,
            value=value,
            difference=pair and pair.difference,
            interval=interval,
            n=pair.n if pair else len(arm.search),
            num_runs=n,
            bound=upper_bound(0, n, level=1 - evidence.alpha),
        )
    return None


def _fast(measured: Measured, values: tuple[float, ...]) -> Fast | None:
    """Value of least median time to the worst unresolved arm's final mean; None unless it is before all others.

    A loss in the middle of a schedule, so it says nothing of a shorter schedule's end. The target is
    taken from the same runs, so that every arm that may be the best reaches it on some seeds.
    """
    target = max(mean_or_inf(measured.values_KN[i]) for i in measured.unresolved)
    times = [_median_updates(arm, target) for arm in measured.evidence.arms]
    first, second = sorted(times)[:2]
    if not first < second:
        return None
    index = times.index(first)
    arm = measured.arm(index)
    return Fast(arm=arm.name, value=values[index], target=target, updates=first, next_updates=second, n=len(arm.search))


def _median_updates(arm: ArmRuns, target: float) -> float:
    """Infinite where a run was not recorded, or half of them miss the target."""
    if not set(arm.search) <= set(arm.evaluations) | {s for s, value in arm.search.items() if math.isinf(value)}:
        return math.inf
    times = [first_at_target(arm.evaluations.get(seed, ()), target) for seed in arm.search]
    median = median_time(times)
    return math.inf if median is None else median


def find_cleared(measured: Measured) -> tuple[Cleared, ...]:
    """Of every arm with a run that ended; empty without a target."""
    evidence = measured.evidence
    if evidence.target is None:
        return ()
    return tuple(_cleared(arm, evidence.target, evidence.alpha) for arm in evidence.arms if arm.search)


def _cleared(arm: ArmRuns, target: float, alpha: float) -> Cleared:
    """By the evaluations that all of its runs have; by their ends where some run has none."""
    curves = [arm.evaluations.get(seed, ()) for seed in arm.search]
    if not all(curves):
        curves = [((math.inf, value),) for value in arm.search.values()]
    if any(math.isinf(value) for value in arm.search.values()) or len(curves) < LEAST_BLOCKS:
        found = None
    else:
        found = first_cleared(curves, target, alpha=alpha)
    is_evaluated = bool(arm.evaluations) and all(arm.evaluations.values())
    return Cleared(
        arm=arm.name,
        is_shown=found is not None,
        updates=found.position if found is not None and math.isfinite(found.position) else None,
        mean=None if found is None else found.mean,
        p=None if found is None else found.p,
        n=len(arm.search),
        times=tuple(first_at_target(curve, target) for curve in curves) if is_evaluated else (),
    )


def told_cleared(judgement: Judgement) -> list[str]:
    """Which arms clear the target, from where on, and when their runs first reach it; none without a target."""
    if judgement.target is None:
        return []
    unit = words.unit(judgement.metric)
    target, places = f"{judgement.target:g}{unit}", words.decimals(judgement.min_effect) + 1
    shown = [one for one in judgement.cleared if one.is_shown]
    if not shown:
        return [f"No arm is shown to clear {target} over its runs (one-sided, level {judgement.alpha:g})."]
    order = sorted(shown, key=lambda one: math.inf if one.updates is None else one.updates)
    said = []
    for one in order:
        where = "at its end" if one.updates is None else f"from {one.updates:g} on"
        reached = [time for time in one.times if math.isfinite(time)]
        first = f"; single runs reach it from {min(reached):g} to {max(reached):g}" if reached else ""
        missed = f", {len(one.times) - len(reached)} of {len(one.times)} never" if len(reached) < len(one.times) else ""
        said.append(
            f"{one.arm} {where} (mean {words.number(one.mean, places)} over {words.count(one.n, 'run')}, one-sided p "
            f"{one.p:.2g}{first}{missed})"
        )
    return [f"{target} is cleared by {words.listing(said, most=6)}."]
