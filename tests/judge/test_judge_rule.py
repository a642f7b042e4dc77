import numpy as np
import pytest
from scipy.stats import binomtest

from blueberry.judge.verdicts import against_baseline, against_best, candidates
from blueberry.stats.differences import best_arm, means_or_inf, t_quantile, two_way_fit

INF, NAN = float("inf"), float("nan")


def unresolved(values, *, alpha):
    """Rows that may be the best: the row of least mean and those not worse than it; a diverged or empty row is out."""
    worse = {row for row, one in against_best(values, alpha=alpha).items() if one.is_worse}
    return [row for row in np.flatnonzero(np.isfinite(means_or_inf(values))).tolist() if row not in worse]


def false_drops(rng, means, *, n, sd, rho, repeats, true_best):
    """How often the truly best arm is dropped."""
    dropped = 0
    for _ in range(repeats):
        noise = rho**0.5 * rng.normal(size=(1, n)) + (1 - rho) ** 0.5 * rng.normal(size=(len(means), n))
        values = np.asarray(means)[:, None] + np.asarray(sd) * noise
        dropped += true_best not in unresolved(values, alpha=0.05)
    return dropped


@pytest.mark.parametrize(("num_arms", "n", "rho"), [(2, 3, 0.5), (5, 3, 0.0), (9, 3, 0.9)])
def test_under_a_planted_null_an_arm_is_dropped_at_most_at_alpha(num_arms, n, rho):
    drops = false_drops(
        np.random.default_rng(num_arms), np.zeros(num_arms), n=n, sd=0.02, rho=rho, repeats=100, true_best=0
    )
    assert binomtest(drops, 100, 0.05, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("grows", [1.0, 5.0])
def test_a_planted_best_is_kept(grows):
    """Means rise away from arm 4 by less than the noise; the noise may grow along the axis."""
    means = 0.003 * np.abs(np.arange(9) - 4)
    sd = 0.02 * np.linspace(1, grows, 9)[:, None]
    drops = false_drops(np.random.default_rng(7), means, n=3, sd=sd, rho=0.3, repeats=100, true_best=4)
    assert binomtest(drops, 100, 0.05, alternative="greater").pvalue > 0.01


def test_arms_worse_by_far_are_dropped():
    rng = np.random.default_rng(0)
    values = np.array([0.0, 0.001, 1.0, 2.0])[:, None] + 0.01 * rng.normal(size=(4, 3))
    assert unresolved(values, alpha=0.05) == [0, 1]


def test_more_looks_drop_less():
    values = np.array([[0.0, 0.1, 0.05], [1.0, 1.3, 1.15]])
    assert unresolved(values, alpha=0.05) == [0]
    assert unresolved(values, alpha=0.05 / 50) == [0, 1]


def test_a_diverged_arm_is_out_and_a_missing_one_too():
    values = np.array([[1.0, 1.1, 1.2], [1.0, INF, 1.2], [NAN, NAN, NAN]])
    assert unresolved(values, alpha=0.05) == [0]
    assert best_arm(values) == 0
    assert unresolved(np.full((2, 3), INF), alpha=0.05) == []
    assert best_arm(np.full((2, 3), INF)) is None


def test_one_seed_drops_nothing():
    assert unresolved(np.array([[1.0], [9.0]]), alpha=0.05) == [0, 1]


def test_arms_without_two_common_seeds_stay():
    values = np.array([[1.0, 1.01, NAN, 1.02], [NAN, NAN, 5.0, 5.1]])
    assert unresolved(values, alpha=0.05) == [0, 1]


def test_arms_that_share_few_seeds_are_ranked_by_their_own_means():
    """Four runs of mean 1.1 and four of 1.05 share one seed, on which the first is the better: no matter."""
    values = np.array([[1.0, 1.1, 1.2, 1.1, NAN, NAN, NAN], [NAN, NAN, NAN, 1.15, 1.05, 1.0, 1.0]])
    assert best_arm(values) == 1


def test_seeds_are_taken_out_where_any_two_arms_share_three():
    """Seed 3 costs 0.5, and arm 1 lacks it: it is worse by 0.1 on each that they share."""
    values = np.array([[1.0, 1.1, 1.2, 1.6], [1.1, 1.2, 1.3, NAN]])
    assert two_way_fit(values).arm_means == pytest.approx([1.225, 1.325])
    assert best_arm(values) == 0


def test_a_lucky_single_run_is_not_the_best_of_arms_that_have_more():
    values = np.array([[1.0, NAN, NAN], [1.1, 1.2, 1.1], [1.3, 1.2, 1.3]])
    assert best_arm(values) == 1
    assert best_arm(values, is_borrowed=True) == 0
    assert best_arm(values[:2]) == best_arm(values[:, :1]) == 0


def far_apart(n=4):
    """Rows 0, 0.5, 1 and 100 sd behind the first, all differences with the same sd and n - 1 degrees of freedom or more."""
    rng = np.random.default_rng(5)
    return np.array([0.0, 0.5, 1.0, 100.0])[:, None] + rng.normal(size=(4, n))


def test_the_clearest_row_is_tested_first_and_the_rest_pay_for_what_is_left():
    compared = against_best(far_apart(), alpha=0.05)
    assert [one.is_worse for one in compared.values()] == [False, False, True]
    assert [one.error for one in compared.values()] == pytest.approx([0.05 / 6, 0.05 / 6, 0.05 / 12])
    for one in compared.values():
        low, high = (t_quantile(one.pair.df, error) * one.pair.standard_error for error in (one.error, 0.05 / 12))
        assert one.interval == pytest.approx((one.pair.difference - low, one.pair.difference + high))
    others = against_best(far_apart(), alpha=0.05, num_others=1)
    assert [one.error for one in others.values()] == pytest.approx([0.05 / 12, 0.05 / 12, 0.05 / 20])


def test_an_interval_lies_above_0_exactly_where_p_is_at_most_the_error():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(6, 1)) * rng.choice([0.0, 2.0]) + rng.normal(size=(6, 4))
        for one in against_best(values, alpha=0.2).values():
            p = one.pair.p_value() / 2 if one.pair.difference > 0 else 1 - one.pair.p_value() / 2
            assert one.is_worse == (p <= one.error)
            assert not one.is_better


def test_two_rows_are_compared_alike_with_the_best_and_with_a_baseline():
    values = far_apart()[:2]
    best, other = against_best(values, alpha=0.05), against_baseline(values, 0, alpha=0.05)
    assert best[1].error == other[1].error == 0.025
    assert best[1].interval == pytest.approx(other[1].interval)
    assert other[1].turned().interval == pytest.approx(against_baseline(values, 1, alpha=0.05)[0].interval)


def test_a_row_that_beats_the_best_on_the_seeds_they_share_is_not_called_better():
    """By the seeds of all, row 0 is the best; row 1 is better on each that they share. Whether it is was not asked."""
    values = np.array([[1.0, 1.01, 1.02, 0.2, 0.1], [0.9, 0.91, 0.92, NAN, NAN], [2.0, 2.01, 2.02, NAN, NAN]])
    one = against_best(values, alpha=0.05, best=0)[1]
    assert one.interval is not None
    assert one.interval[1] == 0
    assert not one.is_better


def test_of_many_noisy_rows_an_optimum_lies_at_fewer_than_may_be_the_best():
    rng = np.random.default_rng(4)
    values = np.linspace(0, 6.0, 13)[:, None] + 0.7 * rng.normal(size=(13, 3))
    kept = unresolved(values, alpha=0.05)
    near = candidates(values, kept, alpha=0.05)
    assert 0 < len(near) < len(kept) < 13
    assert set(near) < set(kept)
