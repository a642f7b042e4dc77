import numpy as np
import pytest

from blueberry.stats.sensitivity import band_within, lr_sensitivity

RATES = np.geomspace(0.001, 1.0, 301)
INF = float("inf")


def valley(curvature, seeds=(0.0, 0.3, -0.2)):
    return curvature * np.log(RATES / RATES[150])[:, None] ** 2 + np.array(seeds)


def test_the_sensitivity_of_a_parabola_is_its_integral():
    """The mean of c u**2 over one decade either side is c ln(10)**2 / 3; what a seed adds cancels."""
    found = lr_sensitivity(RATES, valley(0.05))
    assert found is not None
    assert found.difference == pytest.approx(0.05 * np.log(10) ** 2 / 3, rel=1e-3)
    assert (found.n, found.sd) == (3, pytest.approx(0, abs=1e-9))


def test_a_diverged_rate_counts_as_the_cap():
    values = valley(0.0, seeds=(1.0, 1.0, 1.0))
    values[200:] = INF
    values[150] -= 1e-6
    assert lr_sensitivity(RATES, values) is None
    found = lr_sensitivity(RATES, values, cap=5.0)
    assert found is not None
    assert found.difference == pytest.approx(4.0 / 4, rel=0.02)  # the last quarter of the span, 4 above the best


def test_a_range_that_does_not_reach_a_decade_says_nothing():
    middle = slice(60, 241)  # .9 decades either side
    assert lr_sensitivity(RATES[middle], valley(0.05)[middle]) is None
    assert lr_sensitivity(RATES[middle], valley(0.05)[middle], span=7.0) is not None
    assert lr_sensitivity(RATES[[50, 150, 250]], valley(0.05)[[50, 150, 250]]) is not None


def test_the_band_of_a_parabola():
    band = band_within(RATES, valley(0.05), 0.01)
    assert band is not None
    assert np.log(band.factor) == pytest.approx(2 * (0.01 / 0.05) ** 0.5, rel=1e-2)
    assert (band.low_is_bounded, band.high_is_bounded) == (True, True)


def test_a_band_that_leaves_the_range_says_so_and_ends_at_divergence():
    rates = np.array([1.0, 2.0, 4.0, 8.0])
    band = band_within(rates, np.array([[0.0], [0.001], [0.002], [INF]]), 0.01)
    assert band is not None
    assert (band.low, band.high) == pytest.approx((1.0, 4.0))
    assert (band.low_is_bounded, band.high_is_bounded) == (False, True)
    assert band_within(rates, np.full((4, 1), INF), 0.01) is None
