"""Audits of raw results of others: the rates that they list, against the schedules that the same results declare."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blueberry.judge import words
from blueberry.judge.audits.design import LEAST_WARMUP_UPDATES, REACHED
from blueberry.judge.judgement import Audit, block, warn
from blueberry.records import is_number

SHORTEST_DECAY = 0.1
"""Of a run, in which a rate comes down from its peak: what comes after the last rate listed may have been that."""
_RATES = re.compile(r"(^|_)(lr|learning_rate)s?(_history|_schedule|_curve|s)$|^learning_rates$", re.IGNORECASE)
_RATE = re.compile(r"(^|_)(lr|learning_rate|rate)$", re.IGNORECASE)
_STEPS = re.compile(r"^(global_|train_|training_|optimizer_)?(step|update|iteration|iter)s?$", re.IGNORECASE)
_LENGTH = re.compile(
    r"^(num|max|total|train|training|optimizer)_?(train_|training_)?(step|update|iteration|iter)s$|^updates$|^steps$",
    re.IGNORECASE,
)
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
    updates: tuple[int, ...] | None
    """Of each rate, the update it was used in, counted from 1; None where a list of rates alone does not say."""
    num_updates: int | None
    """Of the run; None where it does not say."""
    num_looks: int | None
    """Evaluations listed; None where none are."""

    @property
    def is_whole(self) -> bool:
        """Whether every update's rate is listed, from the first."""
        return self.updates is not None and self.updates == tuple(range(1, len(self.rates) + 1))

    @property
    def unseen(self) -> float:
        """How much of the run may come after the last rate that is listed, as a share of the run, at most."""
        if self.updates is None:
            return 1 / len(self.rates)
        last = self.updates[-1]
        whole = max(
            self.num_updates or last - 1 + max(after - before for before, after in itertools.pairwise(self.updates)),
            last,
        )
        return (whole - last) / whole


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
        if floor is None or len(run.rates) < 2:
            continue
        if run.rates[-1] > (floor + REACHED + run.unseen / SHORTEST_DECAY) * max(run.rates):
            up.append((run.name, run.rates[-1] / max(run.rates), floor))
    found = []
    if up:
        _, end, floor = up[0]
        message = (
            f"{place}: {words.listing([name for name, _, _ in up])} do not come down: {end:.3f} of the peak at the end"
        )
        remedy = "count the schedule and its clock in one unit, updates"
        found.append(block("schedule", f"{message}, floor {floor:g} declared ({up[0][0]})", remedy))
    zero = [run.name for run in runs if run.updates and run.updates[:2] == (1, 2) and run.rates[0] == 0]
    if zero:
        message = f"{place}: {words.listing(zero)} begin at rate 0, so the first update changes nothing"
        found.append(block("schedule", message, "begin the warmup at 1 / its length"))
    return found


def _warmups(runs: Sequence[History], place: str) -> list[Audit]:
    short = []
    for run in runs:
        asked = next((v for name, v in run.settings.items() if _WARMUP.search(name) and is_number(v)), None)
        if asked and run.updates and len(run.rates) > 1:
            updates = run.updates[run.rates.index(max(run.rates))]  # or before, where not every update is listed
            if updates < LEAST_WARMUP_UPDATES:
                short.append((updates, run.name, run.updates[-1]))
    if not short:
        return []
    updates, name, of = min(short)
    message = (
        f"{place}: {words.listing([each for _, each, _ in short])} warm up for fewer than {LEAST_WARMUP_UPDATES} "
        f"updates ({name}: at the peak in update {updates} of {of}), which is a jump, no warmup"
    )
    return [block("schedule", message, "compare warmups in runs long enough for them to differ")]


def _one_schedule(runs: Sequence[History], place: str) -> list[Audit]:
    """Schedules that are declared to differ and were one. Between rates that are listed now and then a warmup hides."""
    seen: dict[tuple[Any, ...], History] = {}
    for run in runs:
        twin = seen.setdefault((run.updates, run.rates), run) if len(run.rates) > 1 else run
        declared = [_declared(one) for one in (run, twin)]
        if twin is not run and declared[0] != declared[1]:
            message = f"{place}: {twin.name} and {run.name} declare different schedules and used the same rates"
            return [block("dead-knob", message, "make the trainer read the schedule; these are repeats of one run")]
    return []


def _declared(run: History) -> dict[str, Any]:
    what = r"schedule|warmup|decay|min_lr|floor" if run.is_whole else r"schedule(?!.*warmup)|decay|min_lr|floor"
    return {n: v for n, v in run.settings.items() if re.search(what, n, re.IGNORECASE)}


def _unequal_looks(runs: Sequence[History], place: str) -> list[Audit]:
    looks = sorted({run.num_looks for run in runs if run.num_looks is not None})
    if len(looks) < 2:
        return []
    message = (
        f"{place}: runs were evaluated {looks[0]} to {looks[-1]} times; the more looks, the better the best of them"
    )
    return [warn("early-stop", message, "compare final losses, or evaluate all runs equally often")]


def _history(name: str, run: Mapping[str, Any]) -> History:
    lists = {key: value for key, value in _leaves(run) if isinstance(value, list)}
    settings = {key: value for key, value in _leaves(run) if not isinstance(value, list)}
    where = next((key for key in lists if _RATES.search(_last(key))), None)
    looks = next((value for key, value in lists.items() if _LOOKS.search(_last(key))), None)
    listed = [] if where is None else [one for one in map(_step_and_rate, lists[where]) if one is not None]
    rates = tuple(rate for _, rate in listed)
    num_updates = next(
        (int(v) for n, v in settings.items() if is_number(v) and v >= 1 and _LENGTH.search(_last(n))), None
    )
    steps = [step for step, _ in listed]
    if where is not None and steps.count(None) == len(steps):
        beside = {
            n: v for n, v in lists.items() if n.rpartition(".")[0] == where.rpartition(".")[0] and len(v) == len(rates)
        }
        steps = next((v for n, v in beside.items() if _STEPS.search(_last(n))), steps)
    return History(
        name=name,
        settings=settings,
        rates=rates,
        updates=_updates(steps) or (tuple(range(1, len(rates) + 1)) if num_updates == len(rates) > 0 else None),
        num_updates=num_updates,
        num_looks=None if looks is None else len(looks),
    )


def _step_and_rate(one: Any) -> tuple[Any, float] | None:
    """Of a rate alone, of (step, ..., rate), or of {"step": ..., "lr": ...}; None where there is no rate."""
    step, rate = None, one
    if isinstance(one, list) and one:
        step, rate = one[0] if len(one) > 1 else None, one[-1]
    elif isinstance(one, Mapping):
        step = next((value for key, value in one.items() if _STEPS.search(key)), None)
        rate = next((value for key, value in one.items() if _RATE.search(key)), None)
    return (step, float(rate)) if is_number(rate) else None


def _updates(steps: Sequence[Any]) -> tuple[int, ...] | None:
    """Steps as updates counted from 1; those that begin with 0 count what was done before. None where they are none."""
    if not steps or not all(is_number(step) and step >= 0 and float(step).is_integer() for step in steps):
        return None
    if any(after <= before for before, after in itertools.pairwise(steps)):
        return None
    return tuple(int(step) + (steps[0] == 0) for step in steps)


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
