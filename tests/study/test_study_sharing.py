from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_trainers import Forking

from blueberry.recipe import SHARED_FOLDER, Recipe, course, state_name, trunk_key
from blueberry.study.arms import Run
from blueberry.study.engine import run
from blueberry.study.plan import plan
from blueberry.study.sharing import LEAST_UPDATES, States, forks
from blueberry.study.spec import Study
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic

HORIZON = """
question = "Which length?"
base = "recipe.toml"
[set]
"schedule.kind" = "warmup-stable-decay"
"schedule.warmup_updates" = 10
[vary]
"train.updates" = [50, 100, 200, 400]
[seeds]
search = 2
confirm = 0
"""
STABLE = Recipe().with_({"schedule.kind": "warmup-stable-decay", "schedule.warmup_updates": 10})


@pytest.fixture
def horizon(tmp_path: Path) -> Study:
    (tmp_path / "recipe.toml").write_text("[train]\nupdates = 400\n")
    (tmp_path / "horizon.toml").write_text(HORIZON)
    return Study.load(tmp_path / "horizon.toml")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


def runs_of(*recipes: Recipe) -> list[Run]:
    return [Run(f"arm{n}", recipe.seed, recipe, f"run{n}", "", "search", "text") for n, recipe in enumerate(recipes)]


def alone(*recipes: Recipe) -> list[tuple[Run, ...]]:
    return [(run,) for run in runs_of(*recipes)]


TUNED = """
question = "Which schedule?"
base = "recipe.toml"
[set]
"train.updates" = 100
"schedule.warmup_updates" = 20
[arms.linear]
"schedule.kind" = "linear"
[tune]
"optimizer.muon.learning_rate" = [0.02, 0.04]
"""


# Which runs begin where


def test_arms_of_one_name_in_two_parts_are_two(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("")
    (tmp_path / "tuned.toml").write_text(TUNED)
    planned = plan(Study.load(tmp_path / "tuned.toml"), Synthetic.data_digest, {})
    found = forks(planned.groups(1))
    assert len(found) == 2 * 3  # the second schedule's runs: at each rate and seed
    for one in planned.runs:
        if one.fingerprint in found:
            fork = found[one.fingerprint]
            own = trunk_key(one.recipe, one.data_digest)
            assert fork.state == state_name(own, one.seed, course(one.recipe), fork.update)
            assert fork.update == 20  # the warmup, and not the decay


def test_the_longest_is_the_trunk_and_the_others_leave_it_where_their_decay_begins(horizon: Study) -> None:
    planned = plan(horizon, Synthetic.data_digest, {})
    found = forks(planned.groups(1))
    names = {run.fingerprint: run for run in planned.runs}
    assert {(names[name].seed, names[name].recipe.num_updates, fork.update) for name, fork in found.items()} == {
        (seed, length, length * 8 // 10) for seed in (0, 1) for length in (50, 100, 200)
    }
    assert all(names[fork.parent].recipe.num_updates == 400 for fork in found.values())
    assert all(names[fork.parent].seed == names[name].seed for name, fork in found.items())
    assert found == forks(planned.groups(2))  # arms of two seeds each: their lanes fork together


def test_a_learning_rate_sweep_shares_nothing() -> None:
    rates = [STABLE.with_({"optimizer.muon.learning_rate": rate}) for rate in (0.01, 0.02)]
    assert forks(alone(*rates)) == {}
    both = [rate.with_({"train.updates": n}) for rate in rates for n in (100, 200)]
    assert {name: fork.parent for name, fork in forks(alone(*both)).items()} == {"run0": "run1", "run2": "run3"}


@pytest.mark.parametrize("warmup", [LEAST_UPDATES - 1, LEAST_UPDATES])
def test_few_updates_are_not_worth_a_state(warmup: int) -> None:
    kinds = [STABLE.with_({"schedule.warmup_updates": warmup, "schedule.kind": kind}) for kind in ("cosine", "linear")]
    assert len(forks(alone(*kinds))) == (warmup == LEAST_UPDATES)


def test_who_begins_later_than_a_state_is_no_parent_of_it() -> None:
    """The third agrees as long with the second as with the first, but the second never passes there."""
    first, second = STABLE.with_({"train.updates": 400}), STABLE.with_({"train.updates": 300})
    third = STABLE.with_({"train.updates": 300, "schedule.decay_fraction": 0.9})
    found = forks(alone(first, second, third))
    assert (found["run1"].update, found["run2"].update) == (240, 30)
    assert {fork.parent for fork in found.values()} == {"run0"}


def test_lanes_begin_together_or_at_the_start() -> None:
    long, short = STABLE.with_({"train.updates": 400}), STABLE.with_({"train.updates": 200})
    earlier = short.with_({"schedule.decay_fraction": 0.5})
    groups = [[run] for run in runs_of(long, short, earlier)]
    assert {name: fork.update for name, fork in forks(groups).items()} == {"run1": 160, "run2": 100}
    lanes = [groups[0], groups[1] + groups[2]]
    assert {name: fork.update for name, fork in forks(lanes).items()} == {"run1": 100, "run2": 100}
    stranger = short.with_({"seed": 7})
    lanes = [groups[0], groups[1], [*groups[2], *runs_of(*[stranger] * 4)[3:]]]
    assert set(forks(lanes)) == {"run1"}


def _trained_updates(recipes: Sequence[Recipe]) -> tuple[int, int]:
    """With the forks, and as few as there can be: each stretch once, that is the edges of the tree of courses."""
    found = forks(alone(*recipes))
    nodes = {course(recipe)[: 8 * n] for recipe in recipes for n in range(1, recipe.num_updates)}
    total = sum(recipe.num_updates for recipe in recipes)
    return total - sum(fork.update for fork in found.values()), len(nodes) + len(recipes)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_stretch_is_trained_once_and_nobody_waits_in_a_circle(data: st.DataObject) -> None:
    kinds = st.sampled_from(["constant", "linear", "warmup-stable-decay"])
    some = st.tuples(kinds, st.integers(25, 60), st.sampled_from([10, 14]))
    recipes = [
        STABLE.with_({"schedule.kind": kind, "train.updates": length, "schedule.warmup_updates": warmup})
        for kind, length, warmup in data.draw(st.lists(some, min_size=2, max_size=7, unique=True))
    ]
    trained, least = _trained_updates(recipes)
    # No stretch shorter than the least that is worth it is shared: with warmups of 10 and 14 there is none
    # (updates 1 to 10 differ at once), so what the forks leave is exactly the tree.
    assert trained == least
    found = forks(alone(*recipes))
    for name in found:
        seen = [name]
        while seen[-1] in found:
            fork = found[seen[-1]]
            assert fork.parent not in seen
            if fork.parent in found:
                assert found[fork.parent].update < fork.update  # it passes through the state
            seen.append(fork.parent)


# The states on disk


def test_a_state_is_there_until_nobody_wants_it(tmp_path: Path) -> None:
    states = States(tmp_path)
    states.want("000010.a", "one")
    states.want("000010.a", "two")
    assert not states.lies("000010.a")
    (tmp_path / "000010.a" / "build").mkdir()
    (tmp_path / "000010.a" / "build" / "update-000010.x.safetensors").touch()
    assert states.lies("000010.a")
    states.forget("000010.a", "one")
    states.forget("000010.a", "stranger")
    assert states.lies("000010.a")
    states.forget("000010.a", "two")
    assert list(tmp_path.iterdir()) == []


def test_what_ended_runs_wanted_is_swept(tmp_path: Path) -> None:
    states = States(tmp_path)
    for state, name in (("000010.a", "ended"), ("000010.b", "ended"), ("000010.b", "to do")):
        states.want(state, name)
    (tmp_path / "000010.c" / "build").mkdir(parents=True)
    states.sweep(lambda names: {name: "completed" for name in names if name == "ended"})
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")] == ["000010.b/wanted-by-to do"]


# The engine


def go(
    study: Study, store: Store, trainer: Forking, workers: int = 0, lanes: int = 1, share: bool = True
) -> list[tuple[int, ...]]:
    """Seed, length and beginning of every run, in the order in which they ended."""
    named = Synthetic.data_digest
    run(study, data_digest=named, store=store, trainer=trainer, workers=workers, lanes=lanes, share=share)
    return [tuple(map(int, line.split())) for line in Path(trainer.log).read_text().splitlines()]


@pytest.mark.parametrize(("workers", "lanes"), [(0, 1), (2, 1), (0, 2)])
def test_every_run_begins_where_another_has_been_and_nothing_is_left_behind(
    workers: int, lanes: int, horizon: Study, store: Store, tmp_path: Path
) -> None:
    log = go(horizon, store, Forking(str(store.folder), str(tmp_path / "log")), workers=workers, lanes=lanes)
    assert sorted(log) == [(seed, n, n * 8 // 10 * (n < 400)) for seed in (0, 1) for n in (50, 100, 200, 400)]
    assert log[0][1] == 400
    assert list((store.checkpoints / SHARED_FOLDER).iterdir()) == []


@pytest.mark.parametrize("lengths", [(50, 100, 200, 400), (400, 50, 200, 100)])
def test_the_states_of_one_seed_go_before_the_next_ones_come(
    lengths: tuple[int, ...], horizon: Study, store: Store, tmp_path: Path
) -> None:
    text = HORIZON.replace("[50, 100, 200, 400]", str(list(lengths)))
    horizon.path.write_text(text)
    log = go(Study.load(horizon.path), store, Forking(str(store.folder), str(tmp_path / "log")))
    assert [seed for seed, _, _ in log] == [0] * 4 + [1] * 4


def test_without_sharing_or_a_trainer_that_can_the_order_is_the_plans(
    horizon: Study, store: Store, tmp_path: Path
) -> None:
    log = go(horizon, store, Forking(str(store.folder), str(tmp_path / "log"), shares=False))
    assert log == [(seed, n, 0) for n in (50, 100, 200, 400) for seed in (0, 1)]
    assert not (store.checkpoints / SHARED_FOLDER).exists()
    with Store.open(tmp_path / "other") as other:
        log = go(horizon, other, Forking(str(other.folder), str(tmp_path / "log2")), share=False)
    assert [begun for _, _, begun in log] == [0] * 8


def test_a_trunk_that_leaves_nothing_or_crashes_holds_nobody_up(horizon: Study, store: Store, tmp_path: Path) -> None:
    log = go(horizon, store, Forking(str(store.folder), str(tmp_path / "log"), leaves=False))
    assert sorted(log) == [(seed, n, 0) for seed in (0, 1) for n in (50, 100, 200, 400)]
    with Store.open(tmp_path / "other") as other:
        log = go(horizon, other, Forking(str(other.folder), str(tmp_path / "log2"), crashes="400"))
        assert sorted(log) == [(seed, n, 0) for seed in (0, 1) for n in (50, 100, 200)]


def test_a_state_that_lies_there_already_is_enough(horizon: Study, store: Store, tmp_path: Path) -> None:
    """The trunk is held by another driver that has passed there and gone on: nobody waits for its end."""
    planned = plan(horizon, Synthetic.data_digest, {})
    found = forks(planned.groups(1))
    for fork in found.values():
        folder = store.checkpoints / SHARED_FOLDER / fork.state / "build"
        folder.mkdir(parents=True)
        (folder / f"update-{fork.update:06d}.x.safetensors").touch()
    states = States(store.checkpoints / SHARED_FOLDER)
    for name, fork in found.items():
        states.want(fork.state, name)
    log = go(horizon, store, Forking(str(store.folder), str(tmp_path / "log")))
    assert log == [(seed, n, n * 8 // 10 * (n < 400)) for n in (50, 100, 200, 400) for seed in (0, 1)]
