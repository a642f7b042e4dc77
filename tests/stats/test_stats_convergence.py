import math

import pytest
from scipy import stats

from blueberry.stats.convergence import compare_times, first_at_target, median_interval, median_time

INF = math.inf


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
    assert median_time([]) is None


def test_the_interval_of_the_median_may_be_infinite():
    assert median_interval([1, 2, 3, 4, 5]) is None
    assert median_interval([3, 1, 2, 5, 4, INF]) == (1, INF)
    assert median_interval(list(range(1, 11))) == (2, 9)  # Conover's table: n = 10, r = 2, s = 9 at .979


def test_misses_lose_and_equal_misses_do_not_count():
    race = compare_times([10, 20, INF, INF, 30], [15, INF, 40, INF, 30])
    assert (race.a_first, race.b_first, race.equal) == (2, 1, 2)
    assert race.p_value == pytest.approx(stats.binomtest(2, 3).pvalue)


def test_five_seeds_cannot_decide_and_six_can():
    assert compare_times([1] * 5, [2] * 5).p_value == pytest.approx(0.0625)
    assert compare_times([1] * 6, [INF] * 6).p_value == pytest.approx(0.03125)
    assert compare_times([INF] * 6, [INF] * 6).p_value == 1
