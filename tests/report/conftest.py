"""The made-up studies, and one whole report of a sweep that several tests look at."""

from pathlib import Path

import planted
import pytest

from blueberry.report.writing import write


@pytest.fixture(scope="session")
def sweep() -> planted.Planted:
    return planted.sweep()


@pytest.fixture(scope="session")
def sweep_report(sweep: planted.Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole report of 11 rates x 3 seeds. Read only."""
    folder = tmp_path_factory.mktemp("report") / "sweep"
    write(sweep.judgement, sweep.runs, folder)
    return folder
