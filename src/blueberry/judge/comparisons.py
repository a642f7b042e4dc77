"""Verdicts: the best arm against each other arm, and the baseline against each other arm."""

import math
from dataclasses import replace
from itertools import combinations

from blueberry.judge.evidence import BASELINE
from blueberry.judge.judgement import Verdict
from blueberry.judge.measured import LEAST_BLOCKS, Measured
from blueberry.stats.multiplicity import holm_levels
from blueberry.stats.paired import Paired, paired
from blueberry.stats.verdicts import Decision, decide, decide_diverged


def compare(measured: Measured) -> tuple[Verdict, ...]:
    """Verdicts with a = the best arm, then with a = the baseline when there is one and it is not the best.

    Holm's method runs over *all* pairs of arms, also those that are not shown: the best arm was chosen by the same
    runs, so any pair might have been. Thus any false winner in a study has probability at most alpha; an
    interval is at the level its pair was tested at. Simulated planted nulls (K = 2 to 13, n = 3 and 5, rho 0 to .9,
    t3 noise, noise rising fivefold over the arms): .01 to .06 at alpha = .05. Two arms of 13 with tenfold noise and
    exactly as good as the rest: .10 at n = 3, .05 at n = 5.
    """
    if measured.best is None:
        return ()
    names = [arm.name for arm in measured.evidence.arms]
    pairs, levels = _all_pairs(measured)
    firsts = [measured.best]
    if BASELINE in names and names.index(BASELINE) != measured.best:
        firsts.append(names.index(BASELINE))
    return tuple(
        _verdict(measured, a, b, pairs[min(a, b), max(a, b)], levels[min(a, b), max(a, b)])
        for a in firsts
        for b in range(len(names))
        if b != a
    )


def _all_pairs(measured: Measured) -> tuple[dict[tuple[int, int], Paired], dict[tuple[int, int], float]]:
    """The paired difference of every two arms, and the error each may be tested at."""
    floor = measured.noise.floor
    values = measured.values_KN
    pairs = {(a, b): paired(values[a], values[b], floor=floor) for a, b in combinations(range(len(values)), 2)}
    alpha = measured.evidence.alpha / measured.evidence.looks
    p_values = {ends: p for ends, pair in pairs.items() if (p := pair.p_value()) is not None}
    levels = dict(zip(p_values, holm_levels(list(p_values.values()), alpha), strict=True))
    return pairs, {ends: levels.get(ends, alpha) for ends in pairs}


def _verdict(measured: Measured, a: int, b: int, pair: Paired, level: float) -> Verdict:
    if a > b:
        pair = Paired(None if pair.difference is None else -pair.difference, pair.sd, pair.n, pair.df)
    decision = _decision(measured, a, b, pair, level)
    if not measured.can_judge:
        missing = max(LEAST_BLOCKS - measured.num_blocks, 1)
        decision = replace(
            decision, verdict="inconclusive", b_is_better=None, more_seeds=decision.more_seeds or missing
        )
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


def _decision(measured: Measured, a: int, b: int, pair: Paired, level: float) -> Decision:
    evidence = measured.evidence
    if pair.difference is not None and math.isinf(pair.difference):
        common = [
            (x, y) for x, y in zip(measured.values_KN[a], measured.values_KN[b], strict=True) if x == x and y == y
        ]
        return decide_diverged(
            pair,
            num_diverged_a=sum(math.isinf(x) for x, _ in common),
            num_diverged_b=sum(math.isinf(y) for _, y in common),
        )
    return decide(pair, alpha=level, tie_alpha=evidence.alpha / evidence.looks, min_effect=evidence.min_effect)
