"""Ctrl-C and SIGTERM: a wish to stop, heard between two pieces of work instead of in the middle of one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


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


@contextmanager
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
