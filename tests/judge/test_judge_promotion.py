"""What becomes the baseline: the recipe that ran, whatever kind of study found it; or the reason why nothing does."""

import pytest

from blueberry.judge.promotion import Promotion, Refusal, decide
from blueberry.judge.studies import REFEREE, judge
from blueberry.study.plan import as_planned, plan
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

RATE = "optimizer.muon.learning_rate"
HEAD = 'question = "?"\nbase = "base.toml"\nmin_effect = 0.005\n[seeds]\nsearch = 3\nconfirm = 5\nmax = 8\n'
TUNED = '[arms.linear]\n"schedule.kind" = "linear"\n[tune]\n"optimizer.muon.learning_rate" = [0.01, 0.02, 0.04, 0.08]\n'
PROPOSED = (
    '[vary]\n"optimizer.muon.learning_rate" = { log = [0.005, 0.5] }\n[strategy]\nmethod = "optuna"\ntrials = 24\n'
)


@pytest.fixture
def decided(tmp_path):
    def judged(text: str, trainer: Synthetic):
        (tmp_path / "base.toml").write_text("[train]\nupdates = 200\n")
        (tmp_path / "study.toml").write_text(HEAD + text)
        study, results = Study.load(tmp_path / "study.toml"), {}
        while (planned := plan(study, trainer.data_digest, results, REFEREE)).todo:
            results |= {run.fingerprint: trainer.result(run.recipe) for run in planned.todo}
        return study, planned, results, judge(as_planned(study, planned), results, planned)

    def decided(text: str, trainer: Synthetic):
        """The decision, and the recipes of the runs of the confirming seeds, but for the seed."""
        study, planned, results, judgement = judged(text, trainer)
        found = decide(judgement, study, planned, results, line="main", entries=(), date="2026-01-01T00:00:00+00:00")
        ran = [run.recipe.flat() for run in planned.runs if run.stage == "confirm"]
        return found, [{name: value for name, value in one.items() if name != "seed"} for one in ran]

    decided.judgement = lambda *of: judged(*of)[-1]
    return decided


def test_a_tuned_winner_is_promoted_at_the_rate_it_ran_with(decided):
    trainer = Synthetic(optimum=0.02, choices=(("schedule.kind", "linear", -0.05),), noise_nats=0.002)
    found, ran = decided(TUNED, trainer)
    assert isinstance(found, Promotion)
    recipe = {name: value for name, value in (found.entry.recipe or {}).items() if name != "seed"}
    assert recipe["optimizer"]["muon"]["learning_rate"] == 0.02
    assert recipe["train"]["keep_weights"], "its runs that only chose kept none; a baseline that is trained does"
    changed = {change.setting: change.new for change in found.entry.changes}
    assert changed == {"schedule.kind": "linear", RATE: 0.02}
    assert ran
    assert all(one[RATE] == 0.02 and one["schedule.kind"] == "linear" for one in ran)
    assert found.entry.support is not None
    assert found.entry.support.beaten == "baseline"


def test_a_proposed_winner_is_promoted_as_it_was_proposed(decided):
    pytest.importorskip("optuna")
    found, ran = decided(PROPOSED, Synthetic(optimum=0.05, curvature_nats=0.6, noise_nats=0.001))
    assert isinstance(found, Promotion), found
    assert {change.setting: change.new for change in found.entry.changes} == {RATE: ran[0][RATE]}
    assert ran[0][RATE] == pytest.approx(0.05, rel=0.1)
    assert found.entry.support is not None
    assert (found.entry.support.n, len(found.entry.support.runs)) == (5, 3 + 5)


def test_of_conditions_none_is_promoted_and_it_is_said_why(decided):
    text = '[across]\n"train.updates" = [50, 100]\n[vary]\n"optimizer.muon.learning_rate" = [0.02, 0.04, 0.08]\n'
    found, _ = decided(text, Synthetic(optimum=0.04, curvature_nats=0.6, noise_nats=0.001))
    assert isinstance(found, Refusal)
    assert any("[across]" in reason and "one condition" in reason for reason in found.reasons)


FRACTION = """
[arms.linear]
"schedule.kind" = "linear"
[arms.decay]
"optimizer.adamw.weight_decay" = 0.3
[arms.clip]
"train.clip_norm" = 0.5
[arms.dropout]
"model.dropout" = 0.05
[combine]
mode = "fraction"
"""


def test_a_fraction_recommends_the_changes_that_help_and_not_the_arm_of_least_mean(decided):
    """Half of the combinations were run: that of least mean holds changes that do nothing, and which is chance."""
    for nats, expected in ((-0.1, {"schedule.kind": "linear"}), (0.0, {})):
        trainer = Synthetic(choices=(("schedule.kind", "linear", nats),), noise_nats=0.01)
        judgement = decided.judgement(FRACTION, trainer)
        main = {one.changes: one.is_significant for one in judgement.effects if len(one.changes) == 1}
        assert main == {("linear",): nats != 0, ("decay",): False, ("clip",): False, ("dropout",): False}
        assert judgement.recommendation.settings == expected
        production = judgement.purposes[0]
        assert (production.purpose, production.settings) == ("production", expected)
        assert judgement.best.arm != "linear"
        found, _ = decided(FRACTION, trainer)
        assert isinstance(found, Refusal)
        if expected:
            assert "what helps is linear -0." in judgement.recommendation.text
            assert any("is not what its study recommends" in reason for reason in found.reasons)
        else:
            assert "none was shown to help" in judgement.recommendation.text
