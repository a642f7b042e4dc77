"""What trainers print while they train: lines of a step and a loss, as the logs of nanoGPT and its kin have them."""

import re
from collections.abc import Iterator
from typing import Any

from blueberry.tables.columns import folded, kind_by_name
from blueberry.tables.rows import Placed, value_of

LOGS = (".log", ".txt")
LEAST_LINES = 2
"""Of a step with a loss, for text to be a log."""
LONGEST_LINE = 1_000
_STEP = re.compile(r"\b(step|iter|iteration|update|epoch)s?\b[ :=#\[]{0,3}(\d{1,9})\b", re.IGNORECASE)
_PAIR = re.compile(
    r"\b((?:(?:train|val|valid|validation|eval|test)[ _/]?)?(?:loss|nll|bpb|ppl|perplexity|acc|accuracy))\b"
    r"[ :=]{1,3}(\d+\.\d+(?:e[-+]?\d+)?|\d+(?![\w.])|nan|inf)\b",
    re.IGNORECASE,
)


def read_log(text: str) -> list[Placed]:
    """A row for each line that says a step and something measured there; none where fewer than LEAST_LINES do.

    "step 250: train loss 1.96, val loss 2.01" of nanoGPT and "step:250/5960 val_loss:3.87" of its speedruns are such.
    """
    rows = list(_rows(text))
    return rows if len(rows) >= LEAST_LINES else []


def _rows(text: str) -> Iterator[Placed]:
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > LONGEST_LINE or not (steps := _STEP.findall(line)):
            continue
        found = {folded(name): value_of(value) for name, value in _PAIR.findall(line)}
        if any(kind_by_name(name) == "result" for name in found):
            at: dict[str, Any] = {word.casefold(): int(count) for word, count in steps}
            yield f"line {number}", at | found
