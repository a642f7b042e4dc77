import shutil
from pathlib import Path

import pytest

from blueberry.errors import StoreError
from blueberry.recipe import Recipe
from blueberry.records import Failure, Progress, RunResult
from blueberry.study.sections import write_study_file
from blueberry.study.status import study_statuses
from blueberry.study.store import Owner, Store
from blueberry.study.synthetic import Synthetic

GONE = Owner(id="gone", host=Owner.here().host, pid=2**22 + 1)
"""No process has this number: it lies above the kernel's largest."""


def test_each_run_is_counted_once_and_nothing_runs_that_does_not(tmp_path: Path):
    recipes = [Recipe().with_({"seed": seed}) for seed in range(2)]
    done = list(Synthetic()(recipes))
    names = [result.fingerprint for result in done] + ["alive", "abandoned", "failed", "left"]
    with Store.open(tmp_path) as store:
        labels = {name: f"{name} arm, seed 4" for name in names}
        store.register(tmp_path / "lr.toml", "lr", "Which?", labels, build="before")
        store.register(tmp_path / "script.toml", "script", "Which?", labels)
        for result in done:
            store.commit(result)
        owner = Owner.here()
        store.claim(["alive"], owner)
        store.heartbeat(owner, [Progress(fingerprints=("alive",), update=3, num_updates=9, tokens_per_second=5.0)])
        store.claim(["abandoned"], GONE)
        store.record_failure(
            RunResult(fingerprint="failed", recipe={}, status="failed", failure=Failure(kind="crashed", message="bang"))
        )
        status, script = study_statuses(store, build="now")
        assert study_statuses(store, tmp_path / "other.toml") == ()
    assert (status.done, status.failed, status.left, status.abandoned) == (2, 1, 2, 1)
    assert [(running.run, running.update, running.num_updates) for running in status.running] == [
        ("alive arm, seed 4", 3, 9)
    ]
    assert status.last_failure == "failed arm, seed 4: bang"
    assert (status.other_builds, script.other_builds) == (2, 0), "only the built-in trainer's build is known"


def test_a_committed_run_s_checkpoints_are_gone(tmp_path: Path):
    (result,) = Synthetic()([Recipe()])
    with Store.open(tmp_path) as store:
        for name in (result.fingerprint, "another"):
            (store.checkpoints / name).mkdir()
            (store.checkpoints / name / "update-000010.x.safetensors").write_bytes(b"state")
        store.commit(result)
        assert [path.name for path in store.checkpoints.iterdir()] == ["another"]


def test_a_study_file_points_at_its_recipe_from_where_it_lies(tmp_path: Path):
    from blueberry.study.spec import Study

    (tmp_path / "recipes").mkdir()
    (tmp_path / "studies").mkdir()
    (tmp_path / "recipes" / "r.toml").write_text(Recipe().to_toml())
    made = write_study_file("sweep", tmp_path / "recipes" / "r.toml", tmp_path / "studies" / "lr.toml")
    assert 'base       = "../recipes/r.toml"' in made.read_text()
    assert Study.load(made).base == Recipe()


def test_a_store_that_was_deleted_is_missed_at_the_next_commit(tmp_path: Path):
    (result,) = Synthetic()([Recipe()])
    with Store.open(tmp_path / "store") as store:
        shutil.rmtree(tmp_path / "store")
        with pytest.raises(StoreError, match="is gone"):
            store.commit(result)
