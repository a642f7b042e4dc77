"""A written report, read: its lines, its tables, and which configuration is said to have which number."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

from blueberry.proofread.arithmetic import NUMBER, Number, cell, in_unit, is_measured, number, quantity
from blueberry.tables.markdown import MarkdownTable, read_tables

LARGEST = 150_000
"""Characters of a report that are read; the report of a study has some ten thousand."""
MOST_LINES = 4_000
LONGEST_LINE = 4_000
MOST_ROWS = 300
"""Rows of one table or list that are compared."""
MOST_WRAPPED = 30
"""Lines of one paragraph that are read as one text."""
LEAST_PROSE_LOSS = 0.3
"""A smaller loss that is only mentioned in a sentence is a difference."""

_PLAIN = str.maketrans(
    {"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{NO-BREAK SPACE}": " ", "\N{MULTIPLICATION SIGN}": "x"}
)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_HEADING = re.compile(r" {0,3}(?P<level>#{1,6}) (?P<name>.*)")
_ITEM = re.compile(r" *(?:[-*+•]|\d{1,9}[.)]) (?P<text>.*)")
_OPENING = re.compile(r"[ >]*(?:\*\*|__)(?P<bold>[^*]{1,200}?)(?:\*\*|__) ?\S")
_NAMES = re.compile(r"[ >]*[^:.;,|=]{1,40}[:=]")
"""Begins with a label of its own."""
_FENCE = re.compile(r" {0,3}(?:`{3}|~{3})")
_MARKS = re.compile(r"\*\*|__|`|(?<!\w)\*|\*(?!\w)|\[(?=[^\]]{1,200}\]\()|(?<=\w)\]\([^()\s]{1,300}\)")
_SENTENCE = re.compile(r"(?<=[.;!?]) (?=[^a-z])")
_PLANS = re.compile(
    r"next step|future|limitation|caveat|outlook|open question|to ?do\b|not sho(?:w|wn)\b|unknown|related work|"
    r"threats|not (?:tried|tested|done)|install|usage|getting started|licen[cs]e|citation",
    re.IGNORECASE,
)
QUANTITY = (
    r"(?:(?:final|best|mean|average|lowest|highest|peak|median) )?"
    r"(?:(?:val(?:idation)?|eval|train(?:ing)?|test|held-out)[ _-])?"
    r"(?:loss|acc(?:uracy)?|perplexity|ppl|bpb)"
)
_A_CHANGE = (
    r"(?! ?(?:nats |points? |bpb )?(?:better|worse|lower|higher|low|high|less|more|fewer|improve|reduc|gain|increase|"
    r"decrease|drop|"
    r"below|above|over|under|delta|gap|penalty|difference|x\b|times|points?|std|sd|diff))"
)
_LABELLED = re.compile(
    rf"(?:^|[,;:|(] ?|\band )(?P<label>{QUANTITY}) ?[:=] ?(?P<value>[~≈]?{NUMBER} ?%?){_A_CHANGE}", re.IGNORECASE
)
_TIMED = re.compile(
    rf"^(?P<label>(?:total )?(?:training |train )?time) ?[:=] ?(?P<value>[~≈]?{NUMBER}) ?(?P<unit>[a-z]+)",
    re.IGNORECASE,
)
_NOUN_AFTER = re.compile(rf"(?P<value>{NUMBER} ?%?) (?P<label>{QUANTITY})\b{_A_CHANGE}", re.IGNORECASE)
_NOUN_BEFORE = re.compile(
    rf"\b(?P<label>{QUANTITY})(?:,| of| is| was)? (?P<value>{NUMBER} ?%?){_A_CHANGE}", re.IGNORECASE
)
_MAY_MEASURE = re.compile(r"loss|acc|perplexity|ppl|bpb|time", re.IGNORECASE)
_ARROW = re.compile(r"→|->|=>|\bfrom\b|\bvs\b|±")
_ON_THE_WAY = re.compile(r"\W*(?:step|update|epoch|iteration)s? ?\d", re.IGNORECASE)
_STATISTIC = re.compile(
    r"\b(?:mean|median|average|avg|total|sum|initial|min|max|std|sd|stdev|baseline range)\b", re.IGNORECASE
)
_RATE = re.compile(rf"(?:\blr\b|\blearning[ _]rate\b) ?[=:]? ?(?P<rate>{NUMBER})", re.IGNORECASE)
_RATE_ALONE = re.compile(rf"\W{{0,4}}(?P<rate>{NUMBER})(?: ?\({NUMBER}\))? ?(?:$|[-(] ?[A-Za-z])")


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

    @cached_property
    def sentences(self) -> list[str]:
        return _SENTENCE.split(self.text)


@dataclass(frozen=True)
class Result:
    """One configuration and numbers said of it."""

    subject: str
    numbers: dict[str, Number]
    """By quantity: val_loss, test_accuracy, train_seconds, updates, tokens ..."""
    line: int
    rate: float | None = None
    """Its learning rate, where that is what tells it from the others."""
    is_on_the_way: bool = False
    """Measured before the end of the run."""


@dataclass(frozen=True)
class Block:
    """The results of one table, or of the lists and sentences under one heading."""

    rows: tuple[Result, ...]
    heading: str
    varies: str
    """What tells its rows apart: arm, rate, seed, step, size or record (of a leaderboard)."""
    is_table: bool = False

    @property
    def ends(self) -> list[Result]:
        """Results of finished runs; no means or totals of them."""
        return [row for row in self.rows if not row.is_on_the_way and not is_statistic(row.subject)]


@dataclass(frozen=True)
class Document:
    """A report and the name it is cited by."""

    name: str
    text: str
    """Mended, blanks in a row as one, as far as it is read."""
    is_cut: bool = False

    @classmethod
    def read(cls, name: str, text: str) -> "Document":
        lines = _mended(text[:LARGEST]).splitlines()
        kept = (_with_single_blanks(line[:LONGEST_LINE]) for line in lines[:MOST_LINES])
        return cls(name, "\n".join(kept), len(text) > LARGEST or len(lines) > MOST_LINES)

    @cached_property
    def tables(self) -> list[MarkdownTable]:
        """With plain cells."""
        return [
            replace(
                table,
                header=tuple(map(plain, table.header)),
                rows=tuple(tuple(map(plain, row)) for row in table.rows[:MOST_ROWS]),
            )
            for table in read_tables(self.text)
        ]

    @cached_property
    def lines(self) -> list[Line]:
        """Headings, items, code and prose; not tables."""
        return list(_lines(self.text, read_tables(self.text)))

    @cached_property
    def claims(self) -> list[Line]:
        """Lines that claim something: no code, no question, and nothing under a heading of plans or of caveats."""
        said = [line for line in self.lines if not line.is_code and not line.text.endswith("?")]
        return [line for line in said if not any(_PLANS.search(name) for name in (*line.headings, line.opening))]

    @cached_property
    def claims_and_rows(self) -> list[Line]:
        """The claims, and the rows of tables as lines."""
        rows = [
            Line(table.line + offset, ": ".join(cell for cell in row if cell), ())
            for table in self.tables
            for offset, row in zip((0, *range(2, len(table.rows) + 2)), (table.header, *table.rows), strict=True)
        ]
        return [*self.claims, *rows]

    @cached_property
    def said(self) -> str:
        """The claims and rows as one text, to see at once what none of them says."""
        return "\n".join(line.text for line in self.claims_and_rows)

    @cached_property
    def blocks(self) -> list[Block]:
        tables = [block for table in self.tables if (block := _table_block(table, self.captioned(table)))]
        found = [*tables, *_listed(self.lines)]
        return sorted(found, key=lambda block: block.rows[0].line)

    def captioned(self, table: MarkdownTable) -> str | None:
        """The quantity that the line above a table names first: that of a column that is only called "mean"."""
        above = [line for line in self.lines if line.number < table.line and not line.is_code][-1:]
        named = re.search(QUANTITY, above[0].text, re.IGNORECASE) if above else None
        return quantity(named.group()) if named else None

    @cached_property
    def results(self) -> list[Result]:
        return [row for block in self.blocks for row in block.ends]

    def columns_with(self, text: str) -> list[Number]:
        """All numbers of the quantities that are somewhere printed as `text`."""
        kinds = {kind for row in self.results for kind, value in row.numbers.items() if value.text == text}
        return [row.numbers[kind] for row in self.results for kind in kinds if kind in row.numbers]

    def results_of(self, name: str) -> tuple[list[Number], list[Number]]:
        """The measured numbers of what is called so, and all numbers of the same quantities."""
        own = [row for row in self.results if row.subject.casefold() == name.casefold()]
        kinds = {kind for row in own for kind in row.numbers if is_measured(kind)}
        return (
            [row.numbers[kind] for row in own for kind in row.numbers if kind in kinds],
            [row.numbers[kind] for row in self.results for kind in kinds if kind in row.numbers],
        )

    def place(self, line: int) -> str:
        return f"{self.name}:{line}"


def _mended(text: str) -> str:
    """UTF-8 that was once read as Mac Roman or Windows-1252 and saved again, as it was meant."""

    def mend(found: re.Match[str]) -> str:
        for encoding in ("mac_roman", "cp1252"):
            try:
                return found.group().encode(encoding).decode("utf-8")
            except UnicodeError:
                continue
        return found.group()

    return _NOT_ASCII.sub(mend, text).translate(_PLAIN)


def _with_single_blanks(line: str) -> str:
    indent = len(line) - len(line.lstrip())
    return " " * min(indent, 8) + " ".join(line.split())


def plain(text: str) -> str:
    """Without Markdown's marks of emphasis, code and links."""
    return _MARKS.sub("", text).strip()


def is_statistic(label: str) -> bool:
    """Whether a label names a number made from several others."""
    return _STATISTIC.search(label) is not None


def _lines(text: str, tables: list[MarkdownTable]) -> Iterator[Line]:
    """Lines of a paragraph that is wrapped are read as one text; each sentence of it is on the line it begins on."""
    in_table = {table.line + offset for table in tables for offset in range(len(table.rows) + 2)}
    headings: list[tuple[int, str]] = []
    wrapped: list[tuple[int, str]] = []
    is_code = False
    for count, raw in enumerate([*text.splitlines(), ""], 1):
        fence = _FENCE.match(raw)
        named = None if is_code else _HEADING.match(raw)
        ends = is_code or fence or named or count in in_table or not raw.strip()
        if wrapped and (ends or len(wrapped) == MOST_WRAPPED or not _goes_on(wrapped[-1][1], raw)):
            yield from _sentences(wrapped, tuple(name for _, name in headings))
            wrapped = []
        if fence:
            is_code = not is_code
        elif count in in_table or not raw.strip():
            continue
        elif named:
            level = len(named["level"])
            headings = [*((depth, name) for depth, name in headings if depth < level), (level, plain(named["name"]))]
            yield Line(count, plain(named["name"]), tuple(name for _, name in headings), is_heading=True)
        elif is_code:
            yield Line(count, plain(raw), tuple(name for _, name in headings), is_code=True)
        else:
            wrapped.append((count, raw))


def _goes_on(above: str, line: str) -> bool:
    """Whether a line continues the sentence above it: it is no item, names nothing of its own, and begins small or
    follows a word that ends none."""
    if above.endswith(("  ", "\\", ":")) or _ITEM.match(line) or _OPENING.match(line) or _NAMES.match(line):
        return False
    return bool(re.match(r"[ >]*[a-z(→]|[ >]*[-+~≈]?\d", line) or re.search(r"[a-z,(→-]\W{0,2}$", above))


def _sentences(wrapped: list[tuple[int, str]], headings: tuple[str, ...]) -> Iterator[Line]:
    item, opening = _ITEM.match(wrapped[0][1]), _OPENING.match(wrapped[0][1])
    if item:
        opening = _OPENING.match(item["text"])
    bold = plain(opening["bold"]) if opening else ""
    texts = [plain(raw.lstrip(" >")) for _, raw in wrapped]
    texts[0] = plain(item["text"] if item else wrapped[0][1])
    begins = [0, *accumulate(len(text) + 1 for text in texts)][:-1]
    said: dict[int, str] = {}
    at = 0
    for sentence in _SENTENCE.split(" ".join(texts)):
        count = wrapped[bisect_right(begins, at) - 1][0]
        said[count] = f"{said[count]} {sentence}" if count in said else sentence
        at += len(sentence) + 1
    for count, text in said.items():
        yield Line(count, text, headings, is_item=item is not None, opening=bold)


def _table_block(table: MarkdownTable, caption: str | None) -> Block | None:
    """Rows are results where columns are quantities; columns are where rows are."""
    kinds = [caption if head.lower() == "mean" else quantity(head) for head in table.header]
    if table.header[0].lower() in ("run", "trial", "#") and _are_numbers(table):
        kinds[0] = "seed"
    if any(map(is_measured, kinds[1:])):
        made = [
            result
            for offset, row in enumerate(table.rows, 2)
            if (result := _row_result(table, kinds, row, table.line + offset))
        ]
        # a table with a column of seeds and nothing else that tells rows apart lists the repeats of one arm
        return Block(tuple(made), table.heading or "", _told_apart_by(kinds), is_table=True) if made else None
    named = [quantity(row[0]) for row in table.rows]
    if not any(map(is_measured, named)):
        return None
    made = []
    for column in range(1, len(table.header)):
        head = table.header[column]
        cells = {
            kind: value
            for kind, row in zip(named, table.rows, strict=True)
            if kind and (value := cell(row[column], kind, row[0]))
        }
        if cells and quantity(head) != "change" and not re.search(r"\btotal\b|improve", head, re.IGNORECASE):
            made.append(Result(head, cells, table.line, _named_rate(head)))
    return Block(tuple(made), table.heading or "", "arm", is_table=True) if made else None


def _are_numbers(table: MarkdownTable) -> bool:
    """Whether each cell is one, so that rows are repeats and not arms."""
    return bool(table.rows) and all(cell(text, None) for row in table.rows for text in row if text)


def _told_apart_by(kinds: list[str | None]) -> str:
    """What rows differ in. A column of seeds and nothing else before the numbers lists the repeats of one arm."""
    if "record" in kinds:
        return "record"
    first = next((kind for kind in kinds[:2] if kind in ("step", "updates", "tokens", "size", "seed", "rate")), None)
    named = first or next((kind for kind in ("rate", "size") if kind in kinds), "arm")
    return (
        "size"
        if named in ("updates", "tokens") and kinds[0] == named
        else "arm"
        if named in ("updates", "tokens")
        else named
    )


def _row_result(table: MarkdownTable, kinds: list[str | None], row: tuple[str, ...], line: int) -> Result | None:
    read: dict[str, Number] = {}
    for kind, text, head in zip(kinds, row, table.header, strict=True):
        if kind is not None and kind not in read and (value := cell(text, kind, head)):
            read[kind] = value
    if not any(map(is_measured, read)):
        return None
    rate = read.pop("rate", None)
    alone = rate.value if rate else _named_rate(row[0])
    return Result(row[0], read, line, alone, is_on_the_way=kinds[0] == "step" or bool(_ON_THE_WAY.match(row[0])))


def _named_rate(subject: str) -> float | None:
    """The learning rate that a subject names, e.g. "LR 0.02"."""
    named = _RATE.search(subject)
    read = number(named["rate"]) if named else None
    return read.value if read else None


def _listed(lines: list[Line]) -> Iterator[Block]:
    """Numbers in lists and sentences, gathered under the heading or the label that they follow.

    Headings that name a rate, e.g. "LR 0.02", are the rows of one block.
    """
    rates: list[Result] = []
    for rows, heading in _gathered(lines):
        if all(row.rate is not None for row in rows):
            rates += rows
        elif rows:
            yield Block(tuple(rows), heading, "arm")
    if rates:
        yield Block(tuple(rates[:MOST_ROWS]), "", "rate")


def _gathered(lines: list[Line]) -> Iterator[tuple[list[Result], str]]:
    subject, rows = "", []
    gathered: dict[str, Number] = {}
    began = 0
    for line in [*lines, Line(0, "", (), is_heading=True)]:
        opens = line.is_heading or (line.text.endswith(":") and not line.is_item)
        read = {} if opens or line.is_code else _labelled(line)
        if gathered and (opens or gathered.keys() & read.keys()):
            rows.append(Result(subject, gathered, began, _subjects_rate(subject)))
            gathered = {}
        if opens:
            if rows:
                yield rows, subject
            subject, rows = line.text.rstrip(":"), []
            continue
        own = _own_subject(line.text)
        if read and own is not None:
            rows.append(Result(own, read, line.number, _subjects_rate(own), bool(_ON_THE_WAY.match(own))))
        elif read and not (_LABELLED.match(line.text) or _TIMED.match(line.text)):  # a sentence, of its own run
            rows.append(Result(subject, read, line.number, _subjects_rate(subject)))
        elif read:
            began = began if gathered else line.number
            gathered |= read


def _subjects_rate(subject: str) -> float | None:
    alone = _RATE_ALONE.match(subject)
    read = number(alone["rate"]) if alone else None
    return read.value if read and 0 < read.value < 1 else _named_rate(subject)


def _own_subject(text: str) -> str | None:
    """What a line names itself before a colon, e.g. "Step 10" in "Step 10: loss 3.2"; None: the heading above it."""
    label, colon, rest = text.partition(":")
    return label.strip() if colon and rest.strip() and quantity(label) is None and len(label) < 60 else None


def _labelled(line: Line) -> dict[str, Number]:
    """Quantity to number, of the first sentence that has any. Changes, differences and spreads say no single number."""
    for sentence in line.sentences:
        read: dict[str, Number] = {}
        if not _MAY_MEASURE.search(sentence) or _ARROW.search(sentence):
            continue
        for look in (_LABELLED, _NOUN_AFTER, _NOUN_BEFORE):
            for pair in look.finditer(sentence):
                kind, value = quantity(pair["label"]), number(pair["value"])
                is_made = look is _LABELLED and is_statistic(pair["label"])  # of other numbers of the report
                if kind is None or value is None or value.is_bound or value.is_signed or is_made:
                    continue
                value = in_unit(value, kind)
                if look is _LABELLED or not kind.endswith(("loss", "bits_per_byte")) or value.value >= LEAST_PROSE_LOSS:
                    read.setdefault(kind, value)
        timed = _TIMED.match(sentence)
        time = number(timed["value"]) if timed else None
        if timed and time and not is_statistic(timed["label"]):
            read["train_seconds"] = in_unit(time, "train_seconds", timed["unit"])
        if read:
            return read
    return {}
