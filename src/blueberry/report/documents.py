"""The JSON files of a report: plain values, missing is null, infinities are "inf"."""

import json
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import Any

from blueberry.judge.judgement import Judgement, Optimum, Part, plain, why_withheld
from blueberry.judge.studies import as_part, of_an_arm
from blueberry.judge.words import is_rate
from blueberry.records import StudyRun
from blueberry.report.charts import Axis, find_axis
from blueberry.report.figures import file_name, rate_names
from blueberry.report.learning_curves import by_seed

RESULTS_SCHEMA = "blueberry/results/1"

MOST_FILES = 200
"""Of single rates; all of them stand in one file too."""
METRICS = (
    *(f"{which}_{what}" for which in ("val", "test") for what in ("loss", "bits_per_byte", "accuracy", "perplexity")),
    "train_loss",
)
"""Of every run, by the names that studies use; null where it was not measured."""


def to_json(value: Any) -> str:
    """Indented; NaN and infinity are our own bugs."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def results_json(judgement: Judgement, runs: Sequence[StudyRun]) -> str:
    """`results.json`: every run with its settings, metrics and curves, one line a run."""
    settings = {("", arm.arm): arm.settings for arm in judgement.arms}
    for part in judgement.parts:
        settings |= {(part.name, arm.arm): {**part.settings, **arm.settings} for arm in part.judgement.arms}
    head = {"schema": RESULTS_SCHEMA, "question": judgement.question, "metric": judgement.metric}
    lines = [
        json.dumps(
            plain(_run(run, settings.get((run.part, run.arm), dict(run.settings)))), ensure_ascii=False, allow_nan=False
        )
        for run in runs
    ]
    opening = json.dumps(head, ensure_ascii=False, allow_nan=False)[:-1]
    return f'{opening}, "runs": [\n' + ",\n".join(lines) + "\n]}\n"


def final_results(judgement: Judgement, runs: Sequence[StudyRun], axis: Axis) -> list[dict[str, Any]]:
    """`final_results.json` of a learning-rate sweep: one flat row a run, by rate, stage and seed."""
    rates = {arm.arm: float(arm.settings[axis.setting]) for arm in judgement.arms}
    rows = []
    stages = {"search": 0, "compare": 1, "confirm": 2}
    for run in sorted(runs, key=lambda run: (stages[run.stage], rates[run.arm], run.arm, by_seed(run))):
        result = run.result
        rows.append(
            {
                "learning_rate": rates[run.arm],
                "arm": run.arm,
                "seed": run.seed,
                "stage": run.stage,
                "status": result.status,
                "final_loss": result.metric("val_loss"),
                "final_accuracy": result.metric("val_accuracy"),
                "final_perplexity": result.metric("val_perplexity"),
                "final_train_loss": result.metric("train_loss"),
                "training_time": result.train_seconds,
                "updates": result.num_updates or None,
                "tokens": result.num_tokens or None,
            }
        )
    return rows


def comprehensive_insights(judgement: Judgement, runs: Sequence[StudyRun], axis: Axis) -> dict[str, Any]:
    """`comprehensive_insights.json`: the judgement, statistics by rate, and what is recommended for which purpose.

    A purpose without support says so: {"supported": false, "because": ...}.
    """
    return {
        "insights": judgement.to_dict(),
        "statistics": [_statistics(arm.arm, arm.settings[axis.setting], runs) for arm in judgement.arms],
        "recommendations": _recommendations(judgement, axis),
    }


def _recommendations(judgement: Judgement, axis: Axis) -> dict[str, Any]:
    said = {}
    for purpose in judgement.purposes:
        if purpose.evidence is None:
            said[purpose.purpose] = {"supported": False, "because": purpose.because}
            continue
        name = "learning_rate_from" if purpose.purpose == "avoid" else "learning_rate"
        rate = (purpose.settings or {}).get(axis.setting)
        said[purpose.purpose] = {"supported": True, name: rate, "meaning": purpose.evidence}
    return said


def _statistics(arm: str, rate: Any, runs: Sequence[StudyRun]) -> dict[str, Any]:
    """Over the searching runs that completed; the others are counted."""
    own = [run.result for run in runs if run.arm == arm and run.stage == "search"]
    completed = [result for result in own if result.status == "completed"]

    def of(metric: str) -> list[float]:
        return [value for result in completed if (value := result.metric(metric)) is not None]

    def over(values: list[float]) -> dict[str, float | None] | None:
        if not values:
            return None
        sd = stdev(values) if len(values) > 1 else None
        return {"mean": fmean(values), "sd": sd, "min": min(values), "max": max(values)}

    return {
        "learning_rate": rate,
        "arm": arm,
        "runs": len(own),
        "completed": len(completed),
        "diverged": sum(result.status == "diverged" for result in own),
        "loss": over(of("val_loss")),
        "accuracy": over(of("val_accuracy")),
        "perplexity": over(of("val_perplexity")),
        "training_time": over([one.train_seconds for one in own if one.train_seconds is not None]),
    }


def _run(run: StudyRun, settings: dict[str, Any]) -> dict[str, Any]:
    result = run.result
    return {
        **({"part": run.part} if run.part else {}),
        "arm": run.arm,
        "seed": run.seed,
        "stage": run.stage,
        "status": result.status,
        "fingerprint": result.fingerprint,
        "settings": settings,
        "metrics": {**{name: result.metric(name) for name in METRICS}, **result.extra},
        "failure": result.failure.model_dump() if result.failure else None,
        "updates": result.num_updates or None,
        "tokens": result.num_tokens or None,
        "flops": result.num_flops or None,
        "train_seconds": result.train_seconds,
        "curves": {
            "train_loss": list(result.curve.train_loss),
            "gradient_norm": list(result.curve.gradient_norm),
            "learning_rate": list(result.curve.learning_rate),
            "evaluations": [evaluation.model_dump() for evaluation in result.evaluations],
        },
        "document_losses": [share.model_dump() for share in result.document_losses],
        "recipe": result.recipe,
        "provenance": result.provenance.model_dump() if result.provenance else None,
    }


def search_documents(judgement: Judgement, runs: Sequence[StudyRun]) -> Iterator[tuple[str, str]]:
    """`lr_search_results.json`, `lr_recommendation.json` and, up to MOST_FILES, a file a rate; nothing unless parts
    sweep a rate, or one was searched for over one model."""
    alone = [as_part(judgement)] if judgement.is_located else []
    swept = [part for part in judgement.parts or alone if part.judgement.vary and is_rate(part.judgement.vary[0])]
    if not swept:
        return
    rows = {part.name: _rows(part, runs) for part in swept}
    recommended = {part.name: _recommendation(part, judgement) for part in swept}
    yield "lr_search_results.json", to_json(rows if judgement.parts else rows[""])
    yield "lr_recommendation.json", to_json(recommended if judgement.parts else recommended[""])
    if sum(len({row["learning_rate"] for row in own}) for own in rows.values()) > MOST_FILES:
        return
    for name, own in rows.items():
        names = rate_names(sorted({row["learning_rate"] for row in own}))
        for rate, said in names.items():
            at_rate = [row for row in own if row["learning_rate"] == rate]
            folder = f"results/{file_name(name)}" if name else "results"
            yield f"{folder}/lr_{said}.json", to_json(at_rate)


def _rows(part: Part, runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    axis = find_axis(part.judgement)
    return [] if axis is None else final_results(part.judgement, [run for run in runs if run.part == part.name], axis)


def _recommendation(part: Part, whole: Judgement) -> dict[str, Any]:
    """By the rule that the whole study is judged by: a rate that the report recommends is supported here too.

    A condition's best is claimed as that of a study by itself. An arm's own best only has to be no end of its range;
    what else its search leaves open, its fresh seeds show the cost of: `open` says it.
    """
    judgement, found = part.judgement, part.judgement.optimum
    best = judgement.best
    against = judgement.audits if whole.conditions or not whole.parts else of_an_arm(part, whole)
    reason = why_withheld(against)
    coverage = [one.model_dump() for one in part.covers]
    if best is None or reason is not None:
        return {"supported": False, "because": reason or "no rate has a finite result", "coverage": coverage}
    return {
        "supported": True,
        "learning_rate": best.settings[judgement.vary[0]],
        "mean": best.mean,
        "interval": best.interval,
        "n": best.n,
        "not_told_apart": list(judgement.unresolved),
        "open": why_withheld([audit for audit in judgement.audits if audit not in against]),
        "optimum": {"estimate": found.estimate, "interval": found.interval} if isinstance(found, Optimum) else None,
        "coverage": coverage,
    }
