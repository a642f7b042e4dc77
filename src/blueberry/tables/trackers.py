"""Runs as experiment trackers keep them: W&B's folders and logs, MLflow's folders and databases, TensorBoard's events.

W&B's own log (`run-ID.wandb`) is LevelDB's log format around messages of protocol buffers. The few fields that matter
are decoded here, so that a run that was never synced can be read without W&B.
Source: LevelDB, doc/log_format.md; wandb/proto/wandb_internal.proto (field numbers, which never change).
"""

import math
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from blueberry.errors import TableError
from blueberry.tables.columns import folded
from blueberry.tables.rows import STEPS, Placed, flat, last_of, value_of
from blueberry.tables.tools import Database, json_object, logged_in_json_lines, parsed, place_of, run_in, yaml_mapping

KEPT = "_runtime"
"""Of W&B's columns that begin with an underscore, the one that a table has a use for."""
SUMMARY = "wandb-summary.json"
HISTORY = "wandb-history.jsonl"
"""What older versions of W&B wrote beside the summary: an object a line."""
MAGIC = b":W&B"
"""How W&B's log begins."""
MLFLOW_TABLES = ("experiments", "runs", "params", "latest_metrics", "tags")
MLFLOW_STATUS = {1: "running", 2: "scheduled", 3: "finished", 4: "failed", 5: "killed"}


# --- W&B ---


def wandb_runs(root: Path) -> Iterator[Placed]:
    """Each run by its own log, `run-ID.wandb`; or where there is none by `wandb-summary.json` and `config.yaml`."""
    summaries = {
        file.parent.parent if file.parent.name == "files" else file.parent: file for file in sorted(root.rglob(SUMMARY))
    }
    logs = {file.parent: file for file in sorted(root.rglob("*.wandb")) if _is_whole(file, summaries)}
    for folder in sorted({*logs, *summaries}):
        if folder in logs:
            yield place_of(folder, root), _of_log(logs[folder])
            continue
        config = yaml_mapping(summaries[folder].parent / "config.yaml")
        settings = {name: v["value"] if isinstance(v, dict) and "value" in v else v for name, v in config.items()}
        measured = _kept({**flat(settings), **flat(json_object(summaries[folder]))})
        steps = [flat(said) for said in logged_in_json_lines(summaries[folder].with_name(HISTORY))]
        yield run_in(folder, root, measured, steps)


def wandb_log(file: Path) -> Placed:
    """The run of one log."""
    return file.name, _of_log(file)


def _is_whole(log: Path, summaries: Collection[Path]) -> bool:
    """One that W&B has not begun to write says nothing; a foreign one is refused, unless a summary says the same."""
    with log.open("rb") as file:
        start = file.read(len(MAGIC))
    return start == MAGIC if log.parent in summaries else bool(start)


def _kept(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not name.startswith("_") or name == KEPT}


CHART_ENDS = ("__MIN", "__MAX")
_CHART = re.compile(r"(.+) - (.+?)(__MIN|__MAX)?")


def chart_runs(lines: Sequence[Placed], place: str) -> tuple[list[Placed], list[str]]:
    """Each run of a chart's export, a column for where along it, then "RUN - METRIC" with its least and most: its name,
    the last point of each of its curves, and where that is.

    Raises: TableError where a curve is the mean of several runs, so that none of them is known.
    """
    columns = list(dict.fromkeys(name for _, values in lines for name in values))
    along, runs = columns[0], dict[str, dict[str, Any]]()
    for column in columns[1:]:
        named = _CHART.fullmatch(column)
        if named is None or named[3] or named[2].startswith("_"):
            continue
        points = [(values[along], values[column], values) for _, values in lines if values.get(column) is not None]
        if not points:
            continue
        at, last, values = points[-1]
        ends = [values.get(f"{column}{which}") for which in CHART_ENDS]
        if None not in ends and ends[0] != ends[1]:
            what = f"{named[1]} is several runs, from {ends[0]:g} to {ends[1]:g} at the end"
            raise TableError(
                f"{place}: a chart exported from W&B; {what}, and no run is known; export the table of runs"
            )
        runs.setdefault(named[1], {"name": named[1], folded(along): at})[named[2]] = last
    note = (
        f"{place}: a chart exported from W&B: curves of {len(runs)} runs, as drawn; the last point of each is "
        "judged as its run's end, and of settings only those are known that names have in them"
    )
    return [(f'"{name}"', values) for name, values in runs.items()], [note]


_HISTORY, _SUMMARY, _CONFIG, _RUN, _EXIT = 2, 3, 5, 17, 18
"""Fields of a Record."""
_RUN_WORDS = {6: "group", 7: "job_type", 8: "name"}
_RUN_CONFIG, _RUN_SUMMARY, _UPDATE, _REMOVE, _KEY, _NESTED_KEY, _VALUE_JSON = 4, 5, 1, 2, 1, 2, 16
BLOCK, HEAD = 32_768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def _of_log(file: Path) -> dict[str, Any]:
    """Name, config, the summary or, of a run that was killed before it had one, the last of its history; and status."""
    data = file.read_bytes()
    if not data.startswith(MAGIC):
        raise TableError(f"{file}: not W&B's own log; it must be as W&B wrote it; restore it, or export runs as CSV")
    words: dict[str, Any] = {"name": file.stem}
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    steps: list[dict[str, Any]] = []
    status = "unfinished"
    for field, value in (one for record in _records(data) for one in _fields(record)):
        if field == _RUN:
            for inner, text in _fields(value):
                if inner in _RUN_WORDS and text:
                    words[_RUN_WORDS[inner]] = bytes(text).decode(errors="replace")
                elif inner in (_RUN_CONFIG, _RUN_SUMMARY):
                    _take_in(config if inner == _RUN_CONFIG else summary, text)
        elif field in (_CONFIG, _SUMMARY):
            _take_in(config if field == _CONFIG else summary, value)
        elif field == _HISTORY:
            logged: dict[str, Any] = {}
            _take_in(logged, value)
            steps.append(flat(logged))
        elif field == _EXIT:
            status = "failed" if dict(_fields(value)).get(1) else "finished"
    measured = {name: v for name, v in flat(summary).items() if not name.startswith("_")}
    values = _kept({**flat(config), **(flat(summary) if measured else last_of(steps))})
    return {**words, **values, "status": status, **({STEPS: steps} if steps else {})}


def _take_in(values: dict[str, Any], message: bytes) -> None:
    """Items of a message: what they say of a name replaces what was said of it, and removed names go."""
    for field, item in _fields(message):
        if field not in (_UPDATE, _REMOVE):
            continue
        keys: list[str] = []
        said: Any = None
        for inner, part in _fields(item):
            if inner in (_KEY, _NESTED_KEY):
                keys.append(bytes(part).decode(errors="replace"))
            elif inner == _VALUE_JSON:
                said = parsed(bytes(part))
        if not keys or not keys[-1]:
            continue
        inside = values
        for key in keys[:-1]:
            if not isinstance(inside.get(key), dict):
                inside[key] = {}
            inside = inside[key]
        if field == _UPDATE:
            inside[keys[-1]] = said
        else:
            inside.pop(keys[-1], None)


def _records(data: bytes) -> Iterator[bytes]:
    """Up to where it was torn: a record is whole, or in parts that blocks of 32 KiB keep apart."""
    at, begun = HEAD, b""
    while at + HEAD <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEAD:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part = data[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if len(part) < length or not FULL <= kind <= LAST:
            return
        begun = part if kind in (FULL, FIRST) else begun + part
        if kind in (FULL, LAST):
            yield begun


def _fields(message: Any) -> Iterator[tuple[int, Any]]:
    """Of a message of protocol buffers: number and value of each field, bytes for texts and messages in it."""
    if not isinstance(message, bytes):
        return
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(message, at)
        elif kind == 2:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        elif kind in (1, 5):
            width = 8 if kind == 1 else 4
            value, at = message[at : at + width], at + width
        else:
            return
        if at > len(message):
            return
        yield number, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, least first; beyond the end of a message where it is torn."""
    value = shift = 0
    while at < len(message) and shift < 70:
        value |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if message[at - 1] < 128:
            return value, at
    return value, len(message) + 1


# --- MLflow ---


def mlflow_folders(root: Path) -> Iterator[Placed]:
    """`mlruns/EXPERIMENT/RUN`: `meta.yaml`, and a file for each of its params, metrics and tags."""
    experiments: dict[Path, str] = {}
    for file in sorted(root.rglob("meta.yaml"), key=lambda file: (len(file.parts), file)):
        if b"lifecycle_stage" not in file.read_bytes():  # of another tool: conda's recipes are called so
            continue
        folder, about = file.parent, yaml_mapping(file)
        if "run_id" not in about and "run_uuid" not in about:
            experiments[folder] = str(about.get("name", folder.name))
            continue
        if about.get("lifecycle_stage") == "deleted":
            continue
        tags = dict(_files(folder / "tags"))
        status = about.get("status")
        values = {
            "name": about.get("run_name") or tags.get("mlflow.runName") or folder.name,
            "experiment": experiments.get(folder.parent, folder.parent.name),
            "status": MLFLOW_STATUS.get(status, status) if isinstance(status, int) else status,
            **{name: value_of(text) for name, text in tags.items() if not name.startswith("mlflow.")},
            **{name: value_of(text) for name, text in _files(folder / "params")},
            **{name: _last_metric(text) for name, text in _files(folder / "metrics")},
        }
        yield place_of(folder, root), values


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Names may have slashes, which are folders."""
    for file in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if file.is_file():
            yield file.relative_to(folder).as_posix(), file.read_text(encoding="utf-8", errors="replace").strip()


def _last_metric(text: str) -> Any:
    """Of lines of time, value and step."""
    lines = [[*line.split(), "0"] for line in text.splitlines() if len(line.split()) >= 2]
    steps = [int(step) if step.lstrip("-").isdigit() else 0 for _, _, step, *_ in lines]
    last = max(range(len(lines)), key=lambda at: (steps[at], at), default=None)
    return None if last is None else value_of(lines[last][1])


def mlflow_database(opened: Database) -> Iterator[Placed]:
    """Every run that was not deleted, with the last value of each metric."""
    runs = opened.rows(
        "SELECT r.run_uuid, r.name, e.name, r.status FROM runs r LEFT JOIN experiments e USING (experiment_id) "
        "WHERE r.lifecycle_stage != 'deleted' ORDER BY r.start_time, r.run_uuid"
    )
    texts = [
        *opened.rows("SELECT run_uuid, key, value FROM tags"),
        *opened.rows("SELECT run_uuid, key, value FROM params"),
    ]
    metrics = opened.rows("SELECT run_uuid, key, value, is_nan FROM latest_metrics")
    said = [(run, key, value_of(f"{text}")) for run, key, text in texts]
    said += [(run, key, math.nan if nan else _unbounded(value)) for run, key, value, nan in metrics]
    values: dict[str, dict[str, Any]] = {run: {} for run, *_ in runs}
    for run, key, value in said:
        if run in values and not f"{key}".startswith("mlflow."):
            values[run][f"{key}"] = value
    for run, name, experiment, status in runs:
        yield str(name or run), {"name": name or run, "experiment": experiment, "status": status, **values[run]}


def _unbounded(value: Any) -> Any:
    """MLflow's database has the largest number in the place of infinity."""
    return math.copysign(math.inf, value) if isinstance(value, float) and abs(value) >= sys.float_info.max else value


# --- TensorBoard ---

EVENTS = "*tfevents*"
STARTED, ENDED = "_hparams_/session_start_info", "_hparams_/session_end_info"
ENDINGS = {1: "completed", 2: "crashed", 3: "unfinished"}
"""Of TensorBoard's hparams plugin."""


def tensorboard_runs(path: Path) -> Iterator[Placed]:
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
        given = {**flat(yaml_mapping(folder / "hparams.yaml")), **_hparams(events)}
        yield run_in(folder, root, {**given, **_last_values(events)})


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
