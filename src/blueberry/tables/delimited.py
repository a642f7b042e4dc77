"""Lines of cells as rows: CSV and its relatives, columns that blanks set apart, and what a trainer logs."""

import ast
import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from blueberry.errors import TableError
from blueberry.tables.columns import WRAPPERS, folded, is_name, kind_by_name, none_is_a_choice, refuse_twice
from blueberry.tables.formats import flat
from blueberry.tables.markdown import SEED_HEAD, MarkdownTable, read_seeds_across
from blueberry.tables.rows import Placed, named_in, uses_decimal_comma, value_of
from blueberry.tables.trackers import CHART_ENDS, chart_runs

DELIMITERS = (",", ";", "\t", "|")
SNIFFED_LINES = 20
LONGEST_DICT = 100_000
"""Characters of a cell that holds a config or a summary."""
_PANDAS_INDEX = "Unnamed: 0"
"""What pandas calls the index it wrote without a name when it reads it again."""


def read_delimited(text: str, place: str, metric: str | None = None) -> tuple[list[Placed], list[str]]:
    """CSV and its relatives: a header line, then one line a run, cells parted by comma, semicolon, tab or bar, or
    aligned by blanks; or the curves of a chart, a column for each run, as W&B exports them; or a column for each seed,
    with cells that are the `metric`, or that the remarks above or the file's name call a loss. With what a person
    should know.

    Raises: TableError for a header that does not name every column once, or a line with other than as many cells.
    """
    remarks = " ".join(line.strip("# ") for line in text.splitlines()[:SNIFFED_LINES] if line.startswith("#"))
    text = without_box(_without_remarks(text))
    delimiter = sniff(text)
    lines = [] if _is_parted(text, delimiter) else read_aligned(text, place)
    delimiter = " " if lines else delimiter
    lines = lines or list(_lines(text, delimiter, place))
    if not lines:
        raise TableError(f"{place}: empty; a table has a line of column names and a line for each run; fill it")
    number, header = lines[0]
    names = [name.strip() for name in header]
    if len(lines) > 2 and (whole := _two_lines(names, lines[1][1], lines[2][1])) is not None:
        names, num_heads = whole
        lines = lines[num_heads - 1 :]
    _refuse_bad_header(names, f"{place} line {number}")
    comma = delimiter != "," and uses_decimal_comma([cell for _, cells in lines[1:] for cell in cells])
    whole = [cells for _, cells in lines[1:] if len(cells) == len(names)]
    columns = dict(zip(names, zip(*whole, strict=True), strict=False))
    as_text = tuple(tuple(cell.strip() for cell in cells) for cells in whole)
    of_seeds = [name for name in names if SEED_HEAD.match(name)]
    if len(of_seeds) > 1 and not comma and len(whole) == len(lines) - 1:
        across = MarkdownTable(None, number - 1, tuple(names), as_text, remarks)
        if (found := read_seeds_across(across, place, metric)) is not None:
            return found
    choices = {name for name, cells in columns.items() if none_is_a_choice(name, cells)}
    rows: list[Placed] = []
    for number, cells in lines[1:]:
        if len(cells) != len(names):
            raise TableError(
                f"{place} line {number}: {len(cells)} cells under {len(names)} column names; "
                "a line has one cell for each column, empty where nothing is known; mend it"
            )
        values: dict[str, Any] = {}
        for name, cell in zip(names, cells, strict=True):
            if name not in ("", _PANDAS_INDEX):
                is_none = name in choices and cell.strip().casefold() == "none"
                values |= {name: "none"} if is_none else _cell(name, cell, decimal_comma=comma)
        rows.append((f"line {number}", values))
    is_chart = all(any(name.endswith(end) for name in names) for end in CHART_ENDS)
    return chart_runs(rows, place) if is_chart else (rows, [])


def _is_parted(text: str, delimiter: str) -> bool:
    """Whether the line of names has a delimiter in it."""
    return delimiter in next((line for line in text.splitlines() if line.strip() and not is_ornament(line)), "")


def _without_remarks(text: str) -> str:
    """Without lines above the header that begin with a hash, unless one is the header: it has as many cells, and where
    blanks part them those of the line below are numbers."""
    lines = text.splitlines()
    first = next((n for n, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), 0)
    if first == 0:
        return text
    delimiter = sniff("\n".join(lines[first:]))
    above = [n for n in range(first) if lines[n].count(delimiter) == lines[first].count(delimiter) > 0]
    words, names = lines[first].split(), lines[first - 1].replace("#", " ", 1).split()
    has_numbers = not any(isinstance(value_of(word), str) for word in words)
    if delimiter not in lines[first] and has_numbers and len(names) == len(words) > 1:
        return "\n" * (first - 1) + "\n".join([" ".join(names), *lines[first:]])
    return text if above else "\n" * first + "\n".join(lines[first:])


def _two_lines(above: Sequence[str], below: Sequence[str], then: Sequence[str]) -> tuple[list[str], int] | None:
    """The names of columns that stand in two lines, as a data frame with columns of two levels is written
    ("params", "params" above "lr", "wd"), and how many lines that takes: a third names the index. None where one does.
    """
    cells = [cell.strip() for cell in below]
    repeated = [above.count(name) > 1 for name in above]
    if len(cells) != len(above) or not any(name and again for name, again in zip(above, repeated, strict=True)):
        return None
    if any(value_of(cell) is not None and not isinstance(value_of(cell), str) for cell in cells):
        return None
    names = ["_".join(filter(None, both)) for both in zip(above, cells, strict=True)]
    index = [cell.strip() if not name else "" for name, cell in zip(names, then, strict=False)]
    has_index = any(index) and not any(cell.strip() for name, cell in zip(names, then, strict=False) if name)
    return [name or of for name, of in zip(names, index, strict=True)] if has_index else names, 3 if has_index else 2


def _cell(name: str, cell: str, *, decimal_comma: bool) -> dict[str, Any]:
    """Its value by its column; several where the cell is the config or summary of a run, as data frames write dicts."""
    if is_name(name):
        return {name: named_in(cell)}
    if cell[:1] == "{" and cell[-1:] == "}" and folded(name) in WRAPPERS and len(cell) <= LONGEST_DICT:
        text = re.sub(r"(?<=[:\[, ])(-?)(?:nan|inf)(?=[,\]} ])", r"\g<1>1e999", cell)
        for parse in (json.loads, ast.literal_eval):
            try:
                read = parse(cell if parse is json.loads else text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            return flat({name: read})
    return {name: value_of(cell, decimal_comma=decimal_comma)}


def sniff(text: str) -> str:
    """The delimiter that parts the most lines into as many cells as the header, more cells rather than fewer."""
    head = "\n".join(text.splitlines()[:SNIFFED_LINES])

    def fit(delimiter: str) -> tuple[int, int]:
        try:
            widths = [len(cells) for cells in csv.reader(head.splitlines(), delimiter=delimiter) if cells]
        except csv.Error:
            return 0, 0
        return (sum(width == widths[0] for width in widths), widths[0]) if widths and widths[0] > 1 else (0, 0)

    return max(DELIMITERS, key=fit)


def _lines(text: str, delimiter: str, place: str) -> Iterator[tuple[int, list[str]]]:
    """Each line that says anything, with its number."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) and not is_ornament(delimiter.join(cells)):
                yield reader.line_num, cells
    except csv.Error as error:
        raise TableError(
            f"{place} line {reader.line_num}: {error}; each line must be cells parted by {delimiter!r}; mend it"
        ) from None


def _refuse_bad_header(names: list[str], place: str) -> None:
    refuse_twice(names, place)
    values = [value_of(name) for name in names if name]
    if values and not any(isinstance(value, str) for value in values):
        raise TableError(f"{place}: only numbers; the first line must name the columns; add a line of names")


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


# --- Logs ---

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
    """A row for each line of what a trainer prints that says a step and something measured there; none where fewer than
    LEAST_LINES do.

    "step 250: train loss 1.96, val loss 2.01" of nanoGPT and "step:250/5960 val_loss:3.87" of its speedruns are such.
    """
    rows: list[Placed] = []
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > LONGEST_LINE or not (steps := _STEP.findall(line)):
            continue
        found = {folded(name): value_of(value) for name, value in _PAIR.findall(line)}
        if any(kind_by_name(name) == "result" for name in found):
            rows.append((f"line {number}", {word.casefold(): int(count) for word, count in steps} | found))
    return rows if len(rows) >= LEAST_LINES else []
