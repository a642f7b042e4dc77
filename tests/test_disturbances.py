"""Studies of real training, killed with -9 again and again: every run once, every number that of an undisturbed one."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from blueberry import api
from blueberry.study.spec import Study
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
"evaluate.every_updates" = 15
"model.dropout" = 0.1
[seeds]
search = {seeds}
confirm = {confirm}
"""
WATCHED = """
import os, time
from dataclasses import dataclass

from blueberry.lm.trainer import Trainer
from blueberry.records import RunResult
from blueberry.text.dataset import data_digest


@dataclass(frozen=True)
class Watched(Trainer):
    "The built-in trainer, saving often, told of each update it makes, and slow enough to be hit in the middle."

    log: str = ""

    def __call__(self, recipes):
        from blueberry.lm import training

        training.CHECKPOINT_SECONDS, training.PROGRESS_SECONDS, training.CHECKPOINT_SHARE = 0.05, 0.0, 1.0
        for said in super().__call__(recipes):
            if isinstance(said, RunResult):
                self.note(said.fingerprint, "end")
            elif said.note is None:
                for name in said.fingerprints:  # side by side
                    self.note(name, said.update)
                time.sleep(0.01)
            yield said

    def note(self, name, what):
        with open(self.log, "a") as log:
            log.write(f"{os.getpid()} {name} {what}\\n")

    def data_digest(self, recipe):
        return data_digest(recipe.data, self.store / "data")
"""
DRIVER = """
import sys

if __name__ == "__main__":  # and not in a worker
    from pathlib import Path

    from blueberry import api
    from blueberry.study.spec import Study
    from watched import Watched

    store, workers, *on = sys.argv[1:]
    trainer = Watched(Path(store).absolute(), log=str(Path(store + ".log").absolute())) if int(workers) else None
    place = dict(workers=int(workers), on=on[0] if on else None)
    judged = api.conduct(Study.load("lr.toml"), store=store, trainer=trainer, **place)
    sys.exit(len(judged.failures))
"""


def make(folder: Path, *, points: int, seeds: int, confirm: int, updates: int) -> None:
    (folder / "tiny.toml").write_text(RECIPE)
    (folder / "lr.toml").write_text(STUDY.format(points=points, seeds=seeds, confirm=confirm, updates=updates))
    add_driver(folder)


def add_driver(folder: Path) -> None:
    (folder / "driver.py").write_text(DRIVER)
    (folder / "watched.py").write_text(WATCHED)


def drive(folder: Path, store: str, workers: int = 2, *on: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "driver.py", store, str(workers), *on]
    with (folder / f"{store}.err").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def undisturbed(folder: Path) -> None:
    """In this process and in order: where runs are trained may change no number either."""
    assert api.conduct(Study.load(folder / "lr.toml"), store=folder / "whole", workers=0).failures == ()


@dataclass(frozen=True)
class Line:
    """What a worker wrote of a run: an update it has made, or that the run has ended."""

    pid: int
    run: str
    update: int | None
    """None at the end."""


def lines(folder: Path) -> list[Line]:
    """Of the store `killed`, the oldest first."""
    try:
        words = [line.split() for line in (folder / "killed.log").read_text().splitlines()]
    except FileNotFoundError:
        return []
    return [Line(int(w[0]), w[1], None if w[2] == "end" else int(w[2])) for w in words if len(w) == 3]


def at_work(seen: list[Line]) -> dict[int, Line]:
    """Of each process that was in the middle of a run, the last update that it made."""
    last = {line.pid: line for line in seen}
    return {pid: line for pid, line in last.items() if line.update is not None and is_running(pid)}


def begun_again(seen: list[Line]) -> list[Line]:
    """The first updates of attempts that went on from a checkpoint."""
    first: dict[tuple[int, str], Line] = {}
    for line in seen:
        first.setdefault((line.pid, line.run), line)
    return [line for line in first.values() if line.update is not None and line.update > 1]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def workers_of(driver: int) -> list[int]:
    """Processes, of one that is ours, that train or are about to."""
    try:
        children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
        return [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    except OSError:
        return []


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def bodies(folder: Path, store: str) -> dict[str, str]:
    """What is committed, by fingerprint, read past the code under test."""
    try:
        with closing(sqlite3.connect(f"file:{folder / store / 'store.sqlite'}?mode=ro", uri=True)) as sql:
            return dict(sql.execute("SELECT fingerprint, body FROM results"))
    except sqlite3.OperationalError:  # not there yet
        return {}


@dataclass
class Witness:
    """Looks at the store and at what workers write, after every kill."""

    folder: Path
    num_lines: int = 0

    def __post_init__(self) -> None:
        self.kept: dict[str, str] = {}

    def look(self) -> None:
        kept = bodies(self.folder, "killed")
        seen = lines(self.folder)
        again = {line.run for line in seen[self.num_lines :]} & self.kept.keys()
        assert not again, "a run with a result is trained no more"
        assert self.kept.items() <= kept.items(), "a result, once there, stays as it is"
        self.kept, self.num_lines = kept, len(seen)


def disturb(folder: Path, num_kills: int, rng: random.Random) -> None:
    """Kill driver, worker or both at random moments, starting the study again whenever nobody drives it.

    Most moments lie a random number of updates after the last; the others anywhere, while it starts too.
    """
    killed = dict.fromkeys(("driver", "worker", "both"), 0)
    num_in_training = 0
    witness = Witness(folder)
    driver = drive(folder, "killed")
    try:
        while sum(killed.values()) < num_kills:
            if rng.random() < 0.8:
                enough = len(lines(folder)) + rng.randint(1, 60)
                wait_until(lambda enough=enough, d=driver: len(lines(folder)) >= enough or d.poll() is not None)
            else:
                time.sleep(rng.uniform(0, 0.5))
            if driver.poll() is not None:
                missing = len(bodies(folder, "whole")) - len(bodies(folder, "killed"))
                assert missing, f"all was trained after {killed}: slow it down, or else no kill disturbs it"
                driver = drive(folder, "killed")  # it had given up a run that was killed three times
                continue
            workers = workers_of(driver.pid)
            whom = rng.choice(["worker", *killed] if workers else ["driver"])
            busy = at_work(lines(folder))
            victim = rng.choice([pid for pid in workers if pid in busy] or workers or [driver.pid])
            if whom == "worker":
                num_in_training += victim in busy
                kill(victim)
            else:
                num_in_training += bool(busy)
                kill(driver.pid)
                if whom == "both":
                    kill(victim)
                driver.wait()
                wait_until(lambda gone=workers: not any(map(is_running, gone)), seconds=20)
            killed[whom] += 1
            witness.look()
            if whom != "worker":
                driver = drive(folder, "killed")
        code = driver.wait(timeout=600)
    finally:
        driver.kill()
        driver.wait()
    for _ in range(3):  # runs that were killed three times are given up by one driver, and tried by the next
        if code == 0:
            break
        code = drive(folder, "killed").wait(timeout=600)
    assert code == 0
    witness.look()
    print(f"killed {killed}, {num_in_training} in training, {len(begun_again(lines(folder)))} went on")
    assert num_in_training >= 0.6 * num_kills
    assert len(begun_again(lines(folder))) >= 0.3 * num_kills


def same_as_undisturbed(folder: Path, num_runs: int, store: str = "killed") -> None:
    whole, found = results(folder, "whole"), results(folder, store)
    assert len(whole) == num_runs
    assert {name: numbers(r) for name, r in found.items()} == {name: numbers(r) for name, r in whole.items()}
    with Store.open(folder / store, create=False) as opened:
        assert opened.claims() == ()
        (registered,) = opened.studies()
        assert opened.failures(registered.runs) == {}
    assert bodies(folder, store).keys() == whole.keys()
    assert not any((folder / store / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_kills", "points", "seeds", "confirm", "updates"),
    [pytest.param(8, 3, 2, 1, 80, id="8-kills"), pytest.param(50, 19, 3, 3, 40, id="50-kills-60-runs")],
)
def test_killed_at_random_moments_each_run_ends_once_with_its_number(
    tmp_path: Path, num_kills: int, points: int, seeds: int, confirm: int, updates: int
) -> None:
    make(tmp_path, points=points, seeds=seeds, confirm=confirm, updates=updates)
    undisturbed(tmp_path)
    disturb(tmp_path, num_kills, random.Random(num_kills))
    same_as_undisturbed(tmp_path, points * seeds + confirm)


def test_runs_of_a_killed_worker_and_of_a_killed_driver_go_on_from_their_checkpoints(tmp_path: Path) -> None:
    make(tmp_path, points=2, seeds=1, confirm=1, updates=50)
    driver = drive(tmp_path, "killed", 1)
    undisturbed(tmp_path)
    witness = Witness(tmp_path)

    def newest() -> int:
        """The update of the last checkpoint that all runs have which were being trained."""
        runs = (tmp_path / "killed" / "checkpoints").iterdir()
        return max(set.intersection(*({int(path.name[7:13]) for path in run.glob("update-*")} for run in runs)))

    wait_until(lambda: any((line.update or 0) >= 25 for line in lines(tmp_path)))
    (worker,) = workers_of(driver.pid)
    kill(worker)
    wait_until(lambda: not is_running(worker), seconds=20)
    first = newest()
    assert first >= 10
    witness.look()
    wait_until(lambda: bodies(tmp_path, "killed") != {} and (lines(tmp_path)[-1].update or 0) >= 25)
    (worker,) = workers_of(driver.pid)
    kill(driver.pid)
    driver.wait()
    wait_until(lambda: not is_running(worker), seconds=20)
    second = newest()
    witness.look()
    assert drive(tmp_path, "killed", 1).wait(timeout=300) == 0
    witness.look()
    assert [line.update for line in begun_again(lines(tmp_path))] == [first + 1, first + 1, second + 1]
    same_as_undisturbed(tmp_path, 3)


@pytest.mark.ray
def test_on_ray_with_processes_of_tasks_killed(tmp_path: Path) -> None:
    make(tmp_path, points=4, seeds=2, confirm=2, updates=100)
    undisturbed(tmp_path)
    rng = random.Random(4)
    hits: Counter[str] = Counter()
    witness = Witness(tmp_path)
    driver = drive(tmp_path, "killed", 2, "ray")
    for _ in range(4):
        enough = len(lines(tmp_path)) + rng.randint(1, 120)
        wait_until(lambda enough=enough: len(lines(tmp_path)) >= enough or driver.poll() is not None, seconds=240)
        while not (busy := at_work(lines(tmp_path))):
            assert driver.poll() is None, (tmp_path / "killed.err").read_text()
            time.sleep(0.02)
        pid, line = min(busy.items(), key=lambda item: hits[item[1].run])
        kill(pid)
        hits[line.run] += 1  # no run three times: it would be given up
        witness.look()
    assert driver.wait(timeout=300) == 0
    witness.look()
    assert begun_again(lines(tmp_path))
    same_as_undisturbed(tmp_path, 10)


@pytest.mark.ray
def test_the_demos_study_on_two_workers_of_ray_equals_local_workers(tmp_path: Path) -> None:
    studies = Path(__file__).parent.parent / "studies"
    text = (studies / "demo-lr-sweep.toml").read_text().partition("[strategy]")[0]
    (tmp_path / "lr.toml").write_text(
        text.replace("[0.001, 1.0] }", "[0.01, 1.0], points = 3 }") + "[seeds]\nsearch = 2\nconfirm = 1\n"
        '[set]\n"train.updates" = 8\n"evaluate.every_updates" = 4\n'
    )
    add_driver(tmp_path)
    assert drive(tmp_path, "whole", 2).wait(timeout=500) == 0
    assert drive(tmp_path, "ray", 2, "ray").wait(timeout=500) == 0
    same_as_undisturbed(tmp_path, 7, "ray")
