"""From the rows of a table to runs: which arm and seed a row is, how it ended, and what is known of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from blueberry.errors import TableError
from blueberry.files import digest
from blueberry.records import Failure, Goal, Metrics, Provenance, RunResult, Stage, StudyRun, arm_name, is_number
from blueberry.tables.columns import MEANINGS, Kind, build_of, find_column, folded, is_name
from blueberry.tables.names import without_unseeded
from blueberry.tables.progress import (
    Ending,
    cells_as_numbers,
    decisions_as_endings,
    last_checkpoints,
    measured_ending,
    step_of,
    trained_on,
    until,
    updates_of,
)
from blueberry.tables.roles import LEAST_REPEATS, is_one_arm, kinds, measured, metric_column, seed_columns, seeds_of
from blueberry.tables.rows import Row, Table, decimals, is_finite

MOST_PRINTED = 6
"""Decimals of a number that was rounded to be read; one with more was not."""
OWN = frozenset(("val_loss", "val_bits_per_byte", "val_accuracy", "test_loss", "test_bits_per_byte", "test_accuracy",
                 "updates", "tokens", "flops", "train_seconds"))  # fmt: skip
"""Columns that have a place of their own in a RunResult; every other number is kept in `extra`."""

_SPREAD = ("std", "sd", "stdev", "std_dev", "sem", "stderr", "\u00b1", "\u03c3")
"""Columns beside a mean."""
MOST_NATS = 100
"""Per token, from which on a number is said to be no such loss."""


@dataclass(frozen=True)
class TableRuns:
    """The runs of a table, understood."""

    table: Table
    vary: tuple[str, ...]
    """The columns that tell arms apart, as they were asked for."""
    labels: frozenset[str]
    """Of these, those that only name the arms, so that any setting may be what they stand for."""
    metric: str
    """The column that judges."""
    goal: Goal
    arms: tuple[str, ...]
    """Of every row, those without an ended run too, in the order of the table."""
    runs: tuple[StudyRun, ...]
    """Those that ended, in the order of the table; those of a search before a comparison are left out."""
    unfinished: tuple[Mapping[str, Any], ...]
    """What tells the arms of runs apart that have not ended."""
    states_success: bool
    """The table says itself of a run that it succeeded."""
    notes: tuple[str, ...]
    """How the table was understood: lines for a person."""
    joined: Literal["tune", "across"] | None = None
    """How the parts answer the question, as those of a study do."""
    parts: tuple["TablePart", ...] = ()
    """Each with its own runs; then there are no arms, and each run says its part."""
    where: str = ""
    """Of a part, which one, e.g. " at N=100"."""

    @property
    def names_arms(self) -> bool:
        return not self.labels.isdisjoint(self.vary)


@dataclass(frozen=True)
class TablePart:
    """One condition, or one arm with values to choose from."""

    name: str
    settings: Mapping[str, Any]
    """What tells it from the others."""
    found: TableRuns


def table_runs(
    table: Table,
    vary: Sequence[str],
    metric: str | None = None,
    *,
    goal: Goal | None = None,
    seed: str | None = None,
    at: float | None = None,
    least_arms: int = 2,
    is_in_parts: bool = False,
) -> TableRuns:
    """Every row as a run of an arm: rows that agree in the `vary` columns are one.

    `seed` names the column that says which runs share a seed; without it a column that is called so does, and without
    one no run has a seed. Of rows that are checkpoints of one run the last is taken. `metric`: the column that
    judges; without it the validation loss, or the one loss that the table has. `least_arms`: how many there must be.
    `at`: an update to judge all runs at, where rows are their steps. `is_in_parts`: runs that chose what an arm is
    compared at are wanted too.
    Raises: TableError if a column is not there, fewer arms differ in what varies, more of the metric is better
    and no goal says so, or a cell of the seed, status, stage or metric is not what it must be.
    """
    notes: list[str] = []
    table = table if at is None else until(table, at, notes)
    if len(table.rows) == 1 and least_arms > 1:
        raise TableError(f"{table.path}: one run: {_said(table.rows[0])}; two arms or more are compared; add runs")
    if not vary and not is_one_arm(table):
        if table.is_of_a_loop:
            what = f"the table of a loop that keeps and discards changes; blueberry judge {table.path} says which stand"
            raise TableError(f"{table.path}: {what}; name what tells them apart with --vary to compare them as arms")
        have = f"its columns are {', '.join(table.columns[:30])}"
        rule = "name the columns that tell arms apart, or for repeats of one arm a column in which they agree"
        raise TableError(f"{table.path}: nothing varies; {rule}; {have}")
    if not is_in_parts and any(row.values.get("stage") == "compare" for row in table.rows):
        rows = tuple(row for row in table.rows if row.values.get("stage") != "search")
        notes.append(
            f"{table.name}: {len(table.rows) - len(rows)} runs chose the settings that each arm is compared at; "
            "those of the stages compare and confirm are judged"
        )
        table = replace(table, rows=rows)
    columns = {name: find_column(name, table.columns, f"{table.path} vary", table.renamed) for name in vary}
    column, goal = metric_column(table, metric, goal, notes)
    table = decisions_as_endings(table, column, notes)
    if column in columns.values():
        name = next(name for name, found in columns.items() if found == column)
        raise TableError(f'{table.path} vary "{name}": it is the metric; an arm is told by its settings; change it')
    kind_of = kinds(table.by_column())
    seeds = seed_columns(table, seed, columns.values(), kind_of)
    kind_of |= dict.fromkeys((*table.objectives, column), "result")
    kind_of |= dict.fromkeys(seeds, "seed")
    rows = last_checkpoints(table, kind_of, set(columns.values()), seeds, notes)
    rows = cells_as_numbers(without_unseeded(rows, seeds, [*columns.values()], column, notes), column, kind_of, notes)
    kind_of |= dict.fromkeys(measured(table.by_column(rows), kind_of, columns.values()), "result")
    implied = None if "tokens" in kind_of else trained_on(rows, column, kind_of, columns.values())
    if implied is not None:
        notes.append(f"{table.name}: runs were trained on {implied[0]}, as their columns imply")
    labels = frozenset(name for name, found in columns.items() if kind_of[found] == "label")
    chosen = [
        {name: _setting(row.values.get(found), is_label=name in labels) for name, found in columns.items()}
        for row in rows
    ]
    bare = len(columns) == 1 and all(is_name(found) and kind_of[found] == "label" for found in columns.values())
    names = _arm_names(rows, chosen, has_names="arm" in table.columns, bare=bare) if vary else [table.name] * len(rows)
    if len(set(names)) < least_arms:
        what = f"every row has {arm_name(chosen[0])}" if vary else "one arm"
        if len(rows) < LEAST_REPEATS:
            raise TableError(f"{table.path}: {what}; two arms or more are compared; vary another column")
        notes.append(f"{table.name}: {what}, so nothing is compared: judged as a noise floor")
    blocks = seeds_of(rows, seeds, is_named=seed is not None)
    half = _half_digits(rows, kind_of)
    along = updates_of([name for name, kind in kind_of.items() if kind == "length"])
    others = [name for name, kind in kind_of.items() if kind == "setting" or _says_the_build(table, name)]
    others = [name for name in others if name not in columns.values()]
    runs, unfinished, num_nan = [], [], 0
    for row, name, settings, block in zip(rows, names, chosen, blocks, strict=True):
        ending = measured_ending(row, column)
        if ending == "unfinished":
            unfinished.append(settings)
            continue
        num_nan += ending == "diverged" and row.values.get("status") is None
        study = row.values.get("study")
        recipe = {**{other: row.values.get(other) for other in others}, **settings}
        amounts = {} if implied is None else {implied[0]: implied[1].get(row.place)}
        runs.append(
            StudyRun(
                arm=name,
                seed=block,
                stage=_stage(row),
                result=_result(row, ending, recipe | ({} if block is None else {"seed": block}), kind_of, amounts),
                settings=settings,
                study=None if study is None else str(study),
                place=row.place,
                digits=half,
                steps=_curve(row, column, along),
            )
        )
    if unfinished:
        notes.append(f"{table.name}: {len(unfinished)} runs have not ended, by their status, and have no number here")
    if num_nan:
        notes.append(f"{table.name}: runs whose metric is NaN or infinite are taken to have diverged")
    spread = [name for name in table.columns if folded(name) in (f"{column}_std", f"{column}_sd", *_SPREAD)]
    if spread and len(rows) == len(set(names)) > 1:
        notes.append(
            f"{table.name}: rows have a spread ({spread[0]}): if each is a mean over runs, give the runs instead"
        )
    values = sorted(value for run in runs if is_finite(value := run.result.metric(column)))
    if column == "val_loss" and values and values[len(values) // 2] > MOST_NATS:
        notes.append(
            f"{table.name}: a val_loss of {values[len(values) // 2]:.4g} nats is far above guessing, the log of the "
            "vocabulary, 11 or so: is it another column, or summed over tokens?"
        )
    return TableRuns(
        table=table,
        vary=tuple(vary),
        labels=labels,
        metric=column,
        goal=goal,
        arms=tuple(dict.fromkeys(names)),
        runs=tuple(runs),
        unfinished=tuple(unfinished),
        states_success=any(run.result.status == "completed" for run in runs) and "status" in table.columns,
        notes=tuple(notes),
    )


def _curve(row: Row, metric: str, along: str | None) -> tuple[tuple[float, float], ...]:
    """Of a run whose steps are known: updates done, and the metric; each once."""
    along = step_of(row, along)
    if along is None:
        return ()
    known = {step[along]: step[metric] for step in row.steps if along in step and is_finite(step.get(metric))}
    return tuple(sorted((at, value) for at, value in known.items() if is_finite(at)))


def _says_the_build(table: Table, name: str) -> bool:
    """Device or build of runs; a commit that names a run, or a change, of its own is none."""
    is_told = build_of(name) is not None and not (is_name(name) and table.is_of_a_loop)
    return is_told and (not is_name(name) or len({str(row.values.get(name)) for row in table.rows}) < len(table.rows))


def _stage(row: Row) -> Stage:
    given = row.values.get("stage")
    if given in (None, "search"):
        return "search"
    if given in ("compare", "confirm"):
        return given
    raise TableError(f'{row.place} "stage": {given!r:.80}; no known stage; write search, compare or confirm')


def _result(
    row: Row, ending: Ending, recipe: dict[str, Any], kind_of: Mapping[str, Kind], implied: Mapping[str, float | None]
) -> RunResult:
    """What the row says of its run, and nothing that it does not but `implied`."""
    measured = {name for name, kind in kind_of.items() if kind in ("result", "length")}
    numbers = {n: number for n in MEANINGS if n in measured and (number := _number(row, n)) is not None}
    others = {name: float(value) for name in row.values if name in measured and is_finite(value := row.values[name])}
    numbers |= {name: value for name, value in others.items() if name not in numbers}
    is_result = {name for name in numbers if kind_of[name] == "result"}
    completed = ending == "completed"
    own = set(OWN) if completed and "val_loss" in numbers else OWN - {"val_loss", "val_bits_per_byte", "val_accuracy"}
    own -= set() if "test_loss" in numbers else {"test_bits_per_byte", "test_accuracy"}
    status, failure = "completed", None
    if ending == "diverged":
        said = row.values.get("status")
        status, failure = ending, Failure(kind="diverged", message="" if said is None else f"{said}")
    elif not completed:
        status, failure = "failed", Failure(kind="crashed", message=f"{row.place}: no result")
    evaluated = row.values.get("eval_hash")
    vocabulary = _number(row, "vocabulary")
    return RunResult(
        fingerprint=digest("blueberry/imported/2", row.place, repr(sorted(row.values.items(), key=str))),
        recipe=recipe | ({} if vocabulary is None else {"data.vocabulary_tokens": round(vocabulary)}),
        status=status,
        failure=failure,
        final=_metrics(numbers, "val") if completed else None,
        test=_metrics(numbers, "test") if completed else None,
        num_updates=None if "updates" not in numbers else round(numbers["updates"]),
        num_tokens=None if "tokens" not in numbers else round(numbers["tokens"]),
        num_flops=numbers.get("flops"),
        train_seconds=numbers.get("train_seconds"),
        provenance=None if evaluated is None else Provenance(evaluation_digest=f"{evaluated}"),
        extra={
            name: value
            for name, value in [*numbers.items(), *implied.items()]
            if name not in own and name not in recipe and (completed or name not in is_result)
        },
    )


def _metrics(numbers: Mapping[str, float], which: str) -> Metrics | None:
    loss, bits, accuracy = (numbers.get(f"{which}_{name}") for name in ("loss", "bits_per_byte", "accuracy"))
    return None if loss is None else Metrics(loss=loss, bits_per_byte=bits, accuracy=accuracy, num_tokens=None)


def _number(row: Row, column: str) -> float | None:
    """Finite, or None. Raises: TableError for what is no number."""
    value = row.values.get(column)
    if value is None:
        return None
    if not is_number(value):
        shown = f"{value!r:.80}"
        raise TableError(f'{row.place} "{column}": {shown}; must be a number, or empty if it is not known; mend it')
    return float(value) if math.isfinite(value) else None


def _half_digits(rows: Sequence[Row], kind_of: Mapping[str, Kind]) -> dict[str, float]:
    """By column of results, half a unit of the finest digit in it, where its numbers were rounded."""
    found = {}
    for name, kind in kind_of.items():
        values = [row.values.get(name) for row in rows if kind == "result"]
        places = max((decimals(value) for value in values if is_finite(value)), default=MOST_PRINTED + 1)
        if places <= MOST_PRINTED:
            found[name] = 0.5 * 10.0**-places
    return found


def _setting(value: Any, *, is_label: bool) -> Any:
    """NaN is how data frames write a missing value. A number that is a name is text: it lies on no axis."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value) if is_label else value


def _arm_names(rows: Sequence[Row], chosen: Sequence[Mapping[str, Any]], *, has_names: bool, bare: bool) -> list[str]:
    """The table's own names where they tell arms apart as the settings do; else the one text that varies; else
    the settings with their values."""
    keys = [tuple(settings.values()) for settings in chosen]
    named = [str(row.values.get("arm")) for row in rows]
    if has_names and len(set(zip(named, keys, strict=True))) == len(set(named)) == len(set(keys)):
        return named
    if len(chosen[0]) == 1 and all(isinstance(v, str) and (bare or not v.isdecimal()) for (v,) in keys):
        return [value for (value,) in keys]
    return [arm_name(dict(settings)) for settings in chosen]


def told_by(settings: Mapping[str, Any], columns: Sequence[str]) -> str:
    """The name of what these columns tell apart: the one text that they have, else the columns with their values."""
    chosen = {name: settings[name] for name in columns}
    if len(chosen) == 1:
        ((name, value),) = chosen.items()
        if isinstance(value, str) and (is_name(name) or not value.isdecimal()):
            return value
    return arm_name(chosen)


def _said(row: Row) -> str:
    """A run in a line: first what is known to mean something."""
    known = {name: value for name, value in row.values.items() if value is not None}
    names = sorted(known, key=lambda name: (name not in MEANINGS, name))
    return ", ".join(f"{name}={known[name]}" for name in names[:8])


# --- Parts: conditions judged each by itself, arms that each have values to choose from ---

MOST_NAMED = 4
"""Conditions that a line names."""


def table_in_parts(
    table: Table, vary: Sequence[str], *, across: Sequence[str] = (), tune: Sequence[str] = (), **asked: Any
) -> TableRuns:
    """The runs of a table, sorted into parts: see `table_runs` for the rest that can be `asked`.

    `across` are columns whose every combination of values is a condition, within which the arms of `vary` are
    compared. `tune` are columns in which an arm's runs differ, so that each arm is compared at its best values.
    Raises: TableError if a column is asked for twice or not known in every run, or no condition has two arms.
    """
    columns = [*across, *vary, *tune]
    twice = next((name for number, name in enumerate(columns) if name in columns[:number]), None)
    if twice is not None:
        rule = "what varies, what is tuned and the conditions are told by different columns"
        raise TableError(f'{table.path} "{twice}": asked for twice; {rule}; name it once')
    found = table_runs(table, columns, is_in_parts=bool(across or tune), **asked)
    if not vary or not (across or tune):
        return found
    return _by_condition(found, across, vary, tune) if across else _by_arm(found, vary, tune)


def _by_condition(found: TableRuns, across: Sequence[str], vary: Sequence[str], tune: Sequence[str]) -> TableRuns:
    parts, alone = [], []
    for part in _groups(found, across):
        inside = replace(part.found, where=f" at {part.name}")
        if len({told_by(settings, vary) for settings in _settings_in(inside)}) < 2:
            alone.append(part.name)
            continue
        parts.append(replace(part, found=_by_arm(inside, vary, tune) if tune else _told_by(inside, vary)))
    if not parts:
        what = f"no two runs that differ in {', '.join(vary)} agree in {', '.join(across)}"
        raise TableError(f"{found.table.path}: {what}; arms are compared where these are equal; leave one out")
    said = []
    if alone:
        more = f" and {len(alone) - MOST_NAMED} more" if len(alone) > MOST_NAMED else ""
        names = f"{'; '.join(alone[:MOST_NAMED])}{more}"
        said.append(f"{found.table.name}: left out, as one arm alone was run there: {names}")
    return replace(_joined(found, across, parts, "across"), notes=(*found.notes, *said))


def _by_arm(found: TableRuns, vary: Sequence[str], tune: Sequence[str]) -> TableRuns:
    parts = []
    for part in _groups(found, vary):
        where = f"{found.where}, {part.name}" if found.where else f" at {part.name}"
        parts.append(replace(part, found=_told_by(replace(part.found, where=where), tune)))
    if len(parts) < 2:
        what = f"every row has {parts[0].name}" if parts else "no run has ended"
        raise TableError(f"{found.table.path}: {what}; two arms or more are compared; vary another column")
    return _joined(found, vary, parts, "tune")


def _joined(
    found: TableRuns, told: Sequence[str], parts: Sequence[TablePart], how: Literal["tune", "across"]
) -> TableRuns:
    runs = [replace(run, part=part.name, arm=run.part or run.arm) for part in parts for run in part.found.runs]
    left = [one for part in parts for one in part.found.unfinished]
    made = replace(found, runs=tuple(runs), unfinished=tuple(left), arms=())
    return replace(made, vary=tuple(told), joined=how, parts=tuple(parts))


def _told_by(found: TableRuns, columns: Sequence[str]) -> TableRuns:
    """With these columns alone telling arms apart."""
    names = {_key(settings, columns): told_by(settings, columns) for settings in _settings_in(found)}
    runs = []
    for run in found.runs:
        settings = {name: run.settings[name] for name in columns}
        runs.append(replace(run, arm=names[_key(run.settings, columns)], settings=settings))
    return replace(found, vary=tuple(columns), arms=tuple(dict.fromkeys(names.values())), runs=tuple(runs))


def _settings_in(found: TableRuns) -> list[Mapping[str, Any]]:
    """Of each run, those that have not ended last."""
    return [*(run.settings for run in found.runs), *found.unfinished]


def _groups(found: TableRuns, columns: Sequence[str]) -> list[TablePart]:
    """The runs of each combination of these columns, and what did not end, in their order."""
    for run in found.runs:
        missing = next((name for name in columns if run.settings[name] is None), None)
        if missing is not None:
            rule = "a part is told by it; a run without it belongs to none"
            raise TableError(f'{run.place} "{missing}": empty; {rule}; fill it in')
    groups: dict[tuple[Any, ...], tuple[list[StudyRun], list[Mapping[str, Any]]]] = {}
    for run in found.runs:
        groups.setdefault(_key(run.settings, columns), ([], []))[0].append(run)
    for settings in found.unfinished:
        groups.setdefault(_key(settings, columns), ([], []))[1].append(settings)
    parts = []
    for runs, unfinished in groups.values():
        first = runs[0].settings if runs else unfinished[0]
        settings = {name: first[name] for name in columns}
        inside = replace(found, runs=tuple(runs), unfinished=tuple(unfinished), notes=())
        parts.append(TablePart(told_by(settings, columns), settings, inside))
    return parts


def _key(settings: Mapping[str, Any], columns: Sequence[str]) -> tuple[Any, ...]:
    return tuple(settings[name] for name in columns)
