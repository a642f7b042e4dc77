"""The line of baselines in words: for a terminal, and for Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from blueberry.judge import words
from blueberry.judge.ledger import (
    Change,
    Claim,
    Entry,
    Ledger,
    Total,
    changes,
    claimed_sum,
    current,
    latest_total,
    original,
    recipe_of,
    stages,
)
from blueberry.judge.words import MISSING, setting_name

MOST_CHANGES = 4
"""That one line lists."""


@dataclass(frozen=True)
class EntryRow:
    """One entry as table cells."""

    number: str
    date: str
    what: str
    """promoted, rolled back or remeasured."""
    changed: str
    claimed: str
    """Difference, interval and n of the promotion, or of the total that was measured."""
    validation: str
    test: str
    source: str
    """Study and arm."""


@dataclass(frozen=True)
class LinePage:
    name: str
    now: str
    """Which entry is the baseline."""
    rows: tuple[EntryRow, ...]
    total: str
    """One sentence on the whole line."""
    recipe: tuple[tuple[str, str], ...]
    """Every change from the original to the baseline: setting, "old -> new"."""


def line_pages(ledger: Ledger) -> tuple[LinePage, ...]:
    """Everything a reader is told of each line. Pure."""
    return tuple(_page(name, entries) for name, entries in ledger.lines.items())


def terminal(ledger: Ledger) -> str:
    pages = line_pages(ledger)
    if not pages:
        return "no baseline yet; blueberry promote STUDY makes a study's winner one"
    lines = []
    for page in pages:
        lines.append(f"{page.name}: {page.now}")
        for row in page.rows:
            told = [row.claimed, f"validation {row.validation}", f"test {row.test}", row.source]
            said = [part for part in told if part and not part.endswith(MISSING)]
            lines.append(f"  #{row.number}  {row.date[:10]}  {row.what}: {'; '.join([row.changed, *said])}")
        lines.append(f"  total: {page.total}")
    return "\n".join(lines)


def entry_line(entry: Entry) -> str:
    """One entry in one line."""
    row = _row(entry)
    told = [row.changed, row.claimed, f"validation {row.validation}", f"test {row.test}"]
    said = "; ".join(part for part in told if part and not part.endswith(MISSING))
    return f"{entry.line} #{row.number} {row.what}: {said}"


def total_sentence(total: Total) -> str:
    """e.g. "stages add up to -0.58 nats; measured together -0.54 nats [-0.57, -0.51], 5 paired seeds"."""
    measured = f"measured together {claim_text(total.measured, total.metric)}"
    if total.claimed is None:
        return f"not every stage claims a difference, so there is no sum; {measured}"
    return f"stages add up to {words.difference(total.claimed, None, total.metric)}; {measured}"


def claim_text(claim: Claim, metric: str, min_effect: float = words.MIN_EFFECT_NATS) -> str:
    """e.g. "-0.0120 nats [-0.0190, -0.0050], 5 paired seeds (winner)"."""
    seeds = words.count(claim.n, "paired seed")
    if claim.difference is None:
        return f"one side diverged, {seeds} ({claim.verdict})"
    return f"{words.difference(claim.difference, claim.interval, metric, min_effect)}, {seeds} ({claim.verdict})"


def _page(name: str, entries: Sequence[Entry]) -> LinePage:
    now, kept, last = current(entries), stages(entries), latest_total(entries)
    assert now is not None
    if last is not None and last.total is not None:
        total = total_sentence(last.total)
    elif not kept:
        total = "none: the line is back at the recipe it started from"
    else:
        claimed = claimed_sum(kept)
        metric = kept[-1].support.metric if kept[-1].support else ""
        sum_ = "" if claimed is None else f"stages add up to {words.difference(claimed, None, metric)}; "
        total = f"{sum_}not measured; blueberry ledger --remeasure {name} runs the newest against the original"
    settled = {change.setting: change for change in _since_the_start(entries)}
    return LinePage(
        name=name,
        now=f"the baseline is entry {now.number}, since {now.date[:10]}",
        rows=tuple(_row(entry) for entry in entries),
        total=total,
        recipe=tuple((setting, _arrow(change)) for setting, change in settled.items()),
    )


def _since_the_start(entries: Sequence[Entry]) -> tuple[Change, ...]:
    now = current(entries)
    assert now is not None
    return changes(original(entries), recipe_of(now))


def _row(entry: Entry) -> EntryRow:
    what = {"promotion": "promoted", "rollback": "rolled back", "remeasurement": "remeasured"}[entry.kind]
    support, total = entry.support, entry.total
    claimed, validation, test, source = "", MISSING, MISSING, ""
    if support is not None:
        source = f"{support.study}, arm {support.arm}"
        claimed = (
            claim_text(support.claim, support.metric, support.min_effect)
            if support.claim
            else "began the line: nothing to beat"
        )
        fresh = words.count(support.n, "fresh seed")
        validation = (
            f"{words.metric_value(support.mean, support.interval, support.metric, support.min_effect)} on {fresh}"
        )
        if support.test_mean is not None:
            test = words.metric_value(support.test_mean, None, support.metric, support.min_effect)
    elif total is not None:
        claimed = total_sentence(total)
    return EntryRow(
        number="?" if entry.number is None else str(entry.number),
        date=entry.date,
        what=what,
        changed=_changed(entry),
        claimed=claimed,
        validation=validation,
        test=test,
        source=source,
    )


def _changed(entry: Entry) -> str:
    if entry.kind == "remeasurement":
        return f"entry {entry.parent} against the original"
    said = [f"{setting_name(one.setting)} {_arrow(one)}" for one in entry.changes[:MOST_CHANGES]]
    more = len(entry.changes) - MOST_CHANGES
    said += [f"{more} more"] if more > 0 else []
    to = "the recipe the line started from" if entry.restores is None else f"entry {entry.restores}"
    back = f"back to {to}: " if entry.kind == "rollback" else ""
    return back + (", ".join(said) or "no setting")


def _arrow(change: Change) -> str:
    old, new = ("none" if value is None else words.setting_value(value) for value in (change.old, change.new))
    return f"{old} -> {new}"
