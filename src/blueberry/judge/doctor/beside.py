"""A report against the raw results that lie beside it."""

from collections.abc import Sequence

from blueberry.judge.doctor.claims import null_claims
from blueberry.judge.doctor.document import Document, Record
from blueberry.judge.doctor.findings import block
from blueberry.judge.doctor.limits import CLOCK
from blueberry.judge.judgement import Audit
from blueberry.tables.columns import folded
from blueberry.tables.rows import Row, Table

LEAST_SHARED = 2
"""Numbers that a report and a table have in common, from which the one is taken to be about the other."""


def audit_beside(documents: Sequence[Document], tables: Sequence[Table]) -> list[Audit]:
    """Every pair that is about the same runs."""
    found: list[Audit] = []
    for document in documents:
        for table in tables:
            shared = _shared(document, table)
            if len({row.place for _, row in shared}) >= LEAST_SHARED:
                found += [*_drift(document, table), *_times(document, table, shared)]
    return found


def _shared(document: Document, table: Table) -> list[tuple[Record, Row]]:
    """Records whose loss is a row's, as far as it is printed, to three digits at least."""
    pairs = []
    for record in document.ends:
        loss = record.numbers.get("val_loss")
        if loss is None or loss.half > 0.005 or loss.value == 0:
            continue
        rows = [row for row in table.rows if (value := _loss(row)) is not None and loss.agrees(value)]
        pairs += [(record, row) for row in rows[:1]]
    return pairs


def _drift(document: Document, table: Table) -> list[Audit]:
    """A rate whose loss is one in the report and another in the data."""
    rates: dict[float, list[Row]] = {}
    for row in table.rows:
        rate = next(
            (v for name, v in row.values.items() if folded(name.rpartition(".")[2]) in ("learning_rate", "lr")), None
        )
        if isinstance(rate, (int, float)) and _loss(row) is not None:
            rates.setdefault(float(rate), []).append(row)
    for record in document.ends:
        rows = rates.get(record.rate, []) if record.rate is not None else []
        loss = record.numbers.get("val_loss")
        if loss is None or len(rows) != 1:
            continue
        value = _loss(rows[0])
        if value is not None and not loss.agrees(value):
            said = f"learning rate {record.rate:g} has loss {loss.text}, in {rows[0].place} {value:.6g}"
            message = f"{document.place(record.line)}: {said}"
            return [block("drift", message, "print the number of the run, or say which run it is")]
    return []


def _times(document: Document, table: Table, shared: Sequence[tuple[Record, Row]]) -> list[Audit]:
    """ "Same training time", where the data have two."""
    said = [line for line in null_claims(document) if "time" in line.text.lower() or "overhead" in line.text.lower()]
    times = [
        (float(time), row.place)
        for _, row in shared
        if isinstance(time := row.values.get("train_seconds"), (int, float))
    ]
    if not said or len(times) < 2 or max(times)[0] <= (1 + CLOCK) * min(times)[0]:
        return []
    (low, low_place), (high, high_place) = min(times), max(times)
    message = (
        f"{document.place(said[0].number)}: equal time is claimed; it is {high:.4g} s in {high_place} "
        f"and {low:.4g} s in {low_place} ({low / high - 1:+.0%})"
    )
    return [block("null", message, "print the times")]


def _loss(row: Row) -> float | None:
    value = row.values.get("val_loss")
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
