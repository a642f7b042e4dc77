import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_trainers import make_study

from blueberry.architecture import cost
from blueberry.recipe import fingerprint, shape_key
from blueberry.records import Failure, RunResult
from blueberry.study.arms import Run
from blueberry.study.plan import Plan, plan, study_runs
from blueberry.study.spec import Study
from blueberry.study.status import Change, change
from blueberry.study.synthetic import Synthetic

GRID = """
question = "Which?"
base = "recipe.toml"
[vary]
"optimizer.muon.learning_rate" = [0.02, 0.03, 2.0]
"train.batch_sequences" = [4, 8]
[seeds]
search = 3
confirm = 2
max = 5
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("plan"), GRID)


def results_of(runs: tuple[Run, ...]) -> dict[str, RunResult]:
    return {run.fingerprint: Synthetic().result(run.recipe) for run in runs}


def test_search_comes_first_seed_by_seed(study: Study) -> None:
    planned = plan(study, Synthetic.data_digest, {})
    assert [(run.arm, run.seed) for run in planned.runs] == [
        (arm.name, seed) for seed in (0, 1, 2) for arm in study.arms
    ]
    assert {run.stage for run in planned.runs} == {"search"}
    assert planned.todo == planned.runs
    assert planned.done == ()
    assert (planned.leader, planned.num_undecided) == (None, 2)
    for run in planned.runs:
        assert run.recipe.seed == run.seed
        assert run.fingerprint == fingerprint(run.recipe, Synthetic.data_digest(run.recipe))
        assert run.shape_key == shape_key(run.recipe, Synthetic.data_digest(run.recipe))


def test_the_leader_is_confirmed_on_fresh_seeds_once_every_search_run_has_ended(study: Study) -> None:
    search = plan(study, Synthetic.data_digest, {}).runs
    results = results_of(search)
    for missing in search:
        fewer = {name: result for name, result in results.items() if name != missing.fingerprint}
        assert plan(study, Synthetic.data_digest, fewer).todo == (missing,)
    planned = plan(study, Synthetic.data_digest, results)
    means = {
        arm.name: sum(
            m if (m := results[r.fingerprint].metric("val_loss")) else 1e9 for r in search if r.arm == arm.name
        )
        for arm in study.arms
    }
    assert planned.leader == min(means, key=lambda arm: means[arm])
    assert [(run.arm, run.seed, run.stage) for run in planned.todo] == [
        (planned.leader, 5, "confirm"),
        (planned.leader, 6, "confirm"),
    ]
    assert planned.num_undecided == 0
    assert plan(study, Synthetic.data_digest, results_of(planned.runs)).todo == ()


def test_only_the_runs_that_confirm_keep_weights_and_no_run_is_another_for_it(tmp_path: Path) -> None:
    def kept(text: str) -> dict[str, set[bool]]:
        study = make_study(tmp_path, text)
        search = plan(study, Synthetic.data_digest, {}).runs
        runs = plan(study, Synthetic.data_digest, results_of(search)).runs
        assert all(run.fingerprint == fingerprint(run.recipe, Synthetic.data_digest(run.recipe)) for run in runs)
        names.add(tuple(run.fingerprint for run in search))
        return {
            stage: {r.recipe.train.keep_weights for r in runs if r.stage == stage} for stage in ("search", "confirm")
        }

    names = set[tuple[str, ...]]()
    assert kept(GRID) == {"search": {False}, "confirm": {True}}
    assert kept(f'keep_weights = "all"\n{GRID}') == {"search": {True}, "confirm": {True}}
    assert kept(GRID.replace("confirm = 2", "confirm = 0")) == {"search": {True}, "confirm": set()}
    assert kept(GRID.replace("[vary]", '[set]\n"train.keep_weights" = false\n[vary]')) == {
        "search": {False},
        "confirm": {False},
    }
    assert len(names) == 1


def test_one_diverged_seed_keeps_an_arm_from_leading(study: Study) -> None:
    search = plan(study, Synthetic.data_digest, {}).runs
    results = results_of(search)
    leader = plan(study, Synthetic.data_digest, results).leader
    one = next(run for run in search if run.arm == leader)
    diverged = next(result for result in results.values() if result.status == "diverged")
    results[one.fingerprint] = diverged.model_copy(update={"fingerprint": one.fingerprint})
    assert plan(study, Synthetic.data_digest, results).leader not in (leader, None)


def test_nothing_is_confirmed_when_every_arm_diverged(study: Study) -> None:
    results = {
        run.fingerprint: RunResult(
            fingerprint=run.fingerprint, recipe={}, status="diverged", failure=Failure(kind="diverged")
        )
        for run in plan(study, Synthetic.data_digest, {}).runs
    }
    planned = plan(study, Synthetic.data_digest, results)
    assert (planned.leader, planned.todo, planned.num_undecided) == (None, (), 0)


def test_a_crash_has_not_ended_its_run(study: Study) -> None:
    results = results_of(plan(study, Synthetic.data_digest, {}).runs)
    name = next(iter(results))
    results[name] = RunResult(fingerprint=name, recipe={}, status="failed", failure=Failure(kind="crashed"))
    assert [run.fingerprint for run in plan(study, Synthetic.data_digest, results).todo] == [name]


def test_planning_changes_nothing_and_ignores_strange_results_and_their_order(study: Study) -> None:
    results = results_of(plan(study, Synthetic.data_digest, {}).runs)
    strange = {"0" * 16: next(iter(results.values()))}
    before = copy.deepcopy(results)
    planned = plan(study, Synthetic.data_digest, results)
    assert results == before
    assert plan(study, Synthetic.data_digest, {**strange, **dict(reversed(results.items()))}) == planned


def test_another_text_is_another_study(study: Study) -> None:
    results = results_of(plan(study, Synthetic.data_digest, {}).runs)
    assert len(plan(study, lambda recipe: "other", results).todo) == len(results)


def test_totals_are_sums_over_runs(study: Study) -> None:
    runs = plan(study, Synthetic.data_digest, {}).runs
    planned = plan(study, Synthetic.data_digest, results_of(runs[:4]))
    assert len(planned.todo) == 14
    assert planned.total.num_updates == 18 * 6
    assert planned.left.num_flops == pytest.approx(sum(cost(run.recipe).num_flops for run in planned.todo))
    assert planned.left.num_tokens == sum(cost(run.recipe).num_tokens for run in planned.todo)


@given(num_done=st.sets(st.integers(0, 17)), lanes=st.integers(1, 20))
def test_groups_do_not_depend_on_what_is_done(study: Study, num_done: set[int], lanes: int) -> None:
    whole = plan(study, Synthetic.data_digest, {})
    ended = frozenset(whole.runs[index].fingerprint for index in num_done)
    partial = Plan(whole.runs, ended, None, 0)
    expected = [tuple(run for run in group if run.fingerprint not in ended) for group in whole.groups(lanes)]
    assert list(partial.groups(lanes)) == [group for group in expected if group]


@given(lanes=st.integers(1, 20))
def test_groups_hold_every_run_once_in_balanced_groups_of_one_shape(study: Study, lanes: int) -> None:
    planned = plan(study, Synthetic.data_digest, {})
    groups = planned.groups(lanes)
    assert sorted(run.fingerprint for group in groups for run in group) == sorted(r.fingerprint for r in planned.runs)
    order = {run.fingerprint: place for place, run in enumerate(planned.runs)}
    for _, same in itertools.groupby(groups, key=lambda group: group[0].shape_key):
        alike = list(same)
        sizes = [len(group) for group in alike]
        assert max(sizes) <= lanes
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == -(-sum(sizes) // lanes)
        assert len({run.shape_key for group in alike for run in group}) == 1
        places = [order[run.fingerprint] for group in alike for run in group]
        assert places == sorted(places), "all arms of one seed before the next"


def test_stages_are_not_mixed_in_a_group(study: Study, tmp_path: Path) -> None:
    whole = plan(study, Synthetic.data_digest, results_of(plan(study, Synthetic.data_digest, {}).runs))
    fresh = Plan(whole.runs, frozenset(), whole.leader, 0)
    assert all(len({run.stage for run in group}) == 1 for group in fresh.groups(100))


@pytest.mark.parametrize(
    "text",
    [GRID, GRID.replace("[vary]", "[tune]\n").replace("[seeds]", '[arms.warm]\n"schedule.warmup_fraction" = 0.2\n[seeds]')],
)  # fmt: skip
def test_the_runs_of_a_study_come_arm_by_arm_and_each_is_read_once(tmp_path: Path, text: str) -> None:
    study = make_study(tmp_path, text)
    results: dict[str, RunResult] = {}
    while left := plan(study, Synthetic.data_digest, results).todo:
        results |= results_of(left)
    planned = plan(study, Synthetic.data_digest, results)
    del results[planned.runs[0].fingerprint]
    asked: list[str] = []

    class Reader(dict[str, RunResult]):
        def get(self, name: str, default: object = None) -> RunResult | None:  # pyright: ignore
            asked.append(name)
            return super().get(name)

    found = list(study_runs(study, planned, Reader(results)))
    assert sorted(asked) == sorted(run.fingerprint for run in planned.runs)
    assert len(found) == len(planned.runs) - 1
    assert len([key for key, _ in itertools.groupby(found, lambda one: (one.part, one.arm))]) == len(
        {(one.part, one.arm) for one in found}
    ), "arm by arm"
    by_name = {run.fingerprint: run for run in planned.runs}
    for one in found:
        run = by_name[one.result.fingerprint]
        assert (one.arm, one.seed, one.stage, one.part) == (run.arm, run.seed, run.stage, run.part)
        assert one.settings.items() <= one.result.recipe.items()
        assert one.study == study.name


LR = "optimizer.muon.learning_rate"
GIVEN: dict[str, Any] = {
    "question": "Which?",
    "base": "recipe.toml",
    "set": {"train.updates": 6},
    "vary": {LR: [0.02, 0.03, 0.04]},
    "seeds": {"search": 3, "confirm": 2, "max": 5},
}
ALL = tuple(f"learning_rate={rate}" for rate in GIVEN["vary"][LR])


@pytest.mark.parametrize(
    ("num_runs", "changed", "digest", "found"),
    [
        *[(num_runs, {}, None, None) for num_runs in (0, 4, 9, 11)],
        (11, {"question": "Which one?", "min_effect": 0.2}, None, None),
        (11, {"vary": {LR: [0.03, 0.04, 0.08]}}, None, Change(6, 3, ("learning_rate=0.08",))),
        (11, {"set": {"train.updates": 8}}, None, Change(0, 11, ALL)),
        (9, {"seeds": {"search": 2, "confirm": 0, "max": 5}}, None, Change(6, 3, ())),
        (5, {}, "another text", Change(0, 5, ALL)),
        (4, {"vary": {LR: [0.02, 0.03, 0.04, 0.05]}}, None, Change(4, 0, ("learning_rate=0.05",))),
    ],
)
def test_what_has_changed_since_a_study_last_ran_is_counted(
    tmp_path: Path, num_runs: int, changed: dict[str, Any], digest: str | None, found: Change | None
) -> None:
    (tmp_path / "recipe.toml").write_text("[model]\nnum_layers = 1\n")
    ran = Study.parse(GIVEN, tmp_path / "s.toml")
    results: dict[str, RunResult] = {}
    while left := (planned := plan(ran, Synthetic.data_digest, results)).todo[: num_runs - len(results)]:
        results |= results_of(left)
    study = Study.parse({**GIVEN, **changed}, tmp_path / "s.toml")
    now = plan(study, (lambda recipe: digest) if digest else Synthetic.data_digest, results)
    before = [run.fingerprint for run in planned.runs]
    assert change(study, now, before, lambda names: [name for name in names if name in results]) == found


SIX = """
question = "Which of six?"
base = "recipe.toml"
min_effect = 0.01
[arms.drop]
"model.dropout" = 0.05
[arms.decay]
"optimizer.adamw.weight_decay" = 0.3
[arms.clip]
"train.clip_norm" = 0.5
[arms.shrink]
"optimizer.muon.weight_decay" = 0.2
[arms.floor]
"schedule.floor_fraction" = 0.0
[arms.warm]
"schedule.warmup_fraction" = 0.5
[combine]
mode = "fraction"
[seeds]
search = 3
confirm = 2
"""
DECAY, CLIP, SHRINK = "optimizer.adamw.weight_decay", "train.clip_norm", "optimizer.muon.weight_decay"


def plans(study: Study, truth: Synthetic) -> list[Plan]:
    """From the first to the one with nothing left to do."""
    results: dict[str, RunResult] = {}
    made = [plan(study, truth.data_digest, results)]
    while made[-1].todo:
        results |= {run.fingerprint: truth.result(run.recipe) for run in made[-1].todo}
        made.append(plan(study, truth.data_digest, results))
    return made


def test_a_fraction_trains_what_its_effects_say_is_best(tmp_path: Path) -> None:
    study = make_study(tmp_path, SIX)
    truth = Synthetic(effects=((DECAY, -0.5), (CLIP, 0.4), ("model.dropout", 4.0)))
    first, second, third, *_ = plans(study, truth)
    assert (len(first.runs), first.num_undecided, first.num_expected) == (48, 17 * 3 + 2, 3 + 2)
    assert {run.arm for run in second.todo} == {"decay+clip"}
    assert second.proposed[-1].settings == {DECAY: 0.3, CLIP: 0.5}
    assert third.leader == "decay+clip"
    assert [run.stage for run in third.todo] == ["confirm"] * 2
    assert change(study, third, [run.fingerprint for run in first.runs], lambda names: set(names)) is None


def test_a_fraction_is_folded_over_where_an_interaction_that_matters_is_mixed(tmp_path: Path) -> None:
    study = make_study(tmp_path, SIX)
    mixed = Synthetic(effects=((DECAY, -0.2),), interactions=((DECAY, SHRINK, -5.0),))
    first, second, *_, last = plans(study, mixed)
    assert len(second.todo) == 48, "sixteen more arms"
    assert len({run.arm for run in last.runs}) in (32, 33)
    assert {"decay", "shrink"} <= set((last.leader or "").split("+"))
    assert first.num_undecided >= len(last.runs) - len(first.runs)


def test_a_fraction_of_changes_that_do_nothing_asks_for_no_more(tmp_path: Path) -> None:
    first, second, *_ = plans(make_study(tmp_path, SIX), Synthetic(noise_nats=0.01))
    assert {run.stage for run in second.todo} == {"confirm"}
    assert first.proposed == second.proposed == ()
