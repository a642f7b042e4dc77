import pytest

from blueberry.stats.speedup import effective_speedup

BASELINE = [(100, 4.0), (200, 3.5), (400, 3.0)]


def test_the_work_the_baseline_needs_is_read_off_its_curve():
    found = effective_speedup(BASELINE, (100, 3.5))
    assert found.loss_gain == pytest.approx(2.0)
    assert effective_speedup(BASELINE, (100, 3.25)).loss_gain == pytest.approx(8**0.5)  # halfway in log work
    assert found.factor is None


def test_loss_gain_and_throughput_gain_are_told_apart():
    found = effective_speedup(BASELINE, (100, 3.5), baseline_throughput=10.0, arm_throughput=8.0)
    assert (found.loss_gain, found.throughput_gain) == (pytest.approx(2.0), pytest.approx(0.8))
    assert found.factor == pytest.approx(1.6)


def test_what_lies_beyond_the_curve_is_a_bound():
    low = effective_speedup(BASELINE, (100, 2.9), baseline_throughput=1.0, arm_throughput=2.0)
    assert (low.loss_gain, low.factor, low.more_than, low.factor_more_than) == (None, None, 4.0, 8.0)
    high = effective_speedup(BASELINE, (200, 4.1))
    assert (high.loss_gain, high.less_than) == (None, 0.5)


def test_ends_of_the_curve_and_a_longer_run_that_ended_higher():
    assert effective_speedup(BASELINE, (400, 3.0)).loss_gain == pytest.approx(1.0)
    assert effective_speedup(BASELINE, (100, 4.0)).loss_gain == pytest.approx(1.0)
    bumpy = [*BASELINE, (800, 3.1)]
    assert effective_speedup(bumpy, (100, 3.0)).loss_gain == pytest.approx(4.0)
    assert effective_speedup(bumpy, (100, 2.9)).more_than == 8.0
    assert effective_speedup([(100, 4.0)], (50, 4.0)).loss_gain == pytest.approx(2.0)
