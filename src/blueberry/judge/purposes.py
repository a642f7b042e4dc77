"""What to use for which purpose, in sentences: functions of a judgement's numbers."""

import math
from collections.abc import Callable

from blueberry.judge import words
from blueberry.judge.judgement import BASELINE, Judgement, Purpose


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
    found = [_not(name, withheld) if withheld is not None else say(judgement) for name, say in asked.items()]
    return (*found, _avoid(judgement))


def _production(judgement: Judgement) -> Purpose:
    best, settings = judgement.best, judgement.recommendation.settings or {}
    if best is None or best.arm == BASELINE or best.settings != settings:  # the baseline is kept
        return Purpose(
            purpose="production",
            arms=(BASELINE,),
            settings=settings,
            evidence="no change was shown to beat the baseline",
        )
    if not best.confirmed:
        return _not("production", "the best arm was not run on fresh seeds, and the seeds that chose it flatter it")
    number = words.metric_value(best.mean, best.interval, judgement.metric, judgement.min_effect)
    evidence = f"mean {judgement.metric} {number} on {words.count(best.n, 'fresh seed')}"
    others = len(judgement.unresolved) - 1
    if others:
        evidence += f"; {words.count(others, 'other arm')} not told apart from it"
    return Purpose(purpose="production", arms=(best.arm,), settings=settings, evidence=evidence)


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
    if not judgement.failures:
        beaten = [v.b for v in judgement.verdicts if v.a == BASELINE and v.winner == BASELINE]
        if beaten:
            said = f"worse than the baseline: {words.listing(beaten)}"
            return Purpose(purpose="avoid", arms=tuple(beaten), evidence=said)
        return _not("avoid", "no run diverged or ended above the loss of guessing")
    arms, first = tuple(one.arm for one in judgement.failures), judgement.failures[0]
    said = f"{first.failures} of {words.count(first.n, 'run')} of {first.arm} failed (at least {first.bound:.0%} would)"
    axis = judgement.sweep
    if axis is None:
        if len(arms) > 1:
            said += f"; also {words.listing(arms[1:])}"
        return Purpose(purpose="avoid", arms=arms, evidence=said)
    settings = {axis.setting: float(judgement.arm(first.arm).settings[axis.setting])}
    return Purpose(
        purpose="avoid", arms=arms, settings=settings, evidence=f"{said}; it is the lowest value at which one did"
    )


def _not(purpose: str, because: str) -> Purpose:
    return Purpose.model_validate({"purpose": purpose, "because": because})
