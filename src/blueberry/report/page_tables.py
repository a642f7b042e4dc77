"""The tables of a page beside that of arms, and its lines of facts: what was trained, and what was measured of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from statistics import fmean, median

from blueberry.judge.answers import Effect
from blueberry.judge.effects import effect_name, told_pooled
from blueberry.judge.judgement import BASELINE, Bound, Judgement, Optimum, Verdict
from blueberry.judge.words import (
    MISSING,
    count,
    decimals,
    duration,
    interval,
    metric_name,
    metric_unit,
    number,
    quantity,
    setting_name,
    setting_value,
    settings_text,
)
from blueberry.records import StudyRun
from blueberry.report.page_facts import search_in_short

LARGEST_LOSS = 700.0
"""Whose exponential a float can hold."""
_ALSO = ("val_loss", "val_accuracy", "val_perplexity", "val_bits_per_byte", "train_loss", "train_seconds")


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


def tables(judgement: Judgement, runs: Sequence[StudyRun]) -> tuple[Table, ...]:
    """What was measured of the arms; arms under conditions, parts, conditions, laws and effects, where there are such.

    `runs` are those that stand for the arms.
    """
    found = [
        _measured_table(judgement, runs),
        _arms_table(judgement),
        _parts_table(judgement),
        _conditions_table(judgement),
        _laws_table(judgement),
        _gains_table(judgement),
        *([_effects_table(judgement)] if judgement.effects else []),
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
        power = "; ".join(f"{number(power.exponent, 2)} {interval(power.interval, 2)}" for power in law.powers)
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


def shown_effects(judgement: Judgement) -> list[Effect]:
    """Main effects, then interactions, each from what betters the metric most; without those that were not measured."""
    known = [one for one in judgement.effects if one.difference is not None and one.interval is not None]
    return sorted(known, key=lambda one: (len(one.changes), judgement.sign * (one.difference or 0.0)))


def _effects_table(judgement: Judgement) -> Table:
    places = decimals(judgement.min_effect)
    rows = tuple(
        (
            effect_name(one),
            "interaction" if len(one.changes) > 1 else "main effect",
            number(one.difference, places, sign=True),
            interval(one.interval, places, sign=True),
            "yes" if one.is_significant else "equals 0" if one.is_tie else "no",
        )
        for one in shown_effects(judgement)
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


def _measured_table(judgement: Judgement, runs: Sequence[StudyRun]) -> Table:
    """Every arm's loss, accuracy, perplexity, named sets and time: means over the runs that search.
    No rows where nothing but the metric that judges was measured."""
    searched = [run for run in runs if run.stage == "search" and run.result.status == "completed"]
    sets = dict.fromkeys(f"sets.{name}.loss" for run in searched for name in run.result.sets)
    names = list(dict.fromkeys([judgement.metric, *_ALSO, *sets]))
    by_arm = {arm.arm: [run for run in searched if run.arm == arm.arm] for arm in judgement.arms}
    means = {
        arm: _with_perplexity({name: _mean([run.result.metric(name) for run in own]) for name in names})
        for arm, own in by_arm.items()
    }
    shown = [name for name in names if any(of_arm[name] is not None for of_arm in means.values())]
    header, title = ("Arm", *map(_column, shown)), "What was measured"
    if len(shown) < 2:
        return Table(title, "", header, ())
    places = decimals(judgement.min_effect)
    rows = [
        (arm, *(_cell(name, of_arm[name], places) for name in shown))
        for arm, of_arm in means.items()
        if by_arm[arm]  # a value that a valley recommends may have no run that searched
    ]
    if judgement.axis is not None and not judgement.parts and len(means) > 2:
        rows += [_over_arms(said, over, means, shown, places) for said, over in (("Mean", fmean), ("Median", median))]
    said = "Means at the end of training over the seeds that search, of the runs that completed. Only "
    said += f"{metric_name(judgement.metric)} is judged"
    said += "; perplexity is that of the mean loss" if "val_perplexity" in shown else ""
    said += "; a time is what one run took where it ran." if "train_seconds" in shown else "."
    return Table(title, said, header, tuple(rows))


def _mean(values: Sequence[float | None]) -> float | None:
    """None where a run did not say."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _over_arms(
    said: str,
    over: Callable[[list[float]], float],
    means: Mapping[str, Mapping[str, float | None]],
    names: Sequence[str],
    places: int,
) -> tuple[str, ...]:
    known = {name: [value for of_arm in means.values() if (value := of_arm[name]) is not None] for name in names}
    row = _with_perplexity({name: over(known[name]) for name in names})
    return (f"{said} of the arms", *(_cell(name, row[name], places) for name in names))


def _with_perplexity(means: dict[str, float | None]) -> dict[str, float | None]:
    """With the perplexity of the mean loss, not the mean of perplexities: one follows from the other on a page."""
    loss = means.get("val_loss")
    if means.get("val_perplexity") is not None and loss is not None and loss < LARGEST_LOSS:
        return {**means, "val_perplexity": exp(loss)}
    return means


def _column(name: str) -> str:
    if name.startswith("sets."):
        _, which, what = name.split(".")
        return f"{which}: {what.replace('_', ' ')}"
    words = metric_name(name).removeprefix("validation ")
    return (words if name != "train_seconds" else "time").capitalize()


def _cell(name: str, value: float | None, places: int) -> str:
    if value is None:
        return MISSING
    if name == "train_seconds":
        return duration(value)
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    if name.endswith("perplexity"):
        return f"{value:.4g}" if value < 1e4 else quantity(value)
    return number(value, places if metric_unit(name) == "nats" else max(places, 3))
