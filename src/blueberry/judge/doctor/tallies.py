"""Means, medians, totals, bests and thresholds of a report against the tables they are from."""

import re
from collections.abc import Callable, Sequence
from statistics import fmean, median, pstdev, stdev

from blueberry.judge import words
from blueberry.judge.doctor.document import Document, Line, Record, in_unit, is_statistic
from blueberry.judge.doctor.findings import contradicted, doubted, words_of
from blueberry.judge.doctor.percentages import ABOUT, follows, relative
from blueberry.judge.doctor.printed import NUMBER, Number, measured_in, number, numbers, plain, quantity, seconds_in
from blueberry.judge.judgement import Audit

LEAST_ROWS = 3
"""A mean or a total is checked against a table of so many."""
TOTAL_OF_TIMES = (0.9, 2.0)
"""A stated total time over the sum of the times listed: evaluation and loading make it more, hardly twice."""
_STATISTICS: tuple[tuple[str, Callable[[Sequence[float]], float]], ...] = (
    (r"\b(mean|average|avg)\b", fmean),
    (r"\bmedian\b", median),
)
_EXTREMES: tuple[tuple[str, Callable[[Sequence[float]], float]], ...] = (
    (r"\b(peak|highest|maximum|max|best) (?:val\w* |final )?accuracy\b", max),
    (r"\b(lowest|minimum|min|best) (?:val\w* |final )?loss\b", min),
)
_OVER = re.compile(
    rf"(?P<percent>{NUMBER}\s*%)\s+(?:improvement|increase|better|higher|reduction|lower|gain)s?\s+"
    r"(?:over|than|from|versus|vs\.?|compared\s+(?:to|with))\s+(?:the\s+|our\s+)?(?P<base>\w+)",
    re.IGNORECASE,
)


def tallies(document: Document, baseline_rates: Sequence[float]) -> list[Audit]:
    """`baseline_rates`: learning rates that this report, or one beside it, calls the baseline."""
    found = []
    for line in document.lines:
        found += _statistic(document, line)
        found += _extreme(document, line)
        found += _over_a_baseline(document, line, baseline_rates)
        found += _threshold(document, line)
    return [*found, *_mean_rows(document), *_mean_columns(document)]


def _tables(document: Document, kind: str) -> list[list[Record]]:
    """The tables with so many rows that have the quantity, largest first."""
    blocks: dict[int, list[Record]] = {}
    for record in document.ends:
        if kind in record.numbers:
            blocks.setdefault(record.block, []).append(record)
    kept = [records for records in blocks.values() if len(records) >= LEAST_ROWS]
    return sorted(kept, key=len, reverse=True)


def _statistic(document: Document, line: Line) -> list[Audit]:
    """Means, medians and totals against the tables they could be of."""
    label, colon, rest = line.text.partition(":")
    if not colon or not is_statistic(label):
        return []
    kind, stated = measured_in(label) or quantity(label), numbers(rest)
    if kind is None or not stated or stated[0].is_bound:
        return []
    if kind == "seconds" and re.search(r"\btotal|sum\b", label.lower()):
        return _total_time(document, line, rest)
    one = in_unit(stated[0], kind, rest, label)
    for look, statistic in _STATISTICS:
        if re.search(look, label.lower()):
            spread = in_unit(stated[1], kind, rest, label) if len(stated) > 1 and re.search(r"±|\+/?-", rest) else None
            return _against_tables(document, line.number, label, kind, one, spread, statistic)
    return []


def _against_tables(
    document: Document,
    line: int,
    label: str,
    kind: str,
    stated: Number,
    spread: Number | None,
    statistic: Callable[[Sequence[float]], float],
) -> list[Audit]:
    tables = _tables(document, kind)
    if not tables:
        return []
    for records in tables:
        values = [record.numbers[kind].value for record in records]
        slack = max(record.numbers[kind].half for record in records)
        slack += ABOUT * abs(stated.value) if stated.is_about else 0.0
        sds = (stdev(values), pstdev(values))
        if stated.agrees(statistic(values), slack) and (spread is None or any(spread.agrees(sd, slack) for sd in sds)):
            return []
    values = [record.numbers[kind].value for record in tables[0]]
    share = stated.is_percent or kind.endswith("accuracy")
    right = _printed(statistic(values), share) + (f" ± {_printed(stdev(values), share)}" if spread else "")
    said = stated.text + (f" ± {spread.text}" if spread else "")
    message = f"{label.strip().lower()} of the {len(values)} rows is {right}, printed {said}"
    return [contradicted(document.place(line), message, "compute it from the table")]


def _printed(value: float, is_share: bool) -> str:
    return f"{value:.2%}" if is_share else f"{value:.4g}"


def _total_time(document: Document, line: Line, rest: str) -> list[Audit]:
    stated, unit, tables = number(rest), seconds_in(rest), _tables(document, "seconds")
    if stated is None or unit is None or not tables:
        return []
    total = sum(record.numbers["seconds"].value for record in tables[0])
    low, high = TOTAL_OF_TIMES
    if total <= 0 or low <= stated.value * unit / total <= high:
        return []
    unit_name = (re.search(r"\d\s*([a-z]+)", rest.lower()) or [None, "s"])[1]
    message = (
        f"the {len(tables[0])} times add up to {total:,.0f} s = {total / 60:.1f} minutes, "
        f"printed {stated.text} {unit_name}"
    )
    return [contradicted(document.place(line.number), message, "add the times up")]


def _extreme(document: Document, line: Line) -> list[Audit]:
    """The best of a table is in the table."""
    label, colon, rest = line.text.partition(":")
    stated = number(rest) if colon else None
    for look, extreme in _EXTREMES:
        kind = measured_in(label)
        if stated is None or stated.is_bound or kind is None or not re.search(look, label.lower()):
            continue
        one, tables = in_unit(stated, kind, rest, label), _tables(document, kind)
        bests = [extreme([record.numbers[kind].value for record in records]) for records in tables]
        if bests and not any(
            one.agrees(best, records[0].numbers[kind].half) for best, records in zip(bests, tables, strict=True)
        ):
            right = _printed(bests[0], kind.endswith("accuracy"))
            message = f"{label.strip().lower()} of the table is {right}, printed {one.text}"
            return [contradicted(document.place(line.number), message, "print the number of the table")]
    return []


def _over_a_baseline(document: Document, line: Line, baseline_rates: Sequence[float]) -> list[Audit]:
    """ "18% (50% improvement over baseline)" must follow from some row of the tables."""
    match = _OVER.search(line.text)
    kind = measured_in(line.text)
    value = number(line.text[: match.start()].partition(":")[2]) if match else None
    stated = number(match["percent"]) if match else None
    if match is None or kind is None or value is None or stated is None or value.text == stated.text:
        return []
    value = in_unit(value, kind, line.text)
    tables = _tables(document, kind)
    rows = [record for records in tables[:1] for record in records]
    named = [
        record for record in document.ends if kind in record.numbers and match["base"].lower() in record.subject.lower()
    ]
    named = named or [record for record in rows if record.rate in baseline_rates]
    pairs = [(record.numbers[kind], value) for record in named or rows]
    if not pairs or any(follows(stated, a, b) for a, b in pairs):
        return []
    nearest = min(named or rows, key=lambda row: abs(abs(relative(row.numbers[kind], value)) - stated.value))
    gain = f"{relative(nearest.numbers[kind], value):+.1%}"
    if named:
        message = f"{words_of(kind)} {value.text} is {gain} over {nearest.subject}, the baseline; printed {stated.text}"
    else:
        message = (
            f"{stated.text} over {match['base']} follows from no row of the table; {nearest.subject} is nearest, {gain}"
        )
    return [
        contradicted(document.place(line.number), message, "name the baseline and print the percentage that it gives")
    ]


def _threshold(document: Document, line: Line) -> list[Audit]:
    """Where training is said to become unstable, against the largest rise of the loss."""
    label, colon, rest = line.text.partition(":")
    is_meant = "threshold" in label.lower() and re.search(
        r"unstable|instab|diverg|breakdown|collapse", line.text.lower()
    )
    stated = number(rest) if colon and is_meant else None
    tables = [
        records for records in _tables(document, "val_loss") if all(record.rate is not None for record in records)
    ]
    if stated is None or not tables:
        return []
    rows = sorted(
        ((record.rate or 0.0, record.numbers["val_loss"].value) for record in tables[0]), key=lambda row: row[0]
    )
    best = min(range(len(rows)), key=lambda at: rows[at][1])
    rises = [(rows[at + 1][1] - rows[at][1], rows[at][0], rows[at + 1][0]) for at in range(best, len(rows) - 1)]
    if not rises or not rows[0][0] <= stated.value <= rows[-1][0]:
        return []
    rise, low, high = max(rises)
    if low <= stated.value <= high:
        return []
    message = f"the loss jumps between {low:g} and {high:g} ({rise:+.3g}), the threshold is printed as {stated.text}"
    return [doubted(document.place(line.number), message, "put the threshold where the table has it")]


def _mean_rows(document: Document) -> list[Audit]:
    """Rows of a table that are called a mean or a median of the others."""
    found = []
    for record in document.records:
        for look, statistic in _STATISTICS:
            if record.block >= len(document.tables) or not re.search(look, record.subject.lower()):
                continue
            others = [one for one in document.ends if one.block == record.block]
            for kind, stated in record.numbers.items():
                values = [one.numbers[kind].value for one in others if kind in one.numbers]
                slack = max((one.numbers[kind].half for one in others if kind in one.numbers), default=0.0)
                if len(values) >= 2 and not stated.agrees(statistic(values), slack):
                    right = _printed(statistic(values), kind.endswith("accuracy"))
                    what = f"{record.subject.lower()} of {len(values)} rows' {words_of(kind)}"
                    message = f"{what} is {right}, printed {stated.text}"
                    found.append(contradicted(document.place(record.line), message, "compute it from the table"))
    return found


def _mean_columns(document: Document) -> list[Audit]:
    """ "seed 0 | seed 1 | seed 2 | mean": the last against the others, row by row."""
    found = []
    for table in document.tables:
        header = [plain(cell).lower() for cell in table.header]
        seeds = [at for at, head in enumerate(header) if re.fullmatch(r"(seed|run|repeat)\s*#?\d+", head)]
        means = [at for at, head in enumerate(header) if re.search(_STATISTICS[0][0], head)]
        for offset, row in enumerate(table.rows, 2):
            values = [value for at in seeds if (value := number(plain(row[at])))]
            for at in means:
                stated = number(plain(row[at]))
                if stated is None or len(values) < 2:
                    continue
                right = fmean(one.value for one in values)
                if not stated.agrees(right, max(one.half for one in values)):
                    what = f"{plain(row[0])}: mean of {words.count(len(values), 'seed')}"
                    message = f"{what} is {right:.5g}, printed {stated.text}"
                    found.append(contradicted(document.place(table.line + offset), message, "compute it from the row"))
    return found
