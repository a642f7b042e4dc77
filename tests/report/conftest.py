"""The made-up studies, and one whole report of a sweep that several tests look at."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import planted
import pytest
from altair.utils.schemapi import debug_mode

from blueberry import report
from blueberry.report.charts import png


@pytest.fixture(autouse=True, scope="session")
def _parts_are_not_checked() -> Iterator[None]:
    """As in a report: test_specifications.py holds every whole against the schema, and its parts with it."""
    with debug_mode(False):
        yield


@pytest.fixture(scope="session")
def sweep() -> planted.Planted:
    return planted.sweep()


@pytest.fixture(scope="session")
def sweep_report(sweep: planted.Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole report of 11 rates x 3 seeds. Read only. Each rate's own picture is that of the first."""
    folder, first = tmp_path_factory.mktemp("report") / "sweep", []

    def drawn(spec: dict[str, Any]) -> bytes:
        if not spec["title"]["text"].startswith("Learning rate "):
            return png(spec)
        first[:] = first or [png(spec)]
        return first[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "png", drawn)
        report.write(sweep.judgement, sweep.runs, folder)
    return folder
