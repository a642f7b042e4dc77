"""Learning-rate schedules: pure functions from an update's number to a multiplier of the peak rate.

Updates count from 0. Every schedule obeys two rules, checked by a test: the first update never has rate 0,
and a schedule with a floor is at its floor at the last update.
"""

import math
from collections.abc import Callable

from blueberry.recipe import Recipe
from blueberry.settings import Schedule


def multipliers(recipe: Recipe) -> list[float]:
    """The multiplier of the peak rate at each update of the run, first to last."""
    return [multiplier(recipe.schedule, update, recipe.num_updates) for update in range(recipe.num_updates)]


def multiplier(schedule: Schedule, update: int, num_updates: int) -> float:
    """The multiplier of the peak rate at one update, 0 <= update < num_updates.

    Warmup of W = round(warmup_fraction * num_updates) updates rises as (update + 1) / W, so it starts above 0
    and touches the peak once, at update W - 1; the kind decides what follows. A run of one update is at the peak.
    """
    assert 0 <= update < num_updates
    num_warmup = _num_warmup(schedule, num_updates)
    if update < num_warmup:
        return (update + 1) / num_warmup
    if num_updates == 1:
        return 1.0
    return AFTER_WARMUP[schedule.kind](schedule, update, num_updates)


def _constant(schedule: Schedule, update: int, num_updates: int) -> float:
    return 1.0


def _linear(schedule: Schedule, update: int, num_updates: int) -> float:
    return _above_floor(schedule, 1 - _progress(schedule, update, num_updates))


def _cosine(schedule: Schedule, update: int, num_updates: int) -> float:
    return _above_floor(schedule, 0.5 * (1 + math.cos(math.pi * _progress(schedule, update, num_updates))))


def _warmup_stable_decay(schedule: Schedule, update: int, num_updates: int) -> float:
    assert schedule.kind == "warmup-stable-decay"
    num_decay = max(round(schedule.decay_fraction * num_updates), 1)
    return _above_floor(schedule, min(1.0, (num_updates - 1 - update) / num_decay))


AFTER_WARMUP: dict[str, Callable[[Schedule, int, int], float]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "warmup-stable-decay": _warmup_stable_decay,
}


def _num_warmup(schedule: Schedule, num_updates: int) -> int:
    return round(schedule.warmup_fraction * num_updates)


def _progress(schedule: Schedule, update: int, num_updates: int) -> float:
    """From 0 at the peak to 1 at the last update."""
    peak = max(_num_warmup(schedule, num_updates) - 1, 0)
    return (update - peak) / (num_updates - 1 - peak) if num_updates - 1 > peak else 0.0


def _above_floor(schedule: Schedule, height: float) -> float:
    """Height 0 is the floor, height 1 the peak."""
    assert schedule.kind != "constant"
    return schedule.floor_fraction + (1 - schedule.floor_fraction) * height
