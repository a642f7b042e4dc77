"""Where a report says that one number is made of others: perplexities, means, extremes and totals of its tables, and
changes in sentences, in lists and in columns of tables."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from blueberry.proofread.arithmetic import (
    NUMBER,
    SEED_COLUMN,
    Number,
    Statement,
    Way,
    cell,
    in_unit,
    is_measured,
    number,
    numbers,
    quantity,
    words_of,
)
from blueberry.proofread.document import QUANTITY, Block, Document, Line, Result, is_statistic
from blueberry.tables.markdown import MarkdownTable

LEAST_ROWS = 3
"""A mean, a best or a total of prose is held against a table of so many."""
_OVER_SEEDS = re.compile(r"\bmean\b|\baverage\b", re.IGNORECASE)
_A_MEAN = re.compile(r"\bmean\b|\baverage", re.IGNORECASE)
_COUNT = re.compile(r"(?P<n>\d{1,3})[- ](?:seeds?|runs?)\b", re.IGNORECASE)
_RESTRICTED = re.compile(r"lowest|best|top|last|first|exclud|without|base|previous|prior|\bPR\b|#\d", re.IGNORECASE)
_OF_COLUMN = re.compile(
    rf"(?P<arm>[^:|]{{1,40}}): ?(?:{QUANTITY} )?(?:mean|average)(?: {QUANTITY})?(?: of| is| was|:)? "
    rf"(?P<value>{NUMBER})",
    re.IGNORECASE,
)
_EXTREMES = ((r"(?:lowest|min(?:imum)?|best)\b.*(?:loss|perplexity|ppl|bpb)", "minimum"),
             (r"(?:highest|peak|max(?:imum)?|best)\b.*acc", "maximum"))  # fmt: skip
_IS_TOTAL = re.compile(r"(?:(?:grand|overall|sub) ?-?)?(?:total|sum|altogether)\b", re.IGNORECASE)
_OF_ALL = re.compile(
    r"(?:grand |overall )?(?:total|sum|altogether)(?: (?:time|tokens|updates|steps|runs|cost|of all))?:?", re.IGNORECASE
)
_REMARK = re.compile(r"(?: ?(?:±|\+/?-) ?[\d.]+ ?%?)?[ *]{0,4}(?P<word>[A-Za-z_]+)?")
_AFTER_A_MEAN = ("nats", "and", "over", "with", "across", "on", "for", "at")
_STATED_TOTAL = re.compile(
    r"total (?:number of )?(?:(?:training|train|optimizer) )?(?P<what>time|tokens|updates|steps|runs|flops)", re.I
)
_ADDS_UP = re.compile(
    r"\b(?:time|duration|(?:second|minute|hour|token|update|step|run|flop|cost|byte|example|sequence|document)s?)\b",
    re.I,
)
_DOES_NOT = re.compile(
    r"\b(?:per|each|every|rate|ratio|share|mean|average|avg|sd|std|min|max|best|size|to|at)\b|%|/", re.I
)
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
_BY = re.compile(rf"\b{_ANY}{_VERBS} (?P<said>{_VALUE})(?: {_CALLED}){{0,2}}{_PAIR}", re.I)
_OF_WHAT = re.compile(rf"(?P<said>{_VALUE}) (?:relative )?{_CALLED}(?: in| of)?(?: the)? {_ANY}{_PAIR}", re.I)
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
_NO_CHANGE = re.compile(r"\W*0?(?:\.0+)?%?\W*|\W*(?:n/?a|base(?:line)?|ref(?:erence)?|control)\W*", re.IGNORECASE)


def statements(document: Document) -> Iterator[Statement]:
    """Every number that can be computed again."""
    for block in document.blocks:
        yield from _perplexities(block)
        yield from _mean_rows(block)
    for table in document.tables:
        yield from _mean_column(table)
        yield from _totals(table)
        yield from _change_cells(table)
        yield from _change_column(table)
    yield from _progressions(document.lines)
    for line in document.lines:
        yield from _labelled(document, line)
        yield from _stated_of_column(document, line)
        yield from _stated_of_arm(document, line)
        for sentence in line.sentences if not line.is_code and _MAY_COMPARE.search(line.text) else ():
            yield from _changes(sentence, line.number)
            yield from _compared(document, sentence, line.number)
            yield from _magnitudes(sentence, line.number)


def _perplexities(block: Block) -> Iterator[Statement]:
    for row in block.rows:
        for which in ("val", "train", "test"):
            loss, stated = row.numbers.get(f"{which}_loss"), row.numbers.get(f"{which}_perplexity")
            if loss and stated and not is_statistic(row.subject):
                what = f"{row.subject}: exp(loss {loss.text})".removeprefix(": ")
                remedy = "compute perplexity as exp(loss), uncapped"
                yield Statement(stated, (Way("perplexity", (loss,)),), what, row.line, " as perplexity", remedy)


def _mean_rows(block: Block) -> Iterator[Statement]:
    """A row that is called the mean or the median of the others."""
    ends = block.ends
    for row in block.rows if block.is_table and len(ends) >= 2 else ():
        named = re.fullmatch(r"\W*(?:mean|average|avg|(?P<median>median))\W*", row.subject, re.IGNORECASE)
        for kind, stated in row.numbers.items() if named else ():
            parts = tuple(one.numbers[kind] for one in ends if kind in one.numbers)
            if named and len(parts) == len(ends) and kind != "seeds":
                what = f"{row.subject.lower()} of {len(parts)} rows' {words_of(kind)}"
                yield Statement(stated, (Way("median" if named["median"] else "mean", parts),), what, row.line)


def _mean_column(table: MarkdownTable) -> Iterator[Statement]:
    """ "seed 0 | seed 1 | seed 2 | mean": the last against the others, row by row."""
    seeds = [at for at, head in enumerate(table.header) if SEED_COLUMN.fullmatch(head)]
    means = [at for at, head in enumerate(table.header) if re.fullmatch(r"mean|average|avg\.?", head, re.IGNORECASE)]
    for offset, row in enumerate(table.rows if len(seeds) >= 2 and len(means) == 1 else (), 2):
        parts = tuple(value for at in seeds if (value := cell(row[at], None)))
        if (stated := cell(row[means[0]], None)) and len(parts) == len(seeds):
            yield Statement(stated, (Way("mean", parts),), f"{row[0]}: mean of {len(parts)} seeds", table.line + offset)


def _totals(table: MarkdownTable) -> Iterator[Statement]:
    """A total row is the sum of its column, or the last row's where rows hold what was reached by then."""
    totals = [(table.line + at, row) for at, row in enumerate(table.rows, 2) if _IS_TOTAL.match(row[0])]
    for at, head, parts in _amounts(table) if len(totals) == 1 and _OF_ALL.fullmatch(totals[0][1][0]) else ():
        stated = cell(totals[0][1][at], quantity(head), head)
        if stated and not stated.is_percent:
            what = f"{head} of the {len(parts)} rows"
            yield Statement(stated, _sums(parts), what, totals[0][0])


def _amounts(table: MarkdownTable) -> Iterator[tuple[int, str, tuple[Number, ...]]]:
    """Columns of amounts that add up, with a number in every row."""
    rows = [row for row in table.rows if not is_statistic(row[0]) and not _IS_TOTAL.match(row[0])]
    for at, head in enumerate(table.header):
        if at and _ADDS_UP.search(head) and not _DOES_NOT.search(re.sub(r"\([^)]*\)", "", head)):
            parts = [value for row in rows if (value := cell(row[at], quantity(head), head)) and not value.is_percent]
            if len(parts) == len(rows) >= 2:
                yield at, head, tuple(parts)


def _sums(parts: tuple[Number, ...]) -> tuple[Way, ...]:
    values = [part.value for part in parts]
    return (Way("sum", parts), *((Way("last", parts),) if values == sorted(values) else ()))


def _labelled(document: Document, line: Line) -> Iterator[Statement]:
    """ "Mean accuracy: 11.8% ± 5.2%", "Lowest loss: 3.781", "Total time: 4.1 minutes", against the tables."""
    label, mark, rest = re.split(r"([:=])", line.text, maxsplit=1) if re.search("[:=]", line.text) else ("", "", "")
    stated = numbers(rest[:80])
    if (
        not mark
        or len(label) > 60
        or not stated
        or stated[0].is_bound
        or re.search(r"[A-Za-z]{2,}", rest[: stated[0].start])
    ):
        return
    if _IS_TOTAL.match(label) or _STATED_TOTAL.fullmatch(label.strip()):
        yield from _stated_total(document, line, label, rest, stated[0])
        return
    if _OVER_SEEDS.search(label) or re.match(r"\W*median\b", label, re.IGNORECASE):
        yield from _stated_mean(document, line, label, rest, stated)
    kind = quantity(label)
    op = next((op for look, op in _EXTREMES if re.match(rf"\W*{look}", label, re.IGNORECASE)), None)
    if kind is not None and is_measured(kind) and op:
        one = in_unit(stated[0], kind, "", label)
        tables = [rows for rows in _tables(document, kind, line) if len(rows) >= LEAST_ROWS]
        known = any(row.numbers[kind].text == stated[0].text for row in document.results if kind in row.numbers)
        ways = [Way(op, tuple(row.numbers[kind] for row in rows)) for rows in tables]
        if not (known and ways and ways[0].op == "maximum" and one.value > ways[0].value):
            yield Statement(one, tuple(ways), f"{label.strip().lower()} of the table", line.number)


def _stated_of_column(document: Document, line: Line) -> Iterator[Statement]:
    """ "this PR: val loss mean 3.278", where a table has a row a seed and a column "this PR"."""
    found = _OF_COLUMN.match(line.text)
    stated = number(found["value"]) if found else None
    if found is None or stated is None:
        return
    arm = found["arm"].strip().lower()
    for table in document.tables:
        at = next((at for at, head in enumerate(table.header) if at and head.lower() == arm), 0)
        parts = tuple(value for row in table.rows if at and (value := cell(row[at], None)))
        is_whole = quantity(table.header[0]) == "seed" and len(parts) == len(table.rows) >= 2
        if is_whole and _is_near(stated, parts):
            what = f"mean of the {len(parts)} rows of {table.header[at]}"
            yield Statement(stated, (Way("mean", parts),), what, line.number)


def _stated_of_arm(document: Document, line: Line) -> Iterator[Statement]:
    """ "the mean of Muon is 3.25", "Muon averages 3.25", where a table has a row for each arm and seed."""
    if line.is_code or not _A_MEAN.search(line.text) or "|" in line.text:
        return
    for table in document.tables:
        kinds = [quantity(head) for head in table.header]
        if "seed" not in kinds or kinds[0] is not None:
            continue
        rows: dict[str, list[Sequence[str]]] = {}
        for row in table.rows:
            rows.setdefault(row[0], []).append(row)
        for arm, own in rows.items():
            if len(own) < 2 or not re.search("[A-Za-z]", arm):
                continue
            name = rf"(?<![\w.+-]){re.escape(arm)}(?![\w.+-])"
            look = re.compile(
                rf"(?:mean|average)(?: {QUANTITY})? (?:of|for) {name}(?: is| was|:| =) (?P<a>{NUMBER})"
                rf"|{name} (?:averages|averaged|has an? (?:mean|average)(?: {QUANTITY})? of) (?P<b>{NUMBER})",
                re.IGNORECASE,
            )
            for found in (one for sentence in line.sentences for one in look.finditer(sentence)):
                stated = number(found["a"] or found["b"])
                columns = [
                    tuple(value for row in own if (value := cell(row[at], kind)))
                    for at, kind in enumerate(kinds)
                    if kind is not None and is_measured(kind)
                ]
                near = [parts for parts in columns if stated and len(parts) == len(own) and _is_near(stated, parts)]
                if stated is not None and near and not _RESTRICTED.search(line.text):
                    ways = tuple(Way("mean", parts) for parts in near)
                    yield Statement(stated, ways, f"mean of the {len(own)} rows of {arm}", line.number)


def _tables(document: Document, kind: str, line: Line) -> list[list[Result]]:
    """Tables of a quantity in the line's own section, largest first; else in the whole report."""
    blocks = [block for block in document.blocks if block.is_table and block.varies not in ("step", "record")]
    rows = [(block, [row for row in block.ends if kind in row.numbers]) for block in blocks]
    near = [some for block, some in rows if block.heading and block.heading in line.headings]
    return sorted(near or [some for _, some in rows], key=len, reverse=True)


def _stated_mean(document: Document, line: Line, label: str, rest: str, stated: list[Number]) -> Iterator[Statement]:
    """Of the seeds, where it names their number or there is a table of them; else of all rows of a table."""
    count, kind = _COUNT.search(label), quantity(re.sub(r"\([^)]*\)", "", label))
    if _RESTRICTED.search(re.sub(r"(?i)\bbest run\b", "", label)):
        return
    seeds = [block.ends for block in document.blocks if block.varies == "seed" and len(block.ends) >= 2]
    if count or re.search(r"\bseeds?\b|\bruns\b|n ?=", line.text, re.IGNORECASE):
        n = int(count["n"]) if count else None
        remark = _REMARK.match(rest, stated[0].end)
        word = remark["word"] if remark and remark["word"] else ""
        if word and quantity(word) is None and word.lower() not in _AFTER_A_MEAN:
            return
        kinds = [kind or quantity(word)]
        for rows in seeds:
            columns = [name for name in (kinds if kinds[0] else rows[0].numbers) if name in rows[0].numbers]
            parts = [tuple(row.numbers[name] for row in rows if name in row.numbers) for name in columns]
            near = [some for some in parts if len(some) in (n or len(some), 0) and _is_near(stated[0], some)]
            if near and len(seeds) == 1:
                what = f"{label.strip(' *').lower()} of the {len(near[0])} rows"
                yield Statement(stated[0], tuple(Way("mean", some) for some in near), what, line.number)
        return
    if kind is None or not is_measured(kind):
        return
    one = in_unit(stated[0], kind, "", label)
    tables = [
        tuple(row.numbers[kind] for row in rows) for rows in _tables(document, kind, line) if len(rows) >= LEAST_ROWS
    ]
    op = "median" if re.match(r"\W*median", label, re.IGNORECASE) else "mean"
    if not tables or (op == "mean" and any(one.agrees(part.value, part.half) for parts in tables for part in parts)):
        return  # the mean of one row's seeds
    what = f"{label.strip().lower()} of the {len(tables[0])} rows"
    yield Statement(one, tuple(Way(op, parts) for parts in tables), what, line.number)
    if len(stated) > 1 and re.search(r"±|\+/?-|\bstd\b|\bsd\b", rest[stated[0].end : stated[1].start]):
        spread = in_unit(stated[1], kind, "", "%" if one.is_percent else "")
        ways = tuple(Way("sd", parts) for parts in tables)
        if spread.value > 0.3 * min(way.value for way in ways):  # else a standard error
            yield Statement(spread, ways, f"sd of the {len(tables[0])} rows", line.number)


def _is_near(stated: Number, parts: tuple[Number, ...]) -> bool:
    values = [part.value for part in parts]
    return bool(values) and 0.8 * min(values) <= stated.value <= 1.25 * max(values)


def _stated_total(document: Document, line: Line, label: str, rest: str, stated: Number) -> Iterator[Statement]:
    found = _STATED_TOTAL.fullmatch(label.strip())
    if found is None:
        return
    unit = re.match(r" ?([A-Za-z]+)", rest[stated.end :])
    kind = quantity(label)
    columns = [
        (head, parts)
        for table in document.tables
        for _, head, parts in _amounts(table)
        if (quantity(head) == kind and kind) or found["what"].lower() in head.lower()
    ]
    if not columns or (kind == "train_seconds" and (unit is None or len(columns[0][1]) < LEAST_ROWS)):
        return
    head, parts = max(columns, key=lambda column: len(column[1]))
    one = in_unit(stated, kind, unit[1] if unit and kind == "train_seconds" else "")
    if kind == "train_seconds":
        printed = f" {unit[1]}" if unit else ""
        yield Statement(one, (Way("time", parts),), f"the {len(parts)} times", line.number, printed)
    elif one.value < Way("sum", parts).interval()[0]:  # more may hold other runs too
        ways = [way for _, some in columns for way in _sums(some)]
        yield Statement(one, tuple(ways), f"{head} of the {len(parts)} rows", line.number)


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
        yield Statement(said, (Way("factor", (a, b)),), what, line, "x")
        return
    ways = [Way("percent", (a, b))]
    if kind == "train_seconds":  # half the time is 100% faster
        ways.append(Way("percent", (b, a)))
    yield _change_of(said, ways, what, line)


def _change_of(said: Number, ways: Sequence[Way], what: str, line: int) -> Statement:
    pairs = [way.inputs for way in ways]
    points = [Way("difference", pair) for pair in pairs if all(one.is_percent for one in pair)]  # of percentages
    return Statement(said, (*ways, *points), what, line)


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
            yield _change_of(said, ways, f"{nearest[1].text} against {nearest[0].text} ({name})", line)


def _magnitudes(sentence: str, line: int) -> Iterator[Statement]:
    for found in _MAGNITUDE.finditer(sentence):
        stated, a, b = number(found["count"]), number(found["a"]), number(found["b"])
        if stated and a and b and a.value > 0 and b.value > 0:
            what = f"{a.value:g} to {b.value:g}"
            ends = (replace(a, half=0.0), replace(b, half=0.0))
            yield Statement(replace(stated, half=0.0), (Way("decades", ends),), what, line, " orders of magnitude")


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
                yield _change_of(said, ways, what, table.line + offset)


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
        yield _change_of(stated, ways, what, table.line + 2 + place)


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
            yield _change_of(said, (Way("percent", (before, value)), Way("percent", (first, value))), what, line.number)
            passed.append((value, line.number))
        else:
            passed = [(value, line.number)]
