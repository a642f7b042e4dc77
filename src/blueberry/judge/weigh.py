"""The core of the floor: evidence in, judgement out. Pure."""

from typing import Any, TypeVar

import numpy as np

from blueberry.judge.answers import AxisAnswer, Finding, Located
from blueberry.judge.audits import audit
from blueberry.judge.effects import find_effects, find_pooled, find_stack
from blueberry.judge.evidence import Evidence
from blueberry.judge.judgement import Judgement
from blueberry.judge.measured import best_of, detectable, measure, noise_of, summarise
from blueberry.judge.purposes import find_axis_answer, find_cleared, find_failures, find_ranges, find_robustness
from blueberry.judge.sentences import tell
from blueberry.judge.verdicts import compare

R = TypeVar("R", bound=Finding)


def weigh(evidence: Evidence) -> Judgement:
    """All that the evidence supports. Arms come back in ascending order where they lie on a numeric axis."""
    return tell(numbers(evidence))


def numbers(evidence: Evidence) -> Judgement:
    """The same without a sentence. Values and differences are in the metric's own unit and direction."""
    measured = measure(evidence)
    evidence = measured.evidence
    answer = find_axis_answer(measured)
    judgement = Judgement(
        **evidence.passed_on,
        axis=measured.axis,
        arms=summarise(measured),
        noise=noise_of(measured),
        detectable=detectable(measured),
        best=best_of(measured),
        unresolved=tuple(measured.arm(index).name for index in measured.unresolved),
        ended=measured.race.ended if measured.race else None,
        looks=measured.race.looks if measured.race else (),
        looks_taken=len(measured.race.taken) if measured.race else 0,
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
        effects=find_effects(measured),
        pooled=find_pooled(measured),
        robustness=find_robustness(measured),
        stack=find_stack(measured),
        findings=tuple(one for arm in evidence.arms for one in evidence.findings if one.arm == arm.name),
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
