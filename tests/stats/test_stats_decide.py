import math

import numpy as np
import pytest
from scipy import stats

from blueberry.stats.differences import (
    decide,
    decide_diverged,
    holm_levels,
    paired,
    power_of_tie,
    power_of_winner,
    seeds_for_tie,
    seeds_for_winner,
    smallest_difference,
)
from blueberry.study.plan import looks_of


def test_holm_by_hand():
    # sorted .001 <= .05/4, .012 <= .05/3, .03 > .05/2: it and the next are tested at .025
    assert holm_levels([0.03, 0.001, 0.04, 0.012], 0.05) == pytest.approx([0.025, 0.0125, 0.025, 0.05 / 3])
    assert holm_levels([], 0.05) == []


def test_power_by_simulation():
    rng = np.random.default_rng(3)
    d = rng.normal(1.0, 1.0, size=(20000, 6))
    t = d.mean(1) / d.std(1, ddof=1) * 6**0.5
    measured = float((t > stats.t.isf(0.025, 5)).mean())
    assert power_of_winner(6, 1.0, 1.0, alpha=0.05) == pytest.approx(measured, abs=0.012)


def test_power_of_a_tie_by_simulation():
    rng = np.random.default_rng(4)
    d = rng.normal(0.2, 1.0, size=(20000, 20))
    half = stats.t.isf(0.05, 19) * d.std(1, ddof=1) / 20**0.5
    measured = float(((d.mean(1) + half < 0.8) & (d.mean(1) - half > -0.8)).mean())
    assert power_of_tie(20, 0.2, 1.0, alpha=0.05, min_effect=0.8) == pytest.approx(measured, abs=0.012)


def test_the_textbook_number_of_seeds():
    # A paired difference of half an sd, alpha .05 two-sided, power .8: n = 34 (Cohen's tables, G*Power).
    assert seeds_for_winner(0.5, 1.0, alpha=0.05) == 34
    assert power_of_winner(33, 0.5, 1.0, alpha=0.05) < 0.8 <= power_of_winner(34, 0.5, 1.0, alpha=0.05)
    n = seeds_for_tie(0.0, 1.0, alpha=0.05, min_effect=0.5)
    assert n is not None
    assert power_of_tie(n - 1, 0, 1.0, alpha=0.05, min_effect=0.5) < 0.8


def test_numbers_of_seeds_that_do_not_exist():
    assert seeds_for_winner(0.0, 1.0, alpha=0.05) is None
    assert seeds_for_winner(1e-4, 1.0, alpha=0.05) is None
    assert seeds_for_tie(0.6, 1.0, alpha=0.05, min_effect=0.5) is None


def test_the_smallest_difference_is_the_inverse_of_power():
    found = smallest_difference(5, 0.02, alpha=0.05)
    assert found is not None
    assert power_of_winner(5, found, 0.02, alpha=0.05) == pytest.approx(0.8, abs=1e-4)
    assert smallest_difference(1, 0.02, alpha=0.05) is None


def test_winner_tie_and_inconclusive():
    zeros = [0.0] * 5

    def judge(*differences):
        return decide(paired(zeros, differences), alpha=0.05, tie_alpha=0.05, min_effect=0.5)

    won = judge(-1.0, -1.1, -0.9, -1.05, -0.95)
    assert (won.verdict, won.b_is_better, won.more_seeds) == ("winner", True, None)
    assert judge(1.0, 1.1, 0.9, 1.05, 0.95).b_is_better is False
    assert judge(0.1, -0.1, 0.05, -0.05, 0.0).verdict == "tie"
    unclear = judge(1.0, -1.0, 0.8, -0.5, 0.3)
    assert unclear.verdict == "inconclusive"
    assert unclear.more_seeds is not None
    assert unclear.more_seeds > 0


def test_a_tie_needs_equivalence_and_not_just_no_difference():
    wide = paired([0.0] * 3, [0.4, -0.4, 0.0])
    low, high = wide.interval(0.9) or (0, 0)
    assert low < -0.5 < 0.5 < high
    assert decide(wide, alpha=0.05, tie_alpha=0.05, min_effect=0.5).verdict == "inconclusive"


def test_false_ties_are_rare():
    rng = np.random.default_rng(5)
    ties = sum(
        decide(paired(np.zeros(5), rng.normal(0.5, 0.3, 5)), alpha=0.05, tie_alpha=0.05, min_effect=0.5).verdict
        == "tie"
        for _ in range(1000)
    )
    assert stats.binomtest(ties, 1000, 0.05, alternative="greater").pvalue > 0.01


def test_more_seeds_is_calibrated():
    """The number said for the true difference and sd settles the question with power .8."""
    rng = np.random.default_rng(6)
    n = seeds_for_winner(0.02, 0.03, alpha=0.01)
    assert n is not None
    settled = sum(
        decide(paired(np.zeros(n), rng.normal(0.02, 0.03, n)), alpha=0.01, tie_alpha=0.05, min_effect=0.001).verdict
        == "winner"
        for _ in range(600)
    )
    assert 0.76 < settled / 600 < 0.86


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([1, 1, 1], [math.inf] * 3, "winner"),
        ([1, 1, 1], [1, 1, math.inf], "inconclusive"),
        ([1, 1], [math.inf] * 2, "inconclusive"),
    ],
)
def test_divergence_decides_only_when_it_is_the_rule(a, b, verdict):
    decision = decide_diverged((0, b.count(math.inf)), (len(a), len(b)))
    assert decision.verdict == verdict
    assert decision.b_is_better is (False if verdict == "winner" else None)


def test_power_is_a_number_in_the_far_tails():
    assert power_of_winner(25, 8.0, 1.0, alpha=0.05) == 1.0
    assert seeds_for_winner(1000.0, 1.0, alpha=0.05) == 2


@pytest.mark.parametrize(
    ("search", "maximum", "looks"),
    [
        (3, 16, (3, 5, 8, 12, 16)),
        (5, 16, (5, 8, 12, 16)),
        (3, 10, (3, 5, 8, 10)),
        (4, 30, (4, 5, 8, 12, 16, 24, 30)),
        (3, 3, (3,)),
        (1, 16, (3, 5, 8, 12, 16)),  # nothing is told from chance below three
        (1, 2, (2,)),
    ],
)
def test_the_looks_of_a_design(search, maximum, looks):
    assert looks_of(search, maximum) == looks


def test_looks_spend_alpha_together():
    rng = np.random.default_rng(0)
    values, false = rng.normal(size=(4000, 16)), np.zeros(4000, dtype=bool)
    looks = looks_of(3, 16)
    for n in looks:
        t = values[:, :n].mean(1) / (values[:, :n].std(1, ddof=1) / n**0.5)
        false |= 2 * stats.t.sf(abs(t), n - 1) <= 0.05 / len(looks)
    assert stats.binomtest(int(false.sum()), 4000, 0.05, alternative="greater").pvalue > 0.01
