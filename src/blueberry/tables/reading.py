"""From a file, a folder or objects in memory to a table: which reader fits, and what its columns are."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from blueberry.errors import TableError
from blueberry.files import refused_as
from blueberry.tables.columns import kind_by_name, renamed_values, root_of, settings_in, understood
from blueberry.tables.delimited import read_delimited
from blueberry.tables.exports import read_export
from blueberry.tables.json_rows import flat, read_json, read_json_lines
from blueberry.tables.markdown_rows import read_markdown
from blueberry.tables.rows import Row, Table

LARGEST_BYTES = 500_000_000
"""Of a file; a table of runs is far smaller."""
LONGEST_NAME = 1_000
JSON_LINES = (".jsonl", ".ndjson")
MARKDOWN = (".md", ".markdown")


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
        rows = [(f"{name} line {number}", values) for number, values in found]
    elif kind == "json lines":
        rows = [(f"{name} {where}", values) for where, values in read_json_lines(text, name)]
    elif kind == "json":
        rows = [(f"{name} {where}".strip(), values) for where, values in read_json(text, name)]
    else:
        rows = [(f"{name} line {number}", values) for number, values in read_delimited(text, name)]
    return _table(str(path), path.stem, rows, notes, wanted)


def table_of(rows: Any, name: str = "rows") -> Table:
    """A table of objects in memory: dicts, one a run, or anything with `.to_dict("records")` such as a data frame.

    Raises: TableError if a row is no dict or there is none.
    """
    if hasattr(rows, "to_dict"):
        rows = rows.to_dict("records")
    if not isinstance(rows, Iterable) or isinstance(rows, (str, bytes, dict)):
        raise TableError(f"{name}: {type(rows).__name__}; rows are dicts, one a run; give a list of them, or a path")
    read: list[tuple[str, dict[str, Any]]] = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise TableError(f"{name} {number}: {type(row).__name__}; each row must be a dict; give a list of dicts")
        read.append((f"{name} {number}", flat({str(column): value for column, value in row.items()})))
    return _table(name, name, read, [])


def _table(
    path: str,
    name: str,
    rows: Sequence[tuple[str, dict[str, Any]]],
    notes: Sequence[str],
    wanted: Sequence[str] = (),
) -> Table:
    if not rows:
        raise TableError(f"{path}: no run in it; a table has a row for each run; fill it")
    columns = dict.fromkeys(column for _, values in rows for column in values)
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
    rows: Sequence[tuple[str, dict[str, Any]]], columns: Iterable[str], wanted: Sequence[str], notes: list[str]
) -> Sequence[tuple[str, dict[str, Any]]]:
    """With a column for each setting that the names of all runs have in them, where there is none: "lr=0.01,bs=32"."""
    columns = list(columns)
    asked = {root_of(name) for name in wanted}
    have = {root_of(column.rpartition(".")[2]) for column in columns}
    for column in columns:
        if kind_by_name(column) != "label":
            continue
        named = [settings_in(str(values.get(column) or "")) for _, values in rows]
        common = [key for key in named[0] if all(key in one for one in named[1:])]
        new = [
            k
            for k in common
            if root_of(k) not in have and (kind_by_name(k) in ("setting", "seed") or root_of(k) in asked)
        ]
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
