"""A search along one axis, as a report tells it: how it ended, what the valley rests on, what it leaves of each run."""

from dataclasses import dataclass

import altair as alt

from blueberry.judge import words
from blueberry.judge.answers import Located, ValleyModel
from blueberry.judge.judgement import Judgement
from blueberry.judge.words import count, decimals, number, setting_value
from blueberry.report.charts import Axis, Drawing, Palette, Width, chart, find_axis, layered, rate_axis, tips

WIDTH, HEIGHT = 700, 190
"""Pixels, without the axes."""


@dataclass(frozen=True)
class Residual:
    """One run minus the fitted valley, minus the mean of that over the runs of its seed."""

    arm: str
    x: float
    seed: int | None
    value: float


@dataclass(frozen=True)
class Residuals:
    """What the valley leaves of the runs in its window, seeds taken out."""

    axis: Axis
    window: tuple[float, float]
    unit: str
    """Of the metric, or ""."""
    decimals: int
    sd: float
    points: tuple[Residual, ...]
    num_alone: int
    """Runs left out, as the only ones of their seed there: what a seed does and what is left cannot be told apart."""


def search_sentences(judgement: Judgement) -> str | None:
    """How the search ended, what the valley was read from, which models fit, and the noise; None without a search."""
    located, valley = judgement.located, judgement.valley
    if located is None:
        return None
    said = f"The search ended after {_spent(located)}: {_ended(judgement, located)}."
    if located.is_broken or valley is None:
        return said
    window = " to ".join(map(setting_value, valley.window))
    noise = f"{number(valley.sd, decimals(judgement.min_effect) + 1)}{words.unit(judgement.metric)}"
    return (
        f"{said} The valley was read from {words.setting_name(valley.setting)} {window}. {_models(valley.models)} "
        f"One run lies {noise} from the curve (sd, seeds taken out, {count(valley.df, 'degree')} of freedom)."
    )


def search_in_short(judgement: Judgement) -> str:
    """A cell of a table; empty without a search."""
    located = judgement.located
    if located is None:
        return ""
    costs = "" if located.excess is None else f"costs at most {max(located.excess, 0.0):.2g}; "
    return f"{costs}{_ended(judgement, located)}; {_spent(located)}"


def _spent(located: Located) -> str:
    return f"{count(located.runs, 'run')} on {count(located.seeds, 'seed')}"


def _ended(judgement: Judgement, located: Located) -> str:
    effect = f"{judgement.min_effect:g}{words.unit(judgement.metric)}"
    if located.is_broken:
        why = "" if located.ended == "no valley" else f" ({located.ended})"
        return f"the runs are not one smooth valley{why}"
    return {"located": f"within {effect} of the best", "runs": "its runs are spent", "seeds": "its seeds are spent"}[
        located.ended
    ]


def _models(models: tuple[ValleyModel, ...]) -> str:
    if all(model.fit == 1.0 for model in models):
        return f"Nothing says how well its models fit: {words.listing([model.model for model in models])}."
    kept, rejected = ([f"{m.model} ({m.fit:.2g})" for m in models if m.kept is is_kept] for is_kept in (True, False))
    more = f"; left out: {words.listing(rejected)}" if rejected else ""
    return f"Models kept, each with the p-value of its lack of fit: {words.listing(kept)}{more}."


def residuals(judgement: Judgement) -> Residuals | None:
    """None unless the answer is a search's, read off a valley."""
    axis, valley = find_axis(judgement), judgement.valley
    if axis is None or valley is None or not judgement.is_located:
        return None
    by_seed: dict[int | None, list[Residual]] = {}
    for arm in judgement.arms:
        x = float(arm.settings[axis.setting])
        there = valley.at(x)
        if there is not None and not arm.num_diverged:
            for seed, value in zip(arm.seeds, arm.values, strict=True):
                by_seed.setdefault(seed, []).append(Residual(arm.arm, x, seed, value - there.expected))
    points = []
    for seed, found in by_seed.items():
        mean = sum(one.value for one in found) / len(found)
        points += [Residual(one.arm, one.x, seed, one.value - mean) for one in found if len(found) > 1]
    if not points:
        return None
    return Residuals(
        axis=axis,
        window=valley.window,
        unit=words.unit(judgement.metric).strip(),
        decimals=decimals(judgement.min_effect) + 1,
        sd=valley.sd,
        points=tuple(sorted(points, key=lambda one: one.x)),
        num_alone=sum(len(found) == 1 for found in by_seed.values()),
    )


def residuals_caption(shown: Residuals) -> str:
    said = "Each circle is a run in the window, what its seed does to all runs taken out; the shaded band is one sd. "
    said += "Circles that bend away from zero together would say that the loss is not this smooth valley."
    return said + (f" Left out, alone on their seed: {count(shown.num_alone, 'run')}." if shown.num_alone else "")


def draw_residuals(shown: Residuals, palette: Palette, *, width: Width = WIDTH) -> Drawing:
    """A circle a run about a line at zero."""
    x = rate_axis(shown.axis, (shown.axis.beyond(shown.window[0], -0.3), shown.axis.beyond(shown.window[1], 0.3)))
    most = 1.15 * max(shown.sd, *(abs(one.value) for one in shown.points))
    scale = alt.Scale(domain=[-most, most], nice=False)
    title = f"run minus valley ({shown.unit})" if shown.unit else "run minus valley"
    y = alt.Y("y:Q", title=title, scale=scale, axis=alt.Axis(tickCount=5))
    rows = [
        {
            "x": one.x,
            "y": one.value,
            "arm": one.arm,
            "seed": one.seed,
            "left": number(one.value, shown.decimals, sign=True),
        }
        for one in shown.points
    ]
    band = chart([{"y": -shown.sd, "y2": shown.sd}]).mark_rect(color=palette.accent, fillOpacity=0.11, opacity=1)
    zero = chart([{"y": 0.0}]).mark_rule(color=palette.muted, strokeWidth=1)
    circles = chart(rows).mark_point(size=36, strokeWidth=1.4, opacity=1, filled=False, color=palette.accent)
    layers = [
        band.encode(y=y, y2=alt.Y2("y2:Q")),
        zero.encode(y=y),
        circles.encode(x=x, y=y, tooltip=tips("arm:N", "seed:Q", "left:N")),
    ]
    return layered(layers, width=width, height=HEIGHT)
