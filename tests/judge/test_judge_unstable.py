"""Arms whose runs blow up: no mean tells them from another, their best run may."""

import numpy as np
import pytest
from scipy import stats

import blueberry
from blueberry.judge.verdicts import against_baseline, against_best
from blueberry.stats.noise import Borrowed, measure_noise

STABLE = (3.30, 3.31, 3.30)
BLOWN = (3.40, 3.42, 9.00)
SWEEP = {0.01: (3.40, 3.41, 3.405), 0.02: STABLE, 0.04: (3.32, 3.31, 3.325), 0.08: BLOWN}


def judged(arms, *, sign=1.0, **asked):
    given = {"vary": "arm" if isinstance(next(iter(arms)), str) else "lr"} | asked
    name = given["vary"]
    metric = "val_loss" if sign > 0 else "score"
    rows = [
        {name: arm, "seed": seed, metric: sign * value} for arm, some in arms.items() for seed, value in enumerate(some)
    ]
    return blueberry.analyse(rows, metric=metric, goal="minimize" if sign > 0 else "maximize", **given)


def test_an_unstable_arm_at_the_end_of_a_range_is_no_candidate():
    found = judged(SWEEP)
    verdict = found.against_best("lr=0.08")
    assert (verdict.verdict, verdict.winner, verdict.by) == ("winner", "lr=0.02", "best run")
    assert verdict.difference == pytest.approx(min(BLOWN) - np.mean(STABLE))
    assert verdict.interval[0] > 0
    assert "lr=0.08" not in found.unresolved
    assert not [one for one in found.audits if one.audit == "edge"]
    assert "each of its 3 runs is worse than lr=0.02, the best by +0.0967 nats" in found.known
    assert {one.by for one in found.verdicts if one.b != "lr=0.08"} == {"means"}


@pytest.mark.parametrize("first", ["baseline", "a"])
def test_two_arms_are_told_apart_by_the_noise_of_the_stable_one(first):
    found = judged({first: STABLE, "u": (3.4, 3.5, 9.0)})
    assert [one.winner for one in found.verdicts] == [first]
    se = np.std(STABLE, ddof=1) * np.sqrt(1 + 1 / 3)
    half = stats.t.isf(0.025, 2) * se
    assert found.verdicts[0].interval == pytest.approx((3.4 - np.mean(STABLE) - half, 3.4 - np.mean(STABLE) + half))


def test_an_unstable_baseline_loses_too():
    found = judged({"baseline": BLOWN, "a": STABLE, "b": (3.33, 3.34, 3.335)})
    assert found.best.arm == "a"
    assert found.verdict("baseline", "a").winner == "a"
    assert found.verdict("baseline", "a").by == "best run"
    assert found.verdict("baseline", "a").interval[1] < 0


def test_more_being_better_turns_it():
    found = judged({"a": STABLE, "u": BLOWN}, sign=-1.0)
    (verdict,) = found.verdicts
    assert (verdict.winner, verdict.by) == ("a", "best run")
    assert verdict.interval[1] < 0
    assert "the best by -0.0967" in found.known


@pytest.mark.parametrize(
    "runs",
    [
        (3.29, 3.42, 9.0),  # one run is as good
        (3.4, 6.0, 9.0),  # large noise that goes both ways
        (3.31, 3.32, 9.0),  # within the noise of the others
        (3.4, 9.0),
    ],
)
def test_nothing_is_said_where_runs_do_not_show_it(runs):
    found = judged({"a": STABLE, "u": runs})
    assert [one.by for one in found.verdicts] == ["means"]
    assert not any(one.winner for one in found.verdicts)


def test_borrowed_noise_needs_no_best_run():
    values = np.array([STABLE, BLOWN])
    assert measure_noise(values, Borrowed(0.01)).least_run(0, 1) is None


@pytest.mark.parametrize(("num_arms", "ratio"), [(2, 1), (4, 100), (8, 30)])
def test_noise_that_goes_both_ways_makes_no_false_winners(num_arms, ratio):
    rng, false = np.random.default_rng(num_arms + ratio), 0
    for _ in range(100):
        values = rng.normal(size=(num_arms, 3)) + rng.normal(size=3)
        values[-1] *= ratio
        compared = [*against_best(values, alpha=0.05).values()]
        false += any(one.is_worse and one.pair.is_of_best_run for one in compared)
        false += any(one.pair.is_of_best_run for one in against_baseline(values, 0, alpha=0.05).values())
    assert false <= 5
