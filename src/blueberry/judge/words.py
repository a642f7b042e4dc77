"""Numbers and names as people read them: one way in sentences, tables and figures of a report and at a terminal."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from blueberry.records import is_number

MISSING = "\N{EN DASH}"
"""Stands for a number that does not exist."""
MIN_EFFECT_NATS = 0.005
"""The smallest loss difference that matters, where nobody declared one."""
LEAST_DIFFERENCE = 1e-12
"""Below this a difference is what rounding has left of 0."""
_UNITS = {"loss": "nats", "bits_per_byte": "bits per byte", "seconds": "seconds"}
_SPLITS = {"val": "validation", "test": "test", "train": "training"}
_SCALES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


# Settings


def setting_value(value: Any) -> str:
    """A setting's value: the shortest number that equals it to four significant digits, so 0.0630957 is "0.0631" and
    0.1258925 is "0.1259". Whole numbers and what is no number are written out; 1000 and more has six digits.
    """
    if not is_number(value):
        return str(value)
    if isinstance(value, int) or not abs(value) >= 1000:
        return str(value) if isinstance(value, int) else f"{value:.4g}"
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def is_rate(setting: str) -> bool:
    """Whether a setting is a learning rate, by its name."""
    last = setting.rpartition(".")[2]
    return last in ("lr", "learning_rate") or last.endswith(("_lr", "_learning_rate"))


def setting_name(setting: str) -> str:
    """The last part of a dotted setting in words: "optimizer.muon.learning_rate" -> "learning rate"."""
    return setting.rpartition(".")[2].replace("_", " ")


def settings_text(settings: Mapping[str, Any]) -> str:
    """By the last part of each name: "learning_rate = 0.02, kind = linear"."""
    return ", ".join(f"{name.rpartition('.')[2]} = {setting_value(value)}" for name, value in settings.items())


# Metrics


def metric_name(metric: str) -> str:
    """e.g. "val_loss" -> "validation loss"."""
    split, _, what = metric.partition("_")
    if metric == "train_seconds":
        return "training time"
    return f"{_SPLITS[split]} {what.replace('_', ' ')}" if split in _SPLITS and what else metric.replace("_", " ")


def metric_unit(metric: str) -> str:
    """ "nats" and the like; "" where the metric has no unit or none is known."""
    what = metric.rpartition(".")[2] if metric.startswith("sets.") else metric.partition("_")[2]
    return _UNITS.get(what, "")


def unit(metric: str) -> str:
    """With a space before it; empty when the metric has none."""
    return f" {metric_unit(metric)}".rstrip()


def metric_axis(metric: str) -> str:
    """A metric with its unit, unless its name has it, as an axis title."""
    name, of = metric_name(metric), metric_unit(metric)
    return name if not of or of in name else f"{name} ({of} per token)" if of == "nats" else f"{name} ({of})"


def difference_axis(metric: str, reference: str) -> str:
    """What a difference to an arm or a recipe is, with its unit, as an axis title."""
    name, of = metric_name(metric), metric_unit(metric)
    return f"{name} minus that of {reference}" + (f" ({of})" if of and of not in name else "")


def extreme(goal: str) -> str:
    """What the best value of a metric is among all."""
    return "greatest" if goal == "maximize" else "least"


def shape(goal: str) -> str:
    """What a curve along an axis is taken to be about its best value."""
    return f"one smooth {'peak' if goal == 'maximize' else 'valley'}"


def decimals(min_effect: float) -> int:
    """Of every value and difference of a metric in one judgement: they show a tenth of `min_effect`; from 1 to 6.

    What was declared to matter decides, not each interval, so that a number is the same wherever it stands.
    """
    return 4 if min_effect <= 0 else min(max(1 - math.floor(math.log10(min_effect) + 1e-9), 1), 6)


def number(value: float | None, places: int, *, sign: bool = False) -> str:
    """Fixed decimals; "\N{INFINITY}" for a diverged mean; `MISSING` for what does not exist.

    What is not 0 never reads as 0: it has as many decimals as show its first digit, so that a loss of 0.000002 is none
    of nothing, and the end of an interval does not hide on which side of 0 it lies.
    """
    if value is None:
        return MISSING
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else "-\N{INFINITY}"
    if LEAST_DIFFERENCE < abs(value) <= 0.5 * 10.0**-places:
        places = -math.floor(math.log10(abs(value)))
    return f"{value:{'+' if sign else ''}.{places}f}"


def interval(ends: tuple[float, float] | None, places: int, *, sign: bool = False) -> str:
    return MISSING if ends is None else f"[{number(ends[0], places, sign=sign)}, {number(ends[1], places, sign=sign)}]"


def metric_value(
    mean: float, ends: tuple[float, float] | None, metric: str, min_effect: float = MIN_EFFECT_NATS
) -> str:
    """e.g. "3.4123 nats [3.4013, 3.4233]"."""
    return "diverged" if math.isinf(mean) else _with_unit(mean, ends, metric, min_effect, sign=False)


def difference(value: float, ends: tuple[float, float] | None, metric: str, min_effect: float = MIN_EFFECT_NATS) -> str:
    """With its sign, e.g. "-0.0120 nats [-0.0190, -0.0050]"."""
    return "one side diverged" if math.isinf(value) else _with_unit(value, ends, metric, min_effect, sign=True)


def _with_unit(value: float, ends: tuple[float, float] | None, metric: str, min_effect: float, *, sign: bool) -> str:
    places = decimals(min_effect)
    around = "" if ends is None else f" {interval(ends, places, sign=sign)}"
    return f"{number(value, places, sign=sign)}{unit(metric)}{around}"


# Amounts and text


def count(number: int, noun: str) -> str:
    """e.g. "1 seed", "3 seeds"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def quantity(value: float, unit: str = "") -> str:
    """Three significant digits and an SI prefix: 1_234_000 tokens -> "1.23 M tokens", 2e9 FLOP -> "2 GFLOP"."""
    for size, prefix in _SCALES:
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit if len(unit) < 6 else ' ' + unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()


def duration(seconds: float) -> str:
    """e.g. "80 ms", "8.2 s", "45 s", "2.1 min", "3.2 h"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.{int(seconds < 10)}f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def pairing(n: int, runs: tuple[int, int], *, is_paired: bool, is_borrowed: bool = False) -> str:
    """What a difference was taken between, e.g. "5 paired seeds", "unpaired, 10 runs each"."""
    if is_paired:
        return count(n, "paired seed")
    said = (
        f"unpaired, {count(n, 'run')} each"
        if runs[0] == runs[1]
        else f"unpaired, {runs[0]} and {count(runs[1], 'run')}"
    )
    return f"{said}, on borrowed noise" if is_borrowed else said


def listing(names: Sequence[str], *, most: int = 4) -> str:
    """e.g. "a, b and c"; beyond `most`, how many more."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def sentence(text: str, names: Collection[str] = ()) -> str:
    """With a capital at the front, unless one of these names or a dotted setting stands there, and a full stop."""
    text = text.strip()
    first = text.split(maxsplit=1)[0].rstrip(":,;.") if text else ""
    begins = any(text.startswith(name) and not text[len(name) : len(name) + 1].isalnum() for name in names)
    if not any(mark in first for mark in "._=") and not begins:
        text = text[:1].upper() + text[1:]
    return text + ("" if text.endswith((".", "!", "?")) or not text else ".")
