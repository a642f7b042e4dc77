"""The runs of a Markdown document: those of the one table that has the columns which are asked for."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from blueberry.errors import TableError
from blueberry.tables.cells import value_of
from blueberry.tables.columns import find_column, is_name, understood
from blueberry.tables.markdown import MarkdownTable, read_tables


def read_markdown(text: str, place: str, wanted: Sequence[str]) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """(line, values by column) of each run, and what a person should know of the choice.

    Raises: TableError if no table has all that is wanted.
    """
    read = read_tables(text)
    tables = [_unfolded(table, wanted) or table for table in read]
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
    if fitting[0] not in read:
        name = fitting[0].header[-1]
        notes.append(f"{place}: the table at line {fitting[0].line} has a run in each cell, read as its {name}")
    return list(_runs(fitting[0], place)), notes


def _unfolded(table: MarkdownTable, wanted: Sequence[str]) -> MarkdownTable | None:
    """A table with a run in each cell, as one with a run in each row; None where it is no such.

    Its columns are values of one thing: numbers, or "seed 0", "lr = 0.01".
    """
    heads = [_VALUE.fullmatch(_bare(name)) for name in table.header[1:]]
    matched = [head for head in heads if head]
    if len(matched) < len(heads) or len(matched) < 2 or len({head[1] for head in matched}) > 1:
        return None
    down, *across = [part.strip() for part in _CORNER.split(_bare(table.header[0])) if part.strip()] or ["row"]
    name = matched[0][1] or (across[0] if across else "seed")
    heading = (table.heading or "").casefold()
    said = next((metric for word, metric in _METRICS if word in heading), "val_loss")
    metric = next((one for one in wanted if one not in (down, name)), said)
    rows = tuple(
        (cells[0], head[2], cell)
        for cells in table.rows
        for head, cell in zip(matched, cells[1:], strict=True)
        if _bare(cell)
    )
    return MarkdownTable(table.heading, table.line, (down, name, metric), rows)


_VALUE = re.compile(r"(?:([A-Za-z][\w ]*?)\s*[= ]\s*)?([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)")
_CORNER = re.compile(r"[\\/|\u00d7\u2193\u2192]+")
_METRICS = (("bits per byte", "val_bits_per_byte"), ("bpb", "val_bits_per_byte"), ("perplexity", "val_perplexity"))


def _runs(table: MarkdownTable, place: str) -> Iterator[tuple[int, dict[str, Any]]]:
    names = [_bare(name) for name in table.header]
    twice = next((name for number, name in enumerate(names) if name and name in names[:number]), None)
    if twice is not None:
        remedy = "each column has its own name; rename one"
        raise TableError(f'{place} line {table.line} "{twice}": names two columns; {remedy}')
    for number, cells in enumerate(table.rows, table.line + 2):
        pairs = zip(names, cells, strict=True)
        yield number, {name: _bare(cell) if is_name(name) else value_of(_bare(cell)) for name, cell in pairs if name}


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
