"""The core of the floor: evidence in, judgement out. Pure."""

from blueberry.judge.comparisons import compare
from blueberry.judge.doctor import audit
from blueberry.judge.evidence import Evidence
from blueberry.judge.judgement import Judgement
from blueberry.judge.measured import best_of, measure, noise_of, summarise
from blueberry.judge.ranges import find_ranges
from blueberry.judge.sentences import known, recommend, unknown


def weigh(evidence: Evidence) -> Judgement:
    """All that the evidence supports. Arms come back in ascending order where they lie on a numeric axis."""
    measured = measure(evidence)
    best = best_of(measured)
    verdicts = compare(measured)
    audits = audit(measured)
    evidence = measured.evidence
    return Judgement(
        question=evidence.question,
        metric=evidence.metric,
        min_effect=evidence.min_effect,
        alpha=evidence.alpha,
        vary=evidence.vary,
        arms=summarise(measured),
        noise=noise_of(measured),
        best=best,
        unresolved=tuple(measured.arm(index).name for index in measured.unresolved),
        ended=measured.race.ended if measured.race else None,
        optimum=measured.optimum,
        verdicts=verdicts,
        ranges=find_ranges(measured),
        audits=audits,
        recommendation=recommend(measured, best, verdicts, audits),
        cost=evidence.cost,
        known=known(measured, best, verdicts),
        unknown=unknown(measured, best, verdicts, audits),
    )
