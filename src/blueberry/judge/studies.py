"""A study or a table: what it asks, its evidence, its judgement; one of parts ([tune], [across]) by parts, then whole.

"tune": the arms are compared, each at its own best, on seeds that chose nothing within an arm.
"across": conditions are not compared: longer runs and larger models have lower losses, whatever else varies. Does the
first one's answer hold under the others, and what moves? That is the answer.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from blueberry.architecture import parameters
from blueberry.errors import TableError
from blueberry.judge import words
from blueberry.judge.across import ascending, condition_of, find_gains, find_laws, summary_of_condition
from blueberry.judge.answers import Covered, Gain
from blueberry.judge.audits import AUDITS, TOO_FEW
from blueberry.judge.audits.comparisons import EXTENSION, LEAST_AXIS_VALUES
from blueberry.judge.audits.design import objections
from blueberry.judge.evidence import ArmRuns, Evidence, axis_of
from blueberry.judge.gather import Asked, Texts, gather, no_texts, shared_text
from blueberry.judge.judgement import (
    Audit,
    CurveFinding,
    Judgement,
    Noise,
    Part,
    block,
    blocking_first,
    warn,
)
from blueberry.judge.judging import numbers, tell, weigh
from blueberry.judge.races import leading_arm, open_arms
from blueberry.records import RunResult, Stage, StudyRun, is_usable_number
from blueberry.stats.differences import best_arm
from blueberry.stats.noise import Borrowed
from blueberry.study.arms import Run
from blueberry.study.plan import Plan, Referee, as_planned, looks_of, study_runs
from blueberry.study.spec import Arm, Study
from blueberry.tables.columns import measures_no_text
from blueberry.tables.runs import TableRuns

REFEREE = Referee(open_arms, leading_arm)
"""Decides the races of studies, for their plans."""
MOST_SAID = 3
"""Findings of one audit that are said one by one; of more, the first and in how many parts."""
CARRIED = (
    "diverged",
    "dead-knob",
    "too-good",
    "drift",
    "eval-set",
    "passes",
    "budget",
    "confounded",
    "leak",
    "arithmetic",
)
"""Audits of the search for an arm's best that speak against its fresh seeds too."""


def judge(study: Study, results: Mapping[str, RunResult], plan: Plan, *, texts: Texts = no_texts) -> Judgement:
    """Judge a study by the runs of its plan that have ended.

    `results` by fingerprint. `texts` says what is known of the text that a recipe trains on; without it the audits
    `too-good` and `passes` stay silent.
    Raises: StudyError if a completed run has not the study's metric.
    """
    if not study.parts:
        return weigh(gather_study(study, results, plan, texts=texts))
    parts = [
        Part(
            name=part.name,
            settings=dict(arm.settings),
            covers=_covers(part),
            judgement=weigh(gather_study(part, results, plan.parts[part.name], texts=texts)),
        )
        for arm, part in zip(study.arms, study.parts, strict=True)
    ]
    whole = gather_study(study, results, plan, texts=texts)
    if study.joined == "across":
        recipes = {(part.name, arm.name): arm.recipe for part in study.parts for arm in part.arms}
        return _across(whole, parts, gains=find_gains(whole, parts, recipes))
    return _tuned(whole, parts, _tuned_arms(study, results, plan))


def judge_table(
    found: TableRuns,
    *,
    min_effect: float = 0.005,
    alpha: float = 0.05,
    borrowed: Borrowed | None = None,
    target: float | None = None,
) -> Judgement:
    """Judge the runs of a table as those of a study are. Numbers are in the metric's unit, but for `alpha`.

    Raises: TableError for a min_effect or alpha that is none.
    """
    asked: dict[str, Any] = {"min_effect": min_effect, "alpha": alpha, "borrowed": borrowed, "target": target}
    whole = gather_table(found, **asked)
    if not found.parts:
        return weigh(whole)
    if found.joined == "across":
        return _across(whole, [as_part(judge_table(one.found, **asked), one.name, one.settings) for one in found.parts])
    searches = [gather_table(one.found, chooses=("search",), **asked) for one in found.parts]
    each = list(zip(found.parts, searches, strict=True))
    parts = [as_part(weigh(searched), one.name, one.settings) for one, searched in each]
    arms = [_at_own_best(one.name, one.settings, searched) for one, searched in each]
    is_seeded = any(searched.is_seeded for searched in searches)
    if not is_seeded:  # with numbers that no other arm has
        number = itertools.count()
        arms = [replace(arm, search={next(number): value for value in arm.search.values()}) for arm in arms]
    audits = (*whole.audits, *_unequal_efforts(parts))
    return _tuned(replace(whole, is_seeded=is_seeded, audits=audits), parts, tuple(arms))


def as_part(judgement: Judgement, name: str = "", settings: Mapping[str, Any] | None = None) -> Part:
    """With how far its axes reach."""
    inner = [arm.settings for part in judgement.parts for arm in part.judgement.arms]
    each = [arm.settings for arm in judgement.arms]
    own = {*judgement.vary, *(name for part in judgement.parts for name in part.judgement.vary)}
    covers = [_covered(setting, [one.get(setting) for one in [*each, *inner]]) for setting in sorted(own)]
    return Part(name=name, settings=dict(settings or {}), covers=tuple(c for c in covers if c), judgement=judgement)


def _across(whole: Evidence, parts: Sequence[Part], *, gains: tuple[Gain, ...] = ()) -> Judgement:
    """What the conditions say together. `whole` has no arms: question, cost and findings in parts."""
    inorder = ascending(parts, whole.vary)
    laws = find_laws(whole, inorder)
    said = _objections(parts, _beside_a_law if laws else _of_a_condition, whole.audits)
    found = Judgement(
        **whole.passed_on,
        axis=axis_of(whole.vary, [part.settings for part in inorder]),
        arms=tuple(summary_of_condition(part) for part in inorder),
        noise=Noise(sd=None, rho=None, paired_sd=None, n=sum(part.judgement.noise.n for part in parts)),
        audits=blocking_first([*whole.audits, *said]),
        parts=tuple(inorder),
        conditions=tuple(condition_of(inorder[0].judgement, part) for part in inorder),
        laws=laws,
        gains=gains,
        findings=_warnings(inorder),
    )
    return tell(found)


def _tuned(whole: Evidence, parts: Sequence[Part], arms: tuple[ArmRuns, ...]) -> Judgement:
    """Whatever way each arm searched, all are compared on one number of seeds."""
    compared = numbers(replace(whole, arms=arms, looks=1, look_seeds=()))
    said = _objections(parts, lambda part: of_an_arm(part, compared), compared.audits)
    found = {"parts": tuple(parts), "findings": _warnings(parts), "audits": blocking_first([*compared.audits, *said])}
    return tell(compared.model_copy(update=found))


def _at_own_best(name: str, settings: Mapping[str, Any], searched: Evidence) -> ArmRuns:
    """An arm of a table at the best of its tuned values: on fresh seeds where the table has any, else on those that
    chose it, which flatter arms alike that had as many values to choose from.

    What was measured of that, and of leaving out one seed at a time: docs/log.md.
    """
    sign = -1.0 if searched.goal == "maximize" else 1.0
    seeds = sorted({seed for arm in searched.arms for seed in arm.search})
    values_KN = np.array([[sign * arm.search.get(seed, math.nan) for seed in seeds] for arm in searched.arms])
    row = best_arm(values_KN) if seeds else None
    if row is None:
        worst = {seed: sign * math.inf for seed in seeds if np.isinf(values_KN[:, seeds.index(seed)]).any()}
        return ArmRuns(name=name, settings=settings, search=worst)
    leader = searched.arms[row]
    measured, fresh = _compared(leader, leader.confirm) if leader.confirm else (leader.search, {})
    facts = tuple(
        replace(one, settings={other: value for other, value in one.settings.items() if other not in settings})
        for one in leader.facts
    )
    settings = {**settings, **leader.settings}
    return replace(leader, name=name, settings=settings, search=measured, confirm=fresh, facts=facts)


def _compared(leader: ArmRuns, fresh: Mapping[int, float]) -> tuple[dict[int, float], dict[int, float]]:
    """Of the runs that chose nothing, those that compare the arm with others, and those that confirm it."""
    seeds = {one.seed for one in leader.facts if one.stage == "compare"}
    compared = {seed: value for seed, value in fresh.items() if seed in seeds} or dict(fresh)
    return compared, {seed: value for seed, value in fresh.items() if seed not in compared}


def _unequal_efforts(parts: Sequence[Part]) -> list[Audit]:
    """Arms that were not tuned, or less than others: who searches longer finds more."""
    tried = {part.name: len(part.judgement.arms) for part in parts}
    least, most = min(tried.values()), max(tried.values())
    if least == most:
        return []
    few, many = ([name for name, count in tried.items() if count == end] for end in (least, most))
    message = (
        f"{words.listing(few)} {'was' if len(few) == 1 else 'were'} tried at {words.count(least, 'value')} of what is "
        f"tuned, {words.listing(many)} at {most}: an arm that searches longer finds a better best"
    )
    say = block if least == 1 else warn
    return [say("one-rate", message, "give every arm the same values to choose from")]


def _warnings(parts: Sequence[Part]) -> tuple[CurveFinding, ...]:
    """What the learning curves of the parts warn of, each with the part before the arm."""
    return tuple(
        finding.model_copy(update={"arm": f"{part.name}: {finding.arm}"})
        for part in parts
        for finding in part.judgement.findings
        if finding.severity == "warn"
    )


def _covers(part: Study) -> tuple[Covered, ...]:
    """How far each numeric axis reaches: what a search has looked at, and what not."""
    found = []
    for axis in part.axes:
        more = [arm.settings[axis.setting] for arm in part.arms] if axis.is_range else []
        found.append(_covered(axis.setting, [*axis.values, *more]))
    return tuple(one for one in found if one is not None)


def _covered(setting: str, values: Sequence[Any]) -> Covered | None:
    """None unless all of them are numbers."""
    if not all(is_usable_number(value) for value in values):
        return None
    low, high, num_values = float(min(values)), float(max(values)), len(set(values))
    decades = math.log10(high / low) if low > 0 else None
    return Covered(setting=setting, low=low, high=high, num_values=num_values, decades=decades)


def _tuned_arms(study: Study, results: Mapping[str, RunResult], plan: Plan) -> tuple[ArmRuns, ...]:
    """Each part as one arm: its own best values, measured on the seeds of the comparison.

    An arm whose every value diverged has no best: it diverged on every seed of the search.
    """
    arms = []
    for arm, part in zip(study.arms, study.parts, strict=True):
        leader = next((one for one in part.arms if one.name == plan.parts[part.name].leader), None)
        if leader is None:
            arms.append(_without_best(study, arm, part, plan.parts[part.name]))
            continue
        runs = [run for run in plan.runs if run.part == part.name and run.arm == leader.name and run.stage != "search"]
        measured = arm_runs(part, leader, results, runs, chooses=("compare",))
        arms.append(replace(measured, name=arm.name, settings={**arm.settings, **leader.settings}))
    return tuple(arms)


def _without_best(study: Study, arm: Arm, part: Study, plan: Plan) -> ArmRuns:
    nothing = ArmRuns(name=arm.name, settings=arm.settings, search={})
    if plan.num_undecided or plan.todo:
        return nothing
    worst = -math.inf if study.goal == "maximize" else math.inf
    return replace(nothing, search={part.base.seed + part.seeds.max + i: worst for i in range(part.seeds.confirm)})


def _objections(parts: Sequence[Part], means: Callable[[Part], list[Audit]], known: Sequence[Audit]) -> list[Audit]:
    """What the parts' own audits mean for the whole: each finding once, with the parts in which it was made."""
    where: dict[Audit, list[str]] = {}
    for part in parts:
        for audit in means(part):
            if audit not in known:
                where.setdefault(audit, []).append(part.name)
    alike: dict[tuple[str, str], list[Audit]] = {}
    for audit in where:
        alike.setdefault((audit.audit, audit.severity), []).append(audit)
    found = []
    for some in alike.values():
        if len(some) <= MOST_SAID:
            found += [_in_parts(audit, words.listing(where[audit])) for audit in some]
        else:
            names = list(dict.fromkeys(name for audit in some for name in where[audit]))
            found.append(_in_parts(some[0], f"{len(names)} of {len(parts)} parts, first {where[some[0]][0]}"))
    return found


def _in_parts(audit: Audit, which: str) -> Audit:
    return audit.model_copy(update={"message": f"{which}: {audit.message}"})


def _of_a_condition(part: Part) -> list[Audit]:
    """All that was found in its runs: its best is claimed as that of a study by itself would be."""
    return [audit for audit in part.judgement.audits if audit.audit in AUDITS]


def _beside_a_law(part: Part) -> list[Audit]:
    """The same where a law is claimed: its noise is the scatter of the conditions about it, so that single runs, which
    tell no arm of a condition from another, do not stand against it."""
    said = _of_a_condition(part)
    return [one.model_copy(update={"severity": "warn"}) if TOO_FEW in one.message else one for one in said]


def of_an_arm(part: Part, whole: Judgement) -> list[Audit]:
    """At the end of its range an arm is not at its own best: nothing is claimed of it then, nor of the best arm if it
    may be that one. An arm that is far behind is no reason to doubt the others.

    Too few searching seeds, or neighbours that are not told apart, cost an arm a little, and its fresh seeds show what
    it costs: that is no objection.
    """
    judgement, best = part.judgement, part.judgement.best
    kept = [audit for audit in judgement.audits if audit.audit in CARRIED]
    if best is None:
        return kept
    if judgement.located is not None:  # its own audit knows the limits of the range
        return [*kept, *(audit for audit in judgement.audits if audit.audit == "edge")]
    for covered in part.covers:
        value, ends = best.settings.get(covered.setting), (covered.low, covered.high)
        if covered.num_values < LEAST_AXIS_VALUES or value not in ends or value == 0:
            continue
        which = "smallest" if value == covered.low else "largest"
        what = f"the best {covered.setting}, {words.setting_value(value)}, is the {which} tried, "
        remedy = f"extend {covered.setting} {'down' if which == 'smallest' else 'up'} and run again"
        if _stays_behind(part, which, whole):
            beyond = f"its own best may lie beyond; {EXTENSION} steps as steep as the last would leave it behind"
            kept.append(warn("edge", f"{what}so {beyond}", remedy))
        else:
            kept.append(block("edge", f"{what}so an arm's own best may lie beyond", remedy))
    return kept


def _stays_behind(part: Part, which: str, whole: Judgement) -> bool:
    """Whether an arm is shown to be worse than the best by more than further values would gain, each as much as the
    last one tried: along a valley each gains less."""
    verdict, judgement = whole.against_best(part.name), part.judgement
    if verdict is None or verdict.winner != verdict.a or verdict.interval is None or judgement.sweep is None:
        return False
    ends = [arm.mean for arm in judgement.arms[:2]] if which == "smallest" else [a.mean for a in judgement.arms[:-3:-1]]
    if None in ends or len(ends) < 2:
        return False
    last, before = (mean or 0.0 for mean in ends)
    gain = abs(before - last)
    return min(map(abs, verdict.interval)) > EXTENSION * gain


# --- What is asked, and the evidence ---


def gather_study(
    study: Study,
    results: Mapping[str, RunResult],
    planned: Plan,
    *,
    texts: Texts = no_texts,
    reads_curves: bool = True,
) -> Evidence:
    """The evidence of a study; of one made of parts, all but its arms.

    `results` by fingerprint: each is asked for once, arm by arm. `texts` says what is known of the text that a recipe
    trains on. `reads_curves`: whether findings in learning curves are asked for.
    Raises: StudyError if a completed run has not the study's metric.
    """
    study = as_planned(study, planned)
    axis = study.axes[0] if len(study.axes) == 1 else None
    search = planned.search
    has_raced = study.method == "race" or (search is not None and search.is_broken and not study.strategy.runs)
    looks = looks_of(study.seeds.search, study.seeds.max) if has_raced else ()
    own = study.trainer is None
    recipes = {("", arm.name): arm.recipe for arm in study.arms} if not study.parts else {}
    recipes |= {(part.name, arm.name): arm.recipe for part in study.parts for arm in part.arms}
    found = [one for one in objections(study) if one.audit not in ("seeds", "curse")]  # the runs say those again
    evidence = replace(
        _question(study),
        looks=max(len(looks), 1),
        look_seeds=looks,
        search=search,
        reach=_reach(study),
        scale=axis.scale if axis is not None and axis.scale != "list" else None,
        num_unfinished=len(planned.runs)
        - sum(run.fingerprint in results for run in planned.runs)
        + planned.num_undecided,
        at_one_rate=_at_one_rate(study),
        audits=(
            *found,
            *(shared_text([arm.recipe for arm in study.trained_arms], texts) if own and len(planned.ended) else ()),
        ),
    )
    arms = {} if study.parts else {arm.name: arm for arm in study.arms}
    asked = Asked(evidence, str(study.path), arms, recipes=recipes if own else {}, reads_curves=reads_curves)
    return gather(study_runs(study, planned, results), asked, texts)


def _question(study: Study) -> Evidence:
    """What a study file asks."""
    return Evidence(
        question=study.question,
        metric=study.metric,
        min_effect=study.min_effect,
        alpha=study.alpha,
        vary=study.varied,
        arms=(),
        goal=study.goal,
        target=study.target,
        source="study" if study.trainer is None else "program",
    )


def arm_runs(
    study: Study,
    arm: Arm,
    results: Mapping[str, RunResult],
    runs: Iterable[Run],
    *,
    chooses: Collection[Stage] = ("search",),
) -> ArmRuns:
    """One arm's evidence from its runs. `chooses` are the stages whose seeds compare it with others."""
    asked = Asked(_question(study), str(study.path), {arm.name: arm}, chooses)
    known = (
        StudyRun(arm.name, run.seed, run.stage, results[run.fingerprint], arm.settings)
        for run in runs
        if run.fingerprint in results
    )
    return gather(known, asked).arms[0]


def gather_table(
    found: TableRuns,
    *,
    min_effect: float = 0.005,
    alpha: float = 0.05,
    borrowed: Borrowed | None = None,
    target: float | None = None,
    chooses: Collection[Stage] = ("search", "compare"),
) -> Evidence:
    """The evidence of a table's runs; of one made of parts, all but its arms. `min_effect` and
    `borrowed` are in the metric's unit.

    Raises: TableError for a min_effect, alpha or target that is none.
    """
    if not 0 < min_effect < math.inf:
        raise TableError(f"min_effect: {min_effect!r}; must be a number above 0; change it")
    if not 0 < alpha < 0.5:
        raise TableError(f"alpha: {alpha!r}; must be a number above 0 and below 0.5; change it")
    if target is not None and not math.isfinite(target):
        raise TableError(f"target: {target!r}; must be a number that runs can clear; change it")
    evidence = Evidence(
        question=_question_of(found),
        metric=found.metric,
        min_effect=min_effect,
        alpha=alpha,
        vary=found.vary,
        arms=(),
        goal=found.goal,
        source="table",
        borrowed=borrowed,
        target=target,
        names_arms=found.names_arms,
        loop=found.table.path if found.table.is_of_a_loop else None,
        num_unfinished=len(found.unfinished),
        states_success=found.states_success,
        is_of_text=not any(measures_no_text(name) for name in found.table.columns),
    )
    asked = Asked(evidence, found.table.path, dict.fromkeys(found.arms), chooses=chooses)
    place = {name: number for number, name in enumerate(found.arms)}
    return gather(sorted(found.runs, key=lambda run: place.get(run.arm, 0)), asked)


def _question_of(found: TableRuns) -> str:
    most = "least" if found.goal == "minimize" else "most"
    has = f"has the {most} {found.metric}"
    inside = found.parts[0].found if found.parts else found
    if found.joined == "across":
        what, by = _names(inside.vary), _names(found.vary)
        return f"Which {what} {has} in {found.table.name}, and how does it move with {by}?"
    own = f", each at its own best {_names(inside.vary)}," if found.joined == "tune" else ""
    return f"Which {_names(found.vary)}{own} {has} in {found.table.name}{found.where}?"


def _names(columns: Sequence[str]) -> str:
    return " and ".join(name.rpartition(".")[2].replace("_", " ") for name in columns)


def _at_one_rate(study: Study) -> tuple[str, ...]:
    if study.joined or any(words.is_rate(name) for name in study.varied):
        return ()
    resized = len({parameters(arm.recipe).total for arm in study.arms}) > 1
    model = [n for n in study.varied if n.startswith("model.") and (resized or n.endswith(".kind"))]
    return (*model, *(name for name in study.varied if name == "schedule.kind"))


def _reach(study: Study) -> dict[str, tuple[float, float]]:
    """The ends of each numeric range that proposals are made from."""
    if study.method != "optuna":
        return {}
    numeric = [axis for axis in study.axes if all(is_usable_number(value) for value in axis.values)]
    return {axis.setting: (float(min(axis.values)), float(max(axis.values))) for axis in numeric}
