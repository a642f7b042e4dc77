"""The tables of a Markdown document, as cells of text; and the runs of the one that has the columns asked for."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from blueberry.errors import TableError
from blueberry.tables.columns import (
    find_column,
    is_loss,
    is_name,
    kind_by_name,
    none_is_a_choice,
    refuse_twice,
    understood,
)
from blueberry.tables.rows import Placed, named_in, value_of
from blueberry.tables.summaries import summary_in

_HEADING = re.compile(r"\s{0,3}#{1,6}\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_RULE_CELL = re.compile(r":?-+:?")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_UNESCAPED_BAR = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class MarkdownTable:
    """One table, its cells as they stand there: marks of emphasis, units and signs included."""

    heading: str | None
    """The nearest heading above it, without its hashes."""
    line: int
    """Of its header, counted from 1."""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """As many cells a row as the header has: missing ones are empty, surplus ones left out, as renderers do."""


def read_tables(text: str) -> list[MarkdownTable]:
    """Every pipe table outside fenced code, in the order of the document.

    A table is a header line, a line of dashes with as many cells, then lines with a bar up to a blank line.
    Source: GitHub Flavored Markdown 0.29, section 4.10.
    """
    lines = text.splitlines()
    found: list[MarkdownTable] = []
    heading: str | None = None
    fence: str | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        mark = _FENCE.match(line)
        if mark:
            fence = _fence_after(fence, mark.group(1))
        elif fence is None and (named := _HEADING.match(line)):
            heading = named.group(1)
        elif fence is None and number + 1 < len(lines) and _begins_table(line, lines[number + 1]):
            end = number + 2
            while end < len(lines) and "|" in lines[end]:
                end += 1
            header = split_row(line)
            rows = tuple((*split_row(row), *[""] * len(header))[: len(header)] for row in lines[number + 2 : end])
            found.append(MarkdownTable(heading, number + 1, header, rows))
            number = end
            continue
        number += 1
    return found


def split_row(line: str) -> tuple[str, ...]:
    """The cells of one line, stripped; `\\|` is a bar within a cell, and `\\_` an underscore."""
    inside = line.strip().removeprefix("|")
    if inside.endswith("|") and not inside.endswith("\\|"):
        inside = inside[:-1]
    return tuple(_ESCAPED.sub(r"\1", cell.strip()) for cell in _UNESCAPED_BAR.split(inside))


def _begins_table(line: str, below: str) -> bool:
    if "|" not in line or "-" not in below or ("|" not in below and ":" not in below):
        return False
    rule = split_row(below)
    return len(rule) == len(split_row(line)) and all(_RULE_CELL.fullmatch(cell) for cell in rule)


def _fence_after(fence: str | None, mark: str) -> str | None:
    """Which fence is open after a line that begins with `mark`."""
    if fence is None:
        return mark
    return None if mark.startswith(fence) else fence


def read_markdown(text: str, place: str, wanted: Sequence[str]) -> tuple[list[Placed], list[str]]:
    """Each run, and what a person should know of the choice: the first table that has what is wanted, and a loss if any
    of these has one.

    Raises: TableError if no table has all that is wanted.
    """
    read = read_tables(text)
    tables = [_along_steps(table) or _unfolded(table, wanted) or _turned(table, wanted) or table for table in read]
    if not tables:
        raise TableError(f"{place}: no table in it; a Markdown table has a header and a line of dashes; add one")
    fitting = [table for table in tables if _has(table, wanted)]
    if not fitting:
        names = ", ".join(f'"{name}"' for name in wanted)
        nearest = tables[0].header if len(tables) == 1 else ()
        have = f"its columns are {', '.join(nearest)}" if nearest else f"none of its {len(tables)} tables has them"
        raise TableError(f"{place}: no table with columns {names}; {have}; name columns that a table has")
    notes = []
    fitting = [table for table in fitting if _has_a_loss(table)] or fitting
    if len(fitting) > 1:
        under = f' under "{fitting[0].heading}"' if fitting[0].heading else ""
        notes.append(f"{place}: {len(fitting)} tables fit; the first, at line {fitting[0].line}{under}, is read")
    if fitting[0] not in read:
        how = f"a run in each cell, read as its {fitting[0].header[-1]}"
        if fitting[0].header[-2] == _STEP:
            how = f"a run in each row, measured at several steps, of which each cell is read as {fitting[0].header[-1]}"
        if fitting[0].header[0] == _TURNED:
            how = f"a run in each column, its {_TURNED}"
        notes.append(f"{place}: the table at line {fitting[0].line} has {how}")
    return list(_runs(fitting[0], place)), notes


def _unfolded(table: MarkdownTable, wanted: Sequence[str]) -> MarkdownTable | None:
    """A table with a run in each cell, as one with a run in each row; None where it is no such.

    Its columns are values of one thing: numbers, or "seed 0", "s1", "lr = 0.01"; or any words, where its corner names
    what goes down and what goes across. Columns called mean or std beside these sum them up.
    """
    kept = [n for n, name in enumerate(table.header) if n == 0 or summary_in(_bare(name)) is None]
    if 2 < len(kept) < len(table.header):
        of_runs = tuple(tuple(cells[n] for n in kept) for cells in table.rows)
        table = replace(table, header=tuple(table.header[n] for n in kept), rows=of_runs)
    bare = [_bare(name) for name in table.header]
    heads = [_VALUE.fullmatch(_SEED.sub("seed ", name)) for name in bare[1:]]
    matched = [head for head in heads if head]
    down, *across = [part.strip() for part in _CORNER.split(bare[0]) if part.strip()] or [_TURNED]
    if len(matched) == len(heads) and len({head[1] for head in matched}) == 1:
        values = [head[2] for head in matched]
        name = matched[0][1] or (across[0] if across else "seed")
    elif len(across) == 1 and _NAMED_CORNER.search(bare[0]) and not any(map(_is_measured, bare[1:])):
        values, name = bare[1:], across[0]
    else:
        return None
    cells_of = [_bare(cell) for cells in table.rows for cell in cells[1:]]
    if len(values) < 2 or any(isinstance(value_of(cell), str) for cell in cells_of):
        return None
    heading = (table.heading or "").casefold()
    said = next((metric for word, metric in _METRICS if word in heading), "val_loss")
    metric = next((one for one in wanted if one not in (down, name)), said)
    rows = tuple(
        (cells[0], value, cell)
        for cells in table.rows
        for value, cell in zip(values, cells[1:], strict=True)
        if _bare(cell)
    )
    return MarkdownTable(table.heading, table.line, (down, name, metric), rows)


def _turned(table: MarkdownTable, wanted: Sequence[str]) -> MarkdownTable | None:
    """A table with a run in each column, as pull requests have them, as one with a run in each row; None where it is
    no such: what goes down its first column, which is called metric or nothing, are columns of runs, a loss among them.
    """
    names = [_bare(cells[0]) for cells in table.rows]
    corner = _bare(table.header[0]).casefold()
    if corner not in _TURNED_CORNERS or len(table.header) < 3 or len(set(names)) < len(names) or not all(names):
        return None
    known = understood(names)
    if not any(is_loss(known.get(name, name)) or name in wanted for name in names):
        return None
    header = (_TURNED, *names)
    rows = tuple(
        (_bare(run), *(cells[number] for cells in table.rows)) for number, run in enumerate(table.header[1:], 1)
    )
    return MarkdownTable(table.heading, table.line, header, rows)


def _along_steps(table: MarkdownTable) -> MarkdownTable | None:
    """A table with a column for each of several steps ("step 3150", "3150 val", "val loss at 3150"), as one with a row
    for each; None where it is no such."""
    bare = [_bare(name) for name in table.header]
    found = {place: match for place, name in enumerate(bare) if (match := _AT_STEP.fullmatch(name))}
    told = {(match["of"] or match["what"] or "").casefold().strip() for match in found.values()}
    if len(found) < 2 or len(told) > 1:
        return None
    others = [place for place in range(len(bare)) if place not in found]
    metric = told.pop() or "val_loss"
    header = (*(bare[place] for place in others), _STEP, "val_loss" if metric in ("val", "loss") else metric)
    rows = tuple(
        (*(cells[place] for place in others), match["step"] or match["bare"] or match["at"], cells[column])
        for cells in table.rows
        for column, match in found.items()
        if _bare(cells[column])
    )
    return MarkdownTable(table.heading, table.line, header, rows)


def _has_a_loss(table: MarkdownTable) -> bool:
    return any(is_loss(name) and kind_by_name(name) == "result" for name in map(_bare, table.header))


def _is_measured(name: str) -> bool:
    return understood([name]) != {} or kind_by_name(name) in ("result", "length", "seed", "meta")


_STEP = "step"
_AT_STEP = re.compile(
    r"(?:(?:steps?|updates?|iter(?:ation)?s?)\s*=?\s*(?P<step>[\d,]+)|(?P<bare>[\d,]+)(?=\s+[vl])"
    r"|(?P<what>val(?:idation)?[ _]?loss|val|loss)?\s*(?:at|@|after)\s*(?:step\s*|k\s*=\s*)?(?P<at>[\d,]+))"
    r"(?:\s+(?P<of>val(?:idation)?[ _]?loss|val|loss))?",
    re.IGNORECASE,
)
_TURNED = "name"
_TURNED_CORNERS = ("", "metric", "metrics", "measure", "quantity", "statistic", "field", "setting")
_NAMED_CORNER = re.compile(r"\\|\s[/|]\s|[\u00d7\u2193\u2192]")
_SEED = re.compile(r"^s(?:eed)?[_#-]?(?=\d+$)", re.IGNORECASE)
_VALUE = re.compile(r"(?:([A-Za-z][\w ]*?)\s*[= ]\s*)?([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)")
_CORNER = re.compile(r"[\\/|\u00d7\u2193\u2192]+")
_METRICS = (("bits per byte", "val_bits_per_byte"), ("bpb", "val_bits_per_byte"), ("perplexity", "val_perplexity"))


def _runs(table: MarkdownTable, place: str) -> Iterator[Placed]:
    names = [_bare(name) for name in table.header]
    refuse_twice(names, f"{place} line {table.line}")
    columns = [[_bare(cell) for cell in column] for column in zip(*table.rows, strict=True)]
    choices = {name for name, cells in zip(names, columns, strict=False) if none_is_a_choice(name, cells)}
    for number, cells in enumerate(table.rows, table.line + 2):
        values: dict[str, Any] = {}
        for name, cell in zip(names, map(_bare, cells), strict=True):
            is_none = name in choices and cell.casefold() == "none"
            values |= {name: "none" if is_none else named_in(cell) if is_name(name) else value_of(cell)} if name else {}
        yield f"line {number}", values


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
    """A cell without marks of emphasis and code, a link as its text."""
    stripped = _LINK.sub(r"\1", cell.strip())
    for mark in ("**", "__", "*", "`"):
        if len(stripped) > 2 * len(mark) and stripped.startswith(mark) and stripped.endswith(mark):
            stripped = stripped[len(mark) : -len(mark)].strip()
    return stripped
