"""Verdicts: every two arms of one table at the level that Holm's method gives them, and those of them that are said.

Said are the best arm against each other arm, and the baseline against each other arm.
"""

import math
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from blueberry.judge.judgement import BASELINE, LEAST_BLOCKS, Verdict
from blueberry.stats.decide import (
    Decision,
    decide,
    decide_diverged,
    holm_levels,
    seeds_for_tie,
    seeds_for_winner,
)
from blueberry.stats.noise import measure_noise
from blueberry.stats.paired import Floor, Paired, paired

if TYPE_CHECKING:
    from blueberry.judge.measured import Measured

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


def compare(measured: "Measured") -> tuple[Verdict, ...]:
    """Verdicts with a = the best arm, then with a = the baseline when there is one and it is not the best.

    Holm's method runs over *all* pairs of arms, also those that are not shown: the best arm was chosen by the same
    runs, so any pair might have been. Thus any false winner in a study has probability at most alpha. In a race every
    look has alpha / looks for all its pairs; what a look has decided stands.
    Intervals are Bonferroni's over all pairs. What both do in simulation: docs/truth.md.
    """
    if measured.best is None:
        return ()
    names = [arm.name for arm in measured.evidence.arms]
    evidence = measured.evidence
    looks = [
        all_pairs(seen_KN, alpha=evidence.alpha / evidence.looks, min_effect=evidence.min_effect)
        for seen_KN in measured.looks_KN
    ]
    firsts = [measured.best]
    if BASELINE in names and names.index(BASELINE) != measured.best:
        firsts.append(names.index(BASELINE))
    return tuple(_verdict(measured, looks, a, b) for a in firsts for b in range(len(names)) if b != a)


def _verdict(measured: "Measured", looks: list[Pairs], a: int, b: int) -> Verdict:
    """At the first look that decides; at the last if none does."""
    said = [(pairs.decide(a, b), pairs.difference(a, b)) for pairs in looks]
    decision, pair = next((one for one in said if one[0].verdict != "inconclusive"), said[-1])
    if not measured.can_judge:
        decision = _withheld(measured, decision, pair, looks[-1])
    winner = None
    if decision.b_is_better is not None:
        winner = measured.arm(b if decision.b_is_better else a).name
    return Verdict(
        a=measured.arm(a).name,
        b=measured.arm(b).name,
        difference=pair.difference,
        interval=decision.interval,
        n=pair.n,
        verdict=decision.verdict,
        winner=winner,
        more_seeds=decision.more_seeds,
    )


def _withheld(measured: "Measured", decision: Decision, pair: Paired, pairs: Pairs) -> Decision:
    """Where there are too few blocks to tell arms apart. The seeds that are missing are not always enough.

    How many more would settle it is said at the noise measured so far; unknown where there is none, or no difference.
    """
    missing = max(LEAST_BLOCKS - measured.num_blocks, 1)
    more = decision.more_seeds
    if more is None and decision.verdict == "inconclusive" and measured.noise.floor is not None:
        more = _more_seeds(pair, measured.noise.floor, measured.values_KN.shape[1], pairs)
    elif more is None and decision.verdict != "inconclusive":
        more = missing
    return replace(
        decision, verdict="inconclusive", b_is_better=None, more_seeds=None if more is None else max(more, missing)
    )


def _more_seeds(pair: Paired, noise: Floor, num_seeds: int, pairs: Pairs) -> int | None:
    """By the noise of all arms: the pair has none of its own."""
    if pair.difference is None or math.isinf(pair.difference):
        return None
    per_seed = noise.df / max(num_seeds - 1, 1)
    won = seeds_for_winner(pair.difference, noise.sd, alpha=pairs.wide_level, df_per_seed=per_seed)
    tied = seeds_for_tie(
        pair.difference, noise.sd, alpha=pairs.tie_alpha, min_effect=pairs.min_effect, df_per_seed=per_seed
    )
    needed = min((n for n in (won, tied) if n is not None), default=None)
    return None if needed is None else max(needed - pair.n, 1)
