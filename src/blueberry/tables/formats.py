"""Text as rows, in the formats that tables come in: Markdown, CSV and its relatives, columns that blanks set apart,
logs, JSON and JSON Lines."""

import ast
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from blueberry.errors import TableError
from blueberry.tables.columns import WRAPPERS, folded, is_name, kind_by_name, refuse_twice
from blueberry.tables.markdown import SEED_HEAD, MarkdownTable, table_of_runs, with_seeds_down
from blueberry.tables.rows import Placed, bare, flat, loads, named_in, of_each_seed, uses_decimal_comma, value_of

DELIMITERS = (",", ";", "\t", "|")
SNIFFED_LINES = 20
LONGEST_DICT = 100_000
"""Characters of a cell that holds a config or a summary."""
_PANDAS_INDEX = "Unnamed: 0"
"""What pandas calls the index it wrote without a name when it reads it again."""
Line = tuple[int, list[str]]
"""The number of a line, counted from 1, and its cells."""
Read = tuple[list[Placed], list[str]]
"""Runs, and what a person should know of them."""


def read_markdown(text: str, place: str, wanted: Sequence[str], metric: str | None = None) -> Read:
    """The runs of the table that has what is `wanted`. Raises: TableError if none has, as `table_of_runs` does."""
    table, notes = table_of_runs(text, place, wanted, metric)
    return _runs_of(table, place), notes


def _runs_of(table: MarkdownTable, place: str) -> list[Placed]:
    names = [bare(name) for name in table.header]
    refuse_twice(names, f"{place} line {table.line}")
    lines = [(at, list(map(bare, cells))) for at, cells in zip(table.places, table.rows, strict=True)]
    return _runs(names, lines, place)


def read_delimited(text: str, place: str, metric: str | None = None) -> Read:
    """CSV and its relatives: a header line, then one line a run, cells parted by comma, semicolon, tab or bar, or
    aligned by blanks; or a column for each seed, with cells that are the `metric`, or that the remarks above or the
    file's name call a loss.

    Raises: TableError for a header that does not name every column once, or a line with other than as many cells.
    """
    remarks = " ".join(line.strip("# ") for line in text.splitlines()[:SNIFFED_LINES] if line.startswith("#"))
    text = without_box(_without_remarks(text))
    delimiter = sniff(text)
    first = next((line for line in text.splitlines() if line.strip() and not is_ornament(line)), "")
    lines = [] if delimiter in first else read_aligned(text, place)
    delimiter = " " if lines else delimiter
    lines = lines or list(_lines(text, delimiter, place))
    if not lines:
        raise TableError(f"{place}: empty; a table has a line of column names and a line for each run; fill it")
    number, header = lines[0]
    names = [name.strip() for name in header]
    if len(lines) > 2 and (whole := _two_lines(names, lines[1][1], lines[2][1])) is not None:
        names, num_heads = whole
        lines = lines[num_heads - 1 :]
    refuse_twice(names, f"{place} line {number}")
    if any(names) and not any(isinstance(value_of(name), str) for name in names if name):
        raise TableError(
            f"{place} line {number}: only numbers; the first line must name the columns; add a line of names"
        )
    comma = delimiter != "," and uses_decimal_comma([cell for _, cells in lines[1:] for cell in cells])
    odd = next(((number, cells) for number, cells in lines[1:] if len(cells) != len(names)), None)
    if odd is not None:
        raise TableError(
            f"{place} line {odd[0]}: {len(odd[1])} cells under {len(names)} column names; "
            "a line has one cell for each column, empty where nothing is known; mend it"
        )
    placed = [(f"line {number}", cells) for number, cells in lines[1:]]
    if not comma and sum(SEED_HEAD.match(name) is not None for name in names) > 1:
        as_text = tuple(tuple(cell.strip() for cell in cells) for _, cells in lines[1:])
        places = tuple(at for at, _ in placed)
        across = MarkdownTable(None, number, tuple(names), as_text, remarks, places=places)
        if (found := with_seeds_down(across, place, metric)) is not None:
            down, note = found
            return _runs_of(down, place), [note]
    return _runs(names, placed, place, decimal_comma=comma), []


def _runs(
    names: Sequence[str], lines: Sequence[tuple[str, list[str]]], place: str, *, decimal_comma: bool = False
) -> list[Placed]:
    """Each line of cells, with where it stands, as a run; columns without a name are left out."""
    columns = zip(names, zip(*(cells for _, cells in lines), strict=True), strict=False)
    choices = {name for name, cells in columns if _none_is_a_choice(name, cells)}
    rows: list[Placed] = []
    for at, cells in lines:
        values: dict[str, Any] = {}
        for name, cell in zip(names, cells, strict=True):
            if name not in ("", _PANDAS_INDEX):
                is_none = name in choices and cell.strip().casefold() == "none"
                values |= {name: "none"} if is_none else _cell(name, cell, f"{place} {at}", decimal_comma)
        rows.append((at, values))
    return rows


def _none_is_a_choice(column: str, cells: Iterable[str]) -> bool:
    """Whether "none" in a column is what was chosen, as "layer" or "rms" are, and not a cell that says nothing."""
    return kind_by_name(column) in ("setting", None) and any(isinstance(value_of(cell), str) for cell in cells)


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


def _cell(name: str, cell: str, place: str, decimal_comma: bool) -> dict[str, Any]:
    """Its value by its column; several where the cell is the config or summary of a run, as data frames write dicts."""
    if is_name(name):
        return {name: named_in(cell)}
    if cell[:1] == "{" and cell[-1:] == "}" and folded(name) in WRAPPERS and len(cell) <= LONGEST_DICT:
        text = re.sub(r"(?<=[:\[, ])(-?)(?:nan|inf)(?=[,\]} ])", r"\g<1>1e999", cell)
        for is_json in (True, False):
            try:
                read = loads(cell, f'{place} "{name}"') if is_json else ast.literal_eval(text)
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


# --- Columns that blanks set apart ---

LEAST_CELLS = 2
"""In the line of names, for text to be such a table."""
_RULE = re.compile(r"[-=+|:\s\N{BOX DRAWINGS LIGHT HORIZONTAL}]*[-=\N{BOX DRAWINGS LIGHT HORIZONTAL}]{2}"
                   r"[-=+|:\s\N{BOX DRAWINGS LIGHT HORIZONTAL}]*")  # fmt: skip
_SIZE = re.compile(r"\[(\d+) rows x (\d+) columns\]|\((\d+) rows?\)")
"""What pandas and databases print below a table."""
_FIRST = re.compile(r"\s*\S+(?: \S+)*")
_APART, _BLANKS = re.compile(r"\s{2,}"), re.compile(r"\s+")


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


# --- JSON ---

OWN_SCHEMA = "blueberry/results/"
LONGEST_INTEGER = 19
"""Digits of a whole number that is read as one; what no count or setting is so long as is a name."""
LISTS = ("runs", "rows", "records", "experiments", "trials", "results", "data")
"""Keys of an object that may hold the list of runs."""


def read_json(text: str, place: str) -> Iterator[Placed]:
    """Every run of a JSON document: a list of objects, {"runs": [...]}, {name: {...}, ...}, columns of equal length,
    or a single run's object.

    Raises: TableError if it is not JSON, or holds no objects.
    """
    document = _parsed(text, place)
    if isinstance(document, dict) and str(document.get("schema", "")).startswith(OWN_SCHEMA):
        yield from _own_runs(document, place)
        return
    for where, run in _objects(document, place):
        if not isinstance(run, dict):
            remedy = 'write [{"learning_rate": 0.01, "val_loss": 3.2}, ...]'
            raise TableError(f"{place} {where}: {type(run).__name__}; each run must be an object; {remedy}")
        for inside, values in of_each_seed(run):
            yield f"{where} {inside}".strip(), values


def read_json_lines(text: str, place: str) -> Iterator[Placed]:
    """One object a line. Raises: TableError naming the first line that is none."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        run = _parsed(line, f"{place} line {number}")
        if not isinstance(run, dict):
            raise TableError(f"{place} line {number}: {type(run).__name__}; each line must be an object; mend it")
        yield f"line {number}", flat(run)


def _parsed(text: str, place: str) -> Any:
    try:
        return loads(text, place, parse_int=lambda text: int(text) if len(text) <= LONGEST_INTEGER else text)
    except (json.JSONDecodeError, RecursionError) as error:
        what = f"{error.msg}, line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise TableError(f"{place}: not valid JSON ({what}); mend it") from None


def _objects(document: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(document, list):
        yield from ((f"run {number}", run) for number, run in enumerate(document, 1))
        return
    if not isinstance(document, dict) or not document:
        what = "empty" if not document else type(document).__name__
        raise TableError(f"{place}: {what}; a table is a list of runs, each an object; write it so")
    if isinstance(document.get("log_history"), list):
        yield "", document
        return
    listed = next((key for key in LISTS if isinstance(document.get(key), list)), None)
    if listed is not None:
        yield from _objects(document[listed], place)
    elif all(isinstance(value, list) for value in document.values()):
        lengths = {len(values) for values in document.values()}
        if len(lengths) > 1:
            what = f"lists of {min(lengths)} to {max(lengths)} values; columns must be equally long; mend them"
            raise TableError(f"{place}: {what}")
        for number, values in enumerate(zip(*document.values(), strict=True), 1):
            yield f"run {number}", dict(zip(document, values, strict=True))
    elif all(isinstance(one, dict) for one in document.values()) and any(folded(n) not in WRAPPERS for n in document):
        if all(key.isdigit() for column in document.values() for key in column):  # as pandas writes a frame
            keys = list(dict.fromkeys(key for column in document.values() for key in column))
            yield from ((f"run {key}", {n: c.get(key) for n, c in document.items()}) for key in keys)
        else:
            yield from ((f'"{name}"', {"name": name, **run}) for name, run in document.items())
    else:
        yield "", document


def _own_runs(document: dict[str, Any], place: str) -> Iterator[Placed]:
    """A report's results.json: settings and metrics without prefix, the rest of the recipe under its dotted names."""
    runs = document.get("runs")
    if not isinstance(runs, list):
        raise TableError(f'{place} "runs": {type(runs).__name__}; must be a list of runs; write it anew')
    for number, run in enumerate(runs, 1):
        if not isinstance(run, dict):
            raise TableError(f"{place} run {number}: {type(run).__name__}; each run must be an object; write it anew")
        recipe, provenance, settings, metrics = (
            part if isinstance(part := run.get(name), dict) else {}
            for name in ("recipe", "provenance", "settings", "metrics")
        )
        named = {name: run.get(name) for name in ("arm", "seed", "stage", "status", "train_seconds")}
        counts = {name: run.get(name) or None for name in ("updates", "tokens", "flops")}
        read = {
            **{name: value for name, value in recipe.items() if name != "seed"},
            **settings,
            **metrics,
            **named,
            **counts,
            "eval_hash": provenance.get("evaluation_digest"),
        }
        yield f"run {number}", flat(read)
