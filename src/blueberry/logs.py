"""Copies of runs in other tools, into `STORE/logs/TOOL`: what --log does."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from blueberry.records import RunResult
from blueberry.sinks.log import logging_to
from blueberry.sinks.logged_run import LoggedRun

if TYPE_CHECKING:
    from blueberry.study.engine import OnResult

SINGLE_RUNS = "single-runs"
"""The study that runs of `train` are shown under."""


@contextmanager
def logging_a_study(names: Sequence[str], store: Path, study: str) -> Iterator["OnResult | None"]:
    """Gives the engine's `on_result`; None without names. Raises: SinkError, before anything is trained."""
    if not names:
        yield None
        return
    with logging_to(names, store / "logs", study, _warn) as tell:
        yield lambda run, result: tell(
            LoggedRun(
                study, f"{run.part}: {run.arm}" if run.part else run.arm, run.seed, run.stage, result.recipe, result
            )
        )


@contextmanager
def logging_a_run(names: Sequence[str], store: Path) -> Iterator[Callable[[RunResult], None]]:
    """Gives what is to be told of a run of `train` that has ended."""
    with logging_to(names, store / "logs", SINGLE_RUNS, _warn) as tell:
        yield lambda result: tell(
            LoggedRun(SINGLE_RUNS, result.fingerprint, int(result.recipe["seed"]), "search", result.recipe, result)
        )


def _warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
