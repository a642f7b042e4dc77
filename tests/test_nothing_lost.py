"""Real training killed with -9, and run again: every run once, every number that of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blueberry.identity import fingerprint
from blueberry.recipe import Recipe
from blueberry.records import RunResult
from blueberry.study.plan import plan
from blueberry.study.spec import Study
from blueberry.study.store import Store
from blueberry.text import data_digest
from tests.test_cli import RECIPE, STUDY

STUDY_LONG = STUDY.replace("confirm = 2", "confirm = 1").replace("search = 3", "search = 2") + (
    '[set]\n"train.updates" = 120\n"evaluate.every_updates" = 60\n'
)
TRAIN = """
import sys
from blueberry import api
from blueberry.lm import training
from blueberry.recipe import Recipe
training.CHECKPOINT_SECONDS = training.PROGRESS_SECONDS = 0.0
recipe = Recipe.load("tiny.toml").with_({"train.updates": 150, "model.dropout": 0.1})
first = []
api.train(recipe, store=sys.argv[1], on_progress=first.append)
print(first[0].update)
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
        time.sleep(0.02)


def numbers(result: RunResult) -> dict:
    kept = result.model_dump(exclude={"train_seconds"})
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


def test_a_study_killed_anywhere_goes_on(here):
    undisturbed = start(here, "-m", "blueberry", "run", "lr.toml", "--store", "whole", "--out", "a", "--quiet")
    assert undisturbed.wait(timeout=240) in (0, 1)

    # On one worker instead of two: the number of workers may change no number either.
    disturbed = ("-m", "blueberry", "run", "lr.toml", "--store", "killed", "--out", "b", "--quiet", "--workers", "1")
    driver = start(here, *disturbed)
    wait_until(lambda: (here / "killed" / "store.sqlite").is_file() and len(results(here, "killed")) >= 2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kept = results(here, "killed")
    assert 2 <= len(kept) < 7
    assert start(here, *disturbed).wait(timeout=240) in (0, 1)

    whole, again = results(here, "whole"), results(here, "killed")
    assert len(whole) == 7
    assert {name: numbers(r) for name, r in again.items()} == {name: numbers(r) for name, r in whole.items()}
    assert {name: r.train_seconds for name, r in kept.items()}.items() <= {
        n: r.train_seconds for n, r in again.items()
    }.items()


def test_a_run_killed_in_the_middle_goes_on_from_its_checkpoint(here):
    (here / "train.py").write_text(TRAIN)
    undisturbed = start(here, "train.py", "whole")
    assert undisturbed.wait(timeout=120) == 0

    recipe = Recipe.load(here / "tiny.toml").with_({"train.updates": 150, "model.dropout": 0.1})
    name = fingerprint(recipe, data_digest(recipe.data))
    folder = here / "killed" / "checkpoints" / name
    victim = start(here, "train.py", "killed")
    wait_until(lambda: any(int(path.name[7:13]) >= 40 for path in folder.glob("update-*")))
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    command = [sys.executable, "train.py", "killed"]
    again = subprocess.run(command, cwd=here, stdout=subprocess.PIPE, check=True, timeout=120)
    assert int(again.stdout) > 40

    found = []
    for store in ("whole", "killed"):
        with Store.open(here / store, create=False) as opened:
            found.append(opened.results([name])[name])
    assert numbers(found[0]) == numbers(found[1])
    assert not folder.exists()


def test_ctrl_c_says_how_to_go_on(here):
    driver = subprocess.Popen(
        [sys.executable, "-m", "blueberry", "run", "lr.toml", "--quiet"],
        cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: (here / ".blueberry" / "store.sqlite").is_file() and len(results(here, ".blueberry")) >= 1)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert out == ""
    assert err == "interrupted; what had finished is kept; the same command goes on from there\n"
    status = subprocess.run(
        [sys.executable, "-m", "blueberry", "status"], cwd=here, capture_output=True, text=True, check=True
    )
    assert "0 running" in status.stdout
