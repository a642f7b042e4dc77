"""Runs as tasks of Ray: on a local one that is started for them, or on a cluster that is there already.

A task is a group from its newest checkpoint to its end, trained by a seat: an actor that trains one after the other, so
that what it has loaded, and on a GPU compiled, stays. Ray retries nothing (it would not know from where): a seat that
dies is told like a worker that dies, and the engine hands the group out again. What tasks say on the way comes through
a mailbox, an actor too, and their results also as what they return, so that a mailbox may die.
"""

import contextlib
import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blueberry.architecture import num_threads
from blueberry.errors import BlueberryError, TrainerError
from blueberry.recipe import Recipe
from blueberry.records import Progress, RunResult
from blueberry.study.arms import Run
from blueberry.study.placement import gpus
from blueberry.study.workers import (
    GRACE_SECONDS,
    PASSIVE,
    Ended,
    Gpu,
    Handed,
    LogFolder,
    Message,
    Task,
    Trainer,
    crash_line,
    pickled_trainer,
    raise_mistake,
    sendable,
    tail,
    train,
)

LOCAL = "ray"
CONNECTIONS = 3
"""Attempts to join a cluster as a client: the server that its head forks for each one at times dies at birth."""
Said = tuple[int, Message | BlueberryError]
"""The number of a task, and a message of it."""


@dataclass(eq=False)
class Seat:
    """A seat as the driver sees it."""

    actor: Any
    cores: int
    """CPUs that it holds."""
    task: Task | None = None
    """None when it is idle."""
    reference: Any = None
    """To what the task returns."""


class RayCrew:
    """The same face as `workers.Crew`."""

    def __init__(self, trainer: Trainer, num_workers: int, address: str, num_gpus: int = 0) -> None:
        """`address` is "ray" for a local one with `num_workers` CPUs and `num_gpus`, "auto", or "ray://HOST:PORT" of a
        cluster, where at most `num_workers` tasks are in work at once, or with 0 as many as it has GPUs, else CPUs.

        Raises: TrainerError if Ray is not installed, cannot be reached, or the trainer cannot be sent.
        """
        self._pickled = pickled_trainer(trainer)
        self._ray, self._is_ours = _connected(address, num_workers, num_gpus)
        has = {node["NodeID"]: node["Resources"] for node in self._ray.nodes() if node["Alive"]}
        self.gpus = self._gpus([node for node, resources in has.items() if resources.get("GPU")])
        """Of all nodes, as each says itself: where none can be used, runs are trained on CPUs."""
        cores = [int(resources["CPU"]) for resources in has.values() if resources.get("CPU", 0) >= 1]
        share = sum(resources.get("GPU", 0.0) for resources in has.values()) if self.gpus else 0.0
        self.num_workers = num_workers or max(1, int(share or sum(cores)))
        self._share = min(1.0, int(1000 * share / self.num_workers) / 1000)
        """Of a GPU, that a worker has."""
        self._cores = min(cores, default=1)
        """That every node has which trains."""
        self._seat = self._ray.remote(max_restarts=0, max_task_retries=0)(Trainings)
        # It has no state but what is on its way, so a new one in its place will do.
        self._mail = self._ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Mailbox).remote()
        self._logs = LogFolder("blueberry-ray-")
        self._seats: list[Seat] = []
        self._tasks: dict[int, Seat] = {}
        self._heard: dict[int, set[str]] = {}
        """Fingerprints of the results that a task has given."""
        self._num_started = 0
        self._is_closed = False

    @property
    def num_free(self) -> int:
        return self.num_workers - len(self._tasks)

    def fits(self, recipe: Recipe) -> bool:
        held = sum(seat.cores for seat in self._tasks.values())
        return not held or held + self._cores_of(recipe) <= self.num_workers

    def start(self, task: Task) -> None:
        cores = self._cores_of(task.runs[0].recipe)
        for other in [seat for seat in self._seats if seat.task is None and seat.cores != cores]:
            self._end(other)  # it holds what this one may need
        seat = next((seat for seat in self._seats if seat.task is None), None)
        if seat is None:
            seat = Seat(self._seat.options(num_cpus=cores, num_gpus=self._share).remote(), cores)
            self._seats.append(seat)
        self._num_started += 1
        number, log = self._num_started, str(self._log(self._num_started))
        seat.task = task
        seat.reference = seat.actor.train.remote(self._pickled, sys.path, task.runs, self._mail, number, log)
        self._tasks[number] = seat
        self._heard[number] = set()

    def messages(self, timeout_seconds: float) -> Iterator[Handed]:
        """What tasks say within the timeout. A task that died ends with a crash.

        Raises: BlueberryError that a trainer raised; TrainerError if the cluster is gone.
        """
        for number, message in self._said(timeout_seconds):
            seat = self._tasks[number]
            task = seat.task
            assert task is not None
            if isinstance(message, RunResult):
                if message.fingerprint in self._heard[number]:
                    continue
                self._heard[number].add(message.fingerprint)
            if isinstance(message, (Ended, BlueberryError)):
                del self._tasks[number], self._heard[number]
                seat.task = None
                crashed = isinstance(message, Ended) and message.crash is not None
                if crashed or any(other.cores != seat.cores for other in self._tasks.values()):
                    self._end(seat)  # nothing of a crash is to stay, nor cores that others may wait for
            yield task, raise_mistake(message)

    def stop(self) -> list[tuple[Task, RunResult]]:
        """End every task; returns the results that they had given before and nobody has heard yet."""
        for seat in self._tasks.values():
            self._end(seat)
        heard: list[tuple[Task, RunResult]] = []
        deadline = time.monotonic() + GRACE_SECONDS
        while self._tasks and time.monotonic() < deadline:
            with contextlib.suppress(BlueberryError):  # stopped anyway
                heard += [(task, said) for task, said in self.messages(0.1) if isinstance(said, RunResult)]
        self.kill()
        return heard

    def kill(self) -> None:
        """End every task at once, and the Ray that we started."""
        with held_back():  # a Ray that was left half ended ends this process, with an exit code of its own
            if self._is_closed:  # nothing may be asked of Ray then: it would start another one to answer
                return
            self._is_closed = True
            for seat in list(self._seats):
                self._end(seat)
            self._tasks.clear()
            with contextlib.suppress(Exception):  # it may be gone
                self._ray.kill(self._mail)
            if self._is_ours:
                self._ray.shutdown()
            self._logs.cleanup()

    def _said(self, timeout_seconds: float) -> Iterator[Said]:
        """In the order in which each task said it."""
        if not self._tasks:
            time.sleep(timeout_seconds)
            return
        numbers = {seat.reference: number for number, seat in self._tasks.items()}
        try:
            self._ray.wait(list(numbers), timeout=timeout_seconds)
            ended, _ = self._ray.wait(list(numbers), num_returns=len(numbers), timeout=0)
            # Looked at first: all that these have said is in the mailbox.
            for number, message in self._take_mail():
                if number in self._tasks:
                    yield number, message
            for reference in ended:
                for message in self._returned(reference, numbers[reference]):
                    yield numbers[reference], message
        except (self._ray.exceptions.RaySystemError, ConnectionError) as gone:
            raise TrainerError(f"--on: {crash_line(gone)}; the cluster must stay; look at it and run again") from None

    def _take_mail(self) -> list[Said]:
        try:
            return [(number, pickle.loads(said)) for number, said in self._ray.get(self._mail.take.remote())]
        except self._ray.exceptions.RayActorError:
            return []  # it is being started again; tasks return what it has lost

    def _returned(self, reference: Any, number: int) -> list[Message | BlueberryError]:
        """All results of a task that has ended, and what ended it."""
        try:
            return pickle.loads(self._ray.get(reference))
        except self._ray.exceptions.RayTaskError as raised:
            return [Ended(crash=crash_line(raised.cause if isinstance(raised.cause, Exception) else raised))]
        except self._ray.exceptions.RaySystemError:
            raise
        except self._ray.exceptions.RayError as died:
            what = type(died).__name__
            return [Ended(crash=f"the task's process ended ({what}){tail(self._log(number))}")]

    def _end(self, seat: Seat) -> None:
        if seat in self._seats:
            self._seats.remove(seat)
            with contextlib.suppress(Exception):  # it may have ended, or all of Ray
                self._ray.kill(seat.actor)

    def _cores_of(self, recipe: Recipe) -> int:
        return 1 if self.gpus else num_threads(recipe, self._cores)

    def _gpus(self, nodes: list[str]) -> tuple[Gpu, ...]:
        """What nodes say of their GPUs, each asked by a task that needs none of them to be free."""
        if not nodes:
            return ()
        from ray.util.scheduling_strategies import (  # pyright: ignore[reportMissingImports]
            NodeAffinitySchedulingStrategy,
        )

        asked = self._ray.remote(max_retries=0, num_cpus=0)(_all_gpus)
        ways = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
        try:
            found = self._ray.get([asked.options(scheduling_strategy=way).remote() for way in ways])
        except self._ray.exceptions.RayError as error:
            if self._is_ours:
                self._ray.shutdown()
            raise TrainerError(f"--on: {crash_line(error)}; every node must have Blueberry; install it there") from None
        return tuple(gpu for of_node in found for gpu in of_node)

    def _log(self, number: int) -> Path:
        return self._logs.path / f"task-{number}.log"


class Mailbox:
    """What tasks have said and the driver has not heard."""

    def __init__(self) -> None:
        self._said: list[tuple[int, bytes]] = []

    def put(self, number: int, said: bytes) -> None:
        self._said.append((number, said))

    def take(self) -> list[tuple[int, bytes]]:
        said, self._said = self._said, []
        return said


def _connected(address: str, num_workers: int, num_gpus: int) -> tuple[Any, bool]:
    """The module ray, connected; and whether that is for us to end."""
    if address not in (LOCAL, "auto") and not address.startswith("ray://"):
        raise TrainerError(f"--on: {address!r}; not a place to run on; give ray, auto or ray://HOST:PORT")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of what we do not rely on
    if address != LOCAL and (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # clusters ask for it; who joins must be told to give it
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise TrainerError(
            '--on: Ray is not installed; --on needs it; pip install "blueberry-lm[ray]", or leave --on out'
        ) from None
    if ray.is_initialized():
        return ray, False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    place: dict[str, Any] = {"address": address}
    if address == LOCAL:  # "local", or it joins a cluster that runs here
        place = {"address": "local", "num_cpus": max(num_workers, 1), "num_gpus": num_gpus}
        place["include_dashboard"] = False
    ours = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _join(ray, CONNECTIONS if address.startswith("ray://") else 1, **place, **quiet)
    except Exception as error:
        raise TrainerError(f"--on {address}: {crash_line(error)}; Ray must be reachable there; start it") from None
    finally:
        for number, handler in handlers.items():
            if ours and handler is not None:
                signal.signal(number, handler)  # Ray has put its own in their place
    return ray, True


def _join(ray: Any, attempts: int, **how: Any) -> None:
    """Raises: what Ray raises, for the last attempt if it is that the client's server did not start."""
    for left in reversed(range(attempts)):
        try:
            ray.init(**how)
            return
        except RuntimeError as error:
            if not left or "Starting Ray client server failed" not in str(error):
                raise


class Trainings:
    """What a seat does."""

    def train(self, pickled: bytes, path: list[str], runs: tuple[Run, ...], mail: Any, number: int, log: str) -> bytes:
        """The task: a group. Everything travels as bytes of ours, because only they keep our types of error."""
        import ray  # pyright: ignore[reportMissingImports]

        said: list[Message | BlueberryError] = []
        os.environ.update({**PASSIVE, **os.environ})
        sys.path += [folder for folder in path if folder not in sys.path]  # as worker processes have it
        with _written_to(log):
            try:
                trainer = pickle.loads(pickled)
            except Exception as error:
                remedy = "the nodes of the cluster must be able to import it; install it there"
                return pickle.dumps(
                    [TrainerError(f"trainer: {crash_line(error)}; it cannot be loaded in a task; {remedy}")]
                )
            for message in train(trainer, runs):
                if not isinstance(message, (Ended, BlueberryError)):
                    ray.get(mail.put.remote(number, pickle.dumps(message)))
                if not isinstance(message, Progress):
                    said.append(sendable(message))
        return pickle.dumps(said)


def _all_gpus() -> tuple[Gpu, ...]:
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray hides all of them from a task that asks for none
    return gpus()


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Within, signals wait: for an end that must not be left halfway. They come when it is over."""
    came: list[int] = []
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            if handler is not None:  # not one of Python's
                signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


@contextlib.contextmanager
def _written_to(log: str) -> Iterator[None]:
    """Sends what the trainer prints to a file, where the driver's folder is to be seen; else Ray keeps it."""
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        yield
        return
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(file, number)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)
        os.close(file)
