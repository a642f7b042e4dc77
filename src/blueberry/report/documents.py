"""The JSON files of a report: plain values, missing is null, infinities are "inf"."""

import json
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from blueberry.judge.judgement import Judgement
from blueberry.report.axis import Axis
from blueberry.report.runs import LabelledRun

RESULTS_SCHEMA = "blueberry/results/1"

METRICS = (
    *(f"{which}_{what}" for which in ("val", "test") for what in ("loss", "bits_per_byte", "accuracy", "perplexity")),
    "train_loss",
)
"""Of every run, by the names that studies use; null where it was not measured."""


def to_json(value: Any) -> str:
    """Indented; NaN and infinity are our own bugs."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def results_json(judgement: Judgement, runs: Sequence[LabelledRun]) -> str:
    """`results.json`: every run with its settings, metrics and curves, one line a run."""
    settings = {arm.arm: arm.settings for arm in judgement.arms}
    head = {"schema": RESULTS_SCHEMA, "question": judgement.question, "metric": judgement.metric}
    lines = [json.dumps(_run(run, settings.get(run.arm, {})), ensure_ascii=False, allow_nan=False) for run in runs]
    opening = json.dumps(head, ensure_ascii=False, allow_nan=False)[:-1]
    return f'{opening}, "runs": [\n' + ",\n".join(lines) + "\n]}\n"


def final_results(judgement: Judgement, runs: Sequence[LabelledRun], axis: Axis) -> list[dict[str, Any]]:
    """`final_results.json` of a learning-rate sweep: one flat row a run, by rate, stage and seed."""
    rates = {arm.arm: float(arm.settings[axis.setting]) for arm in judgement.arms}
    rows = []
    for run in runs:
        final = run.result.final
        rows.append(
            {
                "learning_rate": rates[run.arm],
                "arm": run.arm,
                "seed": run.seed,
                "stage": run.stage,
                "status": run.result.status,
                "final_loss": final.loss if final else None,
                "final_accuracy": final.accuracy if final else None,
                "final_perplexity": final.perplexity if final else None,
                "final_train_loss": run.result.metric("train_loss"),
                "training_time": run.result.train_seconds,
                "updates": run.result.num_updates,
                "tokens": run.result.num_tokens,
            }
        )
    stages = {"search": 0, "confirm": 1}
    return sorted(rows, key=lambda row: (stages[row["stage"]], row["learning_rate"], row["arm"], row["seed"]))


def comprehensive_insights(judgement: Judgement, runs: Sequence[LabelledRun], axis: Axis) -> dict[str, Any]:
    """`comprehensive_insights.json`: the judgement, statistics by rate, and what is recommended for which purpose.

    A purpose without support says so: {"supported": false, "because": ...}.
    """
    return {
        "insights": judgement.to_dict(),
        "statistics": [_statistics(arm.arm, arm.settings[axis.setting], runs) for arm in judgement.arms],
        "recommendations": _recommendations(judgement, axis),
    }


def _recommendations(judgement: Judgement, axis: Axis) -> dict[str, Any]:
    withheld, ranges = judgement.recommendation.withheld, judgement.ranges

    def rate(value: float | None, meaning: str, because: str) -> dict[str, Any]:
        if withheld is not None or value is None:
            return {"supported": False, "because": withheld or because}
        return {"supported": True, "learning_rate": value, "meaning": meaning}

    settings = judgement.recommendation.settings or {}
    unstable = ranges.unstable_from
    return {
        "production": rate(
            settings.get(axis.setting),
            judgement.recommendation.text or "",
            "the judgement recommends no learning rate",
        ),
        "conservative": rate(
            ranges.conservative,
            f"lowest rate not worse than the best by {judgement.min_effect:g}, without a failure",
            "no rate was shown to be within min_effect of the best without a failure",
        ),
        "fast": rate(
            ranges.fast,
            "least mean number of updates to the loss that every rate not told apart from the best reaches",
            "no time to a target was measured",
        ),
        # What went wrong was seen, whatever else is withheld.
        "avoid": {"supported": False, "because": "no run diverged or ended above the loss of guessing"}
        if unstable is None
        else {"supported": True, "learning_rate_from": unstable, "meaning": "lowest rate at which a run failed"},
    }


def _statistics(arm: str, rate: Any, runs: Sequence[LabelledRun]) -> dict[str, Any]:
    """Over the searching runs that completed; the others are counted."""
    own = [run.result for run in runs if run.arm == arm and run.stage == "search"]
    final = [result.final for result in own if result.final is not None]

    def over(values: list[float]) -> dict[str, float | None] | None:
        if not values:
            return None
        sd = stdev(values) if len(values) > 1 else None
        return {"mean": fmean(values), "sd": sd, "min": min(values), "max": max(values)}

    return {
        "learning_rate": rate,
        "arm": arm,
        "runs": len(own),
        "completed": len(final),
        "diverged": sum(result.status == "diverged" for result in own),
        "loss": over([metrics.loss for metrics in final]),
        "accuracy": over([metrics.accuracy for metrics in final if metrics.accuracy is not None]),
        "perplexity": over([p for metrics in final if (p := metrics.perplexity) is not None]),
        "training_time": over([result.train_seconds for result in own]),
    }


def _run(run: LabelledRun, settings: dict[str, Any]) -> dict[str, Any]:
    result = run.result
    return {
        "arm": run.arm,
        "seed": run.seed,
        "stage": run.stage,
        "status": result.status,
        "fingerprint": result.fingerprint,
        "settings": settings,
        "metrics": {**{name: result.metric(name) for name in METRICS}, **result.extra},
        "failure": result.failure.model_dump() if result.failure else None,
        "updates": result.num_updates,
        "tokens": result.num_tokens,
        "flops": result.num_flops,
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
