"""Races and proposals: which runs follow from which results."""

import importlib.util
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blueberry.errors import StudyError
from blueberry.records import RunResult
from blueberry.study import engine
from blueberry.study.arms import Run
from blueberry.study.plan import Plan, Referee, Values, as_planned, looks_of, plan
from blueberry.study.spec import Study
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic

LR = "optimizer.muon.learning_rate"
RACE: dict[str, Any] = {
    "question": "Which?",
    "base": "recipe.toml",
    "vary": {LR: [0.01, 0.02, 0.03, 0.05, 2.0]},
    "seeds": {"search": 3, "confirm": 2, "max": 10},
    "strategy": {"method": "race"},
}
PROPOSE: dict[str, Any] = {
    **RACE,
    "vary": {LR: {"log": [0.003, 2.0]}, "schedule.kind": ["linear", "cosine"]},
    "seeds": {"search": 2, "confirm": 2, "max": 2},
    "strategy": {"method": "optuna", "trials": 14, "batch": 4},
}
TRUTH = Synthetic(noise_nats=0.001)


def halve(study: Study, values: Values) -> list[str]:
    """Stands for the judge: the better half goes on, and two never part."""
    most = max(len(runs) for runs in values.values())
    means = {arm: math.fsum(runs.values()) / len(runs) for arm, runs in values.items() if len(runs) == most}
    best = sorted((arm for arm in means if math.isfinite(means[arm])), key=lambda arm: means[arm])
    return best[: max(len(best) // 2, 2)] if most < study.seeds.max else []


def leads(study: Study, values: Values) -> str | None:
    most = max(len(runs) for runs in values.values())
    return min(
        (arm for arm, runs in values.items() if len(runs) == most), key=lambda arm: math.fsum(values[arm].values())
    )


REFEREE = Referee(halve, leads)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Study]:
    (tmp_path / "recipe.toml").write_text("[train]\nupdates = 6\n")
    return lambda given, **changes: Study.parse({**given, **changes}, tmp_path / "s.toml")


def results_of(runs: tuple[Run, ...]) -> dict[str, RunResult]:
    return {run.fingerprint: TRUTH.result(run.recipe) for run in runs}


def to_the_end(study: Study) -> tuple[list[Plan], dict[str, RunResult]]:
    """Every plan on the way, each with all runs of the one before ended."""
    plans, results = list[Plan](), dict[str, RunResult]()
    while not plans or plans[-1].todo:
        plans.append(plan(study, Synthetic.data_digest, results, REFEREE))
        results |= results_of(plans[-1].todo)
    return plans, results


def test_looks() -> None:
    assert looks_of(3, 16) == (3, 5, 8, 12, 16)
    assert looks_of(3, 10) == (3, 5, 8, 10)
    assert looks_of(4, 12) == (4, 5, 8, 12)
    assert looks_of(3, 3) == (3,)
    assert looks_of(3, 40)[4:] == (16, 24, 36, 40)


def test_seeds_go_only_to_arms_that_are_open(make: Callable[..., Study]) -> None:
    plans, _ = to_the_end(make(RACE))
    counts = {arm: len(list(runs)) for arm, runs in itertools.groupby(sorted(
        run.arm for run in plans[-1].runs if run.stage == "search"))}  # fmt: skip
    assert sorted(counts.values()) == [3, 3, 3, 10, 10]
    assert counts["learning_rate=2.0"] == 3
    assert counts["learning_rate=0.03"] == 10
    assert plans[-1].leader == "learning_rate=0.03"
    assert [run.seed for run in plans[-1].runs if run.stage == "confirm"] == [10, 11]
    assert [len(made.todo) for made in plans] == [15, 4, 6, 4, 2, 0]


@pytest.mark.parametrize(
    "given", [RACE, PROPOSE, {**RACE, "strategy": {"method": "grid"}}], ids=lambda g: g["strategy"]["method"]
)
def test_more_of_a_metric_is_better_where_the_goal_says_so(make: Callable[..., Study], given: dict[str, Any]) -> None:
    if given is PROPOSE:
        pytest.importorskip("optuna")
    study = make(given)
    minimized, results = to_the_end(study)
    turned = {
        name: one.model_copy(update={"final": None, "extra": {"gain": -one.final.loss if one.final else None}})
        for name, one in results.items()
    }
    maximized = plan(replace(study, metric="gain", goal="maximize"), Synthetic.data_digest, turned, REFEREE)
    assert maximized.leader == minimized[-1].leader is not None
    assert [run.fingerprint for run in maximized.runs] == [run.fingerprint for run in minimized[-1].runs]


def test_a_plan_says_how_many_runs_may_still_come(make: Callable[..., Study]) -> None:
    plans, _ = to_the_end(make(RACE))
    assert [made.num_undecided for made in plans] == [5 * 7 + 2, 2 * 5 + 2, 2 * 2 + 2, 2, 0, 0]


def test_a_race_replanned_from_any_results_has_the_same_runs(make: Callable[..., Study]) -> None:
    study = make(RACE)
    plans, results = to_the_end(study)
    last = plan(make(RACE), Synthetic.data_digest, results, REFEREE)
    assert [run.fingerprint for run in last.runs] == [run.fingerprint for run in plans[-1].runs]
    some = {run.fingerprint: results[run.fingerprint] for run in plans[1].runs[:17]}
    partial = plan(study, Synthetic.data_digest, some, REFEREE)
    assert [run.fingerprint for run in partial.runs] == [run.fingerprint for run in plans[1].runs]
    whole = plans[1].groups(3)
    missing = {run.fingerprint for run in partial.todo}
    expected = [tuple(run for run in group if run.fingerprint in missing) for group in whole]
    assert list(partial.groups(3)) == [group for group in expected if group]


def test_each_part_runs_its_own_race(make: Callable[..., Study]) -> None:
    study = make(RACE, across={"train.updates": [6, 12]})
    plans, _ = to_the_end(study)
    for part in plans[-1].parts.values():
        assert part.leader == "learning_rate=0.03"
        assert len([run for run in part.runs if run.stage == "search"]) == 29


def test_a_race_through_the_engine(make: Callable[..., Study], tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        outcome = engine.run(
            make(RACE), data_digest=Synthetic.data_digest, store=store, trainer=TRUTH, workers=0, referee=REFEREE
        )
        assert outcome.num_trained == 31
        again = engine.run(
            make(RACE), data_digest=Synthetic.data_digest, store=store, trainer=TRUTH, workers=0, referee=REFEREE
        )
    assert again.num_trained == 0


optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="needs the extra optuna")


@optuna
def test_proposals_are_trained_in_batches_and_lead_to_the_optimum(make: Callable[..., Study]) -> None:
    study = make(PROPOSE)
    assert study.arms == ()
    plans, _ = to_the_end(study)
    assert [len(made.proposed) for made in plans] == [4, 8, 12, 14, 14, 14]
    assert plans[0].num_undecided == 10 * 2 + 2
    assert plans[-1].num_undecided == 0
    settled = as_planned(study, plans[-1])
    assert len(settled.arms) == 14
    best = next(arm for arm in settled.arms if arm.name == plans[-1].leader)
    assert 0.015 < best.settings[LR] < 0.06
    assert best.name.startswith("learning_rate=0.0")
    assert len({arm.settings["schedule.kind"] for arm in settled.arms}) == 2
    assert {run.seed for run in plans[-1].runs if run.stage == "confirm"} == {2, 3}


@optuna
def test_the_same_results_give_the_same_proposals(make: Callable[..., Study]) -> None:
    plans, results = to_the_end(make(PROPOSE))
    again = plan(make(PROPOSE), Synthetic.data_digest, results)
    assert [run.fingerprint for run in again.runs] == [run.fingerprint for run in plans[-1].runs]
    shuffled = dict(reversed(results.items()))
    assert plan(make(PROPOSE), Synthetic.data_digest, shuffled).runs == plans[-1].runs
    other = make(PROPOSE, strategy={"method": "optuna", "trials": 14, "batch": 4, "seed": 1})
    assert plan(other, Synthetic.data_digest, {}).runs != plan(make(PROPOSE), Synthetic.data_digest, {}).runs


@optuna
def test_proposals_that_come_twice_are_one_arm(make: Callable[..., Study]) -> None:
    study = make(PROPOSE, vary={"schedule.kind": ["linear", "cosine", "constant"]})
    plans, _ = to_the_end(study)
    assert len(plans[-1].proposed) == 3
    assert len([run for run in plans[-1].runs if run.stage == "search"]) == 3 * 2


@optuna
def test_conditions_hold_for_proposals(make: Callable[..., Study]) -> None:
    kind, top_k = "model.feed_forward.kind", "model.feed_forward.top_k"
    vary = {kind: ["mlp", "moe"], top_k: {"values": [1, 2], "when": {kind: "moe"}}, LR: {"log": [0.01, 0.1]}}
    arms = to_the_end(make(PROPOSE, vary=vary))[0][-1].proposed
    assert {top_k in arm.settings for arm in arms} == {True, False}
    assert all((top_k in arm.settings) == (arm.settings[kind] == "moe") for arm in arms)


@optuna
def test_every_arm_of_tune_has_proposals_of_its_own(make: Callable[..., Study]) -> None:
    study = make(PROPOSE, vary={"schedule.kind": ["linear", "cosine"]}, tune={LR: {"log": [0.003, 0.3]}})
    plans, _ = to_the_end(study)
    settled = as_planned(study, plans[-1])
    assert [len(part.arms) for part in settled.parts] == [14, 14]
    assert plans[-1].leader in ("kind=linear", "kind=cosine")
    assert sum(run.stage == "compare" for run in plans[-1].runs) == 4


def test_without_optuna_one_line_says_so(make: Callable[..., Study], monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "optuna" else found(name, *rest)
    )
    with pytest.raises(StudyError, match=r"Optuna is not installed; pip install 'blueberry-lm\[optuna\]', or use"):
        plan(make(PROPOSE), Synthetic.data_digest, {})
