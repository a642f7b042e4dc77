"""A smooth curve of no given shape."""

import numpy as np

from blueberry.stats.smooth import smooth_curve

GRID = np.linspace(-4.0, 4.0, 81)


def runs(shape, *, sd, num_seeds=2, seed=0):
    rng = np.random.default_rng(seed)
    x = np.tile(np.linspace(-4.0, 4.0, 9), num_seeds)
    seeds = np.repeat(np.arange(num_seeds), 9)
    shared = rng.normal(size=num_seeds)[seeds]
    return x, seeds, shape(x) + sd * (0.3**0.5 * shared + 0.7**0.5 * rng.normal(size=len(x)))


def test_without_noise_it_goes_through_the_runs():
    x, seeds, values = runs(lambda x: 0.03 * x**2, sd=1e-6)
    curve = smooth_curve(x, seeds, values, x[:9])
    assert np.abs(curve - values[:9]).max() < 2e-3


def test_it_follows_two_valleys_and_what_is_added_to_all_moves_it():
    x, seeds, values = runs(lambda x: 0.1 * np.minimum((x + 2) ** 2, (x - 2) ** 2), sd=0.02)
    curve = smooth_curve(x, seeds, values, GRID)
    assert curve[40] - curve.min() > 0.2, "the ridge"
    assert np.allclose(smooth_curve(x, seeds, values + 3, GRID), curve + 3)
    assert np.allclose(smooth_curve(x, seeds, values * 10, GRID), curve * 10), "no unit of its own"


def test_noise_is_not_taken_for_a_curve():
    curves = [smooth_curve(*runs(lambda x: 0 * x, sd=0.02, seed=seed), GRID) for seed in range(20)]
    assert np.mean([np.ptp(curve) for curve in curves]) < 0.03, "of runs that span .07"
