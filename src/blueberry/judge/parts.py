"""A study made of parts: each part judged as any study, then all of them together.

"tune": the arms are compared, each at its own best, on seeds that chose nothing within an arm.
"across": conditions are not compared; what the answer does from one condition to the next is the answer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from blueberry.judge import words
from blueberry.judge.answers import Covered
from blueberry.judge.conditions import carry
from blueberry.judge.doctor.findings import block
from blueberry.judge.doctor.results import AUDITS
from blueberry.judge.evidence import ArmRuns
from blueberry.judge.from_study import Texts, arm_runs, gather, no_texts
from blueberry.judge.gains import find_gains
from blueberry.judge.judgement import Audit, Judgement, Part
from blueberry.judge.weigh import weigh
from blueberry.records import RunResult
from blueberry.study.plan import Plan
from blueberry.study.spec import Arm, Study

LEAST_AXIS_VALUES = 3


def judge(study: Study, results: Mapping[str, RunResult], plan: Plan, *, texts: Texts = no_texts) -> Judgement:
    """Judge a study by the runs of its plan that have ended.

    `results` by fingerprint. `texts` says what is known of the text that a recipe trains on; without it the audits
    `too-good` and `passes` stay silent.
    Raises: StudyError if a completed run has not the study's metric.
    """
    if not study.parts:
        return weigh(gather(study, results, plan, texts=texts))
    parts = tuple(_part(arm, part, results, plan.parts[part.name], texts) for arm, part in _parts(study))
    whole = gather(study, results, plan, texts=texts)
    means = of_an_arm if study.joined == "tune" else _of_a_condition
    whole = replace(whole, audits=(*whole.audits, *_objections(parts, means, whole.audits)))
    if study.joined == "tune":  # whatever way each arm searched, all are compared on one number of fresh seeds
        judgement = weigh(replace(whole, arms=_tuned_arms(study, results, plan), looks=1, look_seeds=()))
    else:
        judgement = carry(whole, parts).model_copy(update={"gains": find_gains(study, parts)})
    return judgement.model_copy(update={"parts": parts})


def _parts(study: Study) -> list[tuple[Arm, Study]]:
    """Each part with the arm or condition that it stands for."""
    return list(zip(study.arms, study.parts, strict=True))


def _part(arm: Arm, part: Study, results: Mapping[str, RunResult], plan: Plan, texts: Texts) -> Part:
    judgement = weigh(gather(part, results, plan, texts=texts))
    return Part(name=part.name, settings=dict(arm.settings), covers=_covers(part), judgement=judgement)


def _covers(part: Study) -> tuple[Covered, ...]:
    """How far each numeric axis reaches: what a search has looked at, and what not."""
    found = []
    for axis in part.axes:
        numbers = [float(v) for v in axis.values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if len(numbers) < len(axis.values):
            continue
        low, high = min(numbers), max(numbers)
        decades = math.log10(high / low) if low > 0 else None
        found.append(Covered(setting=axis.setting, low=low, high=high, num_values=len(numbers), decades=decades))
    return tuple(found)


def _tuned_arms(study: Study, results: Mapping[str, RunResult], plan: Plan) -> tuple[ArmRuns, ...]:
    """Each part as one arm: its own best values, measured on the seeds of the comparison.

    An arm whose every value diverged has no best: it diverged on every seed of the search.
    """
    arms = []
    for arm, part in _parts(study):
        leader = next((one for one in part.arms if one.name == plan.parts[part.name].leader), None)
        if leader is None:
            arms.append(_without_best(arm, part, plan.parts[part.name]))
            continue
        runs = [run for run in plan.runs if run.part == part.name and run.arm == leader.name and run.stage != "search"]
        measured = arm_runs(part, leader, results, runs, chooses=("compare",))
        arms.append(replace(measured, name=arm.name, settings={**arm.settings, **leader.settings}))
    return tuple(arms)


def _without_best(arm: Arm, part: Study, plan: Plan) -> ArmRuns:
    nothing = ArmRuns(name=arm.name, settings=arm.settings, search={})
    if plan.num_undecided or plan.todo:
        return nothing
    return replace(nothing, search={part.base.seed + part.seeds.max + i: math.inf for i in range(part.seeds.confirm)})


def _objections(parts: Sequence[Part], means: Callable[[Part], list[Audit]], known: Sequence[Audit]) -> list[Audit]:
    """What the parts' own audits mean for the whole: each finding once, with the parts in which it was made."""
    where: dict[Audit, list[str]] = {}
    for part in parts:
        for audit in means(part):
            if audit not in known:
                where.setdefault(audit, []).append(part.name)
    return [
        audit.model_copy(update={"message": f"{words.listing(names)}: {audit.message}"})
        for audit, names in where.items()
    ]


def _of_a_condition(part: Part) -> list[Audit]:
    """All that was found in its runs: its best is claimed as that of a study by itself would be."""
    return [audit for audit in part.judgement.audits if audit.audit in AUDITS]


def of_an_arm(part: Part) -> list[Audit]:
    """At the end of its range an arm is not at its own best.

    Too few searching seeds, or neighbours that are not told apart, cost an arm a little, and its fresh seeds show what
    it costs: that is no objection.
    """
    judgement, best = part.judgement, part.judgement.best
    kept = [
        audit
        for audit in judgement.audits
        if audit.audit in ("diverged", "dead-knob", "too-good", "drift", "eval-set", "passes")
    ]
    if best is None:
        return kept
    for covered in part.covers:
        value, ends = best.settings.get(covered.setting), (covered.low, covered.high)
        if covered.num_values < LEAST_AXIS_VALUES or value not in ends or value == 0:
            continue
        which = "smallest" if value == covered.low else "largest"
        kept.append(
            block(
                "edge",
                f"the best {covered.setting}, {words.setting_value(value)}, is the {which} tried, "
                "so an arm's own best may lie beyond",
                f"extend {covered.setting} {'down' if which == 'smallest' else 'up'} and run again",
            )
        )
    return kept
