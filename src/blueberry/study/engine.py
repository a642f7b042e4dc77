"""Runs what a study is missing: plan, hand out, commit, plan again, until nothing is left to do.

Resuming is the same call. What was killed, in whatever way, loses only the runs that had not ended.
"""

import contextlib
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from blueberry.errors import StoreError
from blueberry.recipe import SHARED_FOLDER, Recipe
from blueberry.records import Failure, Progress, RunResult, StudyRun
from blueberry.study.arms import Run
from blueberry.study.placement import Lanes, lanes_for
from blueberry.study.plan import DataDigest, Plan, Referee, plan_from
from blueberry.study.ray_workers import RayCrew
from blueberry.study.sharing import States, forks
from blueberry.study.spec import Study
from blueberry.study.store import HEARTBEAT_SECONDS, DamagedResults, EndedRun, Owner, Results, Store
from blueberry.study.workers import Crew, Ended, Gpu, Here, Interrupt, Message, Task, Trainer

EVENT_SECONDS = 0.2
"""Between two snapshots."""
WAIT_SECONDS = 0.1
"""For something to be said, before looking at everything else."""
MAX_ATTEMPTS = 3
POLL_SECONDS = 0.5
"""Between two looks at groups that another driver holds."""


@dataclass(frozen=True)
class Snapshot:
    """How far a study is, for a progress bar."""

    done: int
    """Runs with a result."""
    total: int
    """Runs in all, with the confirming ones whose arm is not known yet."""
    running: tuple[Progress, ...]
    """One for each group that this driver has in work."""
    failed: int
    """Runs given up after crashes, in this call."""
    updates_done: int
    updates_total: int
    """Runs without an arm yet are taken to be as long as the base recipe's."""
    notes: tuple[str, ...] = ()
    """What trainers had to say to a person, each once, in order."""


class Backlog:
    """What is left of one plan. Commits each result the moment it is received."""

    def __init__(
        self,
        planned: Plan,
        store: Store,
        owner: Owner,
        *,
        lanes: int | Lanes,
        given_up: Iterable[str],
        undecided_updates: int,
        notes: Iterable[str] = (),
        shares: bool = False,
    ) -> None:
        """`given_up` are runs to leave alone; `undecided_updates` the guessed length of those without an arm yet.

        With `shares`, runs wait for the state they can begin from (see `blueberry.study.sharing`).
        Raises: StoreError if the disk refuses to note who waits for what.
        """
        self.failures: dict[str, RunResult] = {}
        self.num_trained = 0
        self._notes = dict.fromkeys(notes)
        self._store, self._owner = store, owner
        given_up = frozenset(given_up)
        groups = (tuple(run for run in g if run.fingerprint not in given_up) for g in planned.groups(lanes))
        self._tasks = deque(Task(group) for group in groups if group)
        self._open = {run.fingerprint for task in self._tasks for run in task.runs}
        """Runs of which something may still come."""
        self._forks = forks(task.runs for task in self._tasks) if shares else {}
        # Runs that begin at a shared state come first: then states go before many others come.
        self._tasks = deque(sorted(self._tasks, key=lambda task: task.runs[0].fingerprint not in self._forks))
        self._states = States(store.checkpoints / SHARED_FOLDER)
        self._states.sweep(store.ended)
        for name, fork in self._forks.items():
            self._states.want(fork.state, name)
        self._missing: dict[Task, dict[str, Run]] = {}
        """Runs without a result of each task in work."""
        self._said: dict[Task, Progress] = {}
        self._began: dict[Task, float] = {}
        self._num_runs = len(planned.runs) + planned.num_undecided
        self._num_updates = planned.total.num_updates + undecided_updates * planned.num_undecided
        self._num_ended = len(planned.done)
        self._num_given_up = len(given_up)
        self._updates_ended = planned.total.num_updates - planned.left.num_updates
        self._look_at = self._beat_at = 0.0

    @property
    def is_empty(self) -> bool:
        """Nothing is left to begin, and nothing is in work."""
        return not self._tasks and not self._missing

    def take(self, fits: Callable[[Recipe], bool]) -> Task | None:
        """Claim the next group that fits where there is room, and nobody else holds; None if there is none now."""
        if time.monotonic() < self._look_at:
            return None
        for task in tuple(self._tasks):
            if not fits(task.runs[0].recipe) or not all(self._can_begin(run) for run in task.runs):
                continue
            claimed = self._store.claim([run.fingerprint for run in task.runs], self._owner)
            if claimed is None:
                continue
            self._tasks.remove(task)
            missing = {run.fingerprint: run for run in task.runs if run.fingerprint in claimed}
            for run in task.runs:
                if run.fingerprint not in missing:  # another driver has ended it since we planned
                    self._count(run)
            if missing:
                task = Task(tuple(missing.values()), task.attempt)
                num_updates = max(run.recipe.num_updates for run in task.runs)
                self._missing[task], self._began[task] = missing, time.monotonic()
                self._said[task] = Progress(fingerprints=claimed, update=0, num_updates=num_updates)
                return task
        self._look_at = time.monotonic() + POLL_SECONDS
        return None

    def _can_begin(self, run: Run) -> bool:
        """Whether the state it begins from lies there, or nobody is left who could leave it."""
        fork = self._forks.get(run.fingerprint)
        return fork is None or fork.parent not in self._open or self._states.lies(fork.state)

    def receive(self, task: Task, message: Message) -> None:
        """Keep what was said of a task in work."""
        if isinstance(message, RunResult):
            run = self._missing[task].pop(message.fingerprint)
            if message.status == "failed":
                self._give_up(message)
            else:
                share = (time.monotonic() - self._began[task]) / len(task.runs)  # lanes end together
                self.num_trained += self._store.commit(message, share)
                self._count(run)
        elif isinstance(message, Progress):
            self._said[task] = message
            if message.note is not None:
                self._notes[message.note] = None
        else:
            self._end(task, message)

    def beat(self) -> None:
        """Renew the claims, when it is time to."""
        if self._missing and time.monotonic() >= self._beat_at:
            self._store.heartbeat(self._owner, self._said.values())
            self._beat_at = time.monotonic() + HEARTBEAT_SECONDS

    def snapshot(self) -> Snapshot:
        updates = sum(
            min(said.update, self._missing[task][name].recipe.num_updates) if said.num_updates is not None else 0
            for task, said in self._said.items()
            for name in said.fingerprints
            if name in self._missing[task]
        )
        return Snapshot(
            done=self._num_ended,
            total=self._num_runs,
            running=tuple(self._said.values()),
            failed=self._num_given_up + len(self.failures),
            updates_done=self._updates_ended + updates,
            updates_total=self._num_updates,
            notes=tuple(self._notes),
        )

    def _end(self, task: Task, ended: Ended) -> None:
        """A task with runs missing has crashed: it goes back to the front, or its runs are given up."""
        missing = self._missing.pop(task)
        del self._said[task], self._began[task]
        self._look_at = 0.0  # what did not fit beside it may fit now
        if not missing:
            return
        assert ended.crash is not None, "a trainer that yields too few results is refused by workers.train"
        self._store.release(self._owner, list(missing))
        if task.attempt < MAX_ATTEMPTS:
            self._tasks.appendleft(Task(tuple(missing.values()), task.attempt + 1))
            return
        failure = Failure(kind="crashed", message=ended.crash)
        for name, run in missing.items():
            self._give_up(RunResult(fingerprint=name, recipe=run.recipe.flat(), status="failed", failure=failure))

    def _give_up(self, failed: RunResult) -> None:
        self._store.record_failure(failed)
        self._store.release(self._owner, [failed.fingerprint])
        self.failures[failed.fingerprint] = failed
        self._open.discard(failed.fingerprint)

    def _count(self, run: Run) -> None:
        if fork := self._forks.get(run.fingerprint):
            self._states.forget(fork.state, run.fingerprint)
        self._open.discard(run.fingerprint)
        self._num_ended += 1
        self._updates_ended += run.recipe.num_updates


@dataclass(frozen=True)
class Outcome:
    """What a call of `run` leaves behind."""

    plan: Plan
    """The last one. Its `todo` is empty unless runs failed."""
    results: Mapping[str, RunResult]
    """By fingerprint, of every run of the study that has ended: read from the open store as they are asked for."""
    failures: tuple[RunResult, ...]
    """Runs given up after three crashes, by this call. They stay to do: the next call tries them again."""
    num_trained: int
    """Runs that ended in this call, by this driver."""


def run(
    study: Study,
    *,
    data_digest: DataDigest,
    store: Store,
    trainer: Trainer,
    workers: int = 1,
    lanes: int | None = None,
    gpus: Sequence[Gpu] = (),
    referee: Referee | None = None,
    share: bool = True,
    on: str | None = None,
    build: str | None = None,
    known: Mapping[str, EndedRun] | None = None,
    notes: Iterable[str] = (),
    on_event: Callable[[Snapshot], None] | None = None,
    on_result: Callable[[StudyRun], None] | None = None,
) -> Outcome:
    """Train what is missing, on worker processes or, with `workers=0`, in this one; or `on` Ray: "ray" starts a
    local one, "auto" and "ray://HOST:PORT" join a cluster (where `workers=0` is as many as it holds).

    Safe to repeat, to interrupt and to call twice at once: drivers that share a store share the work. `lanes` is
    how many runs of one shape a trainer is handed together, by default what `lanes_for` says of where they are
    trained. `gpus` are those of this machine, over which worker processes are spread. `referee` decides a race.
    With `share`, runs that differ only in schedule and length begin where another has been, if the trainer says that
    it can (`shares = True`): no number depends on it. `build` is the digest of the built-in trainer, for `status`.
    `known` are runs that the store has just said to have ended; whatever else has, it is asked.
    `on_event` is told at most five times a second, of `notes` too; `on_result` of each run with a result, those from
    earlier calls too, and of some twice.
    Raises: KeyboardInterrupt after SIGINT or SIGTERM, with everything that had ended kept; TrainerError if the
    trainer breaks its contract; StoreError; any other BlueberryError that the trainer raises.
    """
    owner = Owner.here()
    known, told, tell = dict(known or {}), set[str](), partial(_tell, on_result, study.name)
    failures: dict[str, RunResult] = {}
    notes, num_trained = list(notes), 0
    _sweep(store, notes)
    with Interrupt() as interrupt:
        if on is not None:
            crew = RayCrew(trainer, workers, on, len(gpus))
        else:
            crew = Crew(trainer, workers, gpus) if workers else Here(trainer, interrupt, gpus)
        try:
            while True:
                planned = plan_from(study, data_digest, partial(ended_runs, store, notes), referee, known)
                tell(planned.runs, Results(store, known.keys() - told))
                told |= known.keys()
                labels = {run.fingerprint: run.label for run in planned.runs}
                store.register(study.path, study.name, study.question, labels, build)
                backlog = Backlog(
                    planned, store, owner,
                    lanes=lanes or partial(lanes_for, gpus=crew.gpus, workers=crew.num_workers),
                    given_up=failures, notes=notes,
                    undecided_updates=study.base.num_updates, shares=share and getattr(trainer, "shares", False),
                )  # fmt: skip
                if backlog.is_empty:
                    break
                try:
                    _work(backlog, crew, interrupt, on_event, tell)
                finally:
                    num_trained += backlog.num_trained
                failures |= backlog.failures
            crew.stop()
        finally:
            crew.kill()
            with contextlib.suppress(StoreError):  # the claims lapse by themselves; the first error counts
                store.release(owner)
    if on_event is not None:
        on_event(backlog.snapshot())
    return Outcome(planned, Results(store, known), tuple(failures.values()), num_trained)


def ended_runs(store: Store, notes: list[str], fingerprints: Iterable[str]) -> dict[str, EndedRun]:
    """Those of the runs that have ended. What is damaged of them is forgotten, to be trained again, and noted."""
    asked = list(fingerprints)
    while True:
        try:
            return store.ended(asked)
        except DamagedResults as damaged:
            notes.append(str(damaged))
            store.discard(damaged.fingerprints)


def _sweep(store: Store, notes: list[str]) -> None:
    """Remove checkpoints of runs that have ended: a driver that dies right after a commit leaves them behind."""
    for name in ended_runs(store, notes, (path.name for path in store.checkpoints.iterdir())):
        shutil.rmtree(store.checkpoints / name, ignore_errors=True)


Workers = Here | Crew | RayCrew
"""Where groups are trained: `num_workers` at once at most, of which `num_free` can be started now, if a group `fits`
beside those in work. One suite of tests holds all to the same."""


def _tell(
    on_result: Callable[[StudyRun], None] | None, study: str, runs: Iterable[Run], results: Mapping[str, RunResult]
) -> None:
    """Of the runs of a study that are among the results."""
    if on_result is None:
        return
    for run in runs:
        if (result := results.get(run.fingerprint)) is not None and result.status != "failed":
            on_result(StudyRun(run.arm, run.seed, run.stage, result, part=run.part, study=study))


def _work(
    backlog: Backlog,
    crew: Workers,
    interrupt: Interrupt,
    on_event: Callable[[Snapshot], None] | None,
    tell: Callable[[Iterable[Run], Mapping[str, RunResult]], None],
) -> None:
    """Until the backlog is empty. Whatever stops it early, results that workers had sent are committed first."""
    told_at = -EVENT_SECONDS
    try:
        while not backlog.is_empty:
            interrupt.check()
            while crew.num_free and (task := backlog.take(crew.fits)):
                crew.start(task)
            for task, message in crew.messages(WAIT_SECONDS):
                backlog.receive(task, message)
                if isinstance(message, RunResult):
                    tell(task.runs, {message.fingerprint: message})
            backlog.beat()
            if on_event is not None and time.monotonic() - told_at >= EVENT_SECONDS:
                told_at = time.monotonic()
                on_event(backlog.snapshot())
        if on_event is not None and (last := backlog.snapshot()).notes:  # a person should not miss any
            on_event(last)
    except StoreError:
        raise  # nothing can be committed
    except BaseException:
        for task, result in crew.stop():
            backlog.receive(task, result)
        raise
