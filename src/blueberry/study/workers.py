"""Where runs are trained: in this process, or in worker processes that a driver hands groups to.

A worker is a fresh Python (spawned, because a forked one may not use an accelerator) that serves many groups,
because importing a trainer can take seconds. It dies with its driver, however that ends.
"""

import fcntl
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from blueberry.architecture import num_threads, usable_cores
from blueberry.errors import BlueberryError, TrainerError
from blueberry.recipe import Recipe
from blueberry.records import Progress, RunResult
from blueberry.study.arms import Run

Trainer = Callable[[Sequence[Recipe]], Iterable[RunResult | Progress]]
"""Is handed recipes of one shape key; yields one RunResult each, and Progress between. Must be picklable."""

GRACE_SECONDS = 3.0
"""Between asking a worker to end and killing it."""
PROGRESS_SECONDS = 0.1
"""Progress said sooner after the last is not passed on."""
MESSAGE_CHARACTERS = 500
TAIL_LINES, TAIL_BYTES = 5, 4096
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""Environment of processes that share a machine: threads that wait by spinning starve the others."""


@dataclass(frozen=True)
class Gpu:
    name: str
    """As CUDA_VISIBLE_DEVICES has it."""
    free_bytes: int | None = None
    """Of its memory, when it was looked at; None where that is not said."""


class Crash(Exception):
    """Raised by a trainer that knows what went wrong: its text is told as it is. The run is tried again."""


@dataclass(frozen=True)
class Ready:
    """A worker has loaded the trainer."""


@dataclass(frozen=True)
class Ended:
    """Nothing more comes of a group."""

    crash: str | None = None
    """One line, if it is because something crashed."""


Message = RunResult | Progress | Ended


@dataclass(eq=False)
class Task:
    """A group of runs on its way through a worker."""

    runs: tuple[Run, ...]
    """Of one shape key."""
    attempt: int = 1


Handed = tuple[Task, Message]
"""What was said, and of which task."""


def train(trainer: Trainer, runs: Sequence[Run]) -> Iterator[Message | BlueberryError]:
    """Train a group, holding the trainer to its contract. The last message is Ended or the user's mistake."""
    missing = {run.fingerprint for run in runs}
    said_at = -PROGRESS_SECONDS
    try:
        for message in trainer([run.recipe for run in runs]):
            if isinstance(message, Progress):
                if message.note is None and time.monotonic() - said_at < PROGRESS_SECONDS:
                    continue
                said_at = time.monotonic()
            elif not isinstance(message, RunResult):
                raise TrainerError(
                    f"trainer: yielded {type(message).__name__}; it must yield RunResult or Progress records; mend it"
                )
            elif message.fingerprint not in missing:
                raise TrainerError(
                    f"trainer: yielded a result of run {message.fingerprint}; it must yield one for each recipe it "
                    "was handed and no other, named blueberry.recipe.fingerprint(recipe, data_digest); mend it"
                )
            else:
                missing.discard(message.fingerprint)
            yield message
        if missing:
            raise TrainerError(
                f"trainer: yielded {len(runs) - len(missing)} results for {len(runs)} recipes; "
                "it must yield one for each; mend it"
            )
    except BlueberryError as error:
        yield error
    except Exception as error:
        yield Ended(crash=crash_line(error))
    else:
        yield Ended()


class Interrupt:
    """While entered, the first signal sets `wanted`; the second raises KeyboardInterrupt on the spot.

    Does nothing outside the main thread, where Python delivers no signals, nor to a signal that was ignored.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._at_once = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, the first signal raises too: for work that is lost anyway when it is interrupted."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False

    def check(self) -> None:
        """Raises: KeyboardInterrupt if a signal has come."""
        if self.wanted:
            raise KeyboardInterrupt

    def _hear(self, number: int, frame: FrameType | None) -> None:
        again, self.wanted = self.wanted, True
        if again or self._at_once:
            raise KeyboardInterrupt


class Here:
    """Trains in this process, one group at a time."""

    num_workers = 1
    fits = staticmethod(lambda recipe: True)

    def __init__(self, trainer: Trainer, interrupt: Interrupt, gpus: Sequence[Gpu] = ()) -> None:
        self.gpus = gpus
        self._trainer, self._interrupt = trainer, interrupt
        self._task: Task | None = None
        self._messages: Iterator[Message | BlueberryError] = iter(())

    @property
    def num_free(self) -> int:
        return int(self._task is None)

    def start(self, task: Task) -> None:
        self._task, self._messages = task, train(self._trainer, task.runs)

    def messages(self, timeout_seconds: float) -> Iterator[Handed]:
        """One message of the group, after however long it takes; without a group, nothing after the timeout.

        Raises: BlueberryError that the trainer raised.
        """
        task = self._task
        with self._interrupt.at_once():
            if task is None:
                time.sleep(timeout_seconds)
                return
            message = next(self._messages)
        if isinstance(message, Ended):
            self._task = None
        yield task, raise_mistake(message)

    def stop(self) -> list[tuple[Task, RunResult]]:
        """Nothing runs between two messages, so there is nothing to stop, and nothing was said."""
        return []

    def kill(self) -> None:
        pass


def fits_beside(recipe: Recipe, others: Collection[Recipe]) -> bool:
    """Whether a run may be trained beside others on this machine: one that has a thread on every core may beside none,
    because two of them take longer side by side than one after the other."""
    cores = usable_cores()
    return not others or all(num_threads(one, cores) == 1 for one in (*others, recipe))


@dataclass(eq=False)
class Worker:
    """A worker process as its driver sees it."""

    process: BaseProcess
    connection: Connection
    log: Path
    gpu: Gpu | None = None
    """That it is to see; None: whatever there is."""
    ready: bool = False
    open: bool = True
    task: Task | None = None
    """None when it is idle."""


class LogFolder:
    """A temporary folder for what workers print. One that a killed driver left is removed by the next driver.

    A lock that ends with its process tells them apart, whatever container it ran in.
    """

    def __init__(self, prefix: str) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            if (descriptor := _locked(left)) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(descriptor)
        descriptor = None
        while descriptor is None:  # unless another driver has just removed it
            self.path = Path(tempfile.mkdtemp(prefix=prefix))
            descriptor = _locked(self.path)
        self._descriptor = descriptor

    def cleanup(self) -> None:
        if self._descriptor is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._descriptor)
            self._descriptor = None


def _locked(folder: Path) -> int | None:
    """A descriptor that holds a folder's lock; None if another process does, or the folder is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if folder.exists():
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


@dataclass
class Crew:
    """Worker processes, started as they are needed and replaced when they die."""

    trainer: Trainer
    num_workers: int
    gpus: Sequence[Gpu] = ()
    """Each worker sees the one with the fewest workers."""
    _workers: list[Worker] = field(default_factory=list)
    _num_started: int = 0

    def __post_init__(self) -> None:
        self._pickled = pickled_trainer(self.trainer)
        self._logs = LogFolder("blueberry-workers-")

    @property
    def num_free(self) -> int:
        return self.num_workers - sum(worker.task is not None for worker in self._workers)

    def fits(self, recipe: Recipe) -> bool:
        return bool(self.gpus) or fits_beside(recipe, [w.task.runs[0].recipe for w in self._workers if w.task])

    def start(self, task: Task) -> None:
        """Hand a group to an idle worker, or to a new one."""
        worker = next((worker for worker in self._workers if worker.task is None), None) or self._spawn()
        worker.task = task
        try:
            worker.connection.send(task.runs)
        except OSError:
            worker.open = False  # it has just died; the next look at it says so

    def messages(self, timeout_seconds: float) -> Iterator[Handed]:
        """What workers say within the timeout. A dead worker's group ends with a crash.

        Raises: BlueberryError that a trainer raised; TrainerError if workers cannot even start.
        """
        heard = wait([end for w in self._workers for end in (w.connection, w.process.sentinel)], timeout_seconds)
        for worker in list(self._workers):
            if worker.connection not in heard and worker.process.sentinel not in heard and worker.open:
                continue
            dead = not worker.process.is_alive()  # looked at first: what it said before it died is in the pipe
            for task, message in self._drain(worker):
                yield task, raise_mistake(message)
            if dead or not worker.open:
                yield from self._bury(worker)

    def stop(self) -> list[tuple[Task, RunResult]]:
        """End every worker: idle ones are let go, others terminated, and after a while killed.

        Returns the results that they had sent before and nobody has heard yet.
        """
        heard: list[tuple[Task, RunResult]] = []
        for worker in self._workers:
            if worker.task is None:
                worker.connection.close()
            else:
                worker.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in self._workers:
            worker.process.join(max(deadline - time.monotonic(), 0))
            if worker.task is not None:
                heard += [(task, said) for task, said in self._drain(worker) if isinstance(said, RunResult)]
        self.kill()
        return heard

    def kill(self) -> None:
        """End every worker at once."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
            worker.process.close()
        self._workers.clear()
        self._logs.cleanup()

    def _spawn(self) -> Worker:
        self._num_started += 1
        log = self._logs.path / f"worker-{self._num_started}.log"
        gpu = min(self.gpus, key=[worker.gpu for worker in self._workers].count, default=None)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self._pickled, str(log), gpu and gpu.name))
        # A blocked signal stays blocked in the child: no Ctrl-C can hit it before it has learnt to ignore them.
        # The tracker is started first because its start, a part of the first process's, unblocks the signal.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._workers.append(Worker(process, ours, log, gpu))
        return self._workers[-1]

    def _drain(self, worker: Worker) -> Iterator[tuple[Task, Message | BlueberryError]]:
        """All that it has said and nobody has heard yet."""
        try:
            while worker.open and worker.connection.poll():
                message = worker.connection.recv()
                if isinstance(message, Ready):
                    worker.ready = True
                    continue
                task = worker.task
                if isinstance(message, Ended):
                    worker.task = None
                    worker.open = message.crash is None  # else its process is ending, and hears nothing more
                assert task is not None
                yield task, message
        except (EOFError, OSError):  # OSError: it died in the middle of a message
            worker.open = False

    def _bury(self, worker: Worker) -> Iterator[Handed]:
        worker.process.join(GRACE_SECONDS)
        worker.process.kill()
        worker.process.join()
        code = worker.process.exitcode
        assert code is not None
        how, said = how_it_ended(code), tail(worker.log)
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.close()
        if not worker.ready and code >= 0:
            raise TrainerError(
                f"workers: a worker ended with {how} before it had begun{said}; a script that runs a study must do "
                'so under `if __name__ == "__main__":`, because workers import it; mend the script'
            )
        if worker.task:
            yield worker.task, Ended(crash=f"the worker ended by {how}{said}")


def pickled_trainer(trainer: Trainer) -> bytes:
    """To send to another process. Raises: TrainerError if it cannot be."""
    try:
        return pickle.dumps(trainer)
    except Exception as error:
        raise TrainerError(
            f"trainer: {crash_line(error)}; workers are other processes, so it must be picklable; "
            "make it a function or a dataclass at the top of a module"
        ) from None


def serve(connection: Connection, pickled: bytes, log: str, device: str | None = None) -> None:
    """A worker's life: load the trainer, then train group after group until the driver hangs up."""
    if device is not None:  # before anything looks for GPUs
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    os.environ.update({**PASSIVE, **os.environ})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal; the driver decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _write_to(log)
    try:
        try:
            trainer = pickle.loads(pickled)
        except Exception as error:
            remedy = "workers must be able to import it; put it into a module on the path"
            connection.send(TrainerError(f"trainer: {crash_line(error)}; it cannot be loaded in a worker; {remedy}"))
            return
        connection.send(Ready())
        while True:
            runs = connection.recv()
            os.ftruncate(sys.stderr.fileno(), 0)  # the log holds what the last group said
            for message in train(trainer, runs):
                connection.send(sendable(message))
                if isinstance(message, Ended) and message.crash:
                    return  # what crashed may have left anything behind: the next attempt gets a fresh process
    except (EOFError, OSError):
        return


def _die_with_parent() -> None:
    """Ends this process when the driver's does. A thread, because the trainer may be silent for long."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _write_to(log: str) -> None:
    """Send what the trainer prints, in whatever language, to a file: standard output belongs to the driver."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, TextIOWrapper)
        stream.reconfigure(line_buffering=True)
        os.dup2(file, stream.fileno())
    os.close(file)


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    return f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"


def tail(log: Path) -> str:
    """The last lines of a worker's log, as a parenthesis; empty if it said nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - TAIL_BYTES, 0))
            text = file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()][-TAIL_LINES:]
    return f" (it said last: {' | '.join(lines)[-MESSAGE_CHARACTERS:]})" if lines else ""


def crash_line(error: Exception) -> str:
    """The exception's last line, and where it was raised."""
    if isinstance(error, Crash):
        return " ".join(str(error).split())
    lines = traceback.format_exception_only(error)[-1].strip().splitlines()
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return (lines[-1] if lines else type(error).__name__)[:MESSAGE_CHARACTERS] + where


def sendable(message: Message | BlueberryError) -> Message | BlueberryError:
    """An error type of the trainer's own may not survive the way to the driver; its line does."""
    if isinstance(message, BlueberryError):
        try:
            pickle.loads(pickle.dumps(message))
        except Exception:
            return BlueberryError(str(message))
    return message


def raise_mistake(message: Message | BlueberryError) -> Message:
    if isinstance(message, BlueberryError):
        raise message
    return message
