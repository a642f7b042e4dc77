"""Writes a report: everything into a hidden folder first, then file by file into its place, the page last; or one run.

Its templates are filled here too: HTML escapes what is not marked safe, Markdown what it would act on. Who imports this
pays for altair (0.4 s) and scipy (0.8 s): the floors above do when they write.
"""

import contextlib
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import altair as alt
from altair.utils.schemapi import debug_mode
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from blueberry.errors import ReportError
from blueberry.files import is_missing, lock, partial_folder, refused_as
from blueberry.judge.judgement import Judgement
from blueberry.records import RunResult, StudyRun
from blueberry.report.charts import DARK, LIGHT, css_variables, drawable, layered, png, stacked, vega_script
from blueberry.report.documents import comprehensive_insights, final_results, results_json, search_documents, to_json
from blueberry.report.figures import Drawn, PageFigures, compute, finished, page_figures, pictures
from blueberry.report.page import Page, page
from blueberry.study.spec import Study

MANIFEST = ".blueberry-report.json"
"""Of a report's folder: which files the report in it has written, and the one before it, each with the sha256 of its
content. The next report replaces and removes those that are as they were written, and nothing else."""
MANIFEST_SCHEMA = "blueberry/report-files/1"


def write(judgement: Judgement, runs: Sequence[StudyRun], out_dir: Path, study: Study | None = None) -> Path:
    """Write the whole report and return the path of its `index.html`. `study` asked for the runs, if one of ours did.

    A reader, or a kill in the middle, never meets a half-written file; the page appears last.
    Raises: ReportError if `out_dir` cannot be written, or holds files of these names that are not a report's.
    """
    place(Path(out_dir), _files(judgement, runs, study))
    return Path(out_dir) / "index.html"


def notebook(judgement: Judgement) -> str:
    """A judgement as a notebook shows it: HTML with its table, and its main figure inside.

    Without the runs there are no learning curves; a written report has them.
    """
    main = next(pictures(compute(judgement, ())), None)
    picture = "" if main is None else b64encode(png(main.spec)).decode()
    said = "" if main is None else main.caption
    return rendered("notebook.html", page=page(judgement, ()), metric=judgement.metric, picture=picture, caption=said)


def _files(judgement: Judgement, runs: Sequence[StudyRun], study: Study | None) -> Iterator[tuple[str, bytes]]:
    """Relative path and content of every file, the page last."""
    computed = compute(judgement, runs)
    shown = page(judgement, runs, study)
    listed = []
    # Altair checks each part against its schema as it is made; the tests do that, and a reader need not wait for it.
    with debug_mode(False):
        for picture in pictures(computed):
            image = png(picture.spec)
            yield from ((name, image) for name in (picture.name, picture.copy) if name)
            listed.append(picture)
        interactive = page_figures(computed)
    for name, text in _documents(judgement, runs, computed.axis):
        yield name, text.encode(errors="backslashreplace")  # half a surrogate pair is \udc80 in JSON too
    yield "report.md", markdown(shown, listed).encode()
    paths = [name for picture in listed for name in (picture.name, picture.copy) if name]
    yield "index.html", html(shown, interactive, paths).encode()


def _documents(judgement: Judgement, runs: Sequence[StudyRun], axis: Any) -> Iterator[tuple[str, str]]:
    yield "insights.json", to_json(judgement.to_dict())
    yield "results.json", results_json(judgement, runs)
    yield from search_documents(judgement, runs)
    if axis is not None and axis.is_learning_rate and not judgement.parts:
        yield "final_results.json", to_json(final_results(judgement, runs, axis))
        yield "comprehensive_insights.json", to_json(comprehensive_insights(judgement, runs, axis))


def place(out_dir: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Put files, each a relative path and its content, into a report's folder, in one step each, the last one last.

    All are made in a hidden folder first. What only an earlier report had goes before the last.
    Raises: ReportError if that cannot be, or if what would be replaced is not as an earlier report wrote it.
    """
    with (
        refused_as(ReportError, f"report {out_dir}", "cannot be written", "choose another folder with --out"),
        partial_folder(out_dir) as partial,
    ):
        written: dict[str, str] = {}
        for path, content in files:
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            (partial / path).write_bytes(content)
            written[path] = sha256(content).hexdigest()
        with lock(out_dir):
            earlier = _manifest(out_dir)
            replaced = _replaceable(out_dir, written, earlier)
            said = {"schema": MANIFEST_SCHEMA, "files": written, "replaced": replaced}
            (partial / MANIFEST).write_text(to_json(said), encoding="utf-8")
            (partial / MANIFEST).replace(out_dir / MANIFEST)  # first: after a kill among them all are known as ours
            *others, last = written
            for path in others:
                (out_dir / path).parent.mkdir(parents=True, exist_ok=True)
                (partial / path).replace(out_dir / path)
            _remove_stale(out_dir, {path: digests for path, digests in earlier.items() if path not in written})
            (partial / last).replace(out_dir / last)


def _replaceable(out_dir: Path, written: dict[str, str], earlier: dict[str, set[str]]) -> dict[str, str]:
    """Path and digest of each file that lies where a new one goes, or that an earlier report wrote.

    Raises: ReportError if a folder in the report's is a link, as what is behind it is not the report's; or if a file
    there is one that no report wrote, or was changed since.
    """
    for folder in {folder for path in written for folder in PurePosixPath(path).parents}:
        if folder != PurePosixPath() and (out_dir / folder).is_symlink():
            raise ReportError(
                f"report {out_dir / folder}: a link; a report writes nothing outside of its own folder; "
                "remove the link, or choose another folder with --out"
            )
    found: dict[str, str] = {}
    for path, digest in written.items():
        if is_missing(out_dir / path):
            continue
        is_file = (out_dir / path).is_file() and not (out_dir / path).is_symlink()
        lies = sha256((out_dir / path).read_bytes()).hexdigest() if is_file else ""
        if lies not in {digest, *earlier.get(path, ())}:
            raise ReportError(
                f"report {out_dir / path}: not as a report left it; a report replaces nothing but its own files; "
                "move that away, or choose another folder with --out"
            )
        found[path] = lies
    others = {path: sorted(digests)[0] for path, digests in earlier.items() if path not in written}
    return found | others


def _manifest(out_dir: Path) -> dict[str, set[str]]:
    """Path and digests of each file that the reports in a folder have written; empty where nobody says."""
    digests: dict[str, set[str]] = {}
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((out_dir / MANIFEST).read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("schema") == MANIFEST_SCHEMA:
            for listed in (found.get("files"), found.get("replaced")):
                for path, digest in listed.items() if isinstance(listed, dict) else ():
                    digests.setdefault(str(path), set()).add(str(digest))
    return digests


def _remove_stale(out_dir: Path, files: dict[str, set[str]]) -> None:
    """Remove those files that lie in the folder itself, behind no link, as they were written."""
    for name, digests in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            continue
        places = [out_dir / place for place in (path, *path.parents[:-1])]
        if any(place.is_symlink() for place in places) or not places[0].is_file():
            continue
        if sha256(places[0].read_bytes()).hexdigest() in digests:
            places[0].unlink(missing_ok=True)


def write_run(result: RunResult, folder: Path) -> Path:
    """Write one run on its own, `result.json` and `curves.png`, into a folder, and return it.

    Raises: ReportError if the folder cannot be written, or holds other files of these names.
    """
    files = [("curves.png", _curves_of(result))] if result.curve.train_loss else []
    place(folder, [*files, ("result.json", f"{result.model_dump_json(indent=2)}\n".encode())])
    return folder


def _curves_of(result: RunResult) -> bytes:
    """Loss above, learning rate below, over the same updates."""
    losses = [
        {"update": update, "loss": loss, "set": "training"}
        for update, loss in enumerate(result.curve.train_loss, 1)
        if loss is not None
    ] + [{"update": e.update, "loss": e.validation.loss, "set": "validation"} for e in result.evaluations]
    rates = [{"update": update, "rate": rate} for update, rate in enumerate(result.curve.learning_rate, 1)]
    x: Any = alt.X("update:Q", title="updates", scale=alt.Scale(domain=[0, len(rates)], nice=False))
    y: Any = alt.Y("loss:Q", title="loss (nats per token)", scale=alt.Scale(zero=False))
    colour: Any = alt.Color(
        "set:N",
        scale=alt.Scale(domain=["training", "validation"], range=[LIGHT.other, LIGHT.accent]),
        legend=alt.Legend(title=None, orient="top"),
    )
    base = alt.Chart(alt.Data(values=losses)).encode(x=x, y=y, color=colour)
    training = base.transform_filter("datum.set === 'training'").mark_line(strokeWidth=1)
    validation = base.transform_filter("datum.set === 'validation'")
    evaluated = (validation.mark_line(strokeWidth=2), validation.mark_point(filled=True, size=40))
    rate = (
        alt.Chart(alt.Data(values=rates))
        .mark_line(color=LIGHT.fresh, strokeWidth=1.5)
        .encode(x=x, y=alt.Y("rate:Q", title="learning rate", axis=alt.Axis(tickCount=3, format="~g")))
    )
    views = [layered([training, *evaluated], width=620, height=320), layered([rate], width=620, height=90)]
    said = f"seed {result.recipe['seed']}, {result.num_tokens:,} tokens; {result.status}"
    return png(finished(stacked(views, spacing=14), f"Run {result.fingerprint}", said))


# --- Templates ---

_MINUS = re.compile(r"(?<![\w.)\]-])-(?=[\d∞])")


def html(page: Page, figures: PageFigures, pictures: Sequence[str]) -> str:
    """The page, with style, scripts and data inside it."""
    shown = (figures.main, *figures.of_kind, *figures.curves, figures.each_arm)
    drawn = [figure for figure in shown if figure is not None]
    return rendered(
        "index.html",
        page=page,
        figures=figures,
        specs={figure.name: figure.spec for figure in drawn},
        pictures=pictures,
        vega=Markup(vega_script()) if drawn else None,
    )


def markdown(page: Page, pictures: Sequence[Drawn]) -> str:
    """The same in GitHub's Markdown; pictures of single arms are left to their folder."""
    shown = [picture for picture in pictures if "/individual/" not in picture.name]
    return rendered("report.md", page=page, pictures=shown)


def rendered(template: str, **held: Any) -> str:
    """A template filled, with what HTML cannot hold replaced; of Markdown no two empty lines in a row."""
    html = template.endswith(".html")
    held |= {"light": Markup(css_variables(LIGHT)), "dark": Markup(css_variables(DARK))} if html else {}
    text = drawable(_environment(html=html).get_template(template).render(**held))
    return text if html else re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


@cache
def _environment(*, html: bool) -> Environment:
    """It keeps its templates compiled."""
    environment = Environment(
        loader=PackageLoader("blueberry.report"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_typeset if html else _escape_markdown,
    )
    environment.filters["code"] = _code
    return environment


def _typeset(value: Any) -> Any:
    """A true minus before numbers; what is already markup is left alone."""
    return _MINUS.sub("\N{MINUS SIGN}", value) if isinstance(value, str) and not isinstance(value, Markup) else value


class _Plain(str):
    """Markdown that is meant as it stands."""


def _escape_markdown(value: Any) -> Any:
    """Text that Markdown, and the HTML inside it, show as it is: on one line, with nothing to act on."""
    if not isinstance(value, str) or isinstance(value, _Plain):
        return value
    text = re.sub(r"\s+", " ", value)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|~$])", r"\\\1", text)
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # inside a word it is no emphasis
    text = re.sub(r"\](?=[(\[:])", r"\\]", text)
    return re.sub(r"^([#+-]|\d+[.)])(?=\s)", r"\\\1", text)


def _code(value: str) -> str:
    """A code span, also in a table."""
    text = re.sub(r"\s+", " ", str(value)).replace("`", "'").replace("|", "\\|")
    return _Plain(f"`{text}`")
