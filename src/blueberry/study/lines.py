"""Lines of baselines as the store keeps them: appended to, never changed. What an entry says is the judge's matter."""

import json
from dataclasses import dataclass
from typing import Any

LEDGER_TABLES = """
CREATE TABLE ledger (
    number INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT NOT NULL, appended_at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE bases (
    path TEXT PRIMARY KEY, number INTEGER NOT NULL, first_seed INTEGER NOT NULL, last_seed INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class LedgerRow:
    """One entry of a line."""

    number: int
    """Counts up over all lines."""
    line: str
    appended_at: float
    """Seconds since 1970."""
    body: str
    """JSON."""

    @property
    def recipe(self) -> dict[str, Any] | None:
        """The complete recipe that is the line's baseline from here on; None: it stays what it is."""
        return json.loads(self.body)["recipe"]


@dataclass(frozen=True)
class BasedOn:
    """Which baseline a study began from, and the seeds it may use."""

    number: int
    """Of the ledger's entry."""
    first_seed: int
    last_seed: int
