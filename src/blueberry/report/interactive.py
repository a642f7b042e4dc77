"""The figures of the page: the same records as the pictures, drawn as wide as the reader's window, with tooltips."""

from dataclasses import dataclass
from typing import Any

from blueberry.judge.words import decimals, metric_name, setting_name
from blueberry.report.differences import differences_caption, draw_differences
from blueberry.report.figures import Computed
from blueberry.report.learning_curves import (
    arm_colour,
    averaged,
    draw_each_arm,
    draw_learning_curves,
    learning_caption,
    training_caption,
)
from blueberry.report.lr_curve import curve_caption
from blueberry.report.lr_drawing import draw_lr_curve
from blueberry.report.theme import PAGE
from blueberry.report.vega import specification

HEIGHT = 340
"""Pixels, of the smaller figures."""


@dataclass(frozen=True)
class PageFigure:
    """One figure of the page."""

    name: str
    """Its id in the page."""
    title: str
    caption: str
    spec: dict[str, Any]


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
    main: PageFigure | None
    of_kind: tuple[PageFigure, ...]
    """What only this kind of study has."""
    curves: tuple[PageFigure, ...]
    """Those that follow the chips."""
    each_arm: PageFigure | None
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
        said = f"Thin lines: training loss{averaged(curves)}. Points: validation loss. Crosses: where a run diverged."
        spec = specification(draw_each_arm(curves, PAGE, first, height=HEIGHT), PAGE)
        each = PageFigure("each-arm", "One arm, every seed", said, spec)
    return PageFigures(
        main=_main(computed),
        of_kind=tuple(
            PageFigure(figure.name, figure.title, figure.caption, specification(figure.draw(PAGE, "container"), PAGE))
            for figure in computed.of_kind
        ),
        curves=_curves(computed),
        each_arm=each,
        chips=tuple(
            Chip(arm.arm, arm_colour(arm, curves, PAGE), arm.status in ("best", "unresolved")) for arm in drawn
        ),
        first=first,
    )


def _main(computed: Computed) -> PageFigure | None:
    judgement = computed.judgement
    if computed.curve is not None:
        title = f"{metric_name(judgement.metric).capitalize()} against {setting_name(computed.curve.axis.setting)}"
        spec = specification(draw_lr_curve(computed.curve, PAGE, width="container"), PAGE)
        return PageFigure("main-figure", title, curve_caption(computed.curve), spec)
    if computed.differences is not None:
        title = computed.differences.title
        spec = specification(
            draw_differences(computed.differences, PAGE, decimals(judgement.min_effect), width="container"), PAGE
        )
        return PageFigure("main-figure", title, differences_caption(computed.differences), spec)
    return None


def _curves(computed: Computed) -> tuple[PageFigure, ...]:
    curves = computed.learning
    if curves.whole is None:
        return ()
    figures: list[PageFigure] = []

    def add(name: str, title: str, said: str, which: Any, window: Any) -> None:
        drawn = draw_learning_curves(curves, which, window, PAGE, width="container", height=HEIGHT)
        figures.append(PageFigure(name, title, said, specification(drawn, PAGE)))

    if curves.any_validation:
        if curves.late is not None:
            add("validation-late", "Validation loss, second half", learning_caption(curves), "validation", curves.late)
        said = "Crosses: where the first run of an arm diverged." if any(any(a.diverged) for a in curves.arms) else ""
        add("validation-whole", "Validation loss, whole run", said, "validation", curves.validated or curves.whole)
    if curves.any_training:
        add("training-whole", "Training loss", training_caption(curves), "training", curves.whole)
    return tuple(figures)
