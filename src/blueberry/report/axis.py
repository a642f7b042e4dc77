"""The numeric setting along which a judgement's arms lie, as a figure draws it; otherwise the arms are names."""

import math
import sys
from dataclasses import dataclass

from blueberry.judge.judgement import ArmSummary, Judgement
from blueberry.judge.words import is_rate
from blueberry.report.wording import setting_name, short


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
    return ", ".join(f"{setting_name(name)} = {short(arm.settings.get(name))}" for name in judgement.vary[1:])
