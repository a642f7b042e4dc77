"""Runs what a study is missing: plan, hand out, commit, plan again, until nothing is left to do.

Resuming is the same call. What was killed, in whatever way, loses only the runs that had not ended.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from blueberry.errors import StoreError
from blueberry.records import RunResult
from blueberry.study.backlog import Backlog, Snapshot
from blueberry.study.claims import Owner
from blueberry.study.interrupt import Interrupt
from blueberry.study.kept import Kept
from blueberry.study.plan import DataDigest, Plan, Referee, Run, plan
from blueberry.study.scores import Score
from blueberry.study.spec import Study
from blueberry.study.store import Store
from blueberry.study.workers import Crew, Handed, Here, Task, Trainer

OnResult = Callable[[Run, RunResult], None]

DEFAULT_LANES = 8
EVENT_SECONDS = 0.2
"""Between two snapshots."""
WAIT_SECONDS = 0.1
"""For something to be said, before looking at everything else."""


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
    lanes: int = DEFAULT_LANES,
    referee: Referee | None = None,
    share: bool = True,
    on: str | None = None,
    on_event: Callable[[Snapshot], None] | None = None,
    on_result: OnResult | None = None,
) -> Outcome:
    """Train what is missing, on worker processes or, with `workers=0`, in this one; or `on` Ray: "ray" starts a
    local one, "auto" and "ray://HOST:PORT" join a cluster (where `workers=0` is as many as it holds).

    Safe to repeat, to interrupt and to call twice at once: drivers that share a store share the work. `lanes` is
    how many runs of one shape a trainer is handed together. `referee` decides a race. With `share`, runs that differ
    only in schedule and length begin where another has been, if the trainer says that it can (`shares = True`): no
    number depends on it. `on_event` is told at most five times a second, `on_result` of each run with a result, those
    from earlier calls too, and of some twice.
    Raises: KeyboardInterrupt after SIGINT or SIGTERM, with everything that had ended kept; TrainerError if the
    trainer breaks its contract; StoreError; any other BlueberryError that the trainer raises.
    """
    owner = Owner.here()
    scores: dict[str, Score] = {}
    failures: dict[str, RunResult] = {}
    num_trained = 0
    _sweep(store)
    with Interrupt() as interrupt:
        crew = _crew(trainer, workers, on, interrupt)
        try:
            while True:
                planned = plan(study, data_digest, scores, referee)
                found = store.scores((run.fingerprint for run in planned.todo), study.metric)
                if found:
                    scores |= found
                    _tell(on_result, planned.todo, Kept(store, found))
                    continue
                names = [run.fingerprint for run in planned.runs]
                store.register(study.path, study.name, study.question, names)
                backlog = Backlog(
                    planned, store, owner,
                    lanes=lanes, given_up=failures, undecided_updates=study.base.num_updates,
                    shares=share and getattr(trainer, "shares", False),
                )  # fmt: skip
                if backlog.is_empty:
                    break
                try:
                    _work(backlog, crew, interrupt, on_event, on_result)
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
    return Outcome(planned, Kept(store, scores), tuple(failures.values()), num_trained)


def _sweep(store: Store) -> None:
    """Remove checkpoints of runs that have ended: a driver that dies right after a commit leaves them behind."""
    for name in store.statuses(path.name for path in store.checkpoints.iterdir()):
        shutil.rmtree(store.checkpoints / name, ignore_errors=True)


class Workers(Protocol):
    """Where groups are trained: `Here`, `Crew` and `RayCrew`. One suite of tests holds all to the same."""

    @property
    def num_free(self) -> int:
        """Groups that can be started now."""
        ...

    def start(self, task: Task) -> None: ...

    def messages(self, timeout_seconds: float) -> Iterator[Handed]: ...

    def stop(self) -> list[tuple[Task, RunResult]]: ...

    def kill(self) -> None: ...


def _crew(trainer: Trainer, workers: int, on: str | None, interrupt: Interrupt) -> Workers:
    if on is not None:
        from blueberry.study.ray_workers import RayCrew  # an extra

        return RayCrew(trainer, workers, on)
    return Crew(trainer, workers) if workers else Here(trainer, interrupt)


def _tell(on_result: OnResult | None, runs: Iterable[Run], results: Mapping[str, RunResult]) -> None:
    """Of the runs among the results."""
    if on_result is None:
        return
    for run in runs:
        if (result := results.get(run.fingerprint)) is not None and result.status != "failed":
            on_result(run, result)


def _work(
    backlog: Backlog,
    crew: Workers,
    interrupt: Interrupt,
    on_event: Callable[[Snapshot], None] | None,
    on_result: OnResult | None,
) -> None:
    """Until the backlog is empty. Whatever stops it early, results that workers had sent are committed first."""
    told_at = -EVENT_SECONDS
    try:
        while not backlog.is_empty:
            interrupt.check()
            while crew.num_free and (task := backlog.take()):
                crew.start(task)
            for task, message in crew.messages(WAIT_SECONDS):
                backlog.receive(task, message)
                if isinstance(message, RunResult):
                    _tell(on_result, task.runs, {message.fingerprint: message})
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
