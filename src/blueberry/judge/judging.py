"""Evidence in, judgement out: first its numbers, among them those along one axis (ranges, failures, robustness) and
of a target; then its words, among them what to use for which purpose. Pure."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from blueberry.judge import words
from blueberry.judge.answers import (
    AxisAnswer,
    Cleared,
    Conservative,
    Failing,
    Failures,
    Fast,
    Finding,
    Located,
    Robustness,
)
from blueberry.judge.audits import audit
from blueberry.judge.effects import find_effects, find_pooled, find_stack, helping
from blueberry.judge.evidence import ArmRuns, Evidence, Measured, best_of, measure, summary_of
from blueberry.judge.judgement import BASELINE, LEAST_BLOCKS, Detectable, Judgement, Noise, Purpose, Ranges
from blueberry.judge.sentences import known, recommendation, unknown, why_the_baseline
from blueberry.judge.verdicts import compare
from blueberry.stats import robustness
from blueberry.stats.differences import Df, mean_or_inf, smallest_shown, t_quantile

R = TypeVar("R", bound=Finding)


def weigh(evidence: Evidence) -> Judgement:
    """All that the evidence supports. Arms come back in ascending order where they lie on a numeric axis."""
    return tell(numbers(evidence))


def tell(judgement: Judgement) -> Judgement:
    """With its recommendation, purposes and the two sentences that a person reads first."""
    told = judgement.model_copy(update={"recommendation": recommendation(judgement)})
    return told.model_copy(update={"purposes": purposes(told), "known": known(told), "unknown": unknown(told)})


def numbers(evidence: Evidence) -> Judgement:
    """The same without a sentence. Values and differences are in the metric's own unit and direction."""
    measured = measure(evidence)
    evidence, race = measured.evidence, measured.race
    answer = find_axis_answer(measured)
    combined: dict[str, Any] = {}
    if measured.combines:
        stack = find_stack(measured)
        combined = {"effects": find_effects(measured), "pooled": find_pooled(measured), "stack": stack}
    judgement = Judgement(
        **evidence.passed_on,
        axis=measured.axis,
        arms=tuple(summary_of(measured, index) for index in range(len(evidence.arms))),
        noise=_noise(measured),
        detectable=_detectable(measured),
        best=best_of(measured),
        unresolved=tuple(measured.arm(index).name for index in measured.unresolved),
        ended=race and race.ended,
        looks=race.looks if race else (),
        looks_taken=len(race.taken) if race else 0,
        optimum=measured.optimum,
        valley=measured.valley,
        located=_located(evidence),
        verdicts=compare(measured),
        ranges=find_ranges(measured, answer),
        axis_answer=answer,
        target=evidence.target,
        cleared=find_cleared(measured),
        failures=find_failures(measured),
        audits=audit(measured),
        robustness=find_robustness(measured),
        findings=tuple(one for arm in evidence.arms for one in evidence.findings if one.arm == arm.name),
        **combined,
    )
    return judgement if evidence.goal == "minimize" else turned(judgement)


def turned(judgement: Judgement) -> Judgement:
    """A judgement of a metric whose sign was changed, with the sign changed back.

    What it costs to miss the best value stays a cost: above 0 is worse, whatever the goal.
    """
    answer, stack = judgement.axis_answer, judgement.stack
    return judgement.model_copy(
        update={
            "arms": tuple(_turn(arm, "mean", "interval", "values") for arm in judgement.arms),
            "best": judgement.best and _turn(judgement.best, "mean", "interval", "search_mean", "test_mean"),
            "verdicts": tuple(_turn(verdict, "difference", "interval") for verdict in judgement.verdicts),
            "axis_answer": answer
            and AxisAnswer(
                conservative=answer.conservative and _turn(answer.conservative, "difference", "interval"),
                fast=answer.fast and _turn(answer.fast, "target"),
            ),
            "valley": judgement.valley
            and judgement.valley.model_copy(
                update={"curve": tuple(_turn(point, "expected") for point in judgement.valley.curve)}
            ),
            "target": None if judgement.target is None else 0.0 - judgement.target,
            "cleared": tuple(_turn(one, "mean") for one in judgement.cleared),
            "effects": tuple(_turn(effect, "difference", "interval") for effect in judgement.effects),
            "stack": stack and _turn(stack, "difference", "interval", "sum_of_singles", "sum_interval"),
        }
    )


def _located(evidence: Evidence) -> Located | None:
    search = evidence.search
    if search is None:
        return None
    num_runs = int((~np.isnan(search.measured_KN)).sum())
    value, excess, seeds = search.recommended, search.excess, search.measured_KN.shape[1]
    return Located(ended=search.ended, value=value, excess=excess, runs=num_runs, seeds=seeds)


def _detectable(measured: Measured) -> Detectable | None:
    """What as many seeds, or runs of each arm, as the arm has that has most can show of these arms; of a single arm,
    beside one more like it.

    With the degrees of freedom of the noise, as more seeds give more.
    """
    noise, evidence = measured.noise, measured.evidence
    most = max((len(arm.search) for arm in evidence.arms), default=0)
    typical = noise.typical
    if typical is None:
        return None
    found = smallest_shown(
        math.sqrt(typical.value),
        num_seeds=most,
        num_arms=max(len(evidence.arms), 2),
        has_baseline=any(arm.name == BASELINE for arm in evidence.arms),
        alpha=evidence.alpha / evidence.looks,
        df=Df(2.0) if len(evidence.arms) == 1 else Df.of(typical.df, most, is_borrowed=noise.borrowed is not None),
    )
    return None if found is None else Detectable(seeds=most, difference=found)


def _noise(measured: Measured) -> Noise:
    noise, borrowed = measured.noise, measured.noise.borrowed
    return Noise(
        sd=noise.sd,
        rho=noise.rho,
        paired_sd=noise.paired_sd,
        n=noise.n,
        prior_df=None if noise.sd is None else noise.prior_df,
        borrowed_sd=borrowed and borrowed.sd,
        borrowed_df=borrowed and borrowed.df,
        borrowed_from=borrowed and borrowed.source,
    )


def _turn(record: R, *fields: str) -> R:
    """With the sign of these fields changed; the ends of an interval change places."""
    update: dict[str, Any] = {}
    for name in fields:
        value = getattr(record, name)
        if isinstance(value, tuple):
            value = tuple(0.0 - one for one in value)
            update[name] = value[::-1] if name.endswith("interval") else value
        elif value is not None:
            update[name] = 0.0 - value
    return record.model_copy(update=update)


# --- Along one axis, and to a target ---


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
    limit = measured.evidence.guessing_loss
    return sum(math.isinf(value) or (limit is not None and value > limit) for value in measured.arm(index).values)


def find_failures(measured: Measured) -> tuple[Failures, ...]:
    """The arms with a failed run."""
    found = []
    for index, arm in enumerate(measured.evidence.arms):
        failures, n = num_failed(measured, index), len(arm.values)
        if failures:
            bound = robustness.lower_bound(failures, n, level=1 - measured.evidence.alpha)
            found.append(Failures(arm=arm.name, failures=failures, n=n, bound=bound))
    return tuple(found)


def find_robustness(measured: Measured) -> Robustness | None:
    """None without one logarithmic axis, or while the noise is unknown."""
    axis, evidence = measured.sweep, measured.evidence
    if axis is None or not axis.is_log or not measured.can_judge or measured.race is not None:
        return None
    rates_K, values_KN = np.array(axis.values), measured.values_KN
    band = robustness.band_within(rates_K, values_KN, evidence.min_effect)
    excess = robustness.lr_sensitivity(rates_K, values_KN, cap=evidence.guessing_loss)
    stable, unstable = robustness.stability(
        axis.values,
        [num_failed(measured, index) for index in range(len(evidence.arms))],
        [len(arm.values) for arm in evidence.arms],
        level=1 - evidence.alpha,
    )
    return Robustness(
        band=None if band is None else (band.low, band.high),
        band_factor=None if band is None else band.factor,
        band_is_bounded=None if band is None else (band.low_is_bounded, band.high_is_bounded),
        excess=None if excess is None else excess.difference,
        excess_interval=None if excess is None else excess.interval(1 - evidence.alpha),
        span=robustness.DECADE,
        stable_to=_failing(stable),
        unstable_from=_failing(unstable),
    )


def _failing(edge: robustness.Edge | None) -> Failing | None:
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
        n = len(arm.values)
        return Conservative(
            arm=arm.name,
            value=value,
            difference=pair and pair.difference,
            interval=interval,
            n=pair.n if pair else len(arm.search),
            num_runs=n,
            bound=robustness.upper_bound(0, n, level=1 - evidence.alpha),
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
    return robustness.median_time(
        [robustness.first_at_target(arm.evaluations.get(seed, ()), target) for seed in arm.search]
    )


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
    if not arm.is_finite or len(curves) < LEAST_BLOCKS:
        found = None
    else:
        found = robustness.first_cleared(curves, target, alpha=alpha)
    is_evaluated = bool(arm.evaluations) and all(arm.evaluations.values())
    return Cleared(
        arm=arm.name,
        is_shown=found is not None,
        updates=found.position if found is not None and math.isfinite(found.position) else None,
        mean=None if found is None else found.mean,
        p=None if found is None else found.p,
        n=len(arm.search),
        times=tuple(robustness.first_at_target(curve, target) for curve in curves) if is_evaluated else (),
    )


# --- What to use for which purpose ---


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
    changes = helping(judgement) if judgement.effects else None
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
