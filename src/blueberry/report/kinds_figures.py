"""The figures that only some kinds of study have: each once, for the page and as a picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import altair as alt

from blueberry.judge.judgement import Judgement
from blueberry.records import StudyRun
from blueberry.report.kinds import effect_rows, law_curve, rate_lines, sweeps, sweeps_caption
from blueberry.report.kinds_chart import draw_effects, draw_law, draw_rates, draw_sweeps
from blueberry.report.theme import Palette
from blueberry.report.vega import Width
from blueberry.report.wording import decimals, metric_axis, setting_name


@dataclass(frozen=True)
class KindFigure:
    name: str
    """Its id in the page."""
    path: str
    """Of its picture."""
    title: str
    caption: str
    draw: Callable[[Palette, Width], alt.LayerChart]


def kind_figures(judgement: Judgement, runs: Sequence[StudyRun]) -> tuple[KindFigure, ...]:
    """Those that the judgement has something for. `runs` are labelled as `of_the_whole` does."""
    places, found = decimals(judgement), []
    searches = sweeps(judgement)
    if searches is not None:
        found.append(
            KindFigure(
                "searches",
                "figures/lr_search_comparison.png"
                if searches.axis.is_learning_rate
                else "figures/searches_comparison.png",
                f"Each part's search of the {setting_name(searches.axis.setting)}",
                sweeps_caption(searches),
                lambda palette, width: draw_sweeps(searches, palette, places, width=width),
            )
        )
    law = law_curve(judgement)
    if law is not None:
        title = f"The {law.y_label} against {law.x_label}"
        found.append(
            KindFigure(
                "law",
                "figures/power_law_curves.png",
                title,
                law.caption,
                lambda palette, width: draw_law(law, palette, width=width),
            )
        )
    effects = effect_rows(judgement)
    if effects:
        said = "Circles: main effects; diamonds: interactions; grey: not told from zero. Band: what does not matter."
        label = metric_axis(judgement.metric)
        found.append(
            KindFigure(
                "effects",
                "figures/effects_comparison.png",
                "What each change does, and what two do together",
                said,
                lambda palette, width: draw_effects(effects, label, judgement.min_effect, palette, places, width=width),
            )
        )
    rates = rate_lines(judgement, runs)
    if rates:
        said = "Of the first run of each arm, as it was used."
        found.append(
            KindFigure(
                "rates",
                "figures/learning_rate_curves.png",
                "Learning rates",
                said,
                lambda palette, width: draw_rates(rates, palette, width=width),
            )
        )
    return tuple(found)
