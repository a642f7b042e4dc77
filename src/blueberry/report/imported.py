"""Rows of a table as the runs of a report: whatever was measured, and nothing that was not."""

import math
from collections.abc import Sequence

from blueberry.identity import digest
from blueberry.judge.row_runs import RowRun
from blueberry.records import Failure, RunResult, StudyRun
from blueberry.report.documents import METRICS


def imported_runs(runs: Sequence[RowRun], metric: str) -> tuple[StudyRun, ...]:
    """Each run that ended, its numbers as the table has them. There are no curves, so no pictures of them."""
    return tuple(
        StudyRun(run.arm, run.seed, run.stage, _result(run, metric)) for run in runs if run.ending != "unfinished"
    )


def _result(run: RowRun, metric: str) -> RunResult:
    values = {name: value for name, value in run.row.values.items() if isinstance(value, (bool, int, float, str))}
    finite = {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
    measured: dict[str, float | None] = {}
    if run.ending == "completed":
        measured.update((name, finite[name]) for name in (metric, *METRICS) if name in finite)
    diverged = run.ending == "diverged"
    failure = Failure(kind="diverged") if diverged else None
    if run.ending == "crashed":
        failure = Failure(kind="crashed", message=f"{run.row.place}: no result")
    return RunResult(
        fingerprint=digest("blueberry/imported/1", run.row.place, repr(sorted(values.items()))),
        recipe={**run.settings, "seed": run.seed},
        status="completed" if run.ending == "completed" else "diverged" if diverged else "failed",
        failure=failure,
        num_updates=round(finite.get("updates", 0)),
        num_tokens=round(finite.get("tokens", 0)),
        num_flops=finite.get("flops", 0.0),
        train_seconds=finite.get("train_seconds", 0.0),
        extra=measured,
    )
