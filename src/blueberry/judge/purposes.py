"""What to use for which purpose, each with the evidence for it or the reason why nothing is recommended."""

import math
from collections.abc import Sequence

from blueberry.judge import words
from blueberry.judge.evidence import BASELINE
from blueberry.judge.judgement import Best, Purpose, Ranges, Recommendation, Verdict
from blueberry.judge.measured import Measured
from blueberry.judge.ranges import is_unstable, time_to_target
from blueberry.stats.paired import paired
from blueberry.stats.robustness import lower_bound, upper_bound


def find_purposes(
    measured: Measured, best: Best | None, verdicts: Sequence[Verdict], recommendation: Recommendation, ranges: Ranges
) -> tuple[Purpose, ...]:
    """Production, conservative, fast and avoid, in this order. A blocked claim is withheld in the first three."""
    if recommendation.withheld is not None:
        withheld = [_not(name, recommendation.withheld) for name in ("production", "conservative", "fast")]
        return (*withheld, _avoid(measured, verdicts))
    return (
        _production(measured, best, recommendation),
        _conservative(measured, ranges),
        _fast(measured, ranges),
        _avoid(measured, verdicts),
    )


def _production(measured: Measured, best: Best | None, recommendation: Recommendation) -> Purpose:
    assert best is not None
    settings = recommendation.settings or {}
    metric = measured.evidence.metric
    if best.arm == BASELINE or best.settings != settings:  # the baseline is kept
        return Purpose(
            purpose="production",
            arms=(BASELINE,),
            settings=settings,
            evidence="no change was shown to beat the baseline",
        )
    if not best.confirmed:
        return _not("production", "the best arm was not run on fresh seeds, and the seeds that chose it flatter it")
    number = words.metric_value(best.mean, best.interval, metric)
    evidence = f"mean {metric} {number} on {words.count(best.n, 'fresh seed')}"
    others = len(measured.unresolved) - 1
    if others:
        evidence += f"; {words.count(others, 'other arm')} not told apart from it"
    return Purpose(purpose="production", arms=(best.arm,), settings=settings, evidence=evidence)


def _conservative(measured: Measured, ranges: Ranges) -> Purpose:
    if measured.axis is None:
        return _not("conservative", "it is the lowest of the values of one numeric setting, and there is not one")
    if ranges.conservative is None or measured.best is None:
        return _not("conservative", "no value was shown to be within min_effect of the best without a failure")
    evidence = measured.evidence
    index = measured.axis.values.index(ranges.conservative)
    arm = measured.arm(index)
    n = len(arm.search) + len(arm.confirm)
    bound = upper_bound(0, n, level=1 - evidence.alpha)
    said = f"0 of {words.count(n, 'run')} failed (at most {bound:.0%} would, one-sided {1 - evidence.alpha:.0%} bound)"
    if index == measured.best:
        said = f"no lower value was shown to be as good as this, the best; {said}"
    else:
        table = measured.values_KN
        pair = paired(table[measured.best], table[index], floor=measured.noise.floor)
        interval = pair.interval(1 - 2 * evidence.alpha / evidence.looks)
        assert pair.difference is not None
        number = words.difference(pair.difference, interval, evidence.metric)
        said = (
            f"{number} from the best on {words.count(pair.n, 'paired seed')}, less than {evidence.min_effect:g}; {said}"
        )
    return Purpose(purpose="conservative", arms=(arm.name,), settings=dict(arm.settings), evidence=said)


def _fast(measured: Measured, ranges: Ranges) -> Purpose:
    """A description, not a test: a short schedule may end elsewhere than the middle of a long one."""
    if measured.axis is None:
        return _not("fast", "it is one of the values of one numeric setting, and there is not one")
    if ranges.fast is None:
        return _not("fast", "no value was seen to reach the target before all others")
    target, times = time_to_target(measured)
    index = measured.axis.values.index(ranges.fast)
    arm, metric = measured.arm(index), measured.evidence.metric
    later = min(time for other, time in enumerate(times) if other != index)
    next_ = "no other value reaches it" if math.isinf(later) else f"the next needs {later:g}"
    seeds = words.count(len(arm.search), "seed")
    said = (
        f"first at {words.metric_value(target, None, metric)}, the highest mean of those that may be the best: after "
        f"{times[index]:g} updates (median of {seeds}; {next_}), within its own schedule; "
        "a schedule of that length may end elsewhere, and nothing was tested"
    )
    return Purpose(purpose="fast", arms=(arm.name,), settings=dict(arm.settings), evidence=said)


def _avoid(measured: Measured, verdicts: Sequence[Verdict]) -> Purpose:
    """What went wrong was seen, whatever else is withheld."""
    evidence = measured.evidence
    failed = [index for index in range(len(evidence.arms)) if is_unstable(measured, index)]
    if not failed:
        beaten = [v.b for v in verdicts if v.a == BASELINE and v.winner == BASELINE]
        if beaten:
            said = f"worse than the baseline: {words.listing(beaten)}"
            return Purpose(purpose="avoid", arms=tuple(beaten), evidence=said)
        return _not("avoid", "no run diverged or ended above the loss of guessing")
    arms = [measured.arm(index) for index in failed]
    first = arms[0]
    runs = [*first.search.values(), *first.confirm.values()]
    limit = evidence.guessing_loss
    bad = sum(math.isinf(value) or (limit is not None and value > limit) for value in runs)
    least = lower_bound(bad, len(runs), level=1 - evidence.alpha)
    said = f"{bad} of {words.count(len(runs), 'run')} of {first.name} failed (at least {least:.0%} would)"
    if measured.axis is None:
        if len(arms) > 1:
            said += f"; also {words.listing([arm.name for arm in arms[1:]])}"
        return Purpose(purpose="avoid", arms=tuple(arm.name for arm in arms), evidence=said)
    settings = {measured.axis.setting: measured.axis.values[failed[0]]}
    said += "; it is the lowest value at which one did"
    return Purpose(purpose="avoid", arms=tuple(arm.name for arm in arms), settings=settings, evidence=said)


def _not(purpose: str, because: str) -> Purpose:
    return Purpose.model_validate({"purpose": purpose, "because": because})
