"""Numbers as they are printed: their value, what rounding hides, and which quantity a label means."""

import re
from dataclasses import dataclass

NUMBER = r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\d.]*\d)"
"""One number; not the end of a word or of a version."""
_NUMBER_AND_UNIT = re.compile(rf"(?P<bound>[<>~≈]?)\s*(?P<number>{NUMBER})\s*(?P<percent>%?)")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_TIME_UNITS = (
    ("hour", 3600.0), ("hr", 3600.0), ("minute", 60.0), ("min", 60.0), ("second", 1.0), ("sec", 1.0),
    ("millisecond", 1e-3), ("h", 3600.0), ("m", 60.0), ("s", 1.0),
)  # fmt: skip
SHARE = "%"


@dataclass(frozen=True)
class Number:
    """A printed number. Percentages are shares: 12% is 0.12."""

    value: float
    half: float
    """Half a unit of the last digit printed: the value that was rounded lies within this."""
    text: str
    """As printed, with its percent sign."""
    is_percent: bool = False
    is_about: bool = False
    """Printed with ~."""
    is_bound: bool = False
    """Printed with < or >, so that it is no value."""
    end: int = 0
    """Where it ends in the text it was read from."""

    def agrees(self, value: float, slack: float = 0.0) -> bool:
        """Whether a value could have been printed like this."""
        return abs(self.value - value) <= (self.half + slack) * (1 + 1e-9) + 1e-12


def mended(text: str) -> str:
    """UTF-8 that was once read as Mac Roman or Windows-1252 and saved again, as it was meant."""
    return _NOT_ASCII.sub(lambda found: _mended_run(found.group()), text).replace("\u2212", "-")


def _mended_run(run: str) -> str:
    for encoding in ("mac_roman", "cp1252"):
        try:
            return run.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return run


def plain(text: str) -> str:
    """Without Markdown's marks of emphasis and code."""
    return re.sub(r"\*\*|__|`|(?<!\w)\*|\*(?!\w)", "", text).strip()


def numbers(text: str) -> list[Number]:
    """Every number of a plain text, in order."""
    return [_number(found) for found in _NUMBER_AND_UNIT.finditer(text)]


def number(text: str) -> Number | None:
    """The first number of a text."""
    found = _NUMBER_AND_UNIT.search(text)
    return _number(found) if found else None


def _number(found: re.Match[str]) -> Number:
    printed = found["number"].replace(",", "")
    mantissa, _, power = printed.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    scale = 0.01 if found["percent"] else 1.0
    return Number(
        value=float(printed) * scale,
        half=0.5 * 10.0 ** (int(power or 0) - decimals) * scale,
        text=found["number"] + found["percent"],
        is_percent=bool(found["percent"]),
        is_about=found["bound"] in ("~", "≈") and bool(found["bound"]),
        is_bound=found["bound"] in ("<", ">") and bool(found["bound"]),
        end=found.end(),
    )


def quantity(label: str) -> str | None:
    """What a label names: val_loss, train_loss, test_loss (so for accuracy and perplexity), seconds, rate, updates,
    seeds, change; None for anything else."""
    words = re.sub(r"[_\-/]", " ", label.lower())
    if re.search(r"improve|change|gain\b|delta|δ|reduc|increase|difference|\bdiff\b|speedup|efficien", words):
        return "change"
    measured = next((name for name, look in _MEASURED if re.search(look, words)), None)
    if measured is not None:
        return f"{_which_set(words)}_{measured}"
    return next((name for name, look in _OTHER if re.search(look, words)), None)


_MEASURED = (
    ("perplexity", r"perplexit|\bppl\b"),
    ("accuracy", r"\bacc\b|accurac"),
    ("loss", r"\bloss(es)?\b"),
)
_OTHER = (
    ("seconds", r"\btime\b|duration|\bseconds\b|\bminutes\b|wall ?clock"),
    ("rate", r"\blr\b|learning rate|\brate\b"),
    ("seeds", r"\bseeds?\b|^n$|\bruns\b|repeats|replicates"),
    ("updates", r"\bupdates?\b|\bsteps?\b"),
)


def measured_in(text: str) -> str | None:
    """The first loss, accuracy or perplexity that a text speaks of."""
    words = re.sub(r"[_\-/]", " ", text.lower())
    places = [(found.start(), name) for name, look in _MEASURED if (found := re.search(look, words))]
    return f"{_which_set(words)}_{min(places)[1]}" if places else None


def _which_set(words: str) -> str:
    if re.search(r"\btrain(ing)?\b", words):
        return "train"
    return "test" if re.search(r"\btest\b|held out", words) else "val"


def seconds_in(text: str) -> float | None:
    """The length in seconds of the unit that a text names after a number or in brackets."""
    word = re.search(r"(?:\d|\()\s*(hours?|hrs?|minutes?|mins?|seconds?|secs?|h|m|s)\b", text.lower())
    if word is None:
        return None
    return next(length for unit, length in _TIME_UNITS if word[1].startswith(unit))
