"""The search along one axis, on surfaces whose least value is known."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from blueberry.stats.locate import Space, expected_runs, most_runs, search

RATES = Space(low=0.001, high=1.0)
VALLEYS = {
    "quadratic": lambda u: 0.03 * u**2,
    "lopsided": lambda u: 0.02 * u**2 * np.where(u > 0, 2, 1),
    "saturating": lambda u: 0.25 * (1 - np.exp(-0.12 * u**2)),
    "quartic": lambda u: 0.005 * u**2 + 0.01 * u**4,
}


def run(space, loss, *, sd=0.01, rho=0.3, seed=0, min_effect=0.01, only_trained=False, **bounds):
    """Drive a search; returns how it ended and the batches it asked for. `loss` takes values."""
    rng, shared = np.random.default_rng(seed), {}
    ask = search(space, alpha=0.05, min_effect=min_effect, only_trained=only_trained, **{"max_seeds": 16, **bounds})
    batches = [next(ask)]
    while True:
        answers = []
        for value, block in batches[-1]:
            common = shared.setdefault(block, rng.normal())
            answers.append(float(loss(value)) + sd * (math.sqrt(rho) * common + math.sqrt(1 - rho) * rng.normal()))
        try:
            batches.append(ask.send(answers))
        except StopIteration as over:
            return over.value, batches


def valley(name, optimum):
    return lambda value: 3.3 + VALLEYS[name](math.log(value / optimum))


@pytest.mark.parametrize("name", VALLEYS)
def test_what_it_recommends_is_within_min_effect_as_often_as_it_says(name):
    wrong = covered = claims = runs = 0
    for seed in range(30):
        optimum = math.exp(np.random.default_rng([7, seed]).uniform(-5.5, -1.4))
        found, batches = run(RATES, valley(name, optimum), seed=seed)
        runs += sum(map(len, batches))
        if found.ended == "located":
            claims += 1
            wrong += VALLEYS[name](math.log(found.recommended / optimum)) > 0.01
            covered += found.valley.interval[0] <= math.log(optimum) <= found.valley.interval[1]
    assert claims >= 27
    assert binomtest(wrong, claims, 0.05, alternative="greater").pvalue > 0.01
    assert binomtest(covered, claims, 0.95, alternative="less").pvalue > 0.01
    assert runs / 30 < 18, "a tenth of 26 rates on five seeds is 13"


def test_it_asks_for_no_run_twice_and_the_same_answers_give_the_same_batches():
    found, batches = run(RATES, valley("lopsided", 0.05), sd=0.03)
    asked = [place for batch in batches for place in batch]
    assert len(asked) == len(set(asked))
    again = run(RATES, valley("lopsided", 0.05), sd=0.03)
    assert again[1] == batches
    assert again[0].recommended == found.recommended


def test_a_range_that_ends_too_early_extends_itself_to_a_limit():
    found, _ = run(Space(low=0.001, high=0.02), valley("quadratic", 0.04))
    assert found.ended == "located"
    assert max(found.values) > 0.04
    assert 0.02 < found.recommended < 0.08
    far, _ = run(Space(low=0.001, high=0.02), valley("quadratic", 2.0))
    assert max(far.values) <= 0.2 * (1 + 1e-9), "a factor of ten beyond its end"
    assert far.valley.is_open[1]


def test_of_a_list_only_its_values_are_trained_and_recommended():
    listed = tuple(float(f"{value:.3g}") for value in np.geomspace(0.001, 1.0, 26))
    found, batches = run(Space(low=0.001, high=1.0, listed=listed), valley("lopsided", 0.05))
    assert {value for batch in batches for value, _ in batch} <= set(listed)
    assert found.recommended in listed


def test_without_fresh_seeds_it_recommends_a_value_that_was_trained():
    found, _ = run(RATES, valley("lopsided", 0.05), only_trained=True)
    assert found.recommended in found.values


def test_a_budget_is_spent_and_not_passed():
    for budget in (9, 13, 20, 31):
        found, batches = run(RATES, valley("quadratic", 0.03), max_runs=budget)
        assert sum(map(len, batches)) == budget
        assert found.ended == "runs"


def test_whole_numbers_stay_whole():
    space = Space(low=2, high=512, is_whole=True)
    found, batches = run(space, valley("quadratic", 40.0))
    assert all(value == int(value) >= 1 for batch in batches for value, _ in batch)
    assert found.recommended == int(found.recommended)


def test_a_linear_axis_stops_where_it_is_told_to():
    space = Space(low=0.0, high=0.5, is_log=False, stops=(0.0, None))
    found, batches = run(space, lambda value: 3.0 + 2.0 * (value - 0.12) ** 2, sd=0.001)
    assert all(0 <= value <= 0.75 for batch in batches for value, _ in batch)
    assert abs(found.recommended - 0.12) < 0.05


@pytest.mark.parametrize("sd", [0.003, 0.02])
def test_a_cliff_is_recognised_and_no_diverged_value_recommended(sd):
    def loss(value):
        u = math.log(value / 0.05)
        return math.inf if u > 0.3 else 3.3 + 0.03 * u**2

    for seed in range(10):
        found, batches = run(RATES, loss, sd=sd, seed=seed)
        assert found.ended == "cliff" or VALLEYS["quadratic"](math.log(found.recommended / 0.05)) < 0.01
        assert sum(map(len, batches)) < 40


def test_a_value_that_diverged_gets_no_further_seed():
    _, batches = run(RATES, lambda value: math.inf if value > 0.06 else 3.3 + 0.03 * math.log(value / 0.02) ** 2)
    assert not [value for batch in batches[1:] for value, block in batch if value > 0.06 and block > 0]


def test_two_valleys_apart_are_recognised():
    def loss(value):
        return 3.3 + min(0.1 * math.log(value / 0.004) ** 2, 0.01 + 0.1 * math.log(value / 0.25) ** 2)

    ended = [run(RATES, loss, sd=0.004, seed=seed)[0].ended for seed in range(10)]
    assert ended.count("two valleys") >= 9


def test_a_ridge_between_two_valleys_is_seldom_claimed_though_it_is_hardly_higher_than_the_noise():
    def loss(value):
        u = math.log(value / 0.01)
        return 3.3 + min(0.03 * u**2, 0.004 + 0.03 * (u - 2.2) ** 2)

    found = [run(RATES, loss, sd=0.02, seed=seed)[0] for seed in range(10)]
    wrong = [one for one in found if one.ended == "located" and loss(one.recommended) > 3.31]
    assert len(wrong) <= 2, "by the valley alone it was 14 of 20"


def test_when_everything_diverges_it_ends():
    found, batches = run(RATES, lambda value: math.inf)
    assert found.is_broken
    assert found.recommended is None
    assert sum(map(len, batches)) < 20


def test_it_says_beforehand_what_it_expects_and_the_most_it_may_take():
    expected, most = expected_runs(RATES, max_seeds=16), most_runs(RATES, max_seeds=16)
    assert expected == 13
    for name in VALLEYS:
        for seed in (1, 2):  # on every valley one that comes to 69 of 79, and the least was 21
            _, batches = run(RATES, valley(name, 0.05), sd=0.1, seed=seed)
            assert expected <= sum(map(len, batches)) <= most
