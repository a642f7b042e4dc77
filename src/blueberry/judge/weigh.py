"""The core of the floor: evidence in, judgement out. Pure."""

from blueberry.judge.comparisons import compare
from blueberry.judge.doctor import audit
from blueberry.judge.effects import effects_sentence, find_effects, find_stack
from blueberry.judge.evidence import Evidence
from blueberry.judge.judgement import CurveFinding, Judgement
from blueberry.judge.measured import axis_of, best_of, measure, noise_of, summarise
from blueberry.judge.purposes import find_purposes
from blueberry.judge.ranges import find_ranges
from blueberry.judge.robustness import find_robustness
from blueberry.judge.sentences import known, recommend, unknown


def weigh(evidence: Evidence) -> Judgement:
    """All that the evidence supports. Arms come back in ascending order where they lie on a numeric axis."""
    measured = measure(evidence)
    best = best_of(measured)
    verdicts = compare(measured)
    audits = audit(measured)
    effects, stack = find_effects(measured), find_stack(measured)
    evidence = measured.evidence
    ranges, recommendation = find_ranges(measured), recommend(measured, best, verdicts, audits)
    return Judgement(
        question=evidence.question,
        metric=evidence.metric,
        min_effect=evidence.min_effect,
        alpha=evidence.alpha,
        vary=evidence.vary,
        axis=axis_of(evidence.vary, [arm.settings for arm in evidence.arms], evidence.scale),
        arms=summarise(measured),
        noise=noise_of(measured),
        best=best,
        unresolved=tuple(measured.arm(index).name for index in measured.unresolved),
        ended=measured.race.ended if measured.race else None,
        looks=measured.race.looks if measured.race else (),
        looks_taken=len(measured.race.taken) if measured.race else 0,
        optimum=measured.optimum,
        verdicts=verdicts,
        ranges=ranges,
        audits=audits,
        recommendation=recommendation,
        purposes=find_purposes(measured, best, verdicts, recommendation, ranges),
        cost=evidence.cost,
        known=" ".join([known(measured, best, verdicts, audits), *effects_sentence(measured, effects, stack, audits)]),
        unknown=unknown(measured, best, verdicts, audits),
        effects=effects,
        robustness=find_robustness(measured),
        stack=stack,
        findings=_in_order(evidence),
    )


def _in_order(evidence: Evidence) -> tuple[CurveFinding, ...]:
    """By arm, in the order of the arms."""
    return tuple(one for arm in evidence.arms for one in evidence.findings if one.arm == arm.name)
