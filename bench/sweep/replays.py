"""Replays of methods on surfaces: what is counted, and how it is added to what was counted before."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bench.sweep.methods import METHODS, MIN_EFFECT, Bill, Outcome
from bench.sweep.surfaces import RATES, Loss, Measured, Surface
from blueberry.judge.audits.comparisons import contradicted_by

CONFIRM = range(100, 105)
"""Fresh seeds of a located value."""


@dataclass
class Row:
    """One method on one surface, so far."""

    surface: str
    method: str
    is_valley: bool
    sd: float
    replays: int = 0
    costs: dict[str, int] = field(default_factory=dict)
    """How often it cost so many runs, to the tenth."""
    regret: float = 0.0
    """Summed, as `regret_squared`, nats: the expected loss of the rate that is chosen over the least."""
    regret_squared: float = 0.0
    within: int = 0
    """Chosen rates within min_effect of the best."""
    dropped: int | None = None
    """The best of the 26 rates given up on the way; None where none is."""
    seconds: float = 0.0
    """That the method itself took of a processor, over so many replays."""
    timed: int = 0
    claims: int = 0
    wrong: int = 0
    blocked: int = 0
    """Claims that five fresh seeds of their value contradict."""
    wrong_unblocked: int = 0
    covered: int = 0
    sure: int = 0
    """Of a budget: ends at which the value was known to be within min_effect."""
    sure_wrong: int = 0
    sure_regret: float = 0.0
    ended: dict[str, int] = field(default_factory=dict)

    @property
    def runs(self) -> float:
        return sum(float(cost) * num for cost, num in self.costs.items()) / self.replays

    @property
    def most(self) -> float:
        """Nine in ten cost no more."""
        each = np.repeat([float(cost) for cost in self.costs], list(self.costs.values()))
        return float(np.quantile(each, 0.9))

    @property
    def mean_regret(self) -> float:
        return self.regret / self.replays

    @property
    def error(self) -> float:
        """Standard error of the mean regret."""
        variance = self.regret_squared / self.replays - self.mean_regret**2
        return math.sqrt(max(variance, 0.0) / self.replays)

    def to_dict(self) -> dict[str, Any]:
        return {name: round(v, 9) if isinstance(v, float) else v for name, v in asdict(self).items()}


def go_on(row: Row, surface: Surface | Measured, until: int) -> None:
    """Replays from the number that there are to `until`. Replay k is the same study for every method."""
    for number in range(row.replays, until):
        loss, excess, optimum = surface.draw(np.random.default_rng([number, 1]))
        bill = Bill(loss, surface)
        began = time.process_time()
        outcome = METHODS[row.method](bill, np.random.default_rng([number, 2]))
        row.seconds += time.process_time() - began
        row.timed += 1
        regret = min(excess(outcome.rate), 1.0)
        row.replays += 1
        cost = f"{bill.cost:.1f}"
        row.costs[cost] = row.costs.get(cost, 0) + 1
        row.regret += regret
        row.regret_squared += regret**2
        row.within += regret <= MIN_EFFECT
        if outcome.dropped is not None:
            row.dropped = (row.dropped or 0) + (min(RATES, key=excess) in outcome.dropped)
        if outcome.found is not None:
            _count_claim(row, outcome, loss, excess, optimum)


def _count_claim(
    row: Row, outcome: Outcome, loss: Loss, excess: Callable[[float], float], optimum: Sequence[float]
) -> None:
    found = outcome.found
    assert found is not None
    row.ended[found.ended] = row.ended.get(found.ended, 0) + 1
    if found.excess is None or found.valley is None:
        return
    costs = excess(outcome.rate)
    if found.excess <= MIN_EFFECT:
        row.sure += 1
        row.sure_wrong += costs > MIN_EFFECT
        row.sure_regret += min(costs, 1.0)
    if found.ended != "located":
        return
    is_wrong = costs > MIN_EFFECT
    low, high = found.valley.interval
    row.claims += 1
    row.wrong += is_wrong
    row.covered += low <= optimum[1] and high >= optimum[0]
    expected = float(np.interp(found.space.x(outcome.rate), found.valley.grid_G, found.valley.curve_G))
    fresh = [loss(outcome.rate, seed) for seed in CONFIRM]
    is_blocked = contradicted_by(fresh, expected, num_seeds=found.measured_KN.shape[1])
    row.blocked += is_blocked
    row.wrong_unblocked += is_wrong and not is_blocked
