"""What the columns of a table are, by their names and, where these say nothing, by their numbers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from blueberry.records import goal_of, is_number
from blueberry.tables.columns import CODES, SETTING, Kind, folded, kind_by_name, understood, word_set, words_in
from blueberry.tables.rows import is_finite, significant_digits

_QUANTITY = re.compile(
    r"[^\w]*\d[\d.,]*\s*(bytes?|[kmgt]i?b|ms|m?s|secs?|mins?|h|hours?|x|\u00d7|tok/s)\b.*", re.IGNORECASE
)
"""A cell of text that says how much: "15.3 MB", "57 ms"."""
LEAST_DIGITS, SURELY_MEASURED = 5, 10
"""Significant digits of a number that was measured rather than chosen, where there are several such; in any case."""
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
    if (
        by_name == "seed"
        and not {name, *understood([name]).values()} & {"seed"}
        and any(one < 0 or not float(one).is_integer() for one in numbers)
    ):
        return "result"  # "worst seed": what came out on it
    says = goal_of(name) is not None or re.search(r"[(\[]\s*%\s*[)\]]", name)
    if by_name is None and says and any(not float(one).is_integer() for one in numbers):
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
