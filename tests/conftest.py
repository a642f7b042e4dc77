"""No test sees where it was started: each runs in an empty folder, and what it starts imports the package under test."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import blueberry

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests side by side share the cores; threads would wait for each other
os.environ["PYTHONPATH"] = str(Path(blueberry.__file__).parent.parent.absolute())
os.environ.pop("BLUEBERRY_STORE", None)


@pytest.fixture(autouse=True, scope="session")
def _started_nowhere() -> Iterator[None]:
    """For fixtures that several tests share."""
    started = Path.cwd()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        yield
        os.chdir(started)


@pytest.fixture(autouse=True)
def _run_in_an_empty_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with TemporaryDirectory() as folder:
        monkeypatch.chdir(folder)
        yield


@pytest.fixture(autouse=True)
def _nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`plan` and `run` time some updates where a store has no runs to tell the speed: that takes seconds."""
    monkeypatch.setattr("blueberry.api.timed", lambda *_: None)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for studies that are planned and never run: their text is prepared in it once, for all tests."""
    return tmp_path_factory.mktemp("prepared")
