"""Runs as other tools leave them on disk: W&B, TensorBoard, Lightning's CSV logger, the Trainer of transformers."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blueberry.errors import TableError
from blueberry.files import refused_as
from blueberry.tables.json_rows import flat, trainer_state
from blueberry.tables.rows import Placed, value_of

EVENTS = "*tfevents*"
STARTED, ENDED = "_hparams_/session_start_info", "_hparams_/session_end_info"
ENDINGS = {1: "completed", 2: "crashed", 3: "unfinished"}
"""Of TensorBoard's hparams plugin."""
KEPT = "_runtime"
"""Of W&B's columns that begin with an underscore, the one that a table has a use for."""


def read_export(path: Path) -> list[Placed]:
    """Every run of a folder, by whichever of these tools wrote it; or of one of their files.

    Raises: TableError if none did, or a library that reads its files is not installed.
    """
    remedy = "give a table, or a folder of runs"
    with refused_as(TableError, path, "cannot be read", remedy):
        if not path.exists():
            raise TableError(f"{path}: no such file or folder; {remedy}")
        if path.suffix == ".wandb":
            raise TableError(f"{path}: W&B's own log; give its folder once the run has ended, or export runs as CSV")
        if path.is_file():
            return list(_tensorboard(path))
        for reader in (_wandb, _trainer, _lightning, _tensorboard):
            if found := list(reader(path)):
                return found
    raise TableError(
        f"{path}: a folder without runs; it must have tfevents files, wandb-summary.json, metrics.csv (Lightning) or "
        "trainer_state.json in it; give one that has, or a table"
    )


def _wandb(root: Path) -> Iterator[Placed]:
    """`wandb-summary.json` of each run, and `config.yaml` beside it."""
    for file in sorted(root.rglob("wandb-summary.json")):
        folder = file.parent
        config = _yaml(folder / "config.yaml")
        settings = {name: v["value"] if isinstance(v, dict) and "value" in v else v for name, v in config.items()}
        values = {**flat(settings), **flat(_json(file))}
        kept = {name: value for name, value in values.items() if not name.startswith("_") or name == KEPT}
        yield _place(folder, root), {"name": (folder.parent if folder.name == "files" else folder).name, **kept}


def _trainer(root: Path) -> Iterator[Placed]:
    """Of the Trainer of transformers: the last state of each run, and its results."""
    runs: dict[Path, dict[str, Any]] = {}
    for file in (*root.rglob("trainer_state.json"), *root.rglob("all_results.json")):
        folder = file.parent.parent if file.parent.name.startswith("checkpoint-") else file.parent
        read = _json(file)
        values = trainer_state(read) if "log_history" in read else flat(read)
        before = runs.setdefault(folder, {})
        if values.get("global_step", 0) >= before.get("global_step", 0) or "log_history" not in read:
            before |= values
    for folder, values in sorted(runs.items()):
        yield _place(folder, root), {"name": _place(folder, root), **values}


def _lightning(root: Path) -> Iterator[Placed]:
    """`metrics.csv` of each version, of each column the last value, and `hparams.yaml` beside it."""
    for file in sorted(root.rglob("metrics.csv")):
        last: dict[str, Any] = {}
        for row in csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"))):
            last |= {
                name: value_of(cell) for name, cell in row.items() if name and isinstance(cell, str) and cell.strip()
            }
        yield (
            _place(file.parent, root),
            {"name": _place(file.parent, root), **flat(_yaml(file.parent / "hparams.yaml")), **last},
        )


def _place(folder: Path, root: Path) -> str:
    inside = folder.relative_to(root).as_posix()
    return folder.name if inside == "." else inside


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise TableError(f"{path}: not a JSON object; it must be as its tool wrote it; restore it")
    return read


def _yaml(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, empty where there is none; without its library, those of plain keys and values."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    try:
        import yaml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return _plain_yaml(text, path)
    try:
        read = yaml.safe_load(text) or {}
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


def _tensorboard(path: Path) -> Iterator[Placed]:
    """Each folder with event files: its recorded hparams, and the last value of each scalar tag."""
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
        name = _place(folder, root)
        yield name, {"name": name, **_hparams(events), **_last_values(events)}


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
