"""Loss against updates: every arm's mean over its seeds, and every run, thinned to what a picture can show."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

from blueberry.judge.judgement import Judgement, Status
from blueberry.judge.words import count
from blueberry.records import StudyRun
from blueberry.report.charts import (
    GIVEN,
    Drawing,
    Palette,
    Width,
    between,
    chart,
    dashes,
    find_axis,
    layered,
    picture_range,
    tips,
)

MAX_POINTS = 120
"""Points of one line; longer ones are averaged over blocks of equal length."""
MIN_LATE_EVALUATIONS = 3
"""Fewer in the second half make no curve."""


Line = tuple[tuple[float, float | None], ...]
"""One curve: updates done, and the loss in nats there. None breaks the line."""


@dataclass(frozen=True)
class ArmCurves:
    """One arm's searching runs."""

    arm: str
    status: Status
    shade: float
    """Place on the sequential colour scale, 0 to 1: along the axis, or in the order of the arms."""
    seeds: tuple[int, ...]
    """Numbers of the runs where nobody said their seeds."""
    diverged: tuple[bool, ...]
    """By seed."""
    validation: Line
    """Mean over the seeds, as far as all of them were evaluated."""
    training: Line
    """Mean over the seeds, as far as all of them went, averaged over blocks of updates."""
    seed_validation: tuple[Line, ...]
    seed_training: tuple[Line, ...]


@dataclass(frozen=True)
class Window:
    """The part of the plane a picture shows."""

    updates: tuple[float, float]
    losses: tuple[float, float]


@dataclass(frozen=True)
class LearningCurves:
    arms: tuple[ArmCurves, ...]
    block_updates: int
    """Updates averaged into one point of a training curve."""
    num_updates: int
    """Of the longest run."""
    whole: Window | None
    """All updates; None when nothing was recorded."""
    validated: Window | None
    """The same of what was evaluated alone, from the first time on; None where nothing was."""
    late: Window | None
    """The second half, where arms are close; None with fewer than three evaluations in it."""
    ordered_by: str | None
    """The setting the colours follow; None for named arms."""

    @property
    def any_training(self) -> bool:
        return any(arm.training for arm in self.arms)

    @property
    def any_validation(self) -> bool:
        """Whether there is a line to draw: one evaluation makes none."""
        return any(len(arm.validation) >= 2 for arm in self.arms)

    def num_above(self, window: Window) -> int:
        """Arms whose mean validation loss leaves that picture at the top."""
        return sum(max(_inside(arm.validation, window), default=-math.inf) > window.losses[1] for arm in self.arms)


def learning_curves(judgement: Judgement, runs: Sequence[StudyRun]) -> LearningCurves:
    """Curves of the searching runs, arms in the order of the judgement."""
    axis = find_axis(judgement)
    searching = [run for run in runs if run.stage == "search"]
    longest = max((len(run.result.curve.train_loss) for run in searching), default=0)
    block = max(1, math.ceil(longest / MAX_POINTS))
    arms = []
    for index, arm in enumerate(judgement.arms):
        own = sorted((run for run in searching if run.arm == arm.arm), key=by_seed)
        place = axis.fraction(float(arm.settings[axis.setting])) if axis else index / max(len(judgement.arms) - 1, 1)
        validation = tuple(_validation(run) for run in own)
        training = tuple(_training(run, block) for run in own)
        arms.append(
            ArmCurves(
                arm=arm.arm,
                status=arm.status,
                shade=place,
                seeds=tuple(number if run.seed is None else run.seed for number, run in enumerate(own)),
                diverged=tuple(run.result.status == "diverged" for run in own),
                validation=_mean(validation),
                training=_mean(training),
                seed_validation=validation,
                seed_training=training,
            )
        )
    num_updates = max((run.result.num_updates or 0 for run in searching), default=0)
    return LearningCurves(
        arms=tuple(arms),
        block_updates=block,
        num_updates=num_updates,
        whole=_whole([line for arm in arms for line in (arm.validation, arm.training)], num_updates),
        validated=_whole([arm.validation for arm in arms], num_updates),
        late=None if judgement.conditions else _late(arms, num_updates),  # conditions end at different updates
        ordered_by=axis.setting if axis else None,
    )


def by_seed(run: StudyRun) -> tuple[bool, int]:
    """In this order; runs of which nobody said a seed stay as they came, last."""
    return run.seed is None, run.seed or 0


def arm_window(arm: ArmCurves, curves: LearningCurves) -> Window | None:
    """For one arm's own picture: everything that was recorded of it."""
    lines = (*arm.seed_validation, *arm.seed_training)
    values = _losses(lines)
    if not values:
        return None
    margin = 0.05 * (max(values) - min(values)) or 0.5
    return Window((0.0, float(curves.num_updates)), (min(values) - margin, max(values) + margin))


def learning_caption(curves: LearningCurves) -> str:
    said = ["Each line is an arm's mean over its seeds, as far as all of its seeds went."]
    if any(arm.status == "best" for arm in curves.arms):
        said.append("Thick lines: the arms not told apart from the best.")
    window = curves.late or curves.whole
    above = curves.num_above(window) if window else 0
    if above:
        said.append(f"{count(above, 'arm')} {'lies' if above == 1 else 'lie'} above the picture, at least in part.")
    if any(any(arm.diverged) for arm in curves.arms):
        said.append("Crosses: where the first run of an arm diverged.")
    return " ".join(said)


def training_caption(curves: LearningCurves) -> str:
    if curves.block_updates == 1:
        return "Each line is an arm's mean over its seeds, as far as all of its seeds went."
    return f"Each point is the mean over {curves.block_updates} updates and the arm's seeds."


def averaged(curves: LearningCurves) -> str:
    """What to add to "training loss"."""
    return f", averaged over {curves.block_updates} updates" if curves.block_updates > 1 else ""


def _validation(run: StudyRun) -> Line:
    return tuple((float(one.update), one.validation.loss) for one in run.result.evaluations)


def _training(run: StudyRun, block: int) -> Line:
    """Means of whole blocks, each at the middle of its updates."""
    losses = run.result.curve.train_loss
    blocks = [(start, losses[start : start + block]) for start in range(0, len(losses), block)]
    return tuple((start + (len(own) + 1) / 2, _finite_mean(own)) for start, own in blocks)


def _mean(lines: Sequence[Line]) -> Line:
    """Over the seeds, at the updates that all of them reached: a survivor is never shown as the arm."""
    by_update = [dict(line) for line in lines]
    shared = [update for update, _ in lines[0] if all(update in seed for seed in by_update)] if lines else []
    return tuple((update, _finite_mean([seed[update] for seed in by_update])) for update in shared)


def _finite_mean(losses: Sequence[float | None]) -> float | None:
    """None where one of them is not finite."""
    finite = [loss for loss in losses if loss is not None]
    return sum(finite) / len(finite) if len(finite) == len(losses) else None


def _losses(lines: Iterable[Line]) -> list[float]:
    """Those that are finite."""
    return [loss for line in lines for _, loss in line if loss is not None]


def _whole(lines: Sequence[Line], num_updates: int) -> Window | None:
    """All of it, unless fewer than half of the lines rise far above where they began; without a beginning of which
    nothing was measured."""
    values = _losses(lines)
    if not values:
        return None
    low, high = min(values), max(values)
    firsts = sorted(line[0][1] for line in lines if line and line[0][1] is not None)
    usual = firsts[len(firsts) // 2] if firsts else high
    highest = sorted(max(losses) for line in lines if (losses := _losses([line])))
    top = min(high, max(low + 1.15 * (usual - low), low + 0.5, highest[len(highest) // 2]))
    margin = 0.04 * (top - low) or 0.5
    first = min(line[0][0] for line in lines if line)
    begins = 0.0 if first < num_updates / 10 else float(first)
    return Window((begins, float(num_updates)), (low - margin, top + margin))


def _late(arms: Sequence[ArmCurves], num_updates: int) -> Window | None:
    """The second half of the longest run, quantity to the better half of the arms."""
    updates = (num_updates / 2, float(num_updates))
    plane = Window(updates, (-math.inf, math.inf))
    ended = sorted(
        (losses[-1], losses) for arm in arms if len(losses := _inside(arm.validation, plane)) >= MIN_LATE_EVALUATIONS
    )
    if not ended:
        return None
    better = [losses for _, losses in ended[: (len(ended) + 1) // 2]]
    low = min(losses[-1] for losses in better)
    low = min(low, *(min(losses) for _, losses in ended))
    valley = max(max(losses) for losses in better) - low
    return Window(updates, picture_range(low, max(max(losses) for _, losses in ended), valley / 2))


def _inside(line: Line, window: Window) -> list[float]:
    """The losses at the updates of that window."""
    low, high = window.updates
    return [loss for update, loss in line if loss is not None and low <= update <= high]


def cut(line: Line, window: Window) -> Line:
    """The part of a line that lies in the window, with the points where it crosses the top."""
    top = window.losses[1]
    kept: list[tuple[float, float | None]] = []
    before: tuple[float, float] | None = None
    for update, loss in line:
        if not window.updates[0] <= update <= window.updates[1]:
            continue
        if loss is None:
            kept.append((update, None))
            before = None
            continue
        if before is not None and (before[1] > top) != (loss > top):
            kept.append((before[0] + (update - before[0]) * (top - before[1]) / (loss - before[1]), top))
        kept.append((update, loss if loss <= top else None))
        before = (update, loss)
    return tuple(kept)


WIDTH, HEIGHT = 760, 400
"""Pixels, of the plot without its axes."""

Which = Literal["validation", "training"]


def draw_learning_curves(
    curves: LearningCurves,
    which: Which,
    window: Window,
    palette: Palette,
    *,
    width: Width = WIDTH,
    height: int = HEIGHT,
    named: bool = True,
) -> Drawing:
    """Every arm's mean in that window.

    A picture (`width` in pixels) names its lines at their right ends if `named`. On the page (`width`
    "container") the lines have tooltips, and the parameter `picked` names the arm to bring forward.
    """
    arms = [arm for arm in curves.arms if _line(arm, which)]
    lines = {arm.arm: cut(_line(arm, which), window) for arm in arms}
    rows = [row for arm in arms for row in _rows(arm, lines[arm.arm])]
    colours = [arm_colour(arm, curves, palette) for arm in arms]
    colour = alt.Color("arm:N", scale=alt.Scale(domain=[arm.arm for arm in arms], range=colours), legend=None)
    x, y = _axes(window, f"{which} loss (nats per token)")
    width_as_told = alt.StrokeWidth("width:Q", scale=None, legend=None)
    strong = alt.StrokeOpacity("opacity:Q", scale=None, legend=None)
    base = chart(rows)
    path = base.mark_line(strokeJoin="round").encode(x=x, y=y, color=colour, detail=alt.Detail("arm:N"))
    if curves.ordered_by is None and (dash := dashes([arm.arm for arm in curves.arms], palette)):
        path = path.encode(strokeDash=dash.legend(None))
    if width == "container":
        is_picked = "datum.arm === picked"
        path = path.encode(
            strokeWidth=alt.condition(is_picked, alt.value(3.4), width_as_told),
            strokeOpacity=alt.condition(f"picked === '' || {is_picked}", strong, alt.value(0.12)),
        ).add_params(alt.param(name="picked", value=""))
        told = [*tips("arm:N", "status:N", "update:Q"), _told(window)]
        layers = [path, base.mark_point(size=120, opacity=0).encode(x=x, y=y, tooltip=told)]
    else:
        layers = [path.encode(strokeWidth=width_as_told, strokeOpacity=strong)]
    crosses = [row for arm in arms if any(arm.diverged) for row in _end(arm, _line(arm, which), window)]
    if crosses:
        mark = chart(crosses).mark_point(shape="cross", angle=45, filled=True, size=70, opacity=1)
        layers.append(mark.encode(x=x, y=y, color=colour, tooltip=tips("arm:N", "said:N")))
    if named and width != "container":
        ends = [(end[1], arm) for arm in arms if (end := _last_point(_line(arm, which)))]
        layers += [layer.encode(x=x, y=y) for layer in _labels(ends, curves, window, palette, height)]
    return layered(layers, width=width, height=height)


def draw_arm(arm: ArmCurves, curves: LearningCurves, palette: Palette) -> Drawing:
    """One arm: training loss as thin lines, evaluations as points, a colour for each seed.

    The arm must have recorded something (`arm_window` is not None).
    """
    window = arm_window(arm, curves)
    assert window is not None, f"{arm.arm} recorded no curve"
    return _one_arm(_seed_rows(arm, window), list(arm.seeds), window, palette, width=560, height=300)


def draw_each_arm(curves: LearningCurves, palette: Palette, first: str, *, height: int) -> Drawing:
    """For the page: one arm at a time, the one that the parameter `shown` names, on a common scale."""
    assert curves.whole is not None, "no run recorded a curve"
    rows = [row for arm in curves.arms for row in _seed_rows(arm, curves.whole)]
    seeds = sorted({seed for arm in curves.arms for seed in arm.seeds})
    drawn = _one_arm(rows, seeds, curves.whole, palette, width="container", height=height)
    shown = {"transform": [{"filter": "datum.arm === shown"}], "params": [{"name": "shown", "value": first}]}
    return {**drawn, **shown}


def arm_colour(arm: ArmCurves, curves: LearningCurves, palette: Palette) -> str:
    """Along the sequential scale for a numeric axis; a category for named arms."""
    if curves.ordered_by is None:
        return palette.category([other.arm for other in curves.arms].index(arm.arm))
    return palette.along(arm.shade)


def _one_arm(
    rows: list[dict[str, Any]], seeds: list[int], window: Window, palette: Palette, *, width: Width, height: int
) -> Drawing:
    x, y = _axes(window, "loss (nats per token)")
    colour = alt.Color(
        "seed:N",
        scale=alt.Scale(domain=seeds, range=[palette.category(index) for index in range(len(seeds))]),
        legend=alt.Legend(
            title=None, orient="top", symbolType="circle", symbolOpacity=1, labelExpr="'seed ' + datum.label"
        ),
    )
    base = chart(rows)
    training = base.transform_filter("datum.kind === 'training'").mark_line(strokeWidth=0.9, strokeOpacity=0.6)
    evaluated = base.transform_filter("datum.kind === 'validation'")
    ends = base.transform_filter("datum.kind === 'diverged'")
    told = [*tips("arm:N", "seed:N", "kind:N", "update:Q"), _told(window)]
    points = evaluated.mark_point(filled=True, size=34, opacity=1)
    crosses = ends.mark_point(shape="cross", angle=45, filled=True, size=110, opacity=1)
    layers = [
        training.encode(x=x, y=y, color=colour),
        evaluated.mark_line(strokeWidth=1.5).encode(x=x, y=y, color=colour),
        points.encode(x=x, y=y, color=colour, tooltip=told),
        crosses.encode(x=x, y=y, color=colour, tooltip=told),
    ]
    return layered(layers, width=width, height=height)


def _axes(window: Window, title: str) -> tuple[alt.X, alt.Y]:
    return (
        alt.X(
            "update:Q",
            title="updates",
            scale=between(*window.updates),
            axis=alt.Axis(tickCount=6, format="~s" if window.updates[1] >= 10_000 else "d"),
        ),
        alt.Y("loss:Q", title=title, scale=between(*window.losses)),
    )


def _line(arm: ArmCurves, which: Which) -> Line:
    return arm.validation if which == "validation" else arm.training


def _rows(arm: ArmCurves, line: Line) -> list[dict[str, Any]]:
    width, opacity = {"best": (3.0, 1.0), "unresolved": (2.4, 1.0)}.get(arm.status, (1.3, 0.75))
    return [
        {"arm": arm.arm, "status": arm.status, "update": u, "loss": _short(loss), "width": width, "opacity": opacity}
        for u, loss in line
    ]


def _seed_rows(arm: ArmCurves, window: Window) -> list[dict[str, Any]]:
    """Every seed's two lines, and a row of kind "diverged" where a run ended early."""
    rows: list[dict[str, Any]] = []
    for seed, diverged, training, validation in zip(
        arm.seeds, arm.diverged, arm.seed_training, arm.seed_validation, strict=True
    ):
        for kind, line in (("training", training), ("validation", validation)):
            rows += [
                {"arm": arm.arm, "seed": seed, "kind": kind, "update": update, "loss": _short(loss)}
                for update, loss in cut(line, window)
            ]
        end = _last_point(training) or _last_point(validation)
        if diverged and end is not None:
            loss = min(end[1], window.losses[1])
            rows.append({"arm": arm.arm, "seed": seed, "kind": "diverged", "update": end[0], "loss": _short(loss)})
    return rows


def _told(window: Window) -> alt.Tooltip:
    """A loss, to four decimals; where all of them are too small for that, to three digits."""
    return alt.Tooltip("loss:Q", format=".4f" if window.losses[1] >= 0.01 else ".3g")


def _short(loss: float | None) -> float | None:
    """Five decimals, or as many digits of less, are more than a pixel can show; the page stays small."""
    return None if loss is None else round(loss, 5) if loss >= 0.1 else float(f"{loss:.5g}")


def _last_point(line: Line) -> tuple[float, float] | None:
    """(update, loss) of the last finite loss."""
    return next(((update, loss) for update, loss in reversed(line) if loss is not None), None)


def _last_update(arm: ArmCurves) -> float:
    """That any run of it was measured after: a block of training losses stands at its middle."""
    return max(end[0] for line in (arm.validation, arm.training) if (end := _last_point(line)))


def _end(arm: ArmCurves, line: Line, window: Window) -> list[dict[str, Any]]:
    """Where an arm's mean ends because a run diverged, if that is among the window's updates."""
    end = _last_point(line)
    if end is None or end[0] < window.updates[0]:
        return []
    said = f"{sum(arm.diverged)} of {len(arm.diverged)} runs diverged"
    return [{"arm": arm.arm, "update": end[0], "loss": min(end[1], window.losses[1]), "said": said}]


def _labels(
    ends: list[tuple[float, ArmCurves]], curves: LearningCurves, window: Window, palette: Palette, height: int
) -> list[alt.Chart]:
    """Names right of the plot in the lines' colours, spread apart, bold where not told apart from the best.

    A line that is above the picture, or ended before its right edge, is said to be so.
    """
    low, high = window.losses
    ends = sorted(ends, key=lambda end: end[0])
    places = spread([min(loss, high) for loss, _ in ends], 13.5 / height * (high - low), low, high)
    layers: list[alt.Chart] = []
    for forward in (True, False):
        rows = [
            {
                "update": window.updates[1],
                "loss": place,
                "text": arm.arm + _remark(arm, _last_update(arm), loss, window),
                "colour": arm_colour(arm, curves, palette),
            }
            for place, (loss, arm) in zip(places, ends, strict=True)
            if (arm.status in ("best", "unresolved")) is forward
        ]
        text = chart(rows).mark_text(align="left", dx=8, fontWeight=700 if forward else 400, limit=190)
        layers.append(text.encode(text=alt.Text("text:N"), color=GIVEN))
    return layers


def _remark(arm: ArmCurves, update: float, loss: float, window: Window) -> str:
    if any(arm.diverged):
        return " (diverged)"
    if loss > window.losses[1]:
        return " (above)"
    return f" (to {update:g})" if update < 0.9 * window.updates[1] else ""


def spread(places: list[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places moved apart to at least `gap`, clusters kept around their middle, inside low..high.

    When there are too many for that the gap holds and the top gives way.
    """
    clusters: list[tuple[float, int]] = []  # (middle, members)
    for place in places:
        clusters.append((place, 1))
        while len(clusters) > 1 and clusters[-1][0] - clusters[-2][0] < gap * (clusters[-1][1] + clusters[-2][1]) / 2:
            (b, of_b), (a, of_a) = clusters.pop(), clusters.pop()
            clusters.append(((a * of_a + b * of_b) / (of_a + of_b), of_a + of_b))
    wanted = [middle + gap * (i - (members - 1) / 2) for middle, members in clusters for i in range(members)]
    for index in reversed(range(len(wanted))):
        wanted[index] = min(wanted[index], high - gap * (0.5 + len(wanted) - 1 - index))
    for index in range(len(wanted)):
        wanted[index] = max(wanted[index], low + gap * (0.5 + index), wanted[index - 1] + gap if index else low)
    return wanted
