"""Written reports, one by one and against each other and against the data beside them."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from blueberry.judge.doctor.arithmetic import arithmetic
from blueberry.judge.doctor.changes import Change, changes
from blueberry.judge.doctor.claims import audit_claims
from blueberry.judge.doctor.document import Document, Record
from blueberry.judge.doctor.findings import block, blocking_first, words_of
from blueberry.judge.doctor.limits import DRIFT_NATS
from blueberry.judge.doctor.measurements import audit_records, trivial_accuracies
from blueberry.judge.judgement import Audit

_BASELINE = re.compile(r"\b(baseline|default|control|original|current main)\b", re.IGNORECASE)
_FAMILIES = (
    ("moe", r"\bmoe\b|mixture[ -]of[ -]experts"),
    ("deepseek", r"\bdeepseek\b|latent attention"),
    ("dense", r"\bdense\b"),
)


def audit_reports(documents: Sequence[Document]) -> tuple[Audit, ...]:
    """Every finding, blocking ones first; none for reports whose claims their own numbers bear out."""
    rates = baseline_rates(documents)
    trivial = [level for document in documents for level in trivial_accuracies(document)]
    found: list[Audit] = []
    for document in documents:
        found += arithmetic(document, rates)
        found += audit_claims(document)
        found += audit_records(document, trivial)
        found += _inner_drift(document)
    return blocking_first([*found, *_drift(documents), *_reversed(documents)])


def baseline_rates(documents: Iterable[Document]) -> list[float]:
    """Learning rates that a report calls the baseline."""
    named = (record for document in documents for record in document.ends if _BASELINE.search(record.subject))
    return list(dict.fromkeys(record.rate for record in named if record.rate is not None))


def families(document: Document) -> set[str]:
    """Kinds of models that a report names."""
    return {name for name, look in _FAMILIES if re.search(look, document.text, re.IGNORECASE)}


def _inner_drift(document: Document) -> list[Audit]:
    """One rate with two numbers in one report, but for those of several seeds."""
    seen: dict[tuple[float, str], Record] = {}
    for record in _of_one_seed(document):
        for kind, stated in record.numbers.items():
            if not kind.startswith(("val_", "test_")) or record.rate is None:
                continue
            earlier = seen.setdefault((record.rate, kind), record)
            other = earlier.numbers[kind]
            if abs(other.value - stated.value) > other.half + stated.half + 1e-9:
                message = (
                    f"{document.place(record.line)}: learning rate {record.rate:g} has {words_of(kind)} {stated.text}, "
                    f"and {other.text} at line {earlier.line}"
                )
                return [block("drift", message, "say what differs between the two, or print one number")]
    return []


def _of_one_seed(document: Document) -> list[Record]:
    """Records of a rate that is the only one of its table or list with that rate."""
    counted = Counter((record.block, record.rate) for record in document.ends)
    return [r for r in document.ends if r.rate is not None and counted[r.block, r.rate] == 1]


def _drift(documents: Sequence[Document]) -> list[Audit]:
    """One rate of one kind of model with different losses in two reports."""
    found = []
    for place, first in enumerate(documents):
        for second in documents[place + 1 :]:
            if families(first) != families(second):
                continue
            pairs = [
                (one, other)
                for one in first.ends
                for other in second.ends
                if one.rate is not None
                and one.rate == other.rate
                and {"val_loss"} <= one.numbers.keys() & other.numbers.keys()
            ]
            apart = [(abs(a.numbers["val_loss"].value - b.numbers["val_loss"].value), a, b) for a, b in pairs]
            far = [row for row in apart if row[0] > DRIFT_NATS]
            rates = dict.fromkeys(a.rate for _, a, _ in far)
            said = []
            for rate in rates:
                _, a, b = next(row for row in far if row[1].rate == rate)
                said.append(f"{rate:g} ends at {a.numbers['val_loss'].text} and at {b.numbers['val_loss'].text}")
            if said:
                message = f"{first.name} and {second.name}: learning rate {'; '.join(said[:3])}"
                remedy = "say what else differs between the two; until then neither number is of that rate alone"
                found.append(block("drift", message, remedy))
    return found


def _reversed(documents: Sequence[Document]) -> list[Audit]:
    """A setting that one report moves one way and another back."""
    found = []
    moves: dict[str, list[tuple[Document, Change]]] = {}
    for document in documents:
        for change in changes(document):
            if not change.is_measured and change.what and change.a.value != change.b.value:
                moves.setdefault(change.what, []).append((document, change))
    for what, made in moves.items():
        for place, (document, change) in enumerate(made):
            back = next(
                (
                    (other, one)
                    for other, one in made[place + 1 :]
                    if other is not document and (one.b.value - one.a.value) * (change.b.value - change.a.value) < 0
                ),
                None,
            )
            if back is not None:
                message = (
                    f"{document.place(change.line)} moves {what} {change.a.text} -> {change.b.text}, and "
                    f"{back[0].place(back[1].line)} {back[1].a.text} -> {back[1].b.text}; both call it an improvement"
                )
                found.append(block("drift", message, "run both against each other on the same seeds"))
                break
    return found
