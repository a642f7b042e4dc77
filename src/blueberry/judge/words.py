"""Numbers as people read them. Every sentence of a judgement takes its numbers from here."""

import math
from collections.abc import Sequence
from typing import Any

UNITS = {"loss": "nats", "bits_per_byte": "bits per byte", "seconds": "seconds"}


def setting_value(value: Any) -> str:
    """A varied setting: three significant digits, more only where three would change a whole number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return str(int(value)) if float(value).is_integer() else f"{value:.6g}"
    return f"{value:.3g}"


def is_rate(setting: str) -> bool:
    """Whether a setting is a learning rate, by its name."""
    last = setting.rpartition(".")[2]
    return last in ("lr", "learning_rate") or last.endswith(("_lr", "_learning_rate"))


def setting_name(setting: str) -> str:
    """The last part of a dotted setting in words: "optimizer.muon.learning_rate" -> "learning rate"."""
    return setting.rpartition(".")[2].replace("_", " ")


def extreme(goal: str) -> str:
    """What the best value of a metric is among all."""
    return "greatest" if goal == "maximize" else "least"


def decimals(interval: tuple[float, float] | None) -> int:
    """As many as show two digits of the interval's half width: what the data support. 3 without an interval."""
    half = (interval[1] - interval[0]) / 2 if interval else 0.0
    if not 0 < half < math.inf:
        return 3
    return min(max(1 - math.floor(math.log10(half)), 0), 6)


def metric_value(mean: float, interval: tuple[float, float] | None, metric: str) -> str:
    """e.g. "3.412 nats [3.401, 3.423]"."""
    if math.isinf(mean):
        return "diverged"
    places = decimals(interval)
    ends = f" [{interval[0]:.{places}f}, {interval[1]:.{places}f}]" if interval else ""
    return f"{mean:.{places}f}{unit(metric)}{ends}"


def difference(value: float, interval: tuple[float, float] | None, metric: str) -> str:
    """With its sign, e.g. "-0.012 nats [-0.019, -0.005]"."""
    if math.isinf(value):
        return "one side diverged"
    places = decimals(interval)
    ends = f" [{interval[0]:+.{places}f}, {interval[1]:+.{places}f}]" if interval else ""
    return f"{value:+.{places}f}{unit(metric)}{ends}"


def unit(metric: str) -> str:
    """With a space before it; empty when the metric has none."""
    what = metric.rpartition(".")[2] if metric.startswith("sets.") else metric.partition("_")[2]
    return f" {UNITS[what]}" if what in UNITS else ""


def count(number: int, noun: str) -> str:
    """e.g. "1 seed", "3 seeds"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listing(names: Sequence[str], *, most: int = 4) -> str:
    """e.g. "a, b and c"; beyond `most`, how many more."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
