"""Draws Timelines: a panel a line, stages from left to right, each a step down from the one before."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from blueberry.report.figures import finished
from blueberry.report.theme import LIGHT
from blueberry.report.timeline import START, Timeline
from blueberry.report.vega import chart, layered, png
from blueberry.report.wording import metric_name, metric_unit, number, plural

STAGE_WIDTH, HEIGHT = 190, 300
"""Pixels."""
PLACES = 3


def timeline_png(lines: Sequence[Timeline]) -> bytes:
    """One picture of all lines."""
    panels = [_panel(line) for line in lines]
    drawn: Any = alt.vconcat(*panels, spacing=34)
    said = (
        "Blue: what the stages claimed, added up; bars: each stage's own interval. "
        "Orange: the newest baseline against the original, measured together on fresh seeds."
    )
    return png(finished(drawn, "The line of baselines", said))


def _panel(line: Timeline) -> alt.LayerChart:
    palette = LIGHT
    order = [START, *(stage.label for stage in line.stages)]
    unit = metric_unit(line.metric)
    title = f"{metric_name(line.metric)} minus the original's{f' ({unit})' if unit else ''}"
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
    points = chart(levels)
    layers: list[alt.Chart] = [
        chart([{"y": 0.0}]).mark_rule(color=palette.muted, strokeWidth=1).encode(y=y),
        points.mark_line(interpolate="step", color=palette.accent, strokeOpacity=0.45).encode(x=_sorted(x, order), y=y),
        chart(bars).mark_rule(color=palette.accent, strokeWidth=2).encode(x=x, y=y, y2=alt.Y2("y2:Q")),
        points.mark_point(filled=True, size=90, color=palette.accent, opacity=1).encode(x=x, y=y),
        points.mark_text(align="right", dx=-10, dy=-9, color=palette.accent, fontWeight=600).encode(
            x=x, y=y, text=alt.Text("text:N")
        ),
        points.mark_text(baseline="bottom", color=palette.muted, limit=STAGE_WIDTH - 6).encode(
            x=x, y=alt.value(-6), text=alt.Text("said:N")
        ),
    ]
    if line.measured:
        totals = [
            {
                "stage": one.label,
                "y": one.difference,
                "low": one.interval[0] if one.interval else None,
                "high": one.interval[1] if one.interval else None,
                "text": f"{_signed(one.difference)}, {plural(one.n, 'seed')}",
            }
            for one in line.measured
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
    heading = alt.TitleParams(line.line, fontSize=13, offset=24)
    return layered(layers, width=STAGE_WIDTH * len(order), height=HEIGHT, title=heading)


def _signed(value: float) -> str:
    return number(value, PLACES, sign=True).replace("-", "\N{MINUS SIGN}")


def _sorted(x: alt.X, order: Sequence[str]) -> alt.X:
    """A line is joined in the order of its stages, not of their names."""
    return x.sort(list(order))
