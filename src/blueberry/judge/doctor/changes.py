"""What a report says has changed: "A → B (+N%)", columns of improvements, lists that go from stage to stage."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from blueberry.judge.doctor.document import Document, Line, Record, in_unit, is_measured, is_total
from blueberry.judge.doctor.printed import NUMBER, Number, measured_in, number, numbers, plain, quantity
from blueberry.tables.markdown import MarkdownTable

_ARROW = re.compile(rf"(?P<a>{NUMBER}\s*%?)\s*(?:→|-+>|=>)\s*(?P<b>{NUMBER}\s*%?)")
_FROM_TO = re.compile(rf"\bfrom\s+(?P<a>{NUMBER}\s*%?)\s+to\s+(?P<b>{NUMBER}\s*%?)", re.IGNORECASE)
_NOW_WAS = re.compile(rf"(?P<b>{NUMBER}\s*%?)[^()→]*\((?:was|previously|formerly)\s+(?P<a>{NUMBER}\s*%?)\)")
_VERSUS = re.compile(rf"\((?P<b>{NUMBER}\s*%?)\s+vs\.?\s+(?P<a>{NUMBER}\s*%?)\)")
_FACTOR = re.compile(r"(?P<factor>\d+(?:\.\d+)?)\s?[x\u00d7](?![\w])")
_STAGE = re.compile(r"\b(phase|stage|round|part|study|step)\b", re.IGNORECASE)
_TOTAL_BEFORE = re.compile(rf"(?P<percent>{NUMBER}\s*%)\s+(?:total|cumulative|overall)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Change:
    """Something went from one number to another, and by how much that is said to be."""

    what: str
    """The quantity if it is measured, else the setting's label."""
    is_measured: bool
    a: Number
    b: Number
    percents: tuple[Number, ...]
    factors: tuple[Number, ...]
    line: int
    headings: tuple[str, ...] = ()

    @property
    def is_of_a_stage(self) -> bool:
        return any(_STAGE.search(name) for name in self.headings)


@dataclass(frozen=True)
class Chain:
    """A quantity from stage to stage: a table's columns or the lines of a list."""

    what: str
    stages: tuple[tuple[str, Number], ...]
    stated: tuple[tuple[int, Number, int], ...]
    """Stage's place, the percentage said of it, line."""
    line: int


@dataclass(frozen=True)
class Total:
    """A percentage that is said to be the whole of several changes."""

    what: str
    percent: Number
    line: int


def changes(document: Document) -> list[Change]:
    found = [change for line in document.lines for change in _of_line(line)]
    return found + [change for table in document.tables for change in _of_table(table)]


def _of_line(line: Line) -> Iterator[Change]:
    found = [match for look in (_ARROW, _FROM_TO, _NOW_WAS, _VERSUS) for match in look.finditer(line.text)]
    matches = sorted(found, key=lambda match: match.start())
    for place, match in enumerate(matches):
        a, b = number(match["a"]), number(match["b"])
        if a is None or b is None:
            continue
        after = line.text[match.end() : matches[place + 1].start() if place + 1 < len(matches) else None]
        before = line.text[matches[place - 1].end() if place else 0 : match.start()]
        what = measured_in(before) or measured_in(line.text.partition(":")[0]) or measured_in(after)
        said = [one for one in numbers(after) if one.is_percent] or [one for one in numbers(before) if one.is_percent]
        factors = [value for one in _FACTOR.finditer(after) if (value := number(one["factor"]))]
        if what is not None:
            a, b = in_unit(a, what, match["a"]), in_unit(b, what, match["b"])
        label = what or _setting(line, before)
        yield Change(label, what is not None, a, b, tuple(said[:1]), tuple(factors), line.number, line.headings)


_VAGUE = frozenset(
    [
        "ratio",
        "duration",
        "fraction",
        "steps",
        "step",
        "length",
        "of",
        "the",
        "optimal",
        "size",
        "base",
        "value",
        "longer",
        "shorter",
        "lower",
        "higher",
        "new",
    ]
)


def _setting(line: Line, before: str) -> str:
    """What a change of a setting is about, so that "Warmup Duration" and "warmup_ratio" are one."""
    label = line.text.partition(":")[0] if ":" in line.text else before
    if re.fullmatch(r"\W*(key )?(finding|result|change|note)s?\W*", label.lower()):
        label = line.heading
    words = re.sub(r"[^a-z ]", " ", re.sub(r"[_\-]", " ", label.lower())).split()
    return " ".join([word for word in words if word not in _VAGUE][:3])


def _of_table(table: MarkdownTable) -> Iterator[Change]:
    """A row a quantity, a column of changes: from the first configuration to the last."""
    header = [plain(cell) for cell in table.header]
    stated = [at for at, head in enumerate(header) if at and _is_of_changes(head)]
    columns = [at for at in range(1, len(header)) if at not in stated]
    if not stated or len(columns) < 2:
        return
    for offset, row in enumerate(table.rows, 2):
        what = quantity(plain(row[0]))
        a, b = number(plain(row[columns[0]])), number(plain(row[columns[-1]]))
        if not is_measured(what) or what is None or a is None or b is None:
            continue
        said = [one for at in stated for one in numbers(plain(row[at])) if one.is_percent]
        factors = [
            value for at in stated for one in _FACTOR.finditer(plain(row[at])) if (value := number(one["factor"]))
        ]
        a, b = in_unit(a, what, plain(row[columns[0]])), in_unit(b, what, plain(row[columns[-1]]))
        yield Change(what, True, a, b, tuple(said), tuple(factors), table.line + offset)


def _is_of_changes(head: str) -> bool:
    return quantity(head) == "change" or is_total(head)


def chains(document: Document) -> list[Chain]:
    """Quantities over three stages or more, and over two where a percentage is said of the second."""
    found = [chain for table in document.tables for chain in _chains_of_table(document, table)]
    blocks: dict[tuple[int, str], list[Record]] = {}
    for record in document.ends:
        if record.block >= len(document.tables) and len(record.numbers) == 1:
            blocks.setdefault((record.block, next(iter(record.numbers))), []).append(record)
    text = {line.number: line.text for line in document.lines}
    for (_, what), records in blocks.items():
        stated = [
            (place, said, record.line)
            for place, record in enumerate(records)
            for said in numbers(text[record.line].partition(":")[2])[1:2]
            if said.is_percent and place
        ]
        if len(records) >= 2 and stated:
            stages = tuple((record.subject, record.numbers[what]) for record in records)
            found.append(Chain(what, stages, tuple(stated), records[0].line))
    return found


def _chains_of_table(document: Document, table: MarkdownTable) -> Iterator[Chain]:
    """Columns that follow on each other: "Baseline | After A | After B"."""
    columns = [record for record in document.ends if record.line == table.line]
    follow = [
        record for record in columns[1:] if re.search(r"\bafter\b|\+|\bthen\b|stage|phase", record.subject.lower())
    ]
    if len(columns) < 3 or len(follow) < 2:
        return
    for what in columns[0].numbers:
        if all(what in record.numbers for record in columns):
            yield Chain(what, tuple((record.subject, record.numbers[what]) for record in columns), (), table.line)


def totals(document: Document) -> list[Total]:
    """Percentages said to be a total, with the quantity they are of."""
    found = []
    for line in document.lines:
        stated = _TOTAL_BEFORE.search(line.text)
        label, colon, rest = line.text.partition(":")
        percent = number(stated["percent"]) if stated else None
        if percent is None and colon and is_total(label):
            percent = next((one for one in numbers(rest) if one.is_percent), None)
        what = measured_in(line.text[stated.start() :] if stated else rest) or measured_in(line.heading)
        if percent is not None and what is not None:
            found.append(Total(what, percent, line.number))
    for table in document.tables:
        columns = [at for at, head in enumerate(table.header) if at and is_total(plain(head))]
        for offset, row in enumerate(table.rows, 2):
            for at in columns:
                what, said = quantity(plain(row[0])), [one for one in numbers(plain(row[at])) if one.is_percent]
                if what is not None and is_measured(what) and said:
                    found.append(Total(what, said[0], table.line + offset))
    return found
