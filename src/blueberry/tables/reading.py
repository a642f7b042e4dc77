"""From a file, a folder or objects to a table: which reader fits, and what its columns are."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from blueberry.errors import TableError
from blueberry.files import refused_as
from blueberry.records import Goal
from blueberry.tables import tools, trackers
from blueberry.tables.columns import LONGEST_NAME, kind_by_name, scale_of, understood, unit_in
from blueberry.tables.formats import read_delimited, read_json, read_json_lines, read_log, read_markdown
from blueberry.tables.names import named_by, with_named_settings, with_steps_in_names, without_summaries
from blueberry.tables.rows import (
    STEPS,
    Found,
    Placed,
    Row,
    Table,
    duration_of,
    first_of_two_parts,
    flat,
    is_finite,
    value_of,
)

LARGEST_BYTES = 500_000_000
"""Of a file; a table of runs is far smaller."""
JSON_LINES = (".jsonl", ".ndjson")
MARKDOWN = (".md", ".markdown")
SEPARATED = (".csv", ".tsv")
LOGS = (".log", ".txt")


def read_table(
    path: str | Path, *, wanted: Sequence[str] = (), metric: str | None = None, name_pattern: str | None = None
) -> Table:
    """Read the runs of a file or, for exports of other tools, of a folder.

    `wanted` are columns that the caller needs: among the tables of a Markdown document they choose. `metric` is what
    was measured, which a Markdown table with a run in each cell may not say. `name_pattern` says which settings stand
    in the names of runs (`blueberry.tables.names`).
    Raises: TableError if it cannot be read, is no table or holds no run.
    """
    path = Path(path)
    with refused_as(TableError, path, "cannot be read", "give a readable table, or a folder of runs"):
        found = _of_a_tool(path)
    if found is None:
        text, encoded = _text(path)
        read, notes = _rows_in(path, text, [one for one in wanted if one not in named_by(name_pattern)], metric)
        rows = [(f"{path.name} {where}".strip(), values) for where, values in read]
        found = Found(tuple(rows), (*encoded, *notes))
    return _table(str(path), path.stem, found, wanted, name_pattern)


def _rows_in(
    path: Path, text: str, wanted: Sequence[str] = (), metric: str | None = None
) -> tuple[Sequence[Placed], list[str]]:
    """What a file's text holds, and what a person should know of it."""
    kind = _kind(path, text)
    if kind == "markdown":
        return read_markdown(text, path.name, wanted, metric)
    if path.suffix.lower() in LOGS and (logged := read_log(text)):
        return logged, []
    if kind == "delimited":
        rows, notes = read_delimited(text, path.name, metric)
        of_a_chart = rows and all(any(name.endswith(end) for name in rows[0][1]) for end in trackers.CHART_ENDS)
        return trackers.chart_runs(rows, path.name) if of_a_chart else (rows, notes)
    return list({"json lines": read_json_lines, "json": read_json}[kind](text, path.name)), []


def table_of(rows: Any, name: str = "rows", *, wanted: Sequence[str] = (), name_pattern: str | None = None) -> Table:
    """A table of objects in memory: dicts, one a run, or anything with `.to_dict("records")` such as a data frame.

    Raises: TableError if a row is no dict or there is none.
    """
    if hasattr(rows, "to_dict"):
        rows = rows.to_dict("records")
    if not isinstance(rows, Iterable) or isinstance(rows, (str, bytes, dict)):
        raise TableError(f"{name}: {type(rows).__name__}; rows are dicts, one a run; give a list of them, or a path")
    read: list[Placed] = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise TableError(f"{name} {number}: {type(row).__name__}; each row must be a dict; give a list of dicts")
        values = flat({str(column): value for column, value in row.items()})
        # a data frame of MLflow's runs has every parameter as text
        of_mlflow = {n: value_of(v) for n, v in values.items() if n.startswith("params.") and isinstance(v, str)}
        read.append((f"{name} {number}", values | of_mlflow))
    return _table(name, name, Found(tuple(read)), wanted, name_pattern)


def _files(folder: Path) -> Iterator[Placed]:
    """Tables and logs of a folder, one file an arm or a run: the rows of all that have a result in them, each with the
    name of its file, and where files lie in several folders that of its folder. Files that are only numbered, or called
    by a hash, are logs of runs that no name tells apart.
    """
    read: list[tuple[Path, Sequence[Placed]]] = []
    for path in tools.files_in(folder, *SEPARATED, *JSON_LINES, *LOGS):
        text, _ = _text(path)
        found = read_log(text) if path.suffix.lower() in LOGS else _rows_in(path, text)[0]
        if any(kind_by_name(column) == "result" for column in (found[0][1] if found else ())):
            read.append((path, found))
    several = len({path.parent for path, _ in read}) > 1
    own = "log" if all(_UNNAMED.fullmatch(path.stem.casefold()) for path, _ in read) else "name"
    for path, found in read:
        name = tools.place_of(path.with_suffix(""), folder)
        given = {"folder": tools.place_of(path.parent, folder)} if several else {}
        for where, values in found:
            yield f"{name} {where}", {**given, "file" if own in values else own: name, **values}


_UNNAMED = re.compile(r"(?:run|seed|rep|log|train)?[_-]?\d+|[0-9a-f]{6,}(?:-[0-9a-f]+)*")


def _table(path: str, name: str, found: Found, wanted: Sequence[str] = (), name_pattern: str | None = None) -> Table:
    if not found.rows:
        raise TableError(f"{path}: no run in it; a table has a row for each run; fill it")
    steps = {where: values[STEPS] for where, values in found.rows if STEPS in values}
    whole = [(where, {one: v for one, v in values.items() if one != STEPS}) for where, values in found.rows]
    columns = {column for _, values in whole for column in values}
    rows, objectives = tools.trials_frame(whole) if columns & tools.TRIAL_COLUMNS else (whole, {})
    rows, left_out = without_summaries(rows)
    columns = list(dict.fromkeys(column for _, values in rows for column in values))
    longest = max(columns, key=len)
    if len(longest) > LONGEST_NAME:
        rule = f"a column's name has at most {LONGEST_NAME}"
        raise TableError(f'{path} "{longest[:40]}...": {len(longest)} characters; {rule}; rename it')
    rows, read_from_names = with_named_settings(rows, wanted, name_pattern, path)
    if not (found.are_runs or steps):
        rows, read_from_steps = with_steps_in_names(rows)
        read_from_names += read_from_steps
    shares = {name for _, values in rows for name, value in values.items() if is_finite(value) and value % 1}
    renamed = understood(column for _, values in rows for column in values)
    renamed = {name: meaning for name, meaning in renamed.items() if meaning != "status" or name not in shares}
    times = [column for column in columns if renamed.get(column, column) == "train_seconds"]
    clocks = {name: first_of_two_parts(unit_in(name), [values.get(name) for _, values in rows]) for name in times}

    def known(values: Mapping[str, Any]) -> dict[str, Any]:
        """Under the names that were understood, times in seconds and counts without their unit."""
        return {renamed.get(n, n): _counted_out(n, renamed.get(n, n), v, clocks.get(n)) for n, v in values.items()}

    made = tuple(Row(place, known(values), tuple(map(known, steps.get(place, ())))) for place, values in rows)
    goals: dict[str, Goal | None] = {
        renamed.get(column, column): goal for column, goal in (found.objectives or objectives).items()
    }
    are_runs = found.are_runs or bool(goals)
    left_out = [f"{name}: {line}" for line in left_out]
    return Table(path, name, made, renamed, (*found.notes, *left_out, *read_from_names), goals, are_runs)


def _counted_out(column: str, meaning: str, value: Any, first_of_two: float | None) -> Any:
    scale = scale_of(column, meaning)
    if meaning == "train_seconds":
        return value * scale if is_finite(value) else duration_of(value, first_of_two)
    if scale == 1 or not is_finite(value):
        return value
    exact = Decimal(repr(value)) * Decimal(repr(scale))  # 2.3 million are 2300000, not 2299999.9999999995
    return int(exact) if exact == int(exact) else float(exact)


def _text(path: Path) -> tuple[str, list[str]]:
    """A file's text, and a line on its encoding where that is not what it should be."""
    remedy = "a table is UTF-8 text: CSV, JSON, JSON Lines or Markdown; mend the path or export it so"
    with refused_as(TableError, path, "cannot be read", remedy):
        if not path.exists():
            raise TableError(f"{path}: no such file; give a CSV, JSON, JSON Lines or Markdown file")
        if path.stat().st_size > LARGEST_BYTES:
            limit = f"a table may have {LARGEST_BYTES // 10**6} MB"
            raise TableError(f"{path}: {path.stat().st_size // 10**6} MB; {limit}; leave out what is no run's number")
        given = path.read_bytes()
        if given[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return given.decode("utf-16"), []
        try:
            return given.decode("utf-8-sig"), []
        except UnicodeDecodeError:
            if _CONTROL.search(given):
                raise
            return given.decode("cp1252"), [
                f"{path.name}: not UTF-8; read as Windows-1252 (cp1252), as older tools write"
            ]


_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
"""Bytes that no text has, in whatever encoding."""


def _kind(path: Path, text: str) -> str:
    """By the file's suffix; for others, by how its text begins."""
    suffix = path.suffix.lower()
    if suffix in JSON_LINES:
        return "json lines"
    if suffix in MARKDOWN:
        return "markdown"
    if suffix in SEPARATED:
        return "delimited"
    start = text.lstrip()[:1]
    if start == "{":
        lines = [line for line in text.splitlines() if line.strip()]
        has_another = len(lines) > 1 and lines[0].rstrip().endswith("}") and lines[1].lstrip().startswith("{")
        return "json lines" if has_another else "json"
    if start == "[" or suffix == ".json":
        return "json"
    return "markdown" if start == "|" or (start == "#" and "|" in text) else "delimited"


# --- Files of other tools ---

OF_A_RUN = {"metrics.csv": "hparams.yaml", "result.json": "params.json", "progress.csv": "params.json",
            "wandb-summary.json": "wandb-summary.json"}  # fmt: skip
"""Files that mean something only with the one beside them, in the folder of their run."""
JOURNAL = b'{"op_code":'


def _of_a_tool(path: Path) -> Found | None:
    """Every run of a folder, by whichever of these tools wrote it, or of one of their files; None where a file is none
    of these, and so a table.

    Raises: TableError if no tool wrote a folder, or a library that reads its files is not installed.
    """
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(len(tools.SQLITE) + len(JOURNAL))
        if path.suffix == ".wandb":
            return Found((trackers.wandb_log(path),), are_runs=True)
        if "tfevents" in path.name:
            return Found(tuple(trackers.tensorboard_runs(path)), are_runs=True)
        if start.startswith(tools.SQLITE):
            return _of_database(path)
        if not (path.name in OF_A_RUN and path.with_name(OF_A_RUN[path.name]).is_file()):
            return tools.optuna_journal(path) if start.replace(b" ", b"").startswith(JOURNAL) else None
    elif not path.is_dir():
        return None
    folder = path if path.is_dir() else path.parent
    for reader in _READERS:
        if found := tuple(reader(folder)):
            return Found(found, are_runs=True)
    for file in sorted(folder.iterdir()):
        if tools.is_sqlite(file):
            return _of_database(file)
    if found := tuple(_files(folder)):
        return Found(found)
    raise TableError(
        f"{path}: a folder without runs; it must have tfevents files, *.wandb or wandb-summary.json, metrics.csv "
        "(Lightning), trainer_state.json, result.json (Ray Tune), meta.yaml (MLflow), or JSON or CSV files; "
        "give one that has, or a table"
    )


def _of_database(path: Path) -> Found:
    with tools.database(path) as opened:
        if opened.has(tools.OPTUNA_TABLES):
            return tools.optuna_database(opened)
        if opened.has(trackers.MLFLOW_TABLES):
            return Found(tuple(trackers.mlflow_database(opened)), are_runs=True)
    raise TableError(f"{path}: a database of neither Optuna nor MLflow; write its runs as CSV")


_READERS: tuple[Callable[[Path], Iterator[Placed]], ...] = (
    trackers.wandb_runs, trackers.mlflow_folders, tools.ray_trials, tools.trainer_runs, tools.lightning_runs,
    trackers.tensorboard_runs, tools.result_files,
)  # fmt: skip
"""The first that finds a run in a folder reads it: tools that write more come before those that others write too."""
