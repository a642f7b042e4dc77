"""Tables whose columns are set apart by blanks, as data frames, `column -t` and the scripts of sweeps print them."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from blueberry.errors import TableError
from blueberry.tables.rows import value_of

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
