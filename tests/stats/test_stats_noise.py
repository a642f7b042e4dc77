from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binomtest

from blueberry.errors import TableError
from blueberry.judge.verdicts import against_best
from blueberry.stats.differences import paired, two_way_fit
from blueberry.stats.noise import Borrowed, measure_noise, of_rest, read_sigma

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
    assert (noise.typical.df, noise.n) == (1, 4)


def test_two_arms_on_the_same_seeds_are_told_apart_by_students_t():
    values = np.random.default_rng(0).normal(size=(2, 5))
    alone, found = paired(values[0], values[1]), measure_noise(values).difference(0, 1)
    assert (found.difference, found.is_paired, found.n) == (alone.difference, True, 5)
    assert (found.df, found.sd) == (pytest.approx(alone.df), pytest.approx(alone.sd))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_components_are_recovered(rho):
    rng = np.random.default_rng(1)
    found = [measure_noise(simulate(rng, means=np.arange(9) / 10, n=4, sd=0.02, rho=rho)) for _ in range(150)]
    assert np.mean([noise.sd**2 for noise in found]) == pytest.approx(0.02**2, rel=0.2)
    assert np.mean([noise.paired_sd**2 for noise in found]) == pytest.approx(2 * (1 - rho) * 0.02**2, rel=0.2)


def test_a_noisy_tail_does_not_inflate_it():
    rng = np.random.default_rng(2)
    sd = np.where(np.arange(12) < 8, 0.01, 0.2)[:, None]
    found = [measure_noise(simulate(rng, means=np.arange(12) / 2, n=3, sd=sd, rho=0)) for _ in range(60)]
    assert np.median([noise.sd for noise in found]) == pytest.approx(0.01, rel=0.6)
    assert np.median([noise.difference(0, 1).sd for noise in found]) == pytest.approx(0.014, rel=0.4)
    assert np.median([noise.difference(0, 11).sd for noise in found]) == pytest.approx(0.2, rel=0.4)


def test_diverged_arms_and_missing_cells_do_not_enter():
    values = np.array([[1.0, 2.0, 3.0], [2.0, NAN, 4.0], [9.0, INF, 9.0], [NAN, NAN, NAN]])
    assert measure_noise(values).n == 5
    assert measure_noise(values).paired_sd == pytest.approx(0.0, abs=1e-12)


def test_one_seed_measures_nothing():
    noise = measure_noise(np.array([[1.0], [2.0], [3.0]]))
    assert (noise.sd, noise.rho, noise.paired_sd, noise.typical) == (None, None, None, None)
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


def test_the_variances_of_three_arms_are_those_of_grubbs():
    """Three instruments: half of (var(a - b) + var(a - c) - var(b - c)), over many seeds."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(3, 4000)) * np.array([[3.0], [2.0], [4.0]]) + 10 * rng.normal(size=4000)
    ab, ac, bc = (np.var(values[i] - values[j], ddof=1) for i, j in combinations(range(3), 2))
    grubbs = [(ab + ac - bc) / 2, (ab + bc - ac) / 2, (ac + bc - ab) / 2]
    assert of_rest(values).variances_K == pytest.approx(grubbs, rel=0.2)


def test_what_a_fit_leaves_of_each_arm_adds_up_to_its_degrees_of_freedom():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(6, 8)) * np.array([1, 1, 1, 1, 1, 9.0])[:, None]
    assert of_rest(values).df_K.sum() == pytest.approx(5 * 7)
    values[3:, 3:] = NAN
    assert of_rest(values).df_K.sum() == pytest.approx(two_way_fit(values).df)


def test_noise_is_measured_where_seeds_do_most_of_it_and_arms_differ():
    rng = np.random.default_rng(4)
    sd = np.array([[1.0], [1.0], [2.0], [1.5], [3.0]])
    found = [of_rest(sd * rng.normal(size=(5, 30)) + 5 * rng.normal(size=30)).variances_K for _ in range(60)]
    assert np.mean(found, axis=0) == pytest.approx(np.square(sd[:, 0]), rel=0.15)


def test_arms_alike_lend_one_another_degrees_of_freedom_and_noisy_ones_do_not():
    rng = np.random.default_rng(5)
    equal = [measure_noise(rng.normal(size=(13, 5))).difference(0, 1).df for _ in range(60)]
    assert max(equal) <= 48
    assert np.median(equal) > 20
    one = np.r_[np.ones(12), 30.0][:, None]
    unequal = [measure_noise(one * rng.normal(size=(13, 5))) for _ in range(60)]
    assert np.median([noise.difference(0, 12).df for noise in unequal]) < 5
    assert np.median([noise.difference(0, 1).df for noise in unequal]) > 7
    assert np.median([noise.difference(0, 1).sd for noise in unequal]) == pytest.approx(2**0.5, rel=0.3)


def test_unpaired_runs_are_told_apart_by_welchs_test():
    rng = np.random.default_rng(6)
    values = np.full((2, 13), NAN)
    values[0, :5], values[1, 5:] = rng.normal(size=5), 3 + 2 * rng.normal(size=8)
    found = measure_noise(values).difference(0, 1)
    expected = stats.ttest_ind(values[1, 5:], values[0, :5], equal_var=False)
    assert (found.is_paired, found.runs, found.n) == (False, (5, 8), 5)
    assert found.p_value() == pytest.approx(expected.pvalue)
    assert found.interval(0.95) == pytest.approx(tuple(expected.confidence_interval(0.95)))


@pytest.mark.parametrize("shared", [0, 1, 2, 3, 5])
def test_whether_runs_are_paired_depends_on_the_seeds_alone(shared):
    rng = np.random.default_rng(7)
    values = np.full((2, 10 - shared), NAN)
    values[0, :5], values[1, 5 - shared :] = rng.normal(size=5), rng.normal(size=5)
    found = measure_noise(values).difference(0, 1)
    assert found.is_paired is (shared >= 3)
    assert found.n == (shared if shared >= 3 else 5)


def test_some_arms_of_a_table_are_paired_and_others_not():
    rng = np.random.default_rng(8)
    values = rng.normal(size=(3, 8))
    values[:2, 4:], values[2, :4] = NAN, NAN
    noise = measure_noise(values)
    assert [noise.difference(0, other).is_paired for other in (1, 2)] == [True, False]


def test_runs_on_one_seed_lend_their_noise_once():
    """Two groups of arms, each on four seeds: two variances of 3, not six, speak of what seeds do."""
    values = np.full((6, 8), NAN)
    values[:3, :4] = values[3:, 4:] = np.random.default_rng(9).normal(size=4)
    assert measure_noise(values).runs.counts_for == pytest.approx(6 / 18)


def test_too_few_runs_say_their_difference_and_no_interval():
    values = np.array([[1.0, 2.0, 3.0, NAN], [NAN, NAN, 3.5, 4.5]])
    found = measure_noise(values).difference(0, 1)
    assert (found.difference, found.interval(0.95)) == (0.5, None)


def test_single_runs_are_told_apart_by_borrowed_noise():
    values = np.array([[1.0, NAN], [NAN, 1.01]])
    known = measure_noise(values, Borrowed(0.003)).difference(0, 1)
    assert (known.is_paired, known.is_borrowed) == (False, True)
    assert known.interval(0.95) == pytest.approx((0.01 - 1.959964 * 0.003 * 2**0.5, 0.01 + 1.959964 * 0.003 * 2**0.5))
    measured = measure_noise(values, Borrowed(0.003, df=9)).difference(0, 1)
    assert measured.interval(0.95) == pytest.approx(
        (0.01 - 2.2621572 * 0.003 * 2**0.5, 0.01 + 2.2621572 * 0.003 * 2**0.5)
    )


@pytest.mark.parametrize("sd", [[1.0] * 11 + [10.0] * 2, [1.0] * 4 + [10.0], [0.0106, 0.0158, 0.0192, 0.0247, 0.0696]])
def test_unequal_noise_makes_no_false_winners(sd):
    """The last is the noise of real runs (docs/noise.md)."""
    rng = np.random.default_rng(8)
    false, repeats = 0, 100
    for _ in range(repeats):
        values = np.array(sd)[:, None] * (rng.normal(size=3) + rng.normal(size=(len(sd), 3))) * 0.5**0.5
        false += any(one.is_worse for one in against_best(values, alpha=0.05).values())
    assert binomtest(false, repeats, 0.05, alternative="greater").pvalue > 0.01


def test_a_borrowed_sd_is_known_or_says_over_how_many_runs_it_was_measured():
    assert read_sigma("0.0013") == read_sigma(0.0013) == Borrowed(0.0013)
    assert read_sigma("0.0013/10") == Borrowed(0.0013, df=9)


@pytest.mark.parametrize("given", ["", "0", "-1", "nan", "inf", "x", "0.1/1", "0.1/x", "0.1/2/3", "1e400"])
def test_what_is_no_sd_is_refused(given):
    with pytest.raises(TableError, match="sigma"):
        read_sigma(given)
