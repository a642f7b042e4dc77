"""The one way in: reports, and the tables of runs given beside them, to findings and notes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from blueberry.judge.audits import blocking_first
from blueberry.judge.audits.runs import AUDITS
from blueberry.judge.gather import gather_table
from blueberry.judge.judgement import Audit
from blueberry.judge.measured import measure
from blueberry.proofread.across import audit_across
from blueberry.proofread.claims import WORDS, audit_claims
from blueberry.proofread.document import LARGEST, MOST_LINES, MOST_ROWS, Document, Result, is_statistic
from blueberry.proofread.statements import statements
from blueberry.tables.rows import Row, Table
from blueberry.tables.runs import PREFERRED, table_runs

MOST_SWEEPS = 20
"""Tables of learning rates in one report that are looked at."""
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


def examine(documents: Sequence[Document], tables: Sequence[Table] = ()) -> tuple[tuple[Audit, ...], tuple[str, ...]]:
    """Every finding, blocking ones first, and what a person should know of how the reports were read."""
    found: list[Audit] = []
    notes: list[str] = []
    for document in documents:
        if document.is_cut:
            notes.append(f"{document.name}: only its first {LARGEST:,} characters and {MOST_LINES:,} lines are read")
        if not document.results:
            notes.append(f"{document.name}: no number of a run is in it, so there is little to check")
        for statement in statements(document):
            contradiction = statement.contradiction(document.place(statement.line))
            found += [contradiction] if contradiction else []
        found += audit_claims(document)
        found += audit_runs(document)
    return blocking_first([*found, *audit_across(documents, tables)]), tuple(notes)


def audit_runs(document: Document) -> list[Audit]:
    """The audits of any table of runs, on a report's tables and lists, as far as they say enough for them."""
    rows = [row for block in document.blocks for row in block.rows if not is_statistic(row.subject)][:MOST_ROWS]
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
    for block in [block for block in document.blocks if block.varies == "rate"][:MOST_SWEEPS]:
        ends = [row for row in block.ends if row.rate is not None and row.rate > 0 and "val_loss" in row.numbers]
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
    place = document.place(results[0].line)
    return [
        one if one.message.startswith(document.name) else one.model_copy(update={"message": f"{place}: {one.message}"})
        for one in found
    ]
