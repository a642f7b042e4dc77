"""A judged study as figures, a page, Markdown and JSON. Everything is computed before anything is drawn.

`write(judgement, runs, folder)` does it all: `runs` are those of the judgement, wherever they were trained. Here stands
which files a report has, what is in those that are JSON, and how they get into a folder. Who imports this pays for
altair (0.4 s) and scipy (0.8 s): the floors above do when they write.
"""

import contextlib
import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from statistics import fmean, stdev
from typing import Any

import altair as alt
from altair.utils.schemapi import debug_mode

from blueberry.errors import ReportError
from blueberry.files import is_missing, lock, partial_folder, refused_as
from blueberry.judge.judgement import Judgement, Optimum, Part, plain, why_withheld
from blueberry.judge.studies import as_part, of_an_arm
from blueberry.judge.words import is_rate
from blueberry.records import RunResult, StudyRun
from blueberry.report.charts import LIGHT, Axis, find_axis, layered, png, stacked
from blueberry.report.figures import compute, file_name, finished, page_figures, pictures, rate_names
from blueberry.report.learning_curves import by_seed
from blueberry.report.page import Page, html, markdown, rendered
from blueberry.study.spec import Study

MANIFEST = ".blueberry-report.json"
"""Of a report's folder: which files the report in it has written, and the one before it, each with the sha256 of its
content. The next report replaces and removes those that are as they were written, and nothing else."""
MANIFEST_SCHEMA = "blueberry/report-files/1"
RESULTS_SCHEMA = "blueberry/results/1"

MOST_FILES = 200
"""Of single rates; all of them stand in one file too."""
METRICS = (
    *(f"{which}_{what}" for which in ("val", "test") for what in ("loss", "bits_per_byte", "accuracy", "perplexity")),
    "train_loss",
)
"""Of every run, by the names that studies use; null where it was not measured."""


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
    return rendered("notebook.html", page=Page(judgement, ()), metric=judgement.metric, picture=picture, caption=said)


def _files(judgement: Judgement, runs: Sequence[StudyRun], study: Study | None) -> Iterator[tuple[str, bytes]]:
    """Relative path and content of every file, the page last."""
    computed = compute(judgement, runs)
    shown = Page(judgement, runs, study)
    listed = []
    # Altair checks each part against its schema as it is made; the tests do that, and a reader need not wait for it.
    with debug_mode(False):
        for picture in pictures(computed):
            image = png(picture.spec)
            yield from ((name, image) for name in (picture.name, picture.copy) if name)
            listed.append(picture)
        interactive = page_figures(computed)
    for name, text in _documents(judgement, runs):
        yield name, text.encode(errors="backslashreplace")  # half a surrogate pair is \udc80 in JSON too
    yield "report.md", markdown(shown, listed).encode()
    paths = [name for picture in listed for name in (picture.name, picture.copy) if name]
    yield "index.html", html(shown, interactive, paths).encode()


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


# --- The files that are JSON ---


def to_json(value: Any) -> str:
    """Indented; NaN and infinity are our own bugs."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def _documents(judgement: Judgement, runs: Sequence[StudyRun]) -> Iterator[tuple[str, str]]:
    axis = find_axis(judgement)
    yield "insights.json", to_json(judgement.to_dict())
    yield "results.json", results_json(judgement, runs)
    yield from search_documents(judgement, runs)
    if axis is not None and axis.is_learning_rate and not judgement.parts:
        yield "final_results.json", to_json(final_results(judgement, runs, axis))
        yield "comprehensive_insights.json", to_json(comprehensive_insights(judgement, runs, axis))


def results_json(judgement: Judgement, runs: Sequence[StudyRun]) -> str:
    """`results.json`: every run with its settings, metrics and curves, one line a run."""
    settings = {("", arm.arm): arm.settings for arm in judgement.arms}
    for part in judgement.parts:
        settings |= {(part.name, arm.arm): {**part.settings, **arm.settings} for arm in part.judgement.arms}
    head = {"schema": RESULTS_SCHEMA, "question": judgement.question, "metric": judgement.metric}
    lines = [
        json.dumps(
            plain(_run(run, settings.get((run.part, run.arm), dict(run.settings)))), ensure_ascii=False, allow_nan=False
        )
        for run in runs
    ]
    opening = json.dumps(head, ensure_ascii=False, allow_nan=False)[:-1]
    return f'{opening}, "runs": [\n' + ",\n".join(lines) + "\n]}\n"


def final_results(judgement: Judgement, runs: Sequence[StudyRun], axis: Axis) -> list[dict[str, Any]]:
    """`final_results.json` of a learning-rate sweep: one flat row a run, by rate, stage and seed."""
    rates = {arm.arm: float(arm.settings[axis.setting]) for arm in judgement.arms}
    rows = []
    stages = {"search": 0, "compare": 1, "confirm": 2}
    for run in sorted(runs, key=lambda run: (stages[run.stage], rates[run.arm], run.arm, by_seed(run))):
        result = run.result
        rows.append(
            {
                "learning_rate": rates[run.arm],
                "arm": run.arm,
                "seed": run.seed,
                "stage": run.stage,
                "status": result.status,
                "final_loss": result.metric("val_loss"),
                "final_accuracy": result.metric("val_accuracy"),
                "final_perplexity": result.metric("val_perplexity"),
                "final_train_loss": result.metric("train_loss"),
                "training_time": result.train_seconds,
                "updates": result.num_updates or None,
                "tokens": result.num_tokens or None,
            }
        )
    return rows


def comprehensive_insights(judgement: Judgement, runs: Sequence[StudyRun], axis: Axis) -> dict[str, Any]:
    """`comprehensive_insights.json`: the judgement, statistics by rate, and what is recommended for which purpose.

    A purpose without support says so: {"supported": false, "because": ...}.
    """
    return {
        "insights": judgement.to_dict(),
        "statistics": [_statistics(arm.arm, arm.settings[axis.setting], runs) for arm in judgement.arms],
        "recommendations": _recommendations(judgement, axis),
    }


def _recommendations(judgement: Judgement, axis: Axis) -> dict[str, Any]:
    said = {}
    for purpose in judgement.purposes:
        if purpose.evidence is None:
            said[purpose.purpose] = {"supported": False, "because": purpose.because}
            continue
        name = "learning_rate_from" if purpose.purpose == "avoid" else "learning_rate"
        rate = (purpose.settings or {}).get(axis.setting)
        said[purpose.purpose] = {"supported": True, name: rate, "meaning": purpose.evidence}
    return said


def _statistics(arm: str, rate: Any, runs: Sequence[StudyRun]) -> dict[str, Any]:
    """Over the searching runs that completed; the others are counted."""
    own = [run.result for run in runs if run.arm == arm and run.stage == "search"]
    completed = [result for result in own if result.status == "completed"]

    def of(metric: str) -> list[float]:
        return [value for result in completed if (value := result.metric(metric)) is not None]

    def over(values: list[float]) -> dict[str, float | None] | None:
        if not values:
            return None
        sd = stdev(values) if len(values) > 1 else None
        return {"mean": fmean(values), "sd": sd, "min": min(values), "max": max(values)}

    return {
        "learning_rate": rate,
        "arm": arm,
        "runs": len(own),
        "completed": len(completed),
        "diverged": sum(result.status == "diverged" for result in own),
        "loss": over(of("val_loss")),
        "accuracy": over(of("val_accuracy")),
        "perplexity": over(of("val_perplexity")),
        "training_time": over([one.train_seconds for one in own if one.train_seconds is not None]),
    }


def _run(run: StudyRun, settings: dict[str, Any]) -> dict[str, Any]:
    result = run.result
    return {
        **({"part": run.part} if run.part else {}),
        "arm": run.arm,
        "seed": run.seed,
        "stage": run.stage,
        "status": result.status,
        "fingerprint": result.fingerprint,
        "settings": settings,
        "metrics": {**{name: result.metric(name) for name in METRICS}, **result.extra},
        "failure": result.failure.model_dump() if result.failure else None,
        "updates": result.num_updates or None,
        "tokens": result.num_tokens or None,
        "flops": result.num_flops or None,
        "train_seconds": result.train_seconds,
        "curves": {
            "train_loss": list(result.curve.train_loss),
            "gradient_norm": list(result.curve.gradient_norm),
            "learning_rate": list(result.curve.learning_rate),
            "evaluations": [evaluation.model_dump() for evaluation in result.evaluations],
        },
        "document_losses": [share.model_dump() for share in result.document_losses],
        "recipe": result.recipe,
        "provenance": result.provenance.model_dump() if result.provenance else None,
    }


def search_documents(judgement: Judgement, runs: Sequence[StudyRun]) -> Iterator[tuple[str, str]]:
    """`lr_search_results.json`, `lr_recommendation.json` and, up to MOST_FILES, a file a rate; nothing unless parts
    sweep a rate, or one was searched for over one model."""
    alone = [as_part(judgement)] if judgement.is_located else []
    swept = [part for part in judgement.parts or alone if part.judgement.vary and is_rate(part.judgement.vary[0])]
    if not swept:
        return
    rows = {part.name: _rows(part, runs) for part in swept}
    recommended = {part.name: _recommendation(part, judgement) for part in swept}
    yield "lr_search_results.json", to_json(rows if judgement.parts else rows[""])
    yield "lr_recommendation.json", to_json(recommended if judgement.parts else recommended[""])
    if sum(len({row["learning_rate"] for row in own}) for own in rows.values()) > MOST_FILES:
        return
    for name, own in rows.items():
        names = rate_names(sorted({row["learning_rate"] for row in own}))
        for rate, said in names.items():
            at_rate = [row for row in own if row["learning_rate"] == rate]
            folder = f"results/{file_name(name)}" if name else "results"
            yield f"{folder}/lr_{said}.json", to_json(at_rate)


def _rows(part: Part, runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    axis = find_axis(part.judgement)
    return [] if axis is None else final_results(part.judgement, [run for run in runs if run.part == part.name], axis)


def _recommendation(part: Part, whole: Judgement) -> dict[str, Any]:
    """By the rule that the whole study is judged by: a rate that the report recommends is supported here too.

    A condition's best is claimed as that of a study by itself. An arm's own best only has to be no end of its range;
    what else its search leaves open, its fresh seeds show the cost of: `open` says it.
    """
    judgement, found = part.judgement, part.judgement.optimum
    best = judgement.best
    against = judgement.audits if whole.conditions or not whole.parts else of_an_arm(part, whole)
    reason = why_withheld(against)
    coverage = [one.model_dump() for one in part.covers]
    if best is None or reason is not None:
        return {"supported": False, "because": reason or "no rate has a finite result", "coverage": coverage}
    return {
        "supported": True,
        "learning_rate": best.settings[judgement.vary[0]],
        "mean": best.mean,
        "interval": best.interval,
        "n": best.n,
        "not_told_apart": list(judgement.unresolved),
        "open": why_withheld([audit for audit in judgement.audits if audit not in against]),
        "optimum": {"estimate": found.estimate, "interval": found.interval} if isinstance(found, Optimum) else None,
        "coverage": coverage,
    }


# --- Into a folder ---


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
