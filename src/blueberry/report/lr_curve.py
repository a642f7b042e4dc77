"""The main figure of a sweep, loss against the varied setting: computed, then drawn.

Strips over the picture hold marks for runs that diverged or lie above it; a strip below holds the interval of the
optimum. Neither shares its space with the data. Left to right at each value: the seeds, the mean, fresh seeds.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

from blueberry.judge.judgement import ArmSummary, Best, Bound, Judgement, Optimum
from blueberry.judge.words import count, decimals, metric_axis, number, setting_name, setting_value
from blueberry.report.charts import (
    GIVEN,
    Axis,
    Drawing,
    Palette,
    Width,
    band,
    chart,
    find_axis,
    layered,
    picture_range,
    rate_axis,
    tips,
)

Place = Literal["inside", "above", "diverged"]
"""In the picture; above its top, or without a finite value: both are marked in the strip over the picture."""


@dataclass(frozen=True)
class Point:
    """One arm, where it lies."""

    arm: ArmSummary
    x: float
    series: str
    """Its other varied settings in words; "" for one axis."""
    top: float
    """Of the picture."""

    @property
    def mean(self) -> float | None:
        """None when a run diverged, for then there is no finite mean."""
        return self.arm.mean if self.arm.mean is not None and math.isfinite(self.arm.mean) else None

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.mean is None else self.arm.interval

    def runs(self, place: Place) -> list[tuple[int | None, float]]:
        """Seed and value of those in that place."""
        return [run for run in zip(self.arm.seeds, self.arm.values, strict=True) if self._place(run[1]) == place]

    def _place(self, value: float) -> Place:
        return "diverged" if not math.isfinite(value) else "above" if value > self.top else "inside"


@dataclass(frozen=True)
class LrCurve:
    """Loss against the varied setting, ready to draw."""

    judgement: Judgement
    axis: Axis
    points: tuple[Point, ...]
    """Ascending along the axis."""
    series: tuple[str, ...]
    """Of the other varied settings; ("",) for one axis."""
    band: tuple[float, float] | None
    """Around the arms not told apart from the best, a little beyond the outermost, or the interval of an optimum that
    was located; None in a grid of several axes."""
    valley: tuple[tuple[float, float], ...]
    """The fitted valley, value and metric, where it is in the picture; empty where none was fitted."""
    optimum: Optimum | Bound | None
    """In the setting of this axis; else None."""
    y_range: tuple[float, float] | None
    """What the picture shows; None when no run ended with a finite value."""

    @property
    def confirmed(self) -> Best | None:
        """The chosen arm on fresh seeds, if it was run on any."""
        best = self.judgement.best
        return best if best is not None and best.confirmed else None

    @property
    def x_range(self) -> tuple[float, float]:
        return self.axis.beyond(self.axis.values[0], -0.45), self.axis.beyond(self.axis.values[-1], 0.45)

    @property
    def shown(self) -> tuple[Point, ...]:
        """The arms whose mean is in the picture."""
        return tuple(point for point in self.points if point.mean is not None and point.mean <= point.top)

    def at(self, arm: str) -> Point:
        return next(point for point in self.points if point.arm.arm == arm)

    def count(self, place: Place) -> int:
        """Runs in that place."""
        return sum(len(point.runs(place)) for point in self.points)


def lr_curve(judgement: Judgement) -> LrCurve:
    """The main figure of a sweep, computed. The judgement's arms must lie on a numeric axis (`find_axis`)."""
    axis = find_axis(judgement)
    assert axis is not None, "lr_curve needs arms on a numeric axis"
    arms = sorted(judgement.arms, key=lambda arm: _x(arm, axis))
    y_range = valley_range(judgement)
    top = math.inf if y_range is None else y_range[1]
    one_axis = len(judgement.vary) == 1
    optimum = judgement.optimum
    return LrCurve(
        judgement=judgement,
        axis=axis,
        points=tuple(Point(arm, _x(arm, axis), series_of(judgement, arm), top) for arm in arms),
        series=tuple(dict.fromkeys(series_of(judgement, arm) for arm in arms)),
        band=_band(judgement, axis) if one_axis else None,
        valley=_valley(judgement, y_range) if one_axis else (),
        optimum=optimum if one_axis and optimum and optimum.setting == axis.setting else None,
        y_range=y_range,
    )


def series_of(judgement: Judgement, arm: ArmSummary) -> str:
    """The arm's other varied settings in words; "" in a study of one axis."""
    return ", ".join(f"{setting_name(name)} = {setting_value(arm.settings.get(name))}" for name in judgement.vary[1:])


def valley_range(judgement: Judgement) -> tuple[float, float] | None:
    """Bottom and top that show the valley: the whole range unless a few arms stand far above the better half.

    The better half of the arms, and those unresolved, are what matters; the rest may be left to marks at the top.
    Noise and min_effect keep the valley from being too small. None when no run ended with a finite value.
    """
    finite = {arm.arm: [value for value in arm.values if math.isfinite(value)] for arm in judgement.arms}
    values = [value for some in finite.values() for value in some]
    if not values:
        return None
    best = judgement.best
    shown = [*values, *([best.mean] if best else []), *(best.interval if best and best.interval else ())]
    low, high = min(shown), max(values)
    ended = sorted((sum(some) / len(some), name) for name, some in finite.items() if some)
    kept = {name for _, name in ended[: (len(ended) + 1) // 2]} | {
        arm.arm for arm in judgement.arms if arm.status in ("best", "unresolved")
    }
    core = max((value for name in kept for value in finite[name]), default=high)
    height = max(core - low, 4 * (judgement.noise.sd or 0.0), 2 * judgement.min_effect)
    return picture_range(low, high, height)


def _x(arm: ArmSummary, axis: Axis) -> float:
    return float(arm.settings[axis.setting])


def _band(judgement: Judgement, axis: Axis) -> tuple[float, float] | None:
    """The interval of a located optimum; else from a third of the gap below the lowest unresolved value to a third of
    the gap above the highest."""
    if judgement.is_located and judgement.valley is not None:
        return judgement.valley.interval
    inside = [_x(arm, axis) for arm in judgement.arms if arm.status in ("best", "unresolved")]
    if not inside:
        return None
    low, high = min(inside), max(inside)
    below, above = axis.neighbours(low)[0], axis.neighbours(high)[1]
    return (
        axis.between(low, below, 1 / 3) if below is not None else axis.beyond(low, -1 / 3),
        axis.between(high, above, 1 / 3) if above is not None else axis.beyond(high, 1 / 3),
    )


def _valley(judgement: Judgement, y_range: tuple[float, float] | None) -> tuple[tuple[float, float], ...]:
    if judgement.valley is None or y_range is None:
        return ()
    low, high = y_range
    return tuple((at.value, at.expected) for at in judgement.valley.curve if low <= at.expected <= high)


def curve_caption(curve: LrCurve) -> str:
    """How to read the picture, in a few short sentences."""
    dot = (
        "each dot the mean of an arm with its interval" if any(p.interval for p in curve.points) else "each dot an arm"
    )
    said = [f"Each small circle is one seed, {dot}."] if curve.y_range else []
    if curve.valley:
        said.append("The dashed line is the smooth valley that was fitted; it ends with the window it was read from.")
    if curve.band and curve.judgement.is_located:
        said.append("The shaded band holds the optimum, if the curve is one smooth valley.")
    elif curve.band and curve.judgement.withholds_differences:
        said.append("The shaded band holds what the numbers alone leave as the best; an audit withholds the claim.")
    elif curve.band:
        failed = any(point.arm.status == "diverged" for point in curve.points)
        unresolved = sum(point.arm.status in ("best", "unresolved") for point in curve.points)
        said.append(
            f"The shaded band holds the {unresolved} arms not told apart from the best, itself included."
            if unresolved > 1
            else f"The shaded band holds the best arm; every other is worse{' or has diverged' if failed else ''}."
        )
    if curve.confirmed:
        said.append("The orange diamond is the chosen arm on fresh seeds.")
    above, diverged = curve.count("above"), curve.count("diverged")
    runs = count(curve.count("inside") + above + diverged, "run")
    if above:
        said.append(f"{above} of {runs} ended above the picture: triangles, with their mean.")
    if diverged:
        said.append(f"{diverged} of {runs} diverged: crosses.")
    alone = curve.confirmed.arm if curve.confirmed else None  # searched between, and drawn from its fresh seeds
    missing = sum(point.arm.n == 0 and point.arm.arm != alone for point in curve.points)
    if missing:
        said.append(f"{count(missing, 'arm')} without a run that ended: not drawn.")
    return " ".join(said)


WIDTH, HEIGHT = 760, 400
"""Pixels, of the plot without its axes."""
EMPTY_HEIGHT = 110
"""When no run ended there is only the strip."""

_ROW = 34
"""Pixels of a row of marks over the picture."""
_SEEDS_LEFT, _FRESH_RIGHT, _SERIES_APART = 0.13, 0.22, 0.09
"""Shifts, in steps of the grid."""


def draw_lr_curve(curve: LrCurve, palette: Palette, *, width: Width = WIDTH, height: int = HEIGHT) -> Drawing:
    """The curve without a title. `width` may be "container"."""
    frame = _Frame(curve, palette, height if curve.y_range else EMPTY_HEIGHT)
    layers = [*_top_layers(frame), *_optimum_layers(frame)]
    if curve.y_range:
        layers = [
            *_band_layers(frame),
            *_valley_layers(frame),
            *_mean_layers(frame),
            *_confirmed_layers(frame),
            *layers,
        ]
    return layered(layers, width=width, height=frame.height, resolve={"scale": {"color": "independent"}})


class _Frame:
    """What every layer needs: the scales, and where the strips are (pixels from the top)."""

    def __init__(self, curve: LrCurve, palette: Palette, height: int) -> None:
        self.curve, self.palette, self.height = curve, palette, height
        strips: tuple[Place, ...] = ("diverged", "above")
        self.rows: list[Place] = [place for place in strips if curve.count(place)]
        self.top = 6 + _ROW * len(self.rows)
        self.bottom = height - (40 if curve.optimum else 2)
        self.x = rate_axis(curve.axis, curve.x_range)

    def y(self, field: str = "y") -> alt.Y:
        assert self.curve.y_range is not None
        scale = alt.Scale(domain=list(self.curve.y_range), nice=False, zero=False, range=[self.bottom, self.top])
        return alt.Y(f"{field}:Q", title=metric_axis(self.curve.judgement.metric), scale=scale)

    def colour(self, series: str, status: str = "best") -> str:
        """By series where there are several, else by whether the arm is worse than the best."""
        if len(self.curve.series) > 1:
            return self.palette.category(self.curve.series.index(series))
        return self.palette.accent if status in ("best", "unresolved") else self.palette.other

    def shifted(self, x: float, series: str, steps: float = 0.0) -> float:
        middle = (len(self.curve.series) - 1) / 2
        return self.curve.axis.beyond(x, steps + _SERIES_APART * (self.curve.series.index(series) - middle))

    def told(self, value: float | None) -> str:
        return number(value, decimals(self.curve.judgement.min_effect))


def _band_layers(frame: _Frame) -> list[alt.Chart]:
    if frame.curve.band is None:
        return []
    low, high = frame.curve.band
    shaded = band(low, high, frame.palette)
    return [shaded.encode(x=frame.x, x2=alt.X2("x2:Q"), y=alt.YValue(frame.top), y2=alt.Y2Value(frame.bottom))]


def _valley_layers(frame: _Frame) -> list[alt.Chart]:
    if not frame.curve.valley:
        return []
    line = chart([{"x": x, "y": y} for x, y in frame.curve.valley])
    drawn = line.mark_line(color=frame.palette.ink, strokeWidth=1.2, strokeDash=[5, 3], interpolate="monotone")
    return [drawn.encode(x=frame.x, y=frame.y())]


def _mean_layers(frame: _Frame) -> list[alt.Chart]:
    curve = frame.curve
    means = [_mean_row(point, frame) for point in curve.shown]
    intervals = [row for row in means if row["low"] is not None]
    seeds = [
        {
            "x": frame.shifted(point.x, point.series, -_SEEDS_LEFT),
            "y": value,
            "colour": frame.colour(point.series, point.arm.status),
            "arm": point.arm.arm,
            "seed": seed,
            "value": frame.told(value),
        }
        for point in curve.points
        for seed, value in point.runs("inside")
    ]
    several = len(curve.series) > 1
    scale = alt.Scale(domain=list(curve.series), range=[frame.colour(series) for series in curve.series])
    legend = alt.Legend(orient="top", title=None, symbolType="stroke", symbolStrokeWidth=3) if several else None
    line = chart(means).mark_line(strokeWidth=1.5, strokeOpacity=0.25 if curve.judgement.is_located else 0.6)
    rules = chart(intervals).mark_rule(strokeWidth=1.8)
    circles = chart(seeds).mark_point(size=20, strokeWidth=1.1, strokeOpacity=0.8, opacity=1, filled=False)
    dots = chart(means).mark_point(filled=True, opacity=1, strokeWidth=1)
    return [
        line.encode(x=frame.x, y=frame.y(), color=alt.Color("series:N", scale=scale, legend=legend)),
        rules.encode(x=frame.x, y=frame.y("low"), y2=alt.Y2("high:Q"), color=GIVEN),
        circles.encode(x=frame.x, y=frame.y(), color=GIVEN, tooltip=tips("arm:N", "seed:Q", "value:N")),
        dots.encode(
            x=frame.x,
            y=frame.y(),
            fill=alt.Fill("colour:N", scale=None, legend=None),
            stroke=alt.StrokeValue(frame.palette.surface),
            size=alt.Size("size:Q", scale=None, legend=None),
            tooltip=tips("arm:N", "status:N", "mean:N", "interval:N", "n:Q"),
        ),
    ]


def _mean_row(point: Point, frame: _Frame) -> dict[str, Any]:
    assert point.mean is not None
    assert frame.curve.y_range is not None
    low, high = point.interval or (None, None)
    bottom, top = frame.curve.y_range
    return {
        "x": frame.shifted(point.x, point.series),
        "y": point.mean,
        "low": None if low is None else max(low, bottom),
        "high": None if high is None else min(high, top),
        "series": point.series,
        "colour": frame.colour(point.series, point.arm.status),
        "size": {"best": 105, "unresolved": 75}.get(point.arm.status, 55),
        "arm": point.arm.arm,
        "status": point.arm.status,
        "mean": frame.told(point.mean),
        "interval": "none" if low is None else f"{frame.told(low)} to {frame.told(high)}",
        "n": point.arm.n,
    }


def _confirmed_layers(frame: _Frame) -> list[alt.Chart]:
    """The fresh seeds' mean, a little to the right of the arm it belongs to, or there where none of it searched."""
    fresh = frame.curve.confirmed
    if fresh is None:
        return []
    text = f"fresh seeds {frame.told(fresh.mean)} (n = {fresh.n})"
    low, high = fresh.interval or (fresh.mean, fresh.mean)
    at = frame.curve.at(fresh.arm)
    x = frame.shifted(at.x, at.series, _FRESH_RIGHT if at.arm.n else 0.0)
    base = chart([{"x": x, "y": fresh.mean, "low": low, "high": high, "text": text}])
    to_left = frame.curve.axis.fraction(at.x) > 0.45
    rule = base.mark_rule(color=frame.palette.fresh, strokeWidth=2)
    diamond = base.mark_point(
        shape="diamond", filled=True, fill=frame.palette.fresh, size=105, opacity=1, strokeWidth=1
    )
    label = base.mark_text(
        align="right" if to_left else "left", dx=-6 if to_left else 6, dy=16, color=frame.palette.fresh, fontWeight=600
    )
    return [
        rule.encode(x=frame.x, y=frame.y("low"), y2=alt.Y2("high:Q")),
        diamond.encode(
            x=frame.x,
            y=frame.y(),
            stroke=alt.StrokeValue(frame.palette.surface),
            tooltip=[alt.Tooltip("text:N", title="confirmed")],
        ),
        label.encode(x=frame.x, y=frame.y("low"), text=alt.Text("text:N")),
    ]


def _optimum_layers(frame: _Frame) -> list[alt.Chart]:
    """The interval of the optimum in the strip below, or an arrow towards where it lies."""
    optimum, axis, palette = frame.curve.optimum, frame.curve.axis, frame.palette
    if optimum is None:
        return []
    level = alt.YValue(frame.height - 10)
    if isinstance(optimum, Optimum):
        low, high = optimum.interval
        at, shift = optimum.estimate, 0
        text = (
            f"optimum {setting_value(at)}, {optimum.level:.0%} interval {setting_value(low)} to {setting_value(high)}"
        )
        ends = {"x": max(low, frame.curve.x_range[0]), "x2": min(high, frame.curve.x_range[1])}
        bar = chart([ends]).mark_rule(color=palette.accent, strokeWidth=5, strokeOpacity=0.45)
        shape, colour = "diamond", palette.accent
        under = [bar.encode(x=frame.x, x2=alt.X2("x2:Q"), y=level)]
        above = alt.YValue(frame.height - 26)
    else:
        at = axis.values[0 if optimum.side == "below" else -1]
        text = f"optimum {optimum.side} {setting_value(optimum.bound)}, not found: the range ends here"
        shape, colour = ("triangle-left" if optimum.side == "below" else "triangle-right"), palette.fresh
        under, above, shift = [], level, 12
    fraction = axis.fraction(at)
    align, dx = ("left", shift) if fraction < 0.34 else ("right", -shift) if fraction > 0.66 else ("center", 0)
    base = chart([{"x": at, "text": text}])
    mark = base.mark_point(shape=shape, filled=True, color=colour, size=110, opacity=1)
    label = base.mark_text(align=align, dx=dx, color=palette.ink)
    return [
        *under,
        mark.encode(x=frame.x, y=level, tooltip=[alt.Tooltip("text:N", title="estimate")]),
        label.encode(x=frame.x, y=above, text=alt.Text("text:N")),
    ]


def _top_layers(frame: _Frame) -> list[alt.Chart]:
    """A row of crosses for diverged runs, one of triangles for those above, each mark with its number."""
    layers: list[alt.Chart] = []
    for index, kind in enumerate(frame.rows):
        rows = [_top_row(point, point.runs(kind), kind, frame) for point in frame.curve.points if point.runs(kind)]
        level = alt.YValue(8 + index * _ROW)
        look: dict[str, Any] = (
            {"shape": "cross", "angle": 45, "color": frame.palette.failed}
            if kind == "diverged"
            else {"shape": "triangle-up", "color": frame.palette.other}
        )
        base = chart(rows)
        points = base.mark_point(filled=True, size=65, opacity=1, **look)
        counts = base.mark_text(color=frame.palette.muted, fontSize=10)
        word = chart([{"text": kind}]).mark_text(align="right", dx=-6, color=frame.palette.ink, fontWeight=600)
        layers += [
            points.encode(x=frame.x, y=level, tooltip=[*tips("arm:N"), alt.Tooltip("said:N", title=kind)]),
            counts.encode(x=frame.x, y=alt.YValue(21 + index * _ROW), text=alt.Text("text:N")),
            word.encode(x=alt.XValue(0), y=level, text=alt.Text("text:N")),
        ]
    return layers


def _top_row(point: Point, runs: list[tuple[int | None, float]], kind: Place, frame: _Frame) -> dict[str, Any]:
    """How many of an arm's runs there are; of those above the picture their mean."""
    row = {"x": frame.shifted(point.x, point.series), "arm": point.arm.arm}
    told = f"{len(runs)} of {len(point.arm.values)} runs"
    if kind == "diverged":
        return {**row, "text": f"{len(runs)}/{len(point.arm.values)}", "said": told}
    mean = sum(value for _, value in runs) / len(runs)
    text = number(mean, 2) if mean < 100 else f"{mean:.3g}"
    return {**row, "text": text, "said": f"{told}, mean {frame.told(mean)}"}
