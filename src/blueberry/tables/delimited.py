"""CSV and its relatives: a header line, then one line a run, cells parted by comma, semicolon, tab or bar."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from blueberry.errors import TableError
from blueberry.tables.cells import uses_decimal_comma, value_of
from blueberry.tables.columns import is_name

DELIMITERS = (",", ";", "\t", "|")
SNIFFED_LINES = 20
_PANDAS_INDEX = "Unnamed: 0"
"""What pandas calls the index it wrote without a name when it reads it again."""


def read_delimited(text: str, place: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number of each run, and its values by column.

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
        yield (
            number,
            {
                n: (cell.strip() or None) if n in texts else value_of(cell, decimal_comma=comma)
                for n, cell in pairs
                if n not in ("", _PANDAS_INDEX)
            },
        )


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
    twice = next((name for number, name in enumerate(names) if name and name in names[:number]), None)
    if twice is not None:
        raise TableError(f'{place} "{twice}": names two columns; each column has its own name; rename one')
    if any(name.endswith("__MIN") for name in names) and any(name.endswith("__MAX") for name in names):
        what = "a chart exported from W&B, with a column for each run and no run's settings"
        raise TableError(f"{place}: {what}; a table has a row for each run; export the table of runs instead")
    values = [value_of(name) for name in names if name]
    if values and not any(isinstance(value, str) for value in values):
        raise TableError(f"{place}: only numbers; the first line must name the columns; add a line of names")
