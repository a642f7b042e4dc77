"""A written report, read: which configuration is said to have which number, and where."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from blueberry.judge.doctor.printed import NUMBER, Number, mended, number, numbers, plain, quantity, seconds_in
from blueberry.tables.markdown import MarkdownTable, read_tables

MEASURED = ("loss", "accuracy", "perplexity", "seconds")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+(.*?)\s*#*$")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s+(.*)")
_ASKS = re.compile(r"(?:[^.!]|[.!](?=\S))*\?")
"""One sentence, and it is a question."""
_OPENING = re.compile(r"[\s>]*(?:\*\*|__)(.+?)(?:\*\*|__)\s*\S")
_FENCE = re.compile(r"\s{0,3}(?:`{3,}|~{3,})")
_LABELLED = re.compile(rf"(?P<label>[A-Za-z][\w .()/%-]{{0,60}}?)\s*[:=]\s*(?P<value>[~<>≈]?\s*{NUMBER}\s*%?)")
_NOUN_AFTER = re.compile(
    rf"(?P<value>{NUMBER}\s*%?)\s+(?P<label>(?:(?:val(?:idation)?|train(?:ing)?|test)\s+)?"
    r"(?:loss|accuracy|perplexity))\b(?!\s+(?:improve|reduc|gain|increase|decrease))",
    re.IGNORECASE,
)
_NOUN_BEFORE = re.compile(
    r"\b(?P<label>(?:(?:val(?:idation)?|train(?:ing)?|test)\s+)?(?:loss|accuracy|perplexity))(?:\s+(?:of|is|was))?\s+"
    rf"(?P<value>{NUMBER}\s*%?)"
    r"(?!\s*%?\s*(?:x\b|times|points?|(?:nats\s+)?(?:better|worse|low|high|less|more|improve|reduc|gain|increase|decrease)))",
    re.IGNORECASE,
)
_PLANS = re.compile(
    r"next step|future|limitation|caveat|outlook|open question|to ?do\b|not sho(?:w|wn)\b|unknown", re.IGNORECASE
)
_AT_A_STEP = re.compile(r"^\W*(?:step|update|epoch|iteration)\s+\d", re.IGNORECASE)
_RATE = re.compile(rf"(?:\blr\b|learning[ _]rate)\s*[=:]?\s*({NUMBER})", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    number: int
    """From 1."""
    text: str
    """Plain, without list mark."""
    headings: tuple[str, ...]
    """Above it, outermost first."""
    is_code: bool = False
    is_item: bool = False
    is_heading: bool = False
    opening: str = ""
    """Bold words that it begins with: a heading of its own."""

    @property
    def heading(self) -> str:
        return self.headings[-1] if self.headings else ""


@dataclass(frozen=True)
class Record:
    """One configuration and numbers said of it."""

    subject: str
    numbers: dict[str, Number]
    """By quantity."""
    line: int
    block: int
    """Records of one table or list have one."""
    rate: float | None = None
    """Its learning rate, where that is what tells it from the others."""
    is_on_the_way: bool = False
    """Measured before the end of the run."""
    cells: dict[str, str] = field(default_factory=dict)
    """A table row's further cells, by their header."""


@dataclass(frozen=True)
class Document:
    """A report and the name it is cited by."""

    name: str
    text: str
    """Mended."""

    @classmethod
    def read(cls, name: str, text: str) -> "Document":
        return cls(name, mended(text))

    @cached_property
    def tables(self) -> list[MarkdownTable]:
        return read_tables(self.text)

    @cached_property
    def lines(self) -> list[Line]:
        """Headings, items, code and prose; not tables."""
        return list(_lines(self.text, self.tables))

    @cached_property
    def records(self) -> list[Record]:
        """Of tables, then of lists and sentences."""
        found = [record for block, table in enumerate(self.tables) for record in table_records(table, block)]
        return found + list(_listed_records(self.lines, first_block=len(self.tables)))

    @cached_property
    def ends(self) -> list[Record]:
        """Records of finished runs; no means or totals of them."""
        return [one for one in self.records if not one.is_on_the_way and not is_statistic(one.subject)]

    @cached_property
    def claims(self) -> list[Line]:
        """Lines that claim something: no code, no question, and nothing under a heading of plans or of caveats."""
        kept = [line for line in self.lines if not line.is_code and not _ASKS.fullmatch(line.text)]
        return [line for line in kept if not any(_PLANS.search(name) for name in (*line.headings, line.opening))]

    def place(self, line: int) -> str:
        return f"{self.name}:{line}"


def table_records(table: MarkdownTable, block: int) -> Iterator[Record]:
    """Rows as records where columns are quantities; columns as records where rows are."""
    header = [plain(cell) for cell in table.header]
    kinds = [quantity(cell) for cell in header]
    if any(is_measured(kind) for kind in kinds[1:]):
        yield from _rows_as_records(table, header, kinds, block)
        return
    named = [quantity(plain(row[0])) for row in table.rows if row]
    if not any(is_measured(kind) for kind in named):
        return
    for column in range(1, len(header)):
        if kinds[column] == "change" or re.search(r"\btotal\b|improve", header[column], re.IGNORECASE):
            continue
        cells = [(kind, plain(row[column]), row) for kind, row in zip(named, table.rows, strict=True)]
        read = {kind: value for kind, cell, row in cells if kind and (value := _measurement(kind, cell, row[0]))}
        if read:
            yield Record(header[column], read, table.line, block, _rate_of(header[column]))


def _rows_as_records(table: MarkdownTable, header: list[str], kinds: list[str | None], block: int) -> Iterator[Record]:
    for offset, row in enumerate(table.rows, 2):
        cells = [plain(cell) for cell in row]
        read = {}
        for kind, cell, head in zip(kinds, cells, header, strict=True):
            if kind is not None and kind not in read and kind != "change":
                value = _measurement(kind, cell, head)
                if value is not None:
                    read[kind] = value
        rate = read.pop("rate", None)
        if any(is_measured(kind) for kind in read):
            others = {head: cell for head, cell, kind in zip(header, cells, kinds, strict=True) if kind is None}
            value = rate.value if rate is not None and not re.search(r"\d\s*\+", cells[0]) else _rate_of(cells[0])
            yield Record(cells[0], read, table.line + offset, block, value, cells=others)


def _measurement(kind: str, cell: str, label: str) -> Number | None:
    """The number of a cell in the quantity's unit; None for a bound or a cell without a number."""
    found = number(cell)
    if found is None or found.is_bound:
        return None
    return in_unit(found, kind, cell, label)


def in_unit(found: Number, kind: str, text: str, label: str = "") -> Number:
    """Accuracies as shares, times in seconds."""
    scale = 1.0
    if kind.endswith("accuracy") and not found.is_percent and ("%" in label or found.value > 1):
        scale = 0.01
    if kind == "seconds":
        scale = seconds_in(text) or seconds_in(f"({label.rpartition('(')[2]}") or 1.0
    if scale == 1.0:
        return found
    return Number(found.value * scale, found.half * scale, found.text, found.is_percent, found.is_about, end=found.end)


def is_measured(kind: str | None) -> bool:
    return kind is not None and kind.rpartition("_")[2] in MEASURED


def _rate_of(subject: str) -> float | None:
    """The learning rate that a subject names, or begins with where it is nothing but a number."""
    named = _RATE.search(subject)
    if named:
        return float(named[1].replace(",", ""))
    alone = re.match(rf"\W*({NUMBER})(?:\s*\({NUMBER}\))?\s*(?:$|[-\u2013(])", subject)
    return float(alone[1].replace(",", "")) if alone else None


def _lines(text: str, tables: list[MarkdownTable]) -> Iterator[Line]:
    in_table = {table.line + offset for table in tables for offset in range(len(table.rows) + 2)}
    headings: list[tuple[int, str]] = []
    is_code = False
    for count, raw in enumerate(text.splitlines(), 1):
        if _FENCE.match(raw):
            is_code = not is_code
            continue
        if count in in_table or not raw.strip():
            continue
        named = None if is_code else _HEADING.match(raw)
        if named:
            level = len(raw.lstrip()) - len(raw.lstrip().lstrip("#"))
            headings = [*((depth, name) for depth, name in headings if depth < level), (level, plain(named[1]))]
        above = tuple(name for _, name in headings)
        item = None if is_code else _ITEM.match(raw)
        given = named[1] if named else item[1] if item else raw
        opening = None if is_code else _OPENING.match(given)
        bold = plain(opening[1]) if opening else ""
        yield Line(count, plain(given), above, is_code, item is not None, named is not None, bold)


def _listed_records(lines: list[Line], first_block: int) -> Iterator[Record]:
    """Numbers in lists and sentences, gathered under the heading or the label that they follow."""
    subject, block = "", first_block
    gathered: dict[str, Number] = {}
    began = 0
    for line in [*lines, Line(0, "", (), is_heading=True)]:
        opens = line.is_heading or (line.text.endswith(":") and not line.is_item)
        read = {} if opens else _labelled(line)
        ends = opens or bool(gathered.keys() & read.keys())
        if ends and gathered:
            yield Record(subject, gathered, began, block, _rate_of(subject))
            gathered = {}
        if opens:
            subject, block = line.text.rstrip(":"), block + 1
            continue
        own = _own_subject(line, subject)
        if own is not None and read:
            yield Record(own, read, line.number, block, _rate_of(own), bool(_AT_A_STEP.match(own)))
        elif read:
            began = began if gathered else line.number
            gathered |= read


def _own_subject(line: Line, above: str) -> str | None:
    """The configuration that a line names itself, e.g. "Step 10" in "Step 10: loss 3.2"; None: the one above it."""
    label, colon, rest = line.text.partition(":")
    if not colon or not rest.strip() or is_measured(quantity(label)):
        return None
    if _AT_A_STEP.match(label) or _rate_of(label) is not None or is_measured(quantity(line.heading)):
        return label.strip()
    return label.strip() if _rate_of(above) is None and _NOUN_AFTER.search(rest) else None


def _labelled(line: Line) -> dict[str, Number]:
    """Quantity to number in one line. Lines with an arrow are changes and say no single number."""
    if re.search(r"→|->|=>|\bfrom\b.*\bto\b|\bvs\b", line.text):
        return {}
    read: dict[str, Number] = {}
    pairs = [found for look in (_LABELLED, _NOUN_AFTER, _NOUN_BEFORE) for found in look.finditer(line.text)]
    for pair in pairs:
        label = re.split(r"[,;(]", pair["label"])[-1]
        kind, value = quantity(label), number(pair["value"])
        if kind is None or not is_measured(kind) or value is None or value.is_bound or is_statistic(label):
            continue
        rest = line.text[pair.start() : pair.end() + 12]
        read.setdefault(kind, in_unit(value, kind, rest[rest.find(value.text) :], label))
    kind = quantity(line.heading)
    if not read and kind and is_measured(kind) and ":" in line.text:
        label, _, rest = line.text.partition(":")
        value = number(rest)
        if not is_measured(quantity(label)) and value is not None and not value.is_bound and not is_total(label):
            first = numbers(rest)[0]
            return {} if _only_a_change(rest) else {kind: in_unit(first, kind, rest)}
    return read


def _only_a_change(rest: str) -> bool:
    return bool(re.match(r"\s*[-+]?[\d.]+\s*%\s*(reduc|increase|improve|gain|decrease|lower|higher)", rest.lower()))


def is_statistic(label: str) -> bool:
    """Whether a label names a number made from several others."""
    return bool(re.search(r"\b(mean|median|average|avg|total|sum|initial|min|max|std|sd)\b", label.lower()))


def is_total(label: str) -> bool:
    return bool(re.search(r"\b(total|overall|cumulative|combined)\b", label.lower()))
