from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest

from blueberry.errors import TableError
from blueberry.stats.decide import holm_levels
from blueberry.stats.noise import (
    Borrowed,
    arm_variances,
    better_half,
    effective_df,
    measure_noise,
    read_sigma,
    two_way_fit,
)
from blueberry.stats.paired import paired

INF, NAN = float("inf"), float("nan")


def simulate(rng, *, means, n, sd, rho):
    """Gaussian values with a share rho of the variance common to a seed. Shape (len(means), n)."""
    common, own = rng.normal(size=(1, n)), rng.normal(size=(len(means), n))
    return np.asarray(means)[:, None] + np.asarray(sd) * (rho**0.5 * common + (1 - rho) ** 0.5 * own)


def test_two_arms_by_hand():
    # differences 1, 3: paired variance 2; within-arm sums of squares 0.5 and 4.5, two degrees of freedom
    noise = measure_noise(np.array([[0.0, 1.0], [1.0, 4.0]]))
    assert noise.paired_sd == pytest.approx(2**0.5)
    assert noise.sd == pytest.approx(2.5**0.5)
    assert noise.rho == pytest.approx(1 - 1 / 2.5)
    assert (noise.df, noise.n) == (1, 4)


def test_for_two_arms_the_floor_is_the_pair():
    values = np.random.default_rng(0).normal(size=(2, 5))
    with_floor = paired(values[0], values[1], floor=measure_noise(values).floor)
    alone = paired(values[0], values[1])
    assert with_floor.df == alone.df
    assert with_floor.sd == pytest.approx(alone.sd)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_components_are_recovered(rho):
    rng = np.random.default_rng(1)
    found = [measure_noise(simulate(rng, means=np.arange(9) / 10, n=4, sd=0.02, rho=rho)) for _ in range(400)]
    assert np.mean([noise.sd**2 for noise in found]) == pytest.approx(0.02**2, rel=0.12)
    assert np.mean([noise.paired_sd**2 for noise in found]) == pytest.approx(2 * (1 - rho) * 0.02**2, rel=0.06)


def test_a_noisy_tail_does_not_inflate_it():
    rng = np.random.default_rng(2)
    sd = np.where(np.arange(12) < 8, 0.01, 0.2)[:, None]
    found = [measure_noise(simulate(rng, means=np.arange(12) / 2, n=3, sd=sd, rho=0)).sd for _ in range(200)]
    assert np.median(found) == pytest.approx(0.01, rel=0.1)


def test_diverged_arms_and_missing_cells_do_not_enter():
    values = np.array([[1.0, 2.0, 3.0], [2.0, NAN, 4.0], [9.0, INF, 9.0], [NAN, NAN, NAN]])
    assert better_half(values) == [0, 1]
    assert measure_noise(values).n == 5
    assert measure_noise(values).paired_sd == pytest.approx(0.0, abs=1e-12)


def test_one_seed_measures_nothing():
    noise = measure_noise(np.array([[1.0], [2.0], [3.0]]))
    assert (noise.sd, noise.rho, noise.paired_sd, noise.floor) == (None, None, None, None)
    assert measure_noise(np.empty((2, 0))).sd is None


def test_one_arm_has_sd_but_no_rho():
    noise = measure_noise(np.array([[1.0, 2.0, 3.0]]))
    assert (noise.sd, noise.rho, noise.paired_sd) == (1.0, None, None)


def test_two_way_fit_recovers_arms_under_missing_cells():
    arms, seeds = np.array([0.0, 1.0, 3.0]), np.array([0.0, 10.0, 20.0])
    values = arms[:, None] + seeds
    values[0, 0] = values[2, 2] = NAN
    fit = two_way_fit(values)
    assert np.diff(fit.arm_means) == pytest.approx([1.0, 2.0])
    assert fit.residual == pytest.approx(0.0, abs=1e-18)
    assert fit.df == 7 - 5


def test_arm_variances_worked_by_hand():
    # Arm 0 less either other: 3, -3, of variance 18; between these: 0. So (18 + 18 - 0) / 2.
    values = np.array([[3.0, -3.0], [0.0, 0.0], [0.0, 0.0]])
    assert arm_variances(values) == pytest.approx([18.0, 0.0, 0.0], abs=1e-12)


def test_arm_variances_are_those_of_grubbs():
    """Three instruments: half of (var(a - b) + var(a - c) - var(b - c)); where all are positive nothing is cut."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(3, 40)) * np.array([[3.0], [2.0], [4.0]]) + 10 * rng.normal(size=40)
    ab, ac, bc = (np.var(values[i] - values[j], ddof=1) for i, j in combinations(range(3), 2))
    assert arm_variances(values) == pytest.approx([(ab + ac - bc) / 2, (ab + bc - ac) / 2, (ac + bc - ab) / 2])


def test_arm_variances_are_unbiased_for_unequal_arms_whatever_the_seeds_share():
    rng = np.random.default_rng(4)
    sd = np.array([[1.0], [1.0], [2.0], [1.5], [3.0]])
    found = [arm_variances(sd * rng.normal(size=(5, 30)) + 5 * rng.normal(size=30)) for _ in range(300)]
    assert np.mean(found, axis=0) == pytest.approx(np.square(sd[:, 0]), rel=0.05)


def test_the_degrees_of_freedom_worked_by_hand():
    # one arm has all the noise: 18**2 / 18**2 = 1 arm, n - 1 = 1 each
    assert effective_df(np.array([[3.0, -3.0], [0.0, 0.0], [0.0, 0.0]])) == pytest.approx(1)
    # at three seeds: sum(v)**2 / sum(v**2) arms of 2 each
    seeds = np.array([[0.0, 0.0, 0.0], [3.0, -3.0, 0.0], [3.0, 3.0, -6.0]])
    v = arm_variances(seeds)
    assert effective_df(seeds) == pytest.approx(v.sum() ** 2 / (v**2).sum() * 2)


def test_two_arms_or_no_noise_take_nothing_away():
    assert effective_df(np.array([[1.0, 2.0, 3.0], [1.0, 5.0, 2.0]])) == INF
    assert effective_df(np.ones((4, 3))) == INF
    assert effective_df(np.array([[1.0, 2.0, 4.0], [1.0, 5.0, 2.0], [1.0, INF, 3.0], [NAN, NAN, 1.0]])) == INF
    assert measure_noise(np.arange(12.0).reshape(4, 3)).df == 6


def test_the_degrees_of_freedom_lie_between_the_pairs_own_and_the_pooled():
    rng = np.random.default_rng(5)
    equal = [measure_noise(rng.normal(size=(13, 5))).df for _ in range(100)]
    assert max(equal) == 24
    assert np.mean(np.array(equal) == 24) > 0.9  # seven of thirteen are pooled, and thirteen speak for it
    one = np.r_[np.ones(12), 30.0][:, None]
    unequal = [measure_noise(one * rng.normal(size=(13, 5))).df for _ in range(100)]
    assert min(unequal) >= 4
    assert np.median(unequal) < 6


def test_a_noisy_arm_counts_wherever_its_mean_lies():
    rng = np.random.default_rng(6)
    values = rng.normal(size=(9, 5)) * np.r_[np.ones(8), 50.0][:, None]
    values[8] += 1000 - values[8].mean()  # last of all, so it is not in the better half
    assert measure_noise(values).paired_sd < 3
    assert measure_noise(values).df < 8


def test_missing_cells_leave_each_arm_its_own_degrees_of_freedom():
    rng = np.random.default_rng(7)
    values = rng.normal(size=(6, 8))
    values[3:, 3:] = NAN  # three arms left a race at three seeds
    assert 7 <= effective_df(values) < 30
    values[0] *= 100
    assert 7 <= effective_df(values) < 15  # the noisy arm's own is 7, of 25 at most


@pytest.mark.parametrize("sd", [[1.0] * 11 + [10.0] * 2, [1.0] * 4 + [10.0], [0.0106, 0.0158, 0.0192, 0.0247, 0.0696]])
def test_unequal_noise_makes_no_false_winners(sd):
    """The last is the noise of real runs (docs/noise.md). With the pooled degrees of freedom: .08, .07, .06."""
    rng = np.random.default_rng(8)
    pairs = list(combinations(range(len(sd)), 2))
    false, repeats = 0, 600
    for _ in range(repeats):
        values = np.array(sd)[:, None] * (rng.normal(size=3) + rng.normal(size=(len(sd), 3))) * 0.5**0.5
        floor, best = measure_noise(values).floor, int(np.argmin(values.mean(axis=1)))
        p = [paired(values[a], values[b], floor=floor).p_value() for a, b in pairs]
        levels = holm_levels(p, 0.05)
        false += any(p[i] <= levels[i] and best in pair for i, pair in enumerate(pairs))
    assert binomtest(false, repeats, 0.05, alternative="greater").pvalue > 0.01


def test_a_borrowed_sd_is_known_or_says_over_how_many_runs_it_was_measured():
    assert read_sigma("0.0013") == read_sigma(0.0013) == Borrowed(0.0013)
    assert read_sigma("0.0013/10") == Borrowed(0.0013, df=9)


@pytest.mark.parametrize("given", ["", "0", "-1", "nan", "inf", "x", "0.1/1", "0.1/x", "0.1/2/3", "1e400"])
def test_what_is_no_sd_is_refused(given):
    with pytest.raises(TableError, match="sigma"):
        read_sigma(given)
