"""The groups of a plan that are still to do: claimed one at a time, tried up to three times, counted."""

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from blueberry.identity import SHARED_FOLDER
from blueberry.records import Failure, Progress, RunResult
from blueberry.study.claims import HEARTBEAT_SECONDS, Owner
from blueberry.study.plan import Plan, Run
from blueberry.study.sharing import forks
from blueberry.study.states import States
from blueberry.study.store import Store
from blueberry.study.workers import Ended, Message, Task

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
        lanes: int,
        given_up: Iterable[str],
        undecided_updates: int,
        shares: bool = False,
    ) -> None:
        """`given_up` are runs to leave alone; `undecided_updates` the guessed length of those without an arm yet.

        With `shares`, runs wait for the state they can begin from (see `blueberry.study.sharing`).
        Raises: StoreError if the disk refuses to note who waits for what.
        """
        self.failures: dict[str, RunResult] = {}
        self.num_trained = 0
        self._notes: dict[str, None] = {}
        self._store, self._owner = store, owner
        given_up = frozenset(given_up)
        groups = (tuple(run for run in g if run.fingerprint not in given_up) for g in planned.groups(lanes))
        self._tasks = deque(Task(group) for group in groups if group)
        self._open = {run.fingerprint for task in self._tasks for run in task.runs}
        """Runs of which something may still come."""
        self._forks = forks(task.runs for task in self._tasks) if shares else {}
        # Those that wait come first when they can begin: then states go before many others come.
        self._tasks = deque(sorted(self._tasks, key=lambda task: task.runs[0].fingerprint not in self._forks))
        self._states = States(store.checkpoints / SHARED_FOLDER)
        self._states.sweep(store.statuses)
        for name, fork in self._forks.items():
            self._states.want(fork.state, name)
        self._missing: dict[Task, dict[str, Run]] = {}
        """Runs without a result of each task in work."""
        self._said: dict[Task, Progress] = {}
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

    def take(self) -> Task | None:
        """Claim the next group that nobody else holds; None if there is none now."""
        if time.monotonic() < self._look_at:
            return None
        for task in tuple(self._tasks):
            if not all(self._can_begin(run) for run in task.runs):
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
                self._missing[task] = missing
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
                self.num_trained += self._store.commit(message)
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
        del self._said[task]
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
