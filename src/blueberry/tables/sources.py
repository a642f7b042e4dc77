"""How files of other tools are opened: JSON objects, whole or a line each, YAML mappings, CSV, SQLite for reading only.

What is damaged, or needs a library that is not installed, is refused in one line.
"""

import csv
import io
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from blueberry.errors import TableError
from blueberry.tables.rows import value_of

SQLITE = b"SQLite format 3\0"
"""How a database file begins."""


def place_of(folder: Path, root: Path) -> str:
    """What a run in a folder is called: the folder below `root`, or its own name."""
    if folder == root or not folder.is_relative_to(root):
        return folder.absolute().name
    return folder.relative_to(root).as_posix()


def json_object(path: Path) -> dict[str, Any]:
    """Raises: TableError if the file is no JSON object."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise TableError(f"{path}: not a JSON object; it must be as its tool wrote it; restore it")
    return read


def logged_in_csv(path: Path) -> list[dict[str, Any]]:
    """What each row of a tool's CSV says; empty cells say nothing."""
    try:
        return [
            {name: value_of(cell) for name, cell in row.items() if name and isinstance(cell, str) and cell.strip()}
            for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")))
        ]
    except csv.Error as broken:
        raise TableError(f"{path}: {broken}; it must be as its tool wrote it; restore it") from None


def logged_in_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a tool's log; none where there is no such file. A line that a kill has torn says nothing."""
    said: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            one = json.loads(text)
        except (ValueError, RecursionError):
            continue
        said += [one] if isinstance(one, dict) else []
    return said


def yaml_mapping(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, empty where there is none; without its library, those of plain keys and values."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    try:
        import yaml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return _plain_yaml(text, path)

    class Plain(yaml.SafeLoader):
        """What is an object of a program is missing."""

    Plain.add_multi_constructor("", lambda *_: None)
    try:
        read = yaml.load(text, Plain) or {}
    except yaml.YAMLError:
        raise TableError(f"{path}: not plain YAML; it must be as its tool wrote it; restore it") from None
    return read if isinstance(read, dict) else {}


def _plain_yaml(text: str, path: Path) -> dict[str, Any]:
    """`key: value` lines, nested by their indentation; lists of plain values are left out."""
    root: dict[str, Any] = {}
    open_: list[tuple[int, dict[str, Any]]] = [(-1, root)]
    for line in text.splitlines():
        said = line.split(" #")[0].rstrip()
        if not said.strip() or said.lstrip().startswith(("#", "- ", "---")) or said.strip() in ("-", "{}"):
            continue
        indent, (key, colon, value) = len(said) - len(said.lstrip()), said.strip().partition(":")
        if not colon or value.strip()[:1] in ("|", ">", "&", "*", "!", "{"):
            remedy = "pip install 'blueberry-lm[wandb]', or export the runs as CSV"
            raise TableError(f"{path}: YAML beyond plain keys and values; its library is not installed; {remedy}")
        while open_[-1][0] >= indent:
            open_.pop()
        key = key.strip().strip("'\"")
        if value.strip():
            open_[-1][1][key] = value_of(value.strip().strip("'\""))
        else:
            open_[-1][1][key] = {}
            open_.append((indent, open_[-1][1][key]))
    return root


def is_sqlite(path: Path) -> bool:
    """Whether a regular file is an SQLite database, by how it begins."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


class Database:
    """An SQLite file, read and never written."""

    def __init__(self, path: Path, sql: sqlite3.Connection) -> None:
        self.path = path
        self._sql = sql
        self.tables = frozenset(name for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'"))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Raises: TableError if the file is damaged or lacks a column."""
        try:
            return self._sql.execute(query).fetchall()
        except sqlite3.Error as broken:
            raise TableError(f"{self.path}: {broken}; the database must be as its tool wrote it; restore it") from None

    def has(self, names: Sequence[str]) -> bool:
        return self.tables.issuperset(names)


@contextmanager
def database(path: Path) -> Iterator[Database]:
    """Raises: TableError if it cannot be opened."""
    try:
        opened = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
    except sqlite3.Error as broken:
        raise TableError(f"{path}: {broken}; give a database that can be read") from None
    with closing(opened):
        yield Database(path, opened)
