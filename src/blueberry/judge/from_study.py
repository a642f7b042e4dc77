"""From a study and its results to evidence. The only file of this floor that knows what a study is."""

import math
from collections.abc import Mapping

from blueberry.errors import StudyError
from blueberry.judge.evidence import ArmRuns, Evidence
from blueberry.judge.judgement import Judgement, RunCost
from blueberry.judge.weigh import weigh
from blueberry.records import RunResult
from blueberry.stats.sequential import looks_of
from blueberry.study.plan import Plan, Run
from blueberry.study.spec import Arm, Study


def judge(
    study: Study,
    results: Mapping[str, RunResult],
    plan: Plan,
    *,
    entropy_bits_per_byte: float | None = None,
    train_tokens: int | None = None,
) -> Judgement:
    """Judge a study by the runs of its plan that have ended.

    `results` by fingerprint. `entropy_bits_per_byte` and `train_tokens` (unique training tokens) are the corpus's,
    when known; without them the audits `too-good` and `passes` stay silent.
    Raises: StudyError if a completed run has not the study's metric.
    """
    return weigh(gather(study, results, plan, entropy_bits_per_byte=entropy_bits_per_byte, train_tokens=train_tokens))


def gather(
    study: Study,
    results: Mapping[str, RunResult],
    plan: Plan,
    *,
    entropy_bits_per_byte: float | None = None,
    train_tokens: int | None = None,
) -> Evidence:
    """The evidence of a study. Raises: StudyError if a completed run has not the study's metric."""
    ended = [results[run.fingerprint] for run in plan.runs if run.fingerprint in results]
    num_missing = sum(run.fingerprint not in results for run in plan.runs)
    tokens = [result.num_tokens for result in ended]
    axis = study.axes[0] if len(study.axes) == 1 else None
    looks = looks_of(study.seeds.search, study.seeds.max) if study.method == "race" else ()
    return Evidence(
        question=study.question,
        metric=study.metric,
        min_effect=study.min_effect,
        alpha=study.alpha,
        vary=study.varied,
        arms=tuple(_arm_runs(study, arm, results, plan) for arm in study.arms),
        looks=max(len(looks), 1),
        look_seeds=looks,
        scale=axis.scale if axis is not None and axis.scale != "list" else None,
        num_unfinished=num_missing + plan.num_undecided,
        guessing_loss=math.log(study.base.data.vocabulary_tokens)
        if study.metric in ("val_loss", "train_loss")
        else None,
        entropy=_entropy(study.metric, ended, entropy_bits_per_byte),
        passes=max(tokens) / train_tokens if tokens and train_tokens else None,
        cost=RunCost(
            runs=len(ended),
            tokens=sum(tokens),
            flops=sum((result.num_flops for result in ended), 0.0),
            seconds=sum((result.train_seconds for result in ended), 0.0),
        ),
    )


def _arm_runs(study: Study, arm: Arm, results: Mapping[str, RunResult], plan: Plan) -> ArmRuns:
    runs = [(run, results[run.fingerprint]) for run in plan.runs if run.arm == arm.name and run.fingerprint in results]
    ended = [(run, result) for run, result in runs if result.status != "failed"]
    search = [(run, result) for run, result in ended if run.stage == "search"]
    test_metric = study.metric.replace("val_", "test_", 1)
    tests = {run.seed: result.metric(test_metric) for run, result in ended} if test_metric != study.metric else {}
    return ArmRuns(
        name=arm.name,
        settings=arm.settings,
        search={run.seed: _value(study, run, result) for run, result in search},
        confirm={run.seed: _value(study, run, result) for run, result in ended if run.stage == "confirm"},
        test={seed: value for seed, value in tests.items() if value is not None},
        crashed=tuple(run.seed for run, result in runs if result.status == "failed"),
        evaluations={run.seed: _evaluations(study.metric, result) for run, result in search if result.evaluations},
        provenance=tuple(dict.fromkeys(result.provenance for _, result in ended if result.provenance is not None)),
    )


def _value(study: Study, run: Run, result: RunResult) -> float:
    if result.status == "diverged":
        return math.inf
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


def _entropy(metric: str, ended: list[RunResult], bits_per_byte: float | None) -> float | None:
    """The entropy in the metric's unit; nats per token from the bytes a token stands for, as the results show it."""
    if bits_per_byte is None or metric == "val_bits_per_byte":
        return bits_per_byte
    final = next((result.final for result in ended if result.final is not None), None)
    if metric != "val_loss" or final is None or not final.bits_per_byte:
        return None
    return bits_per_byte * final.loss / final.bits_per_byte
