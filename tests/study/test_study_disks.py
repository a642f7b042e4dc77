"""Real disks that are full or read-only, and clocks that jump: a clear line, and a store that goes on."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from study_trainers import NUM_RUNS, STUDY, Logged, make_study

from blueberry.errors import StoreError
from blueberry.study.engine import run
from blueberry.study.spec import Study
from blueberry.study.status import study_statuses
from blueberry.study.store import LEASE_SECONDS, Store
from blueberry.study.synthetic import Synthetic


def mount(*words: object) -> bool:
    return subprocess.run(["mount", *map(str, words)], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Half a megabyte of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0 or not mount("-t", "tmpfs", "-o", "size=512k", "tmpfs", folder):
        pytest.skip("needs the right to mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def go(study: Study, store: Store, trainer=None, **more):
    trainer = trainer or Synthetic()
    return run(study, data_digest=Synthetic.data_digest, store=store, trainer=trainer, workers=0, lanes=1, **more)


def long_study(folder: Path) -> Study:
    study = make_study(folder, STUDY + '[set]\n"train.updates" = 700\n')
    assert len(Synthetic().result(study.base).model_dump_json()) > 20_000
    return study


def test_a_full_disk_stops_in_one_line_and_what_had_ended_is_kept(tmp_path: Path, disk: Path) -> None:
    study, log = long_study(tmp_path), tmp_path / "log"
    with Store.open(disk / "store") as store, pytest.raises(StoreError) as caught:
        go(study, store, Logged(str(log)))
    assert "disk is full; make room and run again" in str(caught.value)
    assert "\n" not in str(caught.value)
    kept = len(log.read_text().splitlines())
    assert 2 <= kept < NUM_RUNS
    assert mount("-o", "remount,size=64m", disk)
    with Store.open(disk / "store") as store:
        outcome = go(study, store, Logged(str(log)))
        assert outcome.num_trained == NUM_RUNS - kept
        assert len(outcome.results) == NUM_RUNS
        assert store.claims() == ()


def test_a_store_that_cannot_be_written_is_one_line(tmp_path: Path, disk: Path) -> None:
    study = make_study(tmp_path)
    assert mount("-o", "remount,size=64m", disk)
    with Store.open(disk / "store") as store:
        go(study, store)
    assert mount("-o", "remount,ro", disk)
    for create in (True, False):
        with pytest.raises(StoreError) as caught, Store.open(disk / "store", create=create) as store:
            go(study, store)
        assert "\n" not in str(caught.value)
        assert str(disk) in str(caught.value)
        assert "copy the folder to a disk that can be written" in str(caught.value)
    assert mount("-o", "remount,rw", disk)
    with Store.open(disk / "store") as store:
        assert go(study, store).num_trained == 0


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, jump: float) -> None:
    study, log = make_study(tmp_path), tmp_path / "log"
    ahead = [0.0]

    def leap(snapshot) -> None:
        if snapshot.done >= 3:
            ahead[0] = jump

    with Store.open(tmp_path / "store", clock=lambda: time.time() + ahead[0]) as store:
        outcome = go(study, store, Logged(str(log), 0.05), on_event=leap)
        assert ahead[0] == jump
        assert outcome.num_trained == NUM_RUNS == len(log.read_text().splitlines())
        assert store.claims() == ()


def test_status_counts_nothing_as_running_that_a_dead_driver_had_begun(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    arguments = [study.path, tmp_path / "store", 1, 1, tmp_path / "log", 5]
    driver = Path(__file__).parent / "study_driver.py"

    def num_running() -> int:
        if not (tmp_path / "store" / "store.sqlite").exists():
            return 0
        with Store.open(tmp_path / "store") as store:
            return sum(len(one.running) for one in study_statuses(store))

    with subprocess.Popen([sys.executable, driver, *map(str, arguments)], stdout=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 60
        while num_running() != 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        running.kill()
        running.wait()
    assert num_running() == 0
    with Store.open(tmp_path / "store") as store:
        (after,) = study_statuses(store)
    assert (after.running, after.abandoned) == ((), 1)
    assert LEASE_SECONDS >= 10, "or it would only have waited for the lease"
