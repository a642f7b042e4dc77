"""Winner, tie or inconclusive: what a paired difference supports."""

from dataclasses import dataclass
from math import isinf
from typing import Literal

from blueberry.stats.paired import Paired
from blueberry.stats.power import MOST_SEEDS, seeds_for_tie, seeds_for_winner

LEAST_DIVERGED = 3


@dataclass(frozen=True)
class Decision:
    verdict: Literal["winner", "tie", "inconclusive"]
    b_is_better: bool | None
    """Which side won; None unless the verdict is winner."""
    interval: tuple[float, float] | None
    """At level 1 - alpha."""
    more_seeds: int | None
    """That would settle it with power .8 if the difference and noise measured so far were the true ones: for
    winner or tie, whichever is nearer. None when settled, when the noise is unknown, or above 10,000."""


def decide(pair: Paired, *, alpha: float, tie_alpha: float, min_effect: float) -> Decision:
    """Judge one difference b - a of a metric where lower is better.

    winner: the interval at level 1 - alpha excludes 0 (alpha adjusted for the number of comparisons beforehand).
    tie: the interval at level 1 - 2 * tie_alpha lies within -+min_effect (two one-sided tests, Schuirmann 1987).
    inconclusive: else.
    A difference that is real and smaller than min_effect is a winner all the same; its interval says how small.
    """
    interval = pair.interval(1 - alpha)
    if pair.difference is None or interval is None or pair.sd is None:
        return Decision("inconclusive", None, None, None)
    if interval[0] > 0 or interval[1] < 0:
        return Decision("winner", pair.difference < 0, interval, None)
    narrow = pair.interval(1 - 2 * tie_alpha)
    assert narrow is not None
    if -min_effect < narrow[0] and narrow[1] < min_effect:
        return Decision("tie", None, interval, None)
    df_per_seed = pair.df / (pair.n - 1)
    needed = seeds_for_winner(pair.difference, pair.sd, alpha=alpha, df_per_seed=df_per_seed)
    tied = seeds_for_tie(
        pair.difference,
        pair.sd,
        alpha=tie_alpha,
        min_effect=min_effect,
        df_per_seed=df_per_seed,
        most=MOST_SEEDS if needed is None else needed,
    )
    needed = needed if tied is None else tied
    return Decision("inconclusive", None, interval, None if needed is None else max(needed - pair.n, 1))


def decide_diverged(pair: Paired, *, num_diverged_a: int, num_diverged_b: int) -> Decision:
    """Judge two arms when one of them diverged on a common seed, so that the difference is infinite.

    winner: the other arm never diverged, and this one did on every common seed, three at least. If both were
    equally prone to diverge, that would happen with probability (1/4)**n at most.
    inconclusive: else. One divergence in three ranks an arm last, but does not prove the others safe.
    """
    if pair.difference is None or not isinf(pair.difference) or pair.n < LEAST_DIVERGED:
        return Decision("inconclusive", None, None, None)
    if pair.n in (num_diverged_a, num_diverged_b):
        return Decision("winner", num_diverged_a == pair.n, None, None)
    return Decision("inconclusive", None, None, None)
