import math

import numpy as np
import pytest
from scipy.stats import binomtest

from blueberry.stats import optimum as optima
from blueberry.stats.optimum import Located, OneSided, is_clear, read_valley
from tests.judge.test_judge_rule import unresolved

X = np.log(np.geomspace(0.001, 1.0, 13))


def locate_optimum(x, values, unresolved):
    return optima.locate_optimum(x, read_valley(x, values, alpha=0.05), unresolved)


SURFACES = {
    "quadratic": lambda z: 0.05 * z**2,
    "lopsided": lambda z: 0.05 * np.where(z < 0, z**2, 3 * z**2),
    "steep": lambda z: 0.02 * np.where(z < 0, z**2, 8 * z**2),
    "skewed": lambda z: 0.05 * (np.exp(0.6 * z) - 0.6 * z - 1) / 0.18,
    "cliff": lambda z: np.where(z > 1.2, np.inf, 0.05 * z**2 + np.where(z > 0.6, 0.5 * (z - 0.6) ** 2, 0)),
}


def one(rng, surface, optimum, *, sd=0.02, rho=0.5, n=3, x=X):
    common, own = rng.normal(size=(1, n)), rng.normal(size=(len(x), n))
    values = SURFACES[surface](x - optimum)[:, None] + sd * (rho**0.5 * common + (1 - rho) ** 0.5 * own)
    return locate_optimum(x, values, unresolved(values, alpha=0.05))


@pytest.mark.parametrize("surface", SURFACES)
def test_the_interval_covers_the_optimum(surface):
    rng = np.random.default_rng(len(surface))
    repeats = 120 if surface == "cliff" else 50  # there it is nearest to missing
    hits = 0
    for _ in range(repeats):
        optimum = math.log(0.04) + rng.uniform(-0.3, 0.3)
        found = one(rng, surface, optimum)
        assert isinstance(found, Located)
        hits += found.interval[0] <= optimum <= found.interval[1]
    assert binomtest(hits, repeats, 0.95, alternative="less").pvalue > 0.01


def test_without_noise_the_vertex_is_found():
    values = np.repeat((X - X[6] - 0.1)[:, None] ** 2, 3, axis=1)
    found = locate_optimum(X, values, [6])
    assert isinstance(found, Located)
    assert found.estimate == pytest.approx(X[6] + 0.1, abs=0.01)
    assert found.interval[1] - found.interval[0] < 0.06, "two cells of the grid"


def test_it_is_narrower_than_the_bracket():
    found = one(np.random.default_rng(1), "quadratic", math.log(0.04), sd=0.005)
    assert isinstance(found, Located)
    assert found.interval[1] - found.interval[0] < X[1] - X[0]


def test_an_optimum_beyond_the_range_gives_a_bound():
    rng = np.random.default_rng(2)
    above, below = one(rng, "quadratic", 1.0), one(rng, "quadratic", X[0] - 1)
    assert isinstance(above, OneSided)
    assert above.side == "above"
    assert above.bound in X
    assert isinstance(below, OneSided)
    assert below.side == "below"


def test_arms_that_reach_both_ends_give_nothing():
    assert locate_optimum(X, np.zeros((13, 3)), list(range(13))) is None


def test_too_few_points_or_seeds_give_nothing():
    values = (X[:4] - X[1])[:, None] ** 2 + np.zeros((4, 3))
    assert locate_optimum(X[:4], values, [1]) is None
    assert read_valley(X[:3], (X[:3, None] - X[1]) ** 2 + np.zeros((3, 3)), alpha=0.05) is None


def scattered(rng, optimum, *, sd=0.01, surface="quadratic"):
    return SURFACES[surface](X - optimum)[:, None] + sd * rng.normal(size=(len(X), 1))


def test_the_scatter_of_single_runs_about_the_curve_locates_the_optimum():
    rng, hits, clear = np.random.default_rng(3), 0, 0
    for _ in range(50):
        optimum = math.log(0.04) + rng.uniform(-0.3, 0.3)
        values = scattered(rng, optimum)
        found = read_valley(X, values, alpha=0.05)
        assert found is not None
        if is_clear(X, values, found, alpha=0.05):
            clear += 1
            hits += found.interval[0] <= optimum <= found.interval[1]
    assert clear > 33
    assert binomtest(hits, clear, 0.95, alternative="less").pvalue > 0.01


def test_what_a_point_costs_at_worst_is_not_too_little():
    rng, wrong = np.random.default_rng(4), 0
    for _ in range(60):
        optimum = math.log(0.04) + rng.uniform(-0.3, 0.3)
        values = SURFACES["lopsided"](X - optimum)[:, None] + 0.01 * rng.normal(size=(len(X), 2))
        found = read_valley(X, values, alpha=0.05)
        assert found is not None
        wrong += found.excess_at(found.estimate) < SURFACES["lopsided"](found.estimate - optimum)
    assert binomtest(wrong, 60, 0.05, alternative="greater").pvalue > 0.01


def test_two_valleys_are_seen_and_a_wandering_far_end_is_none():
    rng = np.random.default_rng(5)
    two = np.minimum(0.1 * (X + 4.5) ** 2, 0.02 + 0.1 * (X + 1.5) ** 2)[:, None] + 0.003 * rng.normal(size=(len(X), 3))
    found = read_valley(X, two, alpha=0.05)
    assert found is not None
    assert optima.has_second_valley(X, two, found, alpha=0.05)
    one = 0.1 * (X + 4)[:, None] ** 2 + 0.003 * rng.normal(size=(len(X), 3))
    one[-1] -= 0.3  # far above the least value
    found = read_valley(X, one, alpha=0.05)
    assert found is not None
    assert not optima.has_second_valley(X, one, found, alpha=0.05)
