"""A study made of parts: each part judged as any study, then all of them together.

"tune": the arms are compared, each at its own best, on seeds that chose nothing within an arm.
"across": conditions are not compared: longer runs and larger models have lower losses, whatever else varies. Does the
first one's answer hold under the others, and what moves? That is the answer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from blueberry.architecture import flops_per_token
from blueberry.judge import race, words
from blueberry.judge.answers import Condition, Covered, Gain, HeldOut, Holds, Law
from blueberry.judge.audits import LEAST_AXIS_VALUES, block, blocking_first
from blueberry.judge.audits.runs import AUDITS
from blueberry.judge.evidence import BASELINE, ArmRuns, Evidence
from blueberry.judge.gather import Texts, arm_runs, gather_study, no_texts
from blueberry.judge.judgement import (
    ArmSummary,
    Audit,
    CurveFinding,
    Judgement,
    Noise,
    Optimum,
    Part,
    Ranges,
    Verdict,
)
from blueberry.judge.measured import axis_of
from blueberry.judge.sentences import best_value, tell
from blueberry.judge.weigh import numbers, weigh
from blueberry.recipe import LENGTHS
from blueberry.records import RunResult
from blueberry.stats.scaling import LEAST_POINTS, PowerLaw, effective_speedup, fit_power_law
from blueberry.study.arms import is_usable_number
from blueberry.study.plan import Plan, Referee
from blueberry.study.spec import Arm, Study

REFEREE = Referee(race.open_arms, race.leading_arm)
"""Decides the races of studies, for their plans."""
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
    parts = tuple(_part(arm, part, results, plan.parts[part.name], texts) for arm, part in _parts(study))
    whole = gather_study(study, results, plan, texts=texts)
    means = of_an_arm if study.joined == "tune" else _of_a_condition
    whole = replace(whole, audits=(*whole.audits, *_objections(parts, means, whole.audits)))
    if study.joined == "across":
        return tell(carry(whole, parts, gains=find_gains(study, parts)))
    # whatever way each arm searched, all are compared on one number of fresh seeds
    compared = numbers(replace(whole, arms=_tuned_arms(study, results, plan), looks=1, look_seeds=()))
    return tell(compared.model_copy(update={"parts": parts, "findings": _warnings(parts)}))


def _warnings(parts: Sequence[Part]) -> tuple[CurveFinding, ...]:
    """What the learning curves of the parts warn of, each with the part before the arm."""
    return tuple(
        finding.model_copy(update={"arm": f"{part.name}: {finding.arm}"})
        for part in parts
        for finding in part.judgement.findings
        if finding.severity == "warn"
    )


def _parts(study: Study) -> list[tuple[Arm, Study]]:
    """Each part with the arm or condition that it stands for."""
    return list(zip(study.arms, study.parts, strict=True))


def _part(arm: Arm, part: Study, results: Mapping[str, RunResult], plan: Plan, texts: Texts) -> Part:
    judgement = weigh(gather_study(part, results, plan, texts=texts))
    return Part(name=part.name, settings=dict(arm.settings), covers=_covers(part), judgement=judgement)


def _covers(part: Study) -> tuple[Covered, ...]:
    """How far each numeric axis reaches: what a search has looked at, and what not."""
    found = []
    for axis in part.axes:
        if not all(is_usable_number(value) for value in axis.values):
            continue
        values = {*axis.values, *(arm.settings[axis.setting] for arm in part.arms)} if axis.is_range else axis.values
        low, high = float(min(values)), float(max(values))
        decades = math.log10(high / low) if low > 0 else None
        found.append(Covered(setting=axis.setting, low=low, high=high, num_values=len(values), decades=decades))
    return tuple(found)


def _tuned_arms(study: Study, results: Mapping[str, RunResult], plan: Plan) -> tuple[ArmRuns, ...]:
    """Each part as one arm: its own best values, measured on the seeds of the comparison.

    An arm whose every value diverged has no best: it diverged on every seed of the search.
    """
    arms = []
    for arm, part in _parts(study):
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
        kept.append(
            block(
                "edge",
                f"the best {covered.setting}, {words.setting_value(value)}, is the {which} tried, "
                "so an arm's own best may lie beyond",
                f"extend {covered.setting} {'down' if which == 'smallest' else 'up'} and run again",
            )
        )
    return kept


def carry(whole: Evidence, parts: Sequence[Part], *, gains: tuple[Gain, ...] = ()) -> Judgement:
    """What the conditions say together, in numbers. `whole` has no arms: question, cost and findings in parts."""
    parts = _ascending(parts, whole.vary)
    return Judgement(
        question=whole.question,
        metric=whole.metric,
        goal=whole.goal,
        min_effect=whole.min_effect,
        alpha=whole.alpha,
        vary=whole.vary,
        axis=axis_of(whole.vary, [part.settings for part in parts]),
        arms=tuple(_summary(part) for part in parts),
        noise=Noise(sd=None, rho=None, paired_sd=None, n=sum(part.judgement.noise.n for part in parts)),
        num_unfinished=whole.num_unfinished,
        best=None,
        unresolved=(),
        optimum=None,
        verdicts=(),
        ranges=Ranges(),
        audits=blocking_first(whole.audits),
        cost=whole.cost,
        parts=tuple(parts),
        conditions=tuple(_condition(parts[0].judgement, part) for part in parts),
        laws=_laws(whole, parts),
        gains=gains,
        findings=_warnings(parts),
    )


def _ascending(parts: Sequence[Part], across: Sequence[str]) -> list[Part]:
    """Along the one numeric setting of the conditions, if it is one; else in the order of the file."""
    sizes = [_size(part, across) for part in parts]
    if any(size is None for size in sizes):
        return list(parts)
    return sorted(parts, key=lambda part: _size(part, across) or 0.0)


def _size(part: Part, across: Sequence[str]) -> float | None:
    value = part.settings.get(across[0]) if len(across) == 1 else None
    return float(value) if is_usable_number(value) else None


def _condition(first: Judgement, part: Part) -> Condition:
    judgement = part.judgement
    carried = first.best.arm if first.best else None
    kept = None if carried is None else _kept(judgement, carried)
    if judgement.located is not None and carried is not None:
        return _located_condition(judgement, part, carried, best_value(first))
    found = judgement.optimum
    return Condition(
        condition=part.name,
        settings=part.settings,
        best=judgement.best.arm if judgement.best else None,
        best_value=best_value(judgement),
        optimum=found.interval if isinstance(found, Optimum) else None,
        carried=carried,
        difference=kept.difference if kept else None,
        interval=kept.interval if kept else None,
        n=kept.n if kept else 0,
        holds=_holds(judgement, carried, kept),
    )


def _located_condition(judgement: Judgement, part: Part, carried: str, value: float | None) -> Condition:
    """Where the best was read off a valley, so is what another value costs: nothing need have been trained there."""
    best, valley, found = judgement.best, judgement.valley, judgement.optimum
    point = valley.at(value) if valley is not None and value is not None else None
    here = valley.at(best_value(judgement) or math.nan) if valley is not None and best is not None else None
    holds: Holds | None = None
    if valley is not None and value is not None:
        is_inside = valley.interval[0] <= value <= valley.interval[1]
        is_tie = point is not None and point.excess <= judgement.min_effect
        holds = "best" if best and best.arm == carried else "tie" if is_tie else "open" if is_inside else "worse"
    return Condition(
        condition=part.name,
        settings=part.settings,
        best=best.arm if best else None,
        best_value=best_value(judgement),
        optimum=found.interval if isinstance(found, Optimum) else None,
        carried=carried,
        difference=point.expected - here.expected if point is not None and here is not None else None,
        interval=None,
        n=judgement.located.seeds if judgement.located else 0,
        holds=holds,
    )


def _kept(judgement: Judgement, carried: str) -> Verdict | None:
    """The best arm here (a) against the one carried over (b)."""
    if judgement.best is None:
        return None
    if judgement.best.arm == carried:
        n = next(arm.n for arm in judgement.arms if arm.arm == carried)
        nothing = {"interval": None, "verdict": "tie", "winner": None, "more_seeds": None}
        return Verdict(a=carried, b=carried, difference=0.0, n=n, **nothing)
    return judgement.against_best(carried)


def _holds(judgement: Judgement, carried: str | None, kept: Verdict | None) -> Holds | None:
    if kept is None or carried is None:
        return None
    if kept.a == kept.b:
        return "best"
    if kept.winner == kept.a or carried not in judgement.unresolved:
        return "worse"
    return "tie" if kept.verdict == "tie" else "open"


def _summary(part: Part) -> ArmSummary:
    """A condition's own best arm, over the runs of its reported mean.

    Nothing separates conditions, because nothing compares them.
    """
    best = part.judgement.best
    return ArmSummary(
        arm=part.name,
        settings=part.settings,
        n=best.n if best else 0,
        mean=best.mean if best else None,
        sd=best.sd if best else None,
        interval=best.interval if best else None,
        status="unresolved" if best else "diverged",
    )


Points = list[tuple[str, float, float, float, float]]
"""Condition, x, y, the standard error of y and the degrees of freedom of that."""


def _laws(whole: Evidence, parts: Sequence[Part]) -> tuple[Law, ...]:
    """Of the optimum, then of the metric, along the one numeric setting of the conditions."""
    if not _are_sizes(whole, parts):
        return ()
    level, by = 1 - whole.alpha, whole.vary[0]
    setting = next((p.judgement.optimum.setting for p in parts if isinstance(p.judgement.optimum, Optimum)), "")
    laws = [_law(setting, by, _optima(whole, parts), level), _law(whole.metric, by, _losses(whole, parts), level)]
    return tuple(law for law in laws if law is not None)


def _optima(whole: Evidence, parts: Sequence[Part]) -> Points:
    """Of the conditions at which it was located. Its error is relative: the logarithms are fitted.

    The interval is the hull of what several models allow, of which half over z is the standard error or more.
    """
    points, z = [], NormalDist().inv_cdf(1 - whole.alpha / 2)
    for part in parts:
        found = part.judgement.optimum
        if isinstance(found, Optimum) and found.interval[0] > 0:
            relative = math.log(found.interval[1] / found.interval[0]) / (2 * z)
            error = relative * found.estimate
            points.append((part.name, _size(part, whole.vary) or 0.0, found.estimate, error, math.inf))
    return points


def _losses(whole: Evidence, parts: Sequence[Part]) -> Points:
    """Each condition's own best, with the standard error of its mean: of one noise, pooled over the conditions.

    Weighed each by its own noise of a few seeds, intervals of laws held in 86 to 95% of cases (docs/log.md).
    """
    found = [(part, part.judgement.best) for part in parts]
    bests = [(part, best, best.sd) for part, best in found if best is not None and best.sd and best.mean > 0]
    df = sum(best.n - 1 for _, best, _ in bests)
    pooled = math.sqrt(sum((best.n - 1) * sd**2 for _, best, sd in bests) / max(df, 1))
    return [
        (part.name, _size(part, whole.vary) or 0.0, best.mean, pooled / math.sqrt(best.n), best.n - 1)
        for part, best, _ in bests
    ]


def _are_sizes(whole: Evidence, parts: Sequence[Part]) -> bool:
    """Whether the conditions differ in one positive number, so that there may be a law."""
    return all((_size(part, whole.vary) or 0.0) > 0 for part in parts)


def _law(of: str, by: str, points: Points, level: float) -> Law | None:
    fitted = _fit(points, level)
    if fitted is None:
        return None
    return Law(
        of=of,
        by=by,
        exponent=fitted.exponent,
        interval=fitted.exponent_interval,
        factor=fitted.factor,
        level=level,
        n=len(points),
        held_out=_held_out(points, level),
    )


def _fit(points: Points, level: float) -> PowerLaw | None:
    x_M, y_M, sd_M, df_M = (np.array([point[i] for point in points]) for i in (1, 2, 3, 4))
    return fit_power_law(x_M, y_M, sd_M, df=float(df_M.sum()), level=level) if len(points) >= LEAST_POINTS else None


def _held_out(points: Points, level: float) -> HeldOut | None:
    fitted = _fit(points[:-1], level)
    if fitted is None:
        return None
    name, x, y, sd, _ = points[-1]
    predicted, interval = fitted.predict(x, sd=sd)
    return HeldOut(
        condition=name,
        predicted=predicted,
        interval=interval,
        measured=y,
        holds=interval[0] <= y <= interval[1],
    )


def find_gains(study: Study, parts: Sequence[Part]) -> tuple[Gain, ...]:
    """Of each arm at each length against the baseline's complete runs of all lengths.

    Empty unless the conditions are lengths, there is a baseline and less of the metric is better: the middle of a
    longer schedule is no end of a shorter one, so one length says nothing of the compute that another loss needs.
    """
    if len(study.varied) != 1 or study.varied[0] not in LENGTHS or study.goal == "maximize":
        return ()
    points = [(float(part.settings[study.varied[0]]), _mean(part, BASELINE)) for part in parts]
    baseline = [(work, loss) for work, loss in points if loss is not None]
    if len(baseline) < 2:
        return ()
    studies = {part.name: part for part in study.parts}
    gains = []
    for part in parts:
        recipes = {arm.name: arm.recipe for arm in studies[part.name].arms}
        for arm in part.judgement.arms:
            loss = _mean(part, arm.arm)
            if arm.arm == BASELINE or loss is None:
                continue
            found = effective_speedup(
                baseline,
                (float(part.settings[study.varied[0]]), loss),
                baseline_throughput=1 / flops_per_token(recipes[BASELINE]),
                arm_throughput=1 / flops_per_token(recipes[arm.arm]),
            )
            gains.append(
                Gain(
                    arm=arm.arm,
                    condition=part.name,
                    loss_gain=found.loss_gain,
                    more_than=found.more_than,
                    less_than=found.less_than,
                    throughput_gain=found.throughput_gain,
                    factor=found.factor,
                )
            )
    return tuple(gains)


def _mean(part: Part, name: str) -> float | None:
    """Over the searching seeds; None where a run diverged or none ended."""
    mean = next((arm.mean for arm in part.judgement.arms if arm.arm == name), None)
    return None if mean is None or mean == float("inf") else mean
