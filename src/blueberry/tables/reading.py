"""From a file, a folder or objects in memory to a table: which reader fits, and what its columns are; reads CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from blueberry.errors import TableError
from blueberry.files import refused_as
from blueberry.tables.columns import (
    LONGEST_NAME,
    is_name,
    kind_by_name,
    refuse_twice,
    renamed_values,
    root_of,
    settings_in,
    understood,
)
from blueberry.tables.exports import read_export
from blueberry.tables.json_rows import flat, read_json, read_json_lines
from blueberry.tables.markdown import read_markdown
from blueberry.tables.rows import Placed, Row, Table, uses_decimal_comma, value_of

LARGEST_BYTES = 500_000_000
"""Of a file; a table of runs is far smaller."""
JSON_LINES = (".jsonl", ".ndjson")
MARKDOWN = (".md", ".markdown")
DELIMITERS = (",", ";", "\t", "|")
SNIFFED_LINES = 20
_PANDAS_INDEX = "Unnamed: 0"
"""What pandas calls the index it wrote without a name when it reads it again."""


def read_table(path: str | Path, *, wanted: Sequence[str] = ()) -> Table:
    """Read the runs of a file or, for exports of other tools, of a folder.

    `wanted` are columns that the caller needs: among the tables of a Markdown document they choose.
    Raises: TableError if it cannot be read, is no table or holds no run.
    """
    path = Path(path)
    with refused_as(TableError, path, "cannot be read", "give a readable table, or a folder of runs"):
        is_export = path.is_dir() or path.suffix == ".wandb" or "tfevents" in path.name
    if is_export:
        return _table(str(path), path.stem, read_export(path), (), wanted)
    text, name = _text(path), path.name
    notes: list[str] = []
    kind = _kind(path, text)
    if kind == "markdown":
        found, notes = read_markdown(text, name, wanted)
    else:
        found = {"json lines": read_json_lines, "json": read_json, "delimited": read_delimited}[kind](text, name)
    rows = [(f"{name} {where}".strip(), values) for where, values in found]
    return _table(str(path), path.stem, rows, notes, wanted)


def table_of(rows: Any, name: str = "rows") -> Table:
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
        read.append((f"{name} {number}", flat({str(column): value for column, value in row.items()})))
    return _table(name, name, read, [])


def _table(
    path: str,
    name: str,
    rows: Sequence[Placed],
    notes: Sequence[str],
    wanted: Sequence[str] = (),
) -> Table:
    if not rows:
        raise TableError(f"{path}: no run in it; a table has a row for each run; fill it")
    columns = list(dict.fromkeys(column for _, values in rows for column in values))
    longest = max(columns, key=len)
    if len(longest) > LONGEST_NAME:
        rule = f"a column's name has at most {LONGEST_NAME}"
        raise TableError(f'{path} "{longest[:40]}...": {len(longest)} characters; {rule}; rename it')
    said = list(notes)
    rows = _with_named_settings(rows, columns, wanted, said)
    renamed = understood(column for _, values in rows for column in values)
    made = tuple(Row(place, renamed_values(values, renamed)) for place, values in rows)
    return Table(path, name, made, renamed, tuple(said))


def _with_named_settings(
    rows: Sequence[Placed], columns: list[str], wanted: Sequence[str], notes: list[str]
) -> Sequence[Placed]:
    """With a column for each setting that the names of all runs have in them, where there is none: "lr=0.01,bs=32"."""
    asked = {root_of(name) for name in wanted}
    have = {root_of(column.rpartition(".")[2]) for column in columns}
    for column in columns:
        if kind_by_name(column) != "label":
            continue
        named = [settings_in(str(values.get(column) or "")) for _, values in rows]
        common = [key for key in named[0] if all(key in one for one in named[1:])]
        lacking = [key for key in common if root_of(key) not in have]
        new = [key for key in lacking if kind_by_name(key) in ("setting", "seed") or root_of(key) in asked]
        if new:
            have |= {root_of(key) for key in new}
            notes.append(f"{', '.join(new)}: read from the names of the runs ({column})")
            rows = [
                (place, {**values, **{key: one[key] for key in new}})
                for (place, values), one in zip(rows, named, strict=True)
            ]
    return rows


def _text(path: Path) -> str:
    remedy = "a table is UTF-8 text: CSV, JSON, JSON Lines or Markdown; mend the path or export it so"
    with refused_as(TableError, path, "cannot be read", remedy):
        if not path.exists():
            raise TableError(f"{path}: no such file; give a CSV, JSON, JSON Lines or Markdown file")
        if path.stat().st_size > LARGEST_BYTES:
            limit = f"a table may have {LARGEST_BYTES // 10**6} MB"
            raise TableError(f"{path}: {path.stat().st_size // 10**6} MB; {limit}; leave out what is no run's number")
        return path.read_text(encoding="utf-8-sig")


def _kind(path: Path, text: str) -> str:
    """By the file's suffix; for others, by how its text begins."""
    suffix = path.suffix.lower()
    if suffix in JSON_LINES:
        return "json lines"
    if suffix in MARKDOWN:
        return "markdown"
    if suffix == ".json":
        return "json"
    if suffix in (".csv", ".tsv"):
        return "delimited"
    start = text.lstrip()[:1]
    if start == "[":
        return "json"
    if start == "{":
        lines = [line for line in text.splitlines() if line.strip()]
        return "json lines" if len(lines) > 1 and all(line.lstrip().startswith("{") for line in lines[:2]) else "json"
    return "markdown" if start in ("#", "|") else "delimited"


def read_delimited(text: str, place: str) -> Iterator[Placed]:
    """CSV and its relatives: a header line, then one line a run, cells parted by comma, semicolon, tab or bar.

    Raises: TableError for a header that does not name every column once, or a line with other than as many cells.
    """
    delimiter = sniff(text)
    lines = list(_lines(text, delimiter, place))
    if not lines:
        raise TableError(f"{place}: empty; a table has a line of column names and a line for each run; fill it")
    number, header = lines[0]
    names = [name.strip() for name in header]
    _refuse_bad_header(names, f"{place} line {number}")
    texts = {name for name in names if is_name(name)}
    comma = delimiter != "," and uses_decimal_comma([cell for _, cells in lines[1:] for cell in cells])
    for number, cells in lines[1:]:
        if len(cells) != len(names):
            raise TableError(
                f"{place} line {number}: {len(cells)} cells under {len(names)} column names; "
                "a line has one cell for each column, empty where nothing is known; mend it"
            )
        pairs = zip(names, cells, strict=True)
        values = {
            n: (cell.strip() or None) if n in texts else value_of(cell, decimal_comma=comma)
            for n, cell in pairs
            if n not in ("", _PANDAS_INDEX)
        }
        yield f"line {number}", values


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
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise TableError(
            f"{place} line {reader.line_num}: {error}; each line must be cells parted by {delimiter!r}; mend it"
        ) from None


def _refuse_bad_header(names: list[str], place: str) -> None:
    refuse_twice(names, place)
    if any(name.endswith("__MIN") for name in names) and any(name.endswith("__MAX") for name in names):
        what = "a chart exported from W&B, with a column for each run and no run's settings"
        raise TableError(f"{place}: {what}; a table has a row for each run; export the table of runs instead")
    values = [value_of(name) for name in names if name]
    if values and not any(isinstance(value, str) for value in values):
        raise TableError(f"{place}: only numbers; the first line must name the columns; add a line of names")
