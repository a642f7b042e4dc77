"""Loss against the varied setting, the main figure of a sweep, computed: runs, what is not told apart, the valley."""

import math
from dataclasses import dataclass
from typing import Literal

from blueberry.judge.judgement import ArmSummary, Bound, Judgement, Optimum, Status
from blueberry.judge.sentences import withholds_differences
from blueberry.judge.words import count, decimals, metric_axis
from blueberry.report.axis import Axis, find_axis, series_of, valley_range

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
    """Around the arms not told apart from the best, a little beyond the outermost, or the interval of an optimum that
    was located; None in a grid of several axes."""
    is_withheld: bool
    """Whether an audit blocks that an arm is better."""
    num_unresolved: int
    """The best included."""
    valley: tuple[tuple[float, float], ...]
    """The fitted valley, value and metric, where it is in the picture; empty where none was fitted."""
    is_located: bool
    """Whether the answer was read off that valley: then `band` is where the optimum lies."""
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
        valley=_valley(judgement, y_range) if one_axis else (),
        is_located=judgement.is_located,
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
    if curve.valley:
        said.append("The dashed line is the smooth valley that was fitted; it ends with the window it was read from.")
    if curve.band and curve.is_located:
        said.append("The shaded band holds the optimum, if the curve is one smooth valley.")
    elif curve.band and curve.is_withheld:
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
    alone = curve.confirmed.x if curve.confirmed else None  # searched between, and drawn from its fresh seeds
    missing = sum(point.n == 0 and point.x != alone for point in curve.means)
    if missing:
        said.append(f"{count(missing, 'arm')} without a run that ended: not drawn.")
    return " ".join(said)
