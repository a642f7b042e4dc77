"""What the figures and tables of a study made of parts, or with combinations, show: computed, not drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from blueberry.judge.answers import Effect
from blueberry.judge.judgement import Bound, Judgement, Optimum
from blueberry.records import StudyRun
from blueberry.report.axis import Axis, find_axis
from blueberry.report.picture_range import picture_range
from blueberry.report.wording import (
    decimals,
    interval,
    metric_axis,
    metric_name,
    number,
    plural,
    setting_name,
    settings_text,
    short,
)


@dataclass(frozen=True)
class SweepPoint:
    part: str
    x: float
    y: float
    interval: tuple[float, float] | None
    best: bool


@dataclass(frozen=True)
class Sweeps:
    """The searches of all parts in one picture."""

    axis: Axis
    """All values tried by any part."""
    parts: tuple[str, ...]
    points: tuple[SweepPoint, ...]
    label: str
    above_best: bool
    """y is the loss above the part's own best: conditions are not compared."""
    num_left_out: int
    """Points above the picture, or without a finite mean: an arm of a part each."""
    y_range: tuple[float, float]


@dataclass(frozen=True)
class LawPoint:
    condition: str
    x: float
    y: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class LawCurve:
    """The optimum against the size of the condition, both logarithmic, and the line through them."""

    x_label: str
    y_label: str
    points: tuple[LawPoint, ...]
    line: tuple[tuple[float, float], tuple[float, float]]
    """Two ends of the fitted power law."""
    held_out: LawPoint | None
    """What the others predict for the last condition."""
    caption: str


@dataclass(frozen=True)
class EffectRow:
    name: str
    difference: float
    interval: tuple[float, float]
    is_significant: bool
    is_interaction: bool


@dataclass(frozen=True)
class RateLine:
    arm: str
    rates: tuple[tuple[int, float], ...]
    """(update, rate)."""


@dataclass(frozen=True)
class Table:
    """A table of the page that is not about arms."""

    title: str
    said: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


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


def sweeps(judgement: Judgement) -> Sweeps | None:
    """None unless every part searches along the same numeric axis."""
    axes = [axis for part in judgement.parts if (axis := find_axis(part.judgement)) is not None]
    if not axes or len(axes) < len(judgement.parts) or any(axis.setting != axes[0].setting for axis in axes):
        return None
    values = tuple(sorted({value for axis in axes for value in axis.values}))
    axis = replace(axes[0], values=values, log=all(one.log for one in axes))
    above_best = bool(judgement.conditions)
    points, num_left_out = [], 0
    for part in judgement.parts:
        best = part.judgement.best
        for arm in part.judgement.arms:
            if best is None or arm.mean is None or arm.mean == float("inf"):
                num_left_out += 1
                continue
            shift = best.search_mean if above_best else 0.0
            ends = None if arm.interval is None else (arm.interval[0] - shift, arm.interval[1] - shift)
            x = float(arm.settings[axis.setting])
            points.append(SweepPoint(part.name, x, arm.mean - shift, ends, arm.arm == best.arm))
    if not points:
        return None
    ys = sorted(point.y for point in points)
    y_range = picture_range(ys[0], ys[-1], ys[len(ys) // 2] - ys[0])
    shown = tuple(point for point in points if point.y <= y_range[1])
    label = metric_axis(judgement.metric)
    return Sweeps(
        axis=axis,
        parts=tuple(part.name for part in judgement.parts),
        points=shown,
        label=f"{label}, above its own best" if above_best else label,
        above_best=above_best,
        num_left_out=num_left_out + len(points) - len(shown),
        y_range=y_range,
    )


def sweeps_caption(shown: Sweeps) -> str:
    said = "One line a part, over the seeds that search; large points: its own best"
    if shown.above_best:
        said += ", to which its losses are related, because conditions are not compared"
    left = f" Not drawn, as above the picture or without a finite mean: {plural(shown.num_left_out, 'point')}."
    left = left if shown.num_left_out else ""
    return f"{said}. Bars: the interval of each mean.{left}"


def law_curve(judgement: Judgement) -> LawCurve | None:
    """The law of the optimum; None where none was fitted."""
    searched = judgement.parts[0].judgement.vary if judgement.parts else ()
    law = next((law for law in judgement.laws if law.of in searched), None)
    if law is None:
        return None
    sizes = {part.name: float(part.settings[law.by]) for part in judgement.parts}
    points = [
        LawPoint(part.name, sizes[part.name], part.judgement.optimum.estimate, part.judgement.optimum.interval)
        for part in sorted(judgement.parts, key=lambda part: sizes[part.name])
        if isinstance(part.judgement.optimum, Optimum)
    ]
    ends = (points[0].x, points[-1].x)
    held = law.held_out
    predicted = held and LawPoint(held.condition, sizes[held.condition], held.predicted, held.interval)
    return LawCurve(
        x_label=setting_name(law.by),
        y_label=f"best {setting_name(law.of)}",
        points=tuple(points),
        line=((ends[0], law.factor * ends[0] ** law.exponent), (ends[1], law.factor * ends[1] ** law.exponent)),
        held_out=predicted,
        caption=f"Bars: {law.level:.0%} intervals of each optimum. Line: power {law.exponent:.2f} "
        f"[{law.interval[0]:.2f}, {law.interval[1]:.2f}]."
        + (" Diamond: what the other conditions predict for the last one." if held else ""),
    )


def effect_rows(judgement: Judgement) -> tuple[EffectRow, ...]:
    """Main effects, then interactions, each from what lowers the metric most."""
    rows = [
        EffectRow(
            _effect_name(effect), effect.difference, effect.interval, effect.is_significant, len(effect.changes) > 1
        )
        for effect in judgement.effects
        if effect.difference is not None and effect.interval is not None
    ]
    return tuple(sorted(rows, key=lambda row: (row.is_interaction, row.difference)))


def rate_lines(judgement: Judgement, runs: Sequence[StudyRun]) -> tuple[RateLine, ...]:
    """The rates used, one run an arm; empty unless arms differ in schedule."""
    if not any(name.startswith("schedule.") for arm in judgement.arms for name in arm.settings):
        return ()
    lines = []
    for arm in judgement.arms:
        rates = next((run.result.curve.learning_rate for run in runs if run.arm == arm.arm), ())
        if rates:
            lines.append(RateLine(arm.arm, _thinned(rates)))
    return tuple(lines)


def tables(judgement: Judgement) -> tuple[Table, ...]:
    """Of parts, conditions, laws and effects, each where there are such."""
    found = [
        _parts_table(judgement),
        _conditions_table(judgement),
        _laws_table(judgement),
        _gains_table(judgement),
        _effects_table(judgement),
    ]
    return tuple(table for table in found if table.rows)


def _parts_table(judgement: Judgement) -> Table:
    places = decimals(judgement)
    rows = []
    for part in judgement.parts:
        best = part.judgement.best
        covers = "; ".join(
            f"{setting_name(one.setting)} {short(one.low)} to {short(one.high)}"
            + (f", {one.decades:.2f} decades" if one.decades is not None else "")
            for one in part.covers
        )
        rows.append(
            (
                part.name,
                covers or f"{len(part.judgement.arms)} arms",
                settings_text(best.settings) if best else "nothing finite",
                "" if best is None else number(best.search_mean, places),
                _optimum(part.judgement),
                str(len(part.judgement.unresolved)),
            )
        )
    header = ("Part", "Searched", "Own best", "Mean there", "Optimum", "Not told apart")
    return Table("Each part's own search", "Over the seeds that search.", header, tuple(rows))


def _optimum(judgement: Judgement) -> str:
    found = judgement.optimum
    if isinstance(found, Optimum):
        return f"{short(found.estimate)} [{short(found.interval[0])}, {short(found.interval[1])}]"
    return f"{found.side} {short(found.bound)}" if isinstance(found, Bound) else "not located"


def _conditions_table(judgement: Judgement) -> Table:
    places = decimals(judgement)
    words = {
        "best": "is the best",
        "tie": "equals the best",
        "open": "not told apart",
        "worse": "worse",
        None: "not run",
    }
    rows = tuple(
        (
            one.condition,
            one.best or "nothing finite",
            number(one.difference, places, sign=True),
            interval(one.interval, places, sign=True),
            str(one.n),
            words[one.holds],
        )
        for one in judgement.conditions
    )
    carried = next((one.carried for one in judgement.conditions if one.carried), "")
    header = ("Condition", "Its own best", f"{carried} minus it", "Interval", "Pairs", "There it")
    said = f"{carried} is the best of the first condition; the last columns say how it does under the others."
    return Table("What carries over", said, header, rows)


def _laws_table(judgement: Judgement) -> Table:
    rows = []
    for law in judgement.laws:
        held = law.held_out
        name = metric_name(law.of) if law.of == judgement.metric else f"best {setting_name(law.of)}"
        power = f"{law.exponent:.3g} [{law.interval[0]:.3g}, {law.interval[1]:.3g}]"
        checked = ("none: too few conditions", "", "", "")
        if held is not None:
            predicted = f"{held.predicted:.4g} [{held.interval[0]:.4g}, {held.interval[1]:.4g}]"
            checked = (held.condition, predicted, f"{held.measured:.4g}", "yes" if held.holds else "no")
        rows.append((setting_name(law.by), name, power, str(law.n), *checked))
    header = ("Over", "Law of", "Power", "Conditions", "Held out", "Predicted", "Measured", "In the interval")
    said = "Fitted to each condition's own best: y = factor · x ^ power. Held out: the last condition, predicted by a "
    said += f"law of the others. Intervals are at {1 - judgement.alpha:.0%}."
    return Table("Power laws", said, header, tuple(rows))


def _gains_table(judgement: Judgement) -> Table:
    rows = []
    for gain in judgement.gains:
        if gain.more_than is not None:
            work = f"more than {gain.more_than:.2f}"
        elif gain.less_than is not None:
            work = f"less than {gain.less_than:.2f}"
        else:
            work = f"{gain.loss_gain:.2f}" if gain.loss_gain is not None else ""
        throughput = "" if gain.throughput_gain is None else f"{gain.throughput_gain:.2f}"
        rows.append((gain.arm, gain.condition, work, throughput, "" if gain.factor is None else f"{gain.factor:.2f}"))
    said = (
        "Updates that the baseline needs for an arm's loss, over the arm's; times the arm's updates per FLOP over the "
    )
    said += "baseline's. Read off the means of complete runs, without intervals: the verdicts decide."
    return Table("Effective speedup", said, ("Arm", "Length", "By loss", "By throughput", "Speedup"), tuple(rows))


def _effects_table(judgement: Judgement) -> Table:
    places = decimals(judgement)
    rows = tuple(
        (
            row.name,
            "interaction" if row.is_interaction else "main effect",
            number(row.difference, places, sign=True),
            interval(row.interval, places, sign=True),
            "yes" if row.is_significant else "no",
        )
        for row in effect_rows(judgement)
    )
    stack = judgement.stack
    said = (
        "A main effect is what a change does, averaged over the others where they vary; an interaction is what two do "
    )
    said += "together beyond the sum of what each does. Below zero lowers the metric."
    if stack is not None:
        said += (
            f" All changes together: {number(stack.difference, places, sign=True)} "
            f"{interval(stack.interval, places, sign=True)}, measured; the single ones add up to "
            f"{number(stack.sum_of_singles, places, sign=True)} {interval(stack.sum_interval, places, sign=True)}."
        )
    return Table("Effects", said, ("Effect", "Kind", "Difference", "Interval", "Told from 0"), rows)


def _effect_name(effect: Effect) -> str:
    aliased = f" (or {', '.join(effect.aliases)})" if effect.aliases else ""
    return f"{' with '.join(effect.changes)}{aliased}"


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
