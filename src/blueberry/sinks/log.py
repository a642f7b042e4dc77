"""What --log does: sinks are told of runs that ended, in threads of their own, so that one that fails or hangs stops
nothing but itself.

A sink writes a run once, whole, when it has ended; runs it has already are left alone. So a kill loses nothing
that the same command does not write later, and writes nothing twice.
"""

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from blueberry.errors import SinkError, did_you_mean
from blueberry.records import StudyRun
from blueberry.sinks.tools import SINKS, Sink, key

CLOSE_SECONDS = 60.0
"""That the end of a study waits for its sinks."""
INTERRUPTED_SECONDS = 3.0
"""The same when the study stops early."""
SINGLE_RUNS = "single-runs"
"""The study that runs of `train` are shown under."""
MOST_WAITING = 2_000
"""Runs that a sink may be behind; of more, the later ones are left for the next time."""

_REMEDY = "the same command writes what is missing"


def on_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def logging_to(
    names: Sequence[str], store: Path, study: str, warn: Callable[[str], None] = on_standard_error
) -> Iterator[Callable[[StudyRun], None]]:
    """Gives what is to be told of each run that has ended; told twice of one, it writes it once.

    Each sink has its own folder, `STORE/logs/SINK`. `warn` is given a line by each sink that fails, once.
    Raises: SinkError for a sink that does not exist, or whose library is not installed.
    """
    sinks = {name: find_sink(name) for name in dict.fromkeys(names)}
    feeds = [Feed(name, sink, store / "logs" / name, study, warn) for name, sink in sinks.items()]

    def tell(run: StudyRun) -> None:
        for feed in feeds:
            feed.tell(run)

    seconds = INTERRUPTED_SECONDS
    try:
        yield tell
        seconds = CLOSE_SECONDS
    finally:
        deadline = time.monotonic() + seconds
        for feed in feeds:
            feed.close(deadline)


def find_sink(name: str) -> type[Sink]:
    """Its library is loaded only when it is made. Raises: SinkError."""
    if name not in SINKS:
        raise SinkError(f'--log "{name}": no such place to log to{did_you_mean(name, SINKS)}')
    if find_spec(name) is None:
        raise SinkError(f'--log "{name}": {name} is not installed; pip install "blueberry-lm[{name}]"')
    return SINKS[name]


class Feed:
    """One sink and the thread that it works in."""

    def __init__(self, name: str, sink: type[Sink], folder: Path, study: str, warn: Callable[[str], None]) -> None:
        self._name, self._sink, self._folder, self._study, self._warn = name, sink, folder, study, warn
        self._waiting: queue.Queue[StudyRun | None] = queue.Queue(MOST_WAITING)
        self._told: set[str] = set()
        self._num_left = 0
        self._failed = False
        self._thread = threading.Thread(target=self._work, name=f"log {name}", daemon=True)
        self._thread.start()

    def tell(self, run: StudyRun) -> None:
        """Never raises, never waits."""
        name = key(run)
        if self._failed or name in self._told:
            return
        try:
            self._waiting.put_nowait(run)
            self._told.add(name)
        except queue.Full:
            self._num_left += 1

    def close(self, deadline: float) -> None:
        """Wait for what is still to be written, until a moment of the monotonic clock."""
        while self._thread.is_alive() and time.monotonic() < deadline:
            try:
                self._waiting.put(None, timeout=0.1)
                break
            except queue.Full:
                continue
        self._thread.join(max(deadline - time.monotonic(), 0))
        if self._failed:
            return
        behind = self._num_left + (self._waiting.qsize() if self._thread.is_alive() else 0)
        if self._thread.is_alive() or behind:
            self._warn(f"--log {self._name}: too slow to keep up, {behind or 1} runs are missing there; {_REMEDY}")

    def _work(self) -> None:
        try:
            sink = self._sink(self._folder, self._study)
            while (run := self._waiting.get()) is not None:
                sink.result(run)
        except BaseException as error:  # whatever a library raises, runs go on
            self._failed = True
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self._warn(f"--log {self._name}: {reason}; it is left out from here, runs go on; {_REMEDY}")
