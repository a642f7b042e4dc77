"""Numbers and names as a reader sees them. Nothing is rounded to a false equality: digits follow min_effect."""

import math
from collections.abc import Collection
from typing import Any

from blueberry.judge.judgement import Judgement

MISSING = "\N{EN DASH}"

_METRICS = {
    "val_loss": ("validation loss", "nats"),
    "test_loss": ("test loss", "nats"),
    "train_loss": ("training loss", "nats"),
    "val_bits_per_byte": ("validation bits per byte", "bits"),
    "test_bits_per_byte": ("test bits per byte", "bits"),
    "val_accuracy": ("validation accuracy", ""),
    "test_accuracy": ("test accuracy", ""),
    "val_perplexity": ("validation perplexity", ""),
    "test_perplexity": ("test perplexity", ""),
    "train_seconds": ("training time", "seconds"),
}
_SCALES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def metric_name(metric: str) -> str:
    return _METRICS.get(metric, (metric.replace("_", " "), ""))[0]


def metric_unit(metric: str) -> str:
    """ "nats" and the like; "" where the metric has no unit or none is known."""
    return _METRICS.get(metric, ("", ""))[1]


def metric_axis(metric: str) -> str:
    """A metric with its unit, as an axis title."""
    name, unit = metric_name(metric), metric_unit(metric)
    return f"{name} ({unit} per token)" if unit == "nats" else f"{name} ({unit})" if unit == "seconds" else name


def setting_name(setting: str) -> str:
    """The last part of a dotted setting in words: "optimizer.muon.learning_rate" -> "learning rate"."""
    return setting.rpartition(".")[2].replace("_", " ")


def decimals(judgement: Judgement) -> int:
    """Decimals that show a tenth of min_effect, from 3 to 6."""
    effect = judgement.min_effect
    return 4 if effect <= 0 else min(max(1 - math.floor(math.log10(effect) + 1e-9), 3), 6)


def number(value: float | None, places: int, *, sign: bool = False) -> str:
    """Fixed decimals; "∞" for a diverged mean; a dash for what does not exist."""
    if value is None:
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:{'+' if sign else ''}.{places}f}"


def interval(ends: tuple[float, float] | None, places: int, *, sign: bool = False) -> str:
    return MISSING if ends is None else f"[{number(ends[0], places, sign=sign)}, {number(ends[1], places, sign=sign)}]"


def short(value: Any) -> str:
    """A setting's value: up to four significant digits where that is exact enough to tell arms apart."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return str(value)
    return f"{value:.4g}"


def scaled(value: float, unit: str = "") -> str:
    """Three significant digits and a prefix: 1_234_000 tokens -> "1.23 M tokens"."""
    for size, prefix in _SCALES:
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit if len(unit) < 6 else ' ' + unit}".rstrip()
    return f"{value:.4g} {unit}".rstrip()


def duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def settings_text(settings: dict[str, Any]) -> str:
    """By the last part of each name."""
    return ", ".join(f"{name.rpartition('.')[2]} = {short(value)}" for name, value in settings.items())


def sentence(text: str, names: Collection[str] = ()) -> str:
    """With a capital at the front, unless one of these names or a dotted setting stands there, and a full stop."""
    text = text.strip()
    first = text.split(maxsplit=1)[0].rstrip(":,;.") if text else ""
    if not any(mark in first for mark in "._=") and not any(_begins_with(text, name) for name in names):
        text = text[:1].upper() + text[1:]
    return text + ("" if text.endswith((".", "!", "?")) or not text else ".")


def _begins_with(text: str, name: str) -> bool:
    """As a whole word."""
    return text.startswith(name) and not text[len(name) : len(name) + 1].isalnum()
