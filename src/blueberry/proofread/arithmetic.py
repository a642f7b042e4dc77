"""A printed number is an interval: its value, give or take half a unit of its last digit. What its label names; and one
check for every number that is made of others: can it be printed so, given what rounding hid of its parts?

An operation on intervals gives an interval; a statement is contradicted where that does not meet the interval of what
is stated, which was rounded or cut off.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from statistics import fmean, median, pstdev, stdev

from blueberry.judge.judgement import Audit, block

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,18})(?:\.\d{1,18})?|\.\d{1,18}"
NUMBER = (
    r"(?<![\w.])(?<!\w-)(?<!\d,)(?<!\d—)(?<!\d [-—] )"
    rf"[-+]?(?:{_DIGITS})(?:[eE][-+]?\d{{1,2}})?"
    r"(?:[kKMBT](?![A-Za-z0-9]))?(?![A-Za-z_]{0,9}\d|[.,]\d|[-—]\d| [-—] \d)"
)
"""One number: no part of a word, a hash, a version, a date or a range such as 0.001-0.002."""
SIGNED = re.compile(rf"(?P<mark>[<>≤≥~≈]?)\s?(?P<number>{NUMBER})(?:\s?(?P<percent>%))?")
_CELL = re.compile(
    rf"(?P<first>[<>≤≥~≈]?\s?{NUMBER}\s?%?)(?:\s?(?:±|\+/-|\+-)\s?[\d.]+\s?%?)?"
    r"(?:\s?(?P<unit>[A-Za-z][A-Za-z/]{0,11}))?"
    r"(?:\s?\([^()]{0,80}\))?[^\w]{0,8}"
)
_SCALES = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_SECONDS = {"h": 3600.0, "hr": 3600.0, "hour": 3600.0, "m": 60.0, "min": 60.0, "minute": 60.0, "s": 1.0, "sec": 1.0,
            "second": 1.0}  # fmt: skip
SEED_COLUMN = re.compile(r"(?:seed|run|repeat|trial) ?#?\d+", re.IGNORECASE)
"""The head of a column of one seed's numbers."""
TOTAL_OF_TIMES = (0.9, 20.0)
"""A total time over the sum of the times listed: a campaign also loads and evaluates; a wrong unit is 60 times off."""
DECADES = 0.3
"""How far a range may fall short of the orders of magnitude that it is said to span."""
SLACK = 1e-9
"""Relative, for arithmetic in floats."""
ABOUT = 0.1
"""Relative slack of a number that is printed with ~."""


@dataclass(frozen=True)
class Number:
    """A printed number. Percentages are shares: 12% is 0.12."""

    value: float
    half: float
    """Half a unit of the last digit printed: the value that was rounded lies within this."""
    text: str
    """As printed, with its percent sign."""
    is_percent: bool = False
    is_bound: bool = False
    """Printed with < or >, so that it is no value."""
    is_signed: bool = False
    start: int = 0
    end: int = 0

    @property
    def low(self) -> float:
        return self.value - self.half

    @property
    def high(self) -> float:
        return self.value + self.half

    def agrees(self, value: float, slack: float = 0.0) -> bool:
        """Whether a value could have been printed like this."""
        return abs(self.value - value) <= (self.half + slack) * (1 + 1e-9) + 1e-12

    def scaled(self, by: float) -> "Number":
        return self if by == 1 else replace(self, value=self.value * by, half=self.half * by)


def numbers(text: str) -> list[Number]:
    """Every number of a plain text, in order."""
    return [_number(found) for found in SIGNED.finditer(text)]


def number(text: str) -> Number | None:
    """The first number of a text."""
    found = SIGNED.search(text)
    return _number(found) if found else None


def _number(found: re.Match[str]) -> Number:
    printed = found["number"].replace(",", "")
    scale = _SCALES.get(printed[-1], 1.0) * (0.01 if found["percent"] else 1.0)
    mantissa, _, power = printed.rstrip("kKMBT").lower().partition("e")
    value = float(f"{mantissa}e{power or 0}") * scale
    half = 0.5 * 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2])) * scale
    return Number(
        value=value,
        half=half + (ABOUT * abs(value) if found["mark"] in ("~", "≈") and found["mark"] else 0.0),
        text=found["number"] + (found["percent"] or ""),
        is_percent=bool(found["percent"]),
        is_bound=found["mark"] in ("<", ">", "≤", "≥") and bool(found["mark"]),
        is_signed=printed[0] in "+-",
        start=found.start(),
        end=found.end(),
    )


def cell(text: str, kind: str | None, label: str = "") -> Number | None:
    """The number that a cell or the right side of a label holds, in its quantity's unit: accuracies are shares, times
    are seconds. None where there is more than one number with its spread, unit and remark, or a bound."""
    found = _CELL.fullmatch(text.strip())
    read = number(found["first"]) if found else None
    return None if found is None or read is None or read.is_bound else in_unit(read, kind, found["unit"] or "", label)


def in_unit(read: Number, kind: str | None, unit: str = "", label: str = "") -> Number:
    if kind is not None and kind.endswith("accuracy") and not read.is_percent:
        return read.scaled(0.01 if "%" in label or read.value > 1 else 1.0)
    if kind == "train_seconds":
        named = [word.removesuffix("s") or "s" for word in re.findall(r"[a-z]+", f"{unit} {label}".lower())]
        return read.scaled(next((_SECONDS[word] for word in named if word in _SECONDS), 1.0))
    return read


_SETS = {"val": "val", "validation": "val", "valid": "val", "eval": "val", "train": "train", "training": "train",
         "test": "test", "heldout": "test"}  # fmt: skip
_MEASURES = (
    ("perplexity", {"perplexity", "ppl", "perplexities"}),
    ("accuracy", {"accuracy", "acc"}),
    ("bits_per_byte", {"bpb"}),
    ("loss", {"loss", "losses", "nll"}),
)
_BESIDE = frozenset(
    ("final", "end", "cross", "entropy", "ce", "mean", "average", "avg", "median", "best", "lowest", "highest", "peak",
     "min", "max", "minimum", "maximum", "nats", "per", "token", "tokens", "byte", "in", "is", "better", "lower",
     "higher", "top", "the", "our", "set", "level", "last")
)  # fmt: skip
_OTHERS = (
    ("train_seconds", {"time", "duration", "seconds", "minutes", "hours", "wall", "walltime"},
     {"clock", "training", "train", "total", "s", "sec", "min", "mins", "h", "hr", "hrs", "in", "run"}),
    ("updates", {"updates", "steps", "iterations", "iters"}, {"training", "train", "num", "total", "optimizer"}),
    ("step", {"step", "iteration", "iter", "epoch", "update"}, set()),
    ("tokens", {"tokens"}, {"training", "train", "total", "num", "seen", "used"}),
    ("seed", {"seed"}, {"random", "run", "rng"}),
    ("seeds", {"seeds", "runs", "n", "repeats", "replicates", "trials"}, {"num", "number", "of", "random", "total"}),
    ("rate", {"lr", "learning"}, {"rate", "peak", "max", "base", "muon", "adam", "adamw"}),
    ("size", {"size", "params", "parameters", "param", "depth", "width", "layers", "dim", "flops", "compute"},
     {"model", "total", "num", "non", "embedding", "active", "hidden", "of", "training", "embd", "n",
      "m", "b", "count"}),
    ("record", {"record", "rank", "date", "pr", "contributor", "contributors", "commit", "author",
                "checkpoint", "version", "released"}, {"link", "log", "time"}),
)  # fmt: skip


@lru_cache(maxsize=20_000)
def quantity(label: str) -> str | None:
    """What a label names: val_loss, test_accuracy, train_perplexity ..., train_seconds, updates, tokens, seed, seeds,
    rate, size, step, record or change. None for anything else: every word of the label must be known."""
    plain = label.lower().replace("held-out", "heldout").replace("bits per byte", "bpb").replace("bits/byte", "bpb")
    words = re.findall(r"[a-z]+|\d+|δ", re.sub(r"[_\-/]", " ", plain))
    have = set(words)
    if have & {"improvement", "change", "delta", "δ", "gain", "reduction", "difference", "diff", "improved", "vs"}:
        return "change"
    if not have or any(any(mark.isdigit() for mark in word) for word in words):
        return None
    measured = next((name for name, named in _MEASURES if have & named), None)
    if measured is not None:
        sets = {_SETS[word] for word in words if word in _SETS}
        known = _SETS.keys() | _BESIDE | set().union(*(named for _, named in _MEASURES))
        return f"{next(iter(sets), 'val')}_{measured}" if len(sets) < 2 and have <= known else None
    return next((name for name, named, beside in _OTHERS if have & named and have <= named | beside), None)


def is_measured(kind: str | None) -> bool:
    return kind is not None and kind.partition("_")[0] in ("val", "train", "test") and kind != "train_seconds"


def words_of(kind: str) -> str:
    """A quantity as a reader says it, e.g. "validation loss"."""
    which, _, name = kind.partition("_")
    return (
        f"{ {'val': 'validation', 'train': 'training'}.get(which, which) } {name.replace('_', ' ')}" if name else kind
    )


@dataclass(frozen=True)
class Operation:
    """A way to make a number of several."""

    of: Callable[[Sequence[float]], float]
    says: str = "is {value:.5g}"
    """What is right, in words."""
    of_two: bool = False
    """It may grow or shrink with either end, and its sign is left out; others grow with every input."""


def _relative(ends: Sequence[float]) -> float:
    return ends[1] / ends[0] - 1 if ends[0] else math.inf


def _factor(ends: Sequence[float]) -> float:
    return max(ends) / min(ends) if min(ends) > 0 else math.inf


OPERATIONS: dict[str, Operation] = {
    "mean": Operation(fmean),
    "median": Operation(median),
    "sum": Operation(math.fsum, "add up to {value:,.6g}"),
    "time": Operation(math.fsum, "add up to {value:,.0f} s = {minutes:.1f} minutes"),
    "last": Operation(lambda values: values[-1]),
    "minimum": Operation(min),
    "maximum": Operation(max),
    "perplexity": Operation(lambda values: math.exp(min(values[0], 700.0))),
    "sd": Operation(stdev),
    "percent": Operation(_relative, "is {value:+.2%}", of_two=True),
    "difference": Operation(lambda ends: ends[1] - ends[0], of_two=True),
    "factor": Operation(_factor, "is a factor of {value:.3g}", of_two=True),
    "decades": Operation(lambda ends: abs(math.log10(ends[1] / ends[0])), "are {value:.2f} decades", of_two=True),
}


@dataclass(frozen=True)
class Way:
    """One way in which a number may have been made."""

    op: str
    inputs: tuple[Number, ...]

    @property
    def value(self) -> float:
        return OPERATIONS[self.op].of([one.value for one in self.inputs])

    def interval(self) -> tuple[float, float]:
        """Every value that rounding leaves open; of two ends, every size."""
        operation = OPERATIONS[self.op]
        corners = [(one.low, one.high) for one in self.inputs]
        if self.op == "sd":  # of a sample or a population, a standard error, or half of a 95% interval of the mean
            values, slack = [one.value for one in self.inputs], 1.5 * max(one.half for one in self.inputs)
            return pstdev(values) - slack, stdev(values) + slack
        if operation.of_two:
            if min(low for low, _ in corners) <= 0 and self.op != "difference":
                return -math.inf, math.inf
            found = [operation.of(ends) for ends in product(*corners)]
            low = 0.0 if min(found) <= 0 <= max(found) else min(map(abs, found))
            high = max(map(abs, found))
            return (0.0, high + DECADES) if self.op == "decades" else (low, high)
        low, high = operation.of([low for low, _ in corners]), operation.of([high for _, high in corners])
        if self.op == "time":
            return TOTAL_OF_TIMES[0] * low, TOTAL_OF_TIMES[1] * high
        return (low * (1 - 1e-4), high * (1 + 1e-4)) if self.op == "perplexity" else (low, high)

    def allows(self, stated: Number) -> bool:
        """Whether the intervals meet."""
        low, high = self.interval()
        value = abs(stated.value) if OPERATIONS[self.op].of_two else stated.value
        least, most = value - stated.half, value + 2 * stated.half  # what was cut off is more than what is printed
        if self.op == "factor" and value < 1:  # 0.5x is twice as small
            least, most = 1 / max(most, 1e-9), 1 / max(least, 1e-9)
        slack = SLACK * max(abs(low), abs(high)) + 1e-12
        return low - slack <= most and least <= high + slack


@dataclass(frozen=True)
class Statement:
    """A number that is said to be made of others."""

    stated: Number
    ways: tuple[Way, ...]
    """How it may have been made; the first is named where none gives the number."""
    what: str
    line: int
    unit: str = ""
    """After the printed number."""
    remedy: str = "print the number that the others give"

    def contradiction(self, place: str) -> Audit | None:
        if not self.ways or any(way.allows(self.stated) for way in self.ways):
            return None
        op, value = self.ways[0].op, self.ways[0].value
        says = OPERATIONS[op].says
        if self.stated.is_percent and op != "percent":
            says = "is {value:.2%}"
        right = says.format(value=value, minutes=value / 60)
        message = f"{place}: {self.what} {right}, printed {self.stated.text}{self.unit}"
        return block("arithmetic", message, self.remedy)
