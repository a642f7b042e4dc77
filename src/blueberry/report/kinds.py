"""Figures that only some kinds of study have: searches of all parts, laws, effects, learning-rate histories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import altair as alt

from blueberry.judge import words
from blueberry.judge.answers import Effect
from blueberry.judge.effects import effect_name
from blueberry.judge.judgement import Judgement, Optimum
from blueberry.judge.words import count, decimals, metric_axis, number, setting_name, setting_value
from blueberry.records import StudyRun
from blueberry.report.charts import (
    Axis,
    Drawing,
    Figure,
    Palette,
    Width,
    chart,
    dashes,
    find_axis,
    layered,
    picture_range,
    rate_axis,
    tips,
)
from blueberry.report.method import draw_residuals, residuals, residuals_caption


@dataclass(frozen=True)
class SweepPoint:
    part: str
    x: float
    y: float
    interval: tuple[float, float] | None
    best: bool


@dataclass(frozen=True)
class Sweeps:
    """The searches of all parts in one picture."""

    axis: Axis
    """All values tried by any part."""
    parts: tuple[str, ...]
    points: tuple[SweepPoint, ...]
    label: str
    above_best: bool
    """y is the loss above the part's own best: conditions are not compared."""
    num_left_out: int
    """Points above the picture, or without a finite mean: an arm of a part each."""
    y_range: tuple[float, float]


@dataclass(frozen=True)
class LawPoint:
    condition: str
    x: float
    y: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class LawCurve:
    """The optimum against the size of the condition, both logarithmic, and the line through them; of several sizes
    against what the law says of them."""

    x_label: str
    y_label: str
    points: tuple[LawPoint, ...]
    line: tuple[tuple[float, float], tuple[float, float]]
    """Two ends of the fitted power law."""
    held_out: LawPoint | None
    """What the others predict for the largest condition."""
    caption: str


Rates = Mapping[str, tuple[tuple[int, float], ...]]
"""By arm, update and learning rate."""


def of_the_whole(judgement: Judgement, runs: Sequence[StudyRun]) -> tuple[StudyRun, ...]:
    """The runs that stand for the arms of a judgement made of parts; those of any other are as they are.

    With [tune] the runs that compare the parts' own bests; with [across] each condition's best arm on its searching
    seeds.
    """
    if not judgement.parts:
        return tuple(runs)
    if judgement.conditions:
        best = {part.name: part.judgement.best.arm for part in judgement.parts if part.judgement.best}
        chosen = [run for run in runs if run.stage == "search" and best.get(run.part) == run.arm]
    else:
        chosen = [run for run in runs if run.stage != "search"]
    stage = {"search": "search", "compare": "search", "confirm": "confirm"}
    return tuple(replace(run, arm=run.part, stage=stage[run.stage]) for run in chosen)


def sweeps(judgement: Judgement) -> Sweeps | None:
    """None unless every part searches along the same numeric axis."""
    axes = [axis for part in judgement.parts if (axis := find_axis(part.judgement)) is not None]
    if not axes or len(axes) < len(judgement.parts) or any(axis.setting != axes[0].setting for axis in axes):
        return None
    values = tuple(sorted({value for axis in axes for value in axis.values}))
    axis = replace(axes[0], values=values, log=all(one.log for one in axes))
    above_best = bool(judgement.conditions)
    points, num_left_out = [], 0
    for part in judgement.parts:
        best = part.judgement.best
        for arm in part.judgement.arms:
            is_best = best is not None and arm.arm == best.arm
            mean = best.search_mean if best is not None and is_best and not arm.n else arm.mean
            if best is None or mean is None or mean == float("inf"):
                num_left_out += 1
                continue
            shift = best.search_mean if above_best else 0.0
            ends = None if arm.interval is None else (arm.interval[0] - shift, arm.interval[1] - shift)
            x = float(arm.settings[axis.setting])
            points.append(SweepPoint(part.name, x, mean - shift, ends, is_best))
    if not points:
        return None
    ys = sorted(point.y for point in points)
    y_range = picture_range(ys[0], ys[-1], ys[len(ys) // 2] - ys[0])
    shown = tuple(point for point in points if point.y <= y_range[1])
    label = metric_axis(judgement.metric)
    return Sweeps(
        axis=axis,
        parts=tuple(part.name for part in judgement.parts),
        points=shown,
        label=f"{label}, above its own best" if above_best else label,
        above_best=above_best,
        num_left_out=num_left_out + len(points) - len(shown),
        y_range=y_range,
    )


def sweeps_caption(shown: Sweeps) -> str:
    said = "One line a part, over the seeds that search; large points: its own best"
    if shown.above_best:
        said += ", to which its losses are related, because conditions are not compared"
    left = f" Not drawn, as above the picture or without a finite mean: {count(shown.num_left_out, 'point')}."
    left = left if shown.num_left_out else ""
    return f"{said}. Bars: the interval of each mean.{left}"


def law_curve(judgement: Judgement) -> LawCurve | None:
    """The law of the optimum; None where none was fitted."""
    searched = judgement.parts[0].judgement.vary if judgement.parts else ()
    law = next((law for law in judgement.laws if law.of in searched), None)
    if law is None:
        return None
    is_one = len(law.powers) == 1
    places = {p.name: float(p.settings[law.powers[0].by]) if is_one else law.at(p.settings) for p in judgement.parts}
    points = [
        LawPoint(part.name, places[part.name], part.judgement.optimum.estimate, part.judgement.optimum.interval)
        for part in sorted(judgement.parts, key=lambda part: places[part.name])
        if isinstance(part.judgement.optimum, Optimum)
    ]
    held = law.held_out
    ends = (points[0].x, points[-1].x)
    at_ends = [law.factor * end ** law.powers[0].exponent if is_one else end for end in ends]
    powers = words.listing(
        [
            f"{setting_name(power.by)} {power.exponent:.2f} [{power.interval[0]:.2f}, {power.interval[1]:.2f}]"
            for power in law.powers
        ]
    )
    line = f"power of {powers}" if is_one else f"the law, with the powers {powers}"
    return LawCurve(
        x_label=setting_name(law.powers[0].by) if is_one else f"best {setting_name(law.of)} by the law",
        y_label=f"best {setting_name(law.of)}",
        points=tuple(points),
        line=((ends[0], at_ends[0]), (ends[1], at_ends[1])),
        held_out=held and LawPoint(held.condition, places[held.condition], held.predicted, held.interval),
        caption=f"Bars: {law.level:.0%} intervals of each optimum. Line: {line}."
        + (" Diamond: what the other conditions predict for the largest one." if held else ""),
    )


def shown_effects(judgement: Judgement) -> list[Effect]:
    """Main effects, then interactions, each from what betters the metric most; without those that were not measured."""
    known = [one for one in judgement.effects if one.difference is not None and one.interval is not None]
    return sorted(known, key=lambda one: (len(one.changes), judgement.sign * (one.difference or 0.0)))


def rate_lines(judgement: Judgement, runs: Sequence[StudyRun]) -> Rates:
    """Of one run an arm, as they were used; empty unless arms differ in schedule."""
    if not any(name.startswith("schedule.") for arm in judgement.arms for name in arm.settings):
        return {}
    first = {run.arm: run.result.curve.learning_rate for run in reversed(runs)}
    return {arm.arm: _thinned(rates) for arm in judgement.arms if (rates := first.get(arm.arm))}


def _thinned(rates: Sequence[float]) -> tuple[tuple[int, float], ...]:
    """The corners of the line: points whose neighbours do not lie on one straight line with them."""
    points = list(enumerate(rates, 1))
    if len(points) <= 2:
        return tuple(points)
    kept = [points[0]]
    for (_, before), (update, here), (_, after) in zip(points, points[1:], points[2:], strict=False):
        if abs((after - here) - (here - before)) > 1e-6 * max(rates):
            kept.append((update, here))
    return (*kept, points[-1])


WIDTH, HEIGHT = 700, 360
"""Pixels, of the plot without its axes."""
ROW_HEIGHT = 30


def draw_sweeps(shown: Sweeps, palette: Palette, places: int, *, width: Width = WIDTH) -> Drawing:
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
                "value": setting_value(point.x),
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


def draw_law(shown: LawCurve, palette: Palette, *, width: Width = WIDTH) -> Drawing:
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
    y = alt.Y("y:Q", title=shown.y_label, scale=y_scale, axis=alt.Axis(format=".4~g", tickCount=6))
    rows = [
        {
            "x": p.x,
            "y": p.y,
            "low": p.interval[0],
            "high": p.interval[1],
            "condition": p.condition,
            "optimum": setting_value(p.y),
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
    shown: Sequence[Effect], palette: Palette, *, label: str, min_effect: float, places: int, width: Width = WIDTH
) -> Drawing:
    """A row an effect, zero in the middle of a band of what does not matter."""
    ends = [end for one in shown for end in one.interval or ()] + [-min_effect, min_effect]
    margin = 0.06 * (max(ends) - min(ends))
    scale = alt.Scale(domain=[min(ends) - margin, max(ends) + margin], nice=False, zero=False)
    x = alt.X("x:Q", title=f"{label}: difference", scale=scale, axis=alt.Axis(tickCount=6))
    order = [effect_name(one) for one in shown]
    y = alt.Y(
        "name:N",
        title=None,
        scale=alt.Scale(domain=order),
        axis=alt.Axis(labelLimit=240, domain=False, ticks=False, grid=False),
    )
    rows = [
        {
            "name": name,
            "x": one.difference,
            "low": one.interval and one.interval[0],
            "high": one.interval and one.interval[1],
            "colour": (palette.accent if (one.difference or 0.0) < 0 else palette.fresh)
            if one.is_significant
            else palette.other,
            "shape": "diamond" if len(one.changes) > 1 else "circle",
            "difference": number(one.difference, places, sign=True),
        }
        for name, one in zip(order, shown, strict=True)
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


def draw_rates(lines: Rates, palette: Palette, *, width: Width = WIDTH) -> Drawing:
    """The learning rate at every update, a line an arm."""
    names = list(lines)
    rows = [{"arm": arm, "update": update, "rate": rate} for arm, rates in lines.items() for update, rate in rates]
    colour = alt.Color(
        "arm:N",
        scale=alt.Scale(domain=names, range=[palette.category(index) for index in range(len(names))]),
        legend=alt.Legend(orient="top", title=None, symbolType="stroke", symbolStrokeWidth=3, columns=5),
    )
    drawn = chart(rows).mark_line(strokeWidth=2, strokeOpacity=0.85)
    x = alt.X("update:Q", title="updates", scale=alt.Scale(zero=False, nice=False))
    y = alt.Y("rate:Q", title="learning rate", scale=alt.Scale(zero=True), axis=alt.Axis(format=".4~g"))
    drawn = drawn.encode(x=x, y=y, color=colour)
    if dash := dashes(names, palette):
        drawn = drawn.encode(strokeDash=dash)
    return layered([drawn], width=width, height=HEIGHT - 60)


def kind_figures(judgement: Judgement, runs: Sequence[StudyRun]) -> tuple[Figure, ...]:
    """Those that the judgement has something for. `runs` are labelled as `of_the_whole` does."""
    places, found = decimals(judgement.min_effect), []
    if (searches := sweeps(judgement)) is not None:
        path = f"figures/{'lr_search' if searches.axis.is_learning_rate else 'searches'}_comparison.png"
        title = f"Each part's search of the {setting_name(searches.axis.setting)}"
        draw = partial(draw_sweeps, searches, places=places)
        found.append(Figure("searches", path, title, sweeps_caption(searches), draw))
    if (left := residuals(judgement)) is not None:
        title = "Runs minus the fitted valley, seeds taken out"
        draw = partial(draw_residuals, left)
        found.append(Figure("residuals", "figures/residuals.png", title, residuals_caption(left), draw))
    if (law := law_curve(judgement)) is not None:
        title = f"The {law.y_label} against {law.x_label}"
        found.append(Figure("law", "figures/power_law_curves.png", title, law.caption, partial(draw_law, law)))
    if effects := shown_effects(judgement):
        title = "What each change does, and what two do together"
        said = "Circles: main effects; diamonds: interactions; grey: not told from zero. Band: what does not matter."
        more = {"label": metric_axis(judgement.metric), "min_effect": judgement.min_effect, "places": places}
        draw = partial(draw_effects, effects, **more)
        found.append(Figure("effects", "figures/effects_comparison.png", title, said, draw))
    if rates := rate_lines(judgement, runs):
        said = "Of the first run of each arm, as it was used."
        path = "figures/learning_rate_curves.png"
        found.append(Figure("rates", path, "Learning rates", said, partial(draw_rates, rates)))
    return tuple(found)
