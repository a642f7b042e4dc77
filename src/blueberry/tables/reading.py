"""From a file, a folder or objects to a table: which reader fits, what its columns are; reads CSV and logs."""

import ast
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from blueberry.errors import TableError
from blueberry.files import refused_as
from blueberry.tables.columns import (
    LONGEST_NAME,
    WRAPPERS,
    folded,
    is_name,
    kind_by_name,
    none_is_a_choice,
    refuse_twice,
    renamed_values,
    understood,
)
from blueberry.tables.formats import flat, place_of, read_json, read_json_lines
from blueberry.tables.markdown import read_markdown, read_seeds_across
from blueberry.tables.names import named_by, with_named_settings, with_steps_in_names
from blueberry.tables.rows import STEPS, Found, Placed, Row, Table, is_finite, named_in, uses_decimal_comma, value_of
from blueberry.tables.text import MarkdownTable, is_ornament, read_aligned, without_box, without_summaries
from blueberry.tables.tools import Objectives, is_export, read_export, trials_frame
from blueberry.tables.trackers import chart_runs, is_chart

LARGEST_BYTES = 500_000_000
"""Of a file; a table of runs is far smaller."""
JSON_LINES = (".jsonl", ".ndjson")
MARKDOWN = (".md", ".markdown")
SEPARATED = (".csv", ".tsv")
LOGS = (".log", ".txt")
DELIMITERS = (",", ";", "\t", "|")
SNIFFED_LINES = 20
LONGEST_DICT = 100_000
"""Characters of a cell that holds a config or a summary."""
_PANDAS_INDEX = "Unnamed: 0"
"""What pandas calls the index it wrote without a name when it reads it again."""


def read_table(
    path: str | Path, *, wanted: Sequence[str] = (), metric: str | None = None, name_pattern: str | None = None
) -> Table:
    """Read the runs of a file or, for exports of other tools, of a folder.

    `wanted` are columns that the caller needs: among the tables of a Markdown document they choose. `metric` is what
    was measured, which a Markdown table with a run in each cell may not say. `name_pattern` says which settings stand
    in the names of runs (`blueberry.tables.names`).
    Raises: TableError if it cannot be read, is no table or holds no run.
    """
    path = Path(path)
    with refused_as(TableError, path, "cannot be read", "give a readable table, or a folder of runs"):
        of_a_tool = is_export(path)
    if of_a_tool:
        return _table(str(path), path.stem, read_export(path, _files), wanted, name_pattern)
    name, (text, encoded) = path.name, _text(path)
    found, notes = _rows_in(path, text, [one for one in wanted if one not in named_by(name_pattern)], metric)
    rows = [(f"{name} {where}".strip(), values) for where, values in found]
    return _table(str(path), path.stem, Found(tuple(rows), (*encoded, *notes)), wanted, name_pattern)


def _rows_in(
    path: Path, text: str, wanted: Sequence[str] = (), metric: str | None = None
) -> tuple[Sequence[Placed], list[str]]:
    """What a file's text holds, and what a person should know of it."""
    kind = _kind(path, text)
    if kind == "markdown":
        return read_markdown(text, path.name, wanted, metric)
    if path.suffix.lower() in LOGS and (logged := read_log(text)):
        return logged, []
    if kind == "delimited":
        return read_delimited(text, path.name, metric)
    return list({"json lines": read_json_lines, "json": read_json}[kind](text, path.name)), []


def table_of(rows: Any, name: str = "rows", *, wanted: Sequence[str] = (), name_pattern: str | None = None) -> Table:
    """A table of objects in memory: dicts, one a run, or anything with `.to_dict("records")` such as a data frame.

    Raises: TableError if a row is no dict or there is none.
    """
    if hasattr(rows, "to_dict"):
        rows = rows.to_dict("records")
    if not isinstance(rows, Iterable) or isinstance(rows, (str, bytes, dict)):
        raise TableError(f"{name}: {type(rows).__name__}; rows are dicts, one a run; give a list of them, or a path")
    read: list[Placed] = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise TableError(f"{name} {number}: {type(row).__name__}; each row must be a dict; give a list of dicts")
        values = flat({str(column): value for column, value in row.items()})
        read.append((f"{name} {number}", {column: _of_mlflow(column, value) for column, value in values.items()}))
    return _table(name, name, Found(tuple(read)), wanted, name_pattern)


def _files(folder: Path) -> Iterator[Placed]:
    """Tables and logs of a folder, one file an arm or a run: the rows of all that have a result in them, each with the
    name of its file, and where files lie in several folders that of its folder. Files that are only numbered, or called
    by a hash, are logs of runs that no name tells apart.
    """
    read: list[tuple[Path, Sequence[Placed]]] = []
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if is_hidden or not path.is_file() or path.suffix.lower() not in (*SEPARATED, *JSON_LINES, *LOGS):
            continue
        text, _ = _text(path)
        found = read_log(text) if path.suffix.lower() in LOGS else _rows_in(path, text)[0]
        if any(kind_by_name(column) == "result" for column in (found[0][1] if found else ())):
            read.append((path, found))
    several = len({path.parent for path, _ in read}) > 1
    own = "log" if all(_UNNAMED.fullmatch(path.stem.casefold()) for path, _ in read) else "name"
    for path, found in read:
        name = place_of(path.with_suffix(""), folder)
        given = {"folder": place_of(path.parent, folder)} if several else {}
        for where, values in found:
            yield f"{name} {where}", {**given, "file" if own in values else own: name, **values}


_UNNAMED = re.compile(r"(?:run|seed|rep|log|train)?[_-]?\d+|[0-9a-f]{6,}(?:-[0-9a-f]+)*")


def _table(path: str, name: str, found: Found, wanted: Sequence[str] = (), name_pattern: str | None = None) -> Table:
    if not found.rows:
        raise TableError(f"{path}: no run in it; a table has a row for each run; fill it")
    steps = {where: values[STEPS] for where, values in found.rows if STEPS in values}
    whole = [(where, {one: v for one, v in values.items() if one != STEPS}) for where, values in found.rows]
    rows, objectives = trials_frame(whole)
    rows, left_out = without_summaries(rows)
    columns = list(dict.fromkeys(column for _, values in rows for column in values))
    longest = max(columns, key=len)
    if len(longest) > LONGEST_NAME:
        rule = f"a column's name has at most {LONGEST_NAME}"
        raise TableError(f'{path} "{longest[:40]}...": {len(longest)} characters; {rule}; rename it')
    rows, read_from_names = with_named_settings(rows, wanted, name_pattern, path)
    if not (found.are_runs or steps):
        rows, read_from_steps = with_steps_in_names(rows)
        read_from_names += read_from_steps
    shares = {name for _, values in rows for name, value in values.items() if is_finite(value) and value % 1}
    renamed = understood(column for _, values in rows for column in values)
    renamed = {name: meaning for name, meaning in renamed.items() if meaning != "status" or name not in shares}
    made = tuple(
        Row(place, renamed_values(values, renamed), tuple(renamed_values(one, renamed) for one in steps.get(place, ())))
        for place, values in rows
    )
    goals: Objectives = {renamed.get(column, column): goal for column, goal in (found.objectives or objectives).items()}
    are_runs = found.are_runs or bool(goals)
    left_out = [f"{name}: {line}" for line in left_out]
    return Table(path, name, made, renamed, (*found.notes, *left_out, *read_from_names), goals, are_runs)


def _of_mlflow(column: str, value: Any) -> Any:
    """A data frame of its runs has every parameter as text."""
    return value_of(value) if column.startswith("params.") and isinstance(value, str) else value


def _text(path: Path) -> tuple[str, list[str]]:
    """A file's text, and a line on its encoding where that is not what it should be."""
    remedy = "a table is UTF-8 text: CSV, JSON, JSON Lines or Markdown; mend the path or export it so"
    with refused_as(TableError, path, "cannot be read", remedy):
        if not path.exists():
            raise TableError(f"{path}: no such file; give a CSV, JSON, JSON Lines or Markdown file")
        if path.stat().st_size > LARGEST_BYTES:
            limit = f"a table may have {LARGEST_BYTES // 10**6} MB"
            raise TableError(f"{path}: {path.stat().st_size // 10**6} MB; {limit}; leave out what is no run's number")
        given = path.read_bytes()
        if given[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return given.decode("utf-16"), []
        try:
            return given.decode("utf-8-sig"), []
        except UnicodeDecodeError:
            if _CONTROL.search(given):
                raise
            return given.decode("cp1252"), [
                f"{path.name}: not UTF-8; read as Windows-1252 (cp1252), as older tools write"
            ]


_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
"""Bytes that no text has, in whatever encoding."""


def _kind(path: Path, text: str) -> str:
    """By the file's suffix; for others, by how its text begins."""
    suffix = path.suffix.lower()
    if suffix in JSON_LINES:
        return "json lines"
    if suffix in MARKDOWN:
        return "markdown"
    if suffix in SEPARATED:
        return "delimited"
    start = text.lstrip()[:1]
    if start == "{":
        lines = [line for line in text.splitlines() if line.strip()]
        whole = [line.lstrip().startswith("{") and line.rstrip().endswith("}") for line in lines[:1]]
        return "json lines" if len(lines) > 1 and all(whole) and lines[1].lstrip().startswith("{") else "json"
    if start == "[" or suffix == ".json":
        return "json"
    return "markdown" if start == "|" or (start == "#" and "|" in text) else "delimited"


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
    across = None if comma else MarkdownTable(None, number - 1, tuple(names), as_text, remarks)
    if across is not None and len(whole) == len(lines) - 1 and (found := read_seeds_across(across, place, metric)):
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
    return chart_runs(rows, place) if is_chart(names) else (rows, [])


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
