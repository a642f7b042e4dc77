"""The figures of a report: each computed once, then drawn as a picture and, as wide as the window, on the page."""

import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import altair as alt

from blueberry.files import digest
from blueberry.judge.judgement import Judgement, Status
from blueberry.judge.words import metric_name, setting_name
from blueberry.records import StudyRun
from blueberry.report.charts import (
    LIGHT,
    MAIN,
    PAGE,
    Axis,
    Drawing,
    Figure,
    Palette,
    Width,
    beside,
    chart,
    dashes,
    find_axis,
    headed,
    layered,
    lines_of,
    rate_axis,
    specification,
    stacked,
)
from blueberry.report.differences import differences_figure, effects_figure
from blueberry.report.learning_curves import (
    LearningCurves,
    arm_colour,
    arm_window,
    averaged,
    draw_arm,
    draw_each_arm,
    draw_learning_curves,
    learning_caption,
    learning_curves,
    training_caption,
)
from blueberry.report.lr_curve import LrCurve, curve_caption, draw_lr_curve, lr_curve
from blueberry.report.searches import law_figure, residuals_figure, sweeps_figure

LONGEST_RATE, LONGEST_NAME = 30, 50
"""Characters of a rate, and of any other name, in the name of a file, which has at most 255 bytes."""
TITLE_CHARACTERS = 110
"""Of a line of a picture's subtitle."""
HEIGHT = 340
"""Pixels, of the page's learning curves."""


@dataclass(frozen=True)
class Drawn:
    """A picture of the report, or a figure of its page."""

    name: str
    """Of a picture its path in the report's folder, with forward slashes; in the page its id."""
    title: str
    caption: str
    spec: dict[str, Any]
    """Vega-Lite, complete."""
    copy: str | None = None
    """The second path of a picture that stands under two."""


@dataclass(frozen=True)
class Computed:
    """Everything the figures of a report show, before anything is drawn."""

    judgement: Judgement
    runs: tuple[StudyRun, ...]
    """Those that stand for the arms."""
    curve: LrCurve | None
    """For arms on a numeric axis."""
    figures: tuple[Figure, ...]
    """The main one first: that curve; of named arms their differences, when there is something to compare. Then those
    of this kind of study."""
    learning: LearningCurves


def compute(judgement: Judgement, runs: Sequence[StudyRun]) -> Computed:
    runs, axis = of_the_whole(judgement, runs), find_axis(judgement)
    has_ended = any(arm.n for arm in judgement.arms)
    curve = lr_curve(judgement) if axis and has_ended and not judgement.conditions else None
    found = [_of_curve(curve) if curve else differences_figure(judgement) if axis is None else None]
    found += _of_kind(judgement, runs)
    figures = tuple(figure for figure in found if figure is not None)
    return Computed(judgement, runs, curve, figures, learning_curves(judgement, runs))


def _of_curve(curve: LrCurve) -> Figure:
    setting = curve.axis.setting
    title = f"{metric_name(curve.judgement.metric).capitalize()} against {setting_name(setting)}"
    last = re.sub(r"\W+", "_", setting.rpartition(".")[2])[:LONGEST_NAME]
    path = f"figures/loss_vs_{last}.png"
    return Figure(MAIN, path, title, curve_caption(curve), partial(draw_lr_curve, curve))


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


def _of_kind(judgement: Judgement, runs: Sequence[StudyRun]) -> Iterator[Figure | None]:
    """What only some kinds of study have."""
    if judgement.parts:
        yield sweeps_figure(judgement)
    if judgement.is_located:
        yield residuals_figure(judgement)
    if judgement.laws:
        yield law_figure(judgement)
    if judgement.effects:
        yield effects_figure(judgement)
    yield rates_figure(judgement, runs)


# --- Pictures ---


def pictures(computed: Computed) -> Iterator[Drawn]:
    """Every picture, the main one first."""
    question = computed.judgement.question

    def picture(path: str, title: str, caption: str, drawn: Drawing) -> Drawn:
        return Drawn(path, title, caption, finished(drawn, title, question))

    has_rates = computed.curve is not None and computed.curve.axis.is_learning_rate
    for figure in computed.figures:
        drawn = picture(figure.path, figure.title, figure.caption, figure.draw(LIGHT))
        is_search = figure.name == MAIN and has_rates and computed.judgement.is_located
        # as in a search over several models
        yield replace(drawn, copy="figures/lr_search_comparison.png") if is_search else drawn
    curves = computed.learning
    if curves.whole is not None and curves.any_validation:
        drawn, title = _validation_curves(curves), "Validation loss against updates"
        yield picture("figures/curves.png", title, learning_caption(curves), drawn)
    if curves.whole is not None and curves.any_training:
        drawn, title = draw_learning_curves(curves, "training", curves.whole, LIGHT), "Training loss against updates"
        yield picture("figures/training_curves.png", title, training_caption(curves), drawn)
    if computed.curve is not None and has_rates:  # under the names that such sweeps have always had
        drawn, title = _at_the_end_and_before(computed, computed.curve)
        yield picture("figures/combined_lr_analysis.png", title, curve_caption(computed.curve), drawn)
        drawn, title = _small_multiples(computed, computed.curve), "What was measured at each learning rate"
        yield picture("figures/detailed_lr_analysis.png", title, "Blue: not told apart from the best.", drawn)
        yield from _each_rate(computed, computed.curve.axis)


def _validation_curves(curves: LearningCurves) -> Drawing:
    assert curves.validated is not None
    if curves.late is None:
        return draw_learning_curves(curves, "validation", curves.validated, LIGHT)
    whole = draw_learning_curves(curves, "validation", curves.validated, LIGHT, width=400, named=False)
    late = draw_learning_curves(curves, "validation", curves.late, LIGHT, width=430)
    return beside([headed(whole, "The whole run"), headed(late, "The second half, enlarged")], spacing=30)


def _at_the_end_and_before(computed: Computed, curve: LrCurve) -> tuple[Drawing, str]:
    """The main figure with the learning curves beside it, and its title."""
    curves, what = computed.learning, _what_is_judged(computed.judgement)
    main = headed(draw_lr_curve(curve, LIGHT, width=520, height=360), "At the end of training")
    window, title = curves.late or curves.validated, f"{what} against learning rate"
    if window is None or not curves.any_validation:
        return main, title
    drawn = draw_learning_curves(curves, "validation", window, LIGHT, width=400, height=360)
    title += ", and on the way there" if what == "Loss" else "; and the loss on the way there"
    return beside([main, headed(drawn, "Against updates")], spacing=30), title


def _small_multiples(computed: Computed, curve: LrCurve) -> Drawing:
    small = [headed(draw_lr_curve(curve, LIGHT, width=430, height=300), _what_is_judged(computed.judgement))]
    shown = panels(computed.judgement, computed.runs)
    small += [draw_panel(panel, LIGHT, width=430, height=300) for panel in shown]
    return stacked([beside(small[i : i + 2], spacing=40) for i in range(0, len(small), 2)], spacing=30)


def _what_is_judged(judgement: Judgement) -> str:
    name = metric_name(judgement.metric)
    return "Loss" if name.endswith("loss") else name.capitalize()


def _each_rate(computed: Computed, axis: Axis) -> Iterator[Drawn]:
    judgement, curves = computed.judgement, computed.learning
    names = rate_names(axis.values)
    by_name = {arm.arm: arm for arm in curves.arms}
    for summary in judgement.arms:
        arm = by_name[summary.arm]
        if arm_window(arm, curves) is None:
            continue
        rate = names[float(summary.settings[axis.setting])]
        suffix = "" if len(judgement.vary) == 1 else "_" + file_name(summary.arm)
        said, title = _said_of_an_arm(curves), f"Learning rate {rate}"
        spec = finished(draw_arm(arm, curves, LIGHT), title, said)
        yield Drawn(f"figures/individual/lr_{rate}{suffix}_loss_vs_steps.png", title, said, spec)


def _said_of_an_arm(curves: LearningCurves) -> str:
    return f"Thin lines: training loss{averaged(curves)}. Points: validation loss. Crosses: where a run diverged."


def finished(drawn: Drawing, title: str, subtitle: str) -> dict[str, Any]:
    """The specification with title, subtitle in lines that fit, and the light theme."""
    lines = textwrap.wrap(" ".join(subtitle.split()), TITLE_CHARACTERS, max_lines=3, placeholder=" ...")
    return specification(drawn, LIGHT, title={"text": title, "subtitle": lines})


def rate_names(rates: Sequence[float]) -> dict[float, str]:
    """Each rate with as few decimals, four or more, as keep all of them apart and none of them zero."""
    for places in range(4, 20):
        names = {rate: f"{rate:.{places}f}" for rate in rates}
        told_apart = len(set(names.values())) == len(names)
        if told_apart and all(float(name) for rate, name in names.items() if rate):
            return {rate: name if len(name) <= LONGEST_RATE else repr(rate) for rate, name in names.items()}
    return {rate: repr(rate) for rate in rates}


def file_name(name: str) -> str:
    """A name as part of a file's, with a digest where it does not stand there whole: no two names are one file."""
    kept = re.sub(r"[^\w.=+-]+", "_", name)[:LONGEST_NAME].lstrip(".")
    if kept == name:
        return kept
    return f"{kept}-{digest('blueberry/file-name', name.encode(errors='backslashreplace'))[:8]}"


# --- The page ---


@dataclass(frozen=True)
class Chip:
    """An arm's entry in the key under the curves."""

    arm: str
    colour: str
    """A CSS colour."""
    forward: bool
    """Not told apart from the best."""


@dataclass(frozen=True)
class PageFigures:
    """With tooltips, and colours that follow the reader's scheme."""

    first: tuple[Drawn, ...]
    """Before anything else: the main one, and those of this kind of study."""
    curves: tuple[Drawn, ...]
    """Those that follow the chips."""
    each_arm: Drawn | None
    """One arm at a time, chosen by a menu."""
    chips: tuple[Chip, ...]
    chosen: str
    """The arm that `each_arm` begins with."""


def page_figures(computed: Computed) -> PageFigures:
    judgement, curves = computed.judgement, computed.learning
    drawn = [arm for arm in curves.arms if any((*arm.seed_validation, *arm.seed_training))]
    best = judgement.best.arm if judgement.best else None
    chosen = next((arm.arm for arm in drawn if arm.arm == best), drawn[0].arm if drawn else "")
    each = None
    if curves.whole is not None and drawn:
        spec = specification(draw_each_arm(curves, PAGE, chosen, height=HEIGHT), PAGE)
        each = Drawn("each-arm", "One arm, every seed", _said_of_an_arm(curves), spec)
    chips = [Chip(arm.arm, arm_colour(arm, curves, PAGE), arm.status in ("best", "unresolved")) for arm in drawn]
    first = tuple(map(_on_the_page, computed.figures))
    return PageFigures(first, tuple(_page_curves(curves)), each, tuple(chips), chosen)


def _on_the_page(figure: Figure) -> Drawn:
    spec = specification(figure.draw(PAGE, width="container"), PAGE)
    return Drawn(figure.name, figure.title, figure.caption, spec)


def _page_curves(curves: LearningCurves) -> Iterator[Drawn]:
    if curves.whole is None:
        return
    shown: list[tuple[str, str, str, Any, Any]] = []
    if curves.any_validation and curves.late is not None:
        said = learning_caption(curves)
        shown.append(("validation-late", "Validation loss, second half", said, "validation", curves.late))
    if curves.any_validation:
        said = "Crosses: where the first run of an arm diverged." if any(any(a.diverged) for a in curves.arms) else ""
        window = curves.validated or curves.whole
        shown.append(("validation-whole", "Validation loss, whole run", said, "validation", window))
    if curves.any_training:
        shown.append(("training-whole", "Training loss", training_caption(curves), "training", curves.whole))
    for name, title, said, which, window in shown:
        drawn = draw_learning_curves(curves, which, window, PAGE, width="container", height=HEIGHT)
        yield Drawn(name, title, said, specification(drawn, PAGE))


# --- Panels: what else was measured at each value of a sweep ---

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
    log_y: bool = False
    of_runs: bool = True
    """Whether points are runs, with a line through the means of arms; else each is an arm, measured from 0."""
    reference: tuple[float, str] | None = None
    """A horizontal line, with what it says."""


def panels(judgement: Judgement, runs: Sequence[StudyRun]) -> tuple[Panel, ...]:
    """Up to three, in this order of preference: accuracy (or perplexity), gradient norm (or time), spread of seeds."""
    axis = find_axis(judgement)
    assert axis is not None, "panels need arms on a numeric axis"
    searching = [run for run in runs if run.stage == "search"]

    def of_runs(title: str, y_label: str, what: str | Callable[[StudyRun], float | None], log_y: bool) -> Panel | None:
        measure = what if callable(what) else lambda run: run.result.metric(what)
        points = _points(judgement, axis, searching, measure)
        return Panel(title, y_label, axis, points, log_y) if points else None

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
    title, y_label = "Spread of the seeds", "standard deviation between seeds"
    return Panel(title, y_label, axis, points, of_runs=False, reference=reference) if points else None


def draw_panel(panel: Panel, palette: Palette, *, width: int, height: int) -> Drawing:
    """One panel with its title."""
    axis = panel.axis
    x = rate_axis(axis, (axis.beyond(axis.values[0], -0.45), axis.beyond(axis.values[-1], 0.45)))
    scale = alt.Scale(type="log" if panel.log_y else "linear", zero=not panel.of_runs, nice=False, padding=12)
    y = alt.Y("y:Q", title=panel.y_label, scale=scale, axis=alt.Axis(tickCount=5, format="~g"))
    strong = ("best", "unresolved")
    points = [
        {"x": x_, "y": value, "colour": palette.accent if status in strong else palette.other}
        for x_, value, status in panel.points
    ]
    layers: list[alt.Chart] = []
    if panel.of_runs:
        values: dict[float, list[float]] = {}
        for x_, value, _ in sorted(panel.points, key=lambda point: point[0]):
            values.setdefault(x_, []).append(value)
        means = chart([{"x": x_, "y": sum(some) / len(some)} for x_, some in values.items()])
        layers.append(means.mark_line(color=palette.accent, strokeOpacity=0.45, strokeWidth=1.5).encode(x=x, y=y))
    if panel.reference is not None:
        level, text = panel.reference
        base = chart([{"y": level, "text": text, "x": axis.values[0]}])
        layers.append(base.mark_rule(color=palette.fresh, strokeDash=[5, 4], strokeWidth=1.5).encode(y=y))
        label = base.mark_text(align="left", dx=-8, dy=-9, color=palette.fresh, fontWeight=600)
        layers.append(label.encode(x=x, y=y, text=alt.Text("text:N")))
    dots = chart(points).mark_point(filled=not panel.of_runs, size=34, strokeWidth=1.4, opacity=1)
    layers.append(dots.encode(x=x, y=y, color=alt.Color("colour:N", scale=None, legend=None)))
    return headed(layered(layers, width=width, height=height), panel.title)


# --- Learning rates ---

Rates = Mapping[str, tuple[tuple[int, float], ...]]
"""By arm, update and learning rate."""


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


def rates_figure(judgement: Judgement, runs: Sequence[StudyRun]) -> Figure | None:
    rates = rate_lines(judgement, runs)
    said = "Of the first run of each arm, as it was used."
    draw = partial(draw_rates, rates)
    return Figure("rates", "figures/learning_rate_curves.png", "Learning rates", said, draw) if rates else None


def draw_rates(lines: Rates, palette: Palette, *, width: Width = 700) -> Drawing:
    """The learning rate at every update, a line an arm."""
    names = list(lines)
    rows = [{"arm": arm, "update": update, "rate": rate} for arm, rates in lines.items() for update, rate in rates]
    x = alt.X("update:Q", title="updates", scale=alt.Scale(zero=False, nice=False))
    y = alt.Y("rate:Q", title="learning rate", scale=alt.Scale(zero=True), axis=alt.Axis(format=".4~g"))
    drawn = chart(rows).mark_line(strokeWidth=2, strokeOpacity=0.85)
    drawn = drawn.encode(x=x, y=y, color=lines_of("arm", names, palette))
    if dash := dashes(names, palette):
        drawn = drawn.encode(strokeDash=dash)
    return layered([drawn], width=width, height=300)
