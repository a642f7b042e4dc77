"""What to use for which purpose: what runs say of values along one numeric setting, where they fail, what missing the
best costs, from which update on they clear a target that was fixed beforehand; as numbers, and as the lines
of the report's purposes. (What a judgement says as a whole is in `sentences`.)"""

import math
from collections.abc import Callable

import numpy as np

from blueberry.judge import words
from blueberry.judge.answers import AxisAnswer, Cleared, Conservative, Failing, Failures, Fast, Robustness
from blueberry.judge.effects import helping
from blueberry.judge.evidence import ArmRuns
from blueberry.judge.judgement import BASELINE, LEAST_BLOCKS, Judgement, Purpose, Ranges
from blueberry.judge.measured import Measured
from blueberry.stats.differences import t_quantile
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
    stable, unstable = stability(
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
        stable_to=_failing(stable),
        unstable_from=_failing(unstable),
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
    return median_time([first_at_target(arm.evaluations.get(seed, ()), target) for seed in arm.search])


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


# --- In sentences ---


def purposes(judgement: Judgement) -> tuple[Purpose, ...]:
    """What to use for which purpose, each with the evidence for it or the reason why nothing is supported.

    A blocked claim is withheld in all but what is to be avoided: what went wrong was seen. Conditions have none.
    """
    if judgement.is_across:
        return ()
    along = judgement.axis_answer is not None
    asked: dict[str, Callable[[Judgement], Purpose]] = {"production": _production}
    if along:
        asked |= {"conservative": _conservative_purpose, "fast": _fast_purpose}
    withheld = judgement.recommendation.withheld
    if judgement.pooled is not None:
        withheld = "no arm is repeated, so changes are told from nothing, and no arm from another"
    found = [_not(name, withheld) if withheld is not None else say(judgement) for name, say in asked.items()]
    return (*found, _avoid(judgement))


def _production(judgement: Judgement) -> Purpose:
    best, settings = judgement.best, judgement.recommendation.settings or {}
    changes = helping(judgement)
    if changes and best is not None and best.settings != settings:
        return Purpose(
            purpose="production",
            arms=changes,
            settings=settings,
            evidence=f"main effects over all arms; {best.arm}, of least mean, is not just these",
        )
    if best is None or best.arm == BASELINE or best.settings != settings:  # the baseline is kept
        return Purpose(
            purpose="production",
            arms=(BASELINE,),
            settings=settings,
            evidence=why_the_baseline(judgement, "the baseline"),
        )
    if not best.confirmed:
        return _not("production", "the best arm was not run on fresh seeds, and the seeds that chose it flatter it")
    number = words.metric_value(best.mean, best.interval, judgement.metric, judgement.min_effect)
    evidence = f"mean {judgement.metric} {number} on {words.count(best.n, 'fresh seed')}"
    others = len(judgement.unresolved) - 1
    if others and not judgement.is_located:
        evidence += f"; {words.count(others, 'other arm')} not told apart from it"
    return Purpose(purpose="production", arms=(best.arm,), settings=settings, evidence=evidence)


def why_the_baseline(judgement: Judgement, it: str = "it") -> str:
    """Where it is kept: nothing beats it, or only what lies behind the best arm, which is too noisy to."""
    beat_it = [v.b for v in judgement.verdicts if v.a == BASELINE and v.winner == v.b]
    if not beat_it or judgement.best is None:
        return f"no change was shown to beat {it}"
    were = "was" if len(beat_it) == 1 else "were"
    return f"{judgement.best.arm}, the best arm, was not shown to beat {it}; {words.listing(beat_it)} {were}"


def _conservative_purpose(judgement: Judgement) -> Purpose:
    found = judgement.axis_answer and judgement.axis_answer.conservative
    if not found:
        return _not("conservative", "no value was shown to be within min_effect of the best without a failure")
    level = f"one-sided {1 - judgement.alpha:.0%} bound"
    said = f"0 of {words.count(found.num_runs, 'run')} failed (at most {found.bound:.0%} would, {level})"
    if found.difference is None:
        said = f"no lower value was shown to be as good as this, the best; {said}"
    else:
        number = words.difference(found.difference, found.interval, judgement.metric, judgement.min_effect)
        pairs = words.count(found.n, "paired seed")
        said = f"{number} from the best on {pairs}, less than {judgement.min_effect:g}; {said}"
    return Purpose(purpose="conservative", arms=(found.arm,), settings=judgement.arm(found.arm).settings, evidence=said)


def _fast_purpose(judgement: Judgement) -> Purpose:
    """A description, not a test: a short schedule may end elsewhere than the middle of a long one."""
    found = judgement.axis_answer and judgement.axis_answer.fast
    if not found:
        return _not("fast", "no value was seen to reach the target before all others")
    last = "lowest" if judgement.goal == "maximize" else "highest"
    later = found.next_updates
    next_ = "no other value reaches it" if math.isinf(later) else f"the next needs {later:g}"
    target = words.metric_value(found.target, None, judgement.metric, judgement.min_effect)
    seeds = words.count(found.n, "seed")
    said = (
        f"first at {target}, the {last} mean of those that may be the best: after {found.updates:g} updates "
        f"(median of {seeds}; {next_}), within its own schedule; a schedule of that length may end elsewhere, and "
        "nothing was tested"
    )
    return Purpose(purpose="fast", arms=(found.arm,), settings=judgement.arm(found.arm).settings, evidence=said)


def _avoid(judgement: Judgement) -> Purpose:
    """What failed; and what was shown to be worse than the baseline, or than the best by min_effect or more."""
    said, settings = [], None
    failed, worse = tuple(one.arm for one in judgement.failures), _clearly_worse(judgement)
    if failed:
        first, axis = judgement.failures[0], judgement.sweep
        runs = words.count(first.n, "run")
        said.append(f"{first.failures} of {runs} of {first.arm} failed (at least {first.bound:.0%} would)")
        if axis is not None:
            settings = {axis.setting: float(judgement.arm(first.arm).settings[axis.setting])}
            said[0] += "; it is the lowest value at which one did"
        elif failed[1:]:
            said[0] += f"; also {words.listing(failed[1:])}"
    worse = {than: [arm for arm in arms if arm not in failed] for than, arms in worse.items()}
    said += [f"worse than {than}{f': {words.listing(arms)}' if failed else ''}" for than, arms in worse.items() if arms]
    if not said:
        withheld = judgement.recommendation.withheld if judgement.withholds_differences else None
        return _not("avoid", withheld or "no run failed, and no arm was shown to be worse by what matters")
    arms = dict.fromkeys([*failed, *(arm for arms in worse.values() for arm in arms)])
    return Purpose(purpose="avoid", arms=tuple(arms), settings=settings, evidence="; ".join(said))


def _clearly_worse(judgement: Judgement) -> dict[str, list[str]]:
    """By what they are worse than. Empty where an audit blocks that arms are told apart."""
    if judgement.withholds_differences:
        return {}
    if judgement.is_located:
        return {f"the best by {judgement.min_effect:g} or more{_AS_NOISY}": _above_the_valley(judgement)}
    beaten = [v.b for v in judgement.verdicts if v.a == BASELINE and v.winner == BASELINE]
    settings = judgement.recommendation.settings
    if (
        beaten
        or judgement.best is None
        or (settings not in (None, judgement.best.settings) and helping(judgement) is None)
    ):  # the baseline is kept: what is no worse than that is not to be avoided
        return {"the baseline": beaten}
    far = [
        verdict.b
        for verdict in judgement.verdicts
        if verdict.a == verdict.winner == judgement.best.arm
        and verdict.interval is not None
        and min(map(abs, verdict.interval)) >= judgement.min_effect
    ]
    return {f"the best by {judgement.min_effect:g} or more": far}


_AS_NOISY = ", if runs there are as noisy as those about the valley"


def _above_the_valley(judgement: Judgement) -> list[str]:
    """The values that a search trained whose loss lies above the recommended one's, as the valley has it, by min_effect
    or more: one-sided, each at its share of alpha.

    The recommended value's own error counts as that of one run, which is more than that of a curve through several.
    """
    valley, located = judgement.valley, judgement.located
    best = None if valley is None or located is None or located.value is None else valley.at(located.value)
    if valley is None or best is None:
        return []
    sd = max(valley.sd, judgement.noise.sd or 0.0)
    trained = [arm for arm in judgement.arms if arm.n and arm.mean is not None]
    t = t_quantile(valley.df, judgement.alpha / max(len(trained), 1))
    return [
        arm.arm
        for arm in trained
        if judgement.sign * ((arm.mean or 0.0) - best.expected) - t * sd * math.sqrt(1 + 1 / arm.n)
        >= judgement.min_effect
    ]


def _not(purpose: str, because: str) -> Purpose:
    return Purpose.model_validate({"purpose": purpose, "because": because})
