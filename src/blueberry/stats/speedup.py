"""How much cheaper an arm reaches its loss than the baseline would."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log


@dataclass(frozen=True)
class Speedup:
    """Factors above 1 favour the arm. Of three statements about one factor, exactly one is there."""

    loss_gain: float | None
    """Work (updates or tokens) that the baseline needs for the arm's loss, over the arm's work."""
    more_than: float | None
    """Instead of `loss_gain` where even the baseline's longest run stays above the arm's loss."""
    less_than: float | None
    """Instead of `loss_gain` where the baseline's shortest run is below it already."""
    throughput_gain: float | None
    """The arm's work per unit of compute (second or FLOP) over the baseline's; None where it was not measured."""

    @property
    def factor(self) -> float | None:
        """Effective speedup: compute of the baseline over the arm's for one loss. None where either part is."""
        if self.loss_gain is None or self.throughput_gain is None:
            return None
        return self.loss_gain * self.throughput_gain

    @property
    def factor_more_than(self) -> float | None:
        """What the effective speedup exceeds, where the baseline never reaches the arm's loss."""
        if self.more_than is None or self.throughput_gain is None:
            return None
        return self.more_than * self.throughput_gain


def effective_speedup(
    baseline: Sequence[tuple[float, float]],
    arm: tuple[float, float],
    *,
    baseline_throughput: float | None = None,
    arm_throughput: float | None = None,
) -> Speedup:
    """Read off the baseline's curve the work that reaches the arm's loss.

    `baseline` are (work, final loss) of *complete* schedules of several lengths, `arm` one such point: the
    middle of a longer schedule is no end of a shorter one. Between two lengths log work is linear in
    the loss, and beyond them nothing is extrapolated. Where a longer run of the baseline ended higher than a shorter
    one, the shorter counts. Throughputs are work per second (or per FLOP).
    """
    assert baseline
    assert (baseline_throughput is None) == (arm_throughput is None)
    ratio = None
    if arm_throughput is not None and baseline_throughput is not None:
        ratio = arm_throughput / baseline_throughput
    curve: list[tuple[float, float]] = []
    for work, loss in sorted(baseline):
        if not curve or loss < curve[-1][1]:
            curve.append((work, loss))
    work, loss = arm
    if loss > curve[0][1]:
        return Speedup(None, None, curve[0][0] / work, ratio)
    if loss < curve[-1][1]:
        return Speedup(None, max(point[0] for point in baseline) / work, None, ratio)
    needed = curve[0][0]
    for (w0, l0), (w1, l1) in pairwise(curve):
        if l1 <= loss <= l0:
            needed = exp(log(w0) + (l0 - loss) / (l0 - l1) * (log(w1) - log(w0)))
            break
    return Speedup(needed / work, None, None, ratio)
