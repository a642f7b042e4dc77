"""Rows that are steps of a run: which they are, and the last of each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from blueberry.records import is_number
from blueberry.tables.columns import Kind, words_in
from blueberry.tables.rows import Row, Table


def last_checkpoints(
    table: Table, kind_of: Mapping[str, Kind], varied: set[str], seeds: Sequence[str], notes: list[str]
) -> list[Row]:
    """The rows, but of those that are steps of one run only the last, with what was last measured of each column."""
    lengths = [name for name, kind in kind_of.items() if kind == "length" and name not in varied]
    if not lengths:
        return list(table.rows)
    repeated = [
        name
        for name, kind in kind_of.items()
        if kind == "label" and len({str(row.values.get(name)) for row in table.rows}) < len(table.rows)
    ]
    settings = [name for name, kind in kind_of.items() if kind == "setting" and words_in(name)[-1:] not in _RATES]
    key = [*varied, *seeds, "stage", *repeated, *settings]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in table.rows:
        groups.setdefault(tuple(str(row.values.get(name)) for name in key), []).append(row)
    rows: list[Row] = []
    ends: list[float] = []
    which = ""
    for group in groups.values():
        steps = next((name for name in lengths if _are_steps([row.values.get(name) for row in group])), None)
        if steps is None:
            rows += group
            continue
        which = steps
        at = {row.place: row.values[steps] for row in group}
        in_order = sorted(group, key=lambda row: at[row.place])
        last = at[in_order[-1].place]
        ends += [at[in_order[0].place], last]
        at_end = [row for row in in_order if at[row.place] == last]
        rows += at_end if len(at_end) > 1 else [_merged(in_order)]
    if which:
        notes.append(
            f"{table.name}: rows are steps of a run ({which} {min(ends):g} to {max(ends):g}); the last of each is "
            f"judged, {len(rows)} of {len(table.rows)} rows"
        )
    order = {row.place: place for place, row in enumerate(table.rows)}
    return sorted(rows, key=lambda row: order[row.place])


_RATES = (["lr"], ["rate"])


def _are_steps(values: Sequence[Any]) -> bool:
    """Whether these are where one run, or each of several, was measured: several numbers, each equally often."""
    if not all(map(is_number, values)):
        return False
    counts = {value: values.count(value) for value in values}
    return len(counts) > 1 and len(set(counts.values())) == 1


def _merged(in_order: Sequence[Row]) -> Row:
    values: dict[str, Any] = {}
    for row in in_order:
        values |= {name: value for name, value in row.values.items() if value is not None or name not in values}
    return replace(in_order[-1], values=values)
