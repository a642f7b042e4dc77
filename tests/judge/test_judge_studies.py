"""Studies made of parts, with a planted truth: it is found and said, and what is not there is not."""

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from blueberry.judge.across import fit_power_law
from blueberry.judge.gather import Text
from blueberry.judge.judgement import Judgement
from blueberry.judge.studies import REFEREE, judge
from blueberry.study.plan import plan
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

RATE = "optimizer.muon.learning_rate"
HEAD = 'question = "?"\nbase = "base.toml"\nmin_effect = 0.005\n'
SCHEDULES = """
[arms.linear]
"schedule.kind" = "linear"
[arms.less_warmup]
"schedule.warmup_fraction" = 0.05
[tune]
"optimizer.muon.learning_rate" = [0.01, 0.02, 0.04, 0.08]
[seeds]
search = 3
confirm = 5
max = 8
"""
HORIZONS = """
[across]
"train.updates" = [50, 100, 200, 400]
[vary]
"optimizer.muon.learning_rate" = { log = [0.005, 0.5], points = 11 }
[seeds]
search = 3
confirm = 3
"""


@cache
def _judged(text: str, trainer: Synthetic) -> Judgement:
    """Once for all tests that ask for it: it is frozen."""
    Path("base.toml").write_text("[train]\nupdates = 200\n")
    Path("study.toml").write_text(HEAD + text)
    study = Study.load("study.toml")
    results = {}
    while (planned := plan(study, trainer.data_digest, results, REFEREE)).todo:
        results |= {run.fingerprint: trainer.result(run.recipe) for run in planned.todo}
    return judge(study, results, planned)


@pytest.fixture
def judged():
    return _judged


def test_each_arm_is_compared_at_its_own_best_on_seeds_that_did_not_choose_it(judged):
    """Linear is .02 better and wants twice the rate: at any one rate it would look worse or better than it is."""
    trainer = Synthetic(optimum=0.02, choices=(("schedule.kind", "linear", -0.02),), noise_nats=0.002)
    found = judged(SCHEDULES, trainer)
    assert [arm.arm for arm in found.arms] == ["baseline", "linear", "less_warmup"]
    assert found.best
    assert found.best.arm == "linear"
    assert found.best.settings == {"schedule.kind": "linear", RATE: 0.02}
    against = next(v for v in found.verdicts if {v.a, v.b} == {"linear", "baseline"})
    assert against.winner == "linear"
    assert against.interval is not None
    assert against.interval[0] < (0.02 if against.a == "linear" else -0.02) < against.interval[1]
    searched = {seed for part in found.parts for arm in part.judgement.arms for seed in arm.seeds}
    compared = set(found.arms[0].seeds)
    assert len(compared) == 5
    assert not compared & searched
    assert found.best.confirmed
    assert found.best.n == 5
    assert found.recommendation.settings == found.best.settings


def test_equal_arms_are_not_told_apart(judged):
    found = judged(SCHEDULES, Synthetic(optimum=0.02, noise_nats=0.002))
    assert all(verdict.verdict != "winner" for verdict in found.verdicts)
    assert found.recommendation.text == "Keep the baseline: no change was shown to beat it."


def test_an_arm_at_the_end_of_its_range_blocks_the_comparison(judged):
    found = judged(SCHEDULES, Synthetic(optimum=0.2, noise_nats=0.002))
    edges = [audit for audit in found.audits if audit.audit == "edge"]
    assert [audit.message.partition(":")[0] for audit in edges] == ["baseline, linear and less_warmup"], "said once"
    assert found.recommendation.withheld


def test_an_arm_without_a_finite_run_ranks_last_and_is_said(judged):
    found = judged(SCHEDULES.replace("[0.01, 0.02, 0.04, 0.08]", "[2.0, 3.0, 4.0]"), Synthetic())
    assert found.best is None
    assert all(arm.status == "diverged" for arm in found.arms)


def test_how_far_a_search_has_looked_is_said(judged):
    covers = judged(SCHEDULES, Synthetic(optimum=0.02)).parts[0].covers[0]
    assert (covers.setting, covers.low, covers.high, covers.num_values) == (RATE, 0.01, 0.08, 4)
    assert covers.decades == pytest.approx(math.log10(8))


def test_an_optimum_that_moves_with_the_horizon_is_followed(judged):
    found = judged(HORIZONS, Synthetic(optimum=0.05, moves=(("train.updates", -0.3),), noise_nats=0.003))
    law = found.laws[0]
    (power,) = law.powers
    assert (law.of, power.by, law.n) == (RATE, "train.updates", 4)
    assert power.interval[0] < -0.3 < power.interval[1] < 0
    assert law.held_out is not None
    assert law.held_out.holds
    assert found.conditions[0].holds == "best"
    assert found.conditions[-1].holds == "worse"
    assert "is worse at updates=400 than" in found.known
    assert found.recommendation.settings is None
    assert found.verdicts == ()


def test_a_law_that_breaks_at_the_largest_condition_is_said_not_to_hold(judged):
    bent = Synthetic(optimum=0.05, noise_nats=0.003)

    class Bent(Synthetic):
        def result(self, recipe):
            moved = Synthetic(optimum=0.2, noise_nats=0.003) if recipe.num_updates == 400 else bent
            return moved.result(recipe)

    held = judged(HORIZONS, Bent()).laws[0].held_out
    assert held is not None
    assert not held.holds


def test_an_answer_that_holds_everywhere_is_recommended(judged):
    found = judged(HORIZONS, Synthetic(optimum=0.05, noise_nats=0.0005))
    assert {condition.holds for condition in found.conditions} <= {"best", "tie"}
    assert found.recommendation.settings == {RATE: 0.05}


def test_a_law_of_losses_weighs_each_by_the_standard_error_of_its_mean(judged):
    """Of one noise, pooled; not an interval taken apart again."""
    found = judged(HORIZONS, Synthetic(optimum=0.05, noise_nats=0.02))
    bests = [part.judgement.best for part in found.parts]
    x_M = np.array([float(part.settings["train.updates"]) for part in found.parts])
    y_M, sd_M, n_M = (np.array([getattr(best, name) for best in bests]) for name in ("mean", "sd", "n"))
    pooled = math.sqrt((n_M - 1) @ np.square(sd_M) / (n_M - 1).sum())
    expected = fit_power_law(x_M, y_M, pooled / np.sqrt(n_M), df=float((n_M - 1).sum()), level=0.95)
    law = found.laws[-1]
    assert law.of == "val_loss"
    assert expected is not None
    power = law.powers[0]
    assert (power.exponent, *power.interval) == pytest.approx((expected.exponents[0], *expected.exponent_intervals[0]))


def test_conditions_are_in_the_order_of_their_size(judged):
    found = judged(HORIZONS.replace("[50, 100, 200, 400]", "[400, 50, 200]"), Synthetic(optimum=0.05))
    assert [condition.settings["train.updates"] for condition in found.conditions] == [50, 200, 400]
    assert found.laws[0].held_out is None
    assert "too few to check" in found.known


def test_two_conditions_give_no_law(judged):
    assert judged(HORIZONS.replace(", 200, 400]", "]"), Synthetic(optimum=0.05)).laws == ()


FLAT = Synthetic(optimum=0.05, curvature_nats=1e-4, noise_nats=0.01)
"""A valley so shallow that three seeds tell no two rates apart."""


def test_a_condition_is_judged_as_cautiously_as_a_study_by_itself(judged):
    alone = judged(HORIZONS.replace("[across]", "[set]").replace("[50, 100, 200, 400]", "100"), FLAT)
    edge = next(audit for audit in alone.audits if audit.severity == "block")
    assert edge.audit == "edge"
    found = judged(HORIZONS.replace("[50, 100, 200, 400]", "[100, 200]"), FLAT)
    assert found.recommendation.withheld is not None
    assert any(edge.message in audit.message and "updates=100" in audit.message for audit in found.audits)
    assert edge.message in found.unknown


def test_conditions_of_too_few_seeds_claim_nothing(judged):
    two = HORIZONS.replace("search = 3", "search = 2").replace(", 200, 400]", "]")
    found = judged(two, Synthetic(optimum=0.05, moves=(("train.updates", -3.0),), noise_nats=0.0005))
    assert [audit.message.partition(":")[0] for audit in found.audits if audit.audit == "seeds"] == [
        "updates=50 and updates=100"
    ]
    assert found.recommendation.withheld is not None
    assert "withheld" in found.known
    assert "worse" not in found.known


def test_conditions_without_fresh_seeds_are_warned_of_once(judged):
    trainer = Synthetic(optimum=0.05, noise_nats=0.0005)
    found = judged(HORIZONS.replace("confirm = 3", "confirm = 0").replace(", 200, 400]", "]"), trainer)
    curses = [audit for audit in found.audits if audit.audit == "curse"]
    assert [audit.message.partition(": ")[0] for audit in curses] == ["updates=50 and updates=100"]
    assert not any(audit.audit == "curse" for audit in judged(HORIZONS.replace(", 200, 400]", "]"), trainer).audits)


def test_why_there_is_no_law_of_the_optimum_is_said(judged):
    said = "How the best learning rate moves with updates: it was located under {}, and a law needs 3."
    assert said.format("0 of 4 conditions") in judged(HORIZONS, FLAT).unknown
    good = Synthetic(optimum=0.05, noise_nats=0.0005)
    assert said.format("2 of 2 conditions") in judged(HORIZONS.replace(", 200, 400]", "]"), good).unknown
    assert "a law needs" not in judged(HORIZONS, good).unknown
    named = HORIZONS.replace('"train.updates" = [50, 100, 200, 400]', '"schedule.kind" = ["constant", "linear"]')
    assert "a law needs" not in judged(named, good).unknown, "no number, no law"


def test_the_sd_of_a_condition_is_that_of_the_runs_of_its_mean(judged):
    trainer = Synthetic(optimum=0.05, noise_nats=0.01)
    for confirm in (0, 3):
        found = judged(HORIZONS.replace("confirm = 3", f"confirm = {confirm}").replace(", 200, 400]", "]"), trainer)
        for arm, part in zip(found.arms, found.parts, strict=True):
            own = next(one for one in part.judgement.arms if part.judgement.best and one.arm == part.judgement.best.arm)
            assert (arm.sd == pytest.approx(own.sd)) is (confirm == 0)


def test_arms_that_raced_each_for_itself_are_compared_once(judged):
    """At the whole error: fresh seeds do not depend on what a look showed."""
    text, trainer = SCHEDULES.replace("[tune]", '[strategy]\nmethod = "race"\n[tune]'), Synthetic(optimum=0.02)
    raced, fixed = judged(text, trainer), judged(SCHEDULES, trainer)
    assert {part.judgement.looks for part in raced.parts} == {(3, 5, 8)}
    assert (raced.looks, raced.ended) == ((), None)
    assert raced.verdicts == fixed.verdicts


def test_schedules_at_one_rate_are_warned_of(judged):
    text = SCHEDULES.replace("[tune]", "[set]").replace("[0.01, 0.02, 0.04, 0.08]", "0.02")
    assert [audit.audit for audit in judged(text, Synthetic()).audits] == ["one-rate"]


def test_an_arm_that_is_worth_twice_the_updates_is_said_to_be(judged):
    """The loss falls by .02 for every doubling of the updates, and the arm is .02 lower at every length."""
    text = """
[across]
"train.updates" = [50, 100, 200, 400]
[arms.better]
"model.dropout" = 0.2
[seeds]
search = 3
confirm = 3
"""
    lower = Synthetic(curvature_nats=0.0, effects=(("model.dropout", -0.1),), noise_nats=0.0)

    class Falling(Synthetic):
        def result(self, recipe):
            falls = Synthetic(
                floor_nats=3.5 - 0.02 * math.log2(recipe.num_updates), curvature_nats=0.0, effects=lower.effects,
                noise_nats=0.0,
            )  # fmt: skip
            return falls.result(recipe)

    gains = judged(text, Falling()).gains
    assert [gain.condition for gain in gains] == ["updates=50", "updates=100", "updates=200", "updates=400"]
    assert [gain.loss_gain for gain in gains[:3]] == [pytest.approx(2.0)] * 3
    assert gains[3].loss_gain is None
    assert gains[3].more_than == pytest.approx(1.0)
    assert all(gain.throughput_gain == pytest.approx(1.0) for gain in gains)
    assert [gain.factor for gain in gains] == [pytest.approx(2.0), pytest.approx(2.0), pytest.approx(2.0), None]


def test_what_missing_the_best_rate_costs_is_said(judged):
    """A valley of .05 nats per squared factor of e: .01 nats are reached at exp(sqrt(.2)) either side."""
    text = """
[vary]
"optimizer.muon.learning_rate" = { log = [0.001, 1.0], points = 31 }
[seeds]
search = 3
confirm = 0
"""
    even = Synthetic(optimum=0.0316, curvature_nats=0.05, right_over_left=1.0, noise_nats=1e-6, diverges_above=0.5)
    found = judged(text.replace("search", "search"), even).robustness
    assert found is not None
    assert found.band_factor == pytest.approx(math.exp(2 * math.sqrt(0.005 / 0.05)), rel=0.15)
    assert found.excess == pytest.approx(0.05 * math.log(10) ** 2 / 3, rel=0.1)
    assert found.unstable_from is not None
    assert found.unstable_from.value > 0.5
    assert (found.unstable_from.failures, found.unstable_from.n) == (3, 3)
    assert found.stable_to is not None
    assert found.stable_to.bound == pytest.approx(1 - 0.05 ** (1 / 3))


def test_a_blocked_claim_is_withheld_in_the_first_sentence_too(judged):
    """Arms on unequal tokens: the best of them is no better arm."""
    text = '[arms.more]\n"train.batch_sequences" = 64\n[seeds]\nsearch = 3\nconfirm = 3\n'
    found = judged(text, Synthetic(effects=(("train.batch_sequences", -0.01),)))
    assert {audit.audit for audit in found.audits if audit.severity == "block"} == {"budget"}
    assert "is better than" not in found.known
    assert "withheld" in found.known
    assert found.recommendation.withheld


def test_text_that_one_condition_knows_too_well_is_said_of_that_one_alone(tmp_path):
    """The passes and the losses of two conditions are not mixed; nor is the loss of one update taken for training's."""
    (tmp_path / "base.toml").write_text("[train]\nupdates = 200\n")
    (tmp_path / "study.toml").write_text(HEAD + HORIZONS.replace("[50, 100, 200, 400]", "[50, 200]"))
    study = Study.load(tmp_path / "study.toml")

    def result(run):
        made, loss = Synthetic(optimum=0.05).result(run.recipe), 3.0 if run.part == "updates=50" else 5.0
        curve = made.curve.model_copy(update={"train_loss": (*(4.0,) * (len(made.curve.train_loss) - 1), 9.0)})
        final = made.final.model_copy(update={"loss": loss + run.seed / 1000})
        return made.model_copy(update={"final": final, "curve": curve})

    results = {}
    while (planned := plan(study, Synthetic.data_digest, results, REFEREE)).todo:
        results |= {run.fingerprint: result(run) for run in planned.todo}
    texts = lambda recipe: Text(None, 1024, lambda: 0.0)  # noqa: E731
    found = judge(study, results, planned, texts=texts)
    said = [audit.message for audit in found.audits if "below training loss" in audit.message]
    assert len(said) == 1
    assert said[0].startswith("updates=50: ")
