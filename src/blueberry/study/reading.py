"""Taking the values of a study file apart, with one line of complaint for each way they can be wrong."""

import math
from collections.abc import Iterable
from typing import Any, NoReturn

from blueberry.errors import StudyError, did_you_mean
from blueberry.recipe import LENGTHS, is_script_setting, setting_names

SHOWN_CHARACTERS = 60
LARGEST_INTEGER = 2**63 - 1
"""TOML's own limit, which Python's parser does not keep."""


def refuse(place: str, given: Any, rule: str) -> NoReturn:
    """Raise StudyError; `rule` is "the rule it breaks; the remedy"."""
    raise StudyError(f"{place}: {shown(given)}; {rule}")


def shown(value: Any) -> str:
    """A value on one line, cut to a readable length."""
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return "an integer beyond 64 bits"
    text = repr(value) if not isinstance(value, (dict, list)) or len(value) < 20 else f"{len(value)} items"
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def quoted(name: str) -> str:
    """A name as it stands in a message: in double quotes, without line breaks."""
    return f'"{shown(name)[1:-1]}"'


def refuse_unknown(table: dict[str, Any], known: Iterable[str], place: str) -> None:
    """Raises: StudyError naming the first key that is not known, and the nearest one that is."""
    for name in table:
        if name not in known:
            raise StudyError(f"{place} {quoted(name)}: no such key{did_you_mean(name, known)}")


def section(given: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    """A table of the file; empty where it is left out."""
    value = given.get(name, {})
    if not isinstance(value, dict):
        refuse(f"{place} [{name}]", value, f"must be a table; write [{name}] above its settings")
    return value


def text(table: dict[str, Any], name: str, place: str, default: str | None = None) -> str:
    """A string that is not blank, its white space folded to single blanks."""
    value = table.get(name, default)
    if value is None:
        raise StudyError(f'{place} "{name}": left out; every study must have it; add {name} = "..."')
    if not isinstance(value, str) or not value.strip():
        refuse(f'{place} "{name}"', value, "must be a text that is not blank; put words in quotes")
    return " ".join(value.split())


def choice(table: dict[str, Any], name: str, place: str, default: str, known: Iterable[str]) -> str:
    value = table.get(name, default)
    if not isinstance(value, str) or value not in known:
        refuse(f'{place} "{name}"', value, f"not one of the known; choose from: {', '.join(sorted(known))}")
    return value


def whole(table: dict[str, Any], name: str, place: str, default: int, *, least: int, most: int) -> int:
    value = table.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        refuse(f'{place} "{name}"', value, f"must be a whole number from {least} to {most}; change it")
    return value


def between(table: dict[str, Any], name: str, place: str, default: float, *, above: float, below: float) -> float:
    """A number strictly inside an open interval."""
    value = table.get(name, default)
    if not is_number(value) or not above < value < below:
        limits = f"above {above:g}" + (f" and below {below:g}" if math.isfinite(below) else "")
        refuse(f'{place} "{name}"', value, f"must be a number {limits}; change it")
    return float(value)


def is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= LARGEST_INTEGER if isinstance(value, int) else math.isfinite(value)


def settings(table: dict[str, Any], place: str) -> dict[str, Any]:
    """Values by the dotted name of the setting, whether the file wrote "a.b" = 1, a.b = 1 or [x.a] b = 1.

    Raises: StudyError if a name is no setting of any recipe, stands twice, or both lengths of a run are given.
    """
    known = setting_names()
    named: dict[str, Any] = {}
    left = list(reversed(table.items()))
    while left:
        name, value = left.pop()
        if is_script_setting(name):
            pass  # a name that the user has chosen
        elif isinstance(value, dict) and any(setting.startswith(f"{name}.") for setting in known):
            left += [(f"{name}.{inner}", item) for inner, item in reversed(value.items())]
            if value:
                continue
        if name not in known and not is_script_setting(name):
            raise StudyError(f"{place} {quoted(name)}: no such setting{did_you_mean(name, known)}")
        if name in named:
            refuse(f'{place} "{name}"', value, "the setting stands here twice; keep one")
        named[name] = value
    if named.keys() >= set(LENGTHS):
        refuse(f'{place} "train.tokens"', named["train.tokens"], "train.updates is given too; keep one of them")
    return named


def scalar(value: Any, place: str) -> Any:
    """Raises: StudyError unless it is a text, a finite number or true/false."""
    if not isinstance(value, (str, bool)) and not is_number(value):
        refuse(place, value, "must be a text, a number or true/false; write one value")
    return value
