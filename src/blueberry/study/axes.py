"""Axes of a study: the values a setting takes, and names for them that a person can read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from blueberry.study.reading import is_number, quoted, refuse, refuse_unknown, scalar, settings, whole

MAX_POINTS = 1000
SIGNIFICANT_DIGITS = 4


@dataclass(frozen=True)
class Axis:
    """One varied setting."""

    setting: str
    """Its dotted name."""
    values: tuple[Any, ...]
    """In the order of the file; at least two, all different. Of an axis without points: its two ends."""
    scale: Literal["log", "linear", "list"]
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    """The axis is there only where each of these settings has one of these values."""


def read_axis(setting: str, given: Any, current: Any, place: str, *, has_points: bool = True) -> Axis:
    """An axis from what the file gives: a list, { values = [..] }, or { log = [a, b], points = n } or the same with
    linear; a table may also hold when = { "setting" = value or list of values }.

    `current` is the setting's value in the base recipe (None if it has none): where that is whole, the points
    are. Points between the ends are rounded to 4 significant digits, so that names are readable. Without
    `has_points` the axis is what lies between its ends, for proposals.
    Raises: StudyError naming `place` and the setting.
    """
    place = f'{place} "{setting}"'
    when = ()
    if isinstance(given, dict) and "when" in given:
        when = _conditions(given["when"], setting, place)
        given = {name: value for name, value in given.items() if name != "when"}
    if isinstance(given, dict) and "values" in given:
        refuse_unknown(given, ("values", "when"), place)
        given = given["values"]
    if isinstance(given, list):
        axis = Axis(setting, _listed(given, current, place), "list", when)
    elif isinstance(given, dict):
        scale, values = (_spaced if has_points else _ends)(given, current, place)
        axis = Axis(setting, values, scale, when)
    else:
        refuse(place, given, "an axis is a list or { log = [a, b], points = n } or { linear = [a, b], points = n }")
    if len(axis.values) < 2:
        refuse(place, given, "an axis needs two values or more; add values, or put the setting into [set]")
    for number, value in enumerate(axis.values):
        if value in axis.values[:number]:
            refuse(place, value, "the value stands twice on the axis; each value needs its own arm; remove one")
    return axis


def _conditions(given: Any, setting: str, place: str) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    place = f'{place} "when"'
    if not isinstance(given, dict) or not given:
        refuse(place, given, 'must be a table of settings; write when = { "setting" = value }')
    found = []
    for name, value in settings(given, place).items():
        if name == setting:
            refuse(f"{place} {quoted(name)}", value, "an axis cannot depend on itself; remove it")
        values = tuple(
            scalar(one, f"{place} {quoted(name)}") for one in (value if isinstance(value, list) else [value])
        )
        if not values:
            refuse(f"{place} {quoted(name)}", value, "no value meets it; give one or more")
        found.append((name, values))
    return tuple(found)


def arm_name(point: dict[str, Any], among: Sequence[str] = ()) -> str:
    """The shortest readable name of a point on the axes, e.g. "learning_rate=0.0316,dropout=0.1".

    `among` are all settings that names must tell apart, where the point has not all of them.
    """
    among = list(among) or list(point)
    return ",".join(f"{_short(setting, among)}={value_name(value)}" for setting, value in point.items())


def value_name(value: Any) -> str:
    """A setting's value as a person writes it in TOML, without quotes."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short(setting: str, among: Sequence[str]) -> str:
    """As few of the last parts of a dotted name as tell it from the others."""
    parts = setting.split(".")
    for start in range(len(parts) - 1, 0, -1):
        suffix = ".".join(parts[start:])
        if sum(f".{other}".endswith(f".{suffix}") for other in among) == 1:
            return suffix
    return setting


def _listed(given: list[Any], current: Any, place: str) -> tuple[Any, ...]:
    if len(given) > MAX_POINTS:
        refuse(place, given, f"an axis has at most {MAX_POINTS} values; leave some out")
    values = [scalar(value, place) for value in given]
    # So that 1 and 1.0 are one value and have one name, as they are in the recipe.
    return tuple(float(v) if isinstance(current, float) and is_number(v) else v for v in values)


def _spaced(given: dict[str, Any], current: Any, place: str) -> tuple[Literal["log", "linear"], tuple[Any, ...]]:
    """The points between two ends."""
    refuse_unknown(given, ("log", "linear", "points", "values", "when"), place)
    scale, first, last = _scale_and_ends(given, place)
    if "points" not in given:
        refuse(place, given, "an axis between two ends needs points; add points = 9")
    num_points = whole(given, "points", place, 0, least=2, most=MAX_POINTS)
    whole_numbered = _is_whole(first, last, current)
    inner = [_between(first, last, number / (num_points - 1), scale) for number in range(1, num_points - 1)]
    values = [first, *(round(x) if whole_numbered else rounded(x) for x in inner), last]
    values = values if whole_numbered else [float(value) for value in values]
    if len(set(values)) < len(values):
        rounding = "whole numbers" if whole_numbered else f"{SIGNIFICANT_DIGITS} digits"
        refuse(place, given, f"points fall together when rounded to {rounding}; lower points or list the values")
    return scale, tuple(values)


def _ends(given: dict[str, Any], current: Any, place: str) -> tuple[Literal["log", "linear"], tuple[Any, ...]]:
    """The two ends of an axis without points."""
    if "points" in given:
        refuse(f'{place} "points"', given["points"], "proposals lie anywhere between the ends; remove points")
    refuse_unknown(given, ("log", "linear", "values", "when"), place)
    scale, first, last = _scale_and_ends(given, place)
    return scale, (first, last) if _is_whole(first, last, current) else (float(first), float(last))


def _scale_and_ends(given: dict[str, Any], place: str) -> tuple[Literal["log", "linear"], Any, Any]:
    scale = "log" if "log" in given else "linear"
    if ("log" in given) == ("linear" in given):
        refuse(place, given, "an axis has either log = [a, b] or linear = [a, b]; keep one")
    ends = given[scale]
    if not isinstance(ends, list) or len(ends) != 2 or not all(is_number(end) for end in ends):
        refuse(place, ends, f"must be two numbers; write {scale} = [first, last]")
    first, last = ends
    if not first < last:
        refuse(place, ends, "the first end must be below the last; swap or change them")
    if scale == "log" and first <= 0:
        refuse(place, ends, "a log axis has only numbers above 0; raise the first end or use linear")
    return scale, first, last


def _is_whole(first: Any, last: Any, current: Any) -> bool:
    return isinstance(first, int) and isinstance(last, int) and not isinstance(current, float)


def rounded(value: float) -> float:
    """To as many digits as a name can show."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _between(first: float, last: float, fraction: float, scale: str) -> float:
    if scale == "log":
        return math.exp(math.log(first) + fraction * (math.log(last) - math.log(first)))
    return first + fraction * (last - first)
