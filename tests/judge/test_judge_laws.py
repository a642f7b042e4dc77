import numpy as np
import pytest
from scipy import optimize, stats

from blueberry.judge.across import fit_power_law, loss_gain

BASELINE = [(100, 4.0), (200, 3.5), (400, 3.0)]


def test_a_law_without_noise_is_found_and_predicts():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    found = fit_power_law(x, 3 * x**-0.5, 0.01 * 3 * x**-0.5)
    assert found is not None
    assert (found.factor, found.exponents[0]) == (pytest.approx(3), pytest.approx(-0.5))
    assert found.predict(64.0)[0] == pytest.approx(3 / 8)


def test_it_agrees_with_scipy():
    rng = np.random.default_rng(0)
    x = np.geomspace(10, 1000, 6)
    relative = np.linspace(0.01, 0.06, 6)
    y = 0.3 * x**-0.4 * np.exp(relative * rng.normal(size=6))
    known = fit_power_law(x, y, relative * y)
    (slope, _), covariance = optimize.curve_fit(
        lambda u, b, a: a + b * u, np.log(x), np.log(y), sigma=relative, absolute_sigma=True
    )
    assert known is not None
    chi2 = np.square((np.log(y) - np.log(known.factor) - known.exponents[0] * np.log(x)) / relative).sum() / 4
    se = covariance[0, 0] ** 0.5 * max(1, chi2) ** 0.5
    assert known.exponents[0] == pytest.approx(slope, rel=1e-6)
    assert known.exponent_intervals[0] == pytest.approx((slope - 1.959964 * se, slope + 1.959964 * se), rel=1e-5)
    plain = fit_power_law(x, y)
    line = stats.linregress(np.log(x), np.log(y))
    half = stats.t.isf(0.025, 4) * line.stderr
    assert plain is not None
    assert plain.exponent_intervals[0] == pytest.approx((line.slope - half, line.slope + half))


def test_the_prediction_interval_by_hand():
    """Slope 0 through three points: at the centre se**2 = 1/3 of a point's, and distance adds its share."""
    found = fit_power_law(np.exp([-1.0, 0.0, 1.0]), np.ones(3), np.full(3, 0.1))
    assert found is not None
    middle, (low, high) = found.predict(np.exp(2.0), sd=0.1)
    se = 0.1 * (1 / 3 + 4 / 2 + 1) ** 0.5
    assert middle == pytest.approx(1)
    assert np.log([low, high]) == pytest.approx([-1.959964 * se, 1.959964 * se])


def test_two_points_are_no_law():
    assert fit_power_law(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None
    assert fit_power_law(np.array([1.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0])) is None


def test_a_bent_curve_widens_the_interval():
    x = np.geomspace(1, 100, 5)
    bent = np.exp(-0.3 * np.log(x) + 0.05 * np.log(x) ** 2)
    straight, curved = (fit_power_law(x, y, 0.01 * y) for y in (x**-0.3, bent))
    assert straight is not None
    assert curved is not None
    width = [high - low for low, high in (straight.exponent_intervals[0], curved.exponent_intervals[0])]
    assert width[1] > 3 * width[0]


@pytest.mark.parametrize("known", [True, False])
def test_the_interval_of_the_exponent_covers(known):
    rng = np.random.default_rng(3)
    x, hits = np.geomspace(1, 100, 4), 0
    for _ in range(400):
        y = 2 * x**-0.3 * np.exp(0.05 * rng.normal(size=4))
        found = fit_power_law(x, y, 0.05 * y if known else None)
        assert found is not None
        hits += found.exponent_intervals[0][0] <= -0.3 <= found.exponent_intervals[0][1]
    assert stats.binomtest(hits, 400, 0.95, alternative="less").pvalue > 0.01


def test_the_work_the_baseline_needs_is_read_off_its_curve():
    found = loss_gain(BASELINE, (100, 3.5))
    assert found.loss_gain == pytest.approx(2.0)
    assert loss_gain(BASELINE, (100, 3.25)).loss_gain == pytest.approx(8**0.5)  # halfway in log work


def test_what_lies_beyond_the_curve_is_a_bound():
    low = loss_gain(BASELINE, (100, 2.9))
    assert (low.loss_gain, low.more_than) == (None, 4.0)
    high = loss_gain(BASELINE, (200, 4.1))
    assert (high.loss_gain, high.less_than) == (None, 0.5)


def test_ends_of_the_curve_and_a_longer_run_that_ended_higher():
    assert loss_gain(BASELINE, (400, 3.0)).loss_gain == pytest.approx(1.0)
    assert loss_gain(BASELINE, (100, 4.0)).loss_gain == pytest.approx(1.0)
    bumpy = [*BASELINE, (800, 3.1)]
    assert loss_gain(bumpy, (100, 3.0)).loss_gain == pytest.approx(4.0)
    assert loss_gain(bumpy, (100, 2.9)).more_than == 8.0
    assert loss_gain([(100, 4.0)], (50, 4.0)).loss_gain == pytest.approx(2.0)
