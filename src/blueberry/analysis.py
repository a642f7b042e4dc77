"""Runs that were trained elsewhere: from a table to the same judgement and the same report as our own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blueberry.judge.from_rows import gather_rows
from blueberry.judge.judgement import Judgement
from blueberry.judge.row_runs import RowRun, doubts, row_runs
from blueberry.judge.weigh import weigh
from blueberry.tables import Table, read_table, table_of


@dataclass(frozen=True)
class Analysed:
    """A table, judged."""

    table: Table
    runs: tuple[RowRun, ...]
    judgement: Judgement

    @property
    def notes(self) -> tuple[str, ...]:
        """How the table was understood: lines for a person."""
        named = [f"{given} is read as {meaning}" for given, meaning in self.table.renamed.items()]
        understood = (f"{self.table.name}: {'; '.join(named)}",) if named else ()
        return (*self.table.notes, *understood, *doubts(self.table, self.runs))

    def report(self, folder: Path) -> Path:
        """Write the report; returns its `index.html`. Raises: ReportError if the folder cannot be written."""
        from blueberry.report.imported import imported_runs
        from blueberry.report.writing import write  # drawing is slow to load, and only this needs it

        return write(self.judgement, imported_runs(self.runs, self.judgement.metric), folder)


def examine(
    rows_or_path: Any,
    *,
    vary: Sequence[str] | str,
    metric: str = "val_loss",
    min_effect: float = 0.005,
    alpha: float = 0.05,
) -> Analysed:
    """Read a table and judge its runs. See `analyse`."""
    vary = [vary] if isinstance(vary, str) else list(vary)
    is_path = isinstance(rows_or_path, (str, Path))
    table = read_table(rows_or_path, wanted=[*vary, metric]) if is_path else table_of(rows_or_path)
    judgement = weigh(gather_rows(table, vary=vary, metric=metric, min_effect=min_effect, alpha=alpha))
    return Analysed(table, row_runs(table, vary, metric), judgement)


def analyse(
    rows_or_path: Any,
    *,
    vary: Sequence[str] | str,
    metric: str = "val_loss",
    min_effect: float = 0.005,
    alpha: float = 0.05,
) -> Judgement:
    """What runs that were trained elsewhere support.

    `rows_or_path` is a file or a folder (docs/tables.md), a list of dicts, one a run, or anything with
    `.to_dict("records")`, such as a data frame. `vary` names the columns that tell arms apart; the metric is one
    where lower is better, and `min_effect`, in its unit, the smallest difference that matters.
    Raises: TableError, one line, for whatever is wrong with the table.
    """
    return examine(rows_or_path, vary=vary, metric=metric, min_effect=min_effect, alpha=alpha).judgement
