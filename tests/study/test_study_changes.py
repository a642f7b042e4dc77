"""What is said of a study file that has changed since it last ran."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blueberry.study.changes import Change, change
from blueberry.study.plan import plan
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

LR = "optimizer.muon.learning_rate"
GIVEN: dict[str, Any] = {
    "question": "Which?",
    "base": "recipe.toml",
    "set": {"train.updates": 6},
    "vary": {LR: [0.02, 0.03, 0.04]},
    "seeds": {"search": 3, "confirm": 2, "max": 5},
}
Make = Callable[..., Study]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    (tmp_path / "recipe.toml").write_text("[model]\nnum_layers = 1\n")
    return lambda **changes: Study.parse({**GIVEN, **changes}, tmp_path / "s.toml")


def ran(study: Study, num_runs: int = 100) -> tuple[list[str], dict[str, Any]]:
    """All fingerprints that were registered, and the results of the first runs."""
    results: dict[str, Any] = {}
    while planned := plan(study, Synthetic.data_digest, results):
        left = planned.todo[: max(num_runs - len(results), 0)]
        if not left:
            return [run.fingerprint for run in planned.runs], results
        results |= {run.fingerprint: Synthetic().result(run.recipe) for run in left}
    raise AssertionError


def seen(
    study: Study, before: list[str], results: dict[str, Any], data_digest: Any = Synthetic.data_digest
) -> Change | None:
    return change(study, plan(study, data_digest, results), before, results)


@pytest.mark.parametrize("num_runs", [0, 4, 9, 11])
def test_an_unchanged_study_has_not_changed_however_far_it_is(make: Make, num_runs: int) -> None:
    before, results = ran(make(), num_runs)
    assert seen(make(), before, results) is None
    assert seen(make(), [], {}) is None
    assert seen(make(question="Which one?", min_effect=0.2), before, results) is None


def test_results_that_came_after_the_registration_are_no_change(make: Make) -> None:
    _, results = ran(make())
    first = [run.fingerprint for run in plan(make(), Synthetic.data_digest, {}).runs]
    assert seen(make(), first, results) is None


def test_values_that_are_gone_and_arms_that_are_new(make: Make) -> None:
    before, results = ran(make())
    found = seen(make(vary={LR: [0.03, 0.04, 0.08]}), before, results)
    assert found is not None
    assert found.removed == ((LR, ("0.02",)),)
    assert found.added == ("learning_rate=0.08",)
    assert found.settings == ()
    assert (found.reused, found.set_aside) == (6, 3), "and 2 that confirmed may do so again"
    assert found.lines == (f"{LR}: no longer 0.02", "new arms: learning_rate=0.08")


def test_settings_of_every_arm_have_their_old_and_new_value(make: Make) -> None:
    before, results = ran(make())
    found = seen(make(set={"train.updates": 8, "model.feed_forward.kind": "mlp"}), before, results)
    assert found is not None
    assert ("train.updates", "6", "8") in found.settings
    assert ("model.feed_forward.kind", "'moe'", "'mlp'") in found.settings
    assert ("model.feed_forward.top_k", "2", "'not there'") in found.settings
    assert (found.reused, found.set_aside, found.never_ended) == (0, 11, 0)
    assert found.added == ("learning_rate=0.02", "learning_rate=0.03", "learning_rate=0.04")
    assert "train.updates: 6 -> 8" in found.lines


def test_fewer_seeds_are_said(make: Make) -> None:
    before, results = ran(make(), 9)
    found = seen(make(seeds={"search": 2, "confirm": 0, "max": 5}), before, results)
    assert found is not None
    assert (found.reused, found.set_aside) == (6, 3)
    assert found.lines == ("fewer or other seeds",)


def test_another_text_is_said(make: Make) -> None:
    before, results = ran(make(), 5)
    found = seen(make(), before, results, lambda recipe: "another")
    assert found is not None
    assert found.text_changed
    assert (found.reused, found.set_aside, found.never_ended) == (0, 5, 4)
    assert found.lines == ("the text, or what computes the runs, has changed",)


def test_an_arm_that_is_only_added_is_said(make: Make) -> None:
    before, results = ran(make(), 4)
    found = seen(make(vary={LR: [0.02, 0.03, 0.04, 0.05]}), before, results)
    assert found is not None
    assert (found.added, found.reused, found.set_aside) == (("learning_rate=0.05",), 4, 0)
