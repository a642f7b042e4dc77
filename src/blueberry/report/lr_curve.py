"""Loss against the varied setting, the main figure of a sweep: the valley, what is not told apart, its bottom.

Strips over the picture hold marks for runs that diverged or lie above it; a strip below holds the interval of the
optimum. Neither shares its space with the data. Left to right at each value: the seeds, the mean, fresh seeds.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

from blueberry.judge.judgement import ArmSummary, Bound, Judgement, Optimum, Status
from blueberry.judge.sentences import withholds_differences
from blueberry.judge.words import count, decimals, metric_axis, number, setting_value
from blueberry.report.axis import Axis, find_axis, series_of, valley_range
from blueberry.report.theme import Palette
from blueberry.report.vega import Width, chart, layered, tips

Place = Literal["inside", "above", "diverged"]
"""In the picture; above its top, or without a finite value: both are marked in the strip over the picture."""


@dataclass(frozen=True)
class SeedPoint:
    """One run."""

    arm: str
    x: float
    seed: int | None
    value: float | None
    """None if the run diverged."""
    status: Status
    series: str
    place: Place


@dataclass(frozen=True)
class MeanPoint:
    """One arm over its seeds."""

    arm: str
    x: float
    n: int
    mean: float | None
    """None when a run diverged, for then there is no finite mean."""
    interval: tuple[float, float] | None
    sd: float | None
    num_diverged: int
    status: Status
    series: str


@dataclass(frozen=True)
class TopMark:
    """An arm's runs that the picture itself cannot show."""

    arm: str
    x: float
    series: str
    kind: Literal["above", "diverged"]
    count: int
    n: int
    mean: float | None
    """Of those above; None for diverged."""


@dataclass(frozen=True)
class Confirmed:
    """The chosen arm on fresh seeds."""

    x: float
    series: str
    mean: float
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class LrCurve:
    """Loss against the varied setting, ready to draw."""

    axis: Axis
    metric: str
    metric_label: str
    decimals: int
    seeds: tuple[SeedPoint, ...]
    means: tuple[MeanPoint, ...]
    tops: tuple[TopMark, ...]
    series: tuple[str, ...]
    """Of the other varied settings; ("",) for one axis."""
    band: tuple[float, float] | None
    """Around the arms not told apart from the best, a little beyond the outermost; None in a grid of several axes."""
    is_withheld: bool
    """Whether an audit blocks that an arm is better."""
    num_unresolved: int
    """The best included."""
    optimum: Optimum | Bound | None
    """In the setting of this axis; else None."""
    confirmed: Confirmed | None
    x_range: tuple[float, float]
    y_range: tuple[float, float] | None
    """What the picture shows; None when no run ended with a finite value."""

    @property
    def shown_means(self) -> tuple[MeanPoint, ...]:
        """The arms whose mean is in the picture."""
        assert self.y_range is not None or not any(point.mean is not None for point in self.means)
        return tuple(p for p in self.means if p.mean is not None and self.y_range and p.mean <= self.y_range[1])

    def count(self, place: Place) -> int:
        """Runs in that place."""
        return sum(point.place == place for point in self.seeds)


def lr_curve(judgement: Judgement) -> LrCurve:
    """The main figure of a sweep, computed. The judgement's arms must lie on a numeric axis (`find_axis`)."""
    axis = find_axis(judgement)
    assert axis is not None, "lr_curve needs arms on a numeric axis"
    arms = sorted(judgement.arms, key=lambda arm: _x(arm, axis))
    y_range = valley_range(judgement)
    seeds = tuple(point for arm in arms for point in _seed_points(judgement, arm, axis, y_range))
    one_axis = len(judgement.vary) == 1
    optimum = judgement.optimum if judgement.optimum and judgement.optimum.setting == axis.setting else None
    return LrCurve(
        axis=axis,
        metric=judgement.metric,
        metric_label=metric_axis(judgement.metric),
        decimals=decimals(judgement.min_effect),
        seeds=seeds,
        means=tuple(_mean_point(judgement, arm, axis) for arm in arms),
        tops=tuple(mark for arm in arms for mark in _top_marks([p for p in seeds if p.arm == arm.arm])),
        series=tuple(dict.fromkeys(series_of(judgement, arm) for arm in arms)),
        band=_band(judgement, axis) if one_axis else None,
        is_withheld=withholds_differences(judgement),
        num_unresolved=sum(arm.status in ("best", "unresolved") for arm in arms),
        optimum=optimum if one_axis else None,
        confirmed=_confirmed(judgement, axis),
        x_range=(axis.beyond(axis.values[0], -0.45), axis.beyond(axis.values[-1], 0.45)),
        y_range=y_range,
    )


def _x(arm: ArmSummary, axis: Axis) -> float:
    return float(arm.settings[axis.setting])


def _place(value: float | None, y_range: tuple[float, float] | None) -> Place:
    if value is None or not math.isfinite(value):
        return "diverged"
    return "above" if y_range is not None and value > y_range[1] else "inside"


def _seed_points(
    judgement: Judgement, arm: ArmSummary, axis: Axis, y_range: tuple[float, float] | None
) -> list[SeedPoint]:
    assert len(arm.seeds) == len(arm.values), "a judgement has one value a seed"
    return [
        SeedPoint(
            arm=arm.arm,
            x=_x(arm, axis),
            seed=seed,
            value=value if math.isfinite(value) else None,
            status=arm.status,
            series=series_of(judgement, arm),
            place=_place(value, y_range),
        )
        for seed, value in zip(arm.seeds, arm.values, strict=True)
    ]


def _top_marks(points: list[SeedPoint]) -> list[TopMark]:
    """At most one mark of each kind for the runs of one arm."""
    marks: list[TopMark] = []
    for kind in ("above", "diverged"):
        there = [point for point in points if point.place == kind]
        values = [point.value for point in there if point.value is not None]
        if there:
            marks.append(
                TopMark(
                    arm=there[0].arm,
                    x=there[0].x,
                    series=there[0].series,
                    kind=kind,
                    count=len(there),
                    n=len(points),
                    mean=sum(values) / len(values) if values else None,
                )
            )
    return marks


def _mean_point(judgement: Judgement, arm: ArmSummary, axis: Axis) -> MeanPoint:
    mean = arm.mean if arm.mean is not None and math.isfinite(arm.mean) else None
    return MeanPoint(
        arm=arm.arm,
        x=_x(arm, axis),
        n=arm.n,
        mean=mean,
        interval=arm.interval if mean is not None else None,
        sd=arm.sd,
        num_diverged=arm.num_diverged,
        status=arm.status,
        series=series_of(judgement, arm),
    )


def _band(judgement: Judgement, axis: Axis) -> tuple[float, float] | None:
    """From a third of the gap below the lowest unresolved value to a third of the gap above the highest."""
    inside = [_x(arm, axis) for arm in judgement.arms if arm.status in ("best", "unresolved")]
    if not inside:
        return None
    low, high = min(inside), max(inside)
    below, above = axis.neighbours(low)[0], axis.neighbours(high)[1]
    return (
        axis.between(low, below, 1 / 3) if below is not None else axis.beyond(low, -1 / 3),
        axis.between(high, above, 1 / 3) if above is not None else axis.beyond(high, 1 / 3),
    )


def _confirmed(judgement: Judgement, axis: Axis) -> Confirmed | None:
    best = judgement.best
    if best is None or not best.confirmed:
        return None
    arm = next(arm for arm in judgement.arms if arm.arm == best.arm)
    return Confirmed(
        x=_x(arm, axis), series=series_of(judgement, arm), mean=best.mean, interval=best.interval, n=best.n
    )


def curve_caption(curve: LrCurve) -> str:
    """How to read the picture, in a few short sentences."""
    dot = "each dot the mean of an arm with its interval" if any(p.interval for p in curve.means) else "each dot an arm"
    said = [f"Each small circle is one seed, {dot}."] if curve.y_range else []
    if curve.band and curve.is_withheld:
        said.append("The shaded band holds what the numbers alone leave as the best; an audit withholds the claim.")
    elif curve.band:
        failed = any(point.status == "diverged" for point in curve.means)
        said.append(
            f"The shaded band holds the {curve.num_unresolved} arms not told apart from the best, itself included."
            if curve.num_unresolved > 1
            else f"The shaded band holds the best arm; every other is worse{' or has diverged' if failed else ''}."
        )
    if curve.confirmed:
        said.append("The orange diamond is the chosen arm on fresh seeds.")
    above, diverged = curve.count("above"), curve.count("diverged")
    if above:
        said.append(f"{above} of {count(len(curve.seeds), 'run')} ended above the picture: triangles, with their mean.")
    if diverged:
        said.append(f"{diverged} of {count(len(curve.seeds), 'run')} diverged: crosses.")
    missing = sum(point.n == 0 for point in curve.means)
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


def draw_lr_curve(curve: LrCurve, palette: Palette, *, width: Width = WIDTH, height: int = HEIGHT) -> alt.LayerChart:
    """The curve without a title. `width` may be "container"."""
    frame = _Frame(curve, palette, height if curve.y_range else EMPTY_HEIGHT)
    layers = [*_top_layers(frame), *_optimum_layers(frame)]
    if curve.y_range:
        layers = [*_band_layers(frame), *_mean_layers(frame), *_confirmed_layers(frame), *layers]
    independent = alt.Resolve(scale=alt.ScaleResolveMap(color="independent"))
    return layered(layers, resolve=independent, width=width, height=frame.height)


def rate_axis(axis: Axis, x_range: tuple[float, float], title: str | None = None) -> alt.X:
    """The x of every figure along the axis: the tested values are the ticks."""
    return alt.X(
        "x:Q",
        title=axis.label if title is None else title,
        scale=alt.Scale(type="log" if axis.log else "linear", domain=list(x_range), nice=False, zero=False),
        axis=alt.Axis(values=list(axis.values), format=".4~g", labelOverlap="parity", labelSeparation=6),
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
    line = chart(means).mark_line(strokeWidth=1.5, strokeOpacity=0.6)
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
    """The fresh seeds' mean, a little to the right of the arm it belongs to."""
    fresh = frame.curve.confirmed
    if fresh is None:
        return []
    text = f"fresh seeds {frame.told(fresh.mean)} (n = {fresh.n})"
    low, high = fresh.interval or (fresh.mean, fresh.mean)
    x = frame.shifted(fresh.x, fresh.series, _FRESH_RIGHT)
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
