"""The files of `blueberry ledger --out`."""

from pathlib import Path

from blueberry.errors import ReportError
from blueberry.files import refused_as
from blueberry.judge.ledger import Ledger
from blueberry.report.documents import to_json
from blueberry.report.ledger import line_pages
from blueberry.report.templating import ledger_markdown
from blueberry.report.timeline import timeline
from blueberry.report.timeline_chart import timeline_png


def write_ledger(ledger: Ledger, folder: Path) -> Path:
    """Write `ledger.md`, `ledger.json` and `figures/timeline.png`; returns the first.

    Raises: ReportError if the folder cannot be written.
    """
    lines = [drawn for name, entries in ledger.lines.items() if (drawn := timeline(name, entries)).stages]
    with refused_as(ReportError, f"ledger {folder}", "cannot be written", "choose another folder with --out"):
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        picture = folder / "figures" / "timeline.png"
        if lines:
            picture.write_bytes(timeline_png(lines))
        else:
            picture.unlink(missing_ok=True)
        (folder / "ledger.json").write_text(to_json(ledger.to_dict()), encoding="utf-8")
        text = ledger_markdown(line_pages(ledger), has_picture=bool(lines))
        (folder / "ledger.md").write_text(text, encoding="utf-8")
    return folder / "ledger.md"
