"""The files of `blueberry ledger --out`. Its picture: a panel a line, from left to right stages, each a step down."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt

from blueberry.judge.ledger import Claim, Entry, Ledger, line_pages
from blueberry.judge.words import MIN_EFFECT_NATS, count, decimals, difference_axis, number, setting_name, setting_value
from blueberry.report import place, to_json
from blueberry.report.charts import LIGHT, Drawing, chart, headed, layered, png, stacked
from blueberry.report.figures import finished
from blueberry.report.page import rendered


def write_ledger(ledger: Ledger, folder: Path) -> Path:
    """Write `ledger.md`, `ledger.json` and `figures/timeline.png`; returns the first.

    Raises: ReportError if the folder cannot be written.
    """
    lines = [drawn for name, entries in ledger.lines.items() if (drawn := timeline(name, entries)).stages]
    text = rendered("ledger.md", lines=line_pages(ledger), has_picture=bool(lines))
    pictures = [("figures/timeline.png", timeline_png(lines))] if lines else []
    place(folder, [*pictures, ("ledger.json", to_json(ledger.to_dict()).encode()), ("ledger.md", text.encode())])
    return folder / "ledger.md"


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
class Timeline:
    line: str
    metric: str
    stages: tuple[Stage, ...]
    """Oldest first; empty where nothing claims a difference."""
    measured: tuple[tuple[str, Claim], ...]
    """Totals, measured together on fresh seeds, each with the label of the stage that was the newest then."""


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
    totals = [(labels[entry.parent], entry.total.measured) for entry in entries if entry.total is not None]
    measured = tuple((label, claim) for label, claim in totals if claim.difference is not None)
    shown = any(stage.level is not None for stage in found) or measured
    return Timeline(line, metric, tuple(found) if shown else (), measured)


def _said(entry: Entry) -> str:
    if entry.kind == "rollback":
        return "rolled back"
    first = entry.changes[:1]
    said = "".join(
        f"{setting_name(one.setting)} {setting_value(one.old)} \N{RIGHTWARDS ARROW} {setting_value(one.new)}"
        for one in first
    )
    more = len(entry.changes) - 1
    return f"{said}, {more} more" if more > 0 else said


STAGE_WIDTH, HEIGHT = 190, 300
"""Pixels."""
PLACES = decimals(MIN_EFFECT_NATS)


def timeline_png(lines: Sequence[Timeline]) -> bytes:
    """One picture of all lines."""
    drawn = stacked([_panel(line) for line in lines], spacing=34)
    said = (
        "Blue: what the stages claimed, added up; bars: each stage's own interval. "
        "Orange: the newest baseline against the original, measured together on fresh seeds."
    )
    return png(finished(drawn, "The line of baselines", said))


def _panel(line: Timeline) -> Drawing:
    palette = LIGHT
    order = [START, *(stage.label for stage in line.stages)]
    title = difference_axis(line.metric, "the original")
    x = alt.X(
        "stage:N",
        title=None,
        scale=alt.Scale(domain=order, paddingOuter=0.5),
        axis=alt.Axis(labelAngle=0, labelLimit=180),
    )
    y = alt.Y("y:Q", title=title, scale=alt.Scale(zero=True, nice=True, padding=24), axis=alt.Axis(tickCount=6))
    levels = [{"stage": START, "y": 0.0, "text": "", "said": ""}]
    levels += [
        {"stage": one.label, "y": one.level, "text": _signed(one.level), "said": one.said}
        for one in line.stages
        if one.level is not None
    ]
    bars = [
        {"stage": one.label, "y": one.interval[0], "y2": one.interval[1]}
        for one in line.stages
        if one.interval is not None
    ]
    points = chart(levels)  # its line is joined in the order of the stages, not of their names
    layers: list[alt.Chart] = [
        chart([{"y": 0.0}]).mark_rule(color=palette.muted, strokeWidth=1).encode(y=y),
        points.mark_line(interpolate="step", color=palette.accent, strokeOpacity=0.45).encode(x=x.sort(order), y=y),
        chart(bars).mark_rule(color=palette.accent, strokeWidth=2).encode(x=x, y=y, y2=alt.Y2("y2:Q")),
        points.mark_point(filled=True, size=90, color=palette.accent, opacity=1).encode(x=x, y=y),
        points.mark_text(align="right", dx=-10, dy=-9, color=palette.accent, fontWeight=600).encode(
            x=x, y=y, text=alt.Text("text:N")
        ),
        points.mark_text(baseline="bottom", color=palette.muted, limit=STAGE_WIDTH - 6).encode(
            x=x, y=alt.YValue(-6), text=alt.Text("said:N")
        ),
    ]
    if line.measured:
        totals = [
            {
                "stage": label,
                "y": one.difference,
                "low": one.interval[0] if one.interval else None,
                "high": one.interval[1] if one.interval else None,
                "text": f"{_signed(one.difference or 0.0)}, {count(one.n, 'seed')}",
            }
            for label, one in line.measured
        ]
        base = chart(totals)
        own = [row for row in totals if row["low"] is not None]
        low = alt.Y("low:Q", title=title, scale=alt.Scale(zero=True, nice=True, padding=24))
        layers += [
            chart(own)
            .mark_rule(color=palette.fresh, strokeWidth=2, xOffset=14)
            .encode(x=x, y=low, y2=alt.Y2("high:Q")),
            base.mark_point(shape="diamond", filled=True, size=110, color=palette.fresh, opacity=1, xOffset=14).encode(
                x=x, y=y
            ),
            base.mark_text(align="left", xOffset=22, yOffset=13, color=palette.fresh, fontWeight=600).encode(
                x=x, y=y, text=alt.Text("text:N")
            ),
        ]
    return headed(layered(layers, width=STAGE_WIDTH * len(order), height=HEIGHT), line.line, offset=24)


def _signed(value: float) -> str:
    return number(value, PLACES, sign=True).replace("-", "\N{MINUS SIGN}")
