"""The configurations of a report and their numbers: what no run can give, and what one run does not show.

An audit is a function of a document that returns its findings; to add one, write it and enter it in RECORD_AUDITS.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence

from blueberry.judge import words
from blueberry.judge.doctor import facts
from blueberry.judge.doctor.changes import Chain, Change, chains, changes
from blueberry.judge.doctor.document import Document, Record, is_statistic
from blueberry.judge.doctor.findings import block, warn
from blueberry.judge.doctor.limits import (
    CLOCK,
    LEAST_LOSS_NATS,
    MOST_ACCURACY,
    NEXT_TOKEN_ACCURACY,
    SAME_LOSS,
    is_in_order,
    rank_correlation,
)
from blueberry.judge.doctor.printed import NUMBER, Number
from blueberry.judge.judgement import Audit

LEAST_AXIS_VALUES = 3


def audit_records(document: Document, trivial: Iterable[Number] = ()) -> list[Audit]:
    """Every finding of every audit of the numbers. `trivial`: accuracies that reports beside it show to be trivial."""
    found = [finding for look in RECORD_AUDITS.values() for finding in look(document)]
    return found + trivial_gains(document, [*trivial_accuracies(document), *trivial])


def edge(document: Document) -> list[Audit]:
    """The best rate is the first or last of those tried."""
    found: dict[float, Audit] = {}
    blocks: dict[int, list[Record]] = {}
    for record in document.ends:
        if record.rate is not None:
            blocks.setdefault(record.block, []).append(record)
    alone = [group[0] for group in blocks.values() if len(group) == 1]
    for group in [*(group for group in blocks.values() if len(group) > 1), alone]:
        rows = sorted(
            (r.rate, r.numbers["val_loss"].value, r.line) for r in group if r.rate and "val_loss" in r.numbers
        )
        if len({rate for rate, _, _ in rows}) < LEAST_AXIS_VALUES:
            continue
        rate, _, line = min(rows, key=lambda row: row[1])
        if rate not in (rows[0][0], rows[-1][0]):
            continue
        which, way = ("largest", "up") if rate == rows[-1][0] else ("smallest", "down")
        message = (
            f"{document.place(line)}: the best learning rate, {rate:g}, is the {which} of the "
            f"{len({row[0] for row in rows})} tried, so the best may lie beyond"
        )
        found.setdefault(rate, block("edge", message, f"extend the range {way}"))
    return list(found.values())


def too_good(document: Document) -> list[Audit]:
    """What text does not allow."""
    found = []
    records = [record for record in document.records if not is_statistic(record.subject)]
    low = [r for r in records if _above(r, "accuracy", MOST_ACCURACY) or _below(r, "loss", LEAST_LOSS_NATS)]
    if low:
        names = words.listing(list(dict.fromkeys(record.subject for record in low)))
        said = ", ".join(f"{kind.replace('_', ' ')} {low[0].numbers[kind].text}" for kind in sorted(low[0].numbers)[:2])
        message = f"{document.place(low[0].line)}: {names} ({said}): text does not allow such a prediction"
        remedy = "look for validation text in training, and for a model that sees the next token"
        found.append(block("too-good", message, remedy))
    seeing = [record for record in low if _above(record, "accuracy", NEXT_TOKEN_ACCURACY)]
    if seeing:
        best = max(seeing, key=lambda record: record.numbers["val_accuracy"].value)
        wrong = 1 - best.numbers["val_accuracy"].value
        context = facts.labelled_number(document.lines, r"sequence length|context(?: length| tokens)?")
        one_in = f"one token in {1 / wrong:,.0f}" if wrong > 0 else "no token"
        against = f"; with {context:g} tokens a window, all but the last would be 1 in {context:g}" if context else ""
        message = (
            f"{document.place(best.line)}: {one_in} is predicted wrongly, as by a model that sees the next{against}"
        )
        found.append(block("future", message, "change token t + 1 and see whether the prediction at t changes"))
    return found + _below_training(document)


def _below_training(document: Document) -> list[Audit]:
    """Held-out text known better than memorised text."""
    for record in document.ends:
        train, held_out = record.numbers.get("train_loss"), record.numbers.get("val_loss")
        if train is None or held_out is None or train.value > 1 or held_out.value + held_out.half >= train.value:
            continue
        message = (
            f"{document.place(record.line)}: validation loss {held_out.text} is below training loss {train.text}, "
            "where training text is known by heart"
        )
        return [block("leak", message, "split documents, not windows, and look for validation text in training")]
    return []


def _above(record: Record, what: str, limit: float) -> bool:
    return any(
        kind in record.numbers and record.numbers[kind].value > limit for kind in (f"val_{what}", f"test_{what}")
    )


def _below(record: Record, what: str, limit: float) -> bool:
    return any(
        kind in record.numbers and record.numbers[kind].value < limit for kind in (f"val_{what}", f"test_{what}")
    )


def diverged(document: Document) -> list[Audit]:
    """Runs above the loss of guessing that count as success."""
    success = [
        line
        for line in document.claims
        if re.search(
            r"success\w*:?\s*(?:rate:?\s*)?100\s*%|\ball\b.*\bsuccessful|\((\d+)/\1\)", line.text, re.IGNORECASE
        )
    ]
    vocabulary = facts.labelled_number(document.lines, r"vocab\w*")
    initial = _initial_loss(document)
    limit = math.log(vocabulary) if vocabulary and vocabulary > 100 else initial
    if limit is None or not success:
        return []
    name = "the loss of guessing uniformly" if limit != initial else "the loss before training"
    blocks = [r for r in document.ends if r.numbers.get("val_loss") and r.numbers["val_loss"].value > limit]
    if not blocks:
        return []
    names = words.listing(list(dict.fromkeys(record.subject for record in blocks)))
    message = (
        f"{document.place(success[0].number)}: {names} ended above {limit:.4g}, {name}, and count as success "
        f'("{success[0].text[:60]}")'
    )
    return [block("diverged", message, "count them as failed")]


def _initial_loss(document: Document) -> float | None:
    """The loss that training is said to have begun with."""
    for line in document.lines:
        match = re.search(rf"\binitial(?: loss| value)?(?: of| is| was)?:? ({NUMBER})", line.text, re.IGNORECASE)
        if match:
            return float(match[1].replace(",", ""))
    return None


def trivial_accuracies(document: Document) -> list[Number]:
    """The least accuracy, where models of different losses share it: they all say the most frequent token."""
    accuracies = [r for r in document.records if "val_accuracy" in r.numbers and "val_loss" in r.numbers]
    if not accuracies:
        return []
    least = min((record.numbers["val_accuracy"] for record in accuracies), key=lambda one: one.value)
    losses = [r.numbers["val_loss"].value for r in accuracies if r.numbers["val_accuracy"].agrees(least.value)]
    return [least] if max(losses) - min(losses) > SAME_LOSS else []


def trivial(document: Document) -> list[Audit]:
    least = trivial_accuracies(document)
    if not least:
        return []
    same = [
        r for r in document.records if "val_accuracy" in r.numbers and r.numbers["val_accuracy"].agrees(least[0].value)
    ]
    with_losses = [record for record in same if "val_loss" in record.numbers]
    low = min(with_losses, key=lambda record: record.numbers["val_loss"].value)
    high = max(with_losses, key=lambda record: record.numbers["val_loss"].value)
    message = (
        f"{document.place(low.line)}: accuracy {least[0].text} at losses {low.numbers['val_loss'].text} and "
        f"{high.numbers['val_loss'].text}: that of always saying the most frequent token"
    )
    return [warn("trivial", message, "do not count it as something learned")]


def trivial_gains(document: Document, levels: Sequence[Number]) -> list[Audit]:
    """Gains relative to an accuracy that needs no learning."""
    relative = [
        change
        for change in changes(document)
        if change.what.endswith("accuracy") and (change.percents or change.factors)
        for level in levels
        if change.a.agrees(level.value, level.half)
    ]
    relative += [change for chain in chains(document) for change in _first_step(chain, levels)]
    if not relative:
        return []
    one = relative[0]
    said = one.percents[0].text if one.percents else f"{one.factors[0].text}x"
    message = (
        f"{document.place(one.line)}: {said} is relative to accuracy {one.a.text}, which always saying the most "
        "frequent token reaches; it means nothing"
    )
    return [warn("trivial", message, "give the difference in nats")]


def _first_step(chain: Chain, levels: Sequence[Number]) -> list[Change]:
    """From a trivial accuracy to the second stage, where a percentage is said of that."""
    (_, a), (_, b) = chain.stages[:2]
    is_trivial = chain.what.endswith("accuracy") and any(a.agrees(level.value, level.half) for level in levels)
    said = [(stated, line) for place, stated, line in chain.stated if place == 1]
    return [Change(chain.what, True, a, b, (stated,), (), line) for stated, line in said if is_trivial]


def clock(document: Document) -> list[Audit]:
    """Times that are compared and cannot be."""
    return [*_coarse_clock(document), *_times_in_order(document), *_explained_by_convergence(document)]


def _coarse_clock(document: Document) -> list[Audit]:
    timed = [record for record in document.ends if "seconds" in record.numbers and record.numbers["seconds"].value > 0]
    coarse = [r for r in timed if r.numbers["seconds"].half > CLOCK * r.numbers["seconds"].value]
    if len(coarse) < 2 or len(coarse) < len(timed):
        return []
    time = coarse[0].numbers["seconds"]
    message = (
        f"{document.place(coarse[0].line)}: times are printed as {time.text}, exact to "
        f"{time.half / time.value:.0%}; they cannot be compared"
    )
    return [warn("clock", message, "print times to 1% or better, or do not compare them")]


def _times_in_order(document: Document) -> list[Audit]:
    """Times of runs that differ in their rate alone, which costs nothing, follow the order of the runs."""
    blocks: dict[int, list[Record]] = {}
    for record in document.ends:
        if record.rate is not None and "seconds" in record.numbers:
            blocks.setdefault(record.block, []).append(record)
    for group in blocks.values():
        by_rate = [record.numbers["seconds"].value for record in sorted(group, key=lambda record: record.rate or 0.0)]
        if is_in_order(by_rate):
            message = (
                f"{document.place(group[0].line)}: times run from {by_rate[0]:g} to {by_rate[-1]:g} s along the rates "
                f"(rank correlation {rank_correlation(by_rate):+.2f}); a rate costs nothing, so their order tells"
            )
            return [warn("clock", message, "run arms in random order, after a run that does not count")]
    return []


def _explained_by_convergence(document: Document) -> list[Audit]:
    length = facts.num_steps(document)
    said = [
        line
        for line in document.claims
        if re.search(r"\bfast\w*\b.*\b(?:early|earlier|faster)\s+convergence", line.text, re.IGNORECASE)
    ]
    if not said or length is None:
        return []
    message = (
        f"{document.place(said[0].number)}: a shorter time is put down to convergence, but every run has {length[0]:,} "
        f"{'updates' if length[1] else 'steps'}"
    )
    return [warn("clock", message, "measure the time to a loss that was fixed beforehand")]


RECORD_AUDITS: dict[str, Callable[[Document], list[Audit]]] = {
    "edge": edge,
    "too-good": too_good,
    "diverged": diverged,
    "trivial": trivial,
    "clock": clock,
}
