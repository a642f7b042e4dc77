"""What kinds of study answer beyond which arm is best: records."""

from typing import Any, Literal

from blueberry.judge.finding import Finding

Holds = Literal["best", "tie", "open", "worse"]


class Covered(Finding):
    """How far a search has looked along one setting."""

    setting: str
    low: float
    high: float
    num_values: int
    decades: float | None
    """log10(high / low); None where an end is not positive."""


class Condition(Finding):
    """What is best under one condition of [across], and how the first condition's best does there."""

    condition: str
    settings: dict[str, Any]
    best: str | None
    """The arm of least mean; None when none is finite."""
    best_value: float | None
    """Of the one varied setting, where it is a number."""
    optimum: tuple[float, float] | None
    """Interval; None where it could not be located."""
    carried: str | None
    """The first condition's best arm. The rest is what that one does here."""
    difference: float | None
    """Its metric minus the best's; 0 where it is the best, infinite where it diverged."""
    interval: tuple[float, float] | None
    n: int
    """Paired seeds."""
    holds: Holds | None
    """best or shown to equal it within min_effect; not told apart; shown to be worse. None if it did not run."""


class HeldOut(Finding):
    """The last condition, predicted from the others."""

    condition: str
    predicted: float
    interval: tuple[float, float]
    """Of a measurement there."""
    measured: float
    holds: bool
    """The measured value lies in the interval."""


class Law(Finding):
    """y = factor * x ** exponent over the conditions."""

    of: str
    """The varied setting whose optimum it describes, or the metric."""
    by: str
    """The setting of the conditions."""
    exponent: float
    interval: tuple[float, float]
    factor: float
    level: float
    n: int
    """Conditions that it was fitted to."""
    held_out: HeldOut | None
    """The law fitted without the largest condition, checked there; None below four conditions."""


class Effect(Finding):
    """What a change does, or two do together beyond the sum of what each does.

    Averaged over the settings of the other changes where those vary too.
    """

    changes: tuple[str, ...]
    """One: a main effect. Two: their interaction."""
    difference: float | None
    """In the metric: below 0 lowers it. None when a run that it needs diverged or is missing."""
    interval: tuple[float, float] | None
    n: int
    is_significant: bool
    """By Holm's method over all effects of the study."""
    aliases: tuple[str, ...]
    """Effects that these arms cannot tell from it, as "a*b": what was estimated is their sum."""


class Stack(Finding):
    """All changes at once against the baseline, beside the sum of what each does alone."""

    arm: str
    difference: float
    interval: tuple[float, float]
    n: int
    sum_of_singles: float
    sum_interval: tuple[float, float]
