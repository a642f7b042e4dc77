"""What each row of a table is: a run of an arm on a seed, and how it ended."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from blueberry.errors import TableError
from blueberry.study.arms import arm_name
from blueberry.tables.columns import MEANINGS, find_column, folded
from blueberry.tables.rows import Row, Table

Ending = Literal["completed", "diverged", "crashed", "unfinished"]

ENDINGS: dict[str, Ending] = {
    **dict.fromkeys(
        ("completed", "complete", "finished", "success", "succeeded", "successful", "ok", "done", "true", "yes", "1"),
        "completed",
    ),
    **dict.fromkeys(("diverged", "nan", "unstable", "exploded", "non_finite", "loss_is_nan"), "diverged"),
    **dict.fromkeys(
        ("crashed", "failed", "failure", "fail", "error", "killed", "oom", "timeout", "false", "no", "0"), "crashed"
    ),
    **dict.fromkeys(
        ("running", "pending", "queued", "scheduled", "preempted", "unfinished", "interrupted", "pruned", "stopped"),
        "unfinished",
    ),
}
"""What a status column may say, and what it means here."""

HIGHER_IS_BETTER = frozenset(
    ("accuracy", "acc", "f1", "bleu", "rouge", "auc", "reward", "return", "score", "precision", "recall", "r2",
     "mfu", "throughput", "exact_match", "win_rate", "likelihood")
)  # fmt: skip
"""Words at the end of a metric's name that say that more of it is better."""


LARGEST = 1e12
"""Of a metric: beyond any perplexity, and far from where squares overflow."""


@dataclass(frozen=True)
class RowRun:
    """One row, understood."""

    row: Row
    arm: str
    settings: Mapping[str, Any]
    """The varied settings, by the names they were asked for."""
    seed: int
    stage: Literal["search", "confirm"]
    ending: Ending
    value: float | None
    """The metric: infinite where the run diverged, None unless it completed or diverged."""
    study: str | None


def doubts(table: Table, runs: Sequence[RowRun]) -> tuple[str, ...]:
    """What a person should know of how the table was understood, a line each."""
    found: list[str] = []
    if len(runs) < len(table.rows):
        found.append(
            f"{table.name}: {len(table.rows) - len(runs)} runs chose the settings that each arm is compared at; "
            "those of the stages compare and confirm are judged"
        )
    unfinished = sum(run.ending == "unfinished" for run in runs)
    if unfinished:
        found.append(f"{table.name}: {unfinished} runs have not ended, by their status, and have no number here")
    blocks: dict[tuple[str, str, int, str | None], list[RowRun]] = {}
    for run in runs:
        blocks.setdefault((run.arm, run.stage, run.seed, run.study), []).append(run)
    repeats = [some for some in blocks.values() if len(some) > 1]
    differing = [
        column
        for column in table.columns
        if column not in MEANINGS
        and any(len({str(run.row.values.get(column)) for run in some}) > 1 for some in repeats)
    ]
    if differing:
        found.append(
            f"{table.name}: runs of one arm and seed differ in {', '.join(differing[:8])}; "
            "where that is a setting, name it in --vary too"
        )
    if "status" not in table.columns and any(run.ending == "diverged" for run in runs):
        found.append(f"{table.name}: runs whose metric is NaN or infinite are taken to have diverged")
    return tuple(found)


def metric_column(table: Table, metric: str) -> str:
    """The column of the metric. Raises: TableError if there is none, or if more of it is better."""
    column = find_column(metric, table.columns, f"{table.path} metric", table.renamed)
    if _is_higher_better(column):
        raise TableError(
            f'{table.path} metric "{metric}": higher is better in it; a judgement is of a metric that should be low; '
            f"give a loss, or add a column such as 1 - {metric}"
        )
    return column


def row_runs(table: Table, vary: Sequence[str], metric: str) -> tuple[RowRun, ...]:
    """Every row as a run, in the order of the table; those of a search before a comparison are left out.

    Raises: TableError if a column is not there, fewer than two arms differ in what varies, or a cell of the seed,
    status, stage or metric is not what it must be.
    """
    if not vary:
        raise TableError(f"{table.path}: nothing varies; name the columns that tell arms apart; {_columns(table)}")
    if any(row.values.get("stage") == "compare" for row in table.rows):
        table = replace(table, rows=tuple(row for row in table.rows if row.values.get("stage") != "search"))
    where = f"{table.path} vary"
    columns = {name: find_column(name, table.columns, where, table.renamed) for name in vary}
    column = metric_column(table, metric)
    if column in columns.values():
        raise TableError(f'{table.path} vary "{metric}": it is the metric; an arm is told by its settings; change it')
    chosen = [{name: _setting(row.values.get(found)) for name, found in columns.items()} for row in table.rows]
    names = _arm_names(table, chosen)
    if len(set(names)) < 2:
        raise TableError(
            f"{table.path}: every row has {arm_name(chosen[0])}; two arms or more are compared; vary another column"
        )
    has_seed = "seed" in table.columns
    return tuple(
        _run(row, name, settings, column, has_seed=has_seed)
        for row, name, settings in zip(table.rows, names, chosen, strict=True)
    )


def _run(row: Row, arm: str, settings: dict[str, Any], metric: str, *, has_seed: bool) -> RowRun:
    value, ending = _measured(row, metric)
    study = row.values.get("study")
    return RowRun(
        row=row,
        arm=arm,
        settings=settings,
        seed=_seed(row) if has_seed else 0,
        stage=_stage(row),
        ending=ending,
        value=value,
        study=None if study is None else str(study),
    )


def _measured(row: Row, metric: str) -> tuple[float | None, Ending]:
    """The metric and how the run ended. A run that says it completed, without a number, has crashed."""
    given = row.values.get(metric)
    if given is not None and (isinstance(given, bool) or not isinstance(given, (int, float))):
        raise TableError(f'{row.place} "{metric}": {given!r}; the metric is a number, or empty if there is none; mend')
    if given is not None and math.isfinite(given) and abs(given) > LARGEST:
        raise TableError(
            f'{row.place} "{metric}": {given!r}; no metric is so large; a run that diverged has no number, or a status '
            "that says so; mend"
        )
    ending = _ending(row)
    if ending in ("crashed", "unfinished"):
        return None, ending
    if ending == "diverged" or (given is not None and not math.isfinite(given)):
        return math.inf, "diverged"
    return (None, "crashed") if given is None else (float(given), "completed")


def _ending(row: Row) -> Ending | None:
    """What the status column says; None where it says nothing."""
    given = row.values.get("status")
    if given is None:
        return None
    said = folded(str(given))
    if said not in ENDINGS:
        known = ", ".join(dict.fromkeys(ENDINGS.values()))
        raise TableError(f'{row.place} "status": {given!r}; no known ending of a run; write one of {known}')
    return ENDINGS[said]


def _seed(row: Row) -> int:
    given = row.values.get("seed")
    if given is None:
        raise TableError(f'{row.place} "seed": empty; other rows have one; give each run its seed, or drop the column')
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not float(given).is_integer():
        raise TableError(f'{row.place} "seed": {given!r}; a seed is a whole number; mend it')
    return int(given)


def _stage(row: Row) -> Literal["search", "confirm"]:
    given = row.values.get("stage")
    if given in (None, "search", "compare"):
        return "search"
    if given == "confirm":
        return "confirm"
    raise TableError(f'{row.place} "stage": {given!r}; no known stage; write search, compare or confirm')


def _setting(value: Any) -> Any:
    """NaN is how data frames write a missing value."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _arm_names(table: Table, chosen: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table's own names where they tell arms apart as the settings do; else the one text that varies; else
    the settings with their values."""
    keys = [tuple(settings.values()) for settings in chosen]
    named = [str(row.values.get("arm")) for row in table.rows]
    if "arm" in table.columns and len(set(zip(named, keys, strict=True))) == len(set(named)) == len(set(keys)):
        return named
    if len(chosen[0]) == 1 and all(isinstance(value, str) for (value,) in keys):
        return [value for (value,) in keys]
    return [arm_name(dict(settings)) for settings in chosen]


def _is_higher_better(metric: str) -> bool:
    last = folded(metric.rpartition(".")[2].rpartition("/")[2])
    if last.endswith(("neg_likelihood", "neg_log_likelihood", "negative_log_likelihood")):
        return False
    return any(last == word or last.endswith(f"_{word}") for word in HIGHER_IS_BETTER)


def _columns(table: Table) -> str:
    return f"its columns are {', '.join(table.columns[:30])}"
