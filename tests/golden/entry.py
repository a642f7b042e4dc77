"""Every name of the package that the golden files are made with. When one moves, only this file follows."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import MagicMock, patch

from blueberry import analysis, api
from blueberry.errors import StudyError
from blueberry.files import read_toml
from blueberry.report import figures
from blueberry.report.page import Page, markdown
from blueberry.study.sections import write_study_file
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

RECIPE = Path(__file__).parents[2] / "recipes" / "moe-nano.toml"

_DRAWING = (
    "draw_lr_curve",
    "draw_learning_curves",
    "draw_panel",
    "draw_arm",
    "finished",
    "beside",
    "headed",
    "stacked",
)
"""What report.figures draws with."""


class Answer(NamedTuple):
    insights: dict[str, Any]
    """As insights.json has them."""
    report: str
    """report.md."""
    notes: tuple[str, ...] = ()
    """How a table was understood."""


def study(kind: str, changes: dict[str, Any], truth: dict[str, Any], folder: Path) -> Answer:
    """Run a planted study in a folder of its own."""
    path = write_study_file(kind, RECIPE, folder / f"{kind}.toml")
    given = Study.parse({**read_toml(path, StudyError), **changes}, path)
    judged = api.conduct(given, store=folder / "store", trainer=Synthetic(**truth), workers=0)
    return Answer(judged.judgement.to_dict(), _report(judged.judgement, judged.runs))


def table(path: Path, asked: dict[str, Any]) -> Answer:
    """Judge a table of runs."""
    judged = analysis.examine(path, **asked)
    return Answer(judged.judgement.to_dict(), _report(judged.judgement, judged.found.runs), judged.notes)


def doctor(paths: Sequence[Path]) -> list[tuple[str, str, str]]:
    """Audit, severity and message of what the doctor finds in files, in its order."""
    return [(one.audit, one.severity, one.message) for one in analysis.checkup(paths).audits]


def _report(judgement: Any, runs: Sequence[Any]) -> str:
    """report.md without drawing: that is slow, and names, titles and captions are what it says of pictures."""
    with patch.multiple(figures, **dict.fromkeys(_DRAWING, MagicMock())):
        every = figures.pictures(figures.compute(judgement, runs))
        shown = list(takewhile(lambda picture: "/individual/" not in picture.name, every))  # those are not in report.md
    return markdown(Page(judgement, runs), shown)
