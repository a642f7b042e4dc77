"""Draws Differences: a row an arm, zero in the middle of a band of what does not matter."""

from typing import Any

import altair as alt

from blueberry.report.differences import Difference, Differences
from blueberry.report.theme import Palette
from blueberry.report.vega import Width, chart, layered, tips
from blueberry.report.wording import number, plural

WIDTH, ROW_HEIGHT = 620, 46
"""Pixels."""


def draw_differences(shown: Differences, palette: Palette, places: int, *, width: Width = WIDTH) -> alt.LayerChart:
    """The figure without a title; a picture (`width` in pixels) carries each verdict in words at its right."""
    low, high = shown.x_range
    x_scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    x = alt.X("x:Q", title=shown.label, scale=x_scale, axis=alt.Axis(tickCount=6))
    order = [row.arm for row in shown.rows]
    scale = alt.Scale(domain=order, paddingInner=0.2, paddingOuter=0.2)
    y = alt.Y("arm:N", title=None, scale=scale, axis=alt.Axis(labelLimit=170, domain=False, ticks=False, grid=False))
    band = chart([{"x": max(-shown.min_effect, low), "x2": min(shown.min_effect, high)}])
    zero = chart([{"x": 0.0}]).mark_rule(color=palette.muted, strokeWidth=1)
    layers: list[alt.Chart] = [
        band.mark_rect(color=palette.accent, fillOpacity=0.11, opacity=1).encode(x=x, x2=alt.X2("x2:Q")),
        zero.encode(x=x),
    ]
    inside = [row for row in shown.rows if row.difference is not None and row.difference <= high]
    seeds = [
        {
            "arm": row.arm,
            "x": value,
            "seed": seed,
            "colour": _colour(row, palette),
            "said": number(value, places, sign=True),
        }
        for row in inside
        for seed, value in row.seeds
        if value <= high
    ]
    means = [_mean_row(row, shown, palette, places) for row in inside]
    colour = alt.Color("colour:N", scale=None, legend=None)
    circles = chart(seeds).mark_point(size=22, strokeWidth=1.1, strokeOpacity=0.8, opacity=1, filled=False, yOffset=-12)
    rules = chart([row for row in means if row["low"] is not None]).mark_rule(strokeWidth=2)
    dots = chart(means).mark_point(filled=True, size=95, opacity=1, stroke=palette.surface, strokeWidth=1)
    told = tips("arm:N", "difference:N", "interval:N", "n:Q", "verdict:N")
    layers += [
        circles.encode(
            x=x, y=y, color=colour, tooltip=[*tips("arm:N", "seed:Q"), alt.Tooltip("said:N", title="difference")]
        ),
        rules.encode(x=alt.X("low:Q", title=shown.label, scale=x_scale), x2=alt.X2("high:Q"), y=y, color=colour),
        dots.encode(x=x, y=y, fill=alt.Fill("colour:N", scale=None, legend=None), tooltip=told),
    ]
    layers += [layer.encode(y=y) for layer in _outside(shown, palette, places)]
    if width != "container":
        words = chart([{"arm": row.arm, "text": row.words} for row in shown.rows])
        text = words.mark_text(align="left", dx=12, color=palette.muted)
        layers.append(text.encode(x=alt.value(width), y=y, text=alt.Text("text:N")))
    height = ROW_HEIGHT * max(len(order), 1)
    return layered(layers, width=width, height=height)


def _colour(row: Difference, palette: Palette) -> str:
    """Accent where the arm is better, grey where it is worse, ink where it is open."""
    if row.verdict == "winner":
        return palette.accent if row.winner == row.arm else palette.other
    return palette.ink


def _mean_row(row: Difference, shown: Differences, palette: Palette, places: int) -> dict[str, Any]:
    low, high = row.interval or (None, None)
    interval = None if low is None or high is None else (low, high)
    return {
        "arm": row.arm,
        "x": row.difference,
        "low": None if low is None else max(low, shown.x_range[0]),
        "high": None if high is None else min(high, shown.x_range[1]),
        "colour": _colour(row, palette),
        "difference": number(row.difference, places, sign=True),
        "interval": "none" if interval is None else " to ".join(number(v, places, sign=True) for v in interval),
        "n": row.n,
        "verdict": row.words,
    }


def _outside(shown: Differences, palette: Palette, places: int) -> list[alt.Chart]:
    """Arms further right than the picture, and arms with diverged runs, marked at the right edge."""
    far = [
        {"arm": row.arm, "text": f"{number(row.difference, places, sign=True)}"}
        for row in shown.rows
        if row.difference is not None and row.difference > shown.x_range[1]
    ]
    diverged = [
        {"arm": row.arm, "text": f"{plural(row.num_diverged, 'run')} diverged"}
        for row in shown.rows
        if row.num_diverged
    ]
    triangle: dict[str, Any] = {"shape": "triangle-right", "color": palette.other}
    cross: dict[str, Any] = {"shape": "cross", "angle": 45, "color": palette.failed}
    edge = alt.value("width")
    layers: list[alt.Chart] = []
    for rows, look in ((far, triangle), (diverged, cross)):
        if rows:
            base = chart(rows)
            layers.append(base.mark_point(filled=True, size=70, opacity=1, xOffset=-8, **look).encode(x=edge))
            text = base.mark_text(align="right", xOffset=-18, color=palette.muted)
            layers.append(text.encode(x=edge, text=alt.Text("text:N")))
    return layers
