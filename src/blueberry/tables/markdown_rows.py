"""The runs of a Markdown document: those of the one table that has the columns which are asked for."""

from collections.abc import Iterator, Sequence
from typing import Any

from blueberry.errors import TableError
from blueberry.tables.cells import value_of
from blueberry.tables.columns import find_column, understood
from blueberry.tables.markdown import MarkdownTable, read_tables


def read_markdown(text: str, place: str, wanted: Sequence[str]) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """(line, values by column) of each run, and what a person should know of the choice.

    Raises: TableError if no table has all that is wanted.
    """
    tables = read_tables(text)
    if not tables:
        raise TableError(f"{place}: no table in it; a Markdown table has a header and a line of dashes; add one")
    fitting = [table for table in tables if _has(table, wanted)]
    if not fitting:
        names = ", ".join(f'"{name}"' for name in wanted)
        nearest = tables[0].header if len(tables) == 1 else ()
        have = f"its columns are {', '.join(nearest)}" if nearest else f"none of its {len(tables)} tables has them"
        raise TableError(f"{place}: no table with columns {names}; {have}; name columns that a table has")
    notes = []
    if len(fitting) > 1:
        under = f' under "{fitting[0].heading}"' if fitting[0].heading else ""
        notes.append(f"{place}: {len(fitting)} tables fit; the first, at line {fitting[0].line}{under}, is read")
    return list(_runs(fitting[0], place)), notes


def _runs(table: MarkdownTable, place: str) -> Iterator[tuple[int, dict[str, Any]]]:
    names = [_bare(name) for name in table.header]
    twice = next((name for number, name in enumerate(names) if name and name in names[:number]), None)
    if twice is not None:
        remedy = "each column has its own name; rename one"
        raise TableError(f'{place} line {table.line} "{twice}": names two columns; {remedy}')
    for number, cells in enumerate(table.rows, table.line + 2):
        pairs = zip(names, cells, strict=True)
        yield number, {name: value_of(_bare(cell)) for name, cell in pairs if name}


def _has(table: MarkdownTable, wanted: Sequence[str]) -> bool:
    names = [_bare(name) for name in table.header if name]
    renamed = understood(names)
    columns = [renamed.get(name, name) for name in names]
    try:
        for name in wanted:
            find_column(name, columns, "", renamed)
    except TableError:
        return False
    return bool(table.rows)


def _bare(cell: str) -> str:
    """A cell without marks of emphasis and code."""
    stripped = cell.strip()
    for mark in ("**", "__", "*", "`"):
        if len(stripped) > 2 * len(mark) and stripped.startswith(mark) and stripped.endswith(mark):
            stripped = stripped[len(mark) : -len(mark)].strip()
    return stripped
