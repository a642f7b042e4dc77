"""What a plan says of studies that are more than one grid."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from blueberry import api
from blueberry.architecture import cost
from blueberry.cli import words
from blueberry.judge.forecast import Forecast, forecast
from blueberry.judge.studies import REFEREE
from blueberry.recipe import Recipe, fingerprint
from blueberry.records import RunResult
from blueberry.study.plan import plan
from blueberry.study.spec import Study
from blueberry.study.status import Change
from blueberry.study.synthetic import Synthetic
from blueberry.study.workers import Trainer
from blueberry.text.dataset import data_digest

LR = "optimizer.muon.learning_rate"


def see(folder: Path, num_done: int = 0, *, given: dict[str, Any], **more: Any) -> tuple[Study, Forecast]:
    (folder / "r.toml").write_text("")
    study = Study.parse({"question": "?", "base": "r.toml", **given}, folder / "s.toml")
    planned = plan(study, Synthetic.data_digest, {}, REFEREE)
    results = {run.fingerprint: Synthetic().result(run.recipe) for run in planned.runs[:num_done]}
    planned = plan(study, Synthetic.data_digest, results, REFEREE)
    return study, forecast(study, planned, results, workers=1, lanes=1, speed=None, **more)


def of_the_text(folder: Path) -> Trainer:
    """The synthetic trainer, naming its runs as those of the recipe's text: a plan knows no other."""

    def train(recipes: Sequence[Recipe]) -> Iterator[RunResult]:
        for recipe in recipes:
            name = fingerprint(recipe, data_digest(recipe.data, folder))
            yield Synthetic().result(recipe).model_copy(update={"fingerprint": name})

    return train


SEEDS = {"search": 3, "confirm": 2, "max": 8}


def test_arms_at_their_own_best_are_counted_to_the_end(tmp_path: Path) -> None:
    given = {"vary": {"schedule.kind": ["linear", "cosine"]}, "tune": {LR: [0.02, 0.03, 0.04]}, "seeds": SEEDS}
    study, seen = see(tmp_path, given=given)
    assert seen.runs_todo == 2 * 3 * 3 + 2 * 2 + 2
    assert seen.tokens == seen.runs_todo * cost(study.base).num_tokens
    assert seen.parts == tuple((part.name, tuple(arm.name for arm in part.arms)) for part in study.parts)
    said = words.forecast(seen)
    assert "each arm at its own best of 3: learning_rate=0.02" in said
    assert "2 fresh ones for each arm's best, and as many for the winner" in said


def test_runs_of_a_longer_condition_cost_more_also_before_their_arm_is_known(tmp_path: Path) -> None:
    given = {"vary": {LR: [0.02, 0.03]}, "across": {"train.updates": [10, 40]}, "seeds": SEEDS}
    study, seen = see(tmp_path, given=given)
    assert seen.runs_todo == 2 * (2 * 3 + 2)
    assert seen.tokens == sum((2 * 3 + 2) * cost(part.base).num_tokens for part in study.parts)
    assert seen.updates == 40
    assert "under each of these 2: " in words.forecast(seen)


def test_what_a_race_may_still_need_is_said_as_that(tmp_path: Path) -> None:
    given = {"vary": {LR: [0.02, 0.03, 0.5]}, "seeds": SEEDS, "strategy": {"method": "race"}}
    _, seen = see(tmp_path, given=given)
    assert (seen.runs_todo, seen.runs_at_most) == (3 * 8 + 2, 3 * 5)
    assert "26 to do (15 of them only if needed)" in words.forecast(seen)
    assert "3 seeds, up to 8 for what is open, then 2 fresh ones for the best" in words.forecast(seen)


def test_a_fraction_states_what_it_mixes(tmp_path: Path) -> None:
    changes = {"a": {"model.dropout": 0.1}, "b": {"train.clip_norm": 0.5}, "c": {"schedule.kind": "linear"}}
    changes["d"] = {"optimizer.adamw.weight_decay": 0.3}
    _, seen = see(tmp_path, given={"arms": changes, "combine": {"mode": "fraction"}})
    assert seen.aliases == ("a*b = c*d", "a*c = b*d", "a*d = b*c")
    assert "a*b = c*d; a*c = b*d" in words.forecast(seen)
    assert seen.to_dict()["aliases"] == seen.aliases


def test_hundreds_of_arms_are_cut(tmp_path: Path) -> None:
    _, seen = see(tmp_path, given={"vary": {LR: {"log": [0.001, 1.0], "points": 300}}})
    said = next(line for line in words.forecast(seen).splitlines() if line.startswith("arms"))
    assert said.startswith("arms       300: learning_rate=0.001, ")
    assert said.endswith("learning_rate=1.0 (289 more between)")
    assert len(said) < 400


def test_changes_are_said(tmp_path: Path) -> None:
    changed = Change(reused=3, set_aside=2, new_arms=("learning_rate=0.03",))
    _, seen = see(tmp_path, given={"vary": {LR: [0.02, 0.03]}}, changed=changed)
    said = words.forecast(seen)
    assert "changed    since it last ran: 3 results reused, 2 set aside (they stay in the store)" in said
    assert "new arms: learning_rate=0.03" in said
    assert seen.to_dict()["changed"] == {"reused": 3, "set_aside": 2, "new_arms": ("learning_rate=0.03",)}


def test_results_of_another_build_are_said_and_that_drift_will_block(tmp_path: Path) -> None:
    _, seen = see(tmp_path, 2, given={"vary": {LR: [0.02, 0.03]}}, other_builds=2)
    assert "builds     2 of 2 results from another build of the trainer: with runs of this one, drift blocks" in (
        words.forecast(seen)
    )


@pytest.mark.parametrize("changes", [{}, {"set": {"train.updates": 7}}])
def test_plan_compares_the_file_with_what_it_last_ran_as(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "r.toml").write_text("[data]\nmax_documents = 40\nmax_characters = 1000\n")
    given = {"question": "?", "base": "r.toml", "set": {"train.updates": 6}, "vary": {LR: [0.02, 0.03]}, "seeds": SEEDS}
    study = Study.parse(given, tmp_path / "s.toml")
    api.run(study, store=tmp_path / "store", trainer=of_the_text(tmp_path / "store" / "data"), workers=0)
    seen = api.foresee(Study.parse({**given, **changes}, tmp_path / "s.toml"), tmp_path / "store")
    if not changes:
        assert seen.changed is None
        assert seen.runs_todo == 0
    else:
        assert seen.changed is not None
        assert (seen.changed.reused, seen.changed.set_aside, seen.runs_done) == (0, 8, 0)


def test_one_seed_is_one_seed(tmp_path: Path) -> None:
    given = {"vary": {LR: [0.02, 0.03]}, "seeds": {"search": 1, "confirm": 1}}
    _, seen = see(tmp_path, given=given)
    assert "\nseeds      1 seed, then 1 fresh one for the best\n" in words.forecast(seen)
