"""What a person sees while something runs: a bar on a terminal, a line now and then elsewhere. On standard error."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from blueberry.files import printable
from blueberry.judge.words import duration
from blueberry.records import Progress as RunProgress
from blueberry.study.engine import Snapshot

T = TypeVar("T")
LINE_SECONDS = 15.0
"""Between two lines where there is no terminal to draw a bar on."""


Watching = AbstractContextManager[Callable[[T], None] | None]
Step = tuple[str, int, int, float, Sequence[str | None]]
"""What is going on, updates done and in all, tokens per second, and lines to be said once."""


def watching_a_study(name: str, *, quiet: bool, no_color: bool) -> Watching[Snapshot]:
    """Gives the engine's `on_event`. None when nothing is to be shown."""

    def step(seen: Snapshot) -> Step:
        speed = sum(one.tokens_per_second or 0.0 for one in seen.running)
        failed = f", {seen.failed} failed" if seen.failed else ""
        running = sum(len(one.fingerprints) for one in seen.running)
        what = f"{name}: {seen.done} of {seen.total} runs done, {running} running{failed}"
        return what, seen.updates_done, seen.updates_total, speed, seen.notes

    return _watching(step, quiet, no_color)


def watching_a_run(*, quiet: bool, no_color: bool) -> Watching[RunProgress]:
    """Gives `on_progress` of a single run. None when nothing is to be shown."""

    def step(seen: RunProgress) -> Step:
        assert seen.num_updates is not None, "the built-in trainer knows"
        losses = [loss for loss in seen.train_losses if loss is not None]
        loss = f", loss {losses[0]:.4f}" if losses else ""
        what = f"update {seen.update} of {seen.num_updates}{loss}"
        return what, seen.update, seen.num_updates, seen.tokens_per_second or 0.0, (seen.note,)

    return _watching(step, quiet, no_color)


@contextmanager
def _watching(step: Callable[[T], Step], quiet: bool, no_color: bool) -> Iterator[Callable[[T], None] | None]:
    if quiet:
        yield None
        return
    pace, noted = _Pace(), set[str]()
    with _display(no_color) as (show, note):

        def on_event(seen: T) -> None:
            what, done, total, speed, notes = step(seen)
            for line in notes:
                if line is not None and line not in noted:
                    noted.add(line)
                    note(printable(line))
            left = pace.seconds_left(done, total)
            rest = f"{speed:,.0f} tokens/s" if speed else "starting"
            show(done / max(total, 1), what, rest if left is None else f"{rest}, {duration(left)} left")

        yield on_event


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


@contextmanager
def _display(no_color: bool) -> Iterator[tuple[Callable[[float, str, str], None], Callable[[str], None]]]:
    """What shows how far something is (a fraction, what, and the rest), and what leaves a line standing."""
    console = Console(stderr=True, no_color=no_color or None, highlight=False)
    if not console.is_terminal:
        yield _Lines(), _on_standard_error
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[rest]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0, rest="")

        def show(fraction: float, what: str, rest: str) -> None:
            bar.update(task, completed=fraction, description=printable(what), rest=rest)

        yield show, lambda line: bar.console.print(line, markup=False)


class _Lines:
    """A line now and then."""

    def __init__(self) -> None:
        self._said_at: float | None = None

    def __call__(self, fraction: float, what: str, rest: str) -> None:
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= LINE_SECONDS:
            self._said_at = now
            _on_standard_error(printable(f"{fraction:4.0%}  {what}; {rest}"))


def _on_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
