"""The smaller figures of a sweep: other things measured at each rate, each only where it was measured."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import altair as alt

from blueberry.judge.judgement import Judgement, Status
from blueberry.records import StudyRun
from blueberry.report.axis import Axis, find_axis, rate_axis
from blueberry.report.theme import Palette
from blueberry.report.vega import Drawing, chart, headed, layered

Point = tuple[float, float, Status]
"""Where on the axis a run or an arm lies, what was measured, and the arm's status."""
LATE_FRACTION = 0.1
"""The last part of a run over which a gradient norm is taken."""


@dataclass(frozen=True)
class Panel:
    """One measurement against the axis."""

    title: str
    y_label: str
    axis: Axis
    points: tuple[Point, ...]
    joined: bool
    """Whether a line through the arms' means is drawn."""
    reference: tuple[float, str] | None
    """A horizontal line, with what it says."""
    log_y: bool
    from_zero: bool

    @property
    def means(self) -> tuple[tuple[float, float], ...]:
        """(x, mean) of each arm's points."""
        xs = sorted({x for x, _, _ in self.points})
        groups = [[value for at, value, _ in self.points if at == x] for x in xs]
        return tuple((x, sum(group) / len(group)) for x, group in zip(xs, groups, strict=True))


def panels(judgement: Judgement, runs: Sequence[StudyRun]) -> tuple[Panel, ...]:
    """Up to three, in this order of preference: accuracy (or perplexity), gradient norm (or time), spread of seeds."""
    axis = find_axis(judgement)
    assert axis is not None, "panels need arms on a numeric axis"
    searching = [run for run in runs if run.stage == "search"]

    def of_runs(title: str, y_label: str, what: str | Callable[[StudyRun], float | None], log_y: bool) -> Panel | None:
        measure = what if callable(what) else lambda run: run.result.metric(what)
        points = _points(judgement, axis, searching, measure)
        return Panel(title, y_label, axis, points, True, None, log_y, False) if points else None

    first = None  # what judges has a picture of its own
    if judgement.metric != "val_accuracy":
        first = of_runs("Accuracy", "validation accuracy (fraction of tokens)", "val_accuracy", False)
    if first is None and judgement.metric != "val_perplexity":
        first = of_runs("Perplexity", "validation perplexity", "val_perplexity", True)
    second = of_runs(
        "Gradient norm at the end", "norm before clipping, median of the last tenth", _late_gradient_norm, True
    ) or of_runs("Training time", "seconds for a run, as its share of its group", "train_seconds", False)
    return tuple(panel for panel in (first, second, _spread(judgement, axis)) if panel is not None)


def _points(
    judgement: Judgement, axis: Axis, runs: Sequence[StudyRun], measure: Callable[[StudyRun], float | None]
) -> tuple[Point, ...]:
    arms = {arm.arm: arm for arm in judgement.arms}
    points: list[Point] = []
    for run in runs:
        value = measure(run)
        if value is not None and run.arm in arms:
            arm = arms[run.arm]
            points.append((float(arm.settings[axis.setting]), value, arm.status))
    return tuple(points)


def _late_gradient_norm(run: StudyRun) -> float | None:
    """Of completed runs: a diverged run has no end."""
    norms = run.result.curve.gradient_norm
    late = [norm for norm in norms[-math.ceil(len(norms) * LATE_FRACTION) :] if norm] if norms else []
    return median(late) if late and run.result.status == "completed" else None


def _spread(judgement: Judgement, axis: Axis) -> Panel | None:
    points: tuple[Point, ...] = tuple(
        (float(arm.settings[axis.setting]), arm.sd, arm.status) for arm in judgement.arms if arm.sd is not None
    )
    pooled = judgement.noise.sd
    reference = None if pooled is None else (pooled, f"pooled over arms: {pooled:.2g}")
    if not points:
        return None
    return Panel("Spread of the seeds", "standard deviation between seeds", axis, points, False, reference, False, True)


def draw_panel(panel: Panel, palette: Palette, *, width: int, height: int) -> Drawing:
    """One panel with its title."""
    axis = panel.axis
    x = rate_axis(axis, (axis.beyond(axis.values[0], -0.45), axis.beyond(axis.values[-1], 0.45)))
    scale = alt.Scale(type="log" if panel.log_y else "linear", zero=panel.from_zero, nice=False, padding=12)
    y = alt.Y("y:Q", title=panel.y_label, scale=scale, axis=alt.Axis(tickCount=5, format="~g"))
    strong = ("best", "unresolved")
    points = [
        {"x": x_, "y": value, "colour": palette.accent if status in strong else palette.other}
        for x_, value, status in panel.points
    ]
    layers: list[alt.Chart] = []
    if panel.joined:
        means = chart([{"x": x_, "y": mean} for x_, mean in panel.means])
        layers.append(means.mark_line(color=palette.accent, strokeOpacity=0.45, strokeWidth=1.5).encode(x=x, y=y))
    if panel.reference is not None:
        level, text = panel.reference
        base = chart([{"y": level, "text": text, "x": axis.values[0]}])
        layers.append(base.mark_rule(color=palette.fresh, strokeDash=[5, 4], strokeWidth=1.5).encode(y=y))
        label = base.mark_text(align="left", dx=-8, dy=-9, color=palette.fresh, fontWeight=600)
        layers.append(label.encode(x=x, y=y, text=alt.Text("text:N")))
    dots = chart(points).mark_point(filled=not panel.joined, size=34, strokeWidth=1.4, opacity=1)
    layers.append(dots.encode(x=x, y=y, color=alt.Color("colour:N", scale=None, legend=None)))
    return headed(layered(layers, width=width, height=height), panel.title)
