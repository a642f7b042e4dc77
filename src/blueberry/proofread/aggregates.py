"""Where a report says that one number is made of several: perplexities, means, medians, extremes and totals."""

import re
from collections.abc import Iterator

from blueberry.proofread.arithmetic import Statement, Way
from blueberry.proofread.document import QUANTITY, Block, Document, Line, Result, is_statistic
from blueberry.proofread.printed import NUMBER, Number, cell, in_unit, is_measured, number, numbers, quantity, words_of
from blueberry.tables.markdown import MarkdownTable

LEAST_ROWS = 3
"""A mean, a best or a total of prose is held against a table of so many."""
_OVER_SEEDS = re.compile(r"\bmean\b|\baverage\b", re.IGNORECASE)
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
_SEED_COLUMN = re.compile(r"(?:seed|run|repeat|trial) ?#?\d+", re.IGNORECASE)


def statements_of_aggregates(document: Document) -> Iterator[Statement]:
    """Numbers that can be computed again from tables and lists."""
    for block in document.blocks:
        yield from _perplexities(block)
        yield from _mean_rows(block)
    for table in document.tables:
        yield from _mean_column(table)
        yield from _totals(table)
    for line in document.lines:
        yield from _labelled(document, line)
        yield from _stated_of_column(document, line)


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
        op = next((op for op in ("mean", "median") if re.match(rf"\W*{op}\W*$", row.subject, re.IGNORECASE)), None)
        if op is None and re.match(r"\W*(?:avg|average)\W*$", row.subject, re.IGNORECASE):
            op = "mean"
        for kind, stated in row.numbers.items() if op else ():
            parts = tuple(one.numbers[kind] for one in ends if kind in one.numbers)
            if op and len(parts) == len(ends) and kind != "seeds":
                what = f"{row.subject.lower()} of {len(parts)} rows' {words_of(kind)}"
                yield Statement(stated, (Way(op, parts),), what, row.line, "", "compute it from the table")


def _mean_column(table: MarkdownTable) -> Iterator[Statement]:
    """ "seed 0 | seed 1 | seed 2 | mean": the last against the others, row by row."""
    seeds = [at for at, head in enumerate(table.header) if _SEED_COLUMN.fullmatch(head)]
    means = [at for at, head in enumerate(table.header) if re.fullmatch(r"mean|average|avg\.?", head, re.IGNORECASE)]
    for offset, row in enumerate(table.rows if len(seeds) >= 2 and len(means) == 1 else (), 2):
        parts = tuple(value for at in seeds if (value := cell(row[at], None)))
        stated = cell(row[means[0]], None)
        if stated and len(parts) == len(seeds):
            what = f"{row[0]}: mean of {len(parts)} seeds"
            yield Statement(stated, (Way("mean", parts),), what, table.line + offset, "", "compute it from the row")


def _totals(table: MarkdownTable) -> Iterator[Statement]:
    """A total row is the sum of its column, or the last row's where rows hold what was reached by then."""
    totals = [(table.line + at, row) for at, row in enumerate(table.rows, 2) if _IS_TOTAL.match(row[0])]
    for at, head, parts in _amounts(table) if len(totals) == 1 and _OF_ALL.fullmatch(totals[0][1][0]) else ():
        stated = cell(totals[0][1][at], quantity(head), head)
        if stated and not stated.is_percent:
            what = f"{head} of the {len(parts)} rows"
            yield Statement(stated, _sums(parts), what, totals[0][0], "", "add the rows up")


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
    if not mark or len(label) > 60 or not stated or stated[0].is_bound or _has_words(rest[: stated[0].start]):
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
            yield Statement(
                one, tuple(ways), f"{label.strip().lower()} of the table", line.number, "", "print the table's"
            )


def _stated_of_column(document: Document, line: Line) -> Iterator[Statement]:
    """ "this PR: val loss mean 3.278", where a table has a row a seed and a column "this PR"."""
    found = _OF_COLUMN.match(line.text)
    stated = number(found["value"]) if found else None
    if found is None or stated is None:
        return
    for table in document.tables:
        at = next(
            (at for at, head in enumerate(table.header) if at and head.lower() == found["arm"].strip().lower()), 0
        )
        parts = tuple(value for row in table.rows if at and (value := cell(row[at], None)))
        if (
            stated
            and quantity(table.header[0]) == "seed"
            and len(parts) == len(table.rows) >= 2
            and _is_near(stated, parts)
        ):
            what = f"mean of the {len(parts)} rows of {table.header[at]}"
            yield Statement(stated, (Way("mean", parts),), what, line.number, "", "compute it from the table")


def _has_words(text: str) -> bool:
    return len(re.findall(r"[A-Za-z]{2,}", text)) > 0


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
        if (
            word
            and quantity(word) is None
            and word.lower() not in ("nats", "and", "over", "with", "across", "on", "for", "at")
        ):
            return
        kinds = [kind or quantity(word)]
        for rows in seeds:
            columns = [name for name in (kinds if kinds[0] else rows[0].numbers) if name in rows[0].numbers]
            parts = [tuple(row.numbers[name] for row in rows if name in row.numbers) for name in columns]
            near = [some for some in parts if len(some) in (n or len(some), 0) and _is_near(stated[0], some)]
            if near and len(seeds) == 1:
                what = f"{label.strip(' *').lower()} of the {len(near[0])} rows"
                yield Statement(
                    stated[0],
                    tuple(Way("mean", some) for some in near),
                    what,
                    line.number,
                    "",
                    "compute it from the table",
                )
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
    yield Statement(one, tuple(Way(op, parts) for parts in tables), what, line.number, "", "compute it from the table")
    if len(stated) > 1 and re.search(r"±|\+/?-|\bstd\b|\bsd\b", rest[stated[0].end : stated[1].start]):
        spread = in_unit(stated[1], kind, "", "%" if one.is_percent else "")
        ways = tuple(Way("sd", parts) for parts in tables)
        if spread.value > 0.3 * min(way.value for way in ways):  # else a standard error
            yield Statement(
                spread, ways, f"sd of the {len(tables[0])} rows", line.number, "", "compute it from the table"
            )


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
        yield Statement(
            one,
            (Way("time", parts),),
            f"the {len(parts)} times",
            line.number,
            f" {unit[1]}" if unit else "",
            "add the times up",
        )
    elif one.value < Way("sum", parts).interval()[0]:  # more may hold other runs too
        ways = [way for _, some in columns for way in _sums(some)]
        yield Statement(one, tuple(ways), f"{head} of the {len(parts)} rows", line.number, "", "add the rows up")
