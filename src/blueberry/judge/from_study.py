"""From a study and its results to evidence: the numbers by arm and seed, and what is known of how they were made."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from blueberry.architecture import parameters
from blueberry.errors import StudyError
from blueberry.judge import words
from blueberry.judge.curves import read_curves
from blueberry.judge.doctor.design import objections
from blueberry.judge.doctor.execution import Departure, audit_departures, departure, overfitted_or_leaked
from blueberry.judge.evidence import ArmRuns, Evidence
from blueberry.judge.judgement import Audit, CurveFinding, RunCost
from blueberry.recipe import Recipe
from blueberry.records import Metrics, RunResult
from blueberry.study.arms import is_number
from blueberry.study.plan import Plan, Run, Stage, looks_of
from blueberry.study.spec import Arm, Study


@dataclass(frozen=True)
class Text:
    """What is known of the text that a recipe trains on; None where it is not."""

    entropy_bits_per_byte: float | None = None
    train_tokens: int | None = None
    """Unique training tokens."""


Texts = Callable[[Recipe], Text]


def no_texts(recipe: Recipe) -> Text:
    """Nothing is known: the audits that need it stay silent."""
    return Text()


def gather(study: Study, results: Mapping[str, RunResult], plan: Plan, *, texts: Texts = no_texts) -> Evidence:
    """The evidence of a study; of one made of parts, all but its arms.

    `results` by fingerprint: each is asked for once, arm by arm, so that no more than an arm's curves are held.
    Raises: StudyError if a completed run has not the study's metric.
    """
    axis = study.axes[0] if len(study.axes) == 1 else None
    text = texts(study.base)
    by_arm: dict[str, list[Run]] = {}
    for run in plan.runs:
        by_arm.setdefault(run.arm, []).append(run)
    looks = looks_of(study.seeds.search, study.seeds.max) if study.method == "race" else ()
    arms: list[ArmRuns] = []
    findings: list[CurveFinding] = []
    bare: dict[str, _Bare] = {}
    for arm in () if study.parts else study.arms:
        runs = by_arm.get(arm.name, [])
        held = {run.fingerprint: results[run.fingerprint] for run in runs if run.fingerprint in results}
        arms.append(arm_runs(study, arm, held, runs))
        findings += _findings(study, arm, held, runs)
        bare |= {run.fingerprint: _bare(run, held[run.fingerprint]) for run in runs if run.fingerprint in held}
    others = [run for run in plan.runs if run.fingerprint in results and run.fingerprint not in bare]
    bare |= {run.fingerprint: _bare(run, results[run.fingerprint]) for run in others}
    ended = [(run, bare[run.fingerprint]) for run in plan.runs if run.fingerprint in bare]
    return Evidence(
        question=study.question,
        metric=study.metric,
        goal=study.goal,
        min_effect=study.min_effect,
        alpha=study.alpha,
        vary=study.varied,
        arms=tuple(arms),
        looks=max(len(looks), 1),
        look_seeds=looks,
        reach=_reach(study),
        scale=axis.scale if axis is not None and axis.scale != "list" else None,
        num_unfinished=len(plan.runs) - len(ended) + plan.num_undecided,
        guessing_loss=math.log(study.base.data.vocabulary_tokens)
        if study.metric in ("val_loss", "train_loss") and study.trainer is None
        else None,
        entropy=_entropy(study.metric, [result for _, result in ended], text.entropy_bits_per_byte),
        passes=_passes(ended, texts),
        at_one_rate=_at_one_rate(study),
        audits=(*_audits_of_design(study), *_audits_of_execution(study, ended, _passes(ended, texts))),
        cost=_cost([result for _, result in ended]),
        findings=tuple(findings),
    )


@dataclass(frozen=True, slots=True)
class _Bare:
    """Of a result, what all runs together are judged by: its numbers and what its curves say of how it was made."""

    num_updates: int | None
    num_tokens: int | None
    num_flops: float | None
    train_seconds: float
    shared_updates: int
    shared_seconds: float
    final: Metrics | None
    train_loss: float | None
    val_loss: float | None
    departure: Departure


def _bare(run: Run, result: RunResult) -> _Bare:
    return _Bare(
        num_updates=result.num_updates,
        num_tokens=result.num_tokens,
        num_flops=result.num_flops,
        train_seconds=result.train_seconds,
        shared_updates=result.shared_updates,
        shared_seconds=result.shared_seconds,
        final=result.final,
        train_loss=result.metric("train_loss"),
        val_loss=result.metric("val_loss"),
        departure=departure(run.recipe, result),
    )


def _cost(ended: Sequence[_Bare]) -> RunCost:
    shared = [
        result.shared_updates / result.num_updates if result.shared_updates and result.num_updates else 0.0
        for result in ended
    ]
    tokens = [(result.num_tokens, share) for result, share in zip(ended, shared, strict=True)]
    counted = [(num, round(num * share)) for num, share in tokens if num is not None]
    flops = [(result.num_flops, share) for result, share in zip(ended, shared, strict=True)]
    spent = [(num, num * share) for num, share in flops if num is not None]
    return RunCost(
        runs=len(ended),
        tokens=sum(num - saved for num, saved in counted) if len(counted) == len(ended) else None,
        flops=sum((num - saved for num, saved in spent), 0.0) if len(spent) == len(ended) else None,
        seconds=sum((result.train_seconds - result.shared_seconds for result in ended), 0.0),
        shared_tokens=sum(saved for _, saved in counted),
        shared_flops=sum((saved for _, saved in spent), 0.0),
        shared_seconds=sum((result.shared_seconds for result in ended), 0.0),
    )


def _audits_of_design(study: Study) -> list[Audit]:
    """Those of the design that the audits of results do not find again."""
    return [finding for finding in objections(study) if finding.audit not in ("seeds", "curse")]


def _audits_of_execution(study: Study, ended: Sequence[tuple[Run, _Bare]], passes: float | None) -> list[Audit]:
    """What the runs themselves show of how they were carried out."""
    if study.trainer is not None:  # what a program that is not ours should do at which update, only it knows
        return []
    losses = [(run.arm, one.train_loss, one.val_loss) for run, one in ended]
    known = [(arm, train, held_out) for arm, train, held_out in losses if train is not None and held_out is not None]
    departures = audit_departures((run.arm, one.departure) for run, one in ended)
    return [*departures, *overfitted_or_leaked(known, passes or 0.0)]


def _findings(
    study: Study, arm: Arm, results: Mapping[str, RunResult], runs: Iterable[Run]
) -> tuple[CurveFinding, ...]:
    """What the learning curves of one arm show."""
    known = {run.seed: results[run.fingerprint] for run in runs if run.fingerprint in results}
    return read_curves(arm.name, known, alpha=study.alpha)


def arm_runs(
    study: Study,
    arm: Arm,
    results: Mapping[str, RunResult],
    runs: Iterable[Run],
    *,
    chooses: Collection[Stage] = ("search",),
) -> ArmRuns:
    """One arm's evidence from its runs. `chooses` are the stages whose seeds compare it with others."""
    known = [(run, results[run.fingerprint]) for run in runs if run.fingerprint in results]
    ended = [(run, result) for run, result in known if result.status != "failed"]
    search = [(run, result) for run, result in ended if run.stage in chooses]
    test_metric = study.metric.replace("val_", "test_", 1)
    tests = {run.seed: result.metric(test_metric) for run, result in ended} if test_metric != study.metric else {}
    return ArmRuns(
        name=arm.name,
        settings=arm.settings,
        factors=arm.factors,
        search={run.seed: _value(study, run, result) for run, result in search},
        confirm={run.seed: _value(study, run, result) for run, result in ended if run.stage not in chooses},
        test={seed: value for seed, value in tests.items() if value is not None},
        crashed=tuple(run.seed for run, result in known if result.status == "failed"),
        evaluations={run.seed: _evaluations(study.metric, result) for run, result in search if result.evaluations},
        provenance=tuple(dict.fromkeys(result.provenance for _, result in ended if result.provenance is not None)),
    )


def _at_one_rate(study: Study) -> tuple[str, ...]:
    if study.joined or any(words.is_rate(name) for name in study.varied):
        return ()
    resized = len({parameters(arm.recipe).total for arm in study.arms}) > 1
    model = [n for n in study.varied if n.startswith("model.") and (resized or n.endswith(".kind"))]
    return (*model, *(name for name in study.varied if name == "schedule.kind"))


def _passes(ended: Sequence[tuple[Run, _Bare]], texts: Texts) -> float | None:
    """How often the longest run saw its text."""
    longest: dict[tuple[str, str], tuple[Recipe, int]] = {}
    for run, result in ended:
        _, before = longest.get((run.part, run.arm), (run.recipe, 0))
        longest[run.part, run.arm] = (run.recipe, max(before, result.num_tokens or 0))
    known = [(tokens, texts(recipe).train_tokens) for recipe, tokens in longest.values()]
    return max((tokens / unique for tokens, unique in known if unique is not None), default=None)


def _value(study: Study, run: Run, result: RunResult) -> float:
    if result.status == "diverged":
        return -math.inf if study.goal == "maximize" else math.inf
    value = result.metric(study.metric)
    if value is None:
        have = "a completed run must have the metric that judges it"
        raise StudyError(
            f'{study.path} "metric": "{study.metric}" is missing in arm "{run.arm}", seed {run.seed}; {have}; '
            "choose another metric or make the trainer report it"
        )
    return value


def _evaluations(metric: str, result: RunResult) -> tuple[tuple[int, float], ...]:
    what = metric.removeprefix("val_")
    if what not in ("loss", "bits_per_byte", "perplexity"):
        return ()
    values = [(one.update, getattr(one.validation, what)) for one in result.evaluations]
    return tuple((update, value) for update, value in values if value is not None)


def _reach(study: Study) -> dict[str, tuple[float, float]]:
    """The ends of each numeric range that proposals are made from."""
    if study.method != "optuna":
        return {}
    numeric = [axis for axis in study.axes if all(is_number(value) for value in axis.values)]
    return {axis.setting: (float(min(axis.values)), float(max(axis.values))) for axis in numeric}


def _entropy(metric: str, ended: Sequence[_Bare], bits_per_byte: float | None) -> float | None:
    """The entropy in the metric's unit; nats per token from the bytes a token stands for, as the results show it."""
    if bits_per_byte is None or metric == "val_bits_per_byte":
        return bits_per_byte
    final = next((result.final for result in ended if result.final is not None), None)
    if metric != "val_loss" or final is None or not final.bits_per_byte:
        return None
    return bits_per_byte * final.loss / final.bits_per_byte
