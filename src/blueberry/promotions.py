"""The line of baselines: a study's winner promoted, taken back, and the newest measured against the original.

Deciding is the judge's, keeping is the store's; here they are wired together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from blueberry.api import Judged, conduct, look
from blueberry.errors import LedgerError, did_you_mean
from blueberry.judge.ledger import Entry, Ledger, read_entries, roll_back
from blueberry.judge.promotion import DEFAULT_SEEDS, Promotion, Refusal, already_measured, campaign, conclude, decide
from blueberry.study import engine
from blueberry.study.engine import Snapshot
from blueberry.study.spec import LINE_NAME, Study, default_store
from blueberry.study.store import Store


def promote(study: Study, *, store: str | Path | None = None, to: str | None = None) -> Promotion | Refusal:
    """Make a study's winner the baseline of the line `to` (by default the study's own), if its verdict supports it.

    Repeating it changes nothing. Raises: StudyError if the study has no runs, StoreError, LedgerError.
    """
    line = to or study.line
    if not LINE_NAME.fullmatch(line):
        rule = "a line's name is made of letters, digits, _ . + and -"
        raise LedgerError(f"ledger {line!r}: not a name; {rule}; choose another with --to")
    folder = Path(store or default_store())
    judged = look(study, folder)
    with Store.open(folder, create=False) as opened, judged.results() as results:
        while True:
            entries = read_entries(opened.ledger(line))
            decided = decide(
                judged.judgement, study, judged.plan, results, line=line, entries=entries, date=_now()
            )  # fmt: skip
            if isinstance(decided, Refusal) or not decided.is_new:
                return decided
            if (entry := _append(opened, decided.entry, entries)) is not None:
                return Promotion(entry, is_new=True)


def ledger(*, store: str | Path | None = None) -> Ledger:
    """Every line of baselines. Raises: StoreError if there is no store, LedgerError if an entry cannot be read."""
    with Store.open(Path(store or default_store()), create=False) as opened:
        rows = opened.ledger()
    names = dict.fromkeys(row.line for row in rows)
    return Ledger({name: read_entries([row for row in rows if row.line == name]) for name in names})


def rollback(line: str, *, store: str | Path | None = None) -> Entry:
    """Go back to what the newest baseline of a line replaced, as a new entry. Raises: LedgerError, StoreError."""
    with Store.open(Path(store or default_store()), create=False) as opened:
        while True:
            entries = _line(opened, line)
            if (entry := _append(opened, roll_back(line, entries, date=_now()), entries)) is not None:
                return entry


@dataclass(frozen=True)
class Remeasured:
    """What a line's total was found to be."""

    entry: Entry | Refusal
    is_new: bool
    """False: it was measured before, and nothing was run."""
    judged: Judged | None
    """The campaign; None where nothing was run."""


def remeasure(
    line: str,
    *,
    store: str | Path | None = None,
    trainer: engine.Trainer | None = None,
    workers: int | None = None,
    num_seeds: int = DEFAULT_SEEDS,
    every_stage: bool = False,
    on_event: Callable[[Snapshot], None] | None = None,
) -> Remeasured:
    """Run a line's newest baseline against the recipe it started from, on fresh seeds, and keep what is found.

    Safe to interrupt and to repeat: until it is done it goes on with the same seeds.
    Raises: LedgerError if there is nothing to compare, and what `conduct` raises.
    """
    folder = Path(store or default_store())
    while True:
        with Store.open(folder, create=False) as opened:
            entries = _line(opened, line)
            own = {entry.number for entry in entries}
            others = [(base.first_seed, base.last_seed) for base in opened.bases().values() if base.number in own]
        study = campaign(line, entries, other_seeds=others, num_seeds=num_seeds, every_stage=every_stage)
        known = already_measured(study, entries)
        if known is not None:
            return Remeasured(known, is_new=False, judged=None)
        judged = conduct(study, store=folder, trainer=trainer, workers=workers, on_event=on_event)
        with judged.results() as results:
            made = conclude(study, judged.judgement, judged.plan, results, entries=entries, date=_now())
        if isinstance(made, Refusal):
            return Remeasured(made, is_new=True, judged=judged)
        with Store.open(folder, create=False) as opened:
            if (entry := _append(opened, made, entries)) is not None:
                return Remeasured(entry, is_new=True, judged=judged)


def _line(store: Store, name: str) -> tuple[Entry, ...]:
    entries = read_entries(store.ledger(name))
    if not entries:
        known = did_you_mean(name, {row.line for row in store.ledger()}) or "; the ledger is empty"
        raise LedgerError(f"ledger {name!r}: no such line of baselines{known}; blueberry promote begins one")
    return entries


def _append(store: Store, entry: Entry, entries: tuple[Entry, ...]) -> Entry | None:
    """None if another process wrote to the line since `entries` were read: then decide again."""
    after = entries[-1].number if entries else None
    number = store.append_to_ledger(entry.line, entry.body(), after=after)
    return None if number is None else entry.model_copy(update={"number": number})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
