"""Tables in text, cell by cell: Markdown's, and those whose columns blanks set apart; and rows that are no runs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any

from blueberry.errors import TableError
from blueberry.tables.columns import kind_by_name
from blueberry.tables.kinds import LEAST_DIGITS
from blueberry.tables.rows import Placed, Row, is_finite, significant_digits, value_of

_HEADING = re.compile(r"\s{0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_RULE_CELL = re.compile(r":?-+:?")
_RULE_LINE = re.compile(r"\s*\|[\s|:-]*-[\s|:-]{0,2000}")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_UNESCAPED_BAR = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class MarkdownTable:
    """One table, its cells as they stand there: marks of emphasis, units and signs included."""

    heading: str | None
    """The nearest heading above it, without its hashes."""
    line: int
    """Of its header, counted from 1."""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """As many cells a row as the header has: missing ones are empty, surplus ones left out, as renderers do."""
    caption: str = field(default="", compare=False)
    """The paragraph right above it, between it and the nearest heading or table."""
    headings: tuple[str, ...] = field(default=(), compare=False)
    """All that it stands under, the nearest first."""


def read_tables(text: str) -> list[MarkdownTable]:
    """Every pipe table outside fenced code, in the order of the document.

    A table is a header line, a line of dashes with as many cells, then lines with a bar up to a blank line.
    Source: GitHub Flavored Markdown 0.29, section 4.10.
    """
    lines = text.splitlines()
    found: list[MarkdownTable] = []
    headings: list[tuple[int, str]] = []
    paragraph: list[str] = []
    fence: str | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        mark = _FENCE.match(line)
        if mark:
            fence, paragraph = _fence_after(fence, mark.group(1)), []
        elif fence is None and (named := _HEADING.match(line)):
            level, paragraph = len(named[1]), []
            headings = [(level, named[2]), *((above, name) for above, name in headings if above < level)]
        elif fence is None and number + 1 < len(lines) and _begins_table(line, lines[number + 1]):
            end = number + 2
            while end < len(lines) and "|" in lines[end]:
                end += 1
            header = split_row(line)
            rows = tuple((*split_row(row), *[""] * len(header))[: len(header)] for row in lines[number + 2 : end])
            under = tuple(name for _, name in headings)
            caption = " ".join(paragraph)
            found.append(MarkdownTable(under[0] if under else None, number + 1, header, rows, caption, under))
            number, paragraph = end, []
            continue
        elif fence is None and line.strip():
            paragraph = [*paragraph, line.strip()] if number and lines[number - 1].strip() else [line.strip()]
        number += 1
    return found


def split_row(line: str) -> tuple[str, ...]:
    """The cells of one line, stripped; `\\|` is a bar within a cell, and `\\_` an underscore."""
    inside = line.strip().removeprefix("|")
    if inside.endswith("|") and not inside.endswith("\\|"):
        inside = inside[:-1]
    return tuple(_ESCAPED.sub(r"\1", cell.strip()) for cell in _UNESCAPED_BAR.split(inside))


def broken_tables(text: str) -> list[str]:
    """What looks like a table and is none, as its header has more or fewer cells than the line of dashes below it: a
    line for each."""
    found: list[str] = []
    fence: str | None = None
    for number, (line, below) in enumerate(pairwise(text.splitlines()), 1):
        mark = _FENCE.match(line)
        fence = _fence_after(fence, mark.group(1)) if mark else fence
        if fence or "|" not in line or not _RULE_LINE.fullmatch(below):
            continue
        num, rule = len(split_row(line)), len(split_row(below))
        if rule > 1 and num != rule:
            what = f"{num} cells over a rule of {rule}, so that it is no table"
            found.append(f"line {number}: {what}; each column has one of both; write \\| for a bar within a cell")
    return found


def _begins_table(line: str, below: str) -> bool:
    if "|" not in line or "-" not in below or ("|" not in below and ":" not in below):
        return False
    rule = split_row(below)
    return len(rule) == len(split_row(line)) and all(_RULE_CELL.fullmatch(cell) for cell in rule)


def _fence_after(fence: str | None, mark: str) -> str | None:
    """Which fence is open after a line that begins with `mark`."""
    if fence is None:
        return mark
    return None if mark.startswith(fence) else fence


def bare(cell: str) -> str:
    """A cell without marks of emphasis and code, a link as its text."""
    stripped = _LINK.sub(r"\1", cell.strip())
    for mark in ("**", "__", "*", "`"):
        if len(stripped) > 2 * len(mark) and stripped.startswith(mark) and stripped.endswith(mark):
            stripped = stripped[len(mark) : -len(mark)].strip()
    return stripped


# --- Columns that blanks set apart ---

LEAST_CELLS = 2
"""In the line of names, for text to be such a table."""
_RULE = re.compile(r"[-=+|:\s\N{BOX DRAWINGS LIGHT HORIZONTAL}]*[-=\N{BOX DRAWINGS LIGHT HORIZONTAL}]{2}"
                   r"[-=+|:\s\N{BOX DRAWINGS LIGHT HORIZONTAL}]*")  # fmt: skip
_SIZE = re.compile(r"\[(\d+) rows x (\d+) columns\]|\((\d+) rows?\)")
"""What pandas and databases print below a table."""
_FIRST = re.compile(r"\s*\S+(?: \S+)*")
_APART, _BLANKS = re.compile(r"\s{2,}"), re.compile(r"\s+")

Line = tuple[int, list[str]]
"""The number of a line, counted from 1, and its cells."""


def is_rule(line: str) -> bool:
    """Whether a line only sets the names of columns apart from what stands below."""
    return _RULE.fullmatch(line) is not None


def is_ornament(line: str) -> bool:
    """Whether it is no row: a rule, or how many rows there are."""
    return is_rule(line) or _SIZE.fullmatch(line.strip()) is not None


def without_box(text: str) -> str:
    """Of a table in a box of plus signs, dashes and bars its lines without those at their ends."""
    if not text.lstrip().startswith("+-"):
        return text
    return "\n".join("" if is_rule(line) else line.strip().strip("|") for line in text.splitlines())


def read_aligned(text: str, place: str) -> list[Line]:
    """The line of names and the lines of runs, cells parted where every line has as many: as a rule of dashes parts
    them, by two blanks or more, by any, or by the positions that are blank in all lines. Empty where the first line is
    no such line of names.

    One cell more in each run than there are names is the index of a data frame: a column of its own name where the
    frame says one, "name" where it is of words, and without a name, so that it is left out, where it counts.
    Raises: TableError where no way parts every line, or rows or columns were left out in print.
    """
    numbered = [(number, line.expandtabs().rstrip()) for number, line in enumerate(text.splitlines(), 1)]
    numbered = [(number, line) for number, line in numbered if line.strip()]
    size = _SIZE.fullmatch(numbered[-1][1].strip()) if numbered else None
    if size is not None:
        numbered.pop()
    rule = next((line for _, line in numbered if is_rule(line)), "")
    lines = [(number, line) for number, line in numbered if not is_rule(line)]
    if len(lines) < 2 or max(len(line.split()) for _, line in lines[:2]) < LEAST_CELLS:
        return []
    number, header = lines[0]
    if header.endswith("\\") or "..." in header.split():
        what = "columns are wrapped or left out in print"
        raise TableError(f"{place} line {number}: {what}; a run is one whole line; print df.to_string(), or write CSV")
    indent = len(header) - len(header.lstrip())
    is_left = all((first := _FIRST.match(line)) is not None and first.end() <= indent for _, line in lines[1:])
    for cells in _ways(lines, rule):
        if is_left and len(cells[0][1]) == len(cells[1][1]) and cells[0][1][0]:
            continue  # what stands left of the first name is an index, so that a cell of each line is empty
        if (found := _with_index(cells)) is not None:
            shown = len(found) - 1
            if size is not None and int(size[1] or size[3]) > shown - any(set(line) <= {*". "} for _, line in lines):
                what = f"{shown} of {size[1] or size[3]} rows are shown"
                raise TableError(f"{place}: {what}; a table has all runs; print df.to_string(), or write CSV")
            return found
    counts = [len(_APART.split(line.strip())) for _, line in lines]
    odd = next((at for at, count in enumerate(counts) if count != counts[0]), 0)
    raise TableError(
        f"{place} line {lines[odd][0]}: {counts[odd]} cells, parted by blanks, under {counts[0]} column names; a line "
        "has one cell for each column; write it as CSV"
    )


def _ways(lines: Sequence[tuple[int, str]], rule: str) -> Iterator[list[Line]]:
    """The cells of all lines, by each way to part them."""
    if len(rule.split()) >= LEAST_CELLS:
        yield _cut(lines, rule)
    yield [(number, _APART.split(line.strip())) for number, line in lines]
    by_any = [(number, _BLANKS.split(line.strip())) for number, line in lines]
    if len(by_any[0][1]) == len(by_any[1][1]) or all(cells[0] == f"{at}" for at, (_, cells) in enumerate(by_any[1:])):
        yield by_any  # else a name or a text of several words might pass for an index
    width = max(len(line) for _, line in lines)
    taken = "".join("-" if any(line[at : at + 1].strip() for _, line in lines) else " " for at in range(width))
    for gaps in (re.sub(r"(?<=-) (?=-)", "-", taken), taken):  # a single blank may stand within cells
        cut = _cut(lines, gaps)
        named = [name for name in cut[0][1] if name]
        whole = not any(_APART.search(cell) for _, cells in cut for cell in cells)
        if whole and named in (_APART.split(lines[0][1].strip()), by_any[0][1]):
            yield cut


def _cut(lines: Sequence[tuple[int, str]], rule: str) -> list[Line]:
    """At the runs of dashes of a rule; one run of text that crosses a border gives no cells."""
    spans = [found.span() for found in re.finditer(r"\S+", rule)]
    spans[-1] = (spans[-1][0], max(len(line) for _, line in lines))
    made: list[Line] = []
    for number, line in lines:
        outside = "".join(line[end:start] for (_, end), (start, _) in pairwise(spans))
        cells = [line[start:end].strip() for start, end in spans]
        made.append((number, [] if outside.strip() or line[: spans[0][0]].strip() else cells))
    return made


def _with_index(lines: list[Line]) -> list[Line] | None:
    """With a name for every cell, or None where lines have other than as many, or one more for an index."""
    (number, names), *runs = lines
    index: list[str] = []
    if len(runs) > 1 and 0 < len(runs[0][1]) < len(names) and len(runs[1][1]) == len(names) + len(runs[0][1]):
        index = runs.pop(0)[1]  # a data frame has the names of its index in a line of their own
    counts = {len(cells) for _, cells in runs}
    if len(counts) != 1:
        return None
    (count,) = counts
    if not index and count == len(names) + 1:
        words = [[isinstance(value_of(cell), str) for cell in cells] for _, cells in runs]
        if all(words[0]) and not all(map(all, words)):
            return None  # a second line of names
        index = [""]
    names = [*index, *names]
    if not names[0] and any(isinstance(value_of(cells[0]), str) for _, cells in runs):
        names[0] = "name"
    if count != len(names) or not all(names[1:]) or len(names) < LEAST_CELLS:
        return None
    return [(number, names), *runs]


# --- Rows that are no runs ---

MEANS = frozenset(("mean", "average", "avg", "\u03bc", "mean of seeds"))
SPREADS = frozenset(
    ("std", "sd", "stdev", "std dev", "stddev", "sem", "stderr", "variance", "range", "min", "max", "median", "\u03c3")
)
"""What a row of a summary is called; those of the second kind only below one of the first, or under seeds."""
LEAST_SUMMED = 2
WITHIN = 0.1
"""Of the range of what is summed up: how far from the mean a row called so may be."""


def without_summaries(rows: Sequence[Placed]) -> tuple[Sequence[Placed], list[str]]:
    """The rows that are runs, and what a person should know of the others."""
    said: list[str] = []
    known = [one for one in rows if any(value is not None for value in one[1].values())]
    if known and len(known) < len(rows):
        said.append(f"{len(rows) - len(known)} of {len(rows)} rows say nothing, and are no runs")
        rows = known
    once: dict[str, Placed] = {}
    for place, values in rows:
        once.setdefault(repr(values) if _is_unique(values) else place, (place, values))
    if len(once) < len(rows):
        said.append(f"{len(rows) - len(once)} of {len(rows)} rows stand twice, to the last digit, and count once")
        rows = [*once.values()]
    for column in dict.fromkeys(name for _, values in rows[:1] for name in values):
        named = [summary_in(values.get(column)) for _, values in rows]
        runs = [one for one, name in zip(rows, named, strict=True) if name is None]
        if any(named) and len(runs) >= LEAST_SUMMED and _are_summaries(column, rows, named, runs):
            words = ", ".join(
                dict.fromkeys(f"{values[column]}" for (_, values), name in zip(rows, named, strict=True) if name)
            )
            said.append(f"rows called {words:.80} ({column}) sum up the others, and are no runs")
            return runs, said
    return rows, said


_SUMS_UP = re.compile(r"(?<![a-z])(means?|averages?|avg|medians?|std|sd|overall|all seeds)(?![a-z])", re.IGNORECASE)


def without_unseeded(
    rows: Sequence[Row], seeds: Sequence[str], told: Sequence[str], metric: str, notes: list[str]
) -> list[Row]:
    """Of rows that each have a seed, those; a row without one is none of them where it is called a mean, where its
    metric is the mean of those that agree with it in the columns `told`, or where none agrees, beside several arms
    that have seeds. Another is left, for it may be a run whose seed was forgotten."""
    seeded: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if all(row.values.get(name) is not None for name in seeds):
            seeded.setdefault(tuple(str(row.values.get(name)) for name in told), []).append(row)
    left: list[Row] = []
    for row in rows if len(seeded) > 1 and seeds and told else ():
        if all(row.values.get(name) is None for name in seeds) and is_finite(value := row.values.get(metric)):
            texts = [one for one in row.values.values() if isinstance(one, str)]
            others = seeded.get(tuple(str(row.values.get(name)) for name in told), [])
            known = [one for other in others if is_finite(one := other.values.get(metric))]
            is_mean = len(known) > 1 and abs(value - fmean(known)) <= WITHIN * (max(known) - min(known))
            if any(map(_SUMS_UP.search, texts)) or is_mean or not others:
                left.append(row)
    if left:
        what = ", ".join(" ".join(f"{row.values.get(name)}" for name in told) for row in left)
        notes.append(f"rows without a seed beside runs that have one are no runs of a comparison: {what:.80}; left out")
    return [row for row in rows if row not in left]


def _is_unique(values: Mapping[str, Any]) -> bool:
    """Whether a row says so much that another run would not have said the same: a text, and a number of many digits."""
    results = [one for name, one in values.items() if kind_by_name(name) == "result" and is_finite(one)]
    digits = [significant_digits(repr(one)) for one in results]
    return max(digits, default=0) >= LEAST_DIGITS and any(isinstance(one, str) for one in values.values())


def summary_in(cell: Any) -> str | None:
    """What a cell says a row is, "mean" of "Mean (3 seeds)" or "mean \u00b1 std"; None where it names a run."""
    if not isinstance(cell, str) or len(cell) > 40:
        return None
    words = (
        cell.casefold().replace("*", " ").replace("\u00b1", "(").replace("+/-", "(").replace("/", "(").partition("(")[0]
    )
    word = " ".join(words.replace(".", " ").split())
    return word if word in MEANS | SPREADS else None


def _are_summaries(column: str, rows: Sequence[Placed], named: Sequence[str | None], runs: Sequence[Placed]) -> bool:
    """Under seeds and numbers anything so called is one; among names the row called mean has to be the mean."""
    if kind_by_name(column) == "seed" or all(is_finite(values.get(column)) for _, values in runs):
        return True
    means = [values for (_, values), name in zip(rows, named, strict=True) if name in MEANS]
    for mean in means[:1]:
        for name, value in mean.items():
            others = [values.get(name) for _, values in runs]
            numbers = [one for one in others if is_finite(one)]
            if is_finite(value) and len(numbers) == len(others) and max(numbers) > min(numbers):
                return abs(value - fmean(numbers)) <= WITHIN * (max(numbers) - min(numbers))
    return False
