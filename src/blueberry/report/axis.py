"""Where the data of a figure lie: the numeric setting along which arms are drawn, and how much of y is shown."""

import math
import sys
from dataclasses import dataclass

import altair as alt

from blueberry.judge.judgement import ArmSummary, Judgement
from blueberry.judge.words import is_rate, setting_name, setting_value


@dataclass(frozen=True)
class Axis:
    """The first varied setting, when it is a number in every arm."""

    setting: str
    values: tuple[float, ...]
    """Distinct, ascending, two or more."""
    log: bool

    @property
    def label(self) -> str:
        name = setting_name(self.setting)
        return f"{name} ({self.setting})" if "." in self.setting else name

    @property
    def is_learning_rate(self) -> bool:
        return is_rate(self.setting)

    @property
    def is_even(self) -> bool:
        """Whether the values stand at about equal distances as drawn."""
        return all(
            abs(self.fraction(value) - index / (len(self.values) - 1)) < 0.3 / len(self.values)
            for index, value in enumerate(self.values)
        )

    def fraction(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1, along the axis as drawn."""
        low, high = self._place(self.values[0]), self._place(self.values[-1])
        if not math.isfinite(high - low):
            return self.values.index(value) / (len(self.values) - 1)
        return (self._place(value) - low) / (high - low)

    def between(self, a: float, b: float, part: float) -> float:
        """The value a part of the way from a to b, along the axis as drawn."""
        place = self._place(a) + part * (self._place(b) - self._place(a))
        return self._value(place)

    def beyond(self, value: float, steps: float) -> float:
        """A value moved by so many mean steps of the grid; negative moves down."""
        step = (self._place(self.values[-1]) - self._place(self.values[0])) / (len(self.values) - 1)
        place = self._place(value) + steps * step
        return self._value(place)

    def neighbours(self, value: float) -> tuple[float | None, float | None]:
        """The tested values next below and next above."""
        below = [v for v in self.values if v < value]
        above = [v for v in self.values if v > value]
        return (below[-1] if below else None, above[0] if above else None)

    def _place(self, value: float) -> float:
        return math.log(value) if self.log else value

    def _value(self, place: float) -> float:
        """Back from a place; at most the largest number, at least (of a logarithm) the least that is exact."""
        if not self.log:
            return min(max(place, -sys.float_info.max), sys.float_info.max)
        return math.exp(min(max(place, math.log(sys.float_info.min)), math.log(sys.float_info.max)))


def find_axis(judgement: Judgement) -> Axis | None:
    """The axis of the main figure; None when the arms have only names."""
    axis = judgement.axis
    return None if axis is None else Axis(setting=axis.setting, values=axis.values, log=axis.is_log)


def series_of(judgement: Judgement, arm: ArmSummary) -> str:
    """The arm's other varied settings in words; "" in a study of one axis."""
    return ", ".join(f"{setting_name(name)} = {setting_value(arm.settings.get(name))}" for name in judgement.vary[1:])


def rate_axis(axis: Axis, x_range: tuple[float, float]) -> alt.X:
    """The x of every figure along the axis: the tested values are the ticks."""
    return alt.X(
        "x:Q",
        title=axis.label,
        scale=alt.Scale(type="log" if axis.log else "linear", domain=list(x_range), nice=False, zero=False),
        axis=alt.Axis(
            values=list(axis.values),
            format=".4~g",
            labelOverlap="parity" if axis.is_even else "greedy",
            labelSeparation=6,
        ),
    )


MAX_HEIGHT_IN_VALLEYS = 4.0
"""A picture shows at most this many times the height of what matters in it (the better half of the arms),"""
WORTH_CUTTING = 1.5
"""unless everything would fit into one this many times as high."""


def picture_range(low: float, high: float, valley_height: float) -> tuple[float, float]:
    """Bottom and top, with a margin, for data between low and high of which the lowest `valley_height` matters."""
    top = low + MAX_HEIGHT_IN_VALLEYS * valley_height
    if high <= low + WORTH_CUTTING * (top - low):
        top = high
    margin = 0.07 * (top - low) or 0.05 * abs(low) or 1.0
    return (low - margin, top + margin)


def valley_range(judgement: Judgement) -> tuple[float, float] | None:
    """Bottom and top that show the valley: the whole range unless a few arms stand far above the better half.

    The better half of the arms, and those unresolved, are what matters; the rest may be left to marks at the top.
    Noise and min_effect keep the valley from being too small. None when no run ended with a finite value.
    """
    finite = {arm.arm: [value for value in arm.values if math.isfinite(value)] for arm in judgement.arms}
    values = [value for some in finite.values() for value in some]
    if not values:
        return None
    best = judgement.best
    shown = [*values, *([best.mean] if best else []), *(best.interval if best and best.interval else ())]
    low, high = min(shown), max(values)
    ended = sorted((sum(some) / len(some), name) for name, some in finite.items() if some)
    kept = {name for _, name in ended[: (len(ended) + 1) // 2]} | {
        arm.arm for arm in judgement.arms if arm.status in ("best", "unresolved")
    }
    core = max((value for name in kept for value in finite[name]), default=high)
    height = max(core - low, 4 * (judgement.noise.sd or 0.0), 2 * judgement.min_effect)
    return picture_range(low, high, height)
