"""A target fixed beforehand: from which evaluation on the mean over an arm's runs is shown to clear it."""

import math

import numpy as np
import pytest
from scipy import stats

import blueberry
from blueberry import cli
from blueberry.stats.robustness import first_cleared

TARGET = 3.28
STEPS = (4000, 4250, 4500, 4750, 5000)


def curves(shift=0.0, *, runs=8, seed=0, sd=0.001):
    """Losses that fall by .01 an evaluation, 3.2865 - shift at 4,500."""
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0, sd, runs)
    return [[(step, 3.2865 - shift - (step - 4500) / 25000 + offset) for step in STEPS] for offset in offsets]


def table(shifts, **more):
    """Rows that are steps of runs."""
    return [
        {"arm": arm, "seed": seed, "step": step, "val_loss": round(loss, 5)}
        for number, (arm, shift) in enumerate(shifts.items())
        for seed, curve in enumerate(curves(shift, seed=number, **more))
        for step, loss in curve
    ]


def by_arm(judgement):
    return {one.arm: one for one in judgement.cleared}


def test_the_last_evaluations_are_tested_backwards_until_one_fails():
    found = first_cleared(curves(), TARGET, alpha=0.05)
    means = {step: np.array([dict(curve)[step] for curve in curves()]) for step in STEPS}
    p = {step: stats.ttest_1samp(some, TARGET, alternative="less").pvalue for step, some in means.items()}
    assert p[4750] < 0.05 < p[4500]
    assert (found.position, found.p) == (4750, pytest.approx(p[4750]))
    assert found.mean == pytest.approx(means[4750].mean())


def test_a_lucky_evaluation_before_one_that_fails_is_not_the_first():
    dipped = [[(step, loss - (0.05 if step == 4250 else 0.0)) for step, loss in curve] for curve in curves()]
    assert first_cleared(dipped, TARGET, alpha=0.05).position == 4750
    risen = [[(step, loss + (0.05 if step == 5000 else 0.0)) for step, loss in curve] for curve in curves()]
    assert first_cleared(risen, TARGET, alpha=0.05) is None


def test_runs_that_are_all_alike_are_certain():
    assert first_cleared(curves(sd=0.0), TARGET, alpha=0.05).p == 0.0
    assert first_cleared([[(1, 3.0)], [(1, 3.0)]], 3.0, alpha=0.05) is None


def test_any_false_claim_has_probability_alpha_however_many_evaluations():
    rng, false = np.random.default_rng(2), 0
    for _ in range(400):
        walks = 3.28 + np.cumsum(rng.normal(0, 0.001, (5, 30)), axis=1)  # no mean is below the target
        false += first_cleared([list(enumerate(walk)) for walk in walks], 3.28, alpha=0.05) is not None
    assert stats.binomtest(false, 400, 0.05, alternative="greater").pvalue > 0.01


def test_steps_of_a_table_are_its_curves():
    found = blueberry.analyse(table({"old": 0.0, "new": 0.012}), vary="arm", target=TARGET)
    old, new = by_arm(found)["old"], by_arm(found)["new"]
    assert (old.updates, new.updates) == (4750, 4500)
    assert set(new.times) <= set(STEPS)
    assert old.p < 0.05
    assert "3.28 nats is cleared by new from 4500 on (mean 3.2" in found.known
    assert found.known.index("new from") < found.known.index("old from")


def test_without_curves_the_ends_are_judged():
    rows = [row for row in table({"old": -0.02, "new": 0.0}) if row["step"] == 5000]
    found = blueberry.analyse(rows, vary="arm", target=TARGET)
    assert {name: (one.is_shown, one.updates, one.times) for name, one in by_arm(found).items()} == {
        "old": (False, None, ()), "new": (True, None, ()),
    }  # fmt: skip
    assert "new at its end" in found.known


def test_too_few_runs_and_diverged_ones_show_nothing():
    rows = table({"few": 0.05, "many": 0.05}, runs=4)
    few = [row for row in rows if row["arm"] == "many" or row["seed"] < 2]
    assert not by_arm(blueberry.analyse(few, vary="arm", target=TARGET))["few"].is_shown
    ends = [row for row in rows if row["step"] == 5000]
    ends[0] = {**ends[0], "val_loss": math.inf}
    assert not by_arm(blueberry.analyse(ends, vary="arm", target=TARGET))["few"].is_shown


def test_a_goal_of_more_turns_it():
    rows = [
        {"arm": arm, "seed": seed, "score": base + seed / 1000}
        for arm, base in {"a": 0.9, "b": 0.8}.items()
        for seed in range(4)
    ]
    found = blueberry.analyse(rows, vary="arm", metric="score", goal="maximize", target=0.85)
    assert found.target == 0.85
    assert {name: one.is_shown for name, one in by_arm(found).items()} == {"a": True, "b": False}
    assert by_arm(found)["a"].mean == pytest.approx(0.9015)
    assert blueberry.analyse(rows, vary="arm", metric="score", goal="maximize").cleared == ()


def test_the_command_line_takes_a_target(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    lines = ["arm,seed,val_loss", *(f"{arm},{seed},3.{seed + 10}" for arm in "ab" for seed in range(3))]
    path.write_text("\n".join(lines))
    cli.app(["analyse", str(path), "--vary", "arm", "--target", "3.5", "--json", "--out", str(tmp_path / "out")],
            standalone_mode=False)  # fmt: skip
    assert '"target": 3.5' in capsys.readouterr().out
