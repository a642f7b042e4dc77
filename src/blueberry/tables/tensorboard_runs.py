"""Runs that were logged for TensorBoard: each folder with event files is one; of each scalar tag its last value."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blueberry.errors import TableError
from blueberry.tables.cells import value_of

EVENTS = "*tfevents*"
STARTED, ENDED = "_hparams_/session_start_info", "_hparams_/session_end_info"
ENDINGS = {1: "completed", 2: "crashed", 3: "unfinished"}
"""Of the hparams plugin's Status."""
_NAMED = re.compile(r"([A-Za-z][\w.]*)=([^,/\s]+)")
"""A setting in a folder's name, e.g. "lr=0.01,seed=1"."""


def is_tensorboard(path: Path) -> bool:
    """Whether this is an event file, or a folder with one in it."""
    return "tfevents" in path.name if path.is_file() else any(path.rglob(EVENTS))


def read_tensorboard(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each run stands, and its recorded hparams, the settings its folder's name has, and its last values.

    Raises: TableError if the tensorboard library is not installed.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # pyright: ignore[reportMissingImports]
    except ImportError:
        remedy = "pip install 'blueberry-lm[tensorboard]', or export the runs as CSV"
        raise TableError(f"{path}: TensorBoard's events; its own library reads them, not installed; {remedy}") from None
    root = path.parent if path.is_file() else path
    folders = [root] if path.is_file() else sorted({file.parent for file in path.rglob(EVENTS)})
    for folder in folders:
        events: Any = EventAccumulator(str(folder), size_guidance={"scalars": 1, "tensors": 1})
        events.Reload()
        name = folder.relative_to(root).as_posix()
        name = folder.name if name == "." else name
        named = {setting: value_of(value) for setting, value in _NAMED.findall(name)}
        yield name, {"name": name, **named, **_hparams(events), **_last_values(events)}


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
