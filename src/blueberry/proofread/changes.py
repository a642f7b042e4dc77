"""Where a report says how far one number is from another: changes in sentences, in lists and in columns of tables."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from blueberry.proofread.arithmetic import Statement, Way
from blueberry.proofread.document import QUANTITY, Document, Line
from blueberry.proofread.printed import NUMBER, Number, cell, in_unit, is_measured, number, numbers, quantity, words_of
from blueberry.tables.markdown import MarkdownTable

_VALUE = rf"[~≈]?{NUMBER} ?%?"
_ANY = rf"(?P<what>{QUANTITY}|(?:training |train )?time)"
_VERBS = (
    r"(?: (?:of|for|on|in) [^:;,.()→\d]{1,40}(?=:))?(?: ?[:=])?"
    r"(?: (?:of|was|is|goes|went|fell|falls|drops|dropped|improves|improved|reduces|reduced|"
    r"decreases|decreased|"
    r"increases|increased|rises|rose|moved|moves|down|up|by|an?)){0,3}"
)
_CALLED = (
    r"(?:improvement|reduction|increase|decrease|gain|drop|lower|higher|better|worse|less|more|additional|faster|slower|"
    r"relative)"
)
_UNIT = r"(?: ?(?:s|sec|seconds|min|minutes|h|hours|nats|bpb))?"
_ARROW = rf"{_UNIT} ?(?:→|-{{1,2}}>|=>) ?"
_MAY_COMPARE = re.compile(r"→|->|=>|\bfrom\b|%|orders? of", re.IGNORECASE)
_GOES = re.compile(rf"\b{_ANY}{_VERBS}(?: from)? (?P<a>{_VALUE}){_ARROW}(?P<b>{_VALUE})", re.IGNORECASE)
_FROM_TO = re.compile(rf"\b{_ANY}{_VERBS} from (?P<a>{_VALUE}){_UNIT} to (?P<b>{_VALUE})", re.IGNORECASE)
_THEN = re.compile(
    rf"{_UNIT} ?(?P<open>[(\[])?(?:,|:|;| [-—])? ?(?:(?:an?|by|i\.e\.|or) )?(?P<said>[~≈]?{NUMBER})(?P<unit> ?%|x)"
    rf"(?: {_CALLED}){{0,2}}(?:[)\].,;]|$)",
    re.IGNORECASE,
)
"""Directly after a change: how large it is."""
_PAIR = rf" ?\((?:from )?(?P<a>{_VALUE})(?:{_ARROW}| to )(?P<b>{_VALUE})\)"
_BY = re.compile(
    rf"\b{_ANY}{_VERBS} (?P<said>{_VALUE})(?: {_CALLED}){{0,2}}{_PAIR}",
    re.IGNORECASE,
)
_OF_WHAT = re.compile(
    rf"(?P<said>{_VALUE}) (?:relative )?{_CALLED}(?: in| of)?(?: the)? {_ANY}{_PAIR}",
    re.IGNORECASE,
)
_THAN = re.compile(
    rf"(?P<said>[~≈]?{NUMBER} ?%) (?:(?:better|lower|higher|worse|less|below|above)(?: {QUANTITY})? than|"
    rf"(?:improvement|reduction|gain|increase)(?: in {QUANTITY})? (?:over|from|compared (?:to|with)|against)) "
    rf"(?:the |our )?(?P<base>[^()%;,]{{1,40}}?)(?: \((?P<b>{NUMBER} ?%?)(?: [a-z]{{1,8}})?\)|(?=[.,;)]? |[.,;)]?$))",
    re.IGNORECASE,
)
_OTHER_QUANTITY = re.compile(
    r"\b(?:time|faster|speed|memory|tokens|steps|updates|param\w*|compute|flops|throughput)\b", re.I
)
_PROGRESS = re.compile(
    rf"(?P<label>[^:|]{{1,60}}): ?(?P<value>{_VALUE})(?: {QUANTITY})?"
    rf"(?: ?\((?P<said>[-+][~≈]?{NUMBER} ?%)(?: {_CALLED})?\)| ?\([a-z ]{{1,30}}\))?",
    re.IGNORECASE,
)
_MAGNITUDE = re.compile(
    rf"(?P<count>\d(?:\.\d)?) orders? of magnitude[^\d.]{{0,20}}(?P<a>{NUMBER})(?: to |{_ARROW})(?P<b>{NUMBER})",
    re.IGNORECASE,
)
_IS_TOTAL = re.compile(r"(?:(?:grand|overall|sub) ?-?)?(?:total|sum|altogether)\b", re.IGNORECASE)
_NO_CHANGE = re.compile(r"\W*0?(?:\.0+)?%?\W*|\W*(?:n/?a|base(?:line)?|ref(?:erence)?|control)\W*", re.IGNORECASE)


def statements_of_change(document: Document) -> Iterator[Statement]:
    """Percentages, factors and differences that can be computed again."""
    for table in document.tables:
        yield from _change_cells(table)
        yield from _change_column(table)
    yield from _progressions(document.lines)
    for line in document.lines:
        for sentence in line.sentences if not line.is_code and _MAY_COMPARE.search(line.text) else ():
            yield from _changes(sentence, line.number)
            yield from _compared(document, sentence, line.number)
            yield from _magnitudes(sentence, line.number)


def changes(line: Line) -> Iterator[tuple[str, Number, Number]]:
    """Measured quantities that a line says went from one number to another."""
    for sentence in line.sentences if not line.is_code and _MAY_COMPARE.search(line.text) else ():
        for look in (_GOES, _FROM_TO):
            for found in look.finditer(sentence):
                kind, a, b = quantity(found["what"]), number(found["a"]), number(found["b"])
                if kind is not None and is_measured(kind) and a and b:
                    yield kind, in_unit(a, kind), in_unit(b, kind)


def _changes(sentence: str, line: int) -> Iterator[Statement]:
    """A change that names its quantity before it and its size directly after it, or the other way round."""
    for look in (_GOES, _FROM_TO):
        for found in look.finditer(sentence):
            then = _THEN.match(sentence, found.end())
            said = number(then["said"] + then["unit"]) if then else None
            if then and said and (then["open"] or then["unit"].strip() == "%"):
                yield from _change(found, said, line, is_factor=then["unit"] in "x")
    for look in (_BY, _OF_WHAT):
        for found in look.finditer(sentence):
            said = number(found["said"])
            if said and said.is_percent:
                yield from _change(found, said, line)


def _change(found: re.Match[str], said: Number, line: int, *, is_factor: bool = False) -> Iterator[Statement]:
    kind = quantity(found["what"])
    a, b = number(found["a"]), number(found["b"])
    if kind is None or a is None or b is None or ((a.is_percent or b.is_percent) and not kind.endswith("accuracy")):
        return
    a, b = in_unit(a, kind), in_unit(b, kind)
    what = f"{words_of(kind) if is_measured(kind) else 'time'} {a.text} -> {b.text}"
    if is_factor:
        yield Statement(said, (Way("factor", (a, b)),), what, line, "x", "print the factor that the numbers give")
        return
    ways = [Way("percent", (a, b))]
    if kind == "train_seconds":  # half the time is 100% faster
        ways.append(Way("percent", (b, a)))
    yield _percentage(said, ways, what, line)


def _percentage(said: Number, ways: Iterable[Way], what: str, line: int) -> Statement:
    return Statement(said, tuple(ways), what, line, "", "print the percentage that the numbers give")


def _compared(document: Document, sentence: str, line: int) -> Iterator[Statement]:
    """ "3.38, 10% better than 0.02 (3.41)", or "than AdamW", which a table has: of a number before it in the sentence,
    else of one in the base's column."""
    for found in _THAN.finditer(sentence):
        said = number(found["said"])
        base = number(found["b"]) if found["b"] else None
        name = found["base"].strip()
        if base is not None:
            bases, columns = [base], document.columns_with(base.text)
        elif re.search(QUANTITY, sentence, re.IGNORECASE) and not _OTHER_QUANTITY.search(sentence):
            bases, columns = document.results_of(name)
        else:
            continue
        bases = [one for one in bases if one.value > 0]
        if said is None or not bases:
            continue
        before = [one for one in numbers(sentence[: found.start()]) if one.half <= 0.01 and not one.is_signed][-8:]
        pairs = [(a, b) for a in bases for b in before if b.is_percent == a.is_percent and 0.3 < b.value / a.value < 3]
        pairs = pairs or [(a, b) for a in bases for b in columns if b.is_percent == a.is_percent]
        pairs = [(a, b) for a, b in pairs if a.text != b.text]
        if pairs:
            far = [abs(abs(Way("percent", pair).value) - said.value) for pair in pairs]
            nearest = pairs[far.index(min(far))]
            ways = [Way("percent", way) for a, b in (nearest, *pairs) for way in ((a, b), (b, a))]
            yield _percentage(said, ways, f"{nearest[1].text} against {nearest[0].text} ({name})", line)


def _magnitudes(sentence: str, line: int) -> Iterator[Statement]:
    for found in _MAGNITUDE.finditer(sentence):
        stated, a, b = number(found["count"]), number(found["a"]), number(found["b"])
        if stated and a and b and a.value > 0 and b.value > 0:
            what = f"{a.value:g} to {b.value:g}"
            ends = (replace(a, half=0.0), replace(b, half=0.0))
            yield Statement(stated, (Way("decades", ends),), what, line, " orders of magnitude", "print the range")


def _change_cells(table: MarkdownTable) -> Iterator[Statement]:
    """A row a quantity, a column of changes: "Metric | Baseline | New | Improvement"."""
    kinds = [quantity(head) for head in table.header]
    stated = [at for at, kind in enumerate(kinds) if at and (kind == "change" or _IS_TOTAL.match(table.header[at]))]
    columns = [at for at in range(1, len(kinds)) if at not in stated]
    if not stated or len(columns) < 2:
        return
    for offset, row in enumerate(table.rows, 2):
        kind = quantity(row[0])
        values = [value for at in columns if (value := cell(row[at], kind, row[0]))]
        if not is_measured(kind) or kind is None or len(values) < len(columns):
            continue
        for at in stated:
            said = cell(re.sub(r"[^\d.,%+~-]+$|[A-Za-z][A-Za-z ]*$", "", row[at]).strip(), None)
            if said and said.is_percent:
                ways = [Way("percent", pair) for pair in ((values[0], values[-1]), (values[-2], values[-1]))]
                what = f"{words_of(kind)} {values[0].text} -> {values[-1].text}"
                yield _percentage(said, ways, what, table.line + offset)


def _change_column(table: MarkdownTable) -> Iterator[Statement]:
    """A row an arm, one measured column and a column of changes against the one row that has none, or another."""
    kinds = [quantity(head) for head in table.header]
    measured = [at for at, kind in enumerate(kinds) if at and is_measured(kind)]
    changes = [at for at, kind in enumerate(kinds) if at and kind == "change"]
    if len(measured) != 1 or len(changes) != 1 or len(table.rows) < 2:
        return
    (at,), (change,) = measured, changes
    values = [cell(row[at], kinds[at], table.header[at]) for row in table.rows]
    said = [cell(row[change], None) for row in table.rows]
    bases = [
        value for value, row in zip(values, table.rows, strict=True) if value and _NO_CHANGE.fullmatch(row[change])
    ]
    if len(bases) != 1 or not all(values):
        return
    for place, (value, stated) in enumerate(zip(values, said, strict=True)):
        if value is None or stated is None or stated.value == 0 or not (stated.is_percent or stated.is_signed):
            continue
        op = "percent" if stated.is_percent else "difference"
        others = [base for base in values if base is not None and base is not value]  # or the best before it
        ways = [Way(op, (base, value)) for base in (bases[0], *others[:50])]
        what = f"{table.rows[place][0]}: {bases[0].text} -> {value.text}"
        yield Statement(stated, tuple(ways), what, table.line + 2 + place, "", "print the change that the numbers give")


def _progressions(lines: list[Line]) -> Iterator[Statement]:
    """ "Original: 7.28", "After A: 6.81 (-6.5%)", ...: each percentage is over the line before, or over the first."""
    passed: list[tuple[Number, int]] = []
    for line in lines:
        found = _PROGRESS.fullmatch(line.text)
        value = number(found["value"]) if found else None
        follows = passed and passed[-1][1] == line.number - 1
        if found is None or value is None or (not follows and found["said"]):
            passed = []
            continue
        said = number(found["said"]) if found["said"] else None
        if said and value.is_percent == passed[0][0].is_percent:
            before, first = passed[-1][0], passed[0][0]
            what = f"{found['label'].strip()}: {before.text} -> {value.text}"
            yield _percentage(
                said, (Way("percent", (before, value)), Way("percent", (first, value))), what, line.number
            )
            passed.append((value, line.number))
        else:
            passed = [(value, line.number)]
