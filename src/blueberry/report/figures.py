"""Which pictures a report has, by file name."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt

from blueberry.identity import digest
from blueberry.judge.judgement import Judgement
from blueberry.judge.words import decimals, metric_name, setting_name
from blueberry.records import StudyRun
from blueberry.report.axis import Axis, find_axis
from blueberry.report.differences import Differences, differences, differences_caption, draw_differences
from blueberry.report.kinds import WIDTH as KIND_WIDTH
from blueberry.report.kinds import KindFigure, kind_figures, of_the_whole
from blueberry.report.learning_curves import (
    LearningCurves,
    Window,
    arm_window,
    averaged,
    draw_arm,
    draw_learning_curves,
    learning_caption,
    learning_curves,
    training_caption,
)
from blueberry.report.lr_curve import LrCurve, curve_caption, lr_curve
from blueberry.report.lr_drawing import draw_lr_curve
from blueberry.report.panels import draw_panel, panels
from blueberry.report.theme import LIGHT
from blueberry.report.vega import specification
from blueberry.tables.columns import is_loss

LONGEST_RATE, LONGEST_NAME = 30, 50
"""Characters of a rate, and of any other name, in the name of a file, which has at most 255 bytes."""
TITLE_CHARACTERS = 110
"""Of a line of a picture's subtitle."""


@dataclass(frozen=True)
class Picture:
    """One PNG of a report."""

    path: str
    """Relative to the report's folder, with forward slashes."""
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
    differences: Differences | None
    """For named arms, when there is something to compare."""
    learning: LearningCurves
    of_kind: tuple[KindFigure, ...]
    """What only this kind of study has."""

    @property
    def has_rates(self) -> bool:
        return self.axis is not None and self.axis.is_learning_rate


def compute(judgement: Judgement, runs: Sequence[StudyRun]) -> Computed:
    runs = of_the_whole(judgement, runs)
    axis = find_axis(judgement)
    has_ended = any(arm.n for arm in judgement.arms)
    return Computed(
        judgement=judgement,
        runs=runs,
        axis=axis,
        curve=lr_curve(judgement) if axis and has_ended and not judgement.conditions else None,
        differences=None if axis or judgement.conditions else differences(judgement),
        learning=learning_curves(judgement, runs),
        of_kind=kind_figures(judgement, runs),
    )


def pictures(computed: Computed) -> Iterator[Picture]:
    """Every picture, the main one first."""
    if computed.curve is not None:
        main = _loss_picture(computed.curve, computed.judgement)
        yield main
        if computed.has_rates and computed.judgement.is_located:  # the name that it has in a search over several models
            yield replace(main, path="figures/lr_search_comparison.png")
    if computed.differences is not None:
        yield _differences_picture(computed.differences, computed.judgement)
    for figure in computed.of_kind:
        spec = finished(figure.draw(LIGHT, KIND_WIDTH), figure.title, computed.judgement.question)
        yield Picture(figure.path, figure.title, figure.caption, spec)
    if computed.learning.whole is not None:
        if computed.learning.any_validation:
            yield _curves_picture(computed)
        if computed.learning.any_training:
            yield _training_picture(computed, computed.learning.whole)
    if computed.has_rates and computed.curve is not None:
        yield from _rate_pictures(computed, computed.curve)


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


def _loss_picture(curve: LrCurve, judgement: Judgement) -> Picture:
    title = f"{metric_name(judgement.metric).capitalize()} against {setting_name(curve.axis.setting)}"
    last = re.sub(r"\W+", "_", curve.axis.setting.rpartition(".")[2])[:LONGEST_NAME]
    drawn = draw_lr_curve(curve, LIGHT)
    said = curve_caption(curve)
    return Picture(f"figures/loss_vs_{last}.png", title, said, finished(drawn, title, judgement.question))


def _differences_picture(shown: Differences, judgement: Judgement) -> Picture:
    title = shown.title
    drawn = draw_differences(shown, LIGHT, decimals(judgement.min_effect))
    spec = finished(drawn, title, judgement.question)
    return Picture("figures/main_branch_comparison.png", title, differences_caption(shown), spec)


def _curves_picture(computed: Computed) -> Picture:
    curves = computed.learning
    assert curves.validated is not None
    title = "Validation loss against updates"
    if curves.late is None:
        drawn: Any = draw_learning_curves(curves, "validation", curves.validated, LIGHT)
    else:
        whole = draw_learning_curves(curves, "validation", curves.validated, LIGHT, width=400, named=False)
        late = draw_learning_curves(curves, "validation", curves.late, LIGHT, width=430)
        drawn = alt.hconcat(_headed(whole, "The whole run"), _headed(late, "The second half, enlarged"), spacing=30)
    spec = finished(drawn, title, computed.judgement.question)
    return Picture("figures/curves.png", title, learning_caption(curves), spec)


def _training_picture(computed: Computed, window: Window) -> Picture:
    title = "Training loss against updates"
    said = training_caption(computed.learning)
    drawn = draw_learning_curves(computed.learning, "training", window, LIGHT)
    spec = finished(drawn, title, computed.judgement.question)
    return Picture("figures/training_curves.png", title, said, spec)


def _rate_pictures(computed: Computed, curve: LrCurve) -> Iterator[Picture]:
    """Under the names that learning-rate sweeps have always had."""
    judgement, curves = computed.judgement, computed.learning
    what = "Loss" if is_loss(judgement.metric) else metric_name(judgement.metric).capitalize()
    title = f"{what} against learning rate"
    main = _headed(draw_lr_curve(curve, LIGHT, width=520, height=360), "At the end of training")
    window = curves.late or curves.validated
    if window is not None and curves.any_validation:
        drawn = draw_learning_curves(curves, "validation", window, LIGHT, width=400, height=360)
        title += ", and on the way there" if what == "Loss" else "; and the loss on the way there"
        both: Any = alt.hconcat(main, _headed(drawn, "Against updates"), spacing=30)
    else:
        both = main
    said = curve_caption(curve)
    path = "figures/combined_lr_analysis.png"
    yield Picture(path, title, said, finished(both, title, judgement.question))

    small = [_headed(draw_lr_curve(curve, LIGHT, width=430, height=300), what)]
    small += [draw_panel(panel, LIGHT, width=430, height=300) for panel in panels(judgement, computed.runs)]
    drawn = alt.vconcat(*(alt.hconcat(*small[i : i + 2], spacing=40) for i in range(0, len(small), 2)), spacing=30)
    title = "What was measured at each learning rate"
    path = "figures/detailed_lr_analysis.png"
    yield Picture(path, title, "Blue: not told apart from the best.", finished(drawn, title, judgement.question))

    assert computed.axis is not None
    names = rate_names(computed.axis.values)
    by_name = {arm.arm: arm for arm in curves.arms}
    for summary in judgement.arms:
        arm = by_name[summary.arm]
        if arm_window(arm, curves) is None:
            continue
        rate = names[float(summary.settings[computed.axis.setting])]
        suffix = "" if len(judgement.vary) == 1 else "_" + file_name(summary.arm)
        said = f"Thin lines: training loss{averaged(curves)}. Points: validation loss. Crosses: where a run diverged."
        spec = finished(draw_arm(arm, curves, LIGHT), f"Learning rate {rate}", said)
        yield Picture(f"figures/individual/lr_{rate}{suffix}_loss_vs_steps.png", f"Learning rate {rate}", said, spec)


def _headed(drawn: alt.LayerChart, title: str) -> alt.LayerChart:
    return drawn.properties(title=alt.TitleParams(title, fontSize=13, offset=8))


def finished(drawn: Any, title: str, subtitle: str) -> dict[str, Any]:
    """The specification with title, subtitle in lines that fit, and the light theme."""
    lines = textwrap.wrap(" ".join(subtitle.split()), TITLE_CHARACTERS, max_lines=3, placeholder=" ...")
    return specification(drawn, LIGHT, title={"text": title, "subtitle": lines})
