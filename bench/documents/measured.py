"""The documents' small studies as a store has them: each judged, or None where its runs have not all ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from blueberry import api, promotions
from blueberry.errors import BlueberryError
from blueberry.judge.judgement import Judgement
from blueberry.judge.ledger import Entry
from blueberry.records import StudyRun
from blueberry.study.spec import Study

LINE = "documents"
"""Of the ledger: the cumulative record."""
NAMES = (
    "000-before-after", "001-schedule", "002-rates", "002-horizon", "003-search", "003-leak", "004-ablation",
    "004-accumulation", "004-schedule", "004-stack", "004-routing", "004-longer",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    study: Study
    judgement: Judgement
    runs: tuple[StudyRun, ...]

    def mean(self, metric: str, arm: str, *, part: str = "", stage: str = "search") -> float | None:
        """Over the completed runs of an arm; None where one did not say."""
        own = [run for run in self.runs if (run.arm, run.part, run.stage) == (arm, part, stage)]
        values = [run.result.metric(metric) for run in own if run.result.status == "completed"]
        known = [value for value in values if value is not None]
        return fmean(known) if known and len(known) == len(values) else None


def read(folder: Path, store: Path) -> Mapping[str, Measured | None]:
    """By the name of the study, without the name of its form."""
    return {name: _measured(folder / f"{name}-small.toml", store) for name in NAMES}


def _measured(path: Path, store: Path) -> Measured | None:
    study = Study.load(path, store)
    try:
        judged = api.look(study, store)
    except BlueberryError:
        return None
    if judged.plan.todo or judged.plan.num_undecided:
        return None
    return Measured(study, judged.judgement, judged.runs)


def line(store: Path) -> tuple[Entry, ...]:
    """The cumulative record; empty where nothing was promoted."""
    try:
        return tuple(promotions.ledger(store=store).lines.get(LINE, ()))
    except BlueberryError:
        return ()
