"""Killed, interrupted, rotten: what had ended is kept, and every number is that of an undisturbed run."""

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from blueberry import api
from blueberry.cli.words import forecast
from blueberry.errors import StoreError
from blueberry.lm import training
from blueberry.lm.trainer import code_digest
from blueberry.recipe import Recipe, fingerprint
from blueberry.records import Progress, RunResult
from blueberry.study.plan import plan
from blueberry.study.spec import Study
from blueberry.study.status import study_statuses
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic
from blueberry.text.dataset import data_digest
from tests.test_cli import RECIPE, STUDY

STUDY_LONG = STUDY.replace("confirm = 2", "confirm = 1").replace("search = 3", "search = 2") + (
    '[set]\n"train.updates" = 120\n"evaluate.every_updates" = 60\n'
)
SLOW = """
question = "Which rate?"
[vary]
"script.rate" = [0.01, 0.02, 0.03]
[trainer]
command = ["{python}", "-S", "slow.py", "{script.rate}", "{seed}"]
"""
SCRIPT = """
import json, time
time.sleep(0.3)
with open("metrics.jsonl", "w") as file:
    file.write(json.dumps({"update": 1, "val_loss": 3.0}))
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "lr.toml").write_text(STUDY_LONG)
    return tmp_path


def start(here: Path, *words: str) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, *words], cwd=here, stdout=quiet, stderr=quiet)


def wait_until(true, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def numbers(result: RunResult) -> dict:
    """Everything of a result but its clock, and how many others were trained beside it."""
    kept = result.model_dump(exclude={"train_seconds": True, "provenance": {"lanes"}})
    for evaluation in kept["evaluations"]:
        del evaluation["seconds"]
    return kept


def results(here: Path, store: str) -> dict[str, RunResult]:
    study = Study.load(here / "lr.toml")
    digest = data_digest(study.base.data)
    with Store.open(here / store, create=False) as opened:
        found: dict[str, RunResult] = {}
        while new := opened.results(run.fingerprint for run in plan(study, lambda recipe: digest, found).todo):
            found |= new
        return found


def num_ended(here: Path, store: str) -> int:
    if not (here / store / "store.sqlite").is_file():
        return 0
    with Store.open(here / store, create=False) as opened:
        return len(opened.fingerprints())


def test_a_run_that_is_trained_alone_goes_on_from_its_checkpoint(here, monkeypatch):
    """Those of a study, killed with -9: test_disturbances.py."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(training, "PROGRESS_SECONDS", 0.0)
    recipe = Recipe.load(here / "tiny.toml").with_({"train.updates": 20, "model.dropout": 0.1})
    undisturbed = api.train(recipe, store=here / "whole")
    name = fingerprint(recipe, data_digest(recipe.data))
    folder = here / "broken-off" / "checkpoints" / name

    def stop(_: Progress) -> None:
        if any(int(path.name[7:13]) >= 10 for path in folder.glob("update-*")):
            raise RuntimeError("the watcher's own fault")

    with pytest.raises(RuntimeError):
        api.train(recipe, store=here / "broken-off", on_progress=stop)
    said: list[Progress] = []
    again = api.train(recipe, store=here / "broken-off", on_progress=said.append)
    assert 10 < said[0].update < 20
    assert again.fingerprint == undisturbed.fingerprint == name
    assert numbers(again) == numbers(undisturbed)
    assert not folder.exists()


def test_ctrl_c_says_how_to_go_on(here, command):
    (here / "slow.toml").write_text(SLOW)
    (here / "slow.py").write_text(SCRIPT)
    driver = subprocess.Popen(
        [sys.executable, "-m", "blueberry", "run", "slow.toml", "--quiet", "--workers", "1"],
        cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: num_ended(here, ".blueberry") >= 1)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert out == ""
    assert err == "interrupted; what had finished is kept; the same command goes on from there\n"
    assert "0 running" in command("status", "--store", here / ".blueberry").out


@pytest.mark.parametrize("column", ["metrics", "body"])
def test_results_whose_bytes_rotted_are_trained_again_and_said(here, column):
    study = Study.load(here / "lr.toml")
    heard: dict[str, None] = {}

    def go() -> api.Judged:
        return api.conduct(
            study, store=here / "store", trainer=Synthetic(), workers=0,
            on_event=lambda seen: heard.update(dict.fromkeys(seen.notes)),
        )  # fmt: skip

    before = go()
    with closing(sqlite3.connect(here / "store" / "store.sqlite")) as sql, sql:
        rotten = f"replace({column}, '\"', '''')"
        sql.execute(f"UPDATE results SET {column} = {rotten} WHERE rowid IN (2, 3)")
    names = [run.fingerprint for run in before.plan.runs]
    said = r"result of run \w+ \(learning_rate=.*, seed \d+\).* blueberry run trains it"
    with Store.open(here / "store") as store, pytest.raises(StoreError, match=said):
        store.results(names)
    again = go()
    assert again.judgement == before.judgement
    assert any("learning_rate=" in note and "damaged" in note for note in heard)
    with Store.open(here / "store") as store:
        assert len(store.results(names)) == len(names)
    heard.clear()
    assert (go().num_trained, heard) == (0, {})


def test_results_of_another_build_are_counted(here):
    study = Study.load(here / "lr.toml")
    with Store.open(here / "store") as store:
        planned = plan(study, lambda recipe: data_digest(recipe.data, store.data), {})
        for run in planned.runs[:2]:
            result = Synthetic().result(run.recipe).model_copy(update={"fingerprint": run.fingerprint})
            store.commit(result)
        labels = {run.fingerprint: run.label for run in planned.runs}
        store.register(study.path, study.name, study.question, labels, build=code_digest())
        assert study_statuses(store, build=code_digest())[0].other_builds == 2
    seen = api.foresee(study, here / "store")
    assert seen.other_builds == 2
    assert "2 of 2 results from another build of the trainer: with runs of this one, drift blocks" in forecast(seen)
