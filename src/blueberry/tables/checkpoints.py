"""Rows that are steps of a run: which they are, and the last of each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from blueberry.errors import TableError
from blueberry.records import is_number
from blueberry.tables.columns import Kind, kind_by_name, words_in
from blueberry.tables.lengths import updates_of
from blueberry.tables.rows import Row, Table


def last_checkpoints(
    table: Table, kind_of: Mapping[str, Kind], varied: set[str], seeds: Sequence[str], notes: list[str]
) -> list[Row]:
    """The rows, but of those that are steps of one run only the last, with what was last measured of each column."""
    lengths = [name for name, kind in kind_of.items() if kind == "length" and name not in varied]
    if not lengths or table.are_runs:
        return list(table.rows)
    fixed = [*varied, *seeds, "stage"]
    told = [name for name, kind in kind_of.items() if kind == "setting" and name not in varied]
    told = [name for name in told if words_in(name)[-1:] not in _RATES]
    for name, kind in kind_of.items():
        if kind == "label" and len({str(row.values.get(name)) for row in table.rows}) < len(table.rows):
            told.insert(0, name)
    groups = _grouped(table.rows, fixed)
    key = [*fixed, *(name for name in told if not _goes_with_steps(groups, name, lengths))]
    groups = _grouped(table.rows, key)
    rows: list[Row] = []
    ends: list[float] = []
    which = ""
    for group in groups:
        last, steps, first = _last_of(group, lengths)
        rows += last
        if steps:
            rows[-1] = replace(rows[-1], steps=_in_order(group, lengths))
            which = steps
            ends += [first, last[0].values[steps]]
    if which:
        notes.append(
            f"{table.name}: rows are steps of a run ({which} {min(ends):g} to {max(ends):g}); the last of each is "
            f"judged, {len(rows)} of {len(table.rows)} rows"
        )
    order = {row.place: place for place, row in enumerate(table.rows)}
    return sorted(rows, key=lambda row: order[row.place])


_RATES = (["lr"], ["rate"])


LEAST_STEPS = 3
"""At which one run was measured, where some of several have ended before others."""


def _grouped(rows: Sequence[Row], columns: Sequence[str]) -> list[list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row.values.get(name)) for name in columns), []).append(row)
    return list(groups.values())


def _goes_with_steps(groups: Sequence[Sequence[Row]], name: str, lengths: Sequence[str]) -> bool:
    """Whether something only changes as every run goes on: a scale of losses, a temperature, a checkpoint's name."""
    moves = False
    for group in groups:
        values = {str(row.values.get(name)) for row in group}
        if len(values) < 2:
            continue
        pairs = {(tuple(row.values.get(one) for one in lengths), str(row.values.get(name))) for row in group}
        if len({where for where, _ in pairs}) < max(LEAST_STEPS, len(pairs)):
            return False
        moves = True
    return moves


def _last_of(group: list[Row], lengths: Sequence[str]) -> tuple[list[Row], str, float]:
    """The last row of each run, the column that says so, "" where none does, and its first value."""
    steps = next((name for name in lengths if _are_steps([row.values.get(name) for row in group])), None)
    if steps is None:
        return group, "", 0.0
    in_order = sorted(group, key=lambda row: row.values[steps])
    first, last = in_order[0].values[steps], in_order[-1].values[steps]
    at_end = [row for row in in_order if row.values[steps] == last]
    if len(at_end) == 1:
        return [_merged(in_order)], steps, first
    within, finer, _ = _last_of(at_end, [name for name in lengths if name != steps])  # steps within an epoch
    return (within if finer else at_end), steps, first


def _in_order(group: Sequence[Row], lengths: Sequence[str]) -> tuple[Mapping[str, Any], ...]:
    known = [name for name in lengths if all(is_number(row.values.get(name)) for row in group)]
    return tuple(row.values for row in sorted(group, key=lambda row: tuple(row.values[name] for name in known)))


def step_of(row: Row, column: str | None) -> str | None:
    """The column that counts the updates of a run's steps: this one if it moves, else by its name one that does. Of a
    tool's own count of what it logged, which begins with an underscore, only where there is no other.
    """
    moving = [name for name in dict.fromkeys(n for step in row.steps for n in step) if _moves(row, name)]
    if column in moving:
        return column
    return updates_of(sorted((n for n in moving if kind_by_name(n) == "length"), key=lambda n: n.startswith("_")))


def _moves(row: Row, name: str) -> bool:
    counts = [step[name] for step in row.steps if is_number(step.get(name))]
    return len(set(counts)) > 1 or len(row.steps) == len(counts) == 1


def until(table: Table, at: float, notes: list[str]) -> Table:
    """The rows up to an update, or each run as it was there by its steps, so that runs of unlike length are judged
    where they were equally long.

    Raises: TableError if no column counts updates, or nothing was measured up to there.
    """
    if any(row.steps for row in table.rows):
        counted = {row.place: column for row in table.rows if (column := step_of(row, None)) is not None}
        counts = {row.place: [step.get(counted.get(row.place, "")) for step in row.steps] for row in table.rows}
        column = next(iter(counted.values()), None)
    else:
        column = updates_of([name for name in table.columns if kind_by_name(name) == "length"])
        counted, counts = {}, {row.place: [row.values.get(column or "")] for row in table.rows}
    ends = [count for some in counts.values() for count in some if is_number(count)]
    if column is None or not ends:
        rule = "no column counts updates (updates, step, iter); runs are judged at one where rows are their steps"
        raise TableError(f"{table.path} --at {at:g}: {rule}; leave it out")
    if not any(count <= at for count in ends):
        raise TableError(f"{table.path} --at {at:g}: nothing was measured so early; {column} begins at {min(ends):g}")
    if counted:
        cut = [_as_it_was(row, counted.get(row.place, ""), at) for row in table.rows]
        kept = tuple(row for row in cut if row is not None)
        what = f"each run as it was there by what it logged, up to {max(ends):g}"
        what += f"; {len(cut) - len(kept)} runs logged nothing so early" if len(kept) < len(cut) else ""
    else:
        kept = tuple(row for row in table.rows if not is_number(count := counts[row.place][0]) or count <= at)
        what = f"{len(table.rows) - len(kept)} rows are later, up to {max(ends):g}"
    notes.append(
        f"{table.name}: judged at {column} {at:g}; {what}. "
        "How far a schedule has come there, by its own length, is part of every difference"
    )
    return replace(table, rows=kept)


def _as_it_was(row: Row, along: str, at: float) -> Row | None:
    """A run at an update, by its steps; None where it logged nothing so early.

    What is known of its end alone is missing: lengths, but for those that are the updates under another name, and
    results.
    """
    steps = tuple(step for step in row.steps if is_number(step.get(along)) and step[along] <= at)
    if not steps:
        return None
    end = max(step[along] for step in row.steps if is_number(step.get(along)))
    last = {name: value for step in steps for name, value in step.items() if value is not None}
    logged = {name for step in row.steps for name in step}
    values = {}
    for name, value in row.values.items():
        if name in logged:
            values[name] = last.get(name)
        elif kind_by_name(name) == "length":
            values[name] = last[along] if value == end else None
        else:
            values[name] = None if kind_by_name(name) == "result" else value
    return replace(row, values=values, steps=steps)


def _are_steps(values: Sequence[Any]) -> bool:
    """Whether these are where one run, or each of several, was measured: several numbers, each as often or, where some
    runs have ended before others, ever less often."""
    if not all(map(is_number, values)):
        return False
    counts = [count for _, count in sorted(Counter(values).items())]
    as_often = len(set(counts)) == 1
    return len(counts) > 1 and (
        as_often or (len(counts) >= LEAST_STEPS and counts[0] > 1 and counts == sorted(counts, reverse=True))
    )


def _merged(in_order: Sequence[Row]) -> Row:
    values: dict[str, Any] = {}
    for row in in_order:
        values |= {name: value for name, value in row.values.items() if value is not None or name not in values}
    return replace(in_order[-1], values=values)
