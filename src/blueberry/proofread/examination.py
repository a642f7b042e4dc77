"""The one way in: reports, and the tables of runs given beside them, to findings and notes."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from blueberry.judge.audits import blocking_first
from blueberry.judge.audits.runs import AUDITS
from blueberry.judge.evidence import ArmRuns, Evidence, RunFacts
from blueberry.judge.judgement import Audit
from blueberry.judge.measured import measure
from blueberry.proofread.across import audit_across
from blueberry.proofread.aggregates import statements_of_aggregates
from blueberry.proofread.changes import statements_of_change
from blueberry.proofread.claims import audit_claims
from blueberry.proofread.document import LARGEST, MOST_LINES, MOST_ROWS, Document, Result, is_statistic
from blueberry.tables.rows import Table

MOST_SWEEPS = 20
"""Tables of learning rates in one report that are looked at."""
_OF_LANGUAGE = re.compile(
    r"\btokens?\b|language model|perplexity|\bGPT\b|\bLLMs?\b|transformer|bits per byte|\bbpb\b|\btext\b", re.I
)
_OF_OTHER_TASKS = re.compile(
    r"classif|CIFAR|MNIST|ImageNet|fine-?tun|\bSFT\b|GSM8K|reward|copy(?:ing)? task|modular|denois|diffusion",
    re.IGNORECASE,
)
_KNOWN_EDGE = re.compile(
    r"(?:may|might|could) lie (?:beyond|above|below|outside)|(?:largest|smallest|highest|lowest|last|first|end|edge) "
    r"(?:rate |value |one )?"
    r"(?:that )?(?:of the range|(?:we |I |was |were )?(?:tried|tested|swept)|of the (?:sweep|grid))|"
    r"not (?:yet )?bracketed|"
    r"(?:extend|widen)\w* the (?:range|sweep|grid)",
    re.IGNORECASE,
)
_VOCABULARY = re.compile(r"\bvocab\w*(?: size)? ?[:=] ?(\d{1,3}(?:,\d{3})+|[1-9]\d{1,7})\b", re.IGNORECASE)
_ALL_WELL = re.compile(
    r"\ball (?:\d+ )?(?:runs|experiments|trials) (?:completed|finished|ended|converged|succeeded|were success)|"
    r"\bsuccess(?: rate)?: ?100 ?%",
    re.IGNORECASE,
)
_BEST = re.compile(r"\b(?:best|optimal|optimum|winner|recommend\w*)\b", re.IGNORECASE)


def examine(documents: Sequence[Document], tables: Sequence[Table] = ()) -> tuple[tuple[Audit, ...], tuple[str, ...]]:
    """Every finding, blocking ones first, and what a person should know of how the reports were read."""
    found: list[Audit] = []
    notes: list[str] = []
    for document in documents:
        if document.is_cut:
            notes.append(f"{document.name}: only its first {LARGEST:,} characters and {MOST_LINES:,} lines are read")
        if not document.results:
            notes.append(f"{document.name}: no number of a run is in it, so there is little to check")
        for statement in (*statements_of_aggregates(document), *statements_of_change(document)):
            contradiction = statement.contradiction(document.place(statement.line))
            found += [contradiction] if contradiction else []
        found += audit_claims(document)
        found += audit_runs(document)
    return blocking_first([*found, *audit_across(documents, tables)]), tuple(notes)


def audit_runs(document: Document) -> list[Audit]:
    """The audits that the rows of any table get, as far as a report's tables and lists say enough for them."""
    looks = [AUDITS["trivial"]]
    if _OF_LANGUAGE.search(document.text) and not _OF_OTHER_TASKS.search(document.text):
        looks += [AUDITS[name] for name in ("too-good", "future", "leak")]
    rows = [row for block in document.blocks for row in block.rows if not is_statistic(row.subject)][:MOST_ROWS]
    found = [audit for look in looks for audit in look(measure(_evidence(document, "arm", rows)))] if rows else []
    on_rates = [AUDITS[name] for name in ("budget", "clock")]
    is_known = any(_KNOWN_EDGE.search(line.text) for line in document.lines)
    if not is_known and any(_BEST.search(line.text) for line in document.claims):
        on_rates.append(AUDITS["edge"])
    vocabulary = _VOCABULARY.search(document.text)
    guessing = math.log(int(vocabulary[1].replace(",", ""))) if vocabulary else None
    if guessing and any(_ALL_WELL.search(line.text) for line in document.claims):
        on_rates.append(AUDITS["diverged"])
    for block in [block for block in document.blocks if block.varies == "rate"][:MOST_SWEEPS]:
        ends = [row for row in block.ends if row.rate is not None and row.rate > 0 and "val_loss" in row.numbers]
        if ends:
            measured = measure(
                replace(_evidence(document, "learning_rate", ends), guessing_loss=guessing, states_success=True)
            )
            place = document.place(ends[0].line)
            audits = [audit for look in on_rates for audit in look(measured)]
            found += [audit.model_copy(update={"message": f"{place}: {audit.message}"}) for audit in audits]
    at = document.place(rows[0].line) if rows else ""
    named = [
        a if a.message.startswith(document.name) else a.model_copy(update={"message": f"{at}: {a.message}"})
        for a in found
    ]
    return list({(audit.audit, audit.severity): audit for audit in reversed(named)}.values())[::-1]


def _evidence(document: Document, setting: str, rows: Sequence[Result]) -> Evidence:
    """Each rate an arm, or each row, named by its place, where nothing is measured on an axis."""
    arms: dict[object, list[Result]] = {}
    for row in rows:
        arms.setdefault(row.rate if setting == "learning_rate" else f"{row.subject} (line {row.line})", []).append(row)
    return Evidence(
        question=document.name,
        metric="val_loss",
        min_effect=0.005,
        alpha=0.05,
        vary=(setting,),
        source="table",
        arms=tuple(_arm(document, setting, value, some) for value, some in arms.items()),
    )


def _arm(document: Document, setting: str, value: object, rows: Sequence[Result]) -> ArmRuns:
    losses = [row.numbers["val_loss"].value for row in rows if "val_loss" in row.numbers and not row.is_on_the_way]
    return ArmRuns(
        name=str(value),
        settings={setting: value},
        search={0: math.fsum(losses) / len(losses)} if losses else {},
        facts=tuple(_facts(document, row) for row in rows),
    )


def _facts(document: Document, row: Result) -> RunFacts:
    known = {kind: number.value for kind, number in row.numbers.items()}
    accuracy = known.get("val_accuracy") if "val_loss" in known or "val_perplexity" in known else None
    return RunFacts(
        seed=0,
        value=known.get("val_loss"),
        place=document.place(row.line),
        val_accuracy=accuracy,
        lengths={name: known[name] for name in ("updates", "tokens") if known.get(name)},
        train_seconds=known.get("train_seconds"),
        train_loss=known.get("train_loss"),
        val_loss=known.get("val_loss"),
        val_perplexity=known.get("val_perplexity"),
    )
