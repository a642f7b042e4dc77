"""From a file, a folder or objects in memory to a table: which reader fits, and what its columns are."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from blueberry.errors import TableError
from blueberry.tables.columns import renamed_values, understood
from blueberry.tables.delimited import read_delimited
from blueberry.tables.json_rows import flat, read_json, read_json_lines
from blueberry.tables.markdown_rows import read_markdown
from blueberry.tables.rows import Row, Table

LARGEST_BYTES = 500_000_000
"""Of a file; a table of runs is far smaller."""
JSON_LINES = (".jsonl", ".ndjson")
MARKDOWN = (".md", ".markdown")


def read_table(path: str | Path, *, wanted: Sequence[str] = ()) -> Table:
    """Read the runs of a file or, for exports of other tools, of a folder.

    `wanted` are columns that the caller needs: among the tables of a Markdown document they choose.
    Raises: TableError if it cannot be read, is no table or holds no run.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".wandb" or "tfevents" in path.name:
        return _export(path)
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
    return _table(str(path), path.stem, rows, notes)


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


def _table(path: str, name: str, rows: Sequence[tuple[str, dict[str, Any]]], notes: Sequence[str]) -> Table:
    if not rows:
        raise TableError(f"{path}: no run in it; a table has a row for each run; fill it")
    renamed = understood(column for _, values in rows for column in values)
    made = tuple(Row(place, renamed_values(values, renamed)) for place, values in rows)
    return Table(path, name, made, renamed, tuple(notes))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            limit = f"a table may have {LARGEST_BYTES // 10**6} MB"
            raise TableError(f"{path}: {path.stat().st_size // 10**6} MB; {limit}; leave out what is no run's number")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise TableError(f"{path}: no such file; give a CSV, JSON, JSON Lines or Markdown file") from None
    except UnicodeDecodeError:
        raise TableError(
            f"{path}: not UTF-8 text; a table is CSV, JSON, JSON Lines or Markdown; export it so"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TableError(f"{path}: cannot be read ({reason}); it must be a readable file; mend the path") from None


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


def _export(path: Path) -> Table:
    raise TableError(f"{path}: a folder; give a CSV, JSON, JSON Lines or Markdown file")
