"""How runs ended, by what a table says of them: its words for it, a missing metric, and a loop's decisions."""

import math
import re
from dataclasses import replace
from typing import Literal

from blueberry.errors import TableError
from blueberry.records import is_number
from blueberry.tables.columns import folded, is_loss
from blueberry.tables.rows import Row, Table

Ending = Literal["completed", "diverged", "crashed", "unfinished"]

ENDINGS: dict[str, Ending] = {
    **dict.fromkeys(
        ("completed", "complete", "finished", "success", "succeeded", "successful", "ok", "done", "true", "yes", "1",
         "keep", "kept", "discard", "discarded"),
        "completed",
    ),
    **dict.fromkeys(("diverged", "nan", "unstable", "exploded", "non_finite", "loss_is_nan"), "diverged"),
    **dict.fromkeys(
        ("crashed", "crash", "failed", "failure", "fail", "error", "killed", "oom", "timeout", "false", "no", "0"),
        "crashed",
    ),
    **dict.fromkeys(
        ("running", "pending", "queued", "scheduled", "preempted", "unfinished", "interrupted", "pruned", "stopped"),
        "unfinished",
    ),
}  # fmt: skip
"""What a status column may say, and what it means here."""
_SPREAD = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?%?\s*(\u00b1|\+/?-|\(\s*(\u00b1|std|sd)?)\s*[\d.]+.*", re.IGNORECASE)
LARGEST = 1e12
"""Of a metric: beyond any perplexity, and far from where squares overflow."""


def decisions_as_endings(table: Table, metric: str, notes: list[str]) -> Table:
    """A loop's table says what became of each change. Other words than keep and discard are decisions too, and a loss
    of exactly 0 is how such loops write that there is none."""
    if not table.is_of_a_loop:
        return table
    notes.append(f"{table.name}: the table of a loop; blueberry judge says which of the changes that it kept stand")
    rows: list[Row] = []
    words: dict[str, None] = {}
    num_zero = 0
    for row in table.rows:
        values, status = dict(row.values), row.values.get("status")
        if status is not None and folded(str(status)) not in ENDINGS:
            words[str(status)] = None
            values["status"] = None
        if is_loss(metric) and values.get(metric) == 0:
            num_zero += status is not None and ENDINGS.get(folded(str(status))) != "crashed"
            values[metric] = None
        rows.append(replace(row, values=values))
    if words:
        shown = ", ".join(f"{word:.30}" for word in [*words][:5])
        notes.append(f"{table.name}: status {shown}: a decision like keep and discard, of a run that ended")
    if num_zero:
        notes.append(f"{table.name}: {num_zero} with a {metric} of exactly 0 are taken to have crashed")
    return replace(table, rows=tuple(rows))


def has_not_completed(row: Row) -> bool:
    """By its status. Such a run has no number to be paired, and may have ended before it said its seed."""
    return _ending(row) not in (None, "completed")


def measured_ending(row: Row, metric: str) -> Ending:
    """How the run ended. One that says it completed, without a number, has crashed."""
    given = row.values.get(metric)
    if isinstance(given, str) and (in_its_place := ENDINGS.get(folded(given), "completed")) != "completed":
        return in_its_place
    if given is not None and not is_number(given):
        shown = f"{given!r:.80}"
        rule, remedy = "the metric is a number, or empty if there is none", "mend"
        if isinstance(given, str) and _SPREAD.fullmatch(given.strip()):
            rule = "a mean with its spread over runs; runs are judged, a row each"
            remedy = "give the runs, or the means without spreads and --sigma"
        raise TableError(f'{row.place} "{metric}": {shown}; {rule}; {remedy}')
    if given is not None and math.isfinite(given) and abs(given) > LARGEST:
        raise TableError(
            f'{row.place} "{metric}": {given!r:.80}; no metric is so large; a run that diverged has no number, or a '
            "status that says so; mend"
        )
    ending = _ending(row)
    if ending in ("crashed", "unfinished"):
        return ending
    if ending == "diverged" or (given is not None and not math.isfinite(given)):
        return "diverged"
    return "crashed" if given is None else "completed"


def _ending(row: Row) -> Ending | None:
    """What the status column says; None where it says nothing."""
    given = row.values.get("status")
    if given is None:
        return None
    said = folded(str(given))
    if said not in ENDINGS:
        known = ", ".join(dict.fromkeys(ENDINGS.values()))
        raise TableError(f'{row.place} "status": {given!r:.80}; no known ending of a run; write one of {known}')
    return ENDINGS[said]
