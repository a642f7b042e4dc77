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
    Simulated planted nulls (K = 3 to 13, n = 3, 5 and 8, rho 0 to .9, t3 noise; R = 4,000): .01 to .03 at alpha = .05,
    .02 to .05 where noise rises fivefold over the arms. Tenfold noise in arms as good as the rest, n = 3 and 5: in two
    of 13 .01 and .01 (.09 and .05 with the pooled degrees of freedom, see `stats.noise.effective_df`), in four of 13
    .03 and .03, in one of 5 .03 and .02, in one of 3 .05 and .02. Noise of real runs (docs/noise.md): at most .05.
    That costs 6 points of power with 5 equally noisy arms at n = 3 and two paired sd, at most 1 with 13 or at n = 5.
    Where an arm or two of 9 to 13 are ten to twenty times as noisy it is much at n = 3: 28% to 11% of the verdicts with
    the best of 9 rates, 28% to 3% of those three paired sd apart with one such arm of 13. Tried besides: half a degree
    of freedom more for each arm (.06 false winners in the noise of real runs, for 4 points of power), the pair's own
    degrees of freedom by an F test, moderated t (Smyth 2004), the pair alone once Cochran's test tells the arms apart;
    too many false winners, or less power.
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
