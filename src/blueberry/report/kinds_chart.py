"""Draws what kinds.py computes: searches of all parts, laws, effects, learning-rate histories."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from blueberry.report.kinds import EffectRow, LawCurve, RateLine, Sweeps
from blueberry.report.lr_curve_chart import rate_axis
from blueberry.report.theme import Palette
from blueberry.report.vega import Width, chart, layered, tips
from blueberry.report.wording import number, short

WIDTH, HEIGHT = 700, 360
"""Pixels, of the plot without its axes."""
ROW_HEIGHT = 30


def draw_sweeps(shown: Sweeps, palette: Palette, places: int, *, width: Width = WIDTH) -> alt.LayerChart:
    """A line a part; its own best is large."""
    low, high = shown.y_range
    x_range = (shown.axis.beyond(shown.axis.values[0], -0.5), shown.axis.beyond(shown.axis.values[-1], 0.5))
    x = rate_axis(shown.axis, x_range)
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    middle = (len(shown.parts) - 1) / 2
    rows: list[dict[str, Any]] = []
    for point in shown.points:
        number_of_part = shown.parts.index(point.part)
        ends = point.interval or (point.y, point.y)
        rows.append(
            {
                "part": point.part,
                "x": shown.axis.beyond(point.x, 0.08 * (number_of_part - middle)),
                "y": point.y,
                "low": max(ends[0], low),
                "high": min(ends[1], high),
                "size": 130 if point.best else 32,
                "value": short(point.x),
                "mean": number(point.y, places),
            }
        )
    colours = [palette.category(index) for index in range(len(shown.parts))]
    colour = alt.Color(
        "part:N",
        scale=alt.Scale(domain=list(shown.parts), range=colours),
        legend=alt.Legend(orient="top", title=None, symbolType="stroke", symbolStrokeWidth=3, columns=5),
    )
    y = alt.Y("y:Q", title=shown.label, scale=scale)
    base = chart(rows)
    dots = base.mark_point(filled=True, opacity=1, stroke=palette.surface, strokeWidth=1)
    return layered(
        [
            base.mark_line(strokeWidth=1.6, strokeOpacity=0.75).encode(x=x, y=y, color=colour),
            base.mark_rule(strokeWidth=1.5).encode(
                x=x, y=alt.Y("low:Q", title=shown.label, scale=scale), y2=alt.Y2("high:Q"), color=colour
            ),
            dots.encode(
                x=x,
                y=y,
                color=colour,
                size=alt.Size("size:Q", scale=None, legend=None),
                tooltip=tips("part:N", "value:N", "mean:N"),
            ),
        ],
        width=width,
        height=HEIGHT,
    )


def draw_law(shown: LawCurve, palette: Palette, *, width: Width = WIDTH) -> alt.LayerChart:
    """Both axes logarithmic; every condition is named at its point."""
    x_values = [point.x for point in shown.points]
    ends = [end for point in shown.points for end in point.interval]
    ends += list(shown.held_out.interval) if shown.held_out else []
    x = alt.X(
        "x:Q",
        title=shown.x_label,
        scale=alt.Scale(type="log", domain=[min(x_values) / 1.25, max(x_values) * 1.4], nice=False),
        axis=alt.Axis(values=x_values, format="~s"),
    )
    y_scale = alt.Scale(type="log", domain=[min(ends) / 1.15, max(ends) * 1.15], nice=False)
    y = alt.Y("y:Q", title=shown.y_label, scale=y_scale, axis=alt.Axis(format=".2~g", tickCount=6))
    rows = [
        {
            "x": p.x,
            "y": p.y,
            "low": p.interval[0],
            "high": p.interval[1],
            "condition": p.condition,
            "optimum": short(p.y),
        }
        for p in shown.points
    ]
    line = chart([{"x": at, "y": value} for at, value in shown.line]).mark_line(
        color=palette.accent, strokeWidth=1.6, strokeOpacity=0.6
    )
    points = chart(rows)
    low = alt.Y("low:Q", title=shown.y_label, scale=y_scale)
    layers = [
        line.encode(x=x, y=y),
        points.mark_rule(color=palette.accent, strokeWidth=2).encode(x=x, y=low, y2=alt.Y2("high:Q")),
        points.mark_point(filled=True, color=palette.accent, size=80, opacity=1).encode(
            x=x, y=y, tooltip=tips("condition:N", "optimum:N")
        ),
    ]
    if shown.held_out is not None:
        held = shown.held_out
        row = {"x": held.x * 1.06, "y": held.y, "low": held.interval[0], "high": held.interval[1], "said": "predicted"}
        base = chart([row])
        layers += [
            base.mark_rule(color=palette.fresh, strokeWidth=2).encode(x=x, y=low, y2=alt.Y2("high:Q")),
            base.mark_point(shape="diamond", filled=True, color=palette.fresh, size=95, opacity=1).encode(x=x, y=y),
            base.mark_text(align="left", dx=9, color=palette.fresh, fontWeight=600).encode(
                x=x, y=y, text=alt.Text("said:N")
            ),
        ]
    return layered(layers, width=width, height=HEIGHT)


def draw_effects(
    shown: Sequence[EffectRow], label: str, min_effect: float, palette: Palette, places: int, *, width: Width = WIDTH
) -> alt.LayerChart:
    """A row an effect, zero in the middle of a band of what does not matter."""
    ends = [end for row in shown for end in row.interval] + [-min_effect, min_effect]
    margin = 0.06 * (max(ends) - min(ends))
    scale = alt.Scale(domain=[min(ends) - margin, max(ends) + margin], nice=False, zero=False)
    x = alt.X("x:Q", title=f"{label}: difference", scale=scale, axis=alt.Axis(tickCount=6))
    order = [row.name for row in shown]
    y = alt.Y(
        "name:N",
        title=None,
        scale=alt.Scale(domain=order),
        axis=alt.Axis(labelLimit=240, domain=False, ticks=False, grid=False),
    )
    rows = [
        {
            "name": row.name,
            "x": row.difference,
            "low": row.interval[0],
            "high": row.interval[1],
            "colour": (palette.accent if row.difference < 0 else palette.fresh)
            if row.is_significant
            else palette.other,
            "shape": "diamond" if row.is_interaction else "circle",
            "difference": number(row.difference, places, sign=True),
        }
        for row in shown
    ]
    band = chart([{"x": -min_effect, "x2": min_effect}]).mark_rect(color=palette.accent, fillOpacity=0.11, opacity=1)
    colour = alt.Color("colour:N", scale=None, legend=None)
    base = chart(rows)
    return layered(
        [
            band.encode(x=x, x2=alt.X2("x2:Q")),
            chart([{"x": 0.0}]).mark_rule(color=palette.muted, strokeWidth=1).encode(x=x),
            base.mark_rule(strokeWidth=2).encode(
                x=alt.X("low:Q", title=f"{label}: difference", scale=scale), x2=alt.X2("high:Q"), y=y, color=colour
            ),
            base.mark_point(filled=True, opacity=1, size=85).encode(
                x=x,
                y=y,
                color=colour,
                shape=alt.Shape("shape:N", scale=None, legend=None),
                tooltip=tips("name:N", "difference:N"),
            ),
        ],
        width=width,
        height=ROW_HEIGHT * max(len(order), 2),
    )


def draw_rates(lines: Sequence[RateLine], palette: Palette, *, width: Width = WIDTH) -> alt.LayerChart:
    """The learning rate at every update, a line an arm."""
    names = [line.arm for line in lines]
    rows = [{"arm": line.arm, "update": update, "rate": rate} for line in lines for update, rate in line.rates]
    colour = alt.Color(
        "arm:N",
        scale=alt.Scale(domain=names, range=[palette.category(index) for index in range(len(names))]),
        legend=alt.Legend(orient="top", title=None, symbolType="stroke", symbolStrokeWidth=3, columns=5),
    )
    drawn = chart(rows).mark_line(strokeWidth=2, strokeOpacity=0.85)
    x = alt.X("update:Q", title="updates", scale=alt.Scale(zero=False, nice=False))
    y = alt.Y("rate:Q", title="learning rate", scale=alt.Scale(zero=True), axis=alt.Axis(format=".2~g"))
    return layered([drawn.encode(x=x, y=y, color=colour)], width=width, height=HEIGHT - 60)
