"""Which part each column plays in a table: setting, length, result, label or seed, by its name or else by its numbers;
which one judges, which say the seed, and which tell the arms apart where nobody says."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from blueberry.errors import TableError
from blueberry.records import Goal, goal_of, is_number
from blueberry.tables.columns import (
    CODES,
    SETTING,
    Kind,
    build_of,
    find_column,
    folded,
    is_bracketed,
    is_loss,
    is_name,
    kind_by_name,
    means_the_same,
    understood,
    word_set,
    words_in,
)
from blueberry.tables.progress import has_not_completed
from blueberry.tables.rows import LEAST_DIGITS, Row, Table, is_finite, significant_digits

_QUANTITY = re.compile(
    r"[^\w]*\d[\d.,]*\s*(bytes?|[kmgt]i?b|ms|m?s|secs?|mins?|h|hours?|x|\u00d7|tok/s)\b.*", re.IGNORECASE
)
"""A cell of text that says how much: "15.3 MB", "57 ms"."""
SURELY_MEASURED = 10
"""Significant digits of a number that was measured, whatever stands beside it."""
_SPREADS = ("stderr", "std", "sem", "se", "sd")


def kinds(columns: Mapping[str, Sequence[Any]]) -> dict[str, Kind]:
    """What each column is, by its name, and where that says nothing by its values, one a row. One whose spread stands
    beside it (`recall`, `recall_stderr`) was measured."""
    spread = {folded(name).rpartition("_")[0] for name in columns if folded(name).rpartition("_")[2] in _SPREADS}
    return {name: "result" if folded(name) in spread else _kind(name, values) for name, values in columns.items()}


def _kind(name: str, values: Sequence[Any]) -> Kind:
    words = words_in(name)
    if words and words[-1] in CODES and all(isinstance(value, int) for value in values if value is not None):
        return "label"
    by_name = kind_by_name(name)
    numbers = [value for value in values if is_finite(value)]
    is_whole = all(float(one).is_integer() for one in numbers)
    if (
        by_name == "seed"
        and "seed" not in (name, *understood([name]).values())
        and (min(numbers, default=0) < 0 or not is_whole)
    ):
        return "result"  # "worst seed": what came out on it
    says = goal_of(name) is not None or re.search(r"[(\[]\s*%\s*[)\]]", name)
    if by_name is None and says and not is_whole:
        return "result"  # less of it, or more, is better; or it is a share that nobody chose so finely
    return by_name or _kind_by_values(values)


def _kind_by_values(values: Sequence[Any]) -> Kind:
    known = [value for value in values if value is not None]
    distinct = {str(value) for value in known}
    if known and all(isinstance(value, str) and _QUANTITY.fullmatch(value) for value in known):
        return "result"
    if all(isinstance(value, str) for value in known):
        return "label" if len(distinct) == len(known) > 2 else "setting"
    numbers = [value for value in known if is_number(value)]
    if len(numbers) < len(known):
        return "setting"
    whole = all(float(value).is_integer() for value in numbers)
    if whole and len(distinct) > 2 and min(numbers) in (0, 1) and max(numbers) - min(numbers) == len(distinct) - 1:
        return "label"  # 1, 2, 3, ... count things
    digits = [significant_digits(repr(float(value))) for value in numbers]
    if len(distinct) == len(numbers) > 1 and min(digits) >= SURELY_MEASURED:
        return "result"
    measured = sum(count >= LEAST_DIGITS for count in digits)
    return "result" if len(numbers) > 4 and len(distinct) > 0.8 * len(numbers) < 1.25 * measured else "setting"


_COUNTS_REPEATS = word_set("fold folds replicate replica repeat rep restart stage study")
"""Last words of columns that, beside a seed, tell the repeats of one arm apart."""
MOSTLY = 0.8
"""Of numbers that are all different, where a column's name calls it a setting and its numbers do not."""


def measured(columns: Mapping[str, Sequence[Any]], kind_of: Mapping[str, Kind], told: Iterable[str] = ()) -> list[str]:
    """Of the columns taken for settings those whose numbers, one a row, were measured: they differ between the repeats
    of most arms that have several. What was set is the same in all runs of an arm.

    `told`: the columns that tell arms apart, beside what is a setting by its name. A number that stands for a setting
    with every seed of an arm, or with each seed alike in all arms, is a design; so is one that a random search drew,
    where a setting with a known name was drawn too, so that each run is an arm of its own. Of names with a setting's
    word (`completion_rate`) this is said only where arms share seeds and hardly a number stands twice.
    """
    told = [*told]
    seeds = [name for name, kind in kind_of.items() if kind == "seed"]
    seeds += [name for name in columns if seeds and words_in(name)[-1:] and words_in(name)[-1] in _COUNTS_REPEATS]
    numeric = {name for name, some in columns.items() if all(is_number(one) for one in some if one is not None)}
    settings = [name for name, kind in kind_of.items() if kind == "setting" and name not in told]
    sure = [name for name in settings if name not in numeric or _is_surely_set(name)]
    by_name = [name for name in settings if name not in sure and kind_by_name(name) == "setting"]
    found = [name for name in by_name if _differs_by_seed(columns, name, [*told, *sure], seeds, is_named=True)]
    sure += [name for name in by_name if name not in found]
    unnamed = [name for name in settings if name not in sure and name not in found]
    return found + [name for name in unnamed if _differs_by_seed(columns, name, [*told, *sure], seeds)]


def _is_surely_set(column: str) -> bool:
    words = words_in(column.rpartition(".")[2])
    return words[-1:] == ["lr"] or words[-2:] == ["learning", "rate"] or set(words) <= SETTING | {"num", "n", "max"}


def _differs_by_seed(
    columns: Mapping[str, Sequence[Any]],
    name: str,
    told: Sequence[str],
    seeds: Sequence[str],
    *,
    is_named: bool = False,
) -> bool:
    arms: dict[tuple[str, ...], list[tuple[tuple[str, ...], float]]] = {}
    for row, value in enumerate(columns[name]):
        if value is not None:
            key, seed = (tuple(str(columns[one][row]) for one in some) for some in (told, seeds))
            arms.setdefault(key, []).append((seed, value))
    repeated = [runs for runs in arms.values() if len(runs) > 1]
    whole = sum(map(len, repeated))
    mostly_apart = len({value for runs in repeated for _, value in runs}) > MOSTLY * whole
    if len(repeated) < 2 or sum(len({value for _, value in runs}) > 1 for runs in repeated) <= len(repeated) / 2:
        return False
    if not seeds:  # repeats that nothing tells apart, as many of each arm
        return not is_named and mostly_apart and len({*map(len, arms.values())}) == 1 and whole > 2 * len(arms)
    if any(len({seed for seed, _ in runs}) < len({*runs}) for runs in arms.values()):
        return False  # it differs on one seed: several arms
    of_seed: dict[tuple[str, ...], list[float]] = {}
    for runs in repeated:
        for seed, value in {*runs}:
            of_seed.setdefault(seed, []).append(value)
    shared = [values for values in of_seed.values() if len(values) > 1]
    if shared and all(len({*values}) == 1 for values in shared):
        return False  # it goes with the seed
    return not is_named or (mostly_apart and len(shared) > 1)


# --- Which judges, and which say the seed ---

PREFERRED = ("val_loss", "val_bits_per_byte", "val_perplexity")
"""Metrics that a table is judged by where nobody names one, the first that it has."""


def metric_column(table: Table, metric: str | None, goal: Goal | None, notes: list[str]) -> tuple[str, Goal]:
    """The column that judges, and which way."""
    if metric is None:
        losses = [name for name in table.columns if is_loss(name) and kind_by_name(name) == "result"]
        held_out = [name for name in losses if not {"train", "training", "test"} & set(words_in(name))]
        searched = [*table.objectives] if len(table.objectives) == 1 else []
        filled = {n: sum(is_finite(row.values.get(n)) for row in table.rows) for n in PREFERRED if n in table.columns}
        known = sorted(filled, key=lambda name: -filled[name])  # of those that as many rows have, in their order
        some = known or searched or held_out or losses
        if not some or (some[0] not in PREFERRED and len(some) > 1):
            which = f"; which of {', '.join(some[:8])}? say it with --metric" if some else ""
            scores = [n for n in table.columns if kind_by_name(n) == "result" and goal_of(n) == "maximize"]
            other = next((f"e.g. --metric {name} --goal maximize" for name in scores), "")
            said = other or "say it with --metric"
            have = which or f"; its columns are {', '.join(table.columns[:30])}; {said}"
            raise TableError(f'{table.path} metric "val_loss": no such column{have}')
        column = some[0]
        twins = [name for name in table.columns if name != column and means_the_same(name, column)]
        if twins and any(is_bracketed(name) for name in twins):
            given = next((given for given, meaning in table.renamed.items() if meaning == column), column)
            notes.append(f"{table.name}: {given} is judged; {' and '.join(twins[:3])} would be too, by --metric")
        if column in searched and column not in PREFERRED:
            notes.append(f"{table.name}: no validation loss in nats; judged by {column}, what the search went by")
        elif column != "val_loss":
            only = ", the one loss there is" if len(losses) == 1 else ""
            notes.append(f"{table.name}: no validation loss in nats; judged by {column}{only}")
    else:
        column = find_column(metric, table.columns, f"{table.path} metric", table.renamed)
    searched_for = table.objectives.get(column)
    if goal is None and searched_for is not None:
        notes.append(f"{table.name}: {searched_for[:-1]}ed, as the search did")
        return column, searched_for
    if goal is None and goal_of(column) == "maximize":
        raise TableError(
            f'{table.path} metric "{metric or column}": higher is better in it, by its name; nothing is turned '
            'round in silence; say --goal maximize (goal = "maximize"), or give a loss'
        )
    if goal is None and column in table.objectives and not is_loss(column):
        raise TableError(
            f'{table.path} metric "{metric or column}": what a search went by, and not whether it was made small; '
            "say --goal minimize or --goal maximize"
        )
    if goal is None and goal_of(column) is None and not is_loss(column):
        notes.append(f"{table.name}: less of {column} is taken as better; --goal maximize turns it round")
    return column, goal or "minimize"


def seed_columns(
    table: Table, seed: str | None, varied: Collection[str], kind_of: Mapping[str, Kind]
) -> tuple[str, ...]:
    if seed is not None:
        return (find_column(seed, table.columns, f"{table.path} seed", table.renamed),)
    if "seed" in varied:
        raise TableError("--vary seed: seeds are blocks, the same for every arm; name the column of what was changed")
    if "seed" in table.columns:
        return ("seed",)
    return tuple(name for name in table.columns if kind_of[name] == "seed" and name not in varied)


def seeds_of(rows: Sequence[Row], columns: Sequence[str], *, is_named: bool) -> list[int | None]:
    """Each row's seed; None everywhere where no column says it. What is no whole number is counted through."""
    if not columns:
        return [None] * len(rows)
    if columns == ("seed",) and not is_named:
        return [
            None if "seed" not in row.values or (row.values["seed"] is None and has_not_completed(row)) else _seed(row)
            for row in rows
        ]
    keys = [tuple(row.values.get(name) for name in columns) for row in rows]
    missing = next((row for row, key in zip(rows, keys, strict=True) if None in key), None)
    if missing is not None:
        raise TableError(f'{missing.place} "{columns[0]}": empty; it says which runs share a seed; fill it in')
    if len(columns) == 1 and all(isinstance(key, int) and not isinstance(key, bool) for (key,) in keys):
        return [key for (key,) in keys]
    number = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return [number[key] for key in keys]


def _seed(row: Row) -> int:
    given = row.values.get("seed")
    if given is None:
        raise TableError(f'{row.place} "seed": empty; other rows have one; give each run its seed, or drop the column')
    if not is_number(given) or not float(given).is_integer():
        raise TableError(f'{row.place} "seed": {given!r}; a seed is a whole number; mend it')
    return int(given)


# --- Which tell arms apart ---

_REPEATS = word_set("run runs repeat repeats replica replicate rep restart log logfile #")
"""Last words of what counts the runs of one arm."""
LEAST_REPEATS = 3
"""Of one arm alone, from which on its runs are a noise floor."""


def is_one_arm(table: Table) -> bool:
    """Whether its rows are told apart by no setting and no name: repeats of one run, a noise floor.

    Where each has a seed of its own, what else differs from row to row is a setting only by its name; and so are runs
    that are only counted, or have a log each, repeats.
    """
    values = table.by_column()
    kind_of = kinds(values)
    telling = {name: len({str(one) for one in some}) for name, some in values.items()}
    telling = {name: num for name, num in telling.items() if num > 1}
    repeats = [name for name in telling if (words_in(name) or [""])[-1] in _REPEATS]
    repeats = [name for name in repeats if all(isinstance(one, int) for one in values[name]) or "log" in words_in(name)]
    num_runs = max((telling[name] for name in telling if kind_of[name] == "seed" or name in repeats), default=0)
    steps = any(kind_of[name] == "length" for name in telling)
    is_told = num_runs >= LEAST_REPEATS and (num_runs == len(table.rows) or steps)
    others = [name for name in telling if name not in repeats and kind_of[name] in ("setting", "label")]
    few = [name for name in others if kind_of[name] == "label" and telling[name] < num_runs]
    others = [name for name in others if name in few or kind_by_name(name) == "setting"] if is_told else others
    return len(table.rows) >= LEAST_REPEATS and not others


LEAST_DRAWN = 5
"""Numbers of which it can be seen whether they were drawn."""
SIZES = word_set("layer layers depth width dim dims d embd embed hidden heads head ff ffn model n")
"""Words of how large a model is: such settings grow together."""


def differing_settings(table: Table) -> tuple[str, ...]:
    """The columns that tell a table's arms apart: of the settings in which rows differ as few as do; where there is
    none, what names the runs.

    A setting that goes with the others, so that it tells nothing more apart, is not what varies, unless the table
    names its arms, or its settings were drawn (of a random search), planned as a fraction, or are sizes of one model.
    Raises: TableError if there is neither.
    """
    if len(table.rows) == 1:
        raise TableError(f"{table.path}: one run; the doctor compares arms; add runs, or give the folder of all")
    values = table.by_column()
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
    chosen = list(
        zip(*([one if is_finite(one) else str(one) for one in differing[name]] for name in settings), strict=True)
    )
    arms = list(dict.fromkeys(chosen))
    columns = dict(zip(settings, zip(*arms, strict=True), strict=True))
    kept = _fewest(columns)
    together = all(SIZES & set(words_in(name)) for name in settings) or any(map(_is_drawn, columns.values()))
    if len(kept) == len(settings) or together:
        return tuple(settings)
    names = [str(name) for name in differing["arm"]] if "arm" in named else []
    named_so = len(set(names)) == len(arms) == len(set(zip(names, chosen, strict=False)))
    return ("arm",) if named_so else tuple(kept)


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
