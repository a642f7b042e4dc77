import numpy as np
import pytest

from blueberry.stats.noise import better_half, measure_noise, two_way_fit
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
    assert np.diff(fit.arm_effects) == pytest.approx([1.0, 2.0])
    assert fit.residual == pytest.approx(0.0, abs=1e-18)
    assert fit.df == 7 - 5
