"""The schedules a recipe can name, each with only the settings it reads. `schedules.py` computes them.

All of them may differ between lanes. Fractions of time are of the horizon: the run's length, unless
`horizon_updates` says another.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from blueberry.settings import Section, setting

DEFAULT_WARMUP_FRACTION = 0.1

_WARMUP = setting(
    DEFAULT_WARMUP_FRACTION,
    "of the horizon, rising to the peak; give this or warmup_updates",
    per_lane=True,
    ge=0,
    lt=1,
)
_WARMUP_UPDATES = setting(
    None, "updates rising to the peak, which the last of them has", unit="updates", per_lane=True, ge=0
)
_WARMUP_SHAPE = setting("linear", "of the rise: equal steps, or equal factors", per_lane=True)
_WARMUP_FROM = setting(
    None,
    "of the peak, the first update's rate; not given: 1 / updates of warmup, so that every step is equal",
    per_lane=True,
    ge=0,
    le=1,
)
_FIRST_ZERO = setting(
    False, "said beside warmup_from_fraction = 0: the first update is meant to change nothing", per_lane=True
)
_FLOOR = setting(0.1, "of the peak rate, reached at the last update", per_lane=True, ge=0, le=1)
_FLOOR_ABOVE_0 = setting(0.1, "of the peak rate, reached at the last update", per_lane=True, gt=0, le=1)
_HORIZON = setting(
    None,
    "updates the schedule is laid out for; a shorter run stops on the way, a longer one stays at the floor; "
    "not given: the run's length",
    unit="updates",
    per_lane=True,
    ge=2,
)

WarmupShape = Literal["linear", "exponential"]


def _one_warmup(cls: type[Section], given: Any) -> Any:
    """warmup_updates stands in for the default warmup_fraction; without either, that default holds."""
    if not isinstance(given, dict) or given.get("warmup_fraction") is not None:
        return given
    if given.get("warmup_updates") is not None:
        return {**given, "warmup_fraction": None}
    return {**given, "warmup_fraction": DEFAULT_WARMUP_FRACTION}


def _warmup_fits(self: Any) -> Any:
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


class ConstantSchedule(Section):
    """Warmup, then the peak rate to the end."""

    kind: Literal["constant"] = "constant"
    warmup_fraction: float | None = _WARMUP
    warmup_updates: int | None = _WARMUP_UPDATES
    warmup_shape: WarmupShape = _WARMUP_SHAPE
    warmup_from_fraction: float | None = _WARMUP_FROM
    first_update_zero: bool = _FIRST_ZERO

    _one = model_validator(mode="before")(_one_warmup)
    _fits = model_validator(mode="after")(_warmup_fits)


class LinearSchedule(Section):
    """Warmup, then a straight line down to the floor."""

    kind: Literal["linear"] = "linear"
    warmup_fraction: float | None = _WARMUP
    warmup_updates: int | None = _WARMUP_UPDATES
    warmup_shape: WarmupShape = _WARMUP_SHAPE
    warmup_from_fraction: float | None = _WARMUP_FROM
    first_update_zero: bool = _FIRST_ZERO
    floor_fraction: float = _FLOOR
    horizon_updates: int | None = _HORIZON

    _one = model_validator(mode="before")(_one_warmup)
    _fits = model_validator(mode="after")(_warmup_fits)


class CosineSchedule(Section):
    """Warmup, then half a cosine down to the floor (Loshchilov & Hutter 2017, without restarts)."""

    kind: Literal["cosine"] = "cosine"
    warmup_fraction: float | None = _WARMUP
    warmup_updates: int | None = _WARMUP_UPDATES
    warmup_shape: WarmupShape = _WARMUP_SHAPE
    warmup_from_fraction: float | None = _WARMUP_FROM
    first_update_zero: bool = _FIRST_ZERO
    floor_fraction: float = _FLOOR
    horizon_updates: int | None = _HORIZON

    _one = model_validator(mode="before")(_one_warmup)
    _fits = model_validator(mode="after")(_warmup_fits)


class CosineRestartsSchedule(Section):
    """Warmup, then equally long half cosines, each from the peak towards the floor (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine-restarts"] = "cosine-restarts"
    warmup_fraction: float | None = _WARMUP
    warmup_updates: int | None = _WARMUP_UPDATES
    warmup_shape: WarmupShape = _WARMUP_SHAPE
    warmup_from_fraction: float | None = _WARMUP_FROM
    first_update_zero: bool = _FIRST_ZERO
    floor_fraction: float = _FLOOR
    horizon_updates: int | None = _HORIZON
    num_cycles: int = setting(2, "half cosines; 1 is the cosine schedule", unit="cycles", per_lane=True, ge=1)

    _one = model_validator(mode="before")(_one_warmup)
    _fits = model_validator(mode="after")(_warmup_fits)


class WarmupStableDecaySchedule(Section):
    """Warmup, the peak rate, then down to the floor (Hu et al. 2024; 1-sqrt: Hägele et al. 2024)."""

    kind: Literal["warmup-stable-decay"] = "warmup-stable-decay"
    warmup_fraction: float | None = _WARMUP
    warmup_updates: int | None = _WARMUP_UPDATES
    warmup_shape: WarmupShape = _WARMUP_SHAPE
    warmup_from_fraction: float | None = _WARMUP_FROM
    first_update_zero: bool = _FIRST_ZERO
    floor_fraction: float = _FLOOR
    horizon_updates: int | None = _HORIZON
    decay_fraction: float = setting(0.2, "of the horizon, at its end, falling to the floor", per_lane=True, gt=0, le=1)
    decay_shape: Literal["linear", "cosine", "1-sqrt"] = setting(
        "linear", "of the fall: a line, half a cosine, or 1 - sqrt(share of the decay that is over)", per_lane=True
    )

    _one = model_validator(mode="before")(_one_warmup)
    _fits = model_validator(mode="after")(_warmup_fits)

    @model_validator(mode="after")
    def _decay_fits(self) -> Self:
        if self.warmup_fraction is not None and self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                f"decay_fraction: {self.decay_fraction}; with warmup_fraction = {self.warmup_fraction} "
                "it passes the whole run; their sum may be at most 1"
            )
        return self


class InverseSquareRootSchedule(Section):
    """Warmup, then the peak over sqrt(1 + t / scale), the scale being the one that ends at the floor.

    Source: Vaswani et al. 2017, whose scale is the warmup: a floor of sqrt(warmup / horizon).
    """

    kind: Literal["inverse-square-root"] = "inverse-square-root"
    warmup_fraction: float | None = _WARMUP
    warmup_updates: int | None = _WARMUP_UPDATES
    warmup_shape: WarmupShape = _WARMUP_SHAPE
    warmup_from_fraction: float | None = _WARMUP_FROM
    first_update_zero: bool = _FIRST_ZERO
    floor_fraction: float = _FLOOR_ABOVE_0
    horizon_updates: int | None = _HORIZON

    _one = model_validator(mode="before")(_one_warmup)
    _fits = model_validator(mode="after")(_warmup_fits)


class PolynomialSchedule(Section):
    """Warmup, then (1 - share of the rest that is over)^power down to the floor."""

    kind: Literal["polynomial"] = "polynomial"
    warmup_fraction: float | None = _WARMUP
    warmup_updates: int | None = _WARMUP_UPDATES
    warmup_shape: WarmupShape = _WARMUP_SHAPE
    warmup_from_fraction: float | None = _WARMUP_FROM
    first_update_zero: bool = _FIRST_ZERO
    floor_fraction: float = _FLOOR
    horizon_updates: int | None = _HORIZON
    power: float = setting(2.0, "exponent of the fall; 1 is the linear schedule", per_lane=True, gt=0, le=100)

    _one = model_validator(mode="before")(_one_warmup)
    _fits = model_validator(mode="after")(_warmup_fits)


class ExponentialSchedule(Section):
    """Warmup, then smaller by one factor at every update, down to the floor."""

    kind: Literal["exponential"] = "exponential"
    warmup_fraction: float | None = _WARMUP
    warmup_updates: int | None = _WARMUP_UPDATES
    warmup_shape: WarmupShape = _WARMUP_SHAPE
    warmup_from_fraction: float | None = _WARMUP_FROM
    first_update_zero: bool = _FIRST_ZERO
    floor_fraction: float = _FLOOR_ABOVE_0
    horizon_updates: int | None = _HORIZON

    _one = model_validator(mode="before")(_one_warmup)
    _fits = model_validator(mode="after")(_warmup_fits)


class StepSchedule(Section):
    """Warmup, then equally long stretches of one rate, each smaller by one factor; the last is at the floor."""

    kind: Literal["step"] = "step"
    warmup_fraction: float | None = _WARMUP
    warmup_updates: int | None = _WARMUP_UPDATES
    warmup_shape: WarmupShape = _WARMUP_SHAPE
    warmup_from_fraction: float | None = _WARMUP_FROM
    first_update_zero: bool = _FIRST_ZERO
    floor_fraction: float = _FLOOR_ABOVE_0
    horizon_updates: int | None = _HORIZON
    num_drops: int = setting(2, "times the rate falls", unit="drops", per_lane=True, ge=1)

    _one = model_validator(mode="before")(_one_warmup)
    _fits = model_validator(mode="after")(_warmup_fits)


class PlateauSchedule(Section):
    """Warmup, then the peak rate, cut whenever the validation loss stops falling. What it cut is in the result."""

    kind: Literal["plateau"] = "plateau"
    warmup_fraction: float | None = _WARMUP
    warmup_updates: int | None = _WARMUP_UPDATES
    warmup_shape: WarmupShape = _WARMUP_SHAPE
    warmup_from_fraction: float | None = _WARMUP_FROM
    first_update_zero: bool = _FIRST_ZERO
    floor_fraction: float = setting(0.01, "of the peak rate, below which no cut leads", per_lane=True, ge=0, le=1)
    factor: float = setting(0.5, "the rate after a cut over the rate before it", per_lane=True, gt=0, lt=1)
    patience_evaluations: int = setting(
        2, "in a row without improvement that make a cut", unit="evaluations", per_lane=True, ge=1
    )
    min_improvement_nats: float = setting(
        0.0, "by which a validation loss must pass the best before it to count as better", unit="nats",
        per_lane=True, ge=0,
    )  # fmt: skip

    _one = model_validator(mode="before")(_one_warmup)
    _fits = model_validator(mode="after")(_warmup_fits)


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
