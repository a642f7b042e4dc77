"""A printed number is an interval: its value, give or take half a unit of its last digit; and what its label names."""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

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
