"""Totals of amounts that add up: a total row against its column, a stated total against a column of that name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from blueberry.judge.doctor.document import Document, Line, in_unit, is_statistic
from blueberry.judge.doctor.facts import num_seeds
from blueberry.judge.doctor.findings import contradicted, doubted
from blueberry.judge.doctor.printed import NUMBER, Number, number, plain, quantity
from blueberry.judge.judgement import Audit
from blueberry.tables.markdown import MarkdownTable

LEAST_PARTS = 2
_ADDS_UP = re.compile(
    r"\b(?:time|duration|(?:second|minute|hour|token|update|step|run|flop|cost|byte|example|sample|sequence|document|"
    r"parameter)s?)\b",
    re.IGNORECASE,
)
_DOES_NOT = re.compile(
    r"\b(?:per|each|every|rate|ratio|share|mean|average|avg|median|sd|std|min|max|best|size|length)\b|%|/",
    re.IGNORECASE,
)
_AMOUNTS = (None, "seconds", "updates", "seeds")  # as "runs" is read, of which there may be a total
_IS_TOTAL = re.compile(r"(?:(?:grand|overall|sub)[\s-]*)?(?:total|sum|altogether)\b", re.IGNORECASE)
_STATED = re.compile(r"total(?: number of)?(?: [a-z]+){0,2}? (?P<what>[a-z]+)", re.IGNORECASE)
_AMOUNT = re.compile(rf"\s*{NUMBER}\s*(?P<unit>[a-z]*)\s*\.?\s*$", re.IGNORECASE)
_SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12, "P": 1e15}


@dataclass(frozen=True)
class _Column:
    """A column of amounts, a number in every row."""

    what: str
    parts: tuple[Number, ...]
    """Of the rows that are no total and no statistic."""
    totals: tuple[tuple[Number, int], ...]
    """What total rows say, and on which line."""

    @property
    def total(self) -> float:
        return sum(part.value for part in self.parts)

    def allows(self, stated: Number, times: int = 1) -> bool:
        """Whether a total follows: the sum, so many times; or the last row's, where rows hold what was reached."""
        values, last = [part.value for part in self.parts], self.parts[-1]
        hidden = sum(part.half for part in self.parts)
        is_running = values == sorted(values) and stated.agrees(last.value, last.half)
        return is_running or stated.agrees(times * self.total, times * hidden)

    def against(self, stated: Number) -> str:
        return f"{self.what} of the {len(self.parts)} rows add up to {self.total:,.6g}, printed {stated.text}"


def sums(document: Document) -> list[Audit]:
    """A campaign's total time may hold more than its runs and is checked apart; a total row may not."""
    columns = [column for table in document.tables for column in _columns(table)]
    found = [
        contradicted(document.place(line), column.against(stated), "add the rows up")
        for column in columns
        for stated, line in column.totals
        if not column.allows(stated)
    ]
    return found + [finding for line in document.lines for finding in _stated(document, line, columns)]


def _stated(document: Document, line: Line, columns: Sequence[_Column]) -> list[Audit]:
    """ "Total tokens: 9000" is the sum of a column of tokens, or that on each of the seeds."""
    label, _, rest = line.text.partition(":")
    named, stated = _STATED.fullmatch(label.strip()), _amount(rest, label)
    if named is None or stated is None or _DOES_NOT.search(label) or quantity(label) == "seconds":
        return []
    meant = [column for column in columns if re.search(rf"\b{named['what']}\b", column.what, re.IGNORECASE)]
    if not meant or any(column.allows(stated, times) for column in meant for times in (1, num_seeds(document))):
        return []
    place, message = document.place(line.number), meant[0].against(stated)
    if stated.value < meant[0].total:
        return [contradicted(place, message, "add the rows up")]
    return [doubted(place, message, "add the rows up, or say what else is in the total")]


def _columns(table: MarkdownTable) -> list[_Column]:
    rows = [(table.line + offset, [plain(cell) for cell in row]) for offset, row in enumerate(table.rows, 2)]
    parts = [row for _, row in rows if not is_statistic(row[0]) and not _IS_TOTAL.match(row[0])]
    totals = [(line, row) for line, row in rows if _IS_TOTAL.match(row[0])]
    found = []
    for at, head in enumerate(map(plain, table.header)):
        is_amount = _ADDS_UP.search(head) and not _DOES_NOT.search(head) and quantity(head) in _AMOUNTS
        if at == 0 or not is_amount:
            continue
        amounts = [_amount(row[at], head) for row in parts]
        known = tuple(amount for amount in amounts if amount is not None)
        if len(known) == len(amounts) >= LEAST_PARTS:
            said = [(_amount(row[at], head), line) for line, row in totals if len(totals) == 1]  # else of groups
            found.append(_Column(head, known, tuple((one, line) for one, line in said if one is not None)))
    return found


def _amount(text: str, label: str) -> Number | None:
    """Times in seconds. None for percentages, bounds, words and units that are not known."""
    found, read = _AMOUNT.match(text), number(text)
    if found is None or read is None:
        return None
    if quantity(label) == "seconds":
        return in_unit(read, "seconds", text, label)
    scale = _SCALES.get(found["unit"].removesuffix("s").removesuffix("FLOP"))
    return None if scale is None else Number(read.value * scale, read.half * scale, read.text + found["unit"])
