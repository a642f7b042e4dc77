"""What to use for which purpose, in sentences: functions of a judgement's numbers."""

import math
from collections.abc import Callable

from blueberry.judge import words
from blueberry.judge.effects import helping
from blueberry.judge.judgement import BASELINE, Judgement, Purpose
from blueberry.stats.differences import t_quantile


def purposes(judgement: Judgement) -> tuple[Purpose, ...]:
    """What to use for which purpose, each with the evidence for it or the reason why nothing is supported.

    A blocked claim is withheld in all but what is to be avoided: what went wrong was seen. Conditions have none.
    """
    if judgement.is_across:
        return ()
    along = judgement.axis_answer is not None
    asked: dict[str, Callable[[Judgement], Purpose]] = {"production": _production}
    if along:
        asked |= {"conservative": _conservative, "fast": _fast}
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


def _conservative(judgement: Judgement) -> Purpose:
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


def _fast(judgement: Judgement) -> Purpose:
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
        withheld = judgement.recommendation.withheld if _tells_nobody_apart(judgement) else None
        return _not("avoid", withheld or "no run failed, and no arm was shown to be worse by what matters")
    arms = dict.fromkeys([*failed, *(arm for arms in worse.values() for arm in arms)])
    return Purpose(purpose="avoid", arms=tuple(arms), settings=settings, evidence="; ".join(said))


def _clearly_worse(judgement: Judgement) -> dict[str, list[str]]:
    """By what they are worse than. Empty where an audit blocks that arms are told apart."""
    if _tells_nobody_apart(judgement):
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


def _tells_nobody_apart(judgement: Judgement) -> bool:
    return any(audit.audit != "edge" for audit in judgement.blocks)


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
    sign = -1.0 if judgement.goal == "maximize" else 1.0
    sd = max(valley.sd, judgement.noise.sd or 0.0)
    trained = [arm for arm in judgement.arms if arm.n and arm.mean is not None]
    t = t_quantile(valley.df, judgement.alpha / max(len(trained), 1))
    return [
        arm.arm
        for arm in trained
        if sign * ((arm.mean or 0.0) - best.expected) - t * sd * math.sqrt(1 + 1 / arm.n) >= judgement.min_effect
    ]


def _not(purpose: str, because: str) -> Purpose:
    return Purpose.model_validate({"purpose": purpose, "because": because})
