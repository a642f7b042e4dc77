"""Written reports, proofread: do their numbers follow from each other, and their claims from their runs?

`examine` is the one way in: reports, alone, with each other and with tables of runs beside them, to findings and notes.
What is claimed in words are phrases, which are data (`phrases.toml`), and the few rules that count.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blueberry.judge import words
from blueberry.judge.audits import AUDITS, CLOCK
from blueberry.judge.audits.comparisons import DRIFT_NATS
from blueberry.judge.evidence import measure
from blueberry.judge.judgement import LEAST_BLOCKS, Audit, block, blocking_first, placed, warn
from blueberry.judge.studies import gather_table
from blueberry.proofread.arithmetic import Number
from blueberry.proofread.document import LARGEST, MOST_LINES, MOST_ROWS, Document, Line, Result, is_statistic
from blueberry.proofread.seeds import NAMED_SEED, audit_wins, num_seeds
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
        found += [*audit_claims(document), *audit_wins(document)]
        found += audit_runs(document)
    return blocking_first([*found, *audit_across(documents, tables)]), tuple(notes)


# --- Claims, in words ---

_METRICS = ("val_loss", "val_bits_per_byte", "val_perplexity", "val_accuracy")
LEAST_CHOICE = 4
"""The best of fewer arms flatters itself by less than the noise of one run."""


@dataclass(frozen=True)
class Phrase:
    """One entry of phrases.toml."""

    audit: str
    severity: str
    message: str
    remedy: str
    pattern: re.Pattern[str]
    conditions: dict[str, re.Pattern[str]]

    def found(self, sentence: str) -> str | None:
        """What is said, where the sentence says it without a condition that takes it back."""
        match = self.pattern.search(sentence)
        if match is None:
            return None
        needs, unless = self.conditions.get("with"), self.conditions.get("unless")
        before, after = self.conditions.get("unless_before"), self.conditions.get("unless_after")
        if (needs and not needs.search(sentence)) or (unless and unless.search(sentence)):
            return None
        if (before and before.search(sentence[: match.start()])) or (after and after.match(sentence[match.end() :])):
            return None
        return match.group()

    def applies(self, text: str) -> bool:
        needs, unless = self.conditions.get("document"), self.conditions.get("unless_document")
        return (needs is None or bool(needs.search(text))) and (unless is None or not unless.search(text))


def _phrase(entry: dict[str, Any]) -> Phrase:
    kept = {name: entry.pop(name) for name in ("audit", "severity", "message", "remedy")}
    for piece, meant in _FILE["pieces"].items():
        entry["pattern"] = entry["pattern"].replace(f"{{{piece}}}", meant)
    looks = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in entry.items()}
    return Phrase(**kept, pattern=looks.pop("pattern"), conditions=looks)


_FILE = tomllib.loads(Path(__file__).with_name("phrases.toml").read_text(encoding="utf-8"))
PHRASES = tuple(_phrase(dict(entry)) for entry in _FILE["phrase"])
WORDS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _FILE["words"].items()}


def audit_claims(document: Document) -> list[Audit]:
    """Every finding in the words of a report; none for a page that has no number of a run."""
    if not document.results:
        return []
    said = list(audit_phrases(document))
    found = [finding for look in CLAIM_AUDITS.values() for finding in look(document)]
    if not any(one.audit == "selection" for one in said):
        found += selection(document, is_general=any(one.audit == "transfer" for one in said))
    return [*found, *(one for i, one in enumerate(said) if one.audit not in {before.audit for before in said[:i]})]


def audit_phrases(document: Document) -> Iterator[Audit]:
    """One finding for all lines that say a thing."""
    for phrase in PHRASES:
        if not phrase.pattern.search(document.said) or not phrase.applies(document.text):
            continue
        lines = document.claims_and_rows
        found = [(line, said) for line in lines for one in line.sentences if (said := phrase.found(one))]
        if found:
            places = words.listing([str(line) for line in sorted({line.number for line, _ in found})], most=3)
            message = phrase.message.replace("{said}", found[0][1].strip())
            make = block if phrase.severity == "block" else warn
            yield make(phrase.audit, f"{document.name}:{places}: {message}", phrase.remedy)


def _compared(document: Document) -> list[tuple[str, list[Result]]]:
    """Tables and lists of arms or rates of one kind of run, each with its validation metric, best first."""
    found = []
    for listed in document.blocks:
        kind = next((name for name in _METRICS if sum(name in row.numbers for row in listed.ends) >= 2), "")
        rows = [row for row in listed.ends if kind in row.numbers]
        sign = -1 if kind == "val_accuracy" else 1
        if listed.varies in ("arm", "rate") and len({row.subject for row in rows}) >= 2:
            found.append((kind, sorted(rows, key=lambda row: sign * row.numbers[kind].value)))
    return found


def _claiming(document: Document, look: re.Pattern[str]) -> list[Line]:
    return [
        line
        for line in document.claims
        for one in line.sentences
        if look.search(one) and not WORDS["hedged"].search(one)
    ]


def seeds(document: Document) -> list[Audit]:
    """Arms compared, and one called better, on fewer seeds than tell anything from chance."""
    compared, count = _compared(document), num_seeds(document)
    if count >= LEAST_BLOCKS or not compared or not _claiming(document, WORDS["better"]):
        return []
    one = next(
        (
            m
            for line in document.lines
            for m in (NAMED_SEED.search(line.text), WORDS["one_seed"].search(line.text))
            if m
        ),
        None,
    )
    if count > 1:
        what = f"every number is from {count} seeds at most"
    elif one:
        what = f"every number is from one seed ({one.group()})"
    else:
        what = "nothing is said of seeds, and each configuration has one number"
    message = f"{document.name}: {what}; with fewer than {LEAST_BLOCKS} no difference can be told from chance"
    is_close = any(_gap(kind, rows[0].numbers[kind], rows[1].numbers[kind]) <= DRIFT_NATS for kind, rows in compared)
    make = block if is_close or one or count > 1 else warn
    return [make("seeds", message, f"run every configuration on at least {LEAST_BLOCKS} seeds, and print how many")]


def _gap(kind: str, best: Number, other: Number) -> float:
    """Between the best two, on the scale of a loss in nats."""
    apart = abs(other.value - best.value)
    if kind == "val_perplexity":
        return apart / max(best.value, 1.0)
    return apart * (2.6 if kind == "val_accuracy" else 1.0)


def selection(document: Document, *, is_general: bool = False) -> list[Audit]:
    """The set that chose is the set that reports, in a report that knows of a test set or claims more than it ran.

    Where a benchmark's validation set is its test, nothing is said: only that the best of many is reported as it was
    chosen (`curse`).
    """
    texts = [line.text for line in document.lines] + [" ".join(row) for table in document.tables for row in table.rows]
    is_tested = any(kind.startswith("test_") for row in document.results for kind in row.numbers)
    is_tested |= any(WORDS["tested"].search(text) for text in texts)
    chosen, compared = _claiming(document, WORDS["chosen"]), _compared(document)
    if is_tested or not chosen or not compared:
        return []
    places = words.listing([str(n) for n in sorted({line.number for line in chosen})], most=3)
    if is_general or any(WORDS["test_set"].search(text) for text in texts):
        message = "a best is claimed on the validation set that chose it; there is no number of a test set"
        remedy = "print the winner's loss on a test set that chose nothing"
        return [block("selection", f"{document.name}:{places}: {message}", remedy)]
    most = max(len(rows) for _, rows in compared)
    is_named = any(
        rows[0].numbers[kind].text in line.text or rows[0].subject in line.text
        for line in chosen
        for kind, rows in compared
        if len(rows) == most
    )
    if most < LEAST_CHOICE or not is_named or any(WORDS["confirmed"].search(text) for text in texts):
        return []
    message = f"the best of {most} is reported from the runs that chose it, so it flatters itself"
    return [warn("curse", f"{document.name}:{places}: {message}", "run it again on fresh seeds and print both numbers")]


def clock(document: Document) -> list[Audit]:
    """Times that are compared and were printed too coarsely for it."""
    timed = [
        row for row in document.results if "train_seconds" in row.numbers and row.numbers["train_seconds"].value > 0
    ]
    times = [row.numbers["train_seconds"] for row in timed]
    if (
        len(times) < 2
        or any(time.half <= CLOCK * time.value for time in times)
        or not _claiming(document, WORDS["of_time"])
    ):
        return []
    message = (
        f"times are printed as {times[0].text}, exact to {times[0].half / times[0].value:.0%}; they cannot be compared"
    )
    remedy = f"print times to {CLOCK:.0%} or better, or do not compare them"
    return [warn("clock", f"{document.place(timed[0].line)}: {message}", remedy)]


CLAIM_AUDITS: dict[str, Callable[[Document], list[Audit]]] = {"seeds": seeds, "clock": clock}


# --- Tables and lists, as runs ---


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

    Seeds are left out: what a report says of them in words counts too (`seeds`).
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


# --- Reports with each other, and with tables of runs ---


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
