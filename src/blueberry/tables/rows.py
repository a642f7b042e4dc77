"""What a table of runs is once it is read: frozen records, whatever file it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One run."""

    place: str
    """Where it stands, e.g. "runs.csv line 4"."""
    values: Mapping[str, Any]
    """Number, text, true/false or None by column; the columns of `blueberry.tables.columns` under their own names."""


@dataclass(frozen=True)
class Table:
    """The runs of one file or folder, in its order."""

    path: str
    name: str
    """A short name: the file's stem."""
    rows: tuple[Row, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Column as the file names it -> what it was understood to be; those that keep their name are not in it."""
    notes: tuple[str, ...] = ()
    """Lines that a person should read: what was left out and why."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Of all rows, each once, in the order in which they appear."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.values))
