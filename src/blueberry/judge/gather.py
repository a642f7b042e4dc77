"""From runs to evidence, whoever made them: a study's from the store, a table's rows, the parts of a study of parts.

Runs come one after the other, an arm's together, so that no more than an arm's curves are held.
"""

import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from blueberry.architecture import parameters
from blueberry.errors import StudyError, TableError
from blueberry.judge import words
from blueberry.judge.audits.design import Done, Texts, departures, known_too_well, no_texts, objections, shared_text
from blueberry.judge.curves import read_curves
from blueberry.judge.evidence import ArmRuns, Evidence, RunFacts
from blueberry.judge.judgement import CurveFinding, RunCost
from blueberry.recipe import Recipe
from blueberry.records import Provenance, RunResult, Stage, StudyRun, is_usable_number
from blueberry.stats.noise import Borrowed
from blueberry.study.arms import Run
from blueberry.study.plan import Plan, as_planned, looks_of, study_runs
from blueberry.study.spec import Arm, Study
from blueberry.tables.columns import build_of, kind_by_name, measures_no_text, understood
from blueberry.tables.runs import TableRuns

LOSSES = ("val_loss", "train_loss", "test_loss")
"""Metrics in nats per token, which guessing bounds."""


@dataclass(frozen=True)
class Asked:
    """What is asked of runs, as known before one of them is looked at."""

    evidence: Evidence
    """All but what the runs say."""
    place: str
    """What errors name: the study's or the table's file."""
    arms: Mapping[str, Arm | None]
    """By name, in their order; what is asked for, where a study says."""
    chooses: Collection[Stage] = ("search",)
    """The stages whose seeds compare an arm with others."""
    recipes: Mapping[tuple[str, str], Recipe] = field(default_factory=dict)
    """By part and arm, what our own runs were to be."""


@dataclass(slots=True)
class _Arm:
    """What is kept of an arm's runs while others are read."""

    facts: list[RunFacts] = field(default_factory=list)
    tests: dict[int, float] = field(default_factory=dict)
    evaluations: dict[int, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    provenance: dict[Provenance, None] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    keys: list[int] = field(default_factory=list)
    """Of each fact: its seed, or a number that no other run has."""


def gather(runs: Iterable[StudyRun], asked: Asked, texts: Texts = no_texts) -> Evidence:
    """The evidence of these runs. Those of arms that are not asked about only count in the cost and in how runs were
    carried out.

    Several runs of one arm on one seed are one block, with their mean; the evidence says which arms have such.
    Raises: StudyError if a completed run has not the metric.
    """
    arms: dict[str, _Arm] = {name: _Arm() for name in asked.arms}
    findings: dict[str, tuple[CurveFinding, ...]] = {}
    done: list[Done] = []
    unseeded = itertools.count(-1, -1)  # no seed of a run that has one
    for (part, name), group in itertools.groupby(runs, key=lambda run: (run.part, run.arm)):
        known: dict[int, RunResult] = {}
        own = arms.get(name) if not part else None
        for run in group:
            done.append(Done.of(run, asked.recipes.get((run.part, run.arm))))
            if own is not None:
                key = next(unseeded) if run.seed is None else run.seed
                _take(own, run, key, asked)
                known[key] = run.result
        if asked.evidence.source != "table":  # which has no curves
            findings[name] = (*findings.get(name, ()), *read_curves(name, known, alpha=asked.evidence.alpha))
    facts = [one for arm in arms.values() for one in arm.facts]
    vocabularies = [one.vocabulary for one in facts if one.vocabulary]
    passes = _passes(done, asked, texts)
    return replace(
        asked.evidence,
        arms=tuple(_arm_runs(name, arm, asked) for name, arm in arms.items()),
        is_seeded=not facts or any(one.seed is not None for one in facts),
        repeated_seeds=tuple(name for name, arm in arms.items() if _repeats(arm.facts)),
        guessing_loss=math.log(max(vocabularies)) if vocabularies and asked.evidence.metric in LOSSES else None,
        entropy=_entropy(asked, done, texts),
        passes=passes,
        cost=_cost(done),
        findings=tuple(one for name in asked.arms for one in findings.get(name, ())),
        audits=(
            *asked.evidence.audits,
            *departures(done),
            *(known_too_well(done, passes or 0.0) if arms else ()),  # parts say it of their own text
        ),
    )


def _take(arm: _Arm, run: StudyRun, key: int, asked: Asked) -> None:
    result = run.result
    twin = "test_loss" if asked.evidence.metric == "val_loss" else asked.evidence.metric.replace("val_", "test_", 1)
    arm.settings = arm.settings or run.settings
    arm.keys.append(key)
    arm.facts.append(_facts(run, asked))
    if result.status == "failed":
        return
    if twin != asked.evidence.metric and (tested := result.metric(twin)) is not None:
        arm.tests[key] = tested
    if run.stage in asked.chooses and (run.steps or result.evaluations):
        arm.evaluations[key] = run.steps or _evaluations(asked.evidence.metric, result)
    if result.provenance is not None:
        arm.provenance[result.provenance] = None


def _facts(run: StudyRun, asked: Asked) -> RunFacts:
    result, extra = run.result, run.result.extra
    lengths = {"updates": result.num_updates, "tokens": result.num_tokens, "flops": result.num_flops}
    settings: Mapping[str, Any] = {}
    builds: Mapping[str, str] = {}
    vocabulary = result.recipe.get(_VOCABULARY)
    if asked.evidence.source != "study":  # our own runs are as long, and were given, what their recipes say
        lengths |= {name: value for name, value in extra.items() if kind_by_name(name) == "length"}
    if asked.evidence.source == "table":
        settings = {n: v for n, v in result.recipe.items() if n not in run.settings and n not in ("seed", _VOCABULARY)}
        builds = {name: said for name, value in settings.items() if (said := _build(name, value)) is not None}
        settings = {name: value for name, value in settings.items() if build_of(name) is None}
    elif asked.evidence.source == "program":
        names = {name: understood([name]).get(name, name) for name in extra}
        vocabulary = next((extra[name] for name, meaning in names.items() if meaning == "vocabulary"), None)
        settings = {n: v for n, v in extra.items() if kind_by_name(n) == "setting" and not words.is_rate(n)}
    return RunFacts(
        seed=run.seed,
        value=_value(run, asked),
        stage=run.stage,
        place=run.place,
        study=run.study if asked.evidence.source == "table" else None,
        lengths={name: float(value) for name, value in lengths.items() if value},
        settings=settings,
        builds=builds,
        train_seconds=result.train_seconds,
        train_loss=result.metric("train_loss"),
        val_loss=result.metric("val_loss"),
        val_bits_per_byte=result.metric("val_bits_per_byte"),
        val_accuracy=result.metric("val_accuracy"),
        val_perplexity=extra.get("val_perplexity"),
        vocabulary=vocabulary if vocabulary is not None and vocabulary > 1 else None,
        digits=run.digits,
    )


def _build(column: str, value: Any) -> str | None:
    """Which device or build a cell names; cuda:0 and cuda:1 are of one kind, and numbers only count devices."""
    of = build_of(column)
    if of is None or value is None or (of == "devices" and not isinstance(value, str)):
        return None
    return re.sub(r"^(cuda|gpu|device|card|xpu|hip)[:\s_#-]*\d+$", r"\1", f"{value}", flags=re.IGNORECASE)


_VOCABULARY = "data.vocabulary_tokens"


def _value(run: StudyRun, asked: Asked) -> float | None:
    if run.result.status == "failed":
        return None
    if run.result.status == "diverged":
        return -math.inf if asked.evidence.goal == "maximize" else math.inf
    value = run.result.metric(asked.evidence.metric)
    if value is None:
        have = "a completed run must have the metric that judges it"
        raise StudyError(
            f'{asked.place} "metric": "{asked.evidence.metric}" is missing in arm "{run.arm}", seed {run.seed}; '
            f"{have}; choose another metric or make the trainer report it"
        )
    return value


def _arm_runs(name: str, arm: _Arm, asked: Asked) -> ArmRuns:
    found = list(zip(arm.keys, arm.facts, strict=True))
    declared = asked.arms[name]
    return ArmRuns(
        name=name,
        settings=dict(arm.settings) if declared is None else declared.settings,
        search=_by_seed((key, one.value) for key, one in found if one.stage in asked.chooses),
        confirm=_by_seed((key, one.value) for key, one in found if one.stage not in asked.chooses),
        test=arm.tests,
        factors=() if declared is None else declared.factors,
        crashed=tuple(dict.fromkeys(key for key, one in found if one.value is None)),
        evaluations=arm.evaluations,
        provenance=tuple(arm.provenance),
        facts=tuple(arm.facts),
    )


def _by_seed(values: Iterable[tuple[int, float | None]]) -> dict[int, float]:
    """The mean over the runs of a seed; infinite if one of them diverged."""
    found: dict[int, list[float]] = {}
    for seed, value in values:
        if value is not None:
            found.setdefault(seed, []).append(value)
    return {seed: some[0] if len(some) == 1 else math.fsum(some) / len(some) for seed, some in sorted(found.items())}


def _repeats(facts: Sequence[RunFacts]) -> bool:
    """Whether a seed stands twice with the same settings; the same run in another study repeats nothing there."""
    blocks = [
        (one.study, one.stage, one.seed, repr(sorted(one.settings.items(), key=str)))
        for one in facts
        if one.seed is not None
    ]
    return len(set(blocks)) < len(blocks)


def _evaluations(metric: str, result: RunResult) -> tuple[tuple[float, float], ...]:
    what = metric.removeprefix("val_")
    if what not in ("loss", "bits_per_byte", "perplexity"):
        return ()
    values = [(one.update, getattr(one.validation, what)) for one in result.evaluations]
    return tuple((update, value) for update, value in values if value is not None)


def _cost(done: Sequence[Done]) -> RunCost:
    counted = [(one.num_tokens, round(one.num_tokens * one.shared)) for one in done if one.num_tokens is not None]
    spent = [(one.num_flops, one.num_flops * one.shared) for one in done if one.num_flops is not None]
    timed = [one.train_seconds - one.shared_seconds for one in done if one.train_seconds is not None]
    return RunCost(
        runs=len(done),
        tokens=sum(num - saved for num, saved in counted) if len(counted) == len(done) else None,
        flops=sum((num - saved for num, saved in spent), 0.0) if len(spent) == len(done) else None,
        seconds=sum(timed, 0.0) if len(timed) == len(done) else None,
        shared_tokens=sum(saved for _, saved in counted),
        shared_flops=sum((saved for _, saved in spent), 0.0),
        shared_seconds=sum((one.shared_seconds for one in done), 0.0),
    )


def _passes(done: Sequence[Done], asked: Asked, texts: Texts) -> float | None:
    """How often the longest run saw its text."""
    longest: dict[tuple[str, str], int] = {}
    for one in done:
        longest[one.part, one.arm] = max(one.num_tokens or 0, longest.get((one.part, one.arm), 0))
    known = [
        (tokens, texts(asked.recipes[key]).train_tokens) for key, tokens in longest.items() if key in asked.recipes
    ]
    return max((tokens / unique for tokens, unique in known if unique is not None), default=None)


def _entropy(asked: Asked, done: Sequence[Done], texts: Texts) -> float | None:
    """The entropy in the metric's unit; nats per token from the bytes a token stands for, as the results show it."""
    recipe = next(iter(asked.recipes.values()), None)
    bits_per_byte = None if recipe is None else texts(recipe).entropy_bits_per_byte
    if bits_per_byte is None or asked.evidence.metric == "val_bits_per_byte":
        return bits_per_byte
    shown = next((one for one in done if one.bits_per_byte and one.val_loss is not None), None)
    if asked.evidence.metric != "val_loss" or shown is None or not shown.bits_per_byte or shown.val_loss is None:
        return None
    return bits_per_byte * shown.val_loss / shown.bits_per_byte


def gather_study(study: Study, results: Mapping[str, RunResult], planned: Plan, *, texts: Texts = no_texts) -> Evidence:
    """The evidence of a study; of one made of parts, all but its arms.

    `results` by fingerprint: each is asked for once, arm by arm. `texts` says what is known of the text that a recipe
    trains on.
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
    asked = Asked(evidence, str(study.path), arms, recipes=recipes if own else {})
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
