"""A run that begins where another has been is bitwise the run that was trained from the start."""

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from blueberry.errors import StoreError
from blueberry.lm import training
from blueberry.lm.checkpoint import Checkpoints
from blueberry.lm.training import Group, train
from blueberry.recipe import SHARED_FOLDER, Recipe, common_updates, course, fingerprint, state_name, trunk_key
from blueberry.records import Progress, RunResult
from blueberry.text.dataset import Dataset
from tests.lm.conftest import CPU, numbers, provenance

STABLE = {"schedule.kind": "warmup-stable-decay", "schedule.warmup_updates": 4, "evaluate.every_updates": 5}
COSINE = {"schedule.kind": "cosine", "schedule.warmup_updates": 6, "evaluate.every_updates": 5}
PLATEAU = {
    "schedule.kind": "plateau",
    "schedule.warmup_updates": 2,
    "schedule.patience_evaluations": 1,
    "schedule.min_improvement_nats": 10.0,  # so that it cuts at every second evaluation
    "evaluate.every_updates": 4,
}
PAIRS = {  # the run that leaves the state, the one that begins there, and the updates they have in common
    "horizon of warmup-stable-decay": ({**STABLE, "train.updates": 18}, {**STABLE, "train.updates": 9}, 7),
    "decay of another length": ({**STABLE, "schedule.decay_fraction": 0.2}, {**STABLE, "schedule.decay_fraction": 0.5}, 6),
    "decay of another shape": ({**STABLE, "schedule.decay_shape": "cosine"}, {**STABLE, "schedule.decay_shape": "1-sqrt"}, 10),
    "constant, twice as long": (
        {"schedule.kind": "constant", "schedule.warmup_updates": 3, "train.updates": 16},
        {"schedule.kind": "constant", "schedule.warmup_updates": 3, "train.updates": 8},
        7,
    ),
    "cosine shares only its warmup": ({**COSINE, "train.updates": 12}, {**COSINE, "train.updates": 9}, 6),
    "cosine and warmup-stable-decay": ({**COSINE}, {**STABLE, "schedule.warmup_updates": 6}, 6),
    "plateau, longer": ({**PLATEAU, "train.updates": 14}, {**PLATEAU, "train.updates": 10}, 9),
    "plateau and constant": ({**PLATEAU}, {"schedule.kind": "constant", "schedule.warmup_updates": 2, "evaluate.every_updates": 4}, 8),
    "plateau of another patience": ({**PLATEAU, "train.updates": 14}, {**PLATEAU, "train.updates": 14, "schedule.patience_evaluations": 2}, 8),
}  # fmt: skip
MODELS = {
    "moe, dropout": {"model.feed_forward.kind": "moe", "model.dropout": 0.1},
    "biased": {"model.feed_forward.kind": "moe-bias-balanced", "model.feed_forward.bias_rate": 0.01},
    "adamw": {"optimizer.kind": "adamw"},
    "rows": {"optimizer.muon.row_beta": 0.9, "optimizer.muon.weight_decay": 0.1},
}


@pytest.fixture
def tiny(tiny: Recipe) -> Recipe:
    """Tinier, and dense: MODELS has the others."""
    smaller = {"model.width": 16, "model.num_layers": 1, "model.context_tokens": 16, "evaluate.tokens": 64}
    dense = {"model.feed_forward.kind": "mlp", "model.feed_forward.hidden": 16}
    return tiny.with_({**smaller, **dense, "train.batch_sequences": 2, "train.updates": 12})


@pytest.fixture
def train_group(dataset: Dataset, monkeypatch) -> Callable[..., list[RunResult]]:
    """Train recipes side by side, each under its own name; no checkpoints but the shared states."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", float("inf"))

    def run(*recipes: Recipe, checkpoints: Checkpoints | None = None) -> list[RunResult]:
        names = [fingerprint(recipe, dataset.digest) for recipe in recipes]
        events = train(recipes, names, dataset, provenance(dataset), device=CPU, checkpoints=checkpoints)
        results = {event.fingerprint: event for event in events if not isinstance(event, Progress)}
        return [results[name] for name in names]

    return run


def wish(recipe: Recipe, update: int, data_digest: str, checkpoints: Checkpoints) -> Path:
    name = state_name(trunk_key(recipe, data_digest), recipe.seed, course(recipe), update)
    folder = checkpoints.folder / SHARED_FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def alone(result: RunResult) -> dict:
    """The numbers of a result, but for what says that it was forked."""
    return {name: value for name, value in numbers(result).items() if not name.startswith("shared_")}


@pytest.mark.parametrize("pair", PAIRS)
def test_forked_equals_unforked(pair, tiny, dataset, train_group, checkpoints):
    first, second, common = PAIRS[pair]
    trunk, branch = tiny.with_(first), tiny.with_(second)
    assert common_updates(course(trunk), course(branch)) == common
    wish(branch, common, dataset.digest, checkpoints)
    (left,) = train_group(trunk, checkpoints=checkpoints)
    (forked,) = train_group(branch, checkpoints=checkpoints)
    (unforked,) = train_group(branch)
    assert forked.shared_updates == common
    assert 0 < forked.shared_seconds < forked.train_seconds
    assert (left.shared_updates, unforked.shared_updates) == (0, 0)
    assert alone(forked) == alone(unforked)
    assert alone(forked) != alone(left)
    assert forked.num_updates == branch.num_updates


@pytest.mark.parametrize("model", MODELS)
def test_every_kind_of_state_travels(model, tiny, dataset, train_group, checkpoints):
    trunk = tiny.with_({**STABLE, **MODELS[model], "seed": 3})
    branch = trunk.with_({"train.updates": 10})
    wish(branch, 8, dataset.digest, checkpoints)
    train_group(trunk, checkpoints=checkpoints)
    (forked,) = train_group(branch, checkpoints=checkpoints)
    assert forked.shared_updates == 8
    assert alone(forked) == alone(train_group(branch)[0])


def test_a_branch_of_a_branch_takes_over_what_both_did(tiny, dataset, train_group, checkpoints):
    longest, middle, least = (tiny.with_({**STABLE, "train.updates": n}) for n in (20, 15, 10))
    other = middle.with_({"schedule.decay_shape": "cosine"})
    wish(middle, 8, dataset.digest, checkpoints)
    wish(other, 12, dataset.digest, checkpoints)
    wish(least, 8, dataset.digest, checkpoints)
    (whole,) = train_group(longest, checkpoints=checkpoints)
    assert numbers(whole) == numbers(train_group(longest)[0])
    results = [train_group(recipe, checkpoints=checkpoints)[0] for recipe in (middle, other, least)]
    assert [result.shared_updates for result in results] == [12, 12, 8]
    for recipe, result in zip((middle, other, least), results, strict=True):
        assert alone(result) == alone(train_group(recipe)[0])


def test_lanes_fork_together(tiny, dataset, train_group, checkpoints):
    trunks = [tiny.with_({**STABLE, "seed": seed}) for seed in (0, 1)]
    branches = [trunk.with_({"train.updates": 10}) for trunk in trunks]
    wish(branches[0], 8, dataset.digest, checkpoints)
    train_group(*trunks, checkpoints=checkpoints)
    assert [result.shared_updates for result in train_group(*branches, checkpoints=checkpoints)] == [0, 0]
    wish(branches[1], 8, dataset.digest, checkpoints)
    train_group(*trunks, checkpoints=checkpoints)
    forked = train_group(*branches, checkpoints=checkpoints)
    assert [result.shared_updates for result in forked] == [8, 8]
    assert [alone(result) for result in forked] == [alone(result) for result in train_group(*branches)]


def test_a_state_that_nobody_wants_is_not_left(tiny, dataset, train_group, checkpoints):
    trunk = tiny.with_(STABLE)
    wish(trunk.with_({"seed": 1}), 8, dataset.digest, checkpoints)
    wish(trunk.with_({"schedule.warmup_updates": 5}), 8, dataset.digest, checkpoints)
    wish(trunk.with_({"optimizer.muon.learning_rate": 0.01}), 8, dataset.digest, checkpoints)
    wish(trunk, 8, "another text", checkpoints)
    train_group(trunk, checkpoints=checkpoints)
    assert not list(checkpoints.folder.rglob("*.safetensors"))


@pytest.mark.parametrize("damage", ["torn", "altered", "of another build", "gone"])
def test_a_state_that_cannot_be_used_costs_only_time(damage, tiny, dataset, train_group, checkpoints):
    trunk = tiny.with_(STABLE)
    branch = trunk.with_({"train.updates": 10})
    folder = wish(branch, 8, dataset.digest, checkpoints)
    train_group(trunk, checkpoints=checkpoints)
    (path,) = folder.glob("*/*.safetensors")
    data = path.read_bytes()
    match damage:
        case "torn":
            path.write_bytes(data[: len(data) // 2])
        case "altered":
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "of another build":
            path.parent.rename(folder / "other")
        case _:
            path.unlink()
    (result,) = train_group(branch, checkpoints=checkpoints)
    assert (result.shared_updates, result.shared_seconds) == (0, 0.0)
    assert numbers(result) == numbers(train_group(branch)[0])


def test_killed_after_the_fork_it_goes_on_and_still_says_what_it_took_over(
    tiny, dataset, train_group, checkpoints, monkeypatch
):
    trunk = tiny.with_(STABLE)
    branch = trunk.with_({"train.updates": 10, "schedule.decay_fraction": 0.4})
    wish(branch, 6, dataset.digest, checkpoints)
    train_group(trunk, checkpoints=checkpoints)
    step, begun = Group.step, []

    def killed(group: Group) -> None:
        begun.append(group.update)
        if group.update == 8:
            raise KeyboardInterrupt
        step(group)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(Group, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_group(branch, checkpoints=checkpoints)
    monkeypatch.setattr(Group, "step", lambda group: (begun.append(group.update), step(group)))
    (result,) = train_group(branch, checkpoints=checkpoints)
    assert begun == [6, 7, 8, 8, 9]
    assert result.shared_updates == 6
    assert alone(result) == alone(train_group(branch)[0])


def test_what_a_run_has_left_itself_before_it_was_killed_is_nothing_taken_over(
    tiny, dataset, train_group, checkpoints, monkeypatch
):
    trunk = tiny.with_(STABLE)
    wish(trunk.with_({"train.updates": 10}), 8, dataset.digest, checkpoints)
    train_group(trunk, checkpoints=checkpoints)
    step, begun = Group.step, []
    monkeypatch.setattr(Group, "step", lambda group: (begun.append(group.update), step(group)))
    (again,) = train_group(trunk, checkpoints=checkpoints)
    assert begun[0] == 8
    assert (again.shared_updates, again.shared_seconds) == (0, 0.0)
    assert numbers(again) == numbers(train_group(trunk)[0])


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing_half_written(tiny, dataset, checkpoints, monkeypatch):
    trunk = tiny.with_(STABLE)
    folder = wish(trunk, 8, dataset.digest, checkpoints)
    fsync = os.fsync

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    run = partial(train, [trunk], ["run"], dataset, provenance(dataset), device=CPU, checkpoints=checkpoints)
    with pytest.raises(StoreError, match=r"cannot write a checkpoint \(No space left on device\)"):
        list(run())
    assert not [path for path in folder.rglob("*") if path.is_file()]
    monkeypatch.setattr(os, "fsync", fsync)
    list(run())
    assert len(list(folder.rglob("*.safetensors"))) == 1
