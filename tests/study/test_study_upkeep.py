"""What a store keeps of its runs, and what pruning removes."""

import os

import pytest

from blueberry.errors import StoreError
from blueberry.recipe import Recipe
from blueberry.study.status import drop_weights, kept_runs, prune
from blueberry.study.store import Owner, Store
from blueberry.study.synthetic import Synthetic

RESULTS = list(Synthetic()([Recipe(seed=seed) for seed in range(3)]))
NAMES = [result.fingerprint for result in RESULTS]


@pytest.fixture
def store(tmp_path):
    """Two runs of a.toml have ended, the second also asked for by b.toml; a third was interrupted, a fourth is trained."""
    with Store.open(tmp_path / "store") as opened:
        for result in RESULTS[:2]:
            opened.commit(result)
        opened.register(tmp_path / "a.toml", "a", "?", {name: f"arm, seed {seed}" for seed, name in enumerate(NAMES)})
        opened.register(tmp_path / "b.toml", "b", "?", {NAMES[1]: "other, seed 1"})
        opened.claim(["living"], Owner.here())
        (opened.folder / "weights").mkdir()
        for name in (NAMES[0], NAMES[1], "single"):
            (opened.folder / "weights" / f"{name}.safetensors").write_bytes(bytes(100))
        for name in (NAMES[2], "living"):
            (opened.checkpoints / name).mkdir()
            (opened.checkpoints / name / "update-000010.x.safetensors").write_bytes(bytes(30))
        yield opened


def test_every_run_is_listed_with_how_it_ended_and_what_it_takes(store, tmp_path):
    seen = {run.fingerprint: (run.status, run.run, run.weights_bytes, run.checkpoint_bytes) for run in kept_runs(store)}
    assert seen == {
        NAMES[0]: ("completed", "arm, seed 0", 100, 0),
        NAMES[1]: ("completed", "arm, seed 1", 100, 0),
        NAMES[2]: ("interrupted", "arm, seed 2", 0, 30),
        "living": ("running", "living", 0, 30),
        "single": ("interrupted", "single", 100, 0),
    }
    (other,) = kept_runs(store, tmp_path / "b.toml")
    assert (other.run, other.studies, other.val_loss) == ("other, seed 1", ("b", "a"), RESULTS[1].metric("val_loss"))
    with pytest.raises(StoreError, match="no study of this file has run"):
        kept_runs(store, tmp_path / "none.toml")


def test_pruning_weights_keeps_every_result(store, tmp_path):
    done = prune(store, "weights", tmp_path / "b.toml")
    assert (done.pruned_runs, done.freed_bytes) == (1, 100)
    assert (store.folder / "weights" / f"{NAMES[0]}.safetensors").exists()
    assert set(store.results(NAMES)) == set(NAMES[:2])
    assert prune(store, "weights").freed_bytes == 200


def test_what_is_being_trained_and_what_others_ask_for_is_spared(store, tmp_path):
    assert prune(store, "checkpoints").freed_bytes == 30
    assert (store.checkpoints / "living").exists()
    done = prune(store, "runs", tmp_path / "a.toml")
    assert (done.pruned_runs, done.spared) == (1, 1)
    assert set(store.results(NAMES)) == {NAMES[1]}


def test_one_run_is_removed_by_its_name_and_whoever_asked_for_it_is_said(store, tmp_path):
    (shown,) = kept_runs(store, beginning=NAMES[1][:8])
    assert shown.fingerprint == NAMES[1]
    done = prune(store, "runs", beginning=NAMES[1][:8])
    assert (done.pruned_runs, done.freed_bytes, done.spared, set(done.asked_by)) == (1, 100, 0, {"a", "b"})
    assert set(store.results(NAMES)) == {NAMES[0]}
    assert prune(store, "weights", beginning=NAMES[0]).asked_by == ()  # the result stays
    assert prune(store, "runs", beginning="living").spared == 1
    with pytest.raises(StoreError, match='0 runs of it begin with "ffffffff"'):
        prune(store, "runs", beginning="ffffffff")
    (store.folder / "weights" / f"{NAMES[0][:5]}another.safetensors").write_bytes(b"")
    with pytest.raises(StoreError, match="2 runs of it begin with"):
        prune(store, "runs", beginning=NAMES[0][:5])
    with pytest.raises(StoreError, match="0 runs of it"):  # a run of another study
        prune(store, "runs", tmp_path / "b.toml", NAMES[0])


def test_weights_that_a_study_does_not_want_go_but_for_those_that_somebody_else_does(tmp_path):
    """Another study, or a person: who trained the run before any study did, or later for its weights."""
    with Store.open(tmp_path / "store") as store:
        (store.folder / "weights").mkdir()
        paths = [store.folder / "weights" / f"{name}.safetensors" for name in NAMES]
        for path in paths:
            path.write_bytes(bytes(100))
        store.register(tmp_path / "a.toml", "a", "?", dict.fromkeys(NAMES, "arm"))
        store.register(tmp_path / "b.toml", "b", "?", {NAMES[1]: "other"})
        store.commit(RESULTS[0], 1.0)
        store.commit(RESULTS[1], 1.0)
        store.commit(RESULTS[2])  # `blueberry train`: no driver
        drop_weights(store, tmp_path / "a.toml", NAMES)
        assert [path.exists() for path in paths] == [False, True, True]
        drop_weights(store, tmp_path / "a.toml", [*NAMES, "unknown"])
        paths[0].write_bytes(bytes(100))
        os.utime(paths[0], (2e9, 2e9))
        drop_weights(store, tmp_path / "a.toml", NAMES)
        assert paths[0].exists()
