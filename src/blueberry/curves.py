"""What can be told from a run's curves while it is still going on: rules that the trainer and the judge share.

Each looks back only, so that what is warned of during a run is what is found after it. Losses are in nats.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

SPIKE_WINDOW_UPDATES = 32
"""Whose median and spread a spike is measured against: those just before it."""
SPIKE_SD = 8.0
"""A spike stands this many robust standard deviations above that median,"""
LEAST_LOSS_SPIKE_NATS = 0.1
"""and in the loss this much,"""
LEAST_NORM_SPIKE_FACTOR = 5.0
"""in the gradient's norm, which is judged by its logarithm, this many times: clean runs reach 4."""
MAD_TO_SD = 1.4826
"""Of a Gaussian."""
USED_FRACTION = 0.5
"""Experts count as collapsed when their effective number is below this fraction of them."""
DEAD_SHARE = 0.01
"""An expert that receives less than this fraction of an even share is dead."""
DEAD_FRACTION = 0.25
"""Experts also count as collapsed when at least this fraction of a layer's is dead."""
RISING_EVALUATIONS = 4
"""In a row, each above the one before, for a warning of overfitting during a run:"""
LEAST_RISE_NATS = 0.02
"""by this much in all, while the training loss fell."""
WORSE_THAN_START_NATS = 0.5
LATEST_UPDATES = 16
"""Whose median training loss is compared with the first update's."""


@dataclass(frozen=True)
class Level:
    """Where a curve was just before an update."""

    median: float
    sd: float
    """Robust: 1.4826 times the median absolute deviation."""


def level(before: Sequence[float]) -> Level:
    """Of the values before an update; not empty."""
    middle = median(before)
    return Level(middle, MAD_TO_SD * median([abs(value - middle) for value in before]))


def is_spike(value: float, before: Level, least: float) -> bool:
    """`value` and `before` in one unit, in which a spike is at least `least` high."""
    height = value - before.median
    return height >= least and height >= SPIKE_SD * before.sd


def effective_experts(load_entropy_nats: float) -> float:
    """How many evenly used experts would share tokens as these do: the exponential of the entropy of their loads."""
    return math.exp(load_entropy_nats)


def has_collapsed(load_entropy_nats: float, num_experts: int, num_dead: int = 0) -> bool:
    """Whether a layer leaves most of its experts unused."""
    too_few = effective_experts(load_entropy_nats) < USED_FRACTION * num_experts
    return too_few or num_dead >= max(1.0, DEAD_FRACTION * num_experts)


class Watch:
    """Warnings of one run, while it goes on: each kind is said once."""

    def __init__(self, num_experts: int | None) -> None:
        """`num_experts` of a layer; None without experts."""
        self.num_experts = num_experts
        self._said: set[str] = set()
        self._num_updates = self._num_evaluations = 0

    def look(
        self,
        train_loss: Sequence[float | None],
        gradient_norm: Sequence[float | None],
        evaluations: Sequence[dict[str, Any]],
    ) -> list[str]:
        """What the curves so far give reason to say and have not yet: one line each.

        All curves from the run's first update; only what came since the last look is looked at. `evaluations` are
        those of a RunResult, as plain JSON.
        """
        lines: list[str] = []
        for done in range(self._num_updates + 1, len(train_loss) + 1):
            lines += self._update(train_loss[max(0, done - SPIKE_WINDOW_UPDATES - 1) : done], train_loss[0], done)
            lines += self._norm(gradient_norm[max(0, done - SPIKE_WINDOW_UPDATES - 1) : done], done)
        for done in range(self._num_evaluations + 1, len(evaluations) + 1):
            lines += self._overfitting(evaluations[max(0, done - RISING_EVALUATIONS - 1) : done], train_loss)
            lines += self._collapse(evaluations[done - 1])
        self._num_updates, self._num_evaluations = len(train_loss), len(evaluations)
        return lines

    def _update(self, latest: Sequence[float | None], first: float | None, update: int) -> list[str]:
        losses = [loss for loss in latest if loss is not None]
        if len(losses) <= SPIKE_WINDOW_UPDATES or first is None:
            return []
        before, now = level(losses[:-1]), losses[-1]
        if is_spike(now, before, LEAST_LOSS_SPIKE_NATS):
            said = f"update {update}: the training loss jumped from about {before.median:.2f} to {now:.2f} nats"
            return self._once("loss spike", said)
        lately = median(losses[-LATEST_UPDATES:])
        if lately > first + WORSE_THAN_START_NATS:
            said = f"update {update}: the training loss, about {lately:.2f} nats, is above where it began, {first:.2f}"
            return self._once("worse than the start", f"{said}; it may be diverging")
        return []

    def _norm(self, latest: Sequence[float | None], update: int) -> list[str]:
        norms = [norm for norm in latest if norm]
        if len(norms) <= SPIKE_WINDOW_UPDATES:
            return []
        logs = [math.log(norm) for norm in norms]
        before = level(logs[:-1])
        if not is_spike(logs[-1], before, math.log(LEAST_NORM_SPIKE_FACTOR)):
            return []
        factor = math.exp(min(logs[-1] - before.median, 700))
        said = f"update {update}: the gradient's norm jumped to {factor:.3g} times what it was before"
        return self._once("norm spike", said)

    def _overfitting(self, latest: Sequence[dict[str, Any]], train_loss: Sequence[float | None]) -> list[str]:
        losses = [look["validation"]["loss"] for look in latest]
        updates = [look["update"] for look in latest]
        steps = [late - early for early, late in pairwise(losses)]
        if len(steps) < RISING_EVALUATIONS or min(steps) <= 0 or losses[-1] - losses[0] < LEAST_RISE_NATS:
            return []
        halves = _mean(train_loss[updates[0] : updates[1]]), _mean(train_loss[updates[-2] : updates[-1]])
        if None in halves or not halves[1] < halves[0]:  # pyright: ignore[reportOperatorIssue]
            return []
        said = f"the validation loss has risen since update {updates[0]}, by {losses[-1] - losses[0]:.3f} nats"
        return self._once("overfitting", f"{said}, while the training loss fell: the run overfits")

    def _collapse(self, look: dict[str, Any]) -> list[str]:
        routing = look.get("routing")
        if routing is None or self.num_experts is None:
            return []
        dead = routing.get("dead_experts") or [0] * len(routing["load_entropy_nats"])
        for layer, (entropy, num_dead) in enumerate(zip(routing["load_entropy_nats"], dead, strict=True), 1):
            if has_collapsed(entropy, self.num_experts, num_dead):
                used = f"{effective_experts(entropy):.1f} of its {self.num_experts} experts"
                said = f"update {look['update']}: layer {layer} uses {used} ({num_dead} dead)"
                return self._once("collapse", f"{said}; its routing is collapsing")
        return []

    def _once(self, kind: str, line: str) -> list[str]:
        if kind in self._said:
            return []
        self._said.add(kind)
        return [line]


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None]
    return fmean(finite) if finite else None
