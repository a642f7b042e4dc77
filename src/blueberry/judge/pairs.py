"""Every two arms of one table, each judged at the level that Holm's method gives it."""

import math
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from blueberry.stats.decide import Decision, decide, decide_diverged, holm_levels
from blueberry.stats.noise import measure_noise
from blueberry.stats.paired import Paired, paired

Ends = tuple[int, int]
"""Two rows of the table, the smaller one first."""


@dataclass(frozen=True)
class Pairs:
    """All paired differences of one table, and the error each may be tested at."""

    values_KN: np.ndarray
    pairs: dict[Ends, Paired]
    levels: dict[Ends, float]
    """Holm's: p at or below it is a winner."""
    wide_level: float
    """Bonferroni's: intervals at 1 minus this hold all differences at once."""
    tie_alpha: float
    min_effect: float

    def difference(self, a: int, b: int) -> Paired:
        """b - a."""
        pair = self.pairs[min(a, b), max(a, b)]
        return pair if a < b or pair.difference is None else replace(pair, difference=-pair.difference)

    def decide(self, a: int, b: int) -> Decision:
        """Winner by Holm's method; its interval is the simultaneous one, so far as it agrees.

        Holm rejects a little more than Bonferroni's interval does. There the interval ends at 0: it may not
        contain what the verdict rules out.
        """
        pair = self.difference(a, b)
        if pair.difference is not None and math.isinf(pair.difference):
            return self._decide_diverged(a, b, pair)
        level = self.levels.get((min(a, b), max(a, b)), self.wide_level)
        decision = decide(pair, alpha=level, tie_alpha=self.tie_alpha, min_effect=self.min_effect)
        interval = pair.interval(1 - self.wide_level)
        if interval is not None and decision.verdict == "winner":
            interval = (
                (interval[0], min(interval[1], 0.0)) if decision.b_is_better else (max(interval[0], 0.0), interval[1])
            )
        return replace(decision, interval=interval)

    def _decide_diverged(self, a: int, b: int, pair: Paired) -> Decision:
        common_2N = self.values_KN[[a, b]]
        common_2N = common_2N[:, ~np.isnan(common_2N).any(axis=0)]
        diverged = np.isinf(common_2N).sum(axis=1)
        return decide_diverged(pair, num_diverged_a=int(diverged[0]), num_diverged_b=int(diverged[1]))


def all_pairs(values_KN: np.ndarray, *, alpha: float, min_effect: float) -> Pairs:
    """Compare every two rows, `alpha` being the error of this one look at all of them together.

    Shapes: (K, n), NaN missing, infinity diverged.
    """
    floor = measure_noise(values_KN).floor
    pairs = {(a, b): paired(values_KN[a], values_KN[b], floor=floor) for a, b in combinations(range(len(values_KN)), 2)}
    p_values = {ends: p for ends, pair in pairs.items() if (p := pair.p_value()) is not None}
    levels = dict(zip(p_values, holm_levels(list(p_values.values()), alpha), strict=True))
    return Pairs(values_KN, pairs, levels, alpha / max(len(p_values), 1), alpha, min_effect)
