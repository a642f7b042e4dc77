"""What the names of rows say: settings inside the names of runs, steps of a run, and that a row sums up others.

"lr0.01-bs32" and "lr=0.01,bs=32" are seen. A pattern, `--name-pattern "lr{lr}_wd{weight_decay}"`, is the text itself
with {NAME} where a value stands and {} where one stands that is not read. It may stand anywhere in a name.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import fmean
from typing import Any

from blueberry.errors import TableError
from blueberry.records import is_number
from blueberry.tables.columns import SETTING, kind_by_name, root_of
from blueberry.tables.rows import LEAST_DIGITS, Placed, Row, is_finite, significant_digits, value_of

_VALUE = r"[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?"
_NAMED = re.compile(r"([A-Za-z][A-Za-z_.]*)\s*[=:]\s*([^,/;\s]+)")
_RUN_ON = re.compile(
    r"(?<![A-Za-z0-9.])([A-Za-z]+(?:_[A-Za-z]+)*)_?(\d+(?:\.\d+)?(?:e-?\d+)?)(?![A-Za-z0-9.])", re.IGNORECASE
)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
LONGEST_NAME = 500
"""Characters of a run's name that are looked at."""
LONGEST_PATTERN = 300


def with_named_settings(
    rows: Sequence[Placed], wanted: Sequence[str], pattern: str | None, path: str
) -> tuple[Sequence[Placed], list[str]]:
    """The rows with a column for each setting that the names of runs have in them, and what a person should know.

    Without a pattern those are taken that all names have, that are settings by their own name or are `wanted`, and for
    which there is no column. Raises: TableError if a pattern fits no name or names a column that there is, or what is
    wanted stands in some names only.
    """
    columns = list(dict.fromkeys(column for _, values in rows for column in values))
    have = {root_of(column.rpartition(".")[2]) for column in columns}
    labels = [column for column in columns if kind_by_name(column) == "label"]
    texts = {column: [str(values.get(column) or "")[:LONGEST_NAME] for _, values in rows] for column in labels}
    if pattern is not None:  # a person may mean any column of text
        more = [one for one in columns if one not in texts and any(isinstance(v.get(one), str) for _, v in rows)]
        texts |= {one: [str(v.get(one) or "")[:LONGEST_NAME] for _, v in rows] for one in more}
        return _by_pattern(rows, texts, have, pattern, path)
    asked = {root_of(name): name for name in wanted if root_of(name) not in have}
    notes: list[str] = []
    for column, names in texts.items():
        named = [{key: value_of(match[2]) for key, match in _seen_in(name)} for name in names]
        common = [key for key in named[0] if all(key in one for one in named[1:]) and root_of(key) not in have]
        new = [key for key in common if kind_by_name(key) in ("setting", "seed") or root_of(key) in asked]
        if new:
            have |= {root_of(key) for key in new}
            notes.append(f"{', '.join(new)}: read from the names of the runs ({column})")
            if "seed" not in have and all(isinstance(one.get("s"), int) for one in named):
                proposal = pattern_of(names[0], [*new, "s"]).replace("{s}", "{seed}")
                such = f"names such as {names[0]:.60} may have a seed in them"
                notes.append(f'{such}: --name-pattern "{proposal}" reads it')
            read = [{key: one[key] for key in new} for one in named]
            rows = [(place, values | more) for (place, values), more in zip(rows, read, strict=True)]
        for key in dict.fromkeys(key for one in named for key in one):
            count = sum(key in one for one in named)
            if root_of(key) in asked and root_of(key) not in have and 1 < count < len(named):
                example = next(name for name, one in zip(names, named, strict=True) if key in one)
                raise TableError(
                    f'{path} "{asked[root_of(key)]}": no such column, and {count} of {len(named)} names of runs have '
                    f'it in them ({example:.60}); read it there with --name-pattern "{pattern_of(example, [key])}"'
                )
    return rows, notes


_STEP = re.compile(
    r"(?<![A-Za-z])(?:ckpt|checkpoint|step|iter|iteration|update)s?[-_= ]?(\d{1,9})(?!\d)", re.IGNORECASE
)


def with_steps_in_names(rows: Sequence[Placed]) -> tuple[Sequence[Placed], list[str]]:
    """The rows with a column `step`, where nothing counts steps but a name that each has, such as ckpt-100.pt, and
    every number stands in as many: of each of several runs the same checkpoints. And what a person should know."""
    columns = list(dict.fromkeys(column for _, values in rows for column in values))
    if any(kind_by_name(one) == "length" and any(is_number(values.get(one)) for _, values in rows) for one in columns):
        return rows, []
    for column in columns:
        found = [_STEP.search(str(values.get(column))[:LONGEST_NAME]) for _, values in rows]
        steps = [int(one[1]) for one in found if one is not None]
        often = {*Counter(steps).values()}
        if len(steps) == len(rows) > len({*steps}) > 1 and len(often) == 1 and "best" not in column.casefold():
            said = f"step: read from {column}, e.g. {rows[0][1][column]!s:.60}"
            return [(place, {**values, "step": at}) for (place, values), at in zip(rows, steps, strict=True)], [said]
    return rows, []


def named_by(pattern: str | None) -> tuple[str, ...]:
    """The settings that a pattern reads."""
    return tuple(key.strip() for key in _PLACEHOLDER.findall(pattern or "") if key.strip())


def _by_pattern(
    rows: Sequence[Placed], texts: dict[str, list[str]], have: set[str], pattern: str, path: str
) -> tuple[Sequence[Placed], list[str]]:
    place = f'{path} --name-pattern "{pattern[:80]}"'
    expression, keys = _compiled(pattern, place)
    twice = next((key for key in keys if key and root_of(key) in have), None)
    if twice is not None:
        raise TableError(f"{place}: {twice} is a column of the table; a setting has one place; write {{}} for it")
    matched = {column: [expression.search(name) for name in names] for column, names in texts.items()}
    column = max(matched, key=lambda one: sum(map(bool, matched[one])), default=None)
    if column is None or not any(matched[column]):
        some = f" such as {texts[column][0]!r:.80}" if column is not None else ""
        raise TableError(f"{place}: no run has such a name{some}; it stands in no column of text; mend")
    found = matched[column]
    made: list[Placed] = []
    for (where, values), one in zip(rows, found, strict=True):
        read = zip(keys, one.groups(), strict=True) if one is not None else ()
        made.append((where, values | {key: value_of(value) for key, value in read if key}))
    left = [name for name, one in zip(texts[column], found, strict=True) if one is None]
    notes = [f"{', '.join(filter(None, keys))}: read from the names of the runs ({column})"]
    if left:
        fit = f"{len(left)} of {len(found)} names do not fit it, e.g. {left[0]!r:.60}"
        notes.append(f"{fit}: these have no such setting")
    return made, notes


@lru_cache(maxsize=100)
def _compiled(pattern: str, place: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """A value is a number where one stands, else what stands before the text that follows or, at the end, a break."""
    texts = _PLACEHOLDER.split(pattern)
    keys = tuple(key.strip() for key in texts[1::2])
    rule = 'a pattern is text with {NAME} where a value stands; write e.g. "lr{lr}_wd{weight_decay}"'
    if len(pattern) > LONGEST_PATTERN or not any(keys) or any("{" in one or "}" in one for one in texts[::2]):
        raise TableError(f"{place}: {rule}")
    if len({key for key in keys if key}) < sum(map(bool, keys)) or not all(texts[2:-1:2]):
        raise TableError(f"{place}: each name stands once, with text between any two; {rule}")
    between, expression = texts[::2], ""
    for number, text in enumerate(between):
        after = re.escape(text)
        if number and text:
            # up to the first place where the text goes on; nothing is taken back, so no name takes long
            expression += rf"((?>{_VALUE}(?={after})|(?:(?!{after})[^/,;])++))"
        elif number:
            expression += rf"({_VALUE}(?![A-Za-z0-9])|[^\s,;/_-]++)"
        expression += (r"(?<![A-Za-z])" if not number and text[:1].isalpha() else "") + after
    return re.compile(expression), keys


def pattern_of(name: str, keys: Sequence[str]) -> str:
    """The pattern by which these settings are read from such a name; what stands between them is not read."""
    made, at = "", None
    for key, match in _seen_in(name):
        if key in keys:
            begin, end = match.span(2)
            at = begin - len(re.split(r"[^A-Za-z=:_]", name[:begin])[-1]) if at is None else at
            made += re.sub(rf"(?<=\D){_VALUE}(?=\D)", "{}", name[at:begin]) + "{" + key + "}"
            at = end
    return made


def _seen_in(name: str) -> list[tuple[str, re.Match[str]]]:
    """The name of each setting in "lr=0.01,bs=32", "lr0.01-bs32" or "lr_3e-4_wd_0.1", and where it stands; its value is
    the second group."""
    named = [(match[1], match) for match in _NAMED.finditer(name)]
    return named or [(_setting_at_end(match[1]), match) for match in _RUN_ON.finditer(name)]


def _setting_at_end(key: str) -> str:
    """ "sweep_lr" is lr, "weight_decay" itself."""
    words = [word for word in key.split("_") if word]
    return "_".join(words) if all(word.casefold() in SETTING for word in words) else words[-1]


# --- Rows that are no runs ---

MEANS = frozenset(("mean", "average", "avg", "\u03bc", "mean of seeds"))
SPREADS = frozenset(
    ("std", "sd", "stdev", "std dev", "stddev", "sem", "stderr", "variance", "range", "min", "max", "median", "\u03c3")
)
"""What a row of a summary is called; those of the second kind only below one of the first, or under seeds."""
LEAST_SUMMED = 2
WITHIN = 0.1
"""Of the range of what is summed up: how far from the mean a row called so may be."""


def without_summaries(rows: Sequence[Placed]) -> tuple[Sequence[Placed], list[str]]:
    """The rows that are runs, and what a person should know of the others."""
    said: list[str] = []
    known = [one for one in rows if any(value is not None for value in one[1].values())]
    if known and len(known) < len(rows):
        said.append(f"{len(rows) - len(known)} of {len(rows)} rows say nothing, and are no runs")
        rows = known
    once: dict[str, Placed] = {}
    for place, values in rows:
        once.setdefault(repr(values) if _is_unique(values) else place, (place, values))
    if len(once) < len(rows):
        said.append(f"{len(rows) - len(once)} of {len(rows)} rows stand twice, to the last digit, and count once")
        rows = [*once.values()]
    for column in dict.fromkeys(name for _, values in rows[:1] for name in values):
        named = [summary_in(values.get(column)) for _, values in rows]
        runs = [one for one, name in zip(rows, named, strict=True) if name is None]
        if any(named) and len(runs) >= LEAST_SUMMED and _are_summaries(column, rows, named, runs):
            words = ", ".join(
                dict.fromkeys(f"{values[column]}" for (_, values), name in zip(rows, named, strict=True) if name)
            )
            said.append(f"rows called {words:.80} ({column}) sum up the others, and are no runs")
            return runs, said
    return rows, said


_SUMS_UP = re.compile(r"(?<![a-z])(means?|averages?|avg|medians?|std|sd|overall|all seeds)(?![a-z])", re.IGNORECASE)


def without_unseeded(
    rows: Sequence[Row], seeds: Sequence[str], told: Sequence[str], metric: str, notes: list[str]
) -> list[Row]:
    """Of rows that each have a seed, those; a row without one is none of them where it is called a mean, where its
    metric is the mean of those that agree with it in the columns `told`, or where none agrees, beside several arms
    that have seeds. Another is left, for it may be a run whose seed was forgotten."""
    seeded: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if all(row.values.get(name) is not None for name in seeds):
            seeded.setdefault(tuple(str(row.values.get(name)) for name in told), []).append(row)
    left: list[Row] = []
    for row in rows if len(seeded) > 1 and seeds and told else ():
        if all(row.values.get(name) is None for name in seeds) and is_finite(value := row.values.get(metric)):
            texts = [one for one in row.values.values() if isinstance(one, str)]
            others = seeded.get(tuple(str(row.values.get(name)) for name in told), [])
            known = [one for other in others if is_finite(one := other.values.get(metric))]
            is_mean = len(known) > 1 and abs(value - fmean(known)) <= WITHIN * (max(known) - min(known))
            if any(map(_SUMS_UP.search, texts)) or is_mean or not others:
                left.append(row)
    if left:
        what = ", ".join(" ".join(f"{row.values.get(name)}" for name in told) for row in left)
        notes.append(f"rows without a seed beside runs that have one are no runs of a comparison: {what:.80}; left out")
    return [row for row in rows if row not in left]


def _is_unique(values: Mapping[str, Any]) -> bool:
    """Whether a row says so much that another run would not have said the same: a text, and a number of many digits."""
    results = [one for name, one in values.items() if kind_by_name(name) == "result" and is_finite(one)]
    digits = [significant_digits(repr(one)) for one in results]
    return max(digits, default=0) >= LEAST_DIGITS and any(isinstance(one, str) for one in values.values())


def summary_in(cell: Any) -> str | None:
    """What a cell says a row is, "mean" of "Mean (3 seeds)" or "mean \u00b1 std"; None where it names a run."""
    if not isinstance(cell, str) or len(cell) > 40:
        return None
    words = (
        cell.casefold().replace("*", " ").replace("\u00b1", "(").replace("+/-", "(").replace("/", "(").partition("(")[0]
    )
    word = " ".join(words.replace(".", " ").split())
    return word if word in MEANS | SPREADS else None


def _are_summaries(column: str, rows: Sequence[Placed], named: Sequence[str | None], runs: Sequence[Placed]) -> bool:
    """Under seeds and numbers anything so called is one; among names the row called mean has to be the mean."""
    if kind_by_name(column) == "seed" or all(is_finite(values.get(column)) for _, values in runs):
        return True
    means = [values for (_, values), name in zip(rows, named, strict=True) if name in MEANS]
    for mean in means[:1]:
        for name, value in mean.items():
            others = [values.get(name) for _, values in runs]
            numbers = [one for one in others if is_finite(one)]
            if is_finite(value) and len(numbers) == len(others) and max(numbers) > min(numbers):
                return abs(value - fmean(numbers)) <= WITHIN * (max(numbers) - min(numbers))
    return False
