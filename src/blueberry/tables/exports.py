"""Runs as other tools leave them on disk: which tool wrote a folder or a file, and the logs of training libraries.

Lightning's loggers, the Trainer of transformers and TensorBoard are read here; trackers and searches have their files.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from blueberry.errors import TableError
from blueberry.files import refused_as
from blueberry.records import is_number
from blueberry.tables.columns import kind_by_name
from blueberry.tables.json_rows import flat, last_of, of_each_seed, trainer_state
from blueberry.tables.rows import STEPS, Found, Placed
from blueberry.tables.searches import OPTUNA_TABLES, optuna_database, optuna_journal, ray_trials
from blueberry.tables.sources import (
    database,
    is_sqlite,
    json_object,
    logged_in_csv,
    place_of,
    yaml_mapping,
)
from blueberry.tables.trackers import MLFLOW_TABLES, mlflow_database, mlflow_folders, wandb_log, wandb_runs

EVENTS = "*tfevents*"
STARTED, ENDED = "_hparams_/session_start_info", "_hparams_/session_end_info"
ENDINGS = {1: "completed", 2: "crashed", 3: "unfinished"}
"""Of TensorBoard's hparams plugin."""
OF_A_RUN = {"metrics.csv": "hparams.yaml", "result.json": "params.json", "progress.csv": "params.json"}
"""Files that mean something only with the one beside them, in the folder of their run."""
LARGEST_RESULT = 1_000_000
"""Bytes of a file that holds one run."""
JOURNAL = b'{"op_code":'


def is_export(path: Path) -> bool:
    """Whether a path is read by `read_export`: a folder, or a file that no table is. Raises: OSError."""
    if path.is_dir() or path.suffix == ".wandb" or "tfevents" in path.name or path.name == "wandb-summary.json":
        return True
    if not path.is_file():
        return False
    if path.name in OF_A_RUN and path.with_name(OF_A_RUN[path.name]).is_file():
        return True
    with path.open("rb") as file:
        return is_sqlite(path) or file.read(len(JOURNAL) + 8).replace(b" ", b"").startswith(JOURNAL)


def read_export(path: Path, tables: Callable[[Path], Iterator[Placed]]) -> Found:
    """Every run of a folder, by whichever of these tools wrote it; or of one of their files. `tables` reads a folder in
    which each file is a table.

    Raises: TableError if none did, or a library that reads its files is not installed.
    """
    remedy = "give a table, or a folder of runs"
    with refused_as(TableError, path, "cannot be read", remedy):
        if not path.exists():
            raise TableError(f"{path}: no such file or folder; {remedy}")
        if path.suffix == ".wandb":
            return Found((wandb_log(path),), are_runs=True)
        if "tfevents" in path.name and path.is_file():
            return Found(tuple(_tensorboard(path)), are_runs=True)
        if is_sqlite(path):
            return _of_database(path)
        if path.is_file() and path.name not in OF_A_RUN and path.name != "wandb-summary.json":
            rows, objectives = optuna_journal(path)
            return Found(tuple(rows), objectives=objectives, are_runs=True)
        folder = path if path.is_dir() else path.parent
        for reader in _READERS:
            if found := tuple(reader(folder)):
                return Found(found, are_runs=True)
        for file in sorted(folder.iterdir()):
            if is_sqlite(file):
                return _of_database(file)
        if found := tuple(tables(folder)):
            return Found(found)
    raise TableError(
        f"{path}: a folder without runs; it must have tfevents files, *.wandb or wandb-summary.json, metrics.csv "
        "(Lightning), trainer_state.json, result.json (Ray Tune), meta.yaml (MLflow), or JSON or CSV files; "
        "give one that has, or a table"
    )


def _of_database(path: Path) -> Found:
    with database(path) as opened:
        if opened.has(OPTUNA_TABLES):
            rows, objectives = optuna_database(opened)
            return Found(tuple(rows), objectives=objectives, are_runs=True)
        if opened.has(MLFLOW_TABLES):
            return Found(tuple(mlflow_database(opened)), are_runs=True)
    raise TableError(f"{path}: a database of neither Optuna nor MLflow; write its runs as CSV")


def _trainer(root: Path) -> Iterator[Placed]:
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
        yield place_of(folder, root), {"name": place_of(folder, root), **values}


def _lightning(root: Path) -> Iterator[Placed]:
    """`metrics.csv` of each version, of each column the last value and all on the way, and `hparams.yaml` beside it."""
    for file in sorted(root.rglob("metrics.csv")):
        name = place_of(file.parent, root)
        steps = logged_in_csv(file)
        given = flat(yaml_mapping(file.parent / "hparams.yaml"))
        yield name, {"name": name, **given, **last_of(steps), STEPS: steps}


def _tensorboard(path: Path) -> Iterator[Placed]:
    """Each folder with event files: its hparams, or Lightning's beside them, and the last value of each scalar tag."""
    root = path.parent if path.is_file() else path
    folders = [root] if path.is_file() else sorted({file.parent for file in path.rglob(EVENTS)})
    if not folders:
        return
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # pyright: ignore[reportMissingImports]
    except ImportError:
        remedy = "pip install 'blueberry-lm[tensorboard]', or export the runs as CSV"
        raise TableError(f"{path}: TensorBoard's events; its own library reads them, not installed; {remedy}") from None
    for folder in folders:
        events: Any = EventAccumulator(str(folder), size_guidance={"scalars": 1, "tensors": 1})
        events.Reload()
        name = place_of(folder, root)
        given = {**flat(yaml_mapping(folder / "hparams.yaml")), **_hparams(events)}
        yield name, {"name": name, **given, **_last_values(events)}


def _last_values(events: Any) -> dict[str, Any]:
    """One that is written as a tensor, as TensorFlow 2 does, counts as a scalar if it says that it is one."""
    from tensorboard.util.tensor_util import make_ndarray  # pyright: ignore[reportMissingImports]

    tags = events.Tags()
    values: dict[str, Any] = {tag: events.Scalars(tag)[-1].value for tag in tags["scalars"]}
    for tag in tags["tensors"]:
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            values[tag] = make_ndarray(events.Tensors(tag)[-1].tensor_proto).item()
    return values


def _hparams(events: Any) -> dict[str, Any]:
    from tensorboard.plugins.hparams import plugin_data_pb2  # pyright: ignore[reportMissingImports]

    decoder: Any = plugin_data_pb2.HParamsPluginData  # pyright: ignore[reportAttributeAccessIssue]
    values: dict[str, Any] = {}
    for tag in (STARTED, ENDED):
        if tag not in events.Tags()["tensors"]:
            continue
        said = decoder.FromString(events.SummaryMetadata(tag).plugin_data.content)
        for name, value in said.session_start_info.hparams.items():
            kind = value.WhichOneof("kind")
            given = getattr(value, kind) if kind else None
            values[name] = int(given) if isinstance(given, float) and given.is_integer() else given
        if tag == ENDED and said.session_end_info.status in ENDINGS:
            values["status"] = ENDINGS[said.session_end_info.status]
    return values


def _result_files(root: Path) -> Iterator[Placed]:
    """JSON files that each are the object of one run, as scripts leave them; what is hidden is nobody's result."""
    for file in sorted(root.rglob("*.json")):
        is_hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
        if is_hidden or not file.is_file() or file.stat().st_size > LARGEST_RESULT:
            continue
        try:
            read = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            continue
        if not isinstance(read, dict) or str(read.get("schema", "")).startswith("blueberry/"):
            continue
        name = place_of(file.with_suffix(""), root)
        for inside, values in of_each_seed(read):
            if any(kind_by_name(one) == "result" and is_number(value) for one, value in values.items()):
                yield f"{name} {inside}".strip(), {"name": name, **values}


_READERS: tuple[Callable[[Path], Iterator[Placed]], ...] = (
    wandb_runs, mlflow_folders, ray_trials, _trainer, _lightning, _tensorboard, _result_files,
)  # fmt: skip
"""The first that finds a run in a folder reads it: tools that write more come before those that others write too."""
