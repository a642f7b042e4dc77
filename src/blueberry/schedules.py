"""Learning-rate schedules: of each kind the settings that it reads, and the formula beside them.

A schedule is a pure function from an update's number, from 0, to a multiplier of the peak rate. Two rules hold for
every one unless its settings say otherwise outright: the first update never has rate 0 (but for `first_update_zero`),
and a schedule that comes down is at its floor at the run's last update (but for `horizon_updates`).
All settings may differ between lanes. Fractions of time are of the horizon: the run's length, unless
`horizon_updates` says another.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from blueberry.records import RateCut
from blueberry.settings import Section, setting

DEFAULT_WARMUP_FRACTION = 0.1

Seen = Sequence[tuple[int, float]]
"""Evaluations so far: updates done, and the validation loss in nats."""


class Warmup(Section, ABC):
    """What all kinds share: the rise to the peak. What follows it, the kind decides."""

    kind: Any
    warmup_fraction: float | None = setting(
        DEFAULT_WARMUP_FRACTION,
        "of the horizon, rising to the peak; give this or warmup_updates",
        per_lane=True,
        ge=0,
        lt=1,
    )
    warmup_updates: int | None = setting(
        None, "updates rising to the peak, which the last of them has", unit="updates", per_lane=True, ge=0
    )
    warmup_shape: Literal["linear", "exponential"] = setting(
        "linear", "of the rise: equal steps, or equal factors", per_lane=True
    )
    warmup_from_fraction: float | None = setting(
        None,
        "of the peak, the first update's rate; not given: 1 / updates of warmup, so that every step is equal",
        per_lane=True,
        ge=0,
        le=1,
    )
    first_update_zero: bool = setting(
        False, "said beside warmup_from_fraction = 0: the first update is meant to change nothing", per_lane=True
    )

    @abstractmethod
    def after_warmup(self, update: int, horizon: int) -> float:
        """The multiplier at an update after the warmup, from the peak to `horizon` - 1."""

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, given: Any) -> Any:
        """warmup_updates stands in for the default warmup_fraction; without either, that default holds."""
        if not isinstance(given, dict) or given.get("warmup_fraction") is not None:
            return given
        in_updates = given.get("warmup_updates") is not None
        return {**given, "warmup_fraction": None if in_updates else DEFAULT_WARMUP_FRACTION}

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_fraction is not None and self.warmup_updates is not None:
            raise ValueError(
                f"warmup_updates: {self.warmup_updates}; warmup_fraction = {self.warmup_fraction} is given too; "
                "give one of them"
            )
        if self.warmup_from_fraction == 0 and not self.first_update_zero:
            raise ValueError(
                "warmup_from_fraction: 0; the first update would change nothing; "
                "give a larger one, or say first_update_zero = true if that is meant"
            )
        if self.first_update_zero and self.warmup_from_fraction != 0:
            raise ValueError(
                "first_update_zero: True; the first update's rate is 0 only with warmup_from_fraction = 0; "
                "give that too, or leave this out"
            )
        if self.first_update_zero and self.warmup_shape == "exponential":
            raise ValueError(
                "warmup_shape: 'exponential'; no factor leads up from a rate of 0; "
                "take linear, or a warmup_from_fraction above 0"
            )
        return self


class Fall(Warmup, ABC):
    """What the kinds share that come down to a floor."""

    floor_fraction: float = setting(0.1, "of the peak rate, reached at the last update", per_lane=True, ge=0, le=1)
    horizon_updates: int | None = setting(
        None,
        "updates the schedule is laid out for; a shorter run stops on the way, a longer one stays at the floor; "
        "not given: the run's length",
        unit="updates",
        per_lane=True,
        ge=2,
    )


_FLOOR_ABOVE_0 = setting(0.1, "of the peak rate, reached at the last update", per_lane=True, gt=0, le=1)


class ConstantSchedule(Warmup):
    """Warmup, then the peak rate to the end."""

    kind: Literal["constant"] = "constant"

    def after_warmup(self, update: int, horizon: int) -> float:
        return 1.0


class LinearSchedule(Fall):
    """Warmup, then a straight line down to the floor."""

    kind: Literal["linear"] = "linear"

    def after_warmup(self, update: int, horizon: int) -> float:
        return _above(self.floor_fraction, 1 - _progress(self, update, horizon))


class CosineSchedule(Fall):
    """Warmup, then half a cosine down to the floor (Loshchilov & Hutter 2017, without restarts)."""

    kind: Literal["cosine"] = "cosine"

    def after_warmup(self, update: int, horizon: int) -> float:
        return _above(self.floor_fraction, _half_cosine(_progress(self, update, horizon)))


class CosineRestartsSchedule(Fall):
    """Warmup, then equally long half cosines, each from the peak towards the floor (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine-restarts"] = "cosine-restarts"
    num_cycles: int = setting(2, "half cosines; 1 is the cosine schedule", unit="cycles", per_lane=True, ge=1)

    def after_warmup(self, update: int, horizon: int) -> float:
        over, rest = _after_peak(self, update, horizon)
        if over == rest:  # the end of the last cycle, not the start of another
            return self.floor_fraction
        within = over * self.num_cycles % rest / rest
        return _above(self.floor_fraction, _half_cosine(within))


class WarmupStableDecaySchedule(Fall):
    """Warmup, the peak rate, then down to the floor (Hu et al. 2024; 1-sqrt: Hägele et al. 2024)."""

    kind: Literal["warmup-stable-decay"] = "warmup-stable-decay"
    decay_fraction: float = setting(0.2, "of the horizon, at its end, falling to the floor", per_lane=True, gt=0, le=1)
    decay_shape: Literal["linear", "cosine", "1-sqrt"] = setting(
        "linear", "of the fall: a line, half a cosine, or 1 - sqrt(share of the decay that is over)", per_lane=True
    )

    def after_warmup(self, update: int, horizon: int) -> float:
        _, rest = _after_peak(self, update, horizon)
        left = min((horizon - 1 - update) / min(self.num_decay(horizon), max(rest, 1)), 1.0)
        match self.decay_shape:
            case "linear":
                height = left
            case "cosine":
                height = _half_cosine(1 - left)
            case "1-sqrt":
                height = 1 - math.sqrt(1 - left)
        return _above(self.floor_fraction, height)

    def num_decay(self, horizon: int) -> int:
        """Updates of the decay."""
        return max(round(self.decay_fraction * horizon), 1)

    @model_validator(mode="after")
    def _decay_fits(self) -> Self:
        if self.warmup_fraction is not None and self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                f"decay_fraction: {self.decay_fraction}; with warmup_fraction = {self.warmup_fraction} "
                "it passes the whole run; their sum may be at most 1"
            )
        return self


class InverseSquareRootSchedule(Fall):
    """Warmup, then the peak over sqrt(1 + t / scale), the scale being the one that ends at the floor.

    Source: Vaswani et al. 2017, whose scale is the warmup: a floor of sqrt(warmup / horizon).
    """

    kind: Literal["inverse-square-root"] = "inverse-square-root"
    floor_fraction: float = _FLOOR_ABOVE_0

    def after_warmup(self, update: int, horizon: int) -> float:
        return 1 / math.sqrt(1 + _progress(self, update, horizon) * (self.floor_fraction**-2 - 1))


class PolynomialSchedule(Fall):
    """Warmup, then (1 - share of the rest that is over)^power down to the floor."""

    kind: Literal["polynomial"] = "polynomial"
    power: float = setting(2.0, "exponent of the fall; 1 is the linear schedule", per_lane=True, gt=0, le=100)

    def after_warmup(self, update: int, horizon: int) -> float:
        return _above(self.floor_fraction, (1 - _progress(self, update, horizon)) ** self.power)


class ExponentialSchedule(Fall):
    """Warmup, then smaller by one factor at every update, down to the floor."""

    kind: Literal["exponential"] = "exponential"
    floor_fraction: float = _FLOOR_ABOVE_0

    def after_warmup(self, update: int, horizon: int) -> float:
        return self.floor_fraction ** _progress(self, update, horizon)


class StepSchedule(Fall):
    """Warmup, then equally long stretches of one rate, each smaller by one factor; the last is at the floor."""

    kind: Literal["step"] = "step"
    floor_fraction: float = _FLOOR_ABOVE_0
    num_drops: int = setting(2, "times the rate falls", unit="drops", per_lane=True, ge=1)

    def after_warmup(self, update: int, horizon: int) -> float:
        over, rest = _after_peak(self, update, horizon)
        drops = over * (self.num_drops + 1) // (rest + 1)
        return self.floor_fraction ** (drops / self.num_drops)


class PlateauSchedule(Warmup):
    """Warmup, then the peak rate, cut whenever the validation loss stops falling. What it cut is in the result."""

    kind: Literal["plateau"] = "plateau"
    floor_fraction: float = setting(0.01, "of the peak rate, below which no cut leads", per_lane=True, ge=0, le=1)
    factor: float = setting(0.5, "the rate after a cut over the rate before it", per_lane=True, gt=0, lt=1)
    patience_evaluations: int = setting(
        2, "in a row without improvement that make a cut", unit="evaluations", per_lane=True, ge=1
    )
    min_improvement_nats: float = setting(
        0.0, "by which a validation loss must pass the best before it to count as better", unit="nats",
        per_lane=True, ge=0,
    )  # fmt: skip

    def after_warmup(self, update: int, horizon: int) -> float:
        return 1.0


AnySchedule = (
    ConstantSchedule
    | LinearSchedule
    | CosineSchedule
    | CosineRestartsSchedule
    | WarmupStableDecaySchedule
    | InverseSquareRootSchedule
    | PolynomialSchedule
    | ExponentialSchedule
    | StepSchedule
    | PlateauSchedule
)
Schedule = Annotated[AnySchedule, Field(discriminator="kind")]


def multipliers(schedule: AnySchedule, num_updates: int, seen: Seen = ()) -> list[float]:
    """The multiplier of the peak rate at each update of a run, first to last.

    Only a plateau schedule looks at the evaluations; without any it never cuts.
    """
    asked: Any = schedule  # frozen, so it has a hash, of which its type says nothing
    uncut = _shared(asked, num_updates) if num_updates <= LONGEST_SHARED else _uncut(schedule, num_updates)
    made = list(uncut)
    for cut in rate_cuts(schedule, seen):
        for update in range(cut.update, num_updates):
            made[update] = uncut[update] * cut.multiplier
    return made


def _uncut(schedule: AnySchedule, num_updates: int) -> tuple[float, ...]:
    return tuple(multiplier(schedule, update, num_updates) for update in range(num_updates))


@lru_cache(maxsize=64)  # the runs of a study share a few schedules, and each is asked for its rates several times
def _shared(schedule: AnySchedule, num_updates: int) -> tuple[float, ...]:
    return _uncut(schedule, num_updates)


LONGEST_SHARED = 20_000
"""Updates. Longer runs' multipliers are not kept: at 32 bytes an update they fill the memory."""


def sketch(schedule: AnySchedule, num_updates: int, most: int = LONGEST_SHARED) -> list[float]:
    """The multipliers at about `most` updates evenly spaced, first, peak and last too; at all if there are fewer.

    For what looks at a whole schedule without training by it: a run may have ten million updates.
    """
    if num_updates <= most:
        return multipliers(schedule, num_updates)
    peak = min(max(num_warmup(schedule, horizon_updates(schedule, num_updates)) - 1, 0), num_updates - 1)
    looked_at = {*range(0, num_updates, -(-num_updates // most)), peak, num_updates - 1}
    return [multiplier(schedule, update, num_updates) for update in sorted(looked_at)]


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
    return schedule.after_warmup(min(update, horizon - 1), horizon)


def horizon_updates(schedule: AnySchedule, num_updates: int) -> int:
    """The updates a schedule is laid out for: the run's length, unless it names another."""
    given = schedule.horizon_updates if isinstance(schedule, Fall) else None
    return num_updates if given is None else given


def num_warmup(schedule: Warmup, horizon: int) -> int:
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
        case WarmupStableDecaySchedule() if schedule.warmup_updates is not None and schedule.num_decay(horizon) > rest:
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


def _warmup(schedule: Warmup, update: int, horizon: int) -> float:
    num = num_warmup(schedule, horizon)
    start = 1 / num if schedule.warmup_from_fraction is None else schedule.warmup_from_fraction
    share = update / (num - 1) if num > 1 else 1.0
    if schedule.warmup_shape == "exponential":
        return start ** (1 - share)
    return start + (1 - start) * share


def _after_peak(schedule: Warmup, update: int, horizon: int) -> tuple[int, int]:
    """Updates since the first at the peak, and from there to the last."""
    peak = max(num_warmup(schedule, horizon) - 1, 0)
    return update - peak, horizon - 1 - peak


def _progress(schedule: Warmup, update: int, horizon: int) -> float:
    """From 0 at the peak to 1 at the last update."""
    over, rest = _after_peak(schedule, update, horizon)
    return over / rest if rest else 0.0


def _half_cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _above(floor: float, height: float) -> float:
    """Height 0 is the floor, height 1 the peak."""
    return floor + (1 - floor) * height
