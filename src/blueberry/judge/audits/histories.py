"""Rates as they were really used, where raw results list them, against what the same results declare."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blueberry.judge import words
from blueberry.judge.audits import block, warn
from blueberry.judge.audits.design import LEAST_WARMUP_UPDATES, REACHED
from blueberry.judge.judgement import Audit
from blueberry.records import is_number

_RATES = re.compile(r"(^|_)(lr|learning_rate)s?(_history|_schedule|_curve|s)$|^learning_rates$", re.IGNORECASE)
_LOOKS = re.compile(r"^(eval_metrics|evaluations|val_losses|eval_losses|evals)$", re.IGNORECASE)
_FLOOR = re.compile(r"(min|floor|final|end)_?(lr|learning_rate)?_?(ratio|fraction)$", re.IGNORECASE)
_WARMUP = re.compile(r"warmup", re.IGNORECASE)


@dataclass(frozen=True)
class History:
    """One run of a raw result file."""

    name: str
    settings: Mapping[str, Any]
    """Plain values by dotted name, numbers of results included."""
    rates: tuple[float, ...]
    num_looks: int | None
    """Evaluations listed; None where none are."""


def histories(document: Any) -> list[History]:
    """The runs of a JSON document: a list of objects, {"runs": [...]}, or {name: {...}}."""
    if isinstance(document, Mapping):
        listed = next((value for value in document.values() if isinstance(value, list) and _are_runs(value)), None)
        if listed is None and all(isinstance(value, Mapping) for value in document.values()):
            return [_history(str(name), run) for name, run in document.items()]
        document = listed or []
    if not isinstance(document, list) or not _are_runs(document):
        return []
    return [_history(_name(run, number), run) for number, run in enumerate(document, 1)]


def audit_histories(runs: Sequence[History], place: str) -> list[Audit]:
    """`place`: the file they are from."""
    return [*_floors(runs, place), *_warmups(runs, place), *_one_schedule(runs, place), *_unequal_looks(runs, place)]


def _floors(runs: Sequence[History], place: str) -> list[Audit]:
    """Schedules that do not come down, and first updates without a rate."""
    up = []
    for run in runs:
        floor = next((v for name, v in run.settings.items() if _FLOOR.search(name) and is_number(v)), None)
        if floor is not None and len(run.rates) > 1 and run.rates[-1] > (floor + REACHED) * max(run.rates):
            up.append((run.name, run.rates[-1] / max(run.rates), floor))
    found = []
    if up:
        _, end, floor = up[0]
        message = (
            f"{place}: {words.listing([name for name, _, _ in up])} do not come down: {end:.3f} of the peak at the end"
        )
        remedy = "count the schedule and its clock in one unit, updates"
        found.append(block("schedule", f"{message}, floor {floor:g} declared ({up[0][0]})", remedy))
    zero = [run.name for run in runs if len(run.rates) > 1 and run.rates[0] == 0]
    if zero:
        message = f"{place}: {words.listing(zero)} begin at rate 0, so the first update changes nothing"
        found.append(block("schedule", message, "begin the warmup at 1 / its length"))
    return found


def _warmups(runs: Sequence[History], place: str) -> list[Audit]:
    short = []
    for run in runs:
        asked = next((v for name, v in run.settings.items() if _WARMUP.search(name) and is_number(v)), None)
        if asked and len(run.rates) > 1:
            updates = run.rates.index(max(run.rates)) + 1
            if updates < LEAST_WARMUP_UPDATES:
                short.append((updates, run.name, len(run.rates)))
    if not short:
        return []
    updates, name, of = min(short)
    message = (
        f"{place}: {words.listing([each for _, each, _ in short])} warm up for fewer than {LEAST_WARMUP_UPDATES} "
        f"updates ({name}: at the peak in update {updates} of {of} listed), which is a jump, no warmup"
    )
    return [block("schedule", message, "compare warmups in runs long enough for them to differ")]


def _one_schedule(runs: Sequence[History], place: str) -> list[Audit]:
    """Schedules that are declared to differ and were one."""
    seen: dict[tuple[float, ...], History] = {}
    for run in runs:
        twin = seen.setdefault(run.rates, run) if len(run.rates) > 1 else run
        declared = [_declared(one) for one in (run, twin)]
        if twin is not run and declared[0] != declared[1]:
            message = f"{place}: {twin.name} and {run.name} declare different schedules and used the same rates"
            return [block("dead-knob", message, "make the trainer read the schedule; these are repeats of one run")]
    return []


def _declared(run: History) -> dict[str, Any]:
    return {n: v for n, v in run.settings.items() if re.search(r"schedule|warmup|decay|min_lr|floor", n, re.IGNORECASE)}


def _unequal_looks(runs: Sequence[History], place: str) -> list[Audit]:
    looks = sorted({run.num_looks for run in runs if run.num_looks is not None})
    if len(looks) < 2:
        return []
    message = (
        f"{place}: runs were evaluated {looks[0]} to {looks[-1]} times; the more looks, the better the best of them"
    )
    return [warn("early-stop", message, "compare final losses, or evaluate all runs equally often")]


def _history(name: str, run: Mapping[str, Any]) -> History:
    lists: dict[str, list[Any]] = {key: value for key, value in _leaves(run) if isinstance(value, list)}
    rates = next((value for key, value in lists.items() if _RATES.search(_last(key))), [])
    looks = next((value for key, value in lists.items() if _LOOKS.search(_last(key))), None)
    numbers: list[Any] = [one[-1] if isinstance(one, (list, tuple)) and one else one for one in rates]
    return History(
        name=name,
        settings={key: value for key, value in _leaves(run) if not isinstance(value, list)},
        rates=tuple(float(one) for one in numbers if is_number(one)),
        num_looks=None if looks is None else len(looks),
    )


def _leaves(run: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in run.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _name(run: Mapping[str, Any], number: int) -> str:
    return next((str(run[key]) for key in ("name", "experiment_name", "arm", "run") if key in run), f"run {number}")


def _are_runs(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, Mapping) for value in values)


def _last(name: str) -> str:
    return name.rpartition(".")[2]
