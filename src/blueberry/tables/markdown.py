"""The tables of a Markdown document, as cells of text. What the cells mean is for others to say."""

import re
from dataclasses import dataclass

_HEADING = re.compile(r"\s{0,3}#{1,6}\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_RULE_CELL = re.compile(r":?-+:?")
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
            rows = tuple(_fitted(split_row(row), len(header)) for row in lines[number + 2 : end])
            found.append(MarkdownTable(heading, number + 1, header, rows))
            number = end
            continue
        number += 1
    return found


def split_row(line: str) -> tuple[str, ...]:
    """The cells of one line, stripped; `\\|` is a bar within a cell."""
    inside = line.strip().removeprefix("|")
    if inside.endswith("|") and not inside.endswith("\\|"):
        inside = inside[:-1]
    return tuple(cell.strip().replace("\\|", "|") for cell in _UNESCAPED_BAR.split(inside))


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


def _fitted(cells: tuple[str, ...], width: int) -> tuple[str, ...]:
    return (*cells, *[""] * width)[:width]
