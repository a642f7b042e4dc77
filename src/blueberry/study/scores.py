"""Ended runs without their curves: as much of each as a plan needs, or as tells how noisy its kind is."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from blueberry.records import Curve, Metrics, RunResult

_MEASURED = (
    "json_extract(body, '$.final', '$.test', '$.sets', '$.extra', '$.train_seconds', '$.curve.train_loss[#-1]'),"
    " json_array_length(body, '$.curve.train_loss')"
)
"""Several paths at once come as one JSON text, whose numbers SQLite has not touched."""


@dataclass(frozen=True, slots=True)
class Score:
    """One run by one metric."""

    status: str
    """completed or diverged."""
    name: str
    """Of the metric."""
    value: float | None
    """`RunResult.metric` of a completed run; None of a diverged one, whatever it has measured."""

    def metric(self, name: str) -> float | None:
        """As `RunResult.metric`, of the one metric that was read."""
        assert name == self.name, "a study is planned by its metric, and by no other"
        return self.value


@dataclass(frozen=True)
class PastRun:
    """As much of a result as tells how noisy its kind is."""

    recipe: dict[str, Any]
    """Flat: dotted setting to value."""
    status: str
    """completed or diverged."""
    final: dict[str, Any] | None
    """Metrics after the last update, by name."""
    data_digest: str | None
    """None where the trainer did not say."""


def read_scores(
    select: Callable[[str, Iterable[str]], Iterable[Any]], fingerprints: Iterable[str], metric: str
) -> dict[str, Score]:
    """Of those of the runs that have ended. `select(columns, fingerprints)` asks the store's table of results."""
    found: dict[str, Score] = {}
    unread: list[str] = []
    for name, status, val_loss in select("fingerprint, status, val_loss", fingerprints):
        if status == "completed" and (metric != "val_loss" or val_loss is None):
            unread.append(name)
        else:
            found[name] = Score(status, metric, val_loss if status == "completed" else None)
    for name, *measured in select(f"fingerprint, {_MEASURED}", unread):
        found[name] = Score("completed", metric, _without_curves(*measured).metric(metric))
    return found


def _without_curves(measured: str, num_losses: int | None) -> RunResult:
    """What `RunResult.metric` looks at, so that it stays the one definition of a metric. Checked when it was kept."""
    final, test, sets, extra, train_seconds, last_loss = json.loads(measured)
    return RunResult.model_construct(
        final=final and Metrics.model_construct(**final),
        test=test and Metrics.model_construct(**test),
        sets={name: Metrics.model_construct(**one) for name, one in (sets or {}).items()},
        extra=extra or {},
        train_seconds=train_seconds or 0.0,
        curve=Curve.model_construct(train_loss=(last_loss,) if num_losses else ()),
    )
