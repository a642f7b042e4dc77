"""Written reports, proofread: do their numbers follow from each other, and their claims from their runs?

`examine` is the one way in: reports, alone, with each other and with tables of runs beside them, to findings and notes.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from blueberry.judge.audits import AUDITS, CLOCK
from blueberry.judge.audits.comparisons import DRIFT_NATS
from blueberry.judge.evidence import measure
from blueberry.judge.judgement import Audit, block, blocking_first, placed, warn
from blueberry.judge.studies import gather_table
from blueberry.proofread.claims import PHRASES, WORDS, audit_claims
from blueberry.proofread.document import LARGEST, MOST_LINES, MOST_ROWS, Document, Result, is_statistic
from blueberry.proofread.statements import statements
from blueberry.records import is_number
from blueberry.tables.columns import folded
from blueberry.tables.markdown import broken_tables
from blueberry.tables.roles import PREFERRED
from blueberry.tables.rows import Row, Table
from blueberry.tables.runs import table_runs

MOST_SWEEPS = 20
"""Tables of learning rates in one report that are looked at."""
LEAST_SHARED = 2
"""Numbers that a report and a table, or rates that two reports, share before one is held against the other."""
_COLUMNS = frozenset(
    (
        "val_loss",
        "val_bits_per_byte",
        "val_perplexity",
        "val_accuracy",
        "train_loss",
        "updates",
        "tokens",
        "train_seconds",
    )
)
_VOCABULARY = re.compile(r"\bvocab\w*(?: size)? ?[:=] ?(\d{1,3}(?:,\d{3})+|[1-9]\d{1,7})\b", re.IGNORECASE)


def examine(
    documents: Sequence[Document], tables: Sequence[Table] = (), read_as_tables: Sequence[str] = ()
) -> tuple[tuple[Audit, ...], tuple[str, ...]]:
    """Every finding, blocking ones first, and what a person should know of how the reports were read.

    `read_as_tables`: names of documents that are audited as tables of runs too.
    """
    found: list[Audit] = []
    notes: list[str] = []
    for document in documents:
        if document.is_cut:
            notes.append(f"{document.name}: only its first {LARGEST:,} characters and {MOST_LINES:,} lines are read")
        notes += [f"{document.name} {said}" for said in broken_tables(document.text)]
        if not document.results and document.name not in read_as_tables:
            what = "no loss, perplexity, bits per byte or accuracy of a run is in it, so there is little to check"
            notes.append(f"{document.name}: {what}; --metric names another")
        for statement in statements(document):
            contradiction = statement.contradiction(document.place(statement.line))
            found += [contradiction] if contradiction else []
        found += audit_claims(document)
        found += audit_runs(document)
    return blocking_first([*found, *audit_across(documents, tables)]), tuple(notes)


def audit_runs(document: Document) -> list[Audit]:
    """The audits of any table of runs, on a report's tables and lists, as far as they say enough for them."""
    rows = [row for listed in document.blocks for row in listed.rows if not is_statistic(row.subject)][:MOST_ROWS]
    looks = ["trivial"]
    if WORDS["of_language"].search(document.text) and not WORDS["of_other_tasks"].search(document.text):
        looks += ["too-good", "future", "leak"]
    found: list[Audit] = []
    for metric in PREFERRED:
        some = [row for row in rows if metric == next((name for name in PREFERRED if name in row.numbers), None)]
        found += _judged(document, some, "arm", metric, looks)
    on_rates = ["budget", "clock"]
    if any(WORDS["chosen"].search(line.text) for line in document.claims) and not any(
        WORDS["known_edge"].search(line.text) for line in document.lines
    ):
        on_rates.append("edge")
    stated = _VOCABULARY.search(document.text)
    known: dict[str, Any] = {}
    if stated and any(WORDS["all_well"].search(line.text) for line in document.claims):
        known = {"vocabulary": int(stated[1].replace(",", "")), "status": "completed"}
        on_rates.append("diverged")
    for sweep in [one for one in document.blocks if one.varies == "rate"][:MOST_SWEEPS]:
        ends = [row for row in sweep.ends if row.rate is not None and row.rate > 0 and "val_loss" in row.numbers]
        found += _judged(document, ends, "learning_rate", "val_loss", on_rates, known)
    return list({(audit.audit, audit.severity): audit for audit in reversed(found)}.values())[::-1]


def _judged(
    document: Document,
    results: Sequence[Result],
    vary: str,
    metric: str,
    looks: Sequence[str],
    known: Mapping[str, Any] | None = None,
) -> list[Audit]:
    """What these audits find in results, as the rows of a table. `known`: what the report says of all of them.

    Seeds are left out: what a report says of them in words counts too (`claims.seeds`).
    """
    if not results:
        return []
    rows = []
    for result in results:
        numbers = {kind: number.value for kind, number in result.numbers.items() if kind in _COLUMNS}
        if not {"val_loss", "val_perplexity"} & numbers.keys():
            numbers.pop("val_accuracy", None)  # of a task, not of text
        names = {"arm": f"{result.subject} (line {result.line})", "learning_rate": result.rate}
        rows.append(Row(document.place(result.line), {vary: names[vary], **numbers, **(known or {})}))
    table = Table(document.name, document.name, tuple(rows))
    measured = measure(gather_table(table_runs(table, [vary], metric, least_arms=1)))
    found = [audit for name in looks for audit in AUDITS[name](measured)]
    return placed(found, document.name, document.place(results[0].line))


def audit_across(documents: Sequence[Document], tables: Sequence[Table]) -> list[Audit]:
    """Every pair that is about the same runs."""
    found: list[Audit] = []
    for place, document in enumerate(documents):
        for table in tables:
            shared = _shared(document, table)
            if len({row.place for _, row in shared}) >= LEAST_SHARED:
                found += [*_drift(document, table), *_times(document, shared)]
        for other in documents[place + 1 :]:
            found += _rates_apart(document, other)
    return found


def _shared(document: Document, table: Table) -> list[tuple[Result, Row]]:
    """Results whose loss is a row's, as far as it is printed, to three digits at least."""
    losses = sorted((value, at) for at, row in enumerate(table.rows) if (value := _loss(row)) is not None)
    pairs = []
    for result in document.results:
        loss = result.numbers.get("val_loss")
        if loss is None or loss.half > 0.005 or loss.value == 0:
            continue
        near = [at for value, at in losses if loss.agrees(value)]
        pairs += [(result, table.rows[at]) for at in near[:1]]
    return pairs


def _drift(document: Document, table: Table) -> list[Audit]:
    """A rate whose loss is one in the report and another in the data."""
    rates: dict[float, list[Row]] = {}
    for row in table.rows:
        names = (name for name in row.values if folded(name.rpartition(".")[2]) in ("learning_rate", "lr"))
        rate = next((row.values[name] for name in names), None)
        if isinstance(rate, (int, float)) and _loss(row) is not None:
            rates.setdefault(float(rate), []).append(row)
    for result in document.results:
        rows = rates.get(result.rate, []) if result.rate is not None else []
        loss, value = result.numbers.get("val_loss"), _loss(rows[0]) if len(rows) == 1 else None
        if loss is not None and value is not None and not loss.agrees(value):
            said = f"learning rate {result.rate:g} has loss {loss.text}, in {rows[0].place} {value:.6g}"
            remedy = "print the number of the run, or say which run it is"
            return [block("drift", f"{document.place(result.line)}: {said}", remedy)]
    return []


def _times(document: Document, shared: Sequence[tuple[Result, Row]]) -> list[Audit]:
    """ "Same training time", where the data have two."""
    equal = [phrase for phrase in PHRASES if phrase.audit == "null"]
    said = [
        line
        for line in document.claims
        if ("time" in line.text.lower() or "overhead" in line.text.lower())
        and any(phrase.found(one) for phrase in equal for one in line.sentences)
    ]
    times = [
        (float(t), row.place) for _, row in shared if isinstance(t := row.values.get("train_seconds"), (int, float))
    ]
    if not said or len(times) < 2 or max(times)[0] <= (1 + CLOCK) * min(times)[0]:
        return []
    (low, low_place), (high, high_place) = min(times), max(times)
    message = (
        f"{document.place(said[0].number)}: equal time is claimed; it is {high:.4g} s in {high_place} "
        f"and {low:.4g} s in {low_place} ({low / high - 1:+.0%})"
    )
    return [block("null", message, "print the times")]


def _rates_apart(first: Document, second: Document) -> list[Audit]:
    """Rates that both reports have, each time with another loss."""
    losses: dict[float, Result] = {}
    for result in first.results:
        if result.rate is not None and "val_loss" in result.numbers:
            losses.setdefault(result.rate, result)
    said: dict[float, str] = {}
    for result in second.results:
        before = losses.get(result.rate) if result.rate is not None else None
        if before is None or result.rate is None or "val_loss" not in result.numbers:
            continue
        a, b = before.numbers["val_loss"], result.numbers["val_loss"]
        if abs(a.value - b.value) > DRIFT_NATS:
            said.setdefault(result.rate, f"{result.rate:g} ends at {a.text} and at {b.text}")
    if len(said) < LEAST_SHARED:
        return []
    message = f"{first.name} and {second.name}: learning rate {'; '.join(said[rate] for rate in sorted(said)[:3])}"
    return [
        warn("drift", message, "say what else differs between the two; until then neither number is of that rate alone")
    ]


def _loss(row: Row) -> float | None:
    value = row.values.get("val_loss")
    return float(value) if is_number(value) else None
