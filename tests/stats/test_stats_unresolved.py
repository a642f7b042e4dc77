import numpy as np
import pytest
from scipy.stats import binomtest

from blueberry.stats.noise import two_way_fit
from blueberry.stats.unresolved import best_arm, unresolved

INF, NAN = float("inf"), float("nan")


def false_drops(rng, means, *, n, sd, rho, repeats, true_best):
    """How often the truly best arm is dropped."""
    dropped = 0
    for _ in range(repeats):
        noise = rho**0.5 * rng.normal(size=(1, n)) + (1 - rho) ** 0.5 * rng.normal(size=(len(means), n))
        values = np.asarray(means)[:, None] + np.asarray(sd) * noise
        dropped += true_best not in unresolved(values, alpha=0.05)
    return dropped


@pytest.mark.parametrize(("num_arms", "n", "rho"), [(2, 3, 0.5), (5, 3, 0.0), (9, 3, 0.9), (9, 5, 0.5)])
def test_under_a_planted_null_an_arm_is_dropped_at_most_at_alpha(num_arms, n, rho):
    drops = false_drops(
        np.random.default_rng(num_arms), np.zeros(num_arms), n=n, sd=0.02, rho=rho, repeats=300, true_best=0
    )
    assert binomtest(drops, 300, 0.05, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("grows", [1.0, 5.0])
def test_a_planted_best_is_kept(grows):
    """Means rise away from arm 4 by less than the noise; the noise may grow along the axis."""
    means = 0.003 * np.abs(np.arange(9) - 4)
    sd = 0.02 * np.linspace(1, grows, 9)[:, None]
    drops = false_drops(np.random.default_rng(7), means, n=3, sd=sd, rho=0.3, repeats=300, true_best=4)
    assert binomtest(drops, 300, 0.05, alternative="greater").pvalue > 0.01


def test_arms_worse_by_far_are_dropped():
    rng = np.random.default_rng(0)
    values = np.array([0.0, 0.001, 1.0, 2.0])[:, None] + 0.01 * rng.normal(size=(4, 3))
    assert unresolved(values, alpha=0.05) == [0, 1]


def test_more_looks_drop_less():
    values = np.array([[0.0, 0.1, 0.05], [1.0, 1.3, 1.15]])
    assert unresolved(values, alpha=0.05) == [0]
    assert unresolved(values, alpha=0.05, looks=50) == [0, 1]


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


def test_arms_without_a_common_seed_are_ranked_by_their_plain_means():
    """One run at 1.0 against four of mean 1.1, each on seeds of its own: a fit of seeds would shrink the single one."""
    values = np.array([[1.0, NAN, NAN, NAN, NAN], [NAN, 1.1, 1.1, 1.1, 1.1]])
    assert best_arm(values) == 0
    assert two_way_fit(values).arm_means == pytest.approx([1.0, 1.1])
    values = np.array([[NAN, 2.0, 2.1, 2.2, 2.3], [2.14, NAN, NAN, NAN, NAN]])
    assert best_arm(values) == 1
    assert two_way_fit(values).arm_means == pytest.approx([2.15, 2.14])


def test_seeds_are_taken_out_only_among_arms_that_they_join():
    """Seed 1 costs 0.5: arm 1 ran on it alone of the two, and is better by 0.1. Arm 2 shares no seed with either."""
    values = np.array([[1.0, 1.5, NAN], [NAN, 1.4, NAN], [NAN, NAN, 1.2]])
    assert two_way_fit(values).arm_means == pytest.approx([1.25, 1.15, 1.2])
    assert best_arm(values) == 1
