"""What a person sees while something runs: a bar on a terminal, a line now and then elsewhere. On standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from blueberry.files import printable
from blueberry.judge.words import duration
from blueberry.records import Progress as RunProgress
from blueberry.study.engine import Snapshot

LINE_SECONDS = 15.0
"""Between two lines where there is no terminal to draw a bar on."""


@contextmanager
def watching_a_study(name: str, *, quiet: bool, no_color: bool) -> Iterator[Callable[[Snapshot], None] | None]:
    """Gives the engine's `on_event`. None when nothing is to be shown."""
    with _display(quiet, no_color) as show:
        if show is None:
            yield None
            return
        pace = _Pace()

        def on_event(seen: Snapshot) -> None:
            left = pace.seconds_left(seen.updates_done, seen.updates_total)
            speed = sum(one.tokens_per_second or 0.0 for one in seen.running)
            failed = f", {seen.failed} failed" if seen.failed else ""
            running = sum(len(one.fingerprints) for one in seen.running)
            for note in seen.notes:
                show.note(note)
            show(
                seen.updates_done / max(seen.updates_total, 1),
                f"{name}: {seen.done} of {seen.total} runs done, {running} running{failed}",
                _rest(speed, left),
            )

        yield on_event


@contextmanager
def watching_a_run(*, quiet: bool, no_color: bool) -> Iterator[Callable[[RunProgress], None] | None]:
    """Gives `on_progress` of a single run. None when nothing is to be shown."""
    with _display(quiet, no_color) as show:
        if show is None:
            yield None
            return
        pace = _Pace()

        def on_progress(seen: RunProgress) -> None:
            assert seen.num_updates is not None, "the built-in trainer knows"
            left = pace.seconds_left(seen.update, seen.num_updates)
            losses = [loss for loss in seen.train_losses if loss is not None]
            loss = f", loss {losses[0]:.4f}" if losses else ""
            text = f"update {seen.update} of {seen.num_updates}{loss}"
            if seen.note is not None:
                show.note(seen.note)
            show(seen.update / seen.num_updates, text, _rest(seen.tokens_per_second or 0.0, left))

        yield on_progress


class _Pace:
    """The time left, from what was done since the first look."""

    def __init__(self) -> None:
        self.first: tuple[float, int] | None = None

    def seconds_left(self, done: int, total: int) -> float | None:
        now = time.monotonic()
        if self.first is None:
            self.first = (now, done)
        began, done_then = self.first
        if done <= done_then or now - began < 2:
            return None
        return (total - done) * (now - began) / (done - done_then)


def _rest(tokens_per_second: float, seconds_left: float | None) -> str:
    speed = f"{tokens_per_second:,.0f} tokens/s" if tokens_per_second else "starting"
    return speed if seconds_left is None else f"{speed}, {duration(seconds_left)} left"


class _Display(Protocol):
    def __call__(self, fraction: float, what: str, rest: str) -> None: ...

    def note(self, line: str) -> None:
        """Say a line, the first time it is given, and leave it standing."""
        ...


@contextmanager
def _display(quiet: bool, no_color: bool) -> Iterator[_Display | None]:
    if quiet:
        yield None
        return
    console = Console(stderr=True, no_color=no_color or None, highlight=False)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[rest]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar)


class _Bar:
    def __init__(self, bar: Progress) -> None:
        self._bar, self._noted = bar, set[str]()
        self._task = bar.add_task("starting", total=1.0, rest="")

    def __call__(self, fraction: float, what: str, rest: str) -> None:
        self._bar.update(self._task, completed=fraction, description=printable(what), rest=rest)

    def note(self, line: str) -> None:
        if line not in self._noted:
            self._noted.add(line)
            self._bar.console.print(printable(line), markup=False)


class _Lines:
    def __init__(self) -> None:
        self._said_at: float | None = None
        self._noted = set[str]()

    def __call__(self, fraction: float, what: str, rest: str) -> None:
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= LINE_SECONDS:
            self._said_at = now
            print(printable(f"{fraction:4.0%}  {what}; {rest}"), file=sys.stderr, flush=True)

    def note(self, line: str) -> None:
        if line not in self._noted:
            self._noted.add(line)
            print(printable(line), file=sys.stderr, flush=True)
