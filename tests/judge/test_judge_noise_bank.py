"""The bank of measured noise: families told apart, sds as planted, and what may be borrowed."""

import numpy as np
import pytest

from blueberry.judge.forecast import noise_bank, told
from blueberry.recipe import Recipe
from blueberry.study.database import EndedRun


def ended(recipe: Recipe, value: float) -> EndedRun:
    return EndedRun("completed", {"val_loss": value}, recipe=recipe.flat(), data_digest="text")


def runs(num_seeds: int = 40) -> list[EndedRun]:
    generator = np.random.default_rng(2)
    base = Recipe.load("moe-nano")
    some = []
    for width, sd in ((64, 0.02), (128, 0.005)):
        for rate in (0.01, 0.02):
            arm = base.with_({"model.width": width, "optimizer.muon.learning_rate": rate, "train.updates": 50})
            some += [ended(arm.with_(seed=s), 3 + generator.normal(0, sd)) for s in range(num_seeds)]
    return some


def test_families_and_their_noise():
    banked = noise_bank(runs())
    assert [one.family["model.width"] for one in sorted(banked, key=lambda one: -one.sd)] == [64, 128]
    for one, sd in zip(sorted(banked, key=lambda one: -one.sd), (0.02, 0.005), strict=True):
        assert one.num_runs == 80
        assert one.num_updates == 50
        assert one.interval[0] < one.sd < one.interval[1]
        assert one.sd == pytest.approx(sd, rel=0.25)
        assert one.df == pytest.approx(78, rel=0.15)
    assert "width = 64" in told(banked)
    assert len({one.name for one in banked}) == 2


def test_arms_that_share_their_luck_tell_less():
    base = Recipe.load("moe-nano").with_({"train.updates": 50})
    luck = np.random.default_rng(0).normal(0, 0.02, 10)
    arms = [base.with_({"optimizer.muon.learning_rate": rate}) for rate in (0.01, 0.02, 0.03, 0.04)]
    shared = [
        ended(arm.with_(seed=s), 3 + luck[s] + 1e-4 * (s * k % 3)) for k, arm in enumerate(arms) for s in range(10)
    ]
    (one,) = noise_bank(shared)
    assert one.df < 11


def test_runs_of_other_programs_and_single_ones_are_in_no_family():
    program = [EndedRun("completed", {"val_loss": 3.0 + s}, recipe={"lr": 0.1, "seed": s}) for s in range(5)]
    assert noise_bank(program) == ()
    assert noise_bank(runs(1)) == ()
    assert "no noise measured" in told(())
