"""The figures of a report: each computed once, then drawn as a picture and, as wide as the window, on the page."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from blueberry.identity import digest
from blueberry.judge.judgement import Judgement
from blueberry.judge.words import decimals, metric_name, setting_name
from blueberry.records import StudyRun
from blueberry.report.axis import Axis, find_axis
from blueberry.report.differences import differences, differences_caption, draw_differences
from blueberry.report.kinds import kind_figures, of_the_whole
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
from blueberry.report.panels import draw_panel, panels
from blueberry.report.theme import LIGHT, PAGE
from blueberry.report.vega import Drawing, Figure, beside, headed, specification, stacked
from blueberry.tables.columns import is_loss

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


@dataclass(frozen=True)
class Computed:
    """Everything the figures of a report show, before anything is drawn."""

    judgement: Judgement
    runs: tuple[StudyRun, ...]
    axis: Axis | None
    curve: LrCurve | None
    """For arms on a numeric axis."""
    main: Figure | None
    """That curve; of named arms their differences, when there is something to compare."""
    learning: LearningCurves
    of_kind: tuple[Figure, ...]
    """What only this kind of study has."""

    @property
    def has_rates(self) -> bool:
        return self.axis is not None and self.axis.is_learning_rate


def compute(judgement: Judgement, runs: Sequence[StudyRun]) -> Computed:
    runs = of_the_whole(judgement, runs)
    axis = find_axis(judgement)
    has_ended = any(arm.n for arm in judgement.arms)
    curve = lr_curve(judgement) if axis and has_ended and not judgement.conditions else None
    main = _of_curve(curve) if curve is not None else _of_differences(judgement) if axis is None else None
    return Computed(
        judgement=judgement,
        runs=runs,
        axis=axis,
        curve=curve,
        main=main,
        learning=learning_curves(judgement, runs),
        of_kind=kind_figures(judgement, runs),
    )


def _of_curve(curve: LrCurve) -> Figure:
    setting = curve.axis.setting
    title = f"{metric_name(curve.metric).capitalize()} against {setting_name(setting)}"
    last = re.sub(r"\W+", "_", setting.rpartition(".")[2])[:LONGEST_NAME]
    path = f"figures/loss_vs_{last}.png"
    return Figure("main-figure", path, title, curve_caption(curve), partial(draw_lr_curve, curve))


def _of_differences(judgement: Judgement) -> Figure | None:
    shown = None if judgement.conditions else differences(judgement)
    if shown is None:
        return None
    draw = partial(draw_differences, shown, places=decimals(judgement.min_effect))
    path = "figures/main_branch_comparison.png"
    return Figure("main-figure", path, shown.title, differences_caption(shown), draw)


# --- Pictures ---


def pictures(computed: Computed) -> Iterator[Drawn]:
    """Every picture, the main one first."""
    question = computed.judgement.question

    def picture(path: str, title: str, caption: str, drawn: Drawing) -> Drawn:
        return Drawn(path, title, caption, finished(drawn, title, question))

    if computed.main is not None:
        main = picture(computed.main.path, computed.main.title, computed.main.caption, computed.main.draw(LIGHT))
        yield main
        if computed.curve and computed.has_rates and computed.judgement.is_located:
            yield replace(main, name="figures/lr_search_comparison.png")  # as in a search over several models
    for figure in computed.of_kind:
        yield picture(figure.path, figure.title, figure.caption, figure.draw(LIGHT))
    curves = computed.learning
    if curves.whole is not None and curves.any_validation:
        drawn, title = _validation_curves(curves), "Validation loss against updates"
        yield picture("figures/curves.png", title, learning_caption(curves), drawn)
    if curves.whole is not None and curves.any_training:
        drawn, title = draw_learning_curves(curves, "training", curves.whole, LIGHT), "Training loss against updates"
        yield picture("figures/training_curves.png", title, training_caption(curves), drawn)
    if computed.curve is not None and computed.has_rates:  # under the names that such sweeps have always had
        drawn, title = _at_the_end_and_before(computed, computed.curve)
        yield picture("figures/combined_lr_analysis.png", title, curve_caption(computed.curve), drawn)
        drawn, title = _small_multiples(computed, computed.curve), "What was measured at each learning rate"
        yield picture("figures/detailed_lr_analysis.png", title, "Blue: not told apart from the best.", drawn)
        yield from _each_rate(computed)


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
    return "Loss" if is_loss(judgement.metric) else metric_name(judgement.metric).capitalize()


def _each_rate(computed: Computed) -> Iterator[Drawn]:
    assert computed.axis is not None
    judgement, curves = computed.judgement, computed.learning
    names = rate_names(computed.axis.values)
    by_name = {arm.arm: arm for arm in curves.arms}
    for summary in judgement.arms:
        arm = by_name[summary.arm]
        if arm_window(arm, curves) is None:
            continue
        rate = names[float(summary.settings[computed.axis.setting])]
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

    main: Drawn | None
    of_kind: tuple[Drawn, ...]
    curves: tuple[Drawn, ...]
    """Those that follow the chips."""
    each_arm: Drawn | None
    """One arm at a time, chosen by a menu."""
    chips: tuple[Chip, ...]
    first: str
    """The arm that `each_arm` begins with."""


def page_figures(computed: Computed) -> PageFigures:
    judgement, curves = computed.judgement, computed.learning
    drawn = [arm for arm in curves.arms if any(line.updates for line in (*arm.seed_validation, *arm.seed_training))]
    best = judgement.best.arm if judgement.best else None
    first = next((arm.arm for arm in drawn if arm.arm == best), drawn[0].arm if drawn else "")
    each = None
    if curves.whole is not None and drawn:
        spec = specification(draw_each_arm(curves, PAGE, first, height=HEIGHT), PAGE)
        each = Drawn("each-arm", "One arm, every seed", _said_of_an_arm(curves), spec)
    return PageFigures(
        main=None if computed.main is None else _on_the_page(computed.main),
        of_kind=tuple(map(_on_the_page, computed.of_kind)),
        curves=tuple(_page_curves(curves)),
        each_arm=each,
        chips=tuple(
            Chip(arm.arm, arm_colour(arm, curves, PAGE), arm.status in ("best", "unresolved")) for arm in drawn
        ),
        first=first,
    )


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
