"""Writes a report: everything into a hidden folder first, then file by file into its place, the page last."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from blueberry.errors import ReportError
from blueberry.files import partial_folder, refused_as
from blueberry.judge.judgement import Judgement
from blueberry.report.documents import comprehensive_insights, final_results, results_json, to_json
from blueberry.report.runs import LabelledRun

_OURS = re.compile(
    r"figures/(individual/lr_[^/]+_loss_vs_steps|[a-z0-9_]+_vs_\w+|\w*curves|\w+_lr_analysis|\w+_comparison)\.png"
)
"""Names of pictures that only a report writes; those of an earlier one are removed when the new has none such."""


def write(judgement: Judgement, runs: Sequence[LabelledRun], out_dir: Path) -> Path:
    """Write the whole report and return the path of its `index.html`.

    A reader, or a kill in the middle, never meets a half-written file; the page appears last.
    Raises: ReportError if `out_dir` cannot be written.
    """
    out_dir = Path(out_dir)
    with (
        refused_as(ReportError, f"report {out_dir}", "cannot be written", "choose another folder with --out"),
        partial_folder(out_dir) as partial,
    ):
        for path, content in _files(judgement, runs):
            target = partial / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        _move(partial, out_dir)
    return out_dir / "index.html"


def _files(judgement: Judgement, runs: Sequence[LabelledRun]) -> Iterator[tuple[str, bytes]]:
    """Relative path and content of every file, the page last."""
    # Altair takes 0.4 s to import and scipy 0.8 s: only who writes a report pays.
    from altair.utils.schemapi import debug_mode

    from blueberry.report.figures import compute, pictures, png
    from blueberry.report.interactive import page_figures
    from blueberry.report.page import page
    from blueberry.report.templating import html, markdown

    computed = compute(judgement, runs)
    shown = page(judgement, runs)
    listed = []
    # Altair checks each part against its schema as it is made; the tests do that, and a reader need not wait for it.
    with debug_mode(False):
        for picture in pictures(computed):
            yield picture.path, png(picture.spec)
            listed.append(picture)
        interactive = page_figures(computed)
    yield from ((name, text.encode()) for name, text in _documents(judgement, runs, computed.axis))
    yield "report.md", markdown(shown, listed).encode()
    yield "index.html", html(shown, interactive, [picture.path for picture in listed]).encode()


def _documents(judgement: Judgement, runs: Sequence[LabelledRun], axis: Any) -> Iterator[tuple[str, str]]:
    from blueberry.report.search_documents import search_documents  # with figures.py comes altair

    yield "insights.json", to_json(judgement.to_dict())
    yield "results.json", results_json(judgement, runs)
    yield from search_documents(judgement, runs)
    if axis is not None and axis.is_learning_rate and not judgement.parts:
        yield "final_results.json", to_json(final_results(judgement, runs, axis))
        yield "comprehensive_insights.json", to_json(comprehensive_insights(judgement, runs, axis))


def _move(partial: Path, out_dir: Path) -> None:
    """Each file over its predecessor in one step, index.html last; pictures that only an earlier report had go."""
    written = sorted(path.relative_to(partial) for path in partial.rglob("*") if path.is_file())
    written.sort(key=lambda path: path.name == "index.html")
    for path in written:
        (out_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (partial / path).replace(out_dir / path)
    kept = {path.as_posix() for path in written}
    for path in (out_dir / "figures").rglob("*.png"):
        name = path.relative_to(out_dir).as_posix()
        if name not in kept and _OURS.fullmatch(name):
            path.unlink(missing_ok=True)
