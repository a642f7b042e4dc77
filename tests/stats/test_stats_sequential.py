import math

import numpy as np
import pytest
from scipy import integrate, stats

from blueberry.looks import looks_of
from blueberry.stats.anytime import anytime
from blueberry.stats.sequential import level_of_a_look


@pytest.mark.parametrize(
    ("search", "maximum", "looks"),
    [
        (3, 16, (3, 5, 8, 12, 16)),
        (5, 16, (5, 8, 12, 16)),
        (3, 10, (3, 5, 8, 10)),
        (4, 30, (4, 5, 8, 12, 16, 24, 30)),
        (3, 3, (3,)),
        (1, 16, (3, 5, 8, 12, 16)),  # nothing is told from chance below three
        (1, 2, (2,)),
    ],
)
def test_the_looks_of_a_design(search, maximum, looks):
    assert looks_of(search, maximum) == looks


def test_looks_spend_alpha_together():
    rng = np.random.default_rng(0)
    values, false = rng.normal(size=(4000, 16)), np.zeros(4000, dtype=bool)
    looks = looks_of(3, 16)
    for n in looks:
        t = values[:, :n].mean(1) / (values[:, :n].std(1, ddof=1) / n**0.5)
        false |= 2 * stats.t.sf(abs(t), n - 1) <= level_of_a_look(0.05, len(looks))
    assert stats.binomtest(int(false.sum()), 4000, 0.05, alternative="greater").pvalue > 0.01


def test_the_e_value_is_the_mixture_of_t_likelihoods():
    values = np.array([0.3, 0.9, -0.2, 0.7, 0.5])
    t = values.mean() / values.std(ddof=1) * 5**0.5
    mixed = integrate.quad(lambda d: stats.nct.pdf(t, 4, d * 5**0.5) * stats.norm.pdf(d, scale=0.7), -6, 6)[0]
    assert anytime(values, prior_sd=0.7).e_value == pytest.approx(mixed / stats.t.pdf(t, 4), rel=1e-6)


def test_the_interval_ends_where_the_e_value_rejects():
    values = np.array([0.3, 0.9, -0.2, 0.7, 0.5, 0.4])
    said = anytime(values, level=0.95)
    assert said.interval is not None
    for end in said.interval:
        assert anytime(values - end).e_value == pytest.approx(20)
    assert anytime(values - sum(said.interval) / 2).e_value < 1


def test_few_seeds_bound_nothing():
    assert anytime([0.1]).interval is None
    assert anytime([0.1, 0.2]).interval is None
    assert anytime([]).e_value == 1
    assert anytime([0.0, 0.0, 0.0]).e_value == 1
    assert anytime([0.1, 0.1]).e_value == math.inf


def test_peeking_at_every_seed_to_a_hundred_keeps_the_error():
    rng = np.random.default_rng(1)
    false = covered = 0
    for _ in range(150):
        values = 0.2 + rng.normal(size=100)
        said = [anytime(values[:n]) for n in range(2, 101, 1)]
        covered += all(one.interval is None or one.interval[0] <= 0.2 <= one.interval[1] for one in said)
        false += any(anytime(values[:n] - 0.2).e_value >= 20 for n in range(2, 101))
    assert stats.binomtest(false, 150, 0.05, alternative="greater").pvalue > 0.01
    assert covered == 150 - false


def test_it_finds_what_is_there():
    rng = np.random.default_rng(2)
    assert sum(anytime(1 + rng.normal(size=16)).e_value >= 20 for _ in range(200)) > 115
