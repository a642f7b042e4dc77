"""How a study was searched and judged: sentences, and the figure of what a fitted valley leaves of each run."""

from dataclasses import dataclass

import altair as alt

from blueberry.judge import words
from blueberry.judge.answers import Located, ValleyModel
from blueberry.judge.judgement import Judgement
from blueberry.judge.words import count, decimals, number, setting_value
from blueberry.report.charts import Axis, Drawing, Palette, Width, chart, find_axis, layered, rate_axis, tips
from blueberry.report.differences import BASELINE


def how_judged(judgement: Judgement) -> tuple[str, ...]:
    """Short paragraphs."""
    effect = f"{judgement.min_effect:g}{words.unit(judgement.metric)}"
    where = "under each condition" if judgement.conditions else "in the study"
    compared = judgement.parts[0].judgement if judgement.conditions else judgement
    narrow = 100 * (1 - 2 * judgement.alpha / max(len(compared.looks), 1))
    failed = (
        "A run that diverged counts as infinitely bad; it is never left out. A number measured on the seeds that chose "
        "an arm flatters it, so the reported one comes from fresh seeds where there are any."
    )
    searched = _search(judgement)
    if judgement.is_located or (judgement.conditions and all(part.judgement.is_located for part in judgement.parts)):
        seed = "A seed fixes the initial weights, the order of the data and every random draw."
        return (seed, *searched, failed)
    return (
        _how_compared(compared),
        *_one_rule(compared, where),
        f"A tie is claimed only when the {narrow:.3g}% interval of a difference lies within ± {effect}, the smallest "
        "that was said to matter before the first run (two one-sided tests). It is narrower than the interval printed. "
        "Everything else is inconclusive, with the number of seeds that would settle it.",
        *searched,
        *_race(judgement),
        failed,
    )


def _how_compared(compared: Judgement) -> str:
    """Pair by pair or not, and by whose noise."""
    paired = {verdict.paired for verdict in compared.verdicts}
    said = [
        "A seed fixes the initial weights, the order of the data and every random draw. Arms are compared seed by "
        "seed, so that what a seed does to all of them cancels."
    ]
    if paired == {False}:
        said = [
            "No pairs: arms share fewer than three seeds, or no run says its seed, so all runs of one arm are compared "
            "with all of the other."
        ]
    elif False in paired:
        said.append("Arms that share fewer than three seeds are compared unpaired, all runs with all.")
    if compared.noise.borrowed_sd is not None:
        sd, source = compared.noise.borrowed_sd, compared.noise.borrowed_from
        return (
            f"Every difference is judged by borrowed noise: single runs are taken to scatter by {sd:g} ({source}), "
            "which these runs did not measure. Claims hold if that is their noise; all runs of one arm are compared "
            "with all of the other."
        )
    said.append(
        "The noise of a difference is that of its own arms, and so far as the arms are alike in noise that of the "
        "others too; an arm that is noisier than the rest is judged by its own."
    )
    return " ".join(said)


def _search(judgement: Judgement) -> tuple[str, ...]:
    """What the answer of a search rests on; of parts, where at least one has such an answer."""
    if not (judgement.is_located or any(part.judgement.is_located for part in judgement.parts)):
        return ()
    where, alone = "Within a part, the", ""
    if judgement.is_located:
        where, alone = "The", " Values are not compared with one another, so none is claimed to be tied."
    return (
        f"{where} values about the best were read as one smooth valley, what a seed does to all its runs taken out: "
        "polynomials of degree 2 to 4, as far as there are values enough, and two half-parabolas, without those that "
        "repeated runs reject. What a value costs at worst is the largest upper bound of its difference to any other "
        f"value of the window, over the models kept, at {1 - judgement.alpha:.0%}. A value at which a run diverged is "
        f"no point of the valley.{alone}",
    )


def _one_rule(compared: Judgement, where: str) -> tuple[str, ...]:
    has_baseline = any(arm.arm == BASELINE for arm in compared.arms)
    said = (
        "An arm is worse than the best when the interval of their difference lies above zero, and not told "
        "apart from it where it does not. The clearest is tested first; the more arms are left, any of which may be "
        "the best, the wider the interval. Its end nearer to zero is what was tested; the other makes all intervals "
        "hold at once."
    )
    if compared.goal == "maximize":
        said = said.replace("above", "below")
    against = (
        "An arm is better or worse than the baseline when the interval of their difference excludes zero; it is "
        "wider where more arms are compared with the baseline."
    )
    error = f"The chance of any false winner {where} is held at {compared.alpha:g}"
    return (f"{against} {said} {error}, for either question.",) if has_baseline else (f"{said} {error}.",)


def _race(judgement: Judgement) -> tuple[str, ...]:
    raced = judgement if judgement.looks else next((p.judgement for p in judgement.parts if p.judgement.looks), None)
    if raced is None:
        return ()
    where = "a race" if judgement.looks else "a race within each part"
    stands = " What a look decided stands: a difference is as it was at the look that decided it, or at the last one."
    if not (judgement.looks or judgement.conditions):
        stands = " The parts' own bests were then compared once, on fresh seeds."
    looks = words.listing([str(look) for look in raced.looks], most=12)
    return (
        f"Seeds came in {where}, with looks planned at {looks} seeds, each with an error of "
        f"{judgement.alpha:g} / {len(raced.looks)}; after a look only arms of which something was still open got more. "
        f"{_endings(judgement)}{stands}",
    )


def _endings(judgement: Judgement) -> str:
    """How the race, or that of each part, has ended."""
    if judgement.looks:
        return f"How it ended: {_ending(judgement)}."
    endings: dict[str, list[str]] = {}
    for part in judgement.parts:
        endings.setdefault(_ending(part.judgement), []).append(part.name)
    return f"How they ended: {'; '.join(f'{words.listing(names)}, {said}' for said, names in endings.items())}."


def _ending(judgement: Judgement) -> str:
    if judgement.ended is None:
        return "not yet"
    seeds = count(judgement.looks[judgement.looks_taken - 1], "seed")
    if judgement.ended == "maximum":
        return f"at the maximum of {seeds}, with something left open"
    return f"every question settled after {seeds}"


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


# --- What the fitted valley leaves of each run ---

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
