"""From the rows of a table to evidence: runs trained elsewhere are judged as our own are."""

import math
from collections.abc import Sequence

from blueberry.errors import TableError
from blueberry.judge.evidence import ArmRuns, Evidence, RunFacts
from blueberry.judge.judgement import Judgement, RunCost
from blueberry.judge.row_runs import RowRun, metric_column, row_runs
from blueberry.judge.weigh import weigh
from blueberry.tables.rows import Row, Table

LOSSES = ("val_loss", "train_loss", "test_loss")
"""Metrics in nats per token, which guessing bounds."""


def judge_rows(
    table: Table, *, vary: Sequence[str], metric: str = "val_loss", min_effect: float = 0.005, alpha: float = 0.05
) -> Judgement:
    """Judge the runs of a table. See `gather_rows`."""
    return weigh(gather_rows(table, vary=vary, metric=metric, min_effect=min_effect, alpha=alpha))


def gather_rows(
    table: Table, *, vary: Sequence[str], metric: str = "val_loss", min_effect: float = 0.005, alpha: float = 0.05
) -> Evidence:
    """The evidence of a table: rows that agree in the `vary` columns are an arm, its seeds the blocks.

    Without a seed column all runs are of one seed. Several runs of one arm on one seed are one block, with their
    mean; the evidence says which arms have such. `min_effect` is in the metric's unit.
    Raises: TableError as `row_runs` does, and for a min_effect or alpha that is none.
    """
    if not 0 < min_effect < math.inf:
        raise TableError(f"min_effect: {min_effect!r}; must be a number above 0; change it")
    if not 0 < alpha < 0.5:
        raise TableError(f"alpha: {alpha!r}; must be a number above 0 and below 0.5; change it")
    if "seed" in vary:
        raise TableError("--vary seed: seeds are blocks, the same for every arm; name the column of what was changed")
    runs = row_runs(table, vary, metric)
    column = metric_column(table, metric)
    names = dict.fromkeys(run.arm for run in runs)
    by_arm = {name: [run for run in runs if run.arm == name] for name in names}
    ended = [run for run in runs if run.ending != "unfinished"]
    return Evidence(
        question=_question(table, vary, column),
        metric=column,
        min_effect=min_effect,
        alpha=alpha,
        vary=tuple(vary),
        arms=tuple(_arm_runs(name, own, column) for name, own in by_arm.items()),
        num_unfinished=len(runs) - len(ended),
        repeated_seeds=tuple(name for name, own in by_arm.items() if _repeats(own)),
        states_success=any(run.ending == "completed" and run.row.values.get("status") is not None for run in runs),
        guessing_loss=_guessing_loss(column, runs),
        cost=RunCost(
            runs=len(ended),
            tokens=round(_sum(ended, "tokens")),
            flops=_sum(ended, "flops"),
            seconds=_sum(ended, "train_seconds"),
        ),
    )


def _question(table: Table, vary: Sequence[str], metric: str) -> str:
    what = " and ".join(name.rpartition(".")[2].replace("_", " ") for name in vary)
    return f"Which {what} has the least {metric} in {table.name}?"


def _arm_runs(name: str, runs: Sequence[RowRun], metric: str) -> ArmRuns:
    twin = "test_loss" if metric == "val_loss" else metric.replace("val_", "test_", 1)
    tested = {
        run.seed: value
        for run in runs
        if twin != metric and run.ending == "completed" and (value := _number(run.row, twin)) is not None
    }
    search, confirm = _by_seed(runs, "search"), _by_seed(runs, "confirm")
    crashed = [run.seed for run in runs if run.ending == "crashed"]
    return ArmRuns(
        name=name,
        settings=dict(runs[0].settings),
        search=search,
        confirm=confirm,
        test=tested,
        crashed=tuple(dict.fromkeys(crashed)),
        facts=tuple(_facts(run) for run in runs),
    )


def _by_seed(runs: Sequence[RowRun], stage: str) -> dict[int, float]:
    """The mean over the runs of a seed; infinite if one of them diverged."""
    values: dict[int, list[float]] = {}
    for run in runs:
        if run.stage == stage and run.value is not None:
            values.setdefault(run.seed, []).append(run.value)
    return {seed: math.fsum(some) / len(some) for seed, some in sorted(values.items())}


def _repeats(runs: Sequence[RowRun]) -> bool:
    """Whether a seed stands twice in one study; the same run in another study repeats nothing there."""
    blocks = [(run.study, run.stage, run.seed) for run in runs if run.ending != "unfinished"]
    return len(set(blocks)) < len(blocks)


def _facts(run: RowRun) -> RunFacts:
    row = run.row
    text = {name: None if (v := row.values.get(name)) is None else str(v) for name in ("status", "eval_hash")}
    return RunFacts(
        seed=run.seed,
        value=run.value,
        place=row.place,
        study=run.study,
        status=text["status"],
        eval_hash=text["eval_hash"],
        updates=_number(row, "updates"),
        tokens=_number(row, "tokens"),
        flops=_number(row, "flops"),
        train_seconds=_number(row, "train_seconds"),
        train_loss=_number(row, "train_loss"),
        val_loss=_number(row, "val_loss"),
        val_accuracy=_number(row, "val_accuracy"),
        val_perplexity=_number(row, "val_perplexity"),
        test_loss=_number(row, "test_loss"),
        vocabulary=_number(row, "vocabulary"),
    )


def _number(row: Row, column: str) -> float | None:
    """Finite, or None. Raises: TableError for what is no number."""
    value = row.values.get(column)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TableError(f'{row.place} "{column}": {value!r}; must be a number, or empty if it is not known; mend it')
    return float(value) if math.isfinite(value) else None


def _guessing_loss(metric: str, runs: Sequence[RowRun]) -> float | None:
    """Of the largest vocabulary, where a table has several: nobody is accused for another's."""
    sizes = [size for run in runs if (size := _number(run.row, "vocabulary")) is not None and size > 1]
    return math.log(max(sizes)) if sizes and metric in LOSSES else None


def _sum(runs: Sequence[RowRun], column: str) -> float:
    return math.fsum(number for run in runs if (number := _number(run.row, column)) is not None)
