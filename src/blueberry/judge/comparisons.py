"""Verdicts: the best arm against each other arm, and the baseline against each other arm."""

from dataclasses import replace

from blueberry.judge.evidence import BASELINE
from blueberry.judge.judgement import Verdict
from blueberry.judge.measured import LEAST_BLOCKS, Measured
from blueberry.judge.pairs import Pairs, all_pairs


def compare(measured: Measured) -> tuple[Verdict, ...]:
    """Verdicts with a = the best arm, then with a = the baseline when there is one and it is not the best.

    Holm's method runs over *all* pairs of arms, also those that are not shown: the best arm was chosen by the same
    runs, so any pair might have been. Thus any false winner in a study has probability at most alpha. In a race every
    look has alpha / looks for all its pairs; what a look has decided stands.
    Simulated planted nulls (K = 2 to 13, n = 3 and 5, rho 0 to .9, t3 noise, noise rising fivefold over the arms): .01
    to .06 at alpha = .05. Two arms of 13 with tenfold noise and as good as the rest: .10 at n = 3, .05 at n = 5. There
    the pair's own degrees of freedom where its own sd is far above the pooled one (F test at .05, or Welch and
    Satterthwaite's) give .08 and .07 at n = 3: still too many, for 2 to 10 points of power elsewhere.
    Intervals are Bonferroni's over all pairs. Of 13 arms at n = 3 and 5 (R = 4,000) those with the best arm held their
    true differences all at once in 99% of valleys, 98% where noise rises fivefold, 95% where it does so among equals.
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


def _verdict(measured: Measured, looks: list[Pairs], a: int, b: int) -> Verdict:
    """At the first look that decides; at the last if none does."""
    said = [(pairs.decide(a, b), pairs.difference(a, b)) for pairs in looks]
    decision, pair = next((one for one in said if one[0].verdict != "inconclusive"), said[-1])
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
