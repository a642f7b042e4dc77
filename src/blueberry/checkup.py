"""What the doctor looks at: studies, tables and reports, each alone and those given together against each other."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blueberry.errors import ReportError, TableError
from blueberry.judge.doctor import audit
from blueberry.judge.doctor.findings import blocking_first
from blueberry.judge.doctor.histories import audit_histories, histories
from blueberry.judge.from_rows import gather_rows
from blueberry.judge.judgement import Audit
from blueberry.judge.measured import measure
from blueberry.proofread import Document
from blueberry.proofread import examine as proofread
from blueberry.tables import Table, read_table
from blueberry.tables.columns import MEANINGS
from blueberry.tables.reading import MARKDOWN

METRICS = ("val_loss", "val_bits_per_byte", "val_perplexity", "train_loss")
"""That a table may be judged by, the first that it has."""


@dataclass(frozen=True)
class Checkup:
    """What was found, blocking findings first."""

    audits: tuple[Audit, ...]
    notes: tuple[str, ...] = field(default=())
    """How the files were understood: lines for a person."""

    @property
    def is_blocked(self) -> bool:
        return any(finding.severity == "block" for finding in self.audits)

    def to_dict(self) -> dict[str, Any]:
        return {"audits": [finding.model_dump() for finding in self.audits]}


def examine(paths: Sequence[Path], *, vary: Sequence[str] = (), store: str | Path | None = None) -> Checkup:
    """Audit studies (.toml), reports (.md) and tables of runs (anything else that `analyse` reads).

    A report is read as a table of runs too when `vary` is given. Without it, all columns in which a table's runs
    differ and that are no result tell its arms apart. A study's runs are looked up in `store`.
    Raises: StudyError, TableError or ReportError, one line.
    """
    found: list[Audit] = []
    notes: list[str] = []
    studies = [path for path in paths if path.suffix == ".toml"]
    reports = [path for path in paths if path.suffix.lower() in MARKDOWN]
    names = told_apart(paths)
    documents = [Document.read(names[path], _text(path)) for path in reports]
    tables = {path: _table(path, vary, names) for path in paths if path not in studies and path not in reports}
    for path in studies:
        found += _at(names[path], _of_study(path, store))
    in_reports, how = proofread(documents, list(tables.values()))
    found += in_reports
    notes += how
    tables |= {path: _table(path, vary, names) for path in reports if vary}
    for path, table in tables.items():
        chosen = tuple(vary) or _differing(table)
        if not vary:
            notes.append(f"{table.path}: arms differ in {', '.join(chosen)}; --vary says otherwise")
        found += _at(names[path], _of_table(table, chosen))
        found += audit_histories(histories(_raw(path)), names[path])
    return Checkup(blocking_first(found), tuple(notes))


def told_apart(paths: Sequence[Path]) -> dict[Path, str]:
    """What each file is called: its name, with as many of the folders above it as tell it from the others."""
    whole = {path: path.absolute().parts for path in paths}
    names = {}
    for path, parts in whole.items():
        others = {other for other in whole.values() if other != parts}
        count = next(n for n in range(1, len(parts) + 1) if all(other[-n:] != parts[-n:] for other in others))
        names[path] = "/".join(parts[-count:]).replace("//", "/")
    return names


def _of_study(path: Path, store: str | Path | None) -> Sequence[Audit]:
    from blueberry import api  # it loads what training needs, which tables and reports do not
    from blueberry.study.spec import Study

    return api.audits(Study.load(path, store), Path(store or api.default_store()))


def _table(path: Path, vary: Sequence[str], names: Mapping[Path, str]) -> Table:
    """With its rows under the file's name here."""
    table = read_table(path, wanted=vary)
    return replace(table, rows=tuple(replace(row, place=_renamed(row.place, path, names)) for row in table.rows))


def _renamed(place: str, path: Path, names: Mapping[Path, str]) -> str:
    """Of a run in a file; one in a folder has a name of its own."""
    return names[path] + place.removeprefix(path.name) if place.startswith(path.name) else place


def _of_table(table: Table, vary: Sequence[str]) -> Sequence[Audit]:
    metric = next((name for name in METRICS if name in table.columns), METRICS[0])
    return audit(measure(gather_rows(table, vary=vary, metric=metric)))


def _at(place: str, findings: Sequence[Audit]) -> list[Audit]:
    """Findings whose messages begin with where they were found."""
    return [
        one if one.message.startswith(place) else one.model_copy(update={"message": f"{place}: {one.message}"})
        for one in findings
    ]


def _differing(table: Table) -> tuple[str, ...]:
    """Columns that tell runs apart and are no result: settings. Without any, what names the runs.

    Raises: TableError if there is neither.
    """
    settings, names = [], []
    for column in table.columns:
        values = [row.values.get(column) for row in table.rows]
        distinct = {str(value) for value in values}
        if column in MEANINGS or len(distinct) < 2:
            continue
        is_text = all(isinstance(value, str) for value in values)
        (names if is_text and len(distinct) == len(values) else settings).append(column)
    chosen = settings or (["arm"] if "arm" in table.columns else names[:1])
    if not chosen:
        raise TableError(f"{table.path}: its rows differ in no setting; the doctor compares arms; name one with --vary")
    return tuple(chosen)


def _raw(path: Path) -> Any:
    """The whole of a JSON file: lists in it, which are no columns, may be the rates really used."""
    if path.suffix.lower() != ".json":
        return []
    return json.loads(path.read_text(encoding="utf-8-sig"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ReportError(
            f"{path}: no such file; the doctor reads a study, a table or a report; mend the path"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ReportError(f"{path}: cannot be read ({reason}); a report is Markdown; mend it") from None
