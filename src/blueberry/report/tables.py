"""The tables of a page beside that of arms: parts, conditions, laws, speedups and effects; and lines of facts."""

from dataclasses import dataclass

from blueberry.judge.effects import told_pooled
from blueberry.judge.judgement import BASELINE, Bound, Judgement, Optimum
from blueberry.judge.words import (
    MISSING,
    decimals,
    interval,
    metric_name,
    number,
    setting_name,
    setting_value,
    settings_text,
)
from blueberry.report.differences import verdict_words
from blueberry.report.kinds import effect_rows
from blueberry.report.valley import search_in_short


@dataclass(frozen=True)
class Fact:
    """A label, what stands beside it, and a remark or ""."""

    label: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page beside that of arms."""

    title: str
    said: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Comparison:
    """One arm minus a reference, as table cells."""

    arm: str
    difference: str
    interval: str
    n: str
    """Seeds they share; of unpaired runs how many there are."""
    verdict: str


def comparison(judgement: Judgement, arm: str, reference: str) -> Comparison:
    """Against the best also of an arm that a race dropped before."""
    verdict = judgement.verdict(reference, arm)
    if verdict is None and reference != BASELINE:
        verdict = judgement.against_best(arm)
    if verdict is None:
        return Comparison(arm, MISSING, MISSING, MISSING, "not compared")
    places = decimals(judgement.min_effect)
    return Comparison(
        arm=arm,
        difference=number(verdict.difference, places, sign=True),
        interval=interval(verdict.interval, places, sign=True),
        n=str(verdict.n) if verdict.paired else verdict.pairing,
        verdict=verdict_words(verdict, reference),
    )


def tables(judgement: Judgement) -> tuple[Table, ...]:
    """Of arms under conditions, parts, conditions, laws and effects, each where there are such."""
    found = [
        _arms_table(judgement),
        _parts_table(judgement),
        _conditions_table(judgement),
        _laws_table(judgement),
        _gains_table(judgement),
        _effects_table(judgement),
    ]
    return tuple(table for table in found if table.rows)


def _arms_table(judgement: Judgement) -> Table:
    """What a change does under each condition; where none is compared with a baseline, the search is all there is."""
    places = decimals(judgement.min_effect)
    rows = []
    for part in judgement.parts if judgement.conditions else ():
        arms = part.judgement.arms
        for arm in arms if any(one.arm == BASELINE for one in arms) else ():
            told = ("", "", "", "")
            if arm.arm != BASELINE:
                one = comparison(part.judgement, arm.arm, BASELINE)
                told = (one.difference, one.interval, one.n, one.verdict)
            rows.append((part.name, arm.arm, number(arm.mean, places), str(arm.n), *told))
    header = ("Condition", "Arm", "Mean", "Runs", "Minus the baseline", "Interval", "Pairs", "Verdict")
    said = "Over the seeds that search. Arms are compared with the baseline under each condition, never across them."
    return Table("The arms under each condition", said, header, tuple(rows))


def _parts_table(judgement: Judgement) -> Table:
    places = decimals(judgement.min_effect)
    has_searched = any(part.judgement.located for part in judgement.parts)
    rows = []
    for part in judgement.parts:
        best = part.judgement.best
        covers = "; ".join(
            f"{setting_name(one.setting)} {setting_value(one.low)} to {setting_value(one.high)}"
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
                *([search_in_short(part.judgement)] if has_searched else []),
            )
        )
    header = ("Part", "Searched", "Own best", "Mean there", "Optimum", "Not told apart")
    header += ("The search",) if has_searched else ()
    return Table("Each part's own search", "Over the seeds that search.", header, tuple(rows))


def _optimum(judgement: Judgement) -> str:
    found = judgement.optimum
    if isinstance(found, Optimum):
        return (
            f"{setting_value(found.estimate)} [{setting_value(found.interval[0])}, {setting_value(found.interval[1])}]"
        )
    return f"{found.side} {setting_value(found.bound)}" if isinstance(found, Bound) else "not located"


def _conditions_table(judgement: Judgement) -> Table:
    places = decimals(judgement.min_effect)
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
        by = [setting_name(power.by) for power in law.powers]
        power = "; ".join(f"{power.exponent:.2f} {interval(power.interval, 2)}" for power in law.powers)
        checked = ("none: too few conditions", "", "", "")
        if held is not None:
            predicted = f"{setting_value(held.predicted)} [{', '.join(map(setting_value, held.interval))}]"
            checked = (held.condition, predicted, setting_value(held.measured), "yes" if held.holds else "no")
        rows.append(("; ".join(by), name, power, str(law.n), *checked))
    header = ("Over", "Law of", "Power", "Conditions", "Held out", "Predicted", "Measured", "In the interval")
    said = "Fitted to each condition's own best: y = factor · x ^ power"
    said += ", with a power for each size" if any(len(law.powers) > 1 for law in judgement.laws) else ""
    said += ". Held out: the largest condition, predicted by a "
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
    places = decimals(judgement.min_effect)
    rows = tuple(
        (
            row.name,
            "interaction" if row.is_interaction else "main effect",
            number(row.difference, places, sign=True),
            interval(row.interval, places, sign=True),
            "yes" if row.is_significant else "equals 0" if row.is_tie else "no",
        )
        for row in effect_rows(judgement)
    )
    stack = judgement.stack
    said = (
        "A main effect is what a change does, averaged over the others where they vary; an interaction is what two do "
    )
    said += "together beyond the sum of what each does. "
    said += "Above zero raises the metric." if judgement.goal == "maximize" else "Below zero lowers the metric."
    said = " ".join([said, *told_pooled(judgement)])
    if stack is not None:
        said += (
            f" All changes together: {number(stack.difference, places, sign=True)} "
            f"{interval(stack.interval, places, sign=True)}, measured; the single ones add up to "
            f"{number(stack.sum_of_singles, places, sign=True)} {interval(stack.sum_interval, places, sign=True)}."
        )
    return Table("Effects", said, ("Effect", "Kind", "Difference", "Interval", "Told from 0"), rows)
