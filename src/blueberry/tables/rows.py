"""What a table of runs is once it is read, whatever file it came from: rows, as frozen records; values of cells; and
objects, each with the values of a run."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from statistics import fmean
from typing import Any, TypeGuard

from blueberry.errors import TableError
from blueberry.records import Goal, is_number
from blueberry.tables.columns import SECONDS_IN, is_name, kind_by_name

KEPT, DISCARDED = frozenset(("keep", "kept")), frozenset(("discard", "discarded"))
"""What the status of a loop's table says of its changes; each is a commit, whatever else its row says of it."""
Placed = tuple[str, dict[str, Any]]
"""A run as its reader found it: where it stands, e.g. "line 4", and its values by column."""
STEPS = "steps of the run"
"""Beside the values of a run, where its file has what was logged on the way: a list of values, in order. The only list
there; a table's rows have it as `Row.steps`."""


@dataclass(frozen=True)
class Found:
    """The runs that a reader found, and what it knows of them all."""

    rows: tuple[Placed, ...]
    notes: tuple[str, ...] = ()
    """Lines that a person should read."""
    objectives: Mapping[str, Goal | None] = field(default_factory=dict)
    """Columns that a search went by, and which way, None where its file does not say."""
    are_runs: bool = False
    """Whether each row is a run of its own, by the tool that wrote it, and none a step of another."""


@dataclass(frozen=True)
class Row:
    """One run."""

    place: str
    """Where it stands, e.g. "runs.csv line 4"."""
    values: Mapping[str, Any]
    """Number, text, true/false or None by column; the columns of `blueberry.tables.columns` under their own names."""
    steps: tuple[Mapping[str, Any], ...] = ()
    """Of a run whose table has a row for each step where it was measured, or whose tool logged them, the values of all,
    in order."""


@dataclass(frozen=True)
class Table:
    """The runs of one file or folder, in its order."""

    path: str
    name: str
    """A short name: the file's stem."""
    rows: tuple[Row, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Column as the file names it -> what it was understood to be; those that keep their name are not in it."""
    notes: tuple[str, ...] = ()
    """Lines that a person should read: what was left out and why."""
    objectives: Mapping[str, Goal | None] = field(default_factory=dict)
    """Columns that a search went by, and which way, None where its file does not say."""
    are_runs: bool = False
    """Whether each row is a run of its own, by the tool that wrote it, and none a step of another."""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Of all rows, each once, in the order in which they appear."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.values))

    def by_column(self, rows: Sequence[Row] | None = None) -> dict[str, list[Any]]:
        """The values of each column, one for each of these rows, or of all."""
        return {name: [row.values.get(name) for row in (self.rows if rows is None else rows)] for name in self.columns}

    @cached_property
    def is_of_a_loop(self) -> bool:
        """Whether it is the table of a loop that keeps and discards changes, by its status; or by another column that
        says both of some, or is called "kept" and says yes or no."""
        for name in self.columns:
            said = {str(row.values.get(name)).partition(" ")[0].casefold() for row in self.rows}
            both = said & KEPT and said & DISCARDED
            if both or (name == "status" and said & (KEPT | DISCARDED)):
                return True
            if name.casefold() in KEPT and said <= {"true", "false", "none"}:
                return True
        return False


# --- Cells ---

_MISSING = ("", "-", "--", "\N{EN DASH}", "\N{EM DASH}", "na", "n/a", "null", "none", "?", "missing", "...",
            "\N{HORIZONTAL ELLIPSIS}", "<na>")  # fmt: skip
_WORDS = {
    **dict.fromkeys(_MISSING), **dict.fromkeys(("inf", "+inf", "infinity", "\N{INFINITY}"), math.inf),
    "-inf": -math.inf, "nan": math.nan, "true": True, "false": False,
}  # fmt: skip
"""What a cell may say that is no number by its digits."""
_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_POINTS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_ABOUT = re.compile(r"^[~\u2248]\s*(?=[+-]?[\d.])")
_SYMBOLS = re.compile(
    r"^[\u2600-\u27bf\ufe0f\U0001f300-\U0001faff]+\s*|\s*[\u2600-\u27bf\ufe0f\U0001f300-\U0001faff]+$"
)
"""Pictures before or after what a cell says."""
_REMARKED = re.compile(r"([+-]?[\d.,]+(?:[eE][+-]?\d+)?%?)\s+\(([^()\d\u00b1]+)\)")
"""A number with words beside it: "0.04 (default)"; "0.04 (0.01)" is no such."""
_CLOCK = re.compile(r"(?:(\d+) days?,? )?(\d+):(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
_TWO_PARTS = re.compile(r"(\d+):([0-5]\d(?:\.\d+)?)")
_DURATION = re.compile(rf"(\d+(?:\.\d+)?) ?({'|'.join(sorted(SECONDS_IN, key=len, reverse=True))})(?![a-z])")
_LARGEST_DIGITS = 18
"""Of a whole number that is read as one; a longer one is a name."""
LEAST_DIGITS = 5
"""Significant digits of a number that was measured rather than chosen, where there are several such."""
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")


def value_of(text: str, *, decimal_comma: bool = False) -> Any:
    """A number where the cell is one, true/false, None where it says nothing, else its text.

    "12%" is 0.12; "1,234" is 1234, and 1.234 with `decimal_comma`; "~8,300" is 8300, "0.04 (default)" 0.04; "nan" and
    "inf" are what they say.
    """
    text = _SYMBOLS.sub("", text.strip()) or text
    text = _ABOUT.sub("", text.strip().replace("\N{MINUS SIGN}", "-"), count=1)
    if (remarked := _REMARKED.fullmatch(text)) is not None:
        number = value_of(remarked[1], decimal_comma=decimal_comma)
        return number if is_number(number) else text
    if text.casefold() in _WORDS:
        return _WORDS[text.casefold()]
    if decimal_comma and (_DECIMAL_COMMA.fullmatch(text) or _POINTS.fullmatch(text)):
        text = text.replace(".", "").replace(",", ".")
    elif _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= _LARGEST_DIGITS and not _has_leading_zero(text) else text
    if _NUMBER.fullmatch(text):
        number = float(text)  # a hash such as 16e73105 is no number of any run
        return number if math.isfinite(number) else text
    if text.endswith("%") and _NUMBER.fullmatch(text[:-1].rstrip()):
        return float(Decimal(text[:-1].rstrip()).scaleb(-2))  # 84.2% is 0.842, and not 0.8420000000000001
    return text


def bare(cell: str) -> str:
    """A cell without marks of emphasis and code, a link as its text."""
    stripped = _LINK.sub(r"\1", cell.strip())
    for mark in ("**", "__", "*", "`"):
        if len(stripped) > 2 * len(mark) and stripped.startswith(mark) and stripped.endswith(mark):
            stripped = stripped[len(mark) : -len(mark)].strip()
    return stripped


def named_in(text: str) -> str | None:
    """What stands in a cell of names, whatever number it may look like; None where it says nothing."""
    return None if text.strip().casefold() in _MISSING else text.strip()


def duration_of(value: Any, first_of_two: float | None = None) -> Any:
    """Seconds of "85,415ms", "80.4 s", "1h 2m", "1:02:03" or "0 days 01:02:03.5"; else as it is.

    `first_of_two`: the seconds that the first number of "4:07" counts, 60 or 3600, where something says so.
    """
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", value.strip().casefold()) if isinstance(value, str) else ""
    if (clock := _CLOCK.fullmatch(text)) is not None:
        days, hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return 86400 * days + 3600 * hours + 60 * minutes + seconds
    if first_of_two is not None and (two := _TWO_PARTS.fullmatch(text)) is not None:
        return first_of_two * float(two[1]) + first_of_two / 60 * float(two[2])
    parts = _DURATION.findall(text)
    if parts and not _DURATION.sub("", text).strip(" ,"):
        return sum(float(number) * SECONDS_IN[unit] for number, unit in parts)
    return value


def first_of_two_parts(unit: str, cells: Iterable[Any]) -> float | None:
    """What the first number of "4:07" counts in seconds: as the column's unit says ("mm:ss", "hh:mm"), or minutes where
    another of its cells has hours too; None where it may be hours or minutes."""
    parts = unit.split(":")
    if len(parts) > 1:
        return 60.0 if len(parts) == 3 or parts[0].startswith("m") else 3600.0 if parts[0].startswith("h") else None
    return 60.0 if any(isinstance(cell, str) and _CLOCK.fullmatch(cell.strip().casefold()) for cell in cells) else None


def uses_decimal_comma(cells: list[str]) -> bool:
    """Whether a file whose columns are not parted by commas writes 0,065 for 0.065: some do, and none has a point but
    those of thousands, 1.000, where some comma can be none of thousands."""
    numbers = [cell.strip() for cell in cells]
    commas = [cell for cell in numbers if _DECIMAL_COMMA.fullmatch(cell)]
    points = [cell for cell in numbers if "." in cell and _NUMBER.fullmatch(cell)]
    of_thousands = all(_POINTS.fullmatch(cell) and not _has_leading_zero(cell) for cell in points)
    return bool(commas) and (
        not points or (of_thousands and any(not _THOUSANDS.fullmatch(cell) or cell.startswith("0") for cell in commas))
    )


def _has_leading_zero(text: str) -> bool:
    digits = text.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0"


def significant_digits(number: str) -> int:
    """Of a number as it is written, without zeros at either end: "0.00120" has two."""
    return len(number.partition("e")[0].strip("-0.").replace(".", ""))


def decimals(number: float) -> int:
    """As many as the shortest text of the number has."""
    exponent = Decimal(repr(number)).normalize().as_tuple().exponent
    return max(-int(exponent), 0)


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether it is a number that can be counted with; true and false are none."""
    return is_number(value) and math.isfinite(value)


# --- Objects as runs ---

MOST_BITS = 64
"""Of a whole number of an object that is read as one."""
LAST_OF = {"train_losses": "last of train_losses", "training_losses": "last of train_losses"}
"""Curves whose last number is worth a column."""


def loads(text: str | bytes, place: str, **how: Any) -> Any:
    """What JSON says, in which no key of an object has two values. Raises: TableError for one that has, else ValueError
    or RecursionError for what is no JSON."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        for key, value in pairs if len(made) < len(pairs) else ():
            if repr(value) != repr(made[key]):
                what = f'"{key:.60}" has two values in one object, {value!r:.40} and {made[key]!r:.40}'
                raise TableError(f"{place}: {what}; a key has one; mend it")
        return made

    return json.loads(text, object_pairs_hook=once, **how)


def flat(run: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """An object's plain values by dotted name. Lists are left out, but for the last of the training losses."""
    values: dict[str, Any] = {}
    for name, value in run.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, Mapping):
            values.update(flat(value, f"{dotted}."))
        elif isinstance(value, (list, tuple)):
            if dotted in LAST_OF and value and isinstance(value[-1], (int, float)):
                values[LAST_OF[dotted]] = value[-1]
        elif isinstance(value, str) and is_name(name):
            values[dotted] = named_in(value)
        else:
            values[dotted] = plain(value)
    return values


def last_of(steps: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each column the last value, whichever step it was logged at."""
    last: dict[str, Any] = {}
    for step in steps:
        last |= step
    return last


def plain(value: Any) -> Any:
    """A number, text, true/false or None. Numbers in quotes are numbers; other libraries' numbers are Python's."""
    if isinstance(value, str):
        read = value_of(value)
        return read if is_number(read) else value.strip() or None
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > MOST_BITS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return float(value)  # numpy's is one too, but is written otherwise
    if value is None or isinstance(value, (bool, int)):
        return value
    return plain(value.item()) if hasattr(value, "item") else str(value)


def of_each_seed(run: Mapping[str, Any]) -> list[Placed]:
    """An object's values; or, where it has its seeds inside, those of each: `"seeds": [0, 1]` with lists as long beside
    it, or `"seed_results": {"0": {...}, "1": {...}}`;
    or the run of a Trainer's state. What it says of all of them, a mean, is no run's result."""
    if isinstance(run.get("log_history"), list):
        return [("", trainer_state(run))]
    by_seed = next((key for key, value in run.items() if "seed" in key.casefold() and _is_by_seed(value)), None)
    seeds = next((key for key, value in run.items() if key.casefold() in _SEEDS and _is_list(value)), None)
    lists = [key for key, value in run.items() if seeds and key != seeds and _is_list(value, len(run[seeds]))]
    given = {name: value for name, value in flat(run).items() if kind_by_name(name) != "result"}
    given = {name: value for name, value in given.items() if not name.startswith((f"{by_seed}.", "seeds", "num_seeds"))}
    if by_seed is not None:
        return [(f"seed {seed}", {**given, "seed": int(seed), **flat(one)}) for seed, one in run[by_seed].items()]
    if seeds is None or not lists:
        return [("", flat(run))]
    means = {name: value for name, value in flat(run).items() if name not in given and is_finite(value)}
    of = {key: next((n for n, mean in means.items() if _is_mean(mean, run[key])), _singular(key)) for key in lists}
    return [
        (f"seed {seed}", {**given, "seed": seed, **{of[key]: plain(run[key][place]) for key in lists}})
        for place, seed in enumerate(run[seeds])
    ]


_SEEDS = ("seeds", "seed", "random_seeds")
_ROUNDED = 1e-4
"""Relative: what a mean was rounded by."""
_PLURALS = {"losses": "loss", "accuracies": "accuracy", "perplexities": "perplexity"}


def _is_by_seed(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 1
        and all(str(key).isdecimal() and isinstance(one, Mapping) for key, one in value.items())
    )


def _is_list(value: Any, length: int = 0) -> bool:
    """Of so many plain numbers; of two or more where nobody says how many."""
    return isinstance(value, (list, tuple)) and 2 <= len(value) == (length or len(value)) and all(map(is_number, value))


def _is_mean(value: float, of: Sequence[float]) -> bool:
    """So that a list called seed_scores is known for the metric of which the mean stands beside it."""
    return abs(value - fmean(of)) <= _ROUNDED * abs(value) and (max(of) > min(of))


def _singular(name: str) -> str:
    head, _, last = name.rpartition("_")
    last = _PLURALS.get(last, last.removesuffix("s") if last in ("scores", "ppls", "bpbs") else last)
    return f"{head}_{last}" if head else last


def trainer_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The run of a `trainer_state.json`: the last of all that was logged, but for what its schedule was at."""
    entries = [entry for entry in state.get("log_history") or () if isinstance(entry, Mapping)]
    own_rates = ("learning_rate", "grad_norm")
    steps = [flat({name: value for name, value in entry.items() if name not in own_rates}) for entry in entries]
    own = {name: value for name, value in state.items() if name != "log_history"}
    params = own.pop("trial_params", None)
    values = {**flat(own), **last_of(steps), **flat(params if isinstance(params, Mapping) else {})}
    return values | ({STEPS: steps} if steps else {})
