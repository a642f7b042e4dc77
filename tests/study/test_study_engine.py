import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from study_trainers import (
    NUM_RUNS,
    Breaks,
    Logged,
    Raises,
    make_study,
)

from blueberry.errors import StoreError, TrainerError
from blueberry.records import RunResult
from blueberry.study import workers as workers_module
from blueberry.study.engine import Outcome, Snapshot, run
from blueberry.study.spec import Study
from blueberry.study.store import Owner, Store, this_host
from blueberry.study.synthetic import Synthetic
from blueberry.study.workers import Trainer

DRIVER = Path(__file__).parent / "study_driver.py"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


def go(study: Study, store: Store, trainer: Trainer, workers: int = 0, lanes: int = 2, **more: object) -> Outcome:
    return run(
        study, data_digest=Synthetic.data_digest, store=store, trainer=trainer, workers=workers, lanes=lanes, **more
    )  # pyright: ignore


def undisturbed(study: Study, tmp_path: Path) -> dict[str, RunResult]:
    with Store.open(tmp_path / "undisturbed") as store:
        return dict(go(study, store, Synthetic()).results)


def trained(log: Path) -> list[str]:
    """A line for each run that was trained to its end: seed and rate."""
    return [" ".join(line.split()[1:]) for line in log.read_text().splitlines()] if log.exists() else []


def wait_until(holds: Callable[[], bool], seconds: float = 50.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def drive(study: Study, tmp_path: Path, *, workers: int, log: str, seconds: float) -> subprocess.Popen[str]:
    arguments = [study.path, tmp_path / "store", workers, 2, log, seconds]
    return subprocess.Popen([sys.executable, DRIVER, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def worker_pids(driver: int) -> list[int]:
    children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
    lines = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
    return [pid for pid, line in lines.items() if "spawn_main" in line]


def test_checkpoints_that_a_driver_left_behind_as_it_died_are_removed(study: Study, store: Store) -> None:
    outcome = go(study, store, Synthetic())
    ended, other = sorted(outcome.results)[0], "0123456789abcdef"
    for name in (ended, other):
        (store.checkpoints / name).mkdir()
        (store.checkpoints / name / "update-000003.x.safetensors").touch()
    go(study, store, Synthetic())
    assert [path.name for path in store.checkpoints.iterdir()] == [other]


def test_a_worker_killed_from_outside_is_noticed_within_a_second(study: Study, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with drive(study, tmp_path, workers=1, log=str(log), seconds=0.1) as driver:
        wait_until(lambda: len(trained(log)) >= 2)
        (victim,) = worker_pids(driver.pid)
        os.kill(victim, signal.SIGKILL)
        killed_at = time.monotonic()
        wait_until(lambda: any(pid != victim for pid in worker_pids(driver.pid)))
        assert time.monotonic() - killed_at < 1.0
        assert driver.wait(30) == 0
    with Store.open(tmp_path / "store") as store:
        assert go(study, store, Raises(rate=0.01)).results == undisturbed(study, tmp_path)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("too few", "yielded 1 results for 2 recipes"),
        ("too many", "must yield one for each recipe it was handed and no other"),
        ("no record", "yielded dict; it must yield RunResult or Progress"),
    ],
)
def test_a_trainer_that_breaks_its_contract_is_named(study: Study, store: Store, how: str, said: str) -> None:
    with pytest.raises(TrainerError, match=said):
        go(study, store, Breaks(how))
    assert store.claims() == ()


def test_a_script_without_its_main_guard_is_told_so(study: Study, tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    text = DRIVER.read_text().replace('if __name__ == "__main__":\n    sys.exit(main())', "main()")
    script.write_text(f"import sys\nsys.path.insert(0, {str(DRIVER.parent)!r})\n{text}")
    command = [sys.executable, script, study.path, tmp_path / "store", "1", "2", tmp_path / "log", "0"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    assert "TrainerError: workers: a worker ended with exit code 1 before it had begun" in done.stderr
    assert 'under `if __name__ == "__main__":`' in done.stderr


def test_a_driver_killed_in_the_middle_loses_and_repeats_nothing(study: Study, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with drive(study, tmp_path, workers=2, log=str(log), seconds=0.15) as driver:
        wait_until(lambda: len(trained(log)) >= 4)
        workers = worker_pids(driver.pid)
        driver.kill()
        assert len(workers) == 2
    wait_until(lambda: not any(map(is_running, workers)), seconds=2)
    with Store.open(tmp_path / "store") as store:
        assert any(not claim.alive for claim in store.claims())
        kept = len(store.results(undisturbed(study, tmp_path)))
        before = len(trained(log))
        assert 2 <= kept <= before
        outcome = go(study, store, Logged(str(log)))
        assert outcome.num_trained == NUM_RUNS - kept
        assert outcome.results == undisturbed(study, tmp_path)
        assert store.claims() == ()
    assert len(trained(log)) - before == NUM_RUNS - kept


def test_workers_die_with_their_driver_even_when_the_trainer_is_silent(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("BLUEBERRY_TEST_PIDS", str(pids))
    with drive(study, tmp_path, workers=1, log="hang", seconds=0) as driver:
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 1)
        workers = [int(pid) for pid in pids.read_text().split()]
        assert all(map(is_running, workers))
        driver.kill()
    wait_until(lambda: not any(map(is_running, workers)), seconds=2)


def test_two_drivers_at_once_share_the_work(study: Study, tmp_path: Path) -> None:
    log = tmp_path / "log"
    drivers = [drive(study, tmp_path, workers=1, log=str(log), seconds=0.1) for _ in range(2)]
    counts = []
    for driver in drivers:
        with driver:
            assert driver.stdout is not None
            counts.append(int(driver.stdout.read()))
    assert sum(counts) == NUM_RUNS
    assert min(counts) >= 2
    assert len(set(trained(log))) == len(trained(log)) == NUM_RUNS
    with Store.open(tmp_path / "store") as store:
        assert go(study, store, Raises(rate=0.01)).results == undisturbed(study, tmp_path)


def test_a_driver_waits_for_the_claims_of_another_and_takes_over_when_it_dies(study: Study, store: Store) -> None:
    holder = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    whole = go(study, store, Synthetic()).plan
    with Store.open(store.folder / "second") as second:
        names = [one.fingerprint for one in whole.runs[:4]]
        second.claim(names, Owner("other", this_host(), holder.pid))
        seen: list[Snapshot] = []

        def watch(snapshot: Snapshot) -> None:
            seen.append(snapshot)
            if snapshot.done == 6 and not snapshot.running and holder.poll() is None:
                holder.kill()
                holder.wait()

        outcome = go(study, second, Synthetic(), lanes=4, on_event=watch)
        assert holder.poll() is not None, "it finished everything else before the other was gone"
        assert outcome.num_trained == NUM_RUNS
        assert any(snapshot.done == 6 for snapshot in seen)


@pytest.mark.parametrize(("workers", "number"), [(0, signal.SIGTERM), (2, signal.SIGINT)])
def test_an_interrupted_driver_keeps_what_has_ended(
    study: Study, tmp_path: Path, workers: int, number: signal.Signals
) -> None:
    log = tmp_path / "log"
    with drive(study, tmp_path, workers=workers, log=str(log), seconds=0.15) as driver:
        wait_until(lambda: len(trained(log)) >= 3)
        pids = worker_pids(driver.pid)
        driver.send_signal(number)
        assert driver.wait(10) == 130
        assert driver.stdout is not None
        assert driver.stdout.read() == "interrupted\n"
    assert not any(map(is_running, pids))
    with Store.open(tmp_path / "store") as store:
        assert store.claims() == ()
        kept = len(store.results(undisturbed(study, tmp_path)))
        assert kept >= len(trained(log)) - max(workers, 1), "what a worker had sent is committed"
        assert go(study, store, Synthetic()).num_trained == NUM_RUNS - kept


def test_results_that_nobody_has_heard_yet_are_committed_too(study: Study, store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def stop_late(snapshot: Snapshot) -> None:
        wait_until(lambda: len(trained(log)) == 4)
        time.sleep(0.2)  # the last one is on its way through the pipe
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(study, store, Logged(str(log)), workers=2, on_event=stop_late)
    assert len(store.results(undisturbed(study, tmp_path))) == 4
    assert store.claims() == ()


def test_the_terminal_may_interrupt_the_workers_too(study: Study, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with drive(study, tmp_path, workers=1, log=str(log), seconds=0.1) as driver:
        wait_until(lambda: len(worker_pids(driver.pid)) == 1)
        workers = worker_pids(driver.pid)
        while len(trained(log)) < 3:  # from the first moment of their lives
            for pid in workers:
                os.kill(pid, signal.SIGINT)
            time.sleep(0.02)
        assert worker_pids(driver.pid) == workers
        assert driver.wait(30) == 0


def test_a_second_interrupt_does_not_wait(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("BLUEBERRY_TEST_PIDS", str(pids))
    with drive(study, tmp_path, workers=1, log="hang", seconds=0) as driver:
        wait_until(lambda: pids.exists() and bool(pids.read_text()))
        (worker,) = worker_pids(driver.pid)
        os.kill(worker, signal.SIGSTOP)  # it cannot hear SIGTERM now
        asked_at = time.monotonic()
        driver.send_signal(signal.SIGINT)
        time.sleep(0.3)
        driver.send_signal(signal.SIGINT)
        assert driver.wait(10) == 130
        assert time.monotonic() - asked_at < workers_module.GRACE_SECONDS
    assert not is_running(worker)


def test_it_runs_outside_the_main_thread(study: Study, tmp_path: Path) -> None:
    outcomes: list[Outcome] = []

    def work() -> None:
        with Store.open(tmp_path / "store") as store:
            outcomes.append(go(study, store, Synthetic()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcomes[0].num_trained == NUM_RUNS


def test_snapshots_count_up_and_are_few(study: Study, store: Store, tmp_path: Path) -> None:
    seen: list[tuple[float, Snapshot]] = []
    started = time.monotonic()
    trainer = Synthetic(seconds_per_group=0.3)
    go(study, store, trainer, lanes=5, on_event=lambda snapshot: seen.append((time.monotonic(), snapshot)))
    assert len(seen) <= 5 * (time.monotonic() - started) + 4, "five a second, and one for each plan's start and end"
    snapshots = [snapshot for _, snapshot in seen]
    assert {(one.total, one.updates_total) for one in snapshots} == {(NUM_RUNS, NUM_RUNS * 6)}
    assert [one.done for one in snapshots] == sorted(one.done for one in snapshots)
    assert [one.updates_done for one in snapshots] == sorted(one.updates_done for one in snapshots)
    assert any(0 < progress.update < 6 for one in snapshots for progress in one.running)
    assert dataclasses.astuple(snapshots[-1]) == (NUM_RUNS, NUM_RUNS, (), 0, NUM_RUNS * 6, NUM_RUNS * 6, ())


def test_a_store_that_breaks_stops_the_study(study: Study, store: Store) -> None:
    def spoil(snapshot: Snapshot) -> None:
        store._sql.execute("DROP TABLE results")

    with pytest.raises(StoreError, match="no such table: results"):
        go(study, store, Synthetic(), on_event=spoil)
    assert store.claims() == ()
