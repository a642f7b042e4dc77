import numpy as np
import pytest
from scipy import stats

from blueberry.stats.robustness import (
    band_within,
    binomial_interval,
    exchange,
    first_at_target,
    lower_bound,
    lr_sensitivity,
    median_time,
    stability,
    upper_bound,
)

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


@pytest.mark.parametrize(("failures", "n"), [(0, 5), (1, 5), (5, 5), (3, 10), (17, 40)])
def test_the_bounds_are_clopper_and_pearsons(failures, n):
    expected = stats.binomtest(failures, n).proportion_ci(0.95, method="exact")
    assert binomial_interval(failures, n) == pytest.approx((expected.low, expected.high))


def test_none_of_five_by_hand():
    assert upper_bound(0, 5) == pytest.approx(1 - 0.05**0.2)  # .451
    assert lower_bound(1, 5) == pytest.approx(1 - 0.95**0.2)  # .0102
    assert binomial_interval(0, 0) == (0.0, 1.0)


def test_the_bounds_cover_at_every_probability():
    for n in (3, 5, 8):
        for p in (0.02, 0.2, 0.5, 0.77):
            held = [k for k in range(n + 1) if upper_bound(k, n) >= p]
            assert sum(stats.binom.pmf(k, n, p) for k in held) >= 0.95


def test_stability_names_both_sides():
    stable, unstable = stability([0.1, 0.2, 0.4, 0.8], [0, 0, 2, 5], [5, 5, 5, 5])
    assert stable is not None
    assert unstable is not None
    assert (stable.x, stable.n) == (0.2, 5)
    assert stable.bound == pytest.approx(1 - 0.05**0.2)
    assert (unstable.x, unstable.failures) == (0.4, 2)
    assert unstable.bound == pytest.approx(stats.beta.ppf(0.05, 2, 4))


def test_a_rate_without_failures_above_one_with_is_not_called_stable():
    stable, _ = stability([0.1, 0.2, 0.4], [0, 1, 0], [5, 5, 5])
    assert stable is not None
    assert stable.x == 0.1
    assert stability([0.1, 0.2], [1, 0], [3, 3])[0] is None
    assert stability([0.1, 0.2], [0, 0], [3, 0])[1] is None
    only = stability([0.1, 0.2], [0, 0], [3, 0])[0]
    assert only is not None
    assert only.x == 0.1


def test_the_first_evaluation_at_the_target_counts():
    points = [(10, 3.0), (20, 2.5), (30, 2.6), (40, 2.4)]
    assert first_at_target(points, 2.55) == 20
    assert first_at_target(points, 2.5) == 20
    assert first_at_target(points, 2.0) == INF
    assert first_at_target([], 2.0) == INF


def test_a_miss_is_never_dropped():
    assert median_time([10, INF, 20]) == 20
    assert median_time([10, 20, 30, INF]) == 25
    assert median_time([10, 20, INF, INF]) == INF
    assert median_time([10, INF]) == INF
    assert median_time([]) == INF


def test_the_exchange_of_updates_for_loss_near_the_end():
    def curve(slope: float, last: int = 1000) -> list[tuple[float, float]]:
        return [(u, 3.0 + 5 / u - slope * (u - last) / 100) for u in range(10, last + 1, 10)]

    worth = exchange([curve(0.004), curve(0.005), curve(0.0045, 600)])
    assert worth.n == 3
    assert worth.difference == pytest.approx(0.0045, abs=0.0015)  # what 5 / u still falls is in it
    low, high = worth.interval(0.95) or (0, 0)
    assert low < 0.0045 < high
    assert exchange([[(1, 3.0), (2, 2.0)]]).difference is None
    assert exchange([[(100, INF), (200, 3.0), (300, 2.9), (400, 2.8)]]).difference == pytest.approx(0.1)
