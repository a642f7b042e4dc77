"""Results against their recipes, and what a judged study says of its design."""

import pytest

from blueberry.judge.evidence import Evidence
from blueberry.judge.gather import Asked, Text, gather
from blueberry.judge.studies import judge
from blueberry.recipe import Recipe
from blueberry.records import Curve, StudyRun
from blueberry.study.plan import plan
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

RECIPE = Recipe().with_({"train.updates": 60})


def ran(**changes):
    result = Synthetic().result(RECIPE)
    return RECIPE, result.model_copy(update=changes)


def curve(**changes):
    return Synthetic().result(RECIPE).curve.model_copy(update=changes)


def names(ran, train_tokens=None):
    """What the runs of one arm show of how they were carried out."""
    recipe, result = ran
    asked = Asked(Evidence("q", "val_loss", 0.01, 0.05, (), ()), "", {"a": None}, recipes={("", "a"): recipe})
    text = Text(train_tokens=train_tokens)
    found = gather([StudyRun("a", 0, "search", result)], asked, lambda recipe: text).audits
    return [(finding.audit, finding.severity) for finding in found]


def test_a_run_as_declared_is_quiet():
    assert names(ran()) == []
    assert names(ran(curve=Curve(), num_updates=None)) == [], "a trainer that does not say is not accused"
    rates = curve().learning_rate
    assert names(ran(curve=curve(learning_rate=tuple(rate * (1 + 1e-8) for rate in rates)))) == []


@pytest.mark.parametrize("place", [0, 30, 59])
def test_a_rate_that_was_not_declared(place):
    rates = list(curve().learning_rate)
    rates[place] *= 1.001
    assert names(ran(curve=curve(learning_rate=tuple(rates)))) == [("schedule", "block")]


def test_a_plateau_schedule_may_cut():
    recipe = RECIPE.with_(
        {
            "schedule.kind": "plateau",
            "schedule.patience_evaluations": 1,
            "schedule.min_improvement_nats": 10.0,
            "evaluate.every_updates": 10,
        }
    )
    result = Synthetic().result(recipe)
    cut = result.model_copy(update={"curve": result.curve.model_copy(update={"learning_rate": ()})})
    assert names((recipe, cut)) == []
    assert names((recipe, result)) == [("schedule", "block")], "the synthetic trainer never cuts"


@pytest.mark.parametrize("change", [{"num_updates": 59}, {"curve": curve(train_loss=(1.0,) * 59 + (None,))}])
def test_updates_that_were_not_made(change):
    assert names(ran(**change)) == [("diverged", "block")]


def test_held_out_text_known_better_than_text_seen_often():
    _, result = ran()
    assert result.final is not None
    known = ran(final=result.final.model_copy(update={"loss": 0.4}), curve=curve(train_loss=(0.5,) * 60))
    assert names(known, train_tokens=result.num_tokens // 5) == [("leak", "block")]
    assert names(known, train_tokens=result.num_tokens) == []
    nearly = ran(final=result.final.model_copy(update={"loss": 0.49}), curve=curve(train_loss=(0.5,) * 60))
    assert names(nearly, train_tokens=result.num_tokens // 5) == [], "dropout does that"


@pytest.mark.parametrize("num_studies", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_simulated_clean_studies_are_quiet(tmp_path, num_studies):
    """False alarms of all audits of results together: 5% of the studies at most."""
    (tmp_path / "base.toml").write_text(Recipe().to_toml())
    given = {
        "question": "Which rate?",
        "base": "base.toml",
        "min_effect": 0.02,
        "vary": {"optimizer.muon.learning_rate": {"log": [0.004, 0.25], "points": 7}},
        "set": {"train.updates": 60},
        "seeds": {"search": 3, "confirm": 2, "max": 8},
    }
    study = Study.parse(given, tmp_path / "lr.toml")
    alarms = 0
    for number in range(num_studies):
        trainer = Synthetic(floor_nats=3 + number / 100, noise_nats=0.003, rho=number % 3 * 0.4)
        results = {}
        for _ in range(2):
            todo = plan(study, trainer.data_digest, results).todo
            results |= {run.fingerprint: trainer.result(run.recipe) for run in todo}
        judged = judge(
            study, results, plan(study, trainer.data_digest, results), texts=lambda recipe: Text(None, 10**8)
        )
        alarms += bool(judged.audits)
    assert alarms <= 0.05 * num_studies


def test_a_study_with_unequal_tokens_is_blocked_after_it_ran(tmp_path):
    (tmp_path / "base.toml").write_text(Recipe().to_toml())
    given = {
        "question": "Which batch?",
        "base": "base.toml",
        "vary": {"train.batch_sequences": [8, 16]},
        "seeds": {"search": 3, "confirm": 0},
    }
    study = Study.parse(given, tmp_path / "batch.toml")
    results = {run.fingerprint: Synthetic().result(run.recipe) for run in plan(study, Synthetic.data_digest, {}).todo}
    judged = judge(study, results, plan(study, Synthetic.data_digest, results))
    assert "budget" in {one.audit for one in judged.audits if one.severity == "block"}
    assert judged.recommendation.settings is None
    assert "budget" in (judged.recommendation.withheld or "")
