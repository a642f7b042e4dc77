"""Figures of differences: named arms minus a reference, the main figure of a comparison; and what each change does."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import altair as alt

from blueberry.judge.answers import Effect
from blueberry.judge.effects import effect_name
from blueberry.judge.judgement import BASELINE, Judgement, Verdict
from blueberry.judge.words import (
    count,
    decimals,
    difference_axis,
    metric_axis,
    number,
)
from blueberry.report.charts import (
    GIVEN,
    MAIN,
    Drawing,
    Figure,
    Palette,
    Width,
    band,
    between,
    chart,
    layered,
    picture_range,
    tips,
    zero,
)
from blueberry.report.page_tables import shown_effects, verdict_words

MAX_INTERVAL_IN_SPREADS = 1.0
"""Intervals may widen the picture by this part of the spread of the seeds on either side; longer ones are cut."""
WIDTH = 620
"""Pixels of a picture; its words stand at the right of that."""


@dataclass(frozen=True)
class Difference:
    """One arm minus the reference."""

    verdict: Verdict
    """Its `b` is the arm; `a` the reference, or the arm that led when a race dropped it."""
    seeds: tuple[tuple[int, float], ...]
    """(seed, difference) where both runs are finite."""
    num_diverged: int
    words: str
    """The verdict as said of this arm."""

    @property
    def arm(self) -> str:
        return self.verdict.b

    @property
    def difference(self) -> float | None:
        """Mean over the shared seeds; None when there is none or a run diverged."""
        found = self.verdict.difference
        return found if found is not None and math.isfinite(found) else None

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.difference is None else self.verdict.interval


@dataclass(frozen=True)
class Differences:
    """Ready to draw; differences are arm minus reference, so below 0 the arm has the lower metric."""

    reference: str
    metric: str
    min_effect: float
    rows: tuple[Difference, ...]
    """Least difference first, those without one last."""
    x_range: tuple[float, float]

    @property
    def title(self) -> str:
        paired = {row.verdict.paired for row in self.rows}
        how = ", paired by seed" if paired == {True} else ", unpaired" if paired == {False} else ""
        return f"Difference to {self.reference}{how}"

    @property
    def label(self) -> str:
        return difference_axis(self.metric, self.reference)


def find_reference(judgement: Judgement) -> str | None:
    """The baseline if every other arm was judged against it, else the best arm, else None."""
    names = [arm.arm for arm in judgement.arms]
    others = [name for name in names if name != BASELINE]
    if BASELINE in names and others and all(judgement.verdict(BASELINE, name) for name in others):
        return BASELINE
    return judgement.best.arm if judgement.best and judgement.verdicts else None


def differences(judgement: Judgement) -> Differences | None:
    """Against `find_reference`; None when there are no verdicts to show."""
    reference = find_reference(judgement)
    if reference is None:
        return None
    values = {arm.arm: dict(zip(arm.seeds, arm.values, strict=True)) for arm in judgement.arms}
    rows = []
    for arm in judgement.arms:
        verdict = judgement.verdict(reference, arm.arm) or judgement.against_best(arm.arm)
        if arm.arm == reference or verdict is None:
            continue
        against = values[verdict.a]
        shared = [seed for seed in arm.seeds if seed is not None and seed in against]
        pairs = [(seed, values[arm.arm][seed], against[seed]) for seed in shared]
        seeds = tuple((seed, x - y) for seed, x, y in pairs if math.isfinite(x) and math.isfinite(y))
        said = verdict_words(verdict, reference)
        rows.append(Difference(verdict, seeds if verdict.paired else (), arm.num_diverged, said))
    rows.sort(key=lambda row: (row.difference is None, row.difference or 0.0))
    return Differences(
        reference=reference,
        metric=judgement.metric,
        min_effect=judgement.min_effect,
        rows=tuple(rows),
        x_range=_x_range(rows, judgement.min_effect),
    )


def differences_caption(shown: Differences) -> str:
    circles = "Each small circle is one seed, each dot" if any(row.seeds for row in shown.rows) else "Each dot is"
    said = [f"{circles} the mean difference with its interval, adjusted for the number of"]
    said.append("comparisons. The shaded band is the difference declared too small to matter.")
    beyond = sum(row.difference is not None and row.difference > shown.x_range[1] for row in shown.rows)
    if beyond:
        said.append(f"{count(beyond, 'arm')} further right than the picture: triangles, with their difference.")
    if any(row.num_diverged for row in shown.rows):
        said.append("Crosses: arms with diverged runs.")
    cut = [row.interval for row in shown.rows if row.interval]
    if any(low < shown.x_range[0] or high > shown.x_range[1] for low, high in cut):
        said.append("Intervals that reach the frame go on beyond it.")
    return " ".join(said)


def _x_range(rows: list[Difference], min_effect: float) -> tuple[float, float]:
    """All seeds and the band, unless a few arms lie far to the right; intervals up to a limit."""
    points = [value for row in rows for _, value in row.seeds]
    shown = [*points, -min_effect, min_effect, 0.0]
    low, high = min(shown), max(shown)
    means = [row for row in rows if row.difference is not None]  # ascending already
    better = means[: (len(means) + 1) // 2]
    core = max([value for row in better for _, value in row.seeds] + [min_effect, 0.0])
    low, high = picture_range(low, high, core - low)
    room = MAX_INTERVAL_IN_SPREADS * (high - low)
    ends = [row.interval for row in rows if row.interval and row.difference is not None and row.difference <= high]
    left = min([end[0] for end in ends], default=low)
    right = max([end[1] for end in ends], default=high)
    return (min(low, max(left * 1.05, low - room)), max(high, min(right * 1.05, high + room)))


def differences_figure(judgement: Judgement) -> Figure | None:
    """The main figure of a study of named arms; None when there is nothing to compare."""
    shown = None if judgement.conditions else differences(judgement)
    if shown is None:
        return None
    draw = partial(draw_differences, shown, places=decimals(judgement.min_effect))
    path = "figures/main_branch_comparison.png"
    return Figure(MAIN, path, shown.title, differences_caption(shown), draw)


def draw_differences(shown: Differences, palette: Palette, places: int, *, width: Width = WIDTH) -> Drawing:
    """The figure without a title; a picture (`width` in pixels) carries each verdict in words at its right."""
    low, high = shown.x_range
    x_scale = between(low, high)
    x = alt.X("x:Q", title=shown.label, scale=x_scale, axis=alt.Axis(tickCount=6))
    y = _rows_named("arm", [row.arm for row in shown.rows], limit=170, paddingInner=0.2, paddingOuter=0.2)
    inside = [row for row in shown.rows if row.difference is not None and row.difference <= high]
    seeds = [
        {"arm": row.arm, "x": value, "seed": seed, "colour": _colour(row, palette)}
        | {"said": number(value, places, sign=True)}
        for row in inside
        for seed, value in row.seeds
        if value <= high
    ]
    means = [_mean_row(row, shown, palette, places) for row in inside]
    circles = chart(seeds).mark_point(size=22, strokeWidth=1.1, strokeOpacity=0.8, opacity=1, filled=False, yOffset=-12)
    rules = chart([row for row in means if row["low"] is not None]).mark_rule(strokeWidth=2)
    dots = chart(means).mark_point(filled=True, size=95, opacity=1, stroke=palette.surface, strokeWidth=1)
    told = tips("arm:N", "difference:N", "interval:N", "n:Q", "verdict:N")
    said = [*tips("arm:N", "seed:Q"), alt.Tooltip("said:N", title="difference")]
    layers = [
        band(max(-shown.min_effect, low), min(shown.min_effect, high), palette).encode(x=x, x2=alt.X2("x2:Q")),
        zero(palette).encode(x=x),
        circles.encode(x=x, y=y, color=GIVEN, tooltip=said),
        rules.encode(x=alt.X("low:Q", title=shown.label, scale=x_scale), x2=alt.X2("high:Q"), y=y, color=GIVEN),
        dots.encode(x=x, y=y, fill=alt.Fill("colour:N", scale=None, legend=None), tooltip=told),
        *(layer.encode(y=y) for layer in _outside(shown, palette, places)),
    ]
    if width != "container":
        words_beside = chart([{"arm": row.arm, "text": row.words} for row in shown.rows])
        text = words_beside.mark_text(align="left", dx=12, color=palette.muted)
        layers.append(text.encode(x=alt.XValue(width), y=y, text=alt.Text("text:N")))
    return layered(layers, width=width, height=46 * max(len(shown.rows), 1))


def _rows_named(field: str, names: list[str], *, limit: int, **padding: Any) -> alt.Y:
    """A row for each name, in this order; names of more than `limit` pixels are cut."""
    axis = alt.Axis(labelLimit=limit, domain=False, ticks=False, grid=False)
    return alt.Y(f"{field}:N", title=None, scale=alt.Scale(domain=names, **padding), axis=axis)


def _colour(row: Difference, palette: Palette) -> str:
    """Accent where the arm is better, grey where it is worse, ink where it is open."""
    if row.verdict.verdict == "winner":
        return palette.accent if row.verdict.winner == row.arm else palette.other
    return palette.ink


def _mean_row(row: Difference, shown: Differences, palette: Palette, places: int) -> dict[str, Any]:
    low, high = row.interval or (None, None)
    return {
        "arm": row.arm,
        "x": row.difference,
        "low": None if low is None else max(low, shown.x_range[0]),
        "high": None if high is None else min(high, shown.x_range[1]),
        "colour": _colour(row, palette),
        "difference": number(row.difference, places, sign=True),
        "interval": " to ".join(number(end, places, sign=True) for end in row.interval) if row.interval else "none",
        "n": row.verdict.n,
        "verdict": row.words,
    }


def _outside(shown: Differences, palette: Palette, places: int) -> list[alt.Chart]:
    """Arms further right than the picture, and arms with diverged runs, marked at the right edge."""
    far = [
        {"arm": row.arm, "text": number(row.difference, places, sign=True)}
        for row in shown.rows
        if row.difference is not None and row.difference > shown.x_range[1]
    ]
    diverged = [
        {"arm": row.arm, "text": f"{count(row.num_diverged, 'run')} diverged"} for row in shown.rows if row.num_diverged
    ]
    triangle: dict[str, Any] = {"shape": "triangle-right", "color": palette.other}
    cross: dict[str, Any] = {"shape": "cross", "angle": 45, "color": palette.failed}
    layers: list[alt.Chart] = []
    for rows, look in ((far, triangle), (diverged, cross)):
        if rows:
            base = chart(rows).encode(x=alt.XValue("width"))
            layers.append(base.mark_point(filled=True, size=70, opacity=1, xOffset=-8, **look))
            text = base.mark_text(align="right", xOffset=-18, color=palette.muted)
            layers.append(text.encode(text=alt.Text("text:N")))
    return layers


# --- Effects: what each change does ---


def effects_figure(judgement: Judgement) -> Figure | None:
    """A row an effect, zero in the middle of a band of what does not matter; None where none was measured."""
    shown = shown_effects(judgement)
    if not shown:
        return None
    title = "What each change does, and what two do together"
    said = "Circles: main effects; diamonds: interactions; grey: not told from zero. Band: what does not matter."
    draw = partial(draw_effects, shown, judgement)
    return Figure("effects", "figures/effects_comparison.png", title, said, draw)


def draw_effects(shown: Sequence[Effect], judgement: Judgement, palette: Palette, *, width: Width = 700) -> Drawing:
    min_effect, places = judgement.min_effect, decimals(judgement.min_effect)
    ends = [end for one in shown for end in one.interval or ()] + [-min_effect, min_effect]
    margin = 0.06 * (max(ends) - min(ends))
    scale, title = between(min(ends) - margin, max(ends) + margin), f"{metric_axis(judgement.metric)}: difference"
    x = alt.X("x:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6))
    names = [effect_name(one) for one in shown]
    y = _rows_named("name", names, limit=240)
    rows = [
        {
            "name": name,
            "x": one.difference,
            "low": one.interval and one.interval[0],
            "high": one.interval and one.interval[1],
            "colour": palette.other
            if not one.is_significant
            else palette.accent
            if (one.difference or 0.0) < 0
            else palette.fresh,
            "shape": "diamond" if len(one.changes) > 1 else "circle",
            "difference": number(one.difference, places, sign=True),
        }
        for name, one in zip(names, shown, strict=True)
    ]
    base = chart(rows)
    rule = base.mark_rule(strokeWidth=2)
    shape, told = alt.Shape("shape:N", scale=None, legend=None), tips("name:N", "difference:N")
    layers = [
        band(-min_effect, min_effect, palette).encode(x=x, x2=alt.X2("x2:Q")),
        zero(palette).encode(x=x),
        rule.encode(x=alt.X("low:Q", title=title, scale=scale), x2=alt.X2("high:Q"), y=y, color=GIVEN),
        base.mark_point(filled=True, opacity=1, size=85).encode(x=x, y=y, color=GIVEN, shape=shape, tooltip=told),
    ]
    return layered(layers, width=width, height=30 * max(len(names), 2))
