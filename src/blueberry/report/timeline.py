"""The timeline of a line of baselines: how far each stage brought it, as claimed, and what was measured together."""

from collections.abc import Sequence
from dataclasses import dataclass

from blueberry.judge.ledger import Entry
from blueberry.report.wording import setting_name, short

START = "original"


@dataclass(frozen=True)
class Stage:
    """One entry that moved the baseline."""

    label: str
    """e.g. "#2, 2026-11-22"."""
    said: str
    """What changed."""
    level: float | None
    """Sum of the claims in effect: the difference to the original, in the metric; None where one claims none."""
    interval: tuple[float, float] | None
    """Of this stage's own claim, laid around the level; None of a rollback."""


@dataclass(frozen=True)
class Measured:
    """The total, measured together on fresh seeds, of the baseline that was the newest then."""

    label: str
    """Of the stage it measured."""
    difference: float
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class Timeline:
    line: str
    metric: str
    stages: tuple[Stage, ...]
    """Oldest first; empty where nothing claims a difference."""
    measured: tuple[Measured, ...]


def timeline(line: str, entries: Sequence[Entry]) -> Timeline:
    """What the picture shows. Pure."""
    kept: list[float | None] = []
    found: list[Stage] = []
    labels: dict[int | None, str] = {}
    metric = next((entry.support.metric for entry in entries if entry.support), "val_loss")
    for entry in entries:
        if entry.kind == "remeasurement":
            continue
        label = f"#{entry.number}, {entry.date[:10]}"
        labels[entry.number] = label
        claim = entry.support.claim if entry.support else None
        if entry.kind == "promotion":
            kept.append(claim.difference if claim else None)
        else:
            kept.pop()
        level = None if None in kept else sum(one for one in kept if one is not None)
        interval = None
        if level is not None and claim is not None and claim.interval is not None and claim.difference is not None:
            before = level - claim.difference
            interval = (before + claim.interval[0], before + claim.interval[1])
        found.append(Stage(label, _said(entry), level, interval))
    measured = tuple(
        Measured(labels[entry.parent], total.measured.difference, total.measured.interval, total.measured.n)
        for entry in entries
        if (total := entry.total) is not None and total.measured.difference is not None
    )
    shown = any(stage.level is not None for stage in found) or measured
    return Timeline(line, metric, tuple(found) if shown else (), measured)


def _said(entry: Entry) -> str:
    if entry.kind == "rollback":
        return "rolled back"
    first = entry.changes[:1]
    said = "".join(
        f"{setting_name(one.setting)} {short(one.old)} \N{RIGHTWARDS ARROW} {short(one.new)}" for one in first
    )
    more = len(entry.changes) - 1
    return f"{said}, {more} more" if more > 0 else said
