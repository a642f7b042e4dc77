"""How a table's runs are sorted: which columns tell its arms apart where nobody says; and parts, conditions that are
judged each by itself, arms that each have values to choose from."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

from blueberry.errors import TableError
from blueberry.records import StudyRun
from blueberry.tables.columns import build_of, is_name, word_set, words_in
from blueberry.tables.kinds import kinds, measured
from blueberry.tables.rows import Table, is_finite, significant_digits
from blueberry.tables.runs import TablePart, TableRuns, table_runs, told_by

MOST_NAMED = 4
"""Conditions that a line names."""
LEAST_DRAWN = 5
"""Numbers of which it can be seen whether they were drawn."""
SIZES = word_set("layer layers depth width dim dims d embd embed hidden heads head ff ffn model n")
"""Words of how large a model is: such settings grow together."""
T = TypeVar("T")


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
    for name, settings, runs, unfinished in _groups(found, across):
        inside = replace(found, runs=runs, unfinished=unfinished, where=f" at {name}", notes=())
        arms = {told_by(run.settings, vary) for run in runs} | {told_by(one, vary) for one in unfinished}
        if len(arms) < 2:
            alone.append(name)
            continue
        inside = _by_arm(inside, vary, tune) if tune else _told_by(inside, vary)
        parts.append(TablePart(name, settings, inside))
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
    for name, settings, runs, unfinished in _groups(found, vary):
        where = f"{found.where or ' at'}{',' if found.where else ''} {name}"
        inside = replace(found, runs=runs, unfinished=unfinished, where=where, notes=())
        parts.append(TablePart(name, settings, _told_by(inside, tune)))
    if len(parts) < 2:
        what = f"every row has {parts[0].name}" if parts else "no run has ended"
        raise TableError(f"{found.table.path}: {what}; two arms or more are compared; vary another column")
    return _joined(found, vary, parts, "tune")


def _joined(found: TableRuns, told: Sequence[str], parts: Sequence[TablePart], how: Any) -> TableRuns:
    runs = [replace(run, part=part.name, arm=run.part or run.arm) for part in parts for run in part.found.runs]
    return replace(
        found,
        vary=tuple(told),
        arms=(),
        joined=how,
        parts=tuple(parts),
        runs=tuple(runs),
        unfinished=tuple(one for part in parts for one in part.found.unfinished),
    )


def _told_by(found: TableRuns, columns: Sequence[str]) -> TableRuns:
    """With these columns alone telling arms apart."""
    names = {
        key: told_by(settings, columns)
        for settings in [*(run.settings for run in found.runs), *found.unfinished]
        for key in [_key(settings, columns)]
    }
    runs = []
    for run in found.runs:
        settings = {name: run.settings[name] for name in columns}
        runs.append(replace(run, arm=names[_key(run.settings, columns)], settings=settings))
    return replace(found, vary=tuple(columns), arms=tuple(dict.fromkeys(names.values())), runs=tuple(runs))


def _groups(
    found: TableRuns, columns: Sequence[str]
) -> list[tuple[str, dict[str, Any], tuple[StudyRun, ...], tuple[Mapping[str, Any], ...]]]:
    """Of each combination of these columns its name, its settings, its runs and what did not end, in their order."""
    for run in found.runs:
        missing = next((name for name in columns if run.settings[name] is None), None)
        if missing is not None:
            rule = "a part is told by it; a run without it belongs to none"
            raise TableError(f'{run.place} "{missing}": empty; {rule}; fill it in')
    runs = _grouped(found.runs, lambda run: _key(run.settings, columns))
    unfinished = _grouped(found.unfinished, lambda settings: _key(settings, columns))
    groups = []
    for key in dict.fromkeys([*runs, *unfinished]):
        first = runs[key][0].settings if key in runs else unfinished[key][0]
        settings = {name: first[name] for name in columns}
        groups.append((told_by(settings, columns), settings, tuple(runs.get(key, ())), tuple(unfinished.get(key, ()))))
    return groups


def _key(settings: Mapping[str, Any], columns: Sequence[str]) -> tuple[Any, ...]:
    return tuple(settings[name] for name in columns)


def _grouped(some: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    found: dict[Any, list[T]] = {}
    for one in some:
        found.setdefault(key(one), []).append(one)
    return found


# --- Arms, where nobody says ---


def differing_settings(table: Table) -> tuple[str, ...]:
    """The columns that tell a table's arms apart: of the settings in which rows differ as few as do; where there is
    none, what names the runs.

    A setting that goes with the others, so that it tells nothing more apart, is not what varies, unless the table
    names its arms, or its settings were drawn (of a random search), planned as a fraction, or are sizes of one model.
    Raises: TableError if there is neither.
    """
    if len(table.rows) == 1:
        raise TableError(f"{table.path}: one run; the doctor compares arms; add runs, or give the folder of all")
    values = {name: [row.values.get(name) for row in table.rows] for name in table.columns}
    differing = {name: some for name, some in values.items() if len({str(value) for value in some}) > 1}
    kind_of = kinds(values)
    kind_of |= dict.fromkeys(measured(values, kind_of, ["arm"] if "arm" in values else []), "result")
    settings = [name for name in differing if kind_of[name] == "setting"]
    named = [name for name in ("arm", *differing) if name in differing and kind_of[name] == "label"]
    named = named or [name for name in differing if build_of(name) is not None]
    if not settings and not named:
        raise TableError(f"{table.path}: its rows differ in no setting; the doctor compares arms; name one with --vary")
    each = [name for name in named if len({str(value) for value in values[name]}) == len(table.rows)]
    changes = [name for name in named if is_name(name)] or each if table.is_of_a_loop else []
    if changes or not settings:
        return ((changes or named)[0],)
    chosen = list(zip(*([_comparable(value) for value in differing[name]] for name in settings), strict=True))
    arms = list(dict.fromkeys(chosen))
    columns = dict(zip(settings, zip(*arms, strict=True), strict=True))
    kept = _fewest(columns)
    together = all(SIZES & set(words_in(name)) for name in settings) or any(map(_is_drawn, columns.values()))
    if len(kept) == len(settings) or together:
        return tuple(settings)
    names = [str(name) for name in differing["arm"]] if "arm" in named else []
    named_so = len(set(names)) == len(arms) == len(set(zip(names, chosen, strict=False)))
    return ("arm",) if named_so else tuple(kept)


def _comparable(value: Any) -> Any:
    return value if is_finite(value) else str(value)


def _fewest(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """As few of the columns of settings, one value an arm, as tell all arms apart."""
    kept = list(columns)
    for name in sorted(kept, key=lambda name: (len(set(columns[name])), -kept.index(name))):
        rest = [columns[other] for other in kept if other != name]
        if len(set(zip(*rest, strict=True))) == len(columns[name]) and not _is_balanced(columns[name], rest):
            kept.remove(name)
    return kept


def _is_balanced(one: Sequence[Any], rest: Sequence[Sequence[Any]]) -> bool:
    """Whether its values stand with those of every other column equally often, as a fraction of all is planned."""
    for other in rest:
        counts = Counter(zip(one, other, strict=True))
        if len(counts) < len(set(one)) * len(set(other)) or len(set(counts.values())) > 1:
            return False
    return bool(rest)


def _is_drawn(column: Sequence[Any]) -> bool:
    """Whether numbers were drawn, not chosen: each arm has its own, of many digits, and no even steps lie between."""
    numbers = sorted(float(value) for value in column if is_finite(value) and not float(value).is_integer())
    if len(numbers) < max(LEAST_DRAWN, 0.8 * len(column)) or len(set(column)) < len(column):
        return False
    if sum(significant_digits(f"{value:.12g}") > 2 for value in numbers) <= len(numbers) / 2:
        return False
    steps = [[b - a for a, b in pairwise(numbers)], [b / a for a, b in pairwise(numbers)] if numbers[0] > 0 else [1, 2]]
    return all(max(some) > 1.1 * min(some) for some in steps)
