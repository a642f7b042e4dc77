"""Runs as tools leave them in files of their own: how such files are opened (JSON, CSV, YAML, SQLite for reading only);
searches (Optuna, Ray Tune); logs of training libraries (Lightning, the Trainer of transformers); results of scripts.

What is damaged, or needs a library that is not installed, is refused in one line. Trackers have a file of their own.
"""

import csv
import io
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from blueberry.errors import TableError
from blueberry.records import Goal, is_number
from blueberry.tables.columns import kind_by_name
from blueberry.tables.rows import STEPS, Found, Placed, flat, last_of, loads, of_each_seed, trainer_state, value_of

SQLITE = b"SQLite format 3\0"
"""How a database file begins."""


def place_of(folder: Path, root: Path) -> str:
    """What a run in a folder is called: the folder below `root`, or its own name."""
    if folder == root or not folder.is_relative_to(root):
        return folder.absolute().name
    return folder.relative_to(root).as_posix()


def run_in(folder: Path, root: Path, values: Mapping[str, Any], steps: Sequence[Mapping[str, Any]] = ()) -> Placed:
    """The run of a folder, under its name, with what was logged on the way."""
    place = place_of(folder, root)
    return place, {"name": place, **values, **({STEPS: list(steps)} if steps else {})}


def files_in(root: Path, *suffixes: str) -> list[Path]:
    """Those of a folder and of all below it, in order; what is hidden is nobody's result."""
    files = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in suffixes and path.is_file()]
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(root).parts)]


def parsed(text: str | bytes | None, place: str = "") -> Any:
    """What JSON says; None, too, where it is none. Raises: TableError where a key of an object has two values."""
    try:
        return loads(text or "null", place)
    except (ValueError, RecursionError):
        return None


def json_object(path: Path) -> dict[str, Any]:
    """Raises: TableError if the file is no JSON object."""
    read = parsed(path.read_bytes(), f"{path}")
    if not isinstance(read, dict):
        raise TableError(f"{path}: not a JSON object; it must be as its tool wrote it; restore it")
    return read


def logged_in_csv(path: Path) -> list[dict[str, Any]]:
    """What each row of a tool's CSV says; empty cells say nothing."""
    try:
        return [
            {name: value_of(cell) for name, cell in row.items() if name and isinstance(cell, str) and cell.strip()}
            for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")))
        ]
    except csv.Error as broken:
        raise TableError(f"{path}: {broken}; it must be as its tool wrote it; restore it") from None


def logged_in_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a tool's log; none where there is no such file. A line that a kill has torn says nothing."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else ()
    return [said for line in lines if isinstance(said := parsed(line, f"{path}"), dict)]


def yaml_mapping(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, empty where there is none; without its library, those of plain keys and values."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    try:
        import yaml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return _plain_yaml(text, path)

    class Plain(yaml.SafeLoader):
        """What is an object of a program is missing."""

    Plain.add_multi_constructor("", lambda *_: None)
    try:
        read = yaml.load(text, Plain) or {}
    except yaml.YAMLError:
        raise TableError(f"{path}: not plain YAML; it must be as its tool wrote it; restore it") from None
    return read if isinstance(read, dict) else {}


def _plain_yaml(text: str, path: Path) -> dict[str, Any]:
    """`key: value` lines, nested by their indentation; lists of plain values are left out."""
    root: dict[str, Any] = {}
    open_: list[tuple[int, dict[str, Any]]] = [(-1, root)]
    for line in text.splitlines():
        said = line.split(" #")[0].rstrip()
        if not said.strip() or said.lstrip().startswith(("#", "- ", "---")) or said.strip() in ("-", "{}"):
            continue
        indent, (key, colon, value) = len(said) - len(said.lstrip()), said.strip().partition(":")
        if not colon or value.strip()[:1] in ("|", ">", "&", "*", "!", "{"):
            remedy = "pip install 'blueberry-lm[wandb]', or export the runs as CSV"
            raise TableError(f"{path}: YAML beyond plain keys and values; its library is not installed; {remedy}")
        while open_[-1][0] >= indent:
            open_.pop()
        key = key.strip().strip("'\"")
        if value.strip():
            open_[-1][1][key] = value_of(value.strip().strip("'\""))
        else:
            open_[-1][1][key] = {}
            open_.append((indent, open_[-1][1][key]))
    return root


def is_sqlite(path: Path) -> bool:
    """Whether a regular file is an SQLite database, by how it begins."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


class Database:
    """An SQLite file, read and never written."""

    def __init__(self, path: Path, sql: sqlite3.Connection) -> None:
        self.path = path
        self._sql = sql
        self.tables = frozenset(name for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'"))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Raises: TableError if the file is damaged or lacks a column."""
        try:
            return self._sql.execute(query).fetchall()
        except sqlite3.Error as broken:
            raise TableError(f"{self.path}: {broken}; the database must be as its tool wrote it; restore it") from None

    def has(self, names: Sequence[str]) -> bool:
        return self.tables.issuperset(names)


@contextmanager
def database(path: Path) -> Iterator[Database]:
    """Raises: TableError if it cannot be opened."""
    try:
        opened = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
    except sqlite3.Error as broken:
        raise TableError(f"{path}: {broken}; give a database that can be read") from None
    with closing(opened):
        yield Database(path, opened)


Objectives = dict[str, Goal | None]
"""Columns of what a search went by, and which way, where that is known."""
OPTUNA_TABLES = ("studies", "study_directions", "trials", "trial_params", "trial_values")
STATES = ("running", "complete", "pruned", "fail", "waiting")
"""Of a trial, as a journal counts them."""
GOALS: tuple[Goal | None, ...] = (None, "minimize", "maximize")
LONGEST_LINE = 100_000
"""Bytes of a file of Ray Tune in which it is known for one."""
NAMES_KEY = "study:metric_names"
_SPECIAL = {"INF_POS": float("inf"), "INF_NEG": float("-inf"), "NAN": float("nan")}


# --- Optuna ---


def optuna_database(opened: Database) -> Found:
    """Every trial of every study: parameters, what users set, and what it was judged by."""
    studies = dict(opened.rows("SELECT study_id, study_name FROM studies"))
    goals: dict[int, list[Goal | None]] = {}
    for study, _, said in opened.rows("SELECT study_id, objective, direction FROM study_directions ORDER BY objective"):
        goals.setdefault(study, []).append("maximize" if said == "MAXIMIZE" else "minimize")
    attributes = opened.rows("SELECT study_id, key, value_json FROM study_system_attributes")
    names = {study: parsed(text) for study, key, text in attributes if key == NAMES_KEY}
    columns = {study: _columns(len(goals.get(study, ())), names.get(study)) for study in studies}
    values: dict[int, dict[str, Any]] = {}
    trials = opened.rows("SELECT trial_id, number, study_id, state FROM trials ORDER BY study_id, number")
    study_of = {}
    for trial, number, study, state in trials:
        study_of[trial] = study
        values[trial] = {"study": studies.get(study), "number": number, "state": state.lower()}
    for trial, key, text in opened.rows("SELECT trial_id, key, value_json FROM trial_user_attributes"):
        values[trial] |= flat({key: parsed(text)})
    params = "SELECT trial_id, param_name, param_value, distribution_json FROM trial_params"
    for trial, name, value, text in opened.rows(params):
        values[trial][name] = _external(value, parsed(text))
    has_types = any(row[1] == "value_type" for row in opened.rows("PRAGMA table_info(trial_values)"))
    type_ = "value_type" if has_types else "NULL"
    for trial, objective, value, kind in opened.rows(f"SELECT trial_id, objective, value, {type_} FROM trial_values"):
        values[trial][columns[study_of[trial]][objective]] = _SPECIAL.get(kind, value)
    objectives: Objectives = {}
    for study, said in goals.items():
        objectives |= dict(zip(columns[study], said, strict=False))
    if len(studies) < 2:
        for one in values.values():
            del one["study"]
    rows = tuple((f"trial {one['number']}", one) for one in values.values())
    return Found(rows, objectives=objectives, are_runs=True)


def optuna_journal(path: Path) -> Found:
    """The same of a journal, a JSON object a line, one for each thing that happened."""
    studies: list[dict[str, Any]] = []
    trials: list[dict[str, Any]] = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        said = parsed(text)
        if text.strip() and not isinstance(said, dict):
            raise TableError(f"{path} line {number}: no JSON object; a journal must be as Optuna wrote it; restore it")
        try:
            _replay(said or {}, studies, trials)
        except (LookupError, TypeError):
            what = "of a trial or study that was not made before"
            raise TableError(f"{path} line {number}: {what}; restore it") from None
    rows: list[Placed] = []
    objectives: Objectives = {}
    for place, trial in enumerate(trials):
        study = studies[trial["study"]]
        if study.get("deleted"):
            continue
        columns = _columns(len(study["goals"]), study.get("names"))
        read = {
            **({"study": study["name"]} if len(studies) > 1 else {}),
            "number": sum(one["study"] == trial["study"] for one in trials[:place]),
            "state": trial["state"],
            **flat(trial["user"]),
            **trial["params"],
            **dict(zip(columns, trial["values"] or (), strict=False)),
        }
        rows.append((f"trial {read['number']}", read))
        objectives |= dict(zip(columns, study["goals"], strict=False))
    return Found(tuple(rows), objectives=objectives, are_runs=True)


def _replay(said: Mapping[str, Any], studies: list[dict[str, Any]], trials: list[dict[str, Any]]) -> None:
    """One thing that happened. Source: optuna/storages/journal/_storage.py, JournalOperation."""
    match said.get("op_code"):
        case 0:
            goals = [GOALS[one] if one in (1, 2) else None for one in said["directions"]]
            studies.append({"name": said["study_name"], "goals": goals})
        case 1:
            studies[said["study_id"]]["deleted"] = True
        case 3:
            names = said["system_attr"].get(NAMES_KEY)
            if names:
                studies[said["study_id"]]["names"] = names
        case 4:
            trial: dict[str, Any] = {"study": said["study_id"], "state": "running", "params": {}, "user": {}}
            trial["values"] = said.get("values") or ([said["value"]] if said.get("value") is not None else None)
            if said.get("state") is not None:
                trial["state"] = STATES[said["state"]]
            kinds = said.get("distributions") or {}
            for name, value in (said.get("params") or {}).items():
                trial["params"][name] = _external(value, parsed(kinds.get(name, "{}")))
            trial["user"] |= said.get("user_attrs") or {}
            trials.append(trial)
        case 5:
            value = _external(said["param_value_internal"], parsed(said["distribution"]))
            trials[said["trial_id"]]["params"][said["param_name"]] = value
        case 6:
            trial = trials[said["trial_id"]]
            trial["state"] = STATES[said["state"]]
            if said.get("values") is not None:
                trial["values"] = said["values"]
        case 8:
            trials[said["trial_id"]]["user"] |= said["user_attr"]


def _columns(num_objectives: int, names: Any) -> list[str]:
    """One for each, called as a data frame of trials calls it, or by its own name."""
    plain = [f"values_{number}" for number in range(num_objectives)] if num_objectives > 1 else ["value"]
    named = [*map(str, names)] if isinstance(names, list) else []
    return [*named, *plain[len(named) :]]


def _external(value: Any, kind: Any) -> Any:
    """A parameter as it was given: storages have the place among the choices of a categorical one."""
    about = kind.get("attributes", {}) if isinstance(kind, dict) else {}
    choices = about.get("choices")
    if isinstance(choices, list) and isinstance(value, (int, float)) and 0 <= int(value) < len(choices):
        chosen = choices[int(value)]
        return chosen if isinstance(chosen, (bool, int, float, str, type(None))) else str(chosen)
    is_whole = isinstance(kind, dict) and str(kind.get("name", "")).startswith("Int")
    return int(value) if is_whole and isinstance(value, float) and value.is_integer() else value


_PARTS = ("params_", "user_attrs_", "params.", "user_attrs.")
_OWN = ("datetime_start", "datetime_complete", "duration", "system_attrs_", "system_attrs.")


TRIAL_COLUMNS = frozenset(("trial_id", "number"))
"""One of them is in every data frame of trials."""


def trials_frame(rows: Sequence[Placed]) -> tuple[Sequence[Placed], Objectives]:
    """A table of trials, as the data frames of Optuna and Ray Tune have them, with parameters by their own names; other
    tables as they are. Which way a study went is not in it."""
    columns = dict.fromkeys(name for _, values in rows for name in values)
    if {"trial_id", "training_iteration"} <= columns.keys():
        return [(place, _of_ray(values)) for place, values in rows], {}
    values_ = [name for name in columns if name == "value" or name.startswith(("value_", "values_", "values."))]
    if not {"number", "state"} <= columns.keys() or not any(name.startswith(_PARTS) for name in columns) or not values_:
        return rows, {}
    renamed: dict[str, str] = {}
    for column in columns:
        part = next((part for part in _PARTS if column.startswith(part)), None)
        if part is None and column.startswith(("value_", "values_")) and not column.rpartition("_")[2].isdigit():
            part = column.partition("_")[0] + "_"
        bare = column.removeprefix(part or "")
        renamed[column] = column if bare in columns or bare in renamed.values() else bare
    made = [
        (place, {renamed[name]: value for name, value in values.items() if not name.startswith(_OWN)})
        for place, values in rows
    ]
    return made, {renamed[name]: None for name in values_}


def _of_ray(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial reported and was given, without what Ray notes for itself."""
    kept = {name: value for name, value in values.items() if name not in _RAYS_OWN or name == "trial_id"}
    config = {
        name: name[len("config/") :].replace("/", ".") for name in kept if name.startswith(("config/", "config."))
    }
    config |= {"time_total_s": "train_seconds"}
    return {name if (bare := config.get(name, name)) in kept else bare: value for name, value in kept.items()}


# --- Ray Tune ---

_RAYS_OWN = frozenset(
    ("timestamp", "checkpoint_dir_name", "done", "trial_id", "date", "time_this_iter_s", "pid", "hostname", "node_ip",
     "time_since_restore", "iterations_since_restore", "timesteps_since_restore", "experiment_id", "should_checkpoint",
     "experiment_tag", "warmup_time")
)  # fmt: skip


def ray_trials(root: Path) -> Iterator[Placed]:
    """Each trial's folder: of all that `result.json` (or `progress.csv`) reported the last, and its settings: those of
    `params.json`, or the config that is reported."""
    folders = {file.parent for name in ("result.json", "progress.csv") for file in root.rglob(name) if _is_rays(file)}
    for folder in sorted(folders):
        reported, csv_file, params = (folder / name for name in ("result.json", "progress.csv", "params.json"))
        steps = [flat(said) for said in logged_in_json_lines(reported)]
        if not steps and csv_file.is_file():
            steps = logged_in_csv(csv_file)
        measured = {name: value for name, value in _of_ray(last_of(steps)).items() if name != "trial_id"}
        given = flat(json_object(params)) if params.is_file() else {}
        has_failed = any((folder / name).is_file() for name in ("error.txt", "error.pkl"))
        ending = {"status": "error"} if has_failed else {}
        yield run_in(folder, root, {**measured, **given, **ending}, [_of_ray(one) for one in steps])


def _is_rays(file: Path) -> bool:
    with file.open("rb") as opened:
        return file.with_name("params.json").is_file() or b"training_iteration" in opened.read(LONGEST_LINE)


# --- Training libraries, and scripts ---

LARGEST_RESULT = 1_000_000
"""Bytes of a file that holds one run."""


def trainer_runs(root: Path) -> Iterator[Placed]:
    """Of the Trainer of transformers: the last state of each run, and its results."""
    runs: dict[Path, dict[str, Any]] = {}
    for file in (*root.rglob("trainer_state.json"), *root.rglob("all_results.json")):
        folder = file.parent.parent if file.parent.name.startswith("checkpoint-") else file.parent
        read = json_object(file)
        values = trainer_state(read) if "log_history" in read else flat(read)
        before = runs.setdefault(folder, {})
        if values.get("global_step", 0) >= before.get("global_step", 0) or "log_history" not in read:
            before |= values
    for folder, values in sorted(runs.items()):
        yield run_in(folder, root, values)


def lightning_runs(root: Path) -> Iterator[Placed]:
    """`metrics.csv` of each version, of each column the last value and all on the way, and `hparams.yaml` beside it."""
    for file in sorted(root.rglob("metrics.csv")):
        steps = logged_in_csv(file)
        given = flat(yaml_mapping(file.parent / "hparams.yaml"))
        yield run_in(file.parent, root, {**given, **last_of(steps)}, steps)


def result_files(root: Path) -> Iterator[Placed]:
    """JSON files that each are the object of one run, as scripts leave them."""
    for file in files_in(root, ".json"):
        read = parsed(file.read_bytes(), f"{file}") if file.stat().st_size <= LARGEST_RESULT else None
        if not isinstance(read, dict) or str(read.get("schema", "")).startswith("blueberry/"):
            continue
        name = place_of(file.with_suffix(""), root)
        for inside, values in of_each_seed(read):
            if any(kind_by_name(one) == "result" and is_number(value) for one, value in values.items()):
                yield f"{name} {inside}".strip(), {"name": name, **values}
