"""What a sink is told of a run, once the run has ended, and the numbers it writes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blueberry.records import RunResult

FINAL = (
    "val_loss", "val_bits_per_byte", "val_accuracy", "val_perplexity",
    "test_loss", "test_bits_per_byte", "test_accuracy", "test_perplexity",
)  # fmt: skip
"""Of a run's end; each only where it was measured."""


@dataclass(frozen=True)
class LoggedRun:
    """One run of a study with its result."""

    study: str
    arm: str
    seed: int
    stage: str
    """search or confirm."""
    settings: Mapping[str, Any]
    """The resolved recipe: dotted setting to value."""
    result: RunResult

    @property
    def name(self) -> str:
        """For a person."""
        return f"{self.arm} seed {self.seed}"

    @property
    def key(self) -> str:
        """Names it among all runs of all studies; fit for a file's name, at most 64 characters."""
        return f"{file_name(self.study)[:40]}-{self.result.fingerprint}"

    @property
    def about(self) -> dict[str, str]:
        """Words that belong to it."""
        return {
            "study": self.study,
            "arm": self.arm,
            "stage": self.stage,
            "status": self.result.status,
            "fingerprint": self.result.fingerprint,
        }

    @property
    def totals(self) -> dict[str, float]:
        """The numbers of the run's end."""
        result = self.result
        measured = {name: value for name in FINAL if (value := result.metric(name)) is not None}
        named = {f"{name}/loss": metrics.loss for name, metrics in result.sets.items()}
        own = {name: value for name, value in result.extra.items() if value is not None}
        counts = {"updates": result.num_updates, "tokens": result.num_tokens, "flops": result.num_flops}
        known = {name: count for name, count in counts.items() if count is not None}
        return {**measured, **named, **own, **known, "train_seconds": result.train_seconds}


def points(result: RunResult) -> Iterator[tuple[int, dict[str, float]]]:
    """Updates done, ascending, and what was recorded there; a number that was not finite is left out."""
    curve, seen = result.curve, {evaluation.update: evaluation for evaluation in result.evaluations}
    for update in range(1, max(len(curve.train_loss), max(seen, default=0)) + 1):
        values: dict[str, float | None] = {}
        for name in ("train_loss", "gradient_norm", "learning_rate"):
            recorded = getattr(curve, name)
            values[name] = recorded[update - 1] if update <= len(recorded) else None
        if update in seen:
            measured = seen[update].validation
            values |= {
                "val_loss": measured.loss,
                "val_bits_per_byte": measured.bits_per_byte,
                "val_accuracy": measured.accuracy,
                "tokens": seen[update].tokens,
            }
        known = {name: float(value) for name, value in values.items() if value is not None}
        if known:
            yield update, known


def file_name(text: str) -> str:
    """With "-" for what a file's name should not have."""
    return re.sub(r"[^A-Za-z0-9_.=+-]+", "-", text).strip(".-") or "unnamed"


def unnested(settings: Mapping[str, object]) -> dict[str, bool | int | float | str]:
    """Settings as every sink can hold them: plain values, others as text, None left out."""
    known = {name: value for name, value in settings.items() if value is not None}
    return {n: v if isinstance(v, (bool, int, float, str)) else str(v) for n, v in known.items()}
