"""Whether a report's numbers follow from each other, within what their printed digits leave open."""

import math
import re
from collections.abc import Iterable, Sequence

from blueberry.judge.doctor.changes import Chain, Change, chains, changes, totals
from blueberry.judge.doctor.document import Document, Line, is_statistic
from blueberry.judge.doctor.findings import contradicted, doubted, words_of
from blueberry.judge.doctor.percentages import follows, is_of_points, relative
from blueberry.judge.doctor.printed import Number, number, numbers
from blueberry.judge.doctor.sums import sums
from blueberry.judge.doctor.tallies import tallies
from blueberry.judge.judgement import Audit

HARD_TO_REPRODUCE = 0.02
"""Of a percentage: how far it may lie from that of the printed numbers before that is said."""
SAME_TOTAL = 0.01
"""Relative: totals computed from differently rounded numbers."""
DECADES = 0.3
"""How far a range may fall short of the orders of magnitude that it is said to span."""
_MAGNITUDE = re.compile(r"(?P<count>\d+(?:\.\d+)?)\s+orders?\s+of\s+magnitude", re.IGNORECASE)


def arithmetic(document: Document, baseline_rates: Iterable[float] = ()) -> list[Audit]:
    """Every number of a report that others in it contradict.

    `baseline_rates`: learning rates that this report, or one beside it, calls the baseline.
    """
    found = _perplexities(document)
    found += [finding for change in changes(document) for finding in _change(document, change)]
    found += [finding for chain in chains(document) for finding in _stages(document, chain)]
    found += _totals(document)
    found += [finding for line in document.lines for finding in _orders_of_magnitude(document, line)]
    return [*found, *tallies(document, tuple(baseline_rates)), *sums(document)]


def perplexity_contradicts(loss: Number, perplexity: Number) -> bool:
    """Whether a perplexity is not exp(loss), whatever the rounding hid of both."""
    if perplexity.value <= 0:
        return True
    hidden = perplexity.half / perplexity.value
    return abs(math.log(perplexity.value) - loss.value) > loss.half + hidden * (1 + hidden) + 1e-4 * abs(loss.value)


def _perplexities(document: Document) -> list[Audit]:
    found = []
    for record in document.records:
        for which in ("val", "train", "test"):
            loss, perplexity = record.numbers.get(f"{which}_loss"), record.numbers.get(f"{which}_perplexity")
            if loss is None or perplexity is None or is_statistic(record.subject):
                continue
            if perplexity_contradicts(loss, perplexity):
                right = f"{math.exp(loss.value):.5g}" if loss.value < 700 else "inf"
                of = f"{record.subject}: " if record.subject else ""
                message = f"{of}perplexity {perplexity.text} is not exp(loss {loss.text}) = {right}"
                found.append(
                    contradicted(document.place(record.line), message, "compute perplexity as exp(loss), uncapped")
                )
    return found


def _change(document: Document, change: Change) -> list[Audit]:
    found = []
    for stated in change.percents:
        found += _percentage(document, change.line, change.what, stated, [(change.a, change.b)])
    for stated in change.factors:
        ratios = sorted(value for one in (change.a, change.b) for value in [one.value])
        if ratios[0] <= 0:
            continue
        low = (ratios[1] - max(change.a.half, change.b.half)) / (ratios[0] + max(change.a.half, change.b.half))
        high = (ratios[1] + change.b.half) / max(ratios[0] - max(change.a.half, change.b.half), 1e-12)
        if not low - stated.half <= stated.value <= high + stated.half:
            message = (
                f"{change.what} {change.a.text} -> {change.b.text} is a factor of {ratios[1] / ratios[0]:.3g}, "
                f"printed {stated.text}x"
            )
            found.append(contradicted(document.place(change.line), message, "print the factor that the numbers give"))
    return found


def _percentage(
    document: Document, line: int, what: str, stated: Number, pairs: Sequence[tuple[Number, Number]]
) -> list[Audit]:
    """A percentage must follow from one of the pairs, relative to its first number."""
    if not pairs or any(follows(stated, a, b) for a, b in pairs):
        return _hard_to_reproduce(document, line, what, stated, pairs)
    a, b = pairs[0]
    message = f"{words_of(what)} {a.text} -> {b.text} is {relative(a, b):+.2%}, printed {stated.text}"
    return [
        contradicted(
            document.place(line), message, "print the percentage that the numbers give, and the numbers it is from"
        )
    ]


def _hard_to_reproduce(
    document: Document, line: int, what: str, stated: Number, pairs: Sequence[tuple[Number, Number]]
) -> list[Audit]:
    """It follows only because rounding left so much open."""
    off = [abs(abs(relative(a, b)) - abs(stated.value)) for a, b in pairs if a.value and not is_of_points(stated, a, b)]
    slack = max(HARD_TO_REPRODUCE * abs(stated.value), stated.half, 0.005)
    if not off or len(off) < len(pairs) or min(off) <= slack:
        return []
    a, b = pairs[0]
    change = f"{words_of(what)} {a.text} -> {b.text} is {relative(a, b):+.1%} as printed"
    message = f"{change}, {stated.text} only if rounding hid it"
    return [doubted(document.place(line), message, "print the digits that the percentage was computed from")]


def _stages(document: Document, chain: Chain) -> list[Audit]:
    """A stage's percentage is over the stage before it, or over the first."""
    found = []
    for place, stated, line in chain.stated:
        before, first, now = chain.stages[place - 1][1], chain.stages[0][1], chain.stages[place][1]
        found += _percentage(document, line, chain.what, stated, [(before, now), (first, now)])
    return found


def _totals(document: Document) -> list[Audit]:
    """A total is from the first stage to the last, and there is one of it."""
    found, known = [], {chain.what: chain for chain in reversed(chains(document))}
    seen: dict[str, tuple[Number, int]] = {}
    for total in totals(document):
        earlier = seen.setdefault(total.what, (total.percent, total.line))
        chain = known.get(total.what)
        if chain is not None:
            ends = (chain.stages[0][1], chain.stages[-1][1])
            if not follows(total.percent, *ends):
                what = f"the total of {words_of(total.what)}, {ends[0].text} -> {ends[1].text},"
                message = f"{what} is {relative(*ends):+.1%}, printed {total.percent.text}"
                found.append(
                    contradicted(document.place(total.line), message, "print one total, from the first to the last")
                )
        apart = abs(earlier[0].value - total.percent.value)
        if apart > earlier[0].half + total.percent.half + SAME_TOTAL * abs(total.percent.value):
            message = (
                f"{earlier[0].text} (line {earlier[1]}) and {total.percent.text} are both the total of "
                f"{words_of(total.what)}"
            )
            found.append(
                contradicted(document.place(total.line), message, "print one total, from the first to the last")
            )
    return found


def _orders_of_magnitude(document: Document, line: Line) -> list[Audit]:
    match = _MAGNITUDE.search(line.text)
    stated = number(match["count"]) if match else None
    if match is None or stated is None:
        return []
    ends = [one.value for one in numbers(line.text[match.end() :]) if one.value > 0][:2]
    if len(ends) < 2:
        return []
    decades = abs(math.log10(ends[1] / ends[0]))
    if decades >= stated.value - DECADES:
        return []
    message = f"{ends[0]:g} to {ends[1]:g} are {decades:.2f} decades, printed {stated.text} orders of magnitude"
    return [contradicted(document.place(line.number), message, "print the range, or widen it")]
