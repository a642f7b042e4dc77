"""Studies of real training, killed with -9 again and again: every run once, every number that of an undisturbed one."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from blueberry.study.store import Store
from tests.test_cli import RECIPE
from tests.test_nothing_lost import numbers, results, wait_until

STUDY = """
question = "Which rate?"
base = "tiny.toml"
[vary]
"optimizer.muon.learning_rate" = {{ log = [0.001, 0.1], points = {points} }}
[set]
"train.updates" = {updates}
"model.dropout" = 0.1
[seeds]
search = {seeds}
confirm = {confirm}
"""
DRIVER = """
import sys
from blueberry import api
from blueberry.study.spec import Study

if __name__ != "__main__":  # a worker
    from blueberry.lm import training

    training.CHECKPOINT_SECONDS = training.PROGRESS_SECONDS = 0.05


def say(snapshot):
    with open("progress", "a") as file:
        for one in snapshot.running:
            file.write(f"{one.fingerprints[0]} {one.update}\\n")


if __name__ == "__main__":
    store, workers, *on = sys.argv[1:]
    place = dict(workers=int(workers), on=on[0] if on else None)
    judged = api.conduct(Study.load("lr.toml"), store=store, **place, on_event=say)
    sys.exit(len(judged.failures))
"""


def make(folder: Path, *, points: int, seeds: int, confirm: int, updates: int) -> None:
    (folder / "tiny.toml").write_text(RECIPE)
    (folder / "lr.toml").write_text(STUDY.format(points=points, seeds=seeds, confirm=confirm, updates=updates))
    (folder / "driver.py").write_text(DRIVER)


def drive(folder: Path, store: str, workers: int = 2, *on: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "driver.py", store, str(workers), *on]
    with (folder / f"{store}.err").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def undisturbed(folder: Path) -> None:
    """In one process and in order: where runs are trained may change no number either."""
    assert drive(folder, "whole", 0).wait(timeout=600) == 0


def descendants(pid: int) -> dict[int, str]:
    """Of a process that is ours: each with its command line."""
    found: dict[int, str] = {}
    left = [pid]
    while left:
        try:
            for task in Path(f"/proc/{left.pop()}/task").iterdir():
                for child in (task / "children").read_text().split():
                    found[int(child)] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
                    left.append(int(child))
        except OSError:
            continue
    return found


def workers_of(driver: int) -> list[int]:
    return [pid for pid, line in descendants(driver).items() if "spawn_main" in line]


def kill(*pids: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def bodies(folder: Path, store: str) -> dict[str, str]:
    """What is committed, by fingerprint, read past the code under test."""
    try:
        with closing(sqlite3.connect(f"file:{folder / store / 'store.sqlite'}?mode=ro", uri=True)) as sql:
            return dict(sql.execute("SELECT fingerprint, body FROM results"))
    except sqlite3.OperationalError:  # not there yet
        return {}


def disturb(folder: Path, num_kills: int, rng: random.Random) -> dict[str, int]:
    """Kill driver, worker or both at random moments, starting the study again whenever nobody drives it."""
    kills = {"driver": 0, "worker": 0, "both": 0}
    kept: dict[str, str] = {}
    driver = drive(folder, "killed")
    try:
        while sum(kills.values()) < num_kills:
            if rng.random() < 0.7:  # after something has been achieved; else at any moment, while it starts too
                deadline = time.monotonic() + 60
                while (
                    len(bodies(folder, "killed")) <= len(kept) and driver.poll() is None and time.monotonic() < deadline
                ):
                    time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.5))
            if driver.poll() is not None:
                driver = drive(folder, "killed")
                continue
            whom = rng.choice(list(kills))
            workers = workers_of(driver.pid)
            if whom == "worker" and not workers:
                continue
            kills[whom] += 1
            if whom != "driver" and workers:
                kill(rng.choice(workers))
            if whom != "worker":
                driver.kill()
                driver.wait()
                driver = drive(folder, "killed")
            seen = bodies(folder, "killed")
            assert kept.items() <= seen.items(), "a result, once there, stays as it is"
            kept = seen
        code = driver.wait(timeout=600)
    finally:
        driver.kill()
        driver.wait()
    for _ in range(3):  # runs that were killed three times are given up by one driver, and tried by the next
        if code == 0:
            break
        code = drive(folder, "killed").wait(timeout=600)
    assert code == 0
    assert kept.items() <= bodies(folder, "killed").items()
    return kills


def same_as_undisturbed(folder: Path, num_runs: int, *stores: str) -> None:
    whole = results(folder, "whole")
    assert len(whole) == num_runs
    for store in stores:
        found = results(folder, store)
        assert {name: numbers(r) for name, r in found.items()} == {name: numbers(r) for name, r in whole.items()}
        with Store.open(folder / store, create=False) as opened:
            assert opened.claims() == ()
            (registered,) = opened.studies()
            assert opened.failures(registered.fingerprints) == {}
        assert not any((folder / store / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("num_kills", "points", "seeds", "confirm"),
    [
        pytest.param(8, 3, 2, 1, id="8-kills"),
        pytest.param(50, 19, 3, 3, id="50-kills-60-runs", marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments_each_run_ends_once_with_its_number(
    tmp_path: Path, num_kills: int, points: int, seeds: int, confirm: int
) -> None:
    make(tmp_path, points=points, seeds=seeds, confirm=confirm, updates=16)
    undisturbed(tmp_path)
    kills = disturb(tmp_path, num_kills, random.Random(num_kills))
    assert sum(kills.values()) == num_kills
    same_as_undisturbed(tmp_path, points * seeds + confirm, "killed")


def test_a_killed_workers_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    make(tmp_path, points=2, seeds=1, confirm=0, updates=200)
    undisturbed(tmp_path)
    (tmp_path / "progress").unlink()
    driver = drive(tmp_path, "killed")
    checkpoints = tmp_path / "killed" / "checkpoints"
    wait_until(lambda: any(int(path.name[7:13]) >= 60 for path in checkpoints.glob("*/update-*")))
    for worker in workers_of(driver.pid):
        kill(worker)
    reached = len((tmp_path / "progress").read_text().splitlines())
    names = {path.parent.name for path in checkpoints.glob("*/update-*") if int(path.name[7:13]) >= 60}
    assert driver.wait(timeout=300) == 0
    later = [line.split() for line in (tmp_path / "progress").read_text().splitlines()[reached + 2 :]]
    again = [int(update) for name, update in later if name in names and int(update) > 0]
    assert again
    assert min(again) >= 40
    same_as_undisturbed(tmp_path, 2, "killed")


@pytest.mark.ray
def test_on_ray_with_a_workers_process_killed(tmp_path: Path) -> None:
    make(tmp_path, points=3, seeds=2, confirm=1, updates=100)
    undisturbed(tmp_path)
    driver = drive(tmp_path, "killed", 2, "ray")
    for num_done in (1, 3):
        wait_until(lambda least=num_done: len(bodies(tmp_path, "killed")) >= least, seconds=240)
        tasks = [pid for pid, line in descendants(driver.pid).items() if line.startswith("ray::_run")]
        assert tasks, descendants(driver.pid)
        kill(tasks[0])
    assert driver.wait(timeout=300) == 0
    same_as_undisturbed(tmp_path, 7, "killed")


@pytest.mark.ray
def test_the_demos_study_on_two_workers_of_ray_equals_local_workers(tmp_path: Path) -> None:
    studies = Path(__file__).parent.parent / "studies"
    text = (studies / "demo-lr-sweep.toml").read_text().replace("../recipes/", f"{studies.parent}/recipes/")
    text = (
        text.replace("points = 11", "points = 3")
        .replace("search  = 3", "search  = 2")
        .replace("confirm = 5", "confirm = 1")
    )
    (tmp_path / "lr.toml").write_text(text + '\n[set]\n"train.updates" = 8\n"evaluate.every_updates" = 4\n')
    (tmp_path / "driver.py").write_text(DRIVER)
    undisturbed(tmp_path)
    assert drive(tmp_path, "ray", 2, "ray").wait(timeout=500) == 0
    same_as_undisturbed(tmp_path, 7, "ray")
