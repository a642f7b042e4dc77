"""What kinds of study answer beyond which arm is best: records."""

import itertools
import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Holds = Literal["best", "tie", "open", "worse"]

ROUNDING = 1e-12
"""Of values that were read in another coordinate and back, of the largest."""


class Finding(BaseModel):
    """What every record of a judgement is. Frozen; infinities allowed (a diverged run), NaN never."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Covered(Finding):
    """How far a search has looked along one setting."""

    setting: str
    low: float
    high: float
    num_values: int
    decades: float | None
    """log10(high / low); None where an end is not positive."""


class ValleyPoint(Finding):
    """One value of the axis, as the fitted valley has it."""

    value: float
    expected: float
    """Of the metric, at the level of these runs' seeds."""
    excess: float
    """What the value costs at worst over the best one, at the level of the valley."""


class ValleyModel(Finding):
    """One of the curves that were fitted."""

    model: str
    fit: float
    """How likely its lack of fit is, from repeats; 1 where there are none."""
    kept: bool
    """Whether the repeats do not reject it; or they reject all."""


class Valley(Finding):
    """The runs about the best value of an axis, read as one smooth valley: see `blueberry.stats.optimum`."""

    setting: str
    curve: tuple[ValleyPoint, ...]
    """Ascending, from one end of the window that was read to the other."""
    interval: tuple[float, float]
    """Holds the optimum at `level`, if the curve is one smooth valley."""
    is_open: tuple[bool, bool]
    """Whether the interval reaches the lower and upper end of the window, so that it may go on beyond."""
    level: float
    models: tuple[ValleyModel, ...]
    sd: float
    """Of one run around the curve, without what seeds do to all runs alike."""
    df: int

    @property
    def window(self) -> tuple[float, float]:
        return self.curve[0].value, self.curve[-1].value

    def at(self, value: float) -> ValleyPoint | None:
        """On the line between the points beside it; None outside the window, of which the ends are rounded."""
        low, high = self.window
        rounding = ROUNDING * max(abs(low), abs(high))
        if not low - rounding <= value <= high + rounding:
            return None
        value = min(max(value, low), high)
        for left, right in itertools.pairwise(self.curve):
            if left.value <= value <= right.value:
                share = (value - left.value) / (right.value - left.value)
                return ValleyPoint(
                    value=value,
                    expected=left.expected + share * (right.expected - left.expected),
                    excess=left.excess + share * (right.excess - left.excess),
                )
        return None


class Located(Finding):
    """How a search along one axis ended."""

    ended: Literal["located", "runs", "seeds", "cliff", "two valleys", "no valley"]
    """Within min_effect; or the runs or seeds it may use were spent; or the runs are not one smooth valley."""
    value: float | None
    """What it recommends; None where the runs are not one smooth valley."""
    excess: float | None
    """What that costs at worst over the best of the range, at level 1 - alpha, if the curve is one smooth valley."""
    runs: int
    seeds: int

    @property
    def is_broken(self) -> bool:
        """Whether the runs are not one smooth valley, so that they are judged as they are."""
        return self.value is None


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
    """The largest condition, predicted from the others."""

    condition: str
    predicted: float
    interval: tuple[float, float]
    """Of a measurement there."""
    measured: float
    holds: bool
    """The measured value lies in the interval."""


class Power(Finding):
    """How something moves with one size, the other sizes held where they are."""

    by: str
    """The setting of the conditions."""
    exponent: float
    interval: tuple[float, float]


class Law(Finding):
    """y = factor * x ** exponent over the conditions, with a further x ** exponent for each further size."""

    of: str
    """The varied setting whose optimum it describes, or the metric."""
    powers: tuple[Power, ...]
    """One a setting of the conditions, in their order."""
    factor: float
    level: float
    n: int
    """Conditions that it was fitted to."""
    held_out: HeldOut | None
    """The law fitted without the largest condition, checked there; None where the others are too few for a law."""

    def at(self, sizes: Mapping[str, Any]) -> float:
        """What it says for these values of the conditions' settings."""
        return self.factor * math.prod(float(sizes[power.by]) ** power.exponent for power in self.powers)


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
    """By Holm's method over all effects of the study; of single runs by Bonferroni's."""
    is_tie: bool = False
    """Shown to be 0 within min_effect: its interval at level 1 - 2 alpha lies in there; not where it is told from 0."""
    aliases: tuple[str, ...]
    """Effects that these arms cannot tell from it, as "a*b": what was estimated is their sum."""


class Pooled(Finding):
    """Where every arm of a factorial was run once: what its main effects are told from 0 by. Assumes that the
    interactions are 0; a real one widens the intervals."""

    interactions: tuple[str, ...]
    """Of two changes, as "a*b"; those of more are noise too."""
    df: int
    """All of them: degrees of freedom."""
    sd: float
    """Of one run, by them."""
    stands_out: str | None
    """The one that is far larger than the rest (Cochran's test at alpha), so that it may be real."""


class Stack(Finding):
    """All changes at once against the baseline, beside the sum of what each does alone."""

    arm: str
    difference: float
    interval: tuple[float, float]
    n: int
    sum_of_singles: float
    sum_interval: tuple[float, float]


class Conservative(Finding):
    """The lowest value of the axis that is not worse than the best by min_effect, without a failed or missing run."""

    arm: str
    value: float
    difference: float | None
    """Its metric minus the best's; None where it is the best itself."""
    interval: tuple[float, float] | None
    """At level 1 - 2 alpha, of a race 1 - 2 alpha / looks: its end on the worse side is within min_effect."""
    n: int
    """Paired seeds."""
    num_runs: int
    """None of them failed."""
    bound: float
    """The probability of failing is at most this: exact, one-sided, level 1 - alpha."""


class Fast(Finding):
    """The value that reaches the target before all others, within its own schedule. A description, not a test."""

    arm: str
    value: float
    target: float
    """The worst final mean of the arms that may be the best."""
    updates: float
    """To the target: the median over the seeds, a miss being infinite."""
    next_updates: float
    """Of the second."""
    n: int
    """Seeds."""


class AxisAnswer(Finding):
    """What the runs say of values along one numeric setting, with the evidence."""

    conservative: Conservative | None = None
    fast: Fast | None = None


class Cleared(Finding):
    """Whether, and from where on, the mean over an arm's runs is shown to clear a target that was fixed beforehand."""

    arm: str
    is_shown: bool
    """By three runs or more, none of which diverged: one-sided, at alpha."""
    updates: float | None
    """From which evaluation on; None where it is not shown, or nothing but the ends of runs is known."""
    mean: float | None
    """Of the metric, there."""
    p: float | None
    """One-sided, there."""
    n: int
    """Runs."""
    times: tuple[float, ...] = ()
    """Each run's own first evaluation at the target; infinite where it has none. Empty where no run was evaluated."""


class Failures(Finding):
    """An arm of which a run failed: diverged, or ended above the loss of guessing uniformly."""

    arm: str
    failures: int
    n: int
    """Its runs, confirming ones included."""
    bound: float
    """The probability of failing is at least this: exact, one-sided, level 1 - alpha."""


class Failing(Finding):
    """One value of the axis, and what its runs say of the probability of failing there."""

    value: float
    failures: int
    n: int
    bound: float
    """One-sided, at level 1 - alpha: at most so much where nothing failed, at least so much where something did."""


class Robustness(Finding):
    """What missing the best value costs, and where runs fail. Describes the means; the verdicts decide."""

    band: tuple[float, float] | None
    """Values around the best whose interpolated mean exceeds the least by min_effect at most."""
    band_factor: float | None
    """Its upper end over its lower."""
    band_is_bounded: tuple[bool, bool] | None
    """Whether the loss was seen to rise beyond that, below and above; else the band goes on outside the range."""
    excess: float | None
    """Expected excess metric of a value drawn log-uniformly from `span` times below to `span` times above the best.
    None where the range does not reach so far."""
    excess_interval: tuple[float, float] | None
    span: float
    stable_to: Failing | None
    """Largest value below which, itself included, no run failed."""
    unstable_from: Failing | None
    """Smallest value with a failure."""


class Gain(Finding):
    """Of an arm against the baseline at one length. Above 1 favours the arm; one of three statements is there."""

    arm: str
    condition: str
    loss_gain: float | None
    """Work that the baseline needs for the arm's loss, over the arm's work."""
    more_than: float | None
    """Instead, where even the baseline's longest run stays above the arm's loss."""
    less_than: float | None
    """Instead, where the baseline's shortest run is below it already."""
    throughput_gain: float | None
    """The arm's work per FLOP over the baseline's."""
    factor: float | None
    """Effective speedup: the product."""
