"""What every sink writes of a run that has ended: its name, the words that belong to it, its numbers."""

import re
from collections.abc import Iterator

from blueberry.records import RunResult, StudyRun

FINAL = (
    "val_loss", "val_bits_per_byte", "val_accuracy", "val_perplexity",
    "test_loss", "test_bits_per_byte", "test_accuracy", "test_perplexity",
)  # fmt: skip
"""Metrics of a run's end; each is written only where it was measured."""
Plain = bool | int | float | str


def title(run: StudyRun) -> str:
    """Its name for a person."""
    return f"{arm(run)} seed {run.seed}"


def arm(run: StudyRun) -> str:
    """With the part, in a study made of parts."""
    return f"{run.part}: {run.arm}" if run.part else run.arm


def key(run: StudyRun) -> str:
    """Names it among all runs of all studies; fit for a file's name, at most 64 characters."""
    return f"{file_name(run.study or '')[:40]}-{run.result.fingerprint}"


def words(run: StudyRun) -> dict[str, str]:
    """What it is and what became of it."""
    return {
        "study": run.study or "",
        "arm": arm(run),
        "stage": run.stage,
        "status": run.result.status,
        "fingerprint": run.result.fingerprint,
    }


def settings(run: StudyRun) -> dict[str, Plain]:
    """The resolved recipe and the seed as every sink can hold them: plain values, others as text, None left out."""
    known = {name: value for name, value in {**run.result.recipe, "seed": run.seed}.items() if value is not None}
    return {name: value if isinstance(value, Plain) else str(value) for name, value in known.items()}


def totals(result: RunResult) -> dict[str, float]:
    """The numbers of the run's end; those that were not measured or counted are left out."""
    measured = {name: result.metric(name) for name in FINAL}
    named = {f"{name}/loss": metrics.loss for name, metrics in result.sets.items()}
    counts = {"updates": result.num_updates, "tokens": result.num_tokens, "flops": result.num_flops}
    numbers = {**measured, **named, **result.extra, **counts, "train_seconds": result.train_seconds}
    return {name: value for name, value in numbers.items() if value is not None}


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
