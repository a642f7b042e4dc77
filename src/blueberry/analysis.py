"""What others made: tables, judged as our own runs are, and what the doctor finds in studies, tables and reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blueberry.errors import ReportError
from blueberry.files import refused_as
from blueberry.judge.audits import audit
from blueberry.judge.audits.design import audit_histories, histories
from blueberry.judge.evidence import measure
from blueberry.judge.judgement import Audit, Judgement, blocking_first, placed
from blueberry.judge.studies import gather_table, judge_table
from blueberry.judge.words import MIN_EFFECT_NATS
from blueberry.proofread import Document
from blueberry.proofread import examine as proofread
from blueberry.records import Goal
from blueberry.stats.noise import Borrowed, read_sigma
from blueberry.tables.reading import MARKDOWN, read_table, table_of
from blueberry.tables.roles import differing_settings
from blueberry.tables.rows import Table
from blueberry.tables.runs import TableRuns, table_in_parts, table_runs


@dataclass(frozen=True)
class Analysed:
    """A table, judged."""

    found: TableRuns
    judgement: Judgement
    is_effect_stated: bool = True
    """Whether somebody said which difference matters; else it is the default."""

    @property
    def notes(self) -> tuple[str, ...]:
        """How the table was understood: lines for a person."""
        table = self.found.table
        named = [f"{given} is read as {meaning}" for given, meaning in table.renamed.items()]
        understood = (f"{table.name}: {'; '.join(named)}",) if named else ()
        return (*table.notes, *understood, *self.found.notes, *self._proposed())

    def _proposed(self) -> list[str]:
        """A smallest difference that matters, in units of how runs scatter, where none was stated."""
        judged, noise = self.judgement, self.judgement.noise
        sd = noise.borrowed_sd or noise.sd
        if self.is_effect_stated or not sd:
            return []
        taken = f"{self.found.table.name}: no --min-effect was stated; {judged.min_effect:g} is taken"
        return [
            f"{taken}, {judged.min_effect / sd:.2g} times what runs of one arm scatter by; half of that is {sd / 2:.2g}"
        ]

    def report(self, folder: Path) -> Path:
        """Write the report; returns its `index.html`. Raises: ReportError if the folder cannot be written."""
        from blueberry.report import write  # drawing is slow to load, and only this needs it

        return write(self.judgement, self.found.runs, folder)


def examine(
    rows_or_path: Any,
    *,
    vary: Sequence[str] | str,
    across: Sequence[str] | str = (),
    tune: Sequence[str] | str = (),
    metric: str | None = None,
    goal: Goal | None = None,
    seed: str | None = None,
    name_pattern: str | None = None,
    at: float | None = None,
    min_effect: float | None = None,
    alpha: float = 0.05,
    sigma: float | str | Borrowed | None = None,
    target: float | None = None,
) -> Analysed:
    """Read a table and judge its runs. See `analyse`."""
    vary, across, tune = ([names] if isinstance(names, str) else list(names) for names in (vary, across, tune))
    is_path = isinstance(rows_or_path, (str, Path))
    wanted = [*vary, *across, *tune, *(name for name in (metric, seed) if name is not None)]
    how: dict[str, Any] = {"wanted": wanted, "name_pattern": name_pattern}
    table = read_table(rows_or_path, metric=metric, **how) if is_path else table_of(rows_or_path, **how)
    found = table_in_parts(table, vary, across=across, tune=tune, metric=metric, goal=goal, seed=seed, at=at)
    borrowed = sigma if sigma is None or isinstance(sigma, Borrowed) else read_sigma(sigma)
    effect = MIN_EFFECT_NATS if min_effect is None else min_effect
    judged = judge_table(found, min_effect=effect, alpha=alpha, borrowed=borrowed, target=target)
    return Analysed(found, judged, is_effect_stated=min_effect is not None)


def analyse(
    rows_or_path: Any,
    *,
    vary: Sequence[str] | str,
    across: Sequence[str] | str = (),
    tune: Sequence[str] | str = (),
    metric: str | None = None,
    goal: Goal | None = None,
    seed: str | None = None,
    name_pattern: str | None = None,
    at: float | None = None,
    min_effect: float | None = None,
    alpha: float = 0.05,
    sigma: float | str | Borrowed | None = None,
    target: float | None = None,
) -> Judgement:
    """What runs that were trained elsewhere support.

    `rows_or_path` is a file or a folder (docs/tables.md), a list of dicts, one a run, or anything with
    `.to_dict("records")`, such as a data frame. `vary` names the columns that tell arms apart. `across` names those
    whose every combination is a condition to compare them under, and `tune` those in which each arm has values to
    choose its best from. `metric` names the one that judges (the validation loss, or the one loss there is); `goal`
    says "maximize" where more of it is better. `seed` names the column that says which runs share a seed, where its own
    name does not. `name_pattern`, such as "lr{lr}_wd{weight_decay}", says which settings stand in the names of runs.
    `at` is an update to judge all runs at, where rows are their steps.
    `min_effect`, in the metric's unit, is the smallest difference that matters (0.005 if it is not said). `sigma` is
    the sd of one run, in that unit, borrowed from other runs: a number taken as known, or "0.0013/10" where it was
    measured over 10 runs. What is claimed with it says so; single runs can be compared. `target` is a value of the
    metric that was fixed beforehand: from where on the runs of each arm clear it is said.
    Raises: TableError, one line, for whatever is wrong with the table.
    """
    given: dict[str, Any] = {"metric": metric, "goal": goal, "seed": seed, "name_pattern": name_pattern, "at": at}
    given |= {"min_effect": min_effect, "alpha": alpha, "sigma": sigma, "target": target}
    return examine(rows_or_path, vary=vary, across=across, tune=tune, **given).judgement


@dataclass(frozen=True)
class Checkup:
    """What the doctor found, blocking findings first."""

    audits: tuple[Audit, ...]
    notes: tuple[str, ...] = field(default=())
    """How the files were understood: lines for a person."""

    @property
    def is_blocked(self) -> bool:
        return any(finding.severity == "block" for finding in self.audits)

    def to_dict(self) -> dict[str, Any]:
        return {"audits": [finding.model_dump() for finding in self.audits]}


def checkup(
    paths: Sequence[Path],
    *,
    vary: Sequence[str] = (),
    metric: str | None = None,
    goal: Goal | None = None,
    seed: str | None = None,
    name_pattern: str | None = None,
    store: str | Path | None = None,
) -> Checkup:
    """Audit studies (.toml), reports (.md) and tables of runs (anything else that `analyse` reads).

    A report is read as a table of runs too when `vary` is given, or `metric` and no other table. Without `vary`, arms
    are told apart by as few of a table's settings as do (see `differing_settings`). `metric`, `goal`, `seed` and
    `name_pattern` as for `analyse`. A study's runs are looked up in `store`.
    Raises: StudyError, TableError or ReportError, one line.
    """
    found: list[Audit] = []
    notes: list[str] = []
    studies = [path for path in paths if path.suffix == ".toml"]
    reports = [path for path in paths if path.suffix.lower() in MARKDOWN]
    names = told_apart(paths)
    documents = [Document.read(names[path], _text(path)) for path in reports]
    wanted = [*vary, *(name for name in (metric, seed) if name is not None)]
    others = [path for path in paths if path not in studies and path not in reports]
    read_too = reports if vary or (metric is not None and not others) else []
    how_read: dict[str, Any] = {"wanted": wanted, "metric": metric, "name_pattern": name_pattern}
    tables = {path: _table(path, names, how_read) for path in others}
    for path in studies:
        found += placed(_of_study(path, store), names[path])
    in_reports, how = proofread(documents, list(tables.values()), [names[path] for path in read_too])
    found += in_reports
    notes += how
    tables |= {path: _table(path, names, how_read) for path in read_too}
    for path, table in tables.items():
        chosen = tuple(vary) or differing_settings(table)
        if not vary:
            notes.append(f"{table.path}: arms differ in {', '.join(chosen)}; --vary says otherwise")
        runs = table_runs(table, chosen, metric, goal=goal, seed=seed)
        notes += [*table.notes, *runs.notes]
        found += placed(
            [one for one in audit(measure(gather_table(runs))) if one.audit != "min-effect"], names[path]
        )  # nobody asked which differences matter
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


def _table(path: Path, names: Mapping[Path, str], how: Mapping[str, Any]) -> Table:
    """With its rows under the file's name here."""
    table = read_table(path, **how)
    return replace(table, rows=tuple(replace(row, place=_renamed(row.place, path, names)) for row in table.rows))


def _renamed(place: str, path: Path, names: Mapping[Path, str]) -> str:
    """Of a run in a file; one in a folder has a name of its own."""
    return names[path] + place.removeprefix(path.name) if place.startswith(path.name) else place


def _raw(path: Path) -> Any:
    """The whole of a JSON file: lists in it, which are no columns, may be the rates really used."""
    return json.loads(path.read_text(encoding="utf-8-sig")) if path.suffix.lower() == ".json" else []


def _text(path: Path) -> str:
    remedy = "the doctor reads a study, a table or a report, which is Markdown; mend the path"
    if not path.exists():
        raise ReportError(f"{path}: no such file; {remedy}")
    with refused_as(ReportError, path, "cannot be read", remedy):
        return path.read_text(encoding="utf-8-sig")
