"""Differences to a reference arm: the main figure of a study of named arms."""

import math
from dataclasses import dataclass
from typing import Any

import altair as alt

from blueberry.judge.judgement import Judgement, Verdict
from blueberry.judge.words import count, difference_axis, number
from blueberry.report.charts import Drawing, Palette, Width, chart, layered, picture_range, tips

BASELINE = "baseline"
MAX_INTERVAL_IN_SPREADS = 1.0
"""Intervals may widen the picture by this part of the spread of the seeds on either side; longer ones are cut."""


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


def verdict_words(verdict: Verdict, reference: str) -> str:
    """What a verdict says of its `b`: better, worse, tie, or not settled and by how many more seeds it would be.

    Where it is not against the reference, a race dropped that arm as worse than another.
    """
    if verdict.a != reference:
        return f"worse than {verdict.a}, which led then"
    if verdict.verdict == "tie":
        return "tie"
    if verdict.verdict == "winner":
        return "better" if verdict.winner == verdict.b else "worse"
    if verdict.more_seeds is None:
        return "inconclusive"
    one = "more seed" if verdict.paired else "more run"
    return f"inconclusive, {count(verdict.more_seeds, one)}{'' if verdict.paired else ' of each'}"


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


WIDTH, ROW_HEIGHT = 620, 46
"""Pixels."""


def draw_differences(shown: Differences, palette: Palette, places: int, *, width: Width = WIDTH) -> Drawing:
    """The figure without a title; a picture (`width` in pixels) carries each verdict in words at its right."""
    low, high = shown.x_range
    x_scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    x = alt.X("x:Q", title=shown.label, scale=x_scale, axis=alt.Axis(tickCount=6))
    order = [row.arm for row in shown.rows]
    scale = alt.Scale(domain=order, paddingInner=0.2, paddingOuter=0.2)
    y = alt.Y("arm:N", title=None, scale=scale, axis=alt.Axis(labelLimit=170, domain=False, ticks=False, grid=False))
    band = chart([{"x": max(-shown.min_effect, low), "x2": min(shown.min_effect, high)}])
    zero = chart([{"x": 0.0}]).mark_rule(color=palette.muted, strokeWidth=1)
    layers: list[alt.Chart] = [
        band.mark_rect(color=palette.accent, fillOpacity=0.11, opacity=1).encode(x=x, x2=alt.X2("x2:Q")),
        zero.encode(x=x),
    ]
    inside = [row for row in shown.rows if row.difference is not None and row.difference <= high]
    seeds = [
        {
            "arm": row.arm,
            "x": value,
            "seed": seed,
            "colour": _colour(row, palette),
            "said": number(value, places, sign=True),
        }
        for row in inside
        for seed, value in row.seeds
        if value <= high
    ]
    means = [_mean_row(row, shown, palette, places) for row in inside]
    colour = alt.Color("colour:N", scale=None, legend=None)
    circles = chart(seeds).mark_point(size=22, strokeWidth=1.1, strokeOpacity=0.8, opacity=1, filled=False, yOffset=-12)
    rules = chart([row for row in means if row["low"] is not None]).mark_rule(strokeWidth=2)
    dots = chart(means).mark_point(filled=True, size=95, opacity=1, stroke=palette.surface, strokeWidth=1)
    told = tips("arm:N", "difference:N", "interval:N", "n:Q", "verdict:N")
    layers += [
        circles.encode(
            x=x, y=y, color=colour, tooltip=[*tips("arm:N", "seed:Q"), alt.Tooltip("said:N", title="difference")]
        ),
        rules.encode(x=alt.X("low:Q", title=shown.label, scale=x_scale), x2=alt.X2("high:Q"), y=y, color=colour),
        dots.encode(x=x, y=y, fill=alt.Fill("colour:N", scale=None, legend=None), tooltip=told),
    ]
    layers += [layer.encode(y=y) for layer in _outside(shown, palette, places)]
    if width != "container":
        words = chart([{"arm": row.arm, "text": row.words} for row in shown.rows])
        text = words.mark_text(align="left", dx=12, color=palette.muted)
        layers.append(text.encode(x=alt.XValue(width), y=y, text=alt.Text("text:N")))
    height = ROW_HEIGHT * max(len(order), 1)
    return layered(layers, width=width, height=height)


def _colour(row: Difference, palette: Palette) -> str:
    """Accent where the arm is better, grey where it is worse, ink where it is open."""
    if row.verdict.verdict == "winner":
        return palette.accent if row.verdict.winner == row.arm else palette.other
    return palette.ink


def _mean_row(row: Difference, shown: Differences, palette: Palette, places: int) -> dict[str, Any]:
    low, high = row.interval or (None, None)
    interval = None if low is None or high is None else (low, high)
    return {
        "arm": row.arm,
        "x": row.difference,
        "low": None if low is None else max(low, shown.x_range[0]),
        "high": None if high is None else min(high, shown.x_range[1]),
        "colour": _colour(row, palette),
        "difference": number(row.difference, places, sign=True),
        "interval": "none" if interval is None else " to ".join(number(v, places, sign=True) for v in interval),
        "n": row.verdict.n,
        "verdict": row.words,
    }


def _outside(shown: Differences, palette: Palette, places: int) -> list[alt.Chart]:
    """Arms further right than the picture, and arms with diverged runs, marked at the right edge."""
    far = [
        {"arm": row.arm, "text": f"{number(row.difference, places, sign=True)}"}
        for row in shown.rows
        if row.difference is not None and row.difference > shown.x_range[1]
    ]
    diverged = [
        {"arm": row.arm, "text": f"{count(row.num_diverged, 'run')} diverged"} for row in shown.rows if row.num_diverged
    ]
    triangle: dict[str, Any] = {"shape": "triangle-right", "color": palette.other}
    cross: dict[str, Any] = {"shape": "cross", "angle": 45, "color": palette.failed}
    edge = alt.XValue("width")
    layers: list[alt.Chart] = []
    for rows, look in ((far, triangle), (diverged, cross)):
        if rows:
            base = chart(rows)
            layers.append(base.mark_point(filled=True, size=70, opacity=1, xOffset=-8, **look).encode(x=edge))
            text = base.mark_text(align="right", xOffset=-18, color=palette.muted)
            layers.append(text.encode(x=edge, text=alt.Text("text:N")))
    return layers
