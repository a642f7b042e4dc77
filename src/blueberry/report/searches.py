"""Figures of searches: those of all parts of a study in one picture, the law of their optima, and what a fitted valley
leaves of each run."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import altair as alt

from blueberry.judge.judgement import Judgement, Optimum
from blueberry.judge.words import (
    count,
    decimals,
    interval,
    listing,
    metric_axis,
    number,
    setting_name,
    setting_value,
    unit,
)
from blueberry.report.charts import (
    Axis,
    Drawing,
    Figure,
    Palette,
    Width,
    band,
    between,
    chart,
    find_axis,
    layered,
    lines_of,
    picture_range,
    rate_axis,
    tips,
    zero,
)

WIDTH, HEIGHT = 700, 360
"""Pixels, of the plot without its axes."""


@dataclass(frozen=True)
class PartPoint:
    """An arm of a part, or a part's optimum."""

    part: str
    x: float
    y: float
    interval: tuple[float, float] | None
    """Of y."""
    is_best: bool = False


@dataclass(frozen=True)
class Sweeps:
    """The searches of all parts in one picture."""

    axis: Axis
    """All values tried by any part."""
    parts: tuple[str, ...]
    points: tuple[PartPoint, ...]
    label: str
    above_best: bool
    """y is the loss above the part's own best: conditions are not compared."""
    num_left_out: int
    """Points above the picture, or without a finite mean: an arm of a part each."""
    y_range: tuple[float, float]


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
            points.append(PartPoint(part.name, x, mean - shift, ends, is_best))
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


def sweeps_figure(judgement: Judgement) -> Figure | None:
    searches = sweeps(judgement)
    if searches is None:
        return None
    path = f"figures/{'lr_search' if searches.axis.is_learning_rate else 'searches'}_comparison.png"
    title = f"Each part's search of the {setting_name(searches.axis.setting)}"
    draw = partial(draw_sweeps, searches, places=decimals(judgement.min_effect))
    return Figure("searches", path, title, sweeps_caption(searches), draw)


def draw_sweeps(shown: Sweeps, palette: Palette, places: int, *, width: Width = WIDTH) -> Drawing:
    """A line a part; its own best is large."""
    low, high = shown.y_range
    ends = (shown.axis.beyond(shown.axis.values[0], -0.5), shown.axis.beyond(shown.axis.values[-1], 0.5))
    x, scale = rate_axis(shown.axis, ends), between(low, high)
    middle = (len(shown.parts) - 1) / 2
    rows: list[dict[str, Any]] = []
    for point in shown.points:
        least, most = point.interval or (point.y, point.y)
        rows.append(
            {
                "part": point.part,
                "x": shown.axis.beyond(point.x, 0.08 * (shown.parts.index(point.part) - middle)),
                "y": point.y,
                "low": max(least, low),
                "high": min(most, high),
                "size": 130 if point.is_best else 32,
                "value": setting_value(point.x),
                "mean": number(point.y, places),
            }
        )
    colour, y = lines_of("part", shown.parts, palette), alt.Y("y:Q", title=shown.label, scale=scale)
    base = chart(rows)
    line = base.mark_line(strokeWidth=1.6, strokeOpacity=0.75)
    dots = base.mark_point(filled=True, opacity=1, stroke=palette.surface, strokeWidth=1)
    dots = dots.encode(size=alt.Size("size:Q", scale=None, legend=None), tooltip=tips("part:N", "value:N", "mean:N"))
    y_low = alt.Y("low:Q", title=shown.label, scale=scale)
    layers = [
        line.encode(x=x, y=y, color=colour),
        base.mark_rule(strokeWidth=1.5).encode(x=x, y=y_low, y2=alt.Y2("high:Q"), color=colour),
        dots.encode(x=x, y=y, color=colour),
    ]
    return layered(layers, width=width, height=HEIGHT)


# --- The law of their optima ---


@dataclass(frozen=True)
class LawCurve:
    """The optimum against the size of the condition, both logarithmic, and the line through them; of several sizes
    against what the law says of them."""

    x_label: str
    y_label: str
    points: tuple[PartPoint, ...]
    line: tuple[tuple[float, float], tuple[float, float]]
    """Two ends of the fitted power law."""
    held_out: PartPoint | None
    """What the others predict for the largest condition."""
    caption: str


def law_curve(judgement: Judgement) -> LawCurve | None:
    """The law of the optimum; None where none was fitted."""
    searched = judgement.parts[0].judgement.vary if judgement.parts else ()
    law = next((law for law in judgement.laws if law.of in searched), None)
    if law is None:
        return None
    is_one = len(law.powers) == 1
    places = {p.name: float(p.settings[law.powers[0].by]) if is_one else law.at(p.settings) for p in judgement.parts}
    points = [
        PartPoint(part.name, places[part.name], part.judgement.optimum.estimate, part.judgement.optimum.interval)
        for part in sorted(judgement.parts, key=lambda part: places[part.name])
        if isinstance(part.judgement.optimum, Optimum)
    ]
    held = law.held_out
    ends = (points[0].x, points[-1].x)
    at_ends = [law.factor * end ** law.powers[0].exponent if is_one else end for end in ends]
    powers = listing(
        [f"{setting_name(power.by)} {number(power.exponent, 2)} {interval(power.interval, 2)}" for power in law.powers]
    )
    line = f"power of {powers}" if is_one else f"the law, with the powers {powers}"
    return LawCurve(
        x_label=setting_name(law.powers[0].by) if is_one else f"best {setting_name(law.of)} by the law",
        y_label=f"best {setting_name(law.of)}",
        points=tuple(points),
        line=((ends[0], at_ends[0]), (ends[1], at_ends[1])),
        held_out=held and PartPoint(held.condition, places[held.condition], held.predicted, held.interval),
        caption=f"Bars: {law.level:.0%} intervals of each optimum. Line: {line}."
        + (" Diamond: what the other conditions predict for the largest one." if held else ""),
    )


def law_figure(judgement: Judgement) -> Figure | None:
    law = law_curve(judgement)
    if law is None:
        return None
    title = f"The {law.y_label} against {law.x_label}"
    return Figure("law", "figures/power_law_curves.png", title, law.caption, partial(draw_law, law))


def draw_law(shown: LawCurve, palette: Palette, *, width: Width = WIDTH) -> Drawing:
    """Both axes logarithmic; every condition is named at its point."""
    xs, held = [point.x for point in shown.points], shown.held_out
    ends = [end for point in (*shown.points, held) if point for end in point.interval or ()]
    x_scale = alt.Scale(type="log", domain=[min(xs) / 1.25, max(xs) * 1.4], nice=False)
    x = alt.X("x:Q", title=shown.x_label, scale=x_scale, axis=alt.Axis(values=xs, format="~s"))
    y_scale = alt.Scale(type="log", domain=[min(ends) / 1.15, max(ends) * 1.15], nice=False)
    y = alt.Y("y:Q", title=shown.y_label, scale=y_scale, axis=alt.Axis(format=".4~g", tickCount=6))
    low = alt.Y("low:Q", title=shown.y_label, scale=y_scale)
    line = chart([{"x": at, "y": value} for at, value in shown.line])
    line = line.mark_line(color=palette.accent, strokeWidth=1.6, strokeOpacity=0.6)
    points = chart([_law_row(p) | {"condition": p.part, "optimum": setting_value(p.y)} for p in shown.points])
    dots = points.mark_point(filled=True, color=palette.accent, size=80, opacity=1)
    layers = [
        line.encode(x=x, y=y),
        points.mark_rule(color=palette.accent, strokeWidth=2).encode(x=x, y=low, y2=alt.Y2("high:Q")),
        dots.encode(x=x, y=y, tooltip=tips("condition:N", "optimum:N")),
    ]
    if held is not None:
        base = chart([_law_row(held) | {"x": held.x * 1.06, "said": "predicted"}])
        diamond = base.mark_point(shape="diamond", filled=True, color=palette.fresh, size=95, opacity=1)
        text = base.mark_text(align="left", dx=9, color=palette.fresh, fontWeight=600)
        layers += [
            base.mark_rule(color=palette.fresh, strokeWidth=2).encode(x=x, y=low, y2=alt.Y2("high:Q")),
            diamond.encode(x=x, y=y),
            text.encode(x=x, y=y, text=alt.Text("said:N")),
        ]
    return layered(layers, width=width, height=HEIGHT)


def _law_row(point: PartPoint) -> dict[str, Any]:
    low, high = point.interval or (point.y, point.y)
    return {"x": point.x, "y": point.y, "low": low, "high": high}


# --- What the fitted valley leaves of each run ---


@dataclass(frozen=True)
class Residual:
    """One run minus the fitted valley, minus the mean of that over the runs of its seed."""

    arm: str
    x: float
    seed: int | None
    value: float


@dataclass(frozen=True)
class Residuals:
    """What the valley leaves of the runs in its window, seeds taken out."""

    axis: Axis
    window: tuple[float, float]
    unit: str
    """Of the metric, or ""."""
    decimals: int
    sd: float
    points: tuple[Residual, ...]
    num_alone: int
    """Runs left out, as the only ones of their seed there: what a seed does and what is left cannot be told apart."""


def residuals(judgement: Judgement) -> Residuals | None:
    """None unless the answer is a search's, read off a valley."""
    axis, valley = find_axis(judgement), judgement.valley
    if axis is None or valley is None or not judgement.is_located:
        return None
    by_seed: dict[int | None, list[Residual]] = {}
    for arm in judgement.arms:
        x = float(arm.settings[axis.setting])
        there = valley.at(x)
        if there is not None and not arm.num_diverged:
            for seed, value in zip(arm.seeds, arm.values, strict=True):
                by_seed.setdefault(seed, []).append(Residual(arm.arm, x, seed, value - there.expected))
    points = []
    for seed, found in by_seed.items():
        mean = sum(one.value for one in found) / len(found)
        points += [Residual(one.arm, one.x, seed, one.value - mean) for one in found if len(found) > 1]
    if not points:
        return None
    return Residuals(
        axis=axis,
        window=valley.window,
        unit=unit(judgement.metric).strip(),
        decimals=decimals(judgement.min_effect) + 1,
        sd=valley.sd,
        points=tuple(sorted(points, key=lambda one: one.x)),
        num_alone=sum(len(found) == 1 for found in by_seed.values()),
    )


def residuals_caption(shown: Residuals) -> str:
    said = "Each circle is a run in the window, what its seed does to all runs taken out; the shaded band is one sd. "
    said += "Circles that bend away from zero together would say that the loss is not this smooth valley."
    return said + (f" Left out, alone on their seed: {count(shown.num_alone, 'run')}." if shown.num_alone else "")


def residuals_figure(judgement: Judgement) -> Figure | None:
    left = residuals(judgement)
    if left is None:
        return None
    title = "Runs minus the fitted valley, seeds taken out"
    draw = partial(draw_residuals, left)
    return Figure("residuals", "figures/residuals.png", title, residuals_caption(left), draw)


def draw_residuals(shown: Residuals, palette: Palette, *, width: Width = WIDTH) -> Drawing:
    """A circle a run about a line at zero."""
    x = rate_axis(shown.axis, (shown.axis.beyond(shown.window[0], -0.3), shown.axis.beyond(shown.window[1], 0.3)))
    most = 1.15 * max(shown.sd, *(abs(one.value) for one in shown.points))
    title = f"run minus valley ({shown.unit})" if shown.unit else "run minus valley"
    y = alt.Y("y:Q", title=title, scale=alt.Scale(domain=[-most, most], nice=False), axis=alt.Axis(tickCount=5))
    rows = [
        {"x": one.x, "y": one.value, "arm": one.arm, "seed": one.seed}
        | {"left": number(one.value, shown.decimals, sign=True)}
        for one in shown.points
    ]
    circles = chart(rows).mark_point(size=36, strokeWidth=1.4, opacity=1, filled=False, color=palette.accent)
    layers = [
        band(-shown.sd, shown.sd, palette, "y").encode(y=y, y2=alt.Y2("y2:Q")),
        zero(palette, "y").encode(y=y),
        circles.encode(x=x, y=y, tooltip=tips("arm:N", "seed:Q", "left:N")),
    ]
    return layered(layers, width=width, height=190)
