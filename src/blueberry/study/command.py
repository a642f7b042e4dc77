"""Any program as the trainer: one call of a command for each run, in a folder of its own, and what became of it."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

from blueberry.errors import StoreError, StudyError, TrainerError
from blueberry.recipe import Recipe, fingerprint
from blueberry.records import Progress, RunResult
from blueberry.study.program import HERE, OUT, PYTHON, RECIPE, Program, digest_of, working_folder
from blueberry.study.program_results import ProgramResults
from blueberry.study.spec import Study
from blueberry.study.workers import Crash, how_it_ended, tail

LOOK_SECONDS = (0.01, 0.25)
"""Between two looks at a command: at first, and at last."""
LOG = "output.log"
NO_PROGRAM = (
    f'no such program here; install it, give its path, or write "{{{PYTHON}}}" for the Python that runs Blueberry'
)
WRAPPERS = ("env", "nice", "nohup", "time")
"""That run the program after them, with variables before it."""
INTERPRETERS = {r"python[\d.]*": r"-[bBdEiIOPqsSuvx]+|-[WX].+", r"(ba|da|z|k)?sh": r"-[efuvx]+"}
"""That run the file after their options; here those that have no argument of their own."""
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

    program: Program
    metric: str
    """That it must give."""
    beside: Path
    """The folder of the study file."""
    folder: Path
    """Holds one folder for each run."""
    words: tuple[str, ...]
    """Of the command, as the arms fill them."""
    digest: str
    """Of the command and what decides its numbers."""

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult | Progress]:
        """One RunResult for each recipe, and Progress between.

        Raises: Crash if the program fails, TrainerError if it cannot be started or does not keep to the contract
        of its metrics lines, StoreError if its folder cannot be written.
        """
        for recipe in recipes:
            if digest_of(self.program, self.beside, self.words) != self.digest:
                raise TrainerError(
                    f'[trainer] "command": {" ".join(self.program.command)[:80]}; a file of it was changed while the '
                    "study runs, and runs of two programs are not compared; run again, with the new one"
                )
            yield from self._run(recipe)

    def data_digest(self, recipe: Recipe) -> str:
        """Names the command and its files: an edited script is another trainer, and its runs are others."""
        return self.digest

    def _run(self, recipe: Recipe) -> Iterator[RunResult | Progress]:
        name = fingerprint(recipe, self.digest)
        folder = (self.folder / name).absolute()
        program = self.program
        result = folder / program.result
        lines = ProgramResults(folder / LOG if program.stdout else result, self.metric, program.stdout)
        num_updates = recipe.num_updates if program.is_told_its_length else None
        try:
            if not program.resumes:
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            result.parent.mkdir(parents=True, exist_ok=True)
            process = self._start(recipe, folder)
        except OSError as cause:
            raise StoreError(
                f"{folder}: cannot be written ({cause.strerror}); a command needs a folder to work in; free space "
                "there or choose another --store"
            ) from None
        began, pause = time.monotonic(), LOOK_SECONDS[0]
        yield Progress(fingerprints=(name,), update=0, num_updates=num_updates)
        with _log_told(folder):
            try:
                while True:
                    try:
                        code = process.wait(pause)
                        break
                    except subprocess.TimeoutExpired:
                        pause = min(pause * 1.5, LOOK_SECONDS[1])
                    limit = program.time_limit_seconds
                    if limit is not None and time.monotonic() - began > limit:
                        raise Crash(f"the command took longer than time_limit_seconds = {limit:g}")
                    if lines.read():
                        losses = (lines.train_loss,)
                        yield Progress(
                            fingerprints=(name,), update=lines.update, num_updates=num_updates, train_losses=losses
                        )
            finally:
                _end(process)
            try:
                lines.read(to_end=True)
            except Crash:
                if code == 0:  # else it was killed in the middle of a line
                    raise
            if code != 0 and not lines.diverged:
                raise Crash(f"the command ended by {how_it_ended(code)}")
            yield lines.result(name, recipe, time.monotonic() - began)
        if not program.keep_outputs:
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, recipe: Recipe, folder: Path) -> subprocess.Popen[bytes]:
        program, cwd = self.program, working_folder(self.program, self.beside)
        values = {
            **recipe.flat(),
            OUT: folder,
            RECIPE: folder / "recipe.json",
            PYTHON: sys.executable,
            HERE: self.beside,
        }
        (folder / "recipe.json").write_text(json.dumps(recipe.model_dump(), indent=2) + "\n", encoding="utf-8")
        words = _located(program.words(values), program, cwd)
        found = shutil.which(words[0])
        if found is None:
            raise TrainerError(f'[trainer] "command": {words[0]!r}; {NO_PROGRAM}')
        with (folder / LOG).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", GUARD, found, *words[1:]],
                cwd=folder if program.cwd is None else cwd, stdin=subprocess.PIPE, stdout=log, stderr=log,
                env={**os.environ, **UNBUFFERED, **program.variables(values)}, start_new_session=True,
            )  # fmt: skip


def _located(words: Sequence[str], program: Program, cwd: Path) -> list[str]:
    """The words of a command with the files that they name where its process finds them."""
    if program.cwd is None:  # it works in a folder of its own, where no file lies that the words name
        return [str(cwd / word) if os.path.exists(cwd / word) else word for word in words]
    return [str(cwd / words[0]) if os.path.dirname(words[0]) else words[0], *words[1:]]


@contextlib.contextmanager
def _log_told(folder: Path) -> Iterator[None]:
    """Adds to what goes wrong what the command said last."""
    try:
        yield
    except (Crash, TrainerError) as broken:
        raise type(broken)(f"{broken}{tail(folder / LOG)}; all of it is in {folder}") from None


def command_trainer(study: Study, store: Path) -> CommandTrainer:
    """The trainer that a study file names. Raises: StudyError if its files are not there."""
    program, beside = study.trainer, study.path.parent.absolute()
    assert program is not None
    places = {OUT: OUT, RECIPE: RECIPE, PYTHON: PYTHON, HERE: beside}
    told = dict.fromkeys(word for arm in study.sampled_arms for word in program.words({**arm.recipe.flat(), **places}))
    told |= dict.fromkeys(value for axis in study.axes for value in axis.values if isinstance(value, str))
    words = tuple(told)
    digest = digest_of(program, beside, words)
    return CommandTrainer(program, study.metric, beside, store.absolute() / "commands", words, digest)


def require_program(study: Study, recipes: Iterable[Recipe]) -> None:
    """Raises: StudyError if the program that a study calls to train these is not there, or the script that it has an
    interpreter run.

    Said only where it is sure to fail: of words that are known before a run, and of options whose meaning is known.
    """
    program, beside = study.trainer, study.path.parent.absolute()
    assert program is not None
    cwd = working_folder(program, beside)

    def missing(word: str) -> str:
        where = "" if os.path.isabs(word) else f" in {program.cwd}" if program.cwd else " beside the study file"
        return f"{word!r:.200}; no such file{where}; mend the path"

    for given in dict.fromkeys(program.known_words({PYTHON: sys.executable, HERE: beside}, recipes)):
        if not given or _is_of_its_own_folder(given[0], program, cwd):
            continue
        words, said = _located(given, program, cwd), None
        script = _script_of(words, is_path_known="PATH" not in program.environment)
        if shutil.which(words[0]) is None:
            said = missing(given[0]) if os.path.dirname(given[0]) else f"{given[0]!r:.200}; {NO_PROGRAM}"
            if os.path.isdir(cwd / given[0]):
                said = f"{given[0]!r:.200}; it is a folder; name the program in it"
            elif os.path.isfile(cwd / given[0]) and os.access(cwd / given[0], os.X_OK):
                said = f"{given[0]!r:.200}; a bare name is looked for on PATH; write ./{given[0]}"
            elif os.path.isfile(cwd / given[0]):
                said = f"{given[0]!r:.200}; it may not be executed; chmod +x it, or write before it what runs it"
        elif script is not None and not (os.path.exists(cwd / script) or _is_of_its_own_folder(script, program, cwd)):
            said = missing(script)
        if said is not None:
            raise StudyError(f'{study.path} [trainer] "command": {said}')


def _is_of_its_own_folder(word: str, program: Program, cwd: Path) -> bool:
    """Whether a word may name a file from the folder of a run, where a command without `cwd` works, and upwards."""
    return program.cwd is None and os.path.normpath(word).startswith(os.pardir) and not os.path.exists(cwd / word)


def _script_of(words: Sequence[str], *, is_path_known: bool) -> str | None:
    """The file that a command has an interpreter run; None if that is not sure."""
    left = [*words]
    while left and os.path.basename(left[0]) in WRAPPERS:
        left = [*dropwhile(re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL).fullmatch, left[1:])]
    if left and os.path.dirname(left[0]) and _is_a_script(left[0]):
        return None  # somebody's own, whatever it is called
    name = os.path.basename(left[0]) if left else ""
    options = next((known for interpreter, known in INTERPRETERS.items() if re.fullmatch(interpreter, name)), None)
    left = [*dropwhile(re.compile(options).fullmatch, left[1:])] if options else []
    if not left or left[0].startswith(("-", "+")):
        return None
    if name.endswith("sh") and not os.path.dirname(left[0]):  # a shell looks along PATH, too
        if not is_path_known or any(word.startswith("PATH=") for word in words):
            return None
        if any(os.path.exists(os.path.join(folder, left[0])) for folder in os.get_exec_path()):
            return None
    return left[0]


def _is_a_script(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a command's group, its grandchildren too."""
    assert process.stdin is not None
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter: macOS, where it has just died
        os.killpg(process.pid, signal.SIGKILL)
    process.stdin.close()
    process.wait()
