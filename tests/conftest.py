"""No test sees where it was started: each runs in an empty folder, and what it starts imports the package under test."""

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

import blueberry
from blueberry import api
from blueberry.__main__ import main
from blueberry.files import lock
from blueberry.recipe import fingerprint
from blueberry.settings import Data
from blueberry.study.synthetic import Synthetic
from blueberry.text.dataset import data_digest, load

gc.disable()  # while tests are collected: what is made then stays, and looking it through takes a third of that time
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests side by side share the cores; threads would wait for each other
os.environ["PYTHONPATH"] = str(Path(blueberry.__file__).parent.parent.absolute())
os.environ.pop("BLUEBERRY_STORE", None)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a third of what a process takes to start is compiling the package


def pytest_collection_finish() -> None:
    """Imported modules and collected tests are never garbage: no later collection looks at them."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _started_nowhere() -> Iterator[None]:
    """For fixtures that several tests share."""
    started = Path.cwd()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        yield
        os.chdir(started)


@pytest.fixture(autouse=True, scope="session")
def _nothing_is_drawn_or_timed() -> Iterator[None]:
    """Reports have their pictures' files, but drawing takes a third of a second each: a file holds what would be drawn.
    Tests that look at pictures take `drawn`, or vega's own `png`. Nor is it timed how fast this machine trains, as `plan`
    and `run` do where a store has no runs to tell it: that takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blueberry.report.png", lambda spec: json.dumps(spec).encode())
        patch.setattr("blueberry.api.timed", lambda *_: None)
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of reports are drawn."""
    from blueberry.report.charts import png

    monkeypatch.setattr("blueberry.report.png", png)


@pytest.fixture(autouse=True)
def _run_in_an_empty_folder() -> Iterator[None]:
    started = Path.cwd()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        yield
        os.chdir(started)


class Said(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs a command in this process, where torch is loaded once, and gives its exit code and what it said."""

    def run(*words: object) -> Said:
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setattr(sys, "argv", ["blueberry", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return Said(int(end.value.code or 0), *capsys.readouterr())

    return run


class Named:
    """A trainer that computes in microseconds, whose runs have the names that `plan` gives to those of the built-in one."""

    def __init__(self, trainer: Synthetic, digest: str) -> None:
        self.trainer, self.digest = trainer, digest

    def __call__(self, recipes):
        for recipe in recipes:
            yield self.trainer.result(recipe).model_copy(update={"fingerprint": fingerprint(recipe, self.digest)})


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies are run in this process by a trainer that knows the best rate, 0.065; nothing else makes a difference."""
    built_in = api.conduct

    def conduct(study, *, store=None, trainer=None, **more):
        digest = data_digest(study.base.data, Path(".blueberry") / "data")
        trainer = Named(Synthetic(optimum=0.065), digest)
        return built_in(study, store=store, trainer=trainer, **{**more, "workers": 0})

    monkeypatch.setattr(api, "conduct", conduct)
    monkeypatch.setattr("blueberry.promotions.conduct", conduct)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store for studies that are planned and never run: their text is prepared in it once, for all test processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "prepared"
    folder.mkdir(exist_ok=True)
    with lock(folder):  # one process prepares the text of most recipes while the others wait for it
        load(Data(), folder / "data")
    return folder
