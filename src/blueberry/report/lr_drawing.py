"""The main figure of a sweep, drawn: loss against the varied setting.

Strips over the picture hold marks for runs that diverged or lie above it; a strip below holds the interval of the
optimum. Neither shares its space with the data. Left to right at each value: the seeds, the mean, fresh seeds.
"""

from typing import Any

import altair as alt

from blueberry.judge.judgement import Optimum
from blueberry.judge.words import number, setting_value
from blueberry.report.axis import Axis
from blueberry.report.lr_curve import LrCurve, MeanPoint, TopMark
from blueberry.report.theme import Palette
from blueberry.report.vega import Width, chart, layered, tips

WIDTH, HEIGHT = 760, 400
"""Pixels, of the plot without its axes."""
EMPTY_HEIGHT = 110
"""When no run ended there is only the strip."""

_ROW = 34
"""Pixels of a row of marks over the picture."""
_SEEDS_LEFT, _FRESH_RIGHT, _SERIES_APART = 0.13, 0.22, 0.09
"""Shifts, in steps of the grid."""


def draw_lr_curve(curve: LrCurve, palette: Palette, *, width: Width = WIDTH, height: int = HEIGHT) -> alt.LayerChart:
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
    independent = alt.Resolve(scale=alt.ScaleResolveMap(color="independent"))
    return layered(layers, resolve=independent, width=width, height=frame.height)


def rate_axis(axis: Axis, x_range: tuple[float, float], title: str | None = None) -> alt.X:
    """The x of every figure along the axis: the tested values are the ticks."""
    return alt.X(
        "x:Q",
        title=axis.label if title is None else title,
        scale=alt.Scale(type="log" if axis.log else "linear", domain=list(x_range), nice=False, zero=False),
        axis=alt.Axis(
            values=list(axis.values),
            format=".4~g",
            labelOverlap="parity" if axis.is_even else "greedy",
            labelSeparation=6,
        ),
    )


class _Frame:
    """What every layer needs: the scales, and where the strips are (pixels from the top)."""

    def __init__(self, curve: LrCurve, palette: Palette, height: int) -> None:
        self.curve, self.palette, self.height = curve, palette, height
        self.rows = [kind for kind in ("diverged", "above") if any(mark.kind == kind for mark in curve.tops)]
        self.top = 6 + _ROW * len(self.rows)
        self.bottom = height - (40 if curve.optimum else 2)
        self.x = rate_axis(curve.axis, curve.x_range)

    def y(self, field: str = "y") -> alt.Y:
        assert self.curve.y_range is not None
        scale = alt.Scale(domain=list(self.curve.y_range), nice=False, zero=False, range=[self.bottom, self.top])
        return alt.Y(f"{field}:Q", title=self.curve.metric_label, scale=scale)

    def colour(self, series: str, status: str = "best") -> str:
        """By series where there are several, else by whether the arm is worse than the best."""
        if len(self.curve.series) > 1:
            return self.palette.category(self.curve.series.index(series))
        return self.palette.accent if status in ("best", "unresolved") else self.palette.other

    def shifted(self, x: float, series: str, steps: float = 0.0) -> float:
        middle = (len(self.curve.series) - 1) / 2
        return self.curve.axis.beyond(x, steps + _SERIES_APART * (self.curve.series.index(series) - middle))

    def told(self, value: float | None) -> str:
        return number(value, self.curve.decimals)


def _band_layers(frame: _Frame) -> list[alt.Chart]:
    if frame.curve.band is None:
        return []
    low, high = frame.curve.band
    band = chart([{"x": low, "x2": high}]).mark_rect(color=frame.palette.accent, fillOpacity=0.11, opacity=1)
    return [band.encode(x=frame.x, x2=alt.X2("x2:Q"), y=alt.value(frame.top), y2=alt.value(frame.bottom))]


def _valley_layers(frame: _Frame) -> list[alt.Chart]:
    if not frame.curve.valley:
        return []
    line = chart([{"x": x, "y": y} for x, y in frame.curve.valley])
    drawn = line.mark_line(color=frame.palette.ink, strokeWidth=1.2, strokeDash=[5, 3])
    return [drawn.encode(x=frame.x, y=frame.y())]


def _mean_layers(frame: _Frame) -> list[alt.Chart]:
    curve = frame.curve
    shown = curve.shown_means
    means = [_mean_row(point, frame) for point in shown]
    intervals = [row for row in means if row["low"] is not None]
    seeds = [
        {
            "x": frame.shifted(p.x, p.series, -_SEEDS_LEFT),
            "y": p.value,
            "colour": frame.colour(p.series, p.status),
            "arm": p.arm,
            "seed": p.seed,
            "value": frame.told(p.value),
        }
        for p in curve.seeds
        if p.place == "inside"
    ]
    several = len(curve.series) > 1
    scale = alt.Scale(domain=list(curve.series), range=[frame.colour(series) for series in curve.series])
    legend = alt.Legend(orient="top", title=None, symbolType="stroke", symbolStrokeWidth=3) if several else None
    line = chart(means).mark_line(strokeWidth=1.5, strokeOpacity=0.25 if curve.is_located else 0.6)
    rules = chart(intervals).mark_rule(strokeWidth=1.8)
    circles = chart(seeds).mark_point(size=20, strokeWidth=1.1, strokeOpacity=0.8, opacity=1, filled=False)
    dots = chart(means).mark_point(filled=True, opacity=1, strokeWidth=1)
    colour = alt.Color("colour:N", scale=None, legend=None)
    return [
        line.encode(x=frame.x, y=frame.y(), color=alt.Color("series:N", scale=scale, legend=legend)),
        rules.encode(x=frame.x, y=frame.y("low"), y2=alt.Y2("high:Q"), color=colour),
        circles.encode(
            x=frame.x,
            y=frame.y(),
            color=colour,
            tooltip=tips("arm:N", "seed:Q", "value:N"),
        ),
        dots.encode(
            x=frame.x,
            y=frame.y(),
            fill=alt.Fill("colour:N", scale=None, legend=None),
            stroke=alt.value(frame.palette.surface),
            size=alt.Size("size:Q", scale=None, legend=None),
            tooltip=tips("arm:N", "status:N", "mean:N", "interval:N", "n:Q"),
        ),
    ]


def _mean_row(point: MeanPoint, frame: _Frame) -> dict[str, Any]:
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
        "colour": frame.colour(point.series, point.status),
        "size": {"best": 105, "unresolved": 75}.get(point.status, 55),
        "arm": point.arm,
        "status": point.status,
        "mean": frame.told(point.mean),
        "interval": "none" if low is None else f"{frame.told(low)} to {frame.told(high)}",
        "n": point.n,
    }


def _confirmed_layers(frame: _Frame) -> list[alt.Chart]:
    """The fresh seeds' mean, a little to the right of the arm it belongs to, or there where none of it searched."""
    fresh = frame.curve.confirmed
    if fresh is None:
        return []
    text = f"fresh seeds {frame.told(fresh.mean)} (n = {fresh.n})"
    low, high = fresh.interval or (fresh.mean, fresh.mean)
    has_searched = any(point.x == fresh.x for point in frame.curve.seeds)
    x = frame.shifted(fresh.x, fresh.series, _FRESH_RIGHT if has_searched else 0.0)
    base = chart([{"x": x, "y": fresh.mean, "low": low, "high": high, "text": text}])
    to_left = frame.curve.axis.fraction(fresh.x) > 0.45
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
            stroke=alt.value(frame.palette.surface),
            tooltip=[alt.Tooltip("text:N", title="confirmed")],
        ),
        label.encode(x=frame.x, y=frame.y("low"), text=alt.Text("text:N")),
    ]


def _optimum_layers(frame: _Frame) -> list[alt.Chart]:
    """The interval of the optimum in the strip below, or an arrow towards where it lies."""
    optimum, axis, palette = frame.curve.optimum, frame.curve.axis, frame.palette
    if optimum is None:
        return []
    level = alt.value(frame.height - 10)
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
        above = alt.value(frame.height - 26)
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
        marks = [mark for mark in frame.curve.tops if mark.kind == kind]
        rows = [
            {
                "x": frame.shifted(mark.x, mark.series),
                "arm": mark.arm,
                "text": f"{mark.count}/{mark.n}"
                if mark.mean is None
                else (f"{mark.mean:.2f}" if mark.mean < 100 else f"{mark.mean:.3g}"),
                "said": _said(mark, frame),
            }
            for mark in marks
        ]
        level = alt.value(8 + index * _ROW)
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
            counts.encode(x=frame.x, y=alt.value(21 + index * _ROW), text=alt.Text("text:N")),
            word.encode(x=alt.value(0), y=level, text=alt.Text("text:N")),
        ]
    return layers


def _said(mark: TopMark, frame: _Frame) -> str:
    told = f"{mark.count} of {mark.n} runs"
    return told if mark.mean is None else f"{told}, mean {frame.told(mark.mean)}"
