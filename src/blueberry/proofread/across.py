"""Reports given together with each other and with tables of runs: the same runs, other numbers."""

from collections.abc import Sequence

from blueberry.judge.audits import block, warn
from blueberry.judge.audits.comparable import DRIFT_NATS
from blueberry.judge.audits.runs import CLOCK
from blueberry.judge.judgement import Audit
from blueberry.proofread.claims import PHRASES
from blueberry.proofread.document import Document, Result
from blueberry.tables.columns import folded
from blueberry.tables.rows import Row, Table

LEAST_SHARED = 2
"""Numbers that a report and a table, or rates that two reports, share before one is held against the other."""


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
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
