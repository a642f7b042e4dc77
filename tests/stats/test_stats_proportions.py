import pytest
from scipy import stats

from blueberry.stats.proportions import binomial_interval, lower_bound, stability, upper_bound


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
    found = stability([0.1, 0.2, 0.4, 0.8], [0, 0, 2, 5], [5, 5, 5, 5])
    assert found.highest_stable is not None
    assert found.lowest_unstable is not None
    assert (found.highest_stable.x, found.highest_stable.n) == (0.2, 5)
    assert found.highest_stable.bound == pytest.approx(1 - 0.05**0.2)
    assert (found.lowest_unstable.x, found.lowest_unstable.failures) == (0.4, 2)
    assert found.lowest_unstable.bound == pytest.approx(stats.beta.ppf(0.05, 2, 4))


def test_a_rate_without_failures_above_one_with_is_not_called_stable():
    found = stability([0.1, 0.2, 0.4], [0, 1, 0], [5, 5, 5])
    assert found.highest_stable is not None
    assert found.highest_stable.x == 0.1
    assert stability([0.1, 0.2], [1, 0], [3, 3]).highest_stable is None
    assert stability([0.1, 0.2], [0, 0], [3, 0]).lowest_unstable is None
    only = stability([0.1, 0.2], [0, 0], [3, 0]).highest_stable
    assert only is not None
    assert only.x == 0.1
