"""Curves of no given shape, smooth and rough."""

from dataclasses import replace

import numpy as np
import pytest

from blueberry.stats.locate import ROUGH, SMOOTH, smooth_curve

GRID = np.linspace(-4.0, 4.0, 81)


def runs(shape, *, sd, num_seeds=2, seed=0):
    rng = np.random.default_rng(seed)
    x = np.tile(np.linspace(-4.0, 4.0, 9), num_seeds)
    seeds = np.repeat(np.arange(num_seeds), 9)
    shared = rng.normal(size=num_seeds)[seeds]
    return x, seeds, shape(x) + sd * (0.3**0.5 * shared + 0.7**0.5 * rng.normal(size=len(x)))


@pytest.mark.parametrize("kind", [SMOOTH, ROUGH])
def test_without_noise_it_goes_through_the_runs(kind):
    x, seeds, values = runs(lambda x: 0.03 * x**2, sd=1e-6)
    curve = smooth_curve(kind, x, seeds, values, x[:9])
    assert np.abs(curve - values[:9]).max() < 2e-3


def test_it_follows_two_valleys_and_what_is_added_to_all_moves_it():
    x, seeds, values = runs(lambda x: 0.1 * np.minimum((x + 2) ** 2, (x - 2) ** 2), sd=0.02)
    curve = smooth_curve(ROUGH, x, seeds, values, GRID)
    assert curve[40] - curve.min() > 0.2, "the ridge"
    assert np.allclose(smooth_curve(ROUGH, x, seeds, values + 3, GRID), curve + 3)
    assert np.allclose(smooth_curve(ROUGH, x, seeds, values * 10, GRID), curve * 10), "no unit of its own"


def test_by_the_textbook_where_length_and_height_are_given():
    x, seeds, values = runs(lambda x: 0.03 * x**2, sd=0.02)
    given = replace(SMOOTH, lengths=(2.0,), heights=(10.0,))
    covariance = 100 * np.exp(-(((x[:, None] - x) / 2) ** 2) / 2) + 0.7 * np.eye(18) + 0.3 * (seeds[:, None] == seeds)
    inverse, ones = np.linalg.inv(covariance), np.ones(18)
    level = ones @ inverse @ values / (ones @ inverse @ ones)
    to_grid = 100 * np.exp(-(((GRID[:, None] - x) / 2) ** 2) / 2)
    expected = level + to_grid @ inverse @ (values - level)
    assert np.allclose(smooth_curve(given, x, seeds, values, GRID), expected, rtol=0, atol=1e-9)


def test_the_smooth_one_is_nearer_to_the_bottom_of_a_valley():
    """Its least value, over 40 draws of a valley with its optimum at 0.7: root mean square distances."""
    drawn = [runs(lambda x: 0.012 * (x - 0.7) ** 2, sd=0.02, seed=seed) for seed in range(40)]
    far = {
        name: np.sqrt(np.mean([(GRID[np.argmin(smooth_curve(kind, *one, GRID))] - 0.7) ** 2 for one in drawn]))
        for name, kind in (("smooth", SMOOTH), ("rough", ROUGH))
    }
    assert far["smooth"] < 0.7 * far["rough"]


@pytest.mark.parametrize("kind", [SMOOTH, ROUGH])
def test_noise_is_not_taken_for_a_curve(kind):
    curves = [smooth_curve(kind, *runs(lambda x: 0 * x, sd=0.02, seed=seed), GRID) for seed in range(20)]
    assert np.mean([np.ptp(curve) for curve in curves]) < 0.03, "of runs that span .07"
