"""One contract for all places where runs are trained: in this process, in worker processes, on Ray."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import study_scripts
from study_trainers import (
    NUM_RUNS,
    STUDY,
    Breaks,
    CannotBeLoaded,
    CrashesSlowly,
    KillsItself,
    Logged,
    Notes,
    Raises,
    make_study,
)

from blueberry.errors import BlueberryError, DataError, TrainerError
from blueberry.study import command as command_module
from blueberry.study.command import command_trainer
from blueberry.study.engine import Outcome, Snapshot, run
from blueberry.study.ray_workers import _join
from blueberry.study.spec import Study
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic
from blueberry.study.workers import Trainer

DRIVER = Path(__file__).parent / "study_driver.py"


@dataclass(frozen=True)
class Place:
    workers: int
    on: str | None = None


HERE, ONE, CREW, RAY = Place(0), Place(1), Place(2), Place(2, "ray")
on_ray = pytest.param(RAY, id="ray", marks=pytest.mark.ray)
everywhere = pytest.mark.parametrize("place", [pytest.param(HERE, id="here"), pytest.param(CREW, id="crew"), on_ray])
by_one = pytest.mark.parametrize("place", [pytest.param(HERE, id="here"), pytest.param(ONE, id="one"), on_ray])
"""Where a second worker would add nothing but its start."""
elsewhere = pytest.mark.parametrize("place", [pytest.param(ONE, id="one"), on_ray])
"""A process that dies must not be this one."""


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One for all tests here: the crew uses what is there, and leaves it."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def place_is_ready(request: pytest.FixtureRequest) -> None:
    place = request.node.callspec.params.get("place") if hasattr(request.node, "callspec") else None
    if place is RAY:
        request.getfixturevalue("local_ray")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


def go(study: Study, store: Store, trainer: Trainer, place: Place, **more) -> Outcome:
    digest = getattr(trainer, "data_digest", Synthetic.data_digest)
    lanes = more.pop("lanes", 2)
    return run(
        study, data_digest=digest, store=store, trainer=trainer, workers=place.workers, on=place.on, lanes=lanes, **more
    )


@everywhere
def test_every_place_gives_the_same_numbers_once(study: Study, store: Store, tmp_path: Path, place: Place) -> None:
    log = tmp_path / "log"
    outcome = go(study, store, Logged(str(log)), place)
    lines = [line.split() for line in log.read_text().splitlines()]
    assert outcome.num_trained == NUM_RUNS == len({tuple(rest) for _, *rest in lines}) == len(lines)
    pids = {pid for pid, *_ in lines}
    assert len(pids) <= 3, "a process serves many groups"
    assert (str(os.getpid()) in pids) == (place is HERE)
    assert outcome.results == {one.fingerprint: Synthetic().result(one.recipe) for one in outcome.plan.runs}
    statuses = {result.status for result in outcome.results.values()}
    assert statuses == {"completed", "diverged"}, "a diverged run is a result"
    assert store.claims() == ()
    (registered,) = store.studies()
    assert list(registered.runs.items()) == [(one.fingerprint, one.label) for one in outcome.plan.runs]
    again = go(study, store, Raises(rate=0.01), place)
    assert (again.num_trained, again.results) == (0, outcome.results)


@by_one
def test_a_crash_is_tried_three_times_and_the_rest_is_kept(tmp_path: Path, store: Store, place: Place) -> None:
    one_seed = STUDY.replace("search = 2", "search = 1")
    study = make_study(tmp_path, one_seed)
    outcome = go(study, store, Raises(rate=2.0), place, lanes=5)
    assert outcome.num_trained == 4, "what the group had yielded before"
    (failed,) = outcome.failures
    assert failed.failure is not None
    assert failed.failure.message.startswith("not to my taste (study_trainers.py:")
    assert store.claims() == ()


def test_a_crashed_process_that_takes_its_time_to_end_is_given_nothing_more(tmp_path: Path, store: Store) -> None:
    study = make_study(tmp_path, STUDY.replace("search = 2", "search = 1"))
    outcome = go(study, store, CrashesSlowly(str(tmp_path / "notes")), CREW, lanes=5)
    attempts = (tmp_path / "notes").read_text().split()
    assert len(attempts) == len(set(attempts)) == 3, "an attempt that nobody made is none"
    messages = [failed.failure.message for failed in outcome.failures if failed.failure]
    assert len(messages) == 5
    assert all(message.startswith("ValueError: it takes its time (study_trainers.py:") for message in messages)


@pytest.mark.parametrize("place", [on_ray])  # elsewhere: test_study_engine.py
def test_a_process_that_dies_is_replaced(study: Study, store: Store, tmp_path: Path, place: Place) -> None:
    outcome = go(study, store, KillsItself(str(tmp_path / "marks"), rate=0.02, times=1), place)
    assert outcome.failures == ()
    assert outcome.results == {one.fingerprint: Synthetic().result(one.recipe) for one in outcome.plan.runs}


@elsewhere
def test_one_that_always_dies_fails_with_what_it_said_last_and_can_be_tried_again(
    store: Store, tmp_path: Path, place: Place
) -> None:
    study = make_study(tmp_path, STUDY.replace("search = 2", "search = 1"))
    outcome = go(study, store, KillsItself(str(tmp_path / "marks"), rate=0.02, times=999), place, lanes=1)
    assert (tmp_path / "marks").stat().st_size == 3, "attempts"
    assert len(outcome.failures) == 1
    assert outcome.num_trained == 4, "the other arms; nothing is confirmed while a searching run is missing"
    assert {failed.recipe["optimizer.muon.learning_rate"] for failed in outcome.failures} == {0.02}
    for failed in outcome.failures:
        assert failed.failure is not None
        assert failed.failure.kind == "crashed"
        assert failed.failure.message.startswith(
            "the worker ended by signal 9 (SIGKILL)" if place is ONE else "the task's process ended (ActorDied"
        )
        assert failed.failure.message.endswith("(it said last: at work on 0.02)")
    names = [failed.fingerprint for failed in outcome.failures]
    assert store.results(names) == {}
    assert store.failures(names).keys() == set(names)
    assert store.claims() == ()
    again = go(study, store, Synthetic(), HERE)
    assert (again.num_trained, again.failures) == (3, ())
    assert store.failures(names) == {}


@by_one
@pytest.mark.parametrize(
    ("trainer", "kind", "said"),
    [
        (Raises(rate=0.01, kind="data"), DataError, "data: none; there must be some; add it"),
        (Raises(rate=0.01, kind="own"), BlueberryError, "own: 3; a rule; a remedy"),
        (Breaks("stranger"), TrainerError, "yielded a result of run"),
    ],
    ids=["data", "own", "stranger"],
)
def test_a_mistake_stops_the_study_in_one_line_of_its_type(
    study: Study, store: Store, place: Place, trainer: Trainer, kind: type[BlueberryError], said: str
) -> None:
    with pytest.raises(kind) as caught:
        go(study, store, trainer, place, lanes=1)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert store.claims() == ()


@elsewhere
def test_a_trainer_must_travel(study: Study, store: Store, place: Place) -> None:
    with pytest.raises(TrainerError, match="must be picklable"):
        go(study, store, lambda recipes: iter(()), place)
    with pytest.raises(TrainerError, match=r"invalid literal for int.*cannot be loaded in a"):
        go(study, store, CannotBeLoaded(), place)


@by_one
def test_notes_and_progress_come_through(study: Study, store: Store, place: Place) -> None:
    seen: list[Snapshot] = []
    go(study, store, Notes(), place, lanes=5, on_event=seen.append)
    assert seen[-1].done == NUM_RUNS
    heard = {note for one in seen for note in one.notes}
    assert {"out of memory", "seed 0"} <= heard
    assert len(heard) >= 3, "the confirming round's too"
    assert any(0 < progress.update < 6 for one in seen for progress in one.running)


@by_one
def test_a_command_is_a_trainer_everywhere(tmp_path: Path, store: Store, place: Place, monkeypatch) -> None:
    monkeypatch.setattr(command_module, "LOOK_SECONDS", (0.01, 0.02))
    text = study_scripts.STUDY.replace("search = 2", "search = 1")
    study = study_scripts.make_study(tmp_path, "exits", text=text)
    trainer = command_trainer(study, tmp_path / "store")
    assert trainer is not None
    outcome = go(study, store, trainer, place, lanes=1)
    assert len(outcome.failures) == 1
    assert outcome.num_trained == 3
    for failed in outcome.failures:
        assert failed.failure is not None
        line = "the command ended by exit code 3 (it said last: at work on 0.02 "
        assert failed.failure.message.startswith(line)
    for result in outcome.results.values():
        rate, seed = result.recipe["script.rate"], result.recipe["seed"]
        expected = None if rate > 1 else 4 + (rate - 0.03) ** 2 + 1 / 6 + seed / 1000
        assert result.metric("val_loss") == expected
        assert result.status == ("diverged" if rate > 1 else "completed")


def drive(study: Study, tmp_path: Path, place: Place, log: str, seconds: float) -> subprocess.Popen[str]:
    arguments = [study.path, tmp_path / "store", place.workers, 2, log, seconds, *([place.on] if place.on else [])]
    with (tmp_path / "err").open("w") as err:
        return subprocess.Popen(
            [sys.executable, DRIVER, *map(str, arguments)], stdout=subprocess.PIPE, stderr=err, text=True
        )


def wait_until(holds, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# What signals do to the other places is in test_study_engine.py.
@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_driver_on_ray_keeps_what_has_ended(
    study: Study, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "log"
    with drive(study, tmp_path, RAY, str(log), 0.15) as driver:
        wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 3)
        pids = {int(line.split()[0]) for line in log.read_text().splitlines()}
        driver.send_signal(number)
        assert driver.wait(30) == 130
        assert driver.stdout is not None
        assert driver.stdout.read() == "interrupted\n"
    assert (tmp_path / "err").read_text() == "", "and Ray says nothing, nor starts another one to be asked to stop"
    wait_until(lambda: not any(map(is_running, pids)), seconds=10)
    with Store.open(tmp_path / "store") as store:
        assert store.claims() == ()
        kept = NUM_RUNS - go(study, store, Synthetic(), HERE).num_trained
        assert 1 <= kept < NUM_RUNS


@pytest.mark.ray
def test_a_local_ray_is_one_of_its_own_whatever_cluster_there_is(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with drive(study, tmp_path, RAY, str(tmp_path / "log"), 0) as driver:
        assert driver.wait(120) == 0, (tmp_path / "err").read_text()


@pytest.mark.ray
@pytest.mark.parametrize("how", ["twice", "killed"])
def test_tasks_end_with_their_driver(study: Study, tmp_path: Path, how: str, monkeypatch) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("BLUEBERRY_TEST_PIDS", str(pids))
    with drive(study, tmp_path, RAY, "hang", 0) as driver:
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        if how == "twice":
            driver.send_signal(signal.SIGINT)
            time.sleep(0.3)
            driver.send_signal(signal.SIGINT)
            assert driver.wait(20) == 130, (tmp_path / "err").read_text()
        else:
            driver.kill()
    tasks = [int(pid) for pid in pids.read_text().split()]
    wait_until(lambda: not any(map(is_running, tasks)), seconds=20)


@pytest.mark.ray
def test_the_mailbox_may_die(study: Study, store: Store, local_ray: None) -> None:
    import ray

    from blueberry.study import ray_workers

    crews: list[ray_workers.RayCrew] = []

    class Watched(ray_workers.RayCrew):
        def start(self, task) -> None:
            crews.append(self)
            super().start(task)

    def spoil(snapshot: Snapshot) -> None:
        if crews and not snapshot.done and snapshot.running:
            ray.kill(crews[-1]._mail, no_restart=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_workers, "RayCrew", Watched)
        outcome = go(study, store, Synthetic(seconds_per_group=0.5), RAY, on_event=spoil)
    assert outcome.failures == ()
    assert len(outcome.results) == NUM_RUNS


@pytest.mark.ray
def test_a_cluster_that_is_not_there_is_one_line(study: Study, store: Store) -> None:
    with pytest.raises(TrainerError, match="'somewhere'; not a place to run on; give ray, auto or ray://HOST:PORT"):
        go(study, store, Synthetic(), Place(1, "somewhere"))


def test_a_clients_server_that_dies_at_birth_is_asked_for_again() -> None:
    asked: list[str] = []

    class Head:
        """Fails so often, in this way."""

        def __init__(self, times: int, how: str) -> None:
            self.times, self.how = times, how

        def init(self, *, address: str) -> None:
            asked.append(address)
            if len(asked) <= self.times:
                raise RuntimeError(self.how)

    died = "Starting Ray client server failed. See ray_client_server_23000.err for detailed logs."
    _join(Head(2, died), 3, address="ray://here")
    assert asked == ["ray://here"] * 3
    for times, how, num_asked in ((3, died, 3), (1, "something else", 1)):
        asked.clear()
        with pytest.raises(RuntimeError, match=how):
            _join(Head(times, how), 3, address="ray://here")
        assert len(asked) == num_asked


def test_without_ray_it_is_one_line(study: Study, store: Store, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TrainerError, match=r"Ray is not installed; --on needs it; pip install \"blueberry-lm\[ray\]\""):
        go(study, store, Synthetic(), RAY)
