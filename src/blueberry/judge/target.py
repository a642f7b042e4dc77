"""A target that was fixed beforehand: from which update on an arm's runs are shown to clear it."""

import math

from blueberry.judge import words
from blueberry.judge.answers import Cleared
from blueberry.judge.evidence import ArmRuns
from blueberry.judge.judgement import LEAST_BLOCKS, Judgement
from blueberry.judge.measured import Measured
from blueberry.stats.robustness import first_at_target, first_cleared


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
