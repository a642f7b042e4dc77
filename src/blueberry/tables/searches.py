"""Runs as tools that search keep them: Optuna's storages and tables of trials, Ray Tune's folders of trials."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from blueberry.errors import TableError
from blueberry.records import Goal
from blueberry.tables.json_rows import flat, last_of
from blueberry.tables.rows import STEPS, Placed
from blueberry.tables.sources import Database, json_object, logged_in_csv, logged_in_json_lines, place_of

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


def optuna_database(opened: Database) -> tuple[list[Placed], Objectives]:
    """Every trial of every study: parameters, what users set, and what it was judged by."""
    studies = dict(opened.rows("SELECT study_id, study_name FROM studies"))
    goals: dict[int, list[Goal | None]] = {}
    for study, _, said in opened.rows("SELECT study_id, objective, direction FROM study_directions ORDER BY objective"):
        goals.setdefault(study, []).append("maximize" if said == "MAXIMIZE" else "minimize")
    attributes = opened.rows("SELECT study_id, key, value_json FROM study_system_attributes")
    names = {study: _parsed(text) for study, key, text in attributes if key == NAMES_KEY}
    values: dict[int, dict[str, Any]] = {}
    trials = opened.rows("SELECT trial_id, number, study_id, state FROM trials ORDER BY study_id, number")
    study_of = {}
    for trial, number, study, state in trials:
        study_of[trial] = study
        values[trial] = {"study": studies.get(study), "number": number, "state": state.lower()}
    for trial, key, text in opened.rows("SELECT trial_id, key, value_json FROM trial_user_attributes"):
        values[trial] |= flat({key: _parsed(text)})
    for trial, name, value, text in opened.rows(
        "SELECT trial_id, param_name, param_value, distribution_json FROM trial_params"
    ):
        values[trial][name] = _external(value, _parsed(text))
    has_types = any(row[1] == "value_type" for row in opened.rows("PRAGMA table_info(trial_values)"))
    type_ = "value_type" if has_types else "NULL"
    for trial, objective, value, kind in opened.rows(f"SELECT trial_id, objective, value, {type_} FROM trial_values"):
        column = _objective(objective, len(goals.get(study_of[trial], ())), names.get(study_of[trial]))
        values[trial][column] = _SPECIAL.get(kind, value)
    objectives: Objectives = {
        _objective(number, len(said), names.get(study)): goal
        for study, said in goals.items()
        for number, goal in enumerate(said)
    }
    if len(studies) < 2:
        for one in values.values():
            del one["study"]
    return [(f"trial {one['number']}", one) for one in values.values()], objectives


def optuna_journal(path: Path) -> tuple[list[Placed], Objectives]:
    """The same of a journal, a JSON object a line, one for each thing that happened."""
    studies: list[dict[str, Any]] = []
    trials: list[dict[str, Any]] = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        said = _parsed(text)
        if text.strip() and not isinstance(said, dict):
            raise TableError(f"{path} line {number}: no JSON object; a journal must be as Optuna wrote it; restore it")
        try:
            _replay(said or {}, studies, trials)
        except (LookupError, TypeError):
            raise TableError(
                f"{path} line {number}: of a trial or study that was not made before; restore it"
            ) from None
    rows: list[Placed] = []
    objectives: Objectives = {}
    for place, trial in enumerate(trials):
        study = studies[trial["study"]]
        if study.get("deleted"):
            continue
        goals = study["goals"]
        read = {
            **({"study": study["name"]} if len(studies) > 1 else {}),
            "number": sum(one["study"] == trial["study"] for one in trials[:place]),
            "state": trial["state"],
            **flat(trial["user"]),
            **trial["params"],
        }
        for number, value in enumerate(trial["values"] or ()):
            read[_objective(number, len(goals), study.get("names"))] = value
        rows.append((f"trial {read['number']}", read))
        objectives |= {_objective(number, len(goals), study.get("names")): goal for number, goal in enumerate(goals)}
    return rows, objectives


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
                trial["params"][name] = _external(value, _parsed(kinds.get(name, "{}")))
            trial["user"] |= said.get("user_attrs") or {}
            trials.append(trial)
        case 5:
            value = _external(said["param_value_internal"], _parsed(said["distribution"]))
            trials[said["trial_id"]]["params"][said["param_name"]] = value
        case 6:
            trial = trials[said["trial_id"]]
            trial["state"] = STATES[said["state"]]
            if said.get("values") is not None:
                trial["values"] = said["values"]
        case 8:
            trials[said["trial_id"]]["user"] |= said["user_attr"]
        case _:
            pass


def _objective(number: int, num_objectives: int, names: Any) -> str:
    """The column of one, called as a data frame of trials calls it, or by its own name."""
    if isinstance(names, list) and number < len(names):
        return str(names[number])
    return "value" if num_objectives < 2 else f"values_{number}"


def _external(value: Any, kind: Any) -> Any:
    """A parameter as it was given: storages have the place among the choices of a categorical one."""
    about = kind.get("attributes", {}) if isinstance(kind, dict) else {}
    choices = about.get("choices")
    if isinstance(choices, list) and isinstance(value, (int, float)) and 0 <= int(value) < len(choices):
        chosen = choices[int(value)]
        return chosen if isinstance(chosen, (bool, int, float, str, type(None))) else str(chosen)
    is_whole = isinstance(kind, dict) and str(kind.get("name", "")).startswith("Int")
    return int(value) if is_whole and isinstance(value, float) and value.is_integer() else value


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None


_PARTS = ("params_", "user_attrs_", "params.", "user_attrs.")
_OWN = ("datetime_start", "datetime_complete", "duration", "system_attrs_", "system_attrs.")


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
        measured |= {STEPS: [_of_ray(one) for one in steps]} if steps else {}
        given = flat(json_object(params)) if params.is_file() else {}
        place = place_of(folder, root)
        has_failed = any((folder / name).is_file() for name in ("error.txt", "error.pkl"))
        ending = {"status": "error"} if has_failed else {}
        yield place, {"name": place, **measured, **given, **ending}


def _is_rays(file: Path) -> bool:
    with file.open("rb") as opened:
        return file.with_name("params.json").is_file() or b"training_iteration" in opened.read(LONGEST_LINE)
