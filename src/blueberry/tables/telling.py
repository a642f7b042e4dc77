"""Which columns tell a table's arms apart where nobody says: as few settings as do, else what names its runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from blueberry.errors import TableError
from blueberry.tables.columns import is_name, kinds, word_set, words_in
from blueberry.tables.rows import Table, is_finite, is_of_a_loop, significant_digits

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
    values = {name: [row.values.get(name) for row in table.rows] for name in table.columns}
    differing = {name: some for name, some in values.items() if len({str(value) for value in some}) > 1}
    kind_of = kinds(values)
    settings = [name for name in differing if kind_of[name] == "setting"]
    named = [name for name in ("arm", *differing) if name in differing and kind_of[name] == "label"]
    if not settings and not named:
        raise TableError(f"{table.path}: its rows differ in no setting; the doctor compares arms; name one with --vary")
    each = [name for name in named if len({str(value) for value in values[name]}) == len(table.rows)]
    changes = [name for name in named if is_name(name)] or each if is_of_a_loop(table) else []
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
