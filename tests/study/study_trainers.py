"""Trainers with bad habits, and a small study, for the tests of the engine. Workers import it: it loads no pytest."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blueberry.errors import BlueberryError, DataError
from blueberry.recipe import SHARED_FOLDER, Recipe, course, fingerprint, state_name, trunk_key, update_of
from blueberry.records import Progress, RunResult
from blueberry.study.spec import Study
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic

STUDY = """
question = "Which rate?"
base = "recipe.toml"
[vary]
"optimizer.muon.learning_rate" = [0.01, 0.02, 0.03, 0.05, 2.0]
[seeds]
search = 2
confirm = 2
max = 4
"""
NUM_RUNS = 5 * 2 + 2


def make_study(folder: Path, text: str = STUDY) -> Study:
    (folder / "recipe.toml").write_text("[train]\nupdates = 6\n")
    (folder / "lr.toml").write_text(text)
    return Study.load(folder / "lr.toml")


@dataclass(frozen=True)
class Logged:
    """The synthetic trainer, slowed down and writing a line for each run it has trained."""

    log: str
    seconds_per_run: float = 0.0

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult | Progress]:
        for recipe in recipes:
            yield from Synthetic(seconds_per_group=self.seconds_per_run)([recipe])
            with open(self.log, "a") as log:
                log.write(f"{os.getpid()} {recipe.seed} {recipe.optimizer.muon.learning_rate}\n")


@dataclass(frozen=True)
class KillsItself:
    """Ends its process by SIGKILL on one rate, until it has done so `times` times."""

    marks: str
    rate: float
    times: int

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult | Progress]:
        for recipe in recipes:
            print("at work on", recipe.optimizer.muon.learning_rate)
            if recipe.optimizer.muon.learning_rate == self.rate:
                done = os.path.getsize(self.marks) if os.path.exists(self.marks) else 0
                if done < self.times:
                    with open(self.marks, "a") as marks:
                        marks.write("x")
                    os.kill(os.getpid(), signal.SIGKILL)
            yield Synthetic().result(recipe)


@dataclass(frozen=True)
class Raises:
    """Raises on one rate."""

    rate: float
    kind: str = "crash"

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult | Progress]:
        for recipe in recipes:
            if recipe.optimizer.muon.learning_rate == self.rate:
                if self.kind == "data":
                    raise DataError("data: none; there must be some; add it")
                if self.kind == "own":
                    raise OwnError(1, 2)
                raise ValueError(f"rate {self.rate} is\nnot to my taste")
            yield Synthetic().result(recipe)


@dataclass(frozen=True)
class CrashesSlowly:
    """Notes each attempt and crashes; its process waits for a thread before it ends."""

    notes: str

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult | Progress]:
        with open(self.notes, "a") as file:
            file.write(f"{os.getpid()}\n")
        threading.Thread(target=time.sleep, args=(0.5,)).start()
        raise ValueError("it takes its time")
        yield


class OwnError(BlueberryError):
    """Cannot be unpickled: its constructor takes more than its line."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"own: {a + b}; a rule; a remedy")


@dataclass(frozen=True)
class Breaks:
    """Breaks the contract in one of several ways."""

    how: str

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult | Progress]:
        for recipe in recipes[1:] if self.how == "too few" else recipes:
            yield Synthetic().result(recipe)
        if self.how == "too many":
            yield Synthetic().result(recipes[0])
        if self.how == "stranger":
            yield Synthetic().result(recipes[0].with_(seed=999))
        if self.how == "no record":
            yield {"loss": 3.0}  # pyright: ignore[reportReturnType]


class CannotBeLoaded:
    """Pickles, but breaks when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (int, ("not a number",))

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult]:
        raise NotImplementedError


def hang(recipes: Sequence[Recipe]) -> Iterator[RunResult | Progress]:
    """Says who it is, then nothing for a long time."""
    with Path(os.environ["BLUEBERRY_TEST_PIDS"]).open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    time.sleep(60)
    yield Synthetic().result(recipes[0])


@dataclass(frozen=True)
class Notes:
    """Says the same note in every group, and one of its own, between progress that comes too fast to be passed on."""

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult | Progress]:
        names = tuple(Synthetic().result(recipe).fingerprint for recipe in recipes)
        for note in (None, "out of memory", None, f"seed {recipes[0].seed}"):
            yield Progress(fingerprints=names, update=0, num_updates=6, note=note)
        yield from Synthetic(seconds_per_group=0.7)(recipes)


@dataclass(frozen=True)
class Forking:
    """The synthetic trainer with states: it leaves a file where one is wanted, and logs where it began."""

    store: str
    log: str
    shares: bool = True
    leaves: bool = True
    crashes: str = ""
    """Length of the runs that crash."""

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult | Progress]:
        for recipe in recipes:
            if str(recipe.num_updates) == self.crashes:
                raise RuntimeError("crash")
            folder = Path(self.store) / "checkpoints" / SHARED_FOLDER
            trunk, own, begun = trunk_key(recipe, Synthetic.data_digest(recipe)), course(recipe), 0
            for path in sorted(folder.glob("*")):
                update = update_of(path.name)
                if update is None or state_name(trunk, recipe.seed, own, min(update, recipe.num_updates)) != path.name:
                    continue
                state = path / "build" / f"update-{update:06d}.x.safetensors"
                if state.exists():
                    begun = update
                elif self.leaves:
                    time.sleep(0.02)
                    state.parent.mkdir(exist_ok=True)
                    state.touch()
            with open(self.log, "a") as log:
                log.write(f"{recipe.seed} {recipe.num_updates} {begun}\n")
            yield Synthetic().result(recipe)


@dataclass(frozen=True)
class Timed:
    """Writes down when each group begins and ends, and how many threads its runs ask for."""

    folder: str

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult]:
        began = time.monotonic()
        time.sleep(0.15)
        for recipe in recipes:
            yield Synthetic().result(recipe)
            line = f"{recipe.model.width} {began} {time.monotonic()}"
            (Path(self.folder) / Synthetic().result(recipe).fingerprint).write_text(line)


@dataclass(frozen=True)
class Seeing:
    """Notes which GPU its worker sees."""

    folder: str

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult]:
        for recipe in recipes:
            result = Synthetic().result(recipe)
            (Path(self.folder) / result.fingerprint).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
            assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"  # workers share the machine: none spins while it waits
            yield result


@dataclass(frozen=True)
class SeeingBeside(Seeing):
    """Notes also its process and how many runs it was handed."""

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult]:
        for result in super().__call__(recipes):
            path = Path(self.folder) / result.fingerprint
            path.write_text(f"{os.getpid()} {path.read_text()} {len(recipes)}")
            time.sleep(0.2)
            yield result


class Quick:
    """Ends before anything is said of its speed: ten seconds for a run."""

    def __init__(self, folder: Path) -> None:
        pass

    def __call__(self, recipes):
        for one in recipes:
            yield RunResult(
                fingerprint=fingerprint(one, "text"),
                recipe=one.flat(),
                status="completed",
                num_tokens=one.num_updates * one.update_tokens,
                train_seconds=10.0,
            )


class Slow:
    """Says nothing of its speed, or crashes."""

    def __init__(self, folder: Path) -> None:
        pass

    def __call__(self, recipes):
        if recipes[0].seed:
            raise RuntimeError("no such device")
        yield Progress(fingerprints=tuple(fingerprint(one, "text") for one in recipes), update=0, num_updates=1)
        time.sleep(30)


def result(seed: int = 0) -> RunResult:
    return Synthetic().result(Recipe(seed=seed).with_(**{"train.updates": 3}))


def commit_many(folder: str, first: int, last: int) -> None:
    with Store.open(folder) as store:
        for seed in range(first, last):
            store.commit(result(seed))
