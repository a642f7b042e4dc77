"""What `promote` and `ledger` say: decisions and entries to text and to JSON."""

from typing import Any

from blueberry.judge.ledger import Entry, Ledger
from blueberry.judge.promotion import Promotion, Refusal
from blueberry.promotions import Remeasured
from blueberry.report.ledger import entry_line, terminal, total_sentence


def decided(found: Promotion | Refusal) -> str:
    """A line for the entry, or one for each reason against it."""
    if isinstance(found, Refusal):
        return refused(found)
    return entry_line(found.entry) if found.is_new else f"the baseline already: {entry_line(found.entry)}"


def decided_dict(found: Promotion | Refusal) -> dict[str, Any]:
    if isinstance(found, Refusal):
        return {"promoted": False, "is_new": False, "reasons": list(found.reasons), "entry": None}
    entry = found.entry.model_dump(mode="json")
    return {"promoted": True, "is_new": found.is_new, "reasons": [], "entry": entry}


def remeasured(found: Remeasured) -> str:
    if isinstance(found.entry, Refusal):
        return refused(found.entry)
    assert found.entry.total is not None
    known = "" if found.is_new else "measured before: "
    return f"{known}{found.entry.line} #{found.entry.number}: {total_sentence(found.entry.total)}"


def remeasured_dict(found: Remeasured) -> dict[str, Any]:
    trained = found.judged.num_trained if found.judged is not None else 0
    if isinstance(found.entry, Refusal):
        return {
            "measured": False,
            "is_new": False,
            "reasons": list(found.entry.reasons),
            "entry": None,
            "trained": trained,
        }
    entry = found.entry.model_dump(mode="json")
    return {"measured": True, "is_new": found.is_new, "reasons": [], "entry": entry, "trained": trained}


def rolled_back(entry: Entry) -> str:
    return entry_line(entry)


def view(ledger: Ledger) -> str:
    return terminal(ledger)


def refused(found: Refusal) -> str:
    return "\n".join(f"refused: {reason}" for reason in found.reasons)


def exit_code(found: Entry | Promotion | Refusal) -> int:
    """1: the honest answer is no."""
    return 1 if isinstance(found, Refusal) else 0
