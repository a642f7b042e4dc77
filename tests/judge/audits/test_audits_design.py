"""Designs: each planted defect blocks before a run, and honest studies are quiet."""

from pathlib import Path

import pytest

from blueberry.judge.audits.design import objections
from blueberry.recipe import Recipe
from blueberry.study.sections import study_file
from blueberry.study.spec import Study

STUDIES = Path(__file__).parents[3] / "studies"
RATE = "optimizer.muon.learning_rate"
RATES = {"vary": {RATE: [0.01, 0.02, 0.03, 0.05]}}
SEEDS = {"search": 3, "confirm": 2, "max": 8}


def study(tmp_path, given=RATES, *, base=None, seeds=SEEDS):
    (tmp_path / "base.toml").write_text(Recipe().with_(base or {}).to_toml())
    return Study.parse({"question": "Which?", "base": "base.toml", "seeds": seeds, **given}, tmp_path / "s.toml")


def names(study):
    return {(finding.audit, finding.severity) for finding in objections(study)}


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.name)
def test_the_studies_that_ship_are_quiet(path):
    assert objections(Study.load(path)) == ()


def test_the_study_files_that_are_written_for_a_person_are_quiet(tmp_path):
    (tmp_path / "base.toml").write_text(Recipe().to_toml())
    for kind in ("sweep", "compare"):
        (tmp_path / "s.toml").write_text(study_file(kind, "base.toml"))
        blocking = [one for one in objections(Study.load(tmp_path / "s.toml")) if one.severity == "block"]
        assert [one for one in blocking if "less_warmup" not in one.message] == []


@pytest.mark.parametrize(
    "given",
    [
        RATES,
        {"vary": {"model.dropout": [0.0, 0.1, 0.2]}},
        {"vary": {"train.updates": [100, 200, 400]}, "set": {"schedule.kind": "constant"}},
        {"vary": {"train.tokens": [200_000, 400_000]}},
        {"vary": {"optimizer.adamw.weight_decay": [0.0, 0.1, 1.0]}},
        {"arms": {"a": {"model.dropout": 0.1}, "b": {"train.clip_norm": 0.5}}},
        {"arms": {"half": {"train.batch_sequences": 8, "train.updates": 400}}},
        {"vary": {"schedule.kind": ["cosine", "linear"], RATE: [0.01, 0.02, 0.03]}},
    ],
    ids=str,
)
def test_honest_designs_are_quiet(tmp_path, given):
    assert objections(study(tmp_path, given)) == ()


def test_a_design_whose_arms_are_still_to_be_proposed_is_looked_at_too(tmp_path):
    given = {"vary": {RATE: {"log": [0.003, 0.3]}}, "strategy": {"method": "optuna"}}
    assert study(tmp_path, given).arms == ()
    assert objections(study(tmp_path, given)) == ()
    (found,) = objections(study(tmp_path, given, base={"schedule.warmup_updates": 2}))
    assert (found.audit, found.severity) == ("schedule", "block")
    assert found.message.startswith("every proposal: a warmup of fewer than 5 updates")
    free = {"vary": {**given["vary"], "schedule.warmup_updates": [5, 10]}, "strategy": {"method": "optuna"}}
    assert objections(study(tmp_path, free, base={"schedule.warmup_updates": 2})) == ()


@pytest.mark.parametrize(
    ("given", "base", "seeds", "audit", "severity"),
    [
        (RATES, {}, {"search": 2, "confirm": 2}, "seeds", "block"),
        (RATES, {}, {"search": 3, "confirm": 0}, "curse", "warn"),
        ({"vary": {RATE: [0.01, 0.02, 0.05]}}, {}, SEEDS, "edge", "warn"),
        ({"vary": {"train.batch_sequences": [8, 16]}}, {}, SEEDS, "budget", "block"),
        ({"arms": {"half": {"train.batch_sequences": 8}}}, {}, SEEDS, "budget", "block"),
        ({"vary": {"train.batch_sequences": [8, 16]}, "set": {"train.tokens": 200_000}}, {}, SEEDS, "budget", "warn"),
        ({"vary": {"model.width": [32, 64]}}, {}, SEEDS, "budget", "warn"),
        ({"vary": {"schedule.floor_fraction": [0.0, 0.5]}}, {}, SEEDS, "budget", "warn"),
        (RATES, {"train.updates": 20}, SEEDS, "schedule", "block"),
        (RATES, {"schedule.horizon_updates": 2000}, SEEDS, "schedule", "block"),
        (RATES, {"schedule.warmup_from_fraction": 0.0, "schedule.first_update_zero": True}, SEEDS, "schedule", "block"),
        ({"vary": {"evaluate.tokens": [1000, 8000]}}, {}, SEEDS, "eval-set", "block"),
        ({"vary": {"evaluate.every_updates": [10, 50]}}, {}, SEEDS, "early-stop", "warn"),
    ],
    ids=str,
)
def test_planted_defects_are_found(tmp_path, given, base, seeds, audit, severity):
    assert (audit, severity) in names(study(tmp_path, given, base=base, seeds=seeds))


def test_a_warmup_of_no_update_is_a_choice_and_one_of_four_a_mistake(tmp_path):
    assert objections(study(tmp_path, base={"schedule.warmup_updates": 0})) == ()
    assert ("schedule", "block") in names(study(tmp_path, base={"schedule.warmup_updates": 4}))
    assert objections(study(tmp_path, base={"schedule.warmup_updates": 5})) == ()


def test_who_breaks_the_rule_is_named_unless_all_do(tmp_path):
    (finding,) = [
        one
        for one in objections(study(tmp_path, {"vary": {"schedule.warmup_fraction": [0.01, 0.1]}}))
        if one.audit == "schedule"
    ]
    assert finding.message.startswith("warmup_fraction=0.01: ")
    (finding,) = [one for one in objections(study(tmp_path, base={"train.updates": 20})) if one.audit == "schedule"]
    assert finding.message.startswith("every arm: ")


def test_the_remedy_for_unequal_tokens_is_exact(tmp_path):
    (finding,) = objections(study(tmp_path, {"vary": {"train.batch_sequences": [8, 16]}}))
    made = Recipe().num_updates * Recipe().update_tokens
    assert f'"train.tokens" = {made}' in finding.remedy
    mended = study(tmp_path, {"vary": {"train.batch_sequences": [8, 16]}, "set": {"train.tokens": made}})
    assert all(one.severity == "warn" for one in objections(mended))
