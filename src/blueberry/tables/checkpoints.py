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


def until(table: Table, at: float, notes: list[str]) -> Table:
    """The rows up to an update, so that runs of unlike length are judged where they were equally long.

    Raises: TableError if no column counts updates, or nothing was measured up to there.
    """
    column = updates_of([name for name in table.columns if kind_by_name(name) == "length"])
    counts = {row.place: row.values.get(column or "") for row in table.rows}
    ends = [count for count in counts.values() if is_number(count)]
    if column is None or not ends:
        rule = "no column counts updates (updates, step, iter); runs are judged at one where rows are their steps"
        raise TableError(f"{table.path} --at {at:g}: {rule}; leave it out")
    kept = tuple(row for row in table.rows if not is_number(count := counts[row.place]) or count <= at)
    if not any(count <= at for count in ends):
        raise TableError(f"{table.path} --at {at:g}: nothing was measured so early; {column} begins at {min(ends):g}")
    notes.append(
        f"{table.name}: judged at {column} {at:g}; {len(table.rows) - len(kept)} rows are later, up to {max(ends):g}. "
        "How far a schedule has come there, by its own length, is part of every difference"
    )
    return replace(table, rows=kept)


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
