import math

import numpy as np
import pytest
from scipy import stats

from blueberry.stats.differences import mean_interval, paired


def test_a_difference_worked_by_hand():
    # differences 1, 2, 3: mean 2, sd 1, half width 4.3027 / sqrt(3)
    pair = paired([1.0, 1.0, 1.0], [2.0, 3.0, 4.0])
    assert (pair.difference, pair.sd, pair.n) == (2.0, pytest.approx(1.0), 3)
    low, high = pair.interval(0.95) or (0, 0)
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rel=1e-6)


def test_agrees_with_scipy():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=7), rng.normal(0.5, 1, size=7)
    reference = stats.ttest_rel(b, a)
    pair = paired(a, b)
    assert pair.p_value() == pytest.approx(float(reference.pvalue))
    assert pair.interval(0.9) == pytest.approx(tuple(reference.confidence_interval(0.9)))


def test_missing_cells_pair_on_common_seeds():
    pair = paired([1.0, math.nan, 3.0, 4.0], [2.0, 9.0, math.nan, 6.0])
    assert (pair.difference, pair.n) == (1.5, 2)


def test_one_pair_has_no_interval():
    pair = paired([1.0], [2.0])
    assert (pair.difference, pair.sd, pair.interval(0.95), pair.p_value()) == (1.0, None, None, None)
    assert paired([1.0], [math.nan]).difference is None


def test_without_variance_the_interval_is_the_point():
    assert paired([1.0, 2.0], [1.5, 2.5]).interval(0.95) == (0.5, 0.5)
    assert paired([1.0, 2.0], [1.0, 2.0]).p_value() == 1.0


def test_a_diverged_side_is_infinitely_worse():
    assert paired([1.0, 1.0], [1.0, math.inf]).difference == math.inf
    assert paired([math.inf, 1.0], [1.0, 1.0]).difference == -math.inf
    assert paired([math.inf, 1.0], [1.0, math.inf]).difference is None


def test_the_interval_covers_as_it_says():
    rng = np.random.default_rng(2)
    repeats = 2000
    hits = 0
    for _ in range(repeats):
        block = rng.normal(size=4)
        pair = paired(block + rng.normal(size=4), 0.3 + block + rng.normal(size=4))
        low, high = pair.interval(0.95) or (0, 0)
        hits += low <= 0.3 <= high
    assert 0.93 < hits / repeats < 0.97


def test_mean_interval_is_that_of_scipy():
    values = [3.1, 3.3, 3.2, 3.6]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values, 0.95) == pytest.approx(tuple(expected))
    assert mean_interval([3.1], 0.95) is None
