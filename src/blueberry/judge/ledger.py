"""The ledger: lines of baselines, each with the evidence that made it one, and what is said of them. Pure.

A line is a name under which baselines follow each other. An entry is never changed: a promotion replaces the
baseline, a rollback goes back to what the promotion in effect replaced, a remeasurement only adds evidence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from blueberry.errors import LedgerError
from blueberry.files import canonical_json
from blueberry.judge import words
from blueberry.judge.judgement import Finding, Verdict
from blueberry.recipe import Recipe
from blueberry.records import RunResult
from blueberry.study.plan import Plan
from blueberry.study.spec import Study
from blueberry.study.store import LedgerRow

SCHEMA = "blueberry/ledger/1"


class Change(Finding):
    """A setting in which a baseline differs from what it replaced. None: that recipe has no such setting."""

    setting: str
    old: Any
    new: Any


class Claim(Finding):
    """A measured difference of two recipes, paired by seed."""

    difference: float | None
    """New minus old in the metric; None where one of them diverged or they share no seed."""
    interval: tuple[float, float] | None
    n: int
    """Paired seeds."""
    verdict: Literal["winner", "tie", "inconclusive"]


class Build(Finding):
    """What computed some runs."""

    code_digest: str
    torch: str
    device: str
    data_digest: str
    evaluation_digest: str


class Support(Finding):
    """What a promotion rests on."""

    study: str
    question: str
    metric: str
    min_effect: float
    alpha: float
    arm: str
    beaten: str | None
    """The arm it was compared with; None where a sweep began the line and had no such arm."""
    claim: Claim | None
    """The winner minus the beaten arm, over the seeds that chose it."""
    mean: float
    """Of the metric on fresh seeds, which chose nothing."""
    interval: tuple[float, float] | None
    n: int
    """Fresh seeds."""
    test_mean: float | None
    """The same runs on the test set; None where it was not measured."""
    unresolved: tuple[str, ...]
    """Arms that were not told apart from it."""
    runs: tuple[str, ...]
    """Fingerprints of the winner's runs, searching and confirming."""
    beaten_runs: tuple[str, ...]
    seeds: tuple[int, int]
    """First and last that the study may use."""
    builds: tuple[Build, ...]


class Stage(Finding):
    """One promotion in effect, as part of a total."""

    number: int
    claimed: float | None
    """The difference it was promoted with."""
    measured: Claim | None = None
    """Its recipe minus the original, in the remeasurement; None where only the newest was run."""


class Total(Finding):
    """The newest baseline minus the original, measured together, beside what the stages claimed."""

    metric: str
    measured: Claim
    stages: tuple[Stage, ...]
    claimed: float | None
    """Sum of the stages' claims; None where one of them claimed none."""
    runs: tuple[str, ...]
    seeds: tuple[int, int]
    builds: tuple[Build, ...]


class Entry(Finding):
    number: int | None = None
    """Given by the store; None before."""
    line: str
    kind: Literal["promotion", "rollback", "remeasurement"]
    date: str
    """UTC, ISO 8601."""
    parent: int | None
    """The baseline it replaces, or that a remeasurement measured; None: the line begins here."""
    recipe: dict[str, Any] | None
    """Complete: the baseline from here on. None for a remeasurement."""
    replaced: dict[str, Any] | None
    """Complete: the baseline before; of the line's first entry the recipe that its study started from."""
    changes: tuple[Change, ...] = ()
    support: Support | None = None
    """Of a promotion."""
    restores: int | None = None
    """Of a rollback: the entry whose recipe is back; None where that is the recipe the line started from."""
    total: Total | None = None
    """Of a remeasurement."""

    def body(self) -> str:
        """As the store keeps it."""
        return self.model_dump_json(exclude={"number"})


@dataclass(frozen=True)
class Ledger:
    """Every line of a store."""

    lines: Mapping[str, tuple[Entry, ...]]
    """Entries by line, the oldest first; no line is empty."""

    def to_dict(self) -> dict[str, Any]:
        """The contents of `ledger.json`: plain JSON values."""
        return {"schema": SCHEMA, "lines": [_line_dict(name, entries) for name, entries in self.lines.items()]}


def _line_dict(name: str, entries: tuple[Entry, ...]) -> dict[str, Any]:
    now, kept, total = current(entries), stages(entries), latest_total(entries)
    return {
        "line": name,
        "baseline": None if now is None else now.number,
        "recipe": None if now is None else now.recipe,
        "stages": [entry.number for entry in kept],
        "claimed": claimed_sum(kept),
        "measured": None if total is None or total.total is None else total.total.measured.model_dump(mode="json"),
        "entries": [entry.model_dump(mode="json") for entry in entries],
    }


def read_entries(rows: Sequence[LedgerRow]) -> tuple[Entry, ...]:
    """Raises: LedgerError if one cannot be read."""
    entries = []
    for row in rows:
        try:
            entries.append(Entry.model_validate_json(row.body).model_copy(update={"number": row.number}))
        except ValidationError as error:
            what = error.errors()[0]["msg"]
            raise LedgerError(
                f"ledger entry {row.number}: cannot be read ({what}); it is damaged or of a later version; "
                "restore the store from a copy, or update Blueberry"
            ) from None
    return tuple(entries)


def current(entries: Sequence[Entry]) -> Entry | None:
    """The newest baseline of a line's entries, oldest first."""
    return next((entry for entry in reversed(entries) if entry.recipe is not None), None)


def stages(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The promotions in effect: each rollback takes the last one back."""
    kept: list[Entry] = []
    for entry in entries:
        if entry.kind == "promotion":
            kept.append(entry)
        elif entry.kind == "rollback":
            kept.pop()
    return tuple(kept)


def claims(kept: Sequence[Entry]) -> list[float | None]:
    """The difference that each promotion was made with."""
    return [one.support.claim.difference if one.support and one.support.claim else None for one in kept]


def claimed_sum(kept: Sequence[Entry]) -> float | None:
    """Of the promotions in effect; None where one claims none, or they are in different metrics."""
    said = [one for one in claims(kept) if one is not None]
    metrics = {entry.support.metric for entry in kept if entry.support}
    return sum(said) if kept and len(said) == len(kept) and len(metrics) == 1 else None


def latest_total(entries: Sequence[Entry]) -> Entry | None:
    """The newest remeasurement of the newest baseline."""
    newest = entries[-1]
    return newest if newest.total is not None else None


def original(entries: Sequence[Entry]) -> Recipe:
    """What a line started from. The line must not be empty."""
    assert entries[0].replaced is not None
    return Recipe.parse(entries[0].replaced, place=f"ledger entry {entries[0].number}")


def same_numbers(one: Recipe, other: Recipe) -> bool:
    """Whether two recipes are one but for the seed and what changes no number."""
    first, second = (
        canonical_json({name: value for name, value in recipe.identity().items() if name != "seed"})
        for recipe in (one, other)
    )
    return first == second


def roll_back(line: str, entries: Sequence[Entry], *, date: str) -> Entry:
    """A new entry that restores what the promotion in effect replaced.

    Raises: LedgerError if the line has no promotion in effect.
    """
    kept, now = stages(entries), current(entries)
    if now is None or not kept:
        what = "has no baseline" if now is None else "is back at the recipe it started from"
        raise LedgerError(
            f"ledger {line!r}: {what}; there is nothing to roll back; blueberry ledger shows what there is"
        )
    before, after = recipe_of(now), Recipe.parse(kept[-1].replaced or {}, place=f"ledger entry {kept[-1].number}")
    return Entry(
        line=line,
        kind="rollback",
        date=date,
        parent=now.number,
        recipe=after.model_dump(mode="json"),
        replaced=before.model_dump(mode="json"),
        changes=changes(before, after),
        restores=kept[-2].number if len(kept) > 1 else None,
    )


def changes(old: Recipe, new: Recipe) -> tuple[Change, ...]:
    """The dotted settings that differ, but for the seed; in the order of the recipes."""
    was, is_ = old.flat(), new.flat()
    names = [name for name in dict.fromkeys([*was, *is_]) if name != "seed" and was.get(name) != is_.get(name)]
    return tuple(Change(setting=name, old=was.get(name), new=is_.get(name)) for name in names)


def claim(verdict: Verdict) -> Claim:
    """A verdict on the new recipe, b, against the old one, a."""
    finite = verdict.difference is not None and math.isfinite(verdict.difference)
    return Claim(
        difference=verdict.difference if finite else None,
        interval=verdict.interval if finite else None,
        n=verdict.n,
        verdict=verdict.verdict,
    )


def reserved_seeds(study: Study) -> tuple[int, int]:
    """First and last seed that a study may use, however far it goes."""
    return study.base.seed, study.base.seed + study.seeds.max + study.seeds.confirm - 1


def builds(plan: Plan, results: Mapping[str, RunResult]) -> tuple[Build, ...]:
    """What computed the runs of a plan, each distinct one once."""
    found = [results[run.fingerprint].provenance for run in plan.runs if run.fingerprint in results]
    return tuple(
        dict.fromkeys(Build(**one.model_dump(include=set(Build.model_fields))) for one in found if one is not None)
    )


def recipe_of(entry: Entry) -> Recipe:
    """Of a promotion or a rollback. Raises: RecipeError if this version knows no such recipe."""
    assert entry.recipe is not None
    return Recipe.parse(entry.recipe, place=f"ledger entry {entry.number}")


# --- A line in words ---

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
            said = [part for part in told if part and not part.endswith(words.MISSING)]
            lines.append(f"  #{row.number}  {row.date[:10]}  {row.what}: {'; '.join([row.changed, *said])}")
        lines.append(f"  total: {page.total}")
    return "\n".join(lines)


def entry_line(entry: Entry) -> str:
    """One entry in one line."""
    row = _row(entry)
    told = [row.changed, row.claimed, f"validation {row.validation}", f"test {row.test}"]
    said = "; ".join(part for part in told if part and not part.endswith(words.MISSING))
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
    return LinePage(
        name=name,
        now=f"the baseline is entry {now.number}, since {now.date[:10]}",
        rows=tuple(_row(entry) for entry in entries),
        total=total,
        recipe=tuple((one.setting, _arrow(one)) for one in changes(original(entries), recipe_of(now))),
    )


def _row(entry: Entry) -> EntryRow:
    what = {"promotion": "promoted", "rollback": "rolled back", "remeasurement": "remeasured"}[entry.kind]
    support, total = entry.support, entry.total
    claimed, validation, test, source = "", words.MISSING, words.MISSING, ""
    if support is not None:
        source = f"{support.study}, arm {support.arm}"
        unit = (support.metric, support.min_effect)
        claimed = claim_text(support.claim, *unit) if support.claim else "began the line: nothing to beat"
        fresh = words.count(support.n, "fresh seed")
        validation = f"{words.metric_value(support.mean, support.interval, *unit)} on {fresh}"
        if support.test_mean is not None:
            test = words.metric_value(support.test_mean, None, *unit)
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
    said = [f"{words.setting_name(one.setting)} {_arrow(one)}" for one in entry.changes[:MOST_CHANGES]]
    more = len(entry.changes) - MOST_CHANGES
    said += [f"{more} more"] if more > 0 else []
    to = "the recipe the line started from" if entry.restores is None else f"entry {entry.restores}"
    back = f"back to {to}: " if entry.kind == "rollback" else ""
    return back + (", ".join(said) or "no setting")


def _arrow(change: Change) -> str:
    old, new = ("none" if value is None else words.setting_value(value) for value in (change.old, change.new))
    return f"{old} -> {new}"
