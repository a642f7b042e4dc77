"""Learning-rate schedules: pure functions from an update's number to a multiplier of the peak rate.

Updates count from 0. Two rules hold for every schedule unless its settings say otherwise outright: the first
update never has rate 0 (but for `first_update_zero`), and a schedule that comes down is at its floor at the
run's last update (but for `horizon_updates`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from blueberry.records import RateCut
from blueberry.schedule_settings import (
    AnySchedule,
    ConstantSchedule,
    CosineRestartsSchedule,
    CosineSchedule,
    ExponentialSchedule,
    InverseSquareRootSchedule,
    LinearSchedule,
    PlateauSchedule,
    PolynomialSchedule,
    StepSchedule,
    WarmupStableDecaySchedule,
)

Seen = Sequence[tuple[int, float]]
"""Evaluations so far: updates done, and the validation loss in nats."""


def multipliers(schedule: AnySchedule, num_updates: int, seen: Seen = ()) -> list[float]:
    """The multiplier of the peak rate at each update of a run, first to last.

    Only a plateau schedule looks at the evaluations; without any it never cuts.
    """
    made = [multiplier(schedule, update, num_updates) for update in range(num_updates)]
    for cut in rate_cuts(schedule, seen):
        for update in range(cut.update, num_updates):
            made[update] = multiplier(schedule, update, num_updates) * cut.multiplier
    return made


def multiplier(schedule: AnySchedule, update: int, num_updates: int) -> float:
    """The multiplier of the peak rate at one update, 0 <= update < num_updates, before any cut.

    Warmup of W updates ends at the peak at update W - 1, and starts at 1 / W unless a start is given; the kind
    decides what follows. Beyond the horizon the rate stays where it was. A run of one update is at the peak.
    """
    assert 0 <= update < num_updates
    horizon = horizon_updates(schedule, num_updates)
    if horizon == 1:
        return 1.0
    if update < num_warmup(schedule, horizon):
        return _warmup(schedule, update, horizon)
    return AFTER_WARMUP[schedule.kind](schedule, min(update, horizon - 1), horizon)


def horizon_updates(schedule: AnySchedule, num_updates: int) -> int:
    """The updates a schedule is laid out for: the run's length, unless it names another."""
    if isinstance(schedule, ConstantSchedule | PlateauSchedule) or schedule.horizon_updates is None:
        return num_updates
    return schedule.horizon_updates


def num_warmup(schedule: AnySchedule, horizon: int) -> int:
    """Updates up to and with the first at the peak. A fraction leaves at least one update to come down in."""
    if schedule.warmup_updates is not None:
        return schedule.warmup_updates
    assert schedule.warmup_fraction is not None
    return min(round(schedule.warmup_fraction * horizon), horizon - 1)


def rate_cuts(schedule: AnySchedule, seen: Seen) -> list[RateCut]:
    """What a plateau schedule decided at the evaluations it has seen; nothing for any other."""
    if not isinstance(schedule, PlateauSchedule):
        return []
    cuts: list[RateCut] = []
    best, waited, height = math.inf, 0, 1.0
    for update, loss in seen:
        if loss < best - schedule.min_improvement_nats:
            best, waited = loss, 0
            continue
        waited += 1
        if waited == schedule.patience_evaluations and height > schedule.floor_fraction:
            height, waited = max(height * schedule.factor, schedule.floor_fraction), 0
            cuts.append(RateCut(update=update, multiplier=height))
    return cuts


def check_length(schedule: AnySchedule, num_updates: int, every_updates: int) -> None:
    """Refuse a schedule whose settings cannot show in a run of `num_updates`, evaluated `every_updates`.

    Raises: ValueError, `setting: what was given; the rule; the remedy`.
    """
    horizon = horizon_updates(schedule, num_updates)
    warmup = num_warmup(schedule, horizon)
    rest = horizon - max(warmup, 1)
    num_evaluations = (num_updates - 1) // every_updates
    if schedule.warmup_updates is not None and warmup >= max(horizon, 2):
        raise ValueError(
            f"warmup_updates: {warmup}; the schedule has {horizon} updates and the last ones are for what follows; "
            f"give at most {max(horizon - 1, 1)}"
        )
    if schedule.first_update_zero and warmup < 2:
        raise ValueError(
            f"first_update_zero: True; of {warmup} updates of warmup the last is at the peak; "
            "give a warmup of 2 updates or more"
        )
    match schedule:
        case WarmupStableDecaySchedule() if (
            schedule.warmup_updates is not None and _num_decay(schedule, horizon) > rest
        ):
            raise ValueError(
                f"decay_fraction: {schedule.decay_fraction}; after warmup_updates = {warmup} there are only {rest} "
                f"updates of {horizon}; give at most {rest / horizon:.3g}"
            )
        case CosineRestartsSchedule() if schedule.num_cycles > max(rest, 1):
            raise ValueError(
                f"num_cycles: {schedule.num_cycles}; only {rest} updates come after the warmup; give at most that"
            )
        case StepSchedule() if schedule.num_drops > max(rest, 1):
            raise ValueError(
                f"num_drops: {schedule.num_drops}; only {rest} updates come after the warmup; give at most that"
            )
        case PlateauSchedule() if num_evaluations <= schedule.patience_evaluations:
            raise ValueError(
                f"patience_evaluations: {schedule.patience_evaluations}; of the {num_evaluations} evaluations before "
                "the last update the first only sets a mark; lower it, or evaluate.every_updates"
            )
        case _:
            pass


def _warmup(schedule: AnySchedule, update: int, horizon: int) -> float:
    num = num_warmup(schedule, horizon)
    start = 1 / num if schedule.warmup_from_fraction is None else schedule.warmup_from_fraction
    share = update / (num - 1) if num > 1 else 1.0
    if schedule.warmup_shape == "exponential":
        return start ** (1 - share)
    return start + (1 - start) * share


def _constant(schedule: ConstantSchedule | PlateauSchedule, update: int, horizon: int) -> float:
    return 1.0


def _linear(schedule: LinearSchedule, update: int, horizon: int) -> float:
    return _above(schedule.floor_fraction, 1 - _progress(schedule, update, horizon))


def _cosine(schedule: CosineSchedule, update: int, horizon: int) -> float:
    return _above(schedule.floor_fraction, _half_cosine(_progress(schedule, update, horizon)))


def _cosine_restarts(schedule: CosineRestartsSchedule, update: int, horizon: int) -> float:
    over, rest = _after_peak(schedule, update, horizon)
    if over == rest:  # the end of the last cycle, not the start of another
        return schedule.floor_fraction
    within = over * schedule.num_cycles % rest / rest
    return _above(schedule.floor_fraction, _half_cosine(within))


def _warmup_stable_decay(schedule: WarmupStableDecaySchedule, update: int, horizon: int) -> float:
    _, rest = _after_peak(schedule, update, horizon)
    left = min((horizon - 1 - update) / min(_num_decay(schedule, horizon), max(rest, 1)), 1.0)
    match schedule.decay_shape:
        case "linear":
            height = left
        case "cosine":
            height = _half_cosine(1 - left)
        case "1-sqrt":
            height = 1 - math.sqrt(1 - left)
    return _above(schedule.floor_fraction, height)


def _inverse_square_root(schedule: InverseSquareRootSchedule, update: int, horizon: int) -> float:
    return 1 / math.sqrt(1 + _progress(schedule, update, horizon) * (schedule.floor_fraction**-2 - 1))


def _polynomial(schedule: PolynomialSchedule, update: int, horizon: int) -> float:
    return _above(schedule.floor_fraction, (1 - _progress(schedule, update, horizon)) ** schedule.power)


def _exponential(schedule: ExponentialSchedule, update: int, horizon: int) -> float:
    return schedule.floor_fraction ** _progress(schedule, update, horizon)


def _step(schedule: StepSchedule, update: int, horizon: int) -> float:
    over, rest = _after_peak(schedule, update, horizon)
    drops = over * (schedule.num_drops + 1) // (rest + 1)
    return schedule.floor_fraction ** (drops / schedule.num_drops)


AFTER_WARMUP: dict[str, Callable[[Any, int, int], float]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "cosine-restarts": _cosine_restarts,
    "warmup-stable-decay": _warmup_stable_decay,
    "inverse-square-root": _inverse_square_root,
    "polynomial": _polynomial,
    "exponential": _exponential,
    "step": _step,
    "plateau": _constant,
}


def _num_decay(schedule: WarmupStableDecaySchedule, horizon: int) -> int:
    return max(round(schedule.decay_fraction * horizon), 1)


def _after_peak(schedule: AnySchedule, update: int, horizon: int) -> tuple[int, int]:
    """Updates since the first at the peak, and from there to the last."""
    peak = max(num_warmup(schedule, horizon) - 1, 0)
    return update - peak, horizon - 1 - peak


def _progress(schedule: AnySchedule, update: int, horizon: int) -> float:
    """From 0 at the peak to 1 at the last update."""
    over, rest = _after_peak(schedule, update, horizon)
    return over / rest if rest else 0.0


def _half_cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _above(floor: float, height: float) -> float:
    """Height 0 is the floor, height 1 the peak."""
    return floor + (1 - floor) * height
