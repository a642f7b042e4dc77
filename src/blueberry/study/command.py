"""Any program as the trainer: one call of a command for each run, its metrics read from a file of JSON lines."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from blueberry.errors import StoreError, StudyError, TrainerError
from blueberry.identity import canonical_json, digest, fingerprint
from blueberry.recipe import Recipe
from blueberry.records import Progress, RunResult
from blueberry.study.metrics_lines import MetricsLines
from blueberry.study.spec import Study
from blueberry.study.trainer_section import HERE, OUT, PYTHON, RECIPE, TrainerSection, filled
from blueberry.study.workers import Crash, tail

LOOK_SECONDS = (0.01, 0.25)
"""Between two looks at a command: at first, and at last."""
MAX_FILES = 10_000
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
"""So that what a Python program printed before it was killed is there to be told."""
GUARD = """
import os, signal, subprocess, sys, threading
def watch():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
threading.Thread(target=watch, daemon=True).start()
code = child.wait()
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -code)
os._exit(code if code >= 0 else 128 - code)
"""
"""Stands between a worker and its command, in a process group with it and all that it starts: when the worker goes,
in whatever way, its end of the pipe closes, and the group is killed. Nothing trains on for nobody."""


@dataclass(frozen=True)
class CommandTrainer:
    """Calls the command of a [trainer] section once for each recipe."""

    section: TrainerSection
    metric: str
    """That the last line with it must give."""
    folder: Path
    """Holds one folder for each run."""
    digest: str
    """Of the command and what it reads."""

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult | Progress]:
        """One RunResult for each recipe, and Progress between.

        Raises: Crash if the program fails, TrainerError if it cannot be started or does not keep to the contract
        of its metrics lines, StoreError if its folder cannot be written.
        """
        for recipe in recipes:
            if digest_of(self.section) != self.digest:
                raise TrainerError(
                    f'[trainer] "command": {" ".join(self.section.command)[:80]}; a file that it names was changed '
                    "while the study runs, and runs of two programs are not compared; run again, with the new one"
                )
            yield from self._run(recipe)

    def data_digest(self, recipe: Recipe) -> str:
        """Names the command and what it reads: an edited script is another trainer, and its runs are others."""
        return self.digest

    def _run(self, recipe: Recipe) -> Iterator[RunResult | Progress]:
        name = fingerprint(recipe, self.digest)
        folder = (self.folder / name).absolute()
        result = folder / self.section.result
        lines = MetricsLines(result, self.metric)
        num_updates = recipe.num_updates if self.section.is_told_its_length else None
        try:
            if not self.section.resumes:
                shutil.rmtree(folder, ignore_errors=True)
            result.parent.mkdir(parents=True, exist_ok=True)
            process = self._start(recipe, folder)
        except OSError as cause:
            raise StoreError(
                f"{folder}: cannot be written ({cause.strerror}); a command needs a folder to work in; free space "
                "there or choose another --store"
            ) from None
        began, pause = time.monotonic(), LOOK_SECONDS[0]
        yield Progress(fingerprints=(name,), update=0, num_updates=num_updates)
        try:
            while True:
                try:
                    code = process.wait(pause)
                    break
                except subprocess.TimeoutExpired:
                    pause = min(pause * 1.5, LOOK_SECONDS[1])
                limit = self.section.time_limit_seconds
                if limit is not None and time.monotonic() - began > limit:
                    raise Crash(f"the command took longer than time_limit_seconds = {limit:g}{self._said(folder)}")
                if self._heard(lines, folder):
                    losses = (lines.train_loss,)
                    yield Progress(
                        fingerprints=(name,), update=lines.update, num_updates=num_updates, train_losses=losses
                    )
        finally:
            _end(process)
        yield self._ended(lines, code, folder, name, recipe, seconds=time.monotonic() - began)
        if not self.section.keep_outputs:
            shutil.rmtree(folder, ignore_errors=True)

    def _heard(self, lines: MetricsLines, folder: Path) -> bool:
        try:
            return lines.read()
        except Crash as broken:
            raise Crash(f"{broken}{self._said(folder)}") from None

    def _ended(
        self, lines: MetricsLines, code: int, folder: Path, name: str, recipe: Recipe, *, seconds: float
    ) -> RunResult:
        try:
            lines.read(to_end=True)
        except Crash as torn:
            if code == 0:
                raise Crash(f"{torn}{self._said(folder)}") from None
        if code != 0 and not lines.diverged:
            raise Crash(f"the command ended by {_how(code)}{self._said(folder)}")
        try:
            return lines.result(name, recipe, seconds)
        except TrainerError as broken:
            raise TrainerError(f"{broken}{self._said(folder)}") from None

    def _start(self, recipe: Recipe, folder: Path) -> subprocess.Popen[bytes]:
        section = self.section
        values = {**recipe.flat(), OUT: folder, RECIPE: folder / "recipe.json", PYTHON: sys.executable}
        values[HERE] = section.folder
        (folder / "recipe.json").write_text(json.dumps(recipe.model_dump(), indent=2) + "\n", encoding="utf-8")
        words = [self._absolute(filled(word, values)) for word in section.command]
        program = shutil.which(words[0])
        if program is None:
            raise TrainerError(
                f'[trainer] "command": {words[0]!r}; no such program here; install it, give its path, or write '
                f'"{{{PYTHON}}}" for the Python that runs Blueberry'
            )
        given = {name: filled(value, values) for name, value in section.environment}
        with (folder / "output.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", GUARD, program, *words[1:]],
                cwd=folder, env={**os.environ, **UNBUFFERED, **given}, stdin=subprocess.PIPE, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def _absolute(self, word: str) -> str:
        """A word that names a file beside the study, as a path: the program runs in a folder of its own."""
        return str(self.section.folder / word) if _exists(self.section.folder / word) else word

    @staticmethod
    def _said(folder: Path) -> str:
        return f"{tail(folder / 'output.log')}; all of it is in {folder}"


def command_trainer(study: Study, store: Path) -> CommandTrainer | None:
    """The trainer that a study file names; None if it names none. Raises: StudyError if its files are not there."""
    if study.trainer is None:
        return None
    return CommandTrainer(study.trainer, study.metric, store.absolute() / "commands", digest_of(study.trainer))


def digest_of(section: TrainerSection) -> str:
    """Of the command, its environment, and the content of the files that they name."""
    files = [(name, _file_digest(str(path), *_stamp(path))) for name, path in _files(section)]
    return digest("blueberry/command/1", canonical_json([section.command, sorted(section.environment), files]))


def _files(section: TrainerSection) -> list[tuple[str, Path]]:
    """The files that decide the numbers, each with its name as the study file gives it."""
    named = {word: section.folder / word for word in section.command if _is_file(section.folder / word)}
    for pattern in section.files:
        try:
            found = [path for path in section.folder.glob(pattern) if path.is_file()]
        except (ValueError, NotImplementedError, OSError):
            found = []
        if not found or len(found) > MAX_FILES:
            what = "no file" if not found else f"{len(found)} files"
            raise StudyError(
                f'{section.folder} [trainer] "files": {pattern!r}; it matches {what}; patterns are relative to the '
                f"study file and match up to {MAX_FILES}; mend it"
            )
        named |= {str(path.relative_to(section.folder)): path for path in found}
    return sorted(named.items())


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a command's group, its grandchildren too."""
    assert process.stdin is not None
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter: macOS, where it has just died
        os.killpg(process.pid, signal.SIGKILL)
    process.stdin.close()
    process.wait()


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a word too long for a path
        return False


def _is_file(path: Path) -> bool:
    return _exists(path) and path.is_file()


def _stamp(path: Path) -> tuple[int, int]:
    seen = path.stat()
    return seen.st_size, seen.st_mtime_ns


@lru_cache(maxsize=MAX_FILES)
def _file_digest(path: str, size: int, changed_ns: int) -> str:
    """Read once, unless size or time of change say that it is another."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
