"""Runs that Weights & Biases has written to this disk: a `run-*.wandb` file, a run's folder, or a folder of such.

A `.wandb` file is a log of protocol-buffer records in blocks of 32 KiB, framed as LevelDB frames its log.
Source: the file format of wandb-core; LevelDB's doc/log_format.md.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blueberry.errors import TableError
from blueberry.tables.json_rows import flat

HEADER = b":W&B"
HEADER_BYTES = 7
BLOCK_BYTES = 32_768
FRAME = struct.Struct("<IHB")
FULL, FIRST, LAST = 1, 2, 4
KEPT = "_runtime"
"""Of the columns that begin with an underscore, which are W&B's own, the one that a table has a use for."""


def is_wandb(path: Path) -> bool:
    """Whether W&B wrote this file or something in this folder."""
    if path.is_file():
        return path.suffix == ".wandb"
    return any(path.rglob("*.wandb")) or any(path.rglob("wandb-summary.json"))


def read_wandb(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each run stands, and its settings and last values by column, with name, group and status.

    Raises: TableError if the wandb library is not installed or a file is none of its.
    """
    if path.is_file():
        yield str(path), _logged(path)
        return
    logs = sorted(path.rglob("*.wandb"))
    yield from ((str(log.relative_to(path)), _logged(log)) for log in logs)
    told = {log.parent for log in logs}
    for summary in sorted(path.rglob("wandb-summary.json")):
        folder = summary.parent.parent if summary.parent.name == "files" else summary.parent
        if folder not in told:
            yield str(summary.parent.relative_to(path)), _files(summary.parent)


def _logged(path: Path) -> dict[str, Any]:
    """The run of a `.wandb` file. One that does not say how it ended has not ended."""
    try:
        from wandb.proto import wandb_internal_pb2 as proto  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise _lacks_extra(path) from None
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    about: dict[str, Any] = {"status": "unfinished"}
    for record in _records(path):
        said: Any = proto.Record.FromString(record)  # pyright: ignore[reportAttributeAccessIssue]
        kind = said.WhichOneof("record_type")
        if kind == "run":
            about |= {"name": said.run.display_name or said.run.run_id, "group": said.run.run_group or None}
            _update(config, said.run.config.update)
        elif kind == "config":
            _update(config, said.config.update)
        elif kind == "summary":
            _update(summary, said.summary.update)
        elif kind == "exit":
            about["status"] = "crashed" if said.exit.exit_code else "completed"
    return _row(about, config, summary)


def _records(path: Path) -> Iterator[bytes]:
    """Each whole record. A file whose writer was killed ends in a part of one, which is left out."""
    data = path.read_bytes()
    if not data.startswith(HEADER):
        raise TableError(f"{path}: not a .wandb file; it must be one that wandb wrote; give another")
    place, record = HEADER_BYTES, b""
    while place + FRAME.size <= len(data):
        left = BLOCK_BYTES - place % BLOCK_BYTES
        if left < FRAME.size:
            place += left
            continue
        _, length, kind = FRAME.unpack_from(data, place)
        place += FRAME.size
        if kind == 0 or place + length > len(data):
            return
        record = (b"" if kind in (FULL, FIRST) else record) + data[place : place + length]
        place += length
        if kind in (FULL, LAST):
            yield record


def _update(values: dict[str, Any], items: Any) -> None:
    for item in items:
        values[".".join(item.nested_key) or item.key] = json.loads(item.value_json)


def _files(folder: Path) -> dict[str, Any]:
    """The run of `wandb-summary.json`, and `config.yaml` beside it."""
    summary = _json(folder / "wandb-summary.json")
    config: dict[str, Any] = {}
    settings = folder / "config.yaml"
    if settings.is_file():
        try:
            import yaml  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise _lacks_extra(settings) from None
        try:
            read = yaml.safe_load(settings.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError):
            raise TableError(f"{settings}: not valid YAML; it must be as wandb wrote it; restore it") from None
        config = {name: v["value"] if isinstance(v, dict) and "value" in v else v for name, v in read.items()}
    return _row({"name": folder.parent.name if folder.name == "files" else folder.name}, config, summary)


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        read = None
    if not isinstance(read, dict):
        raise TableError(f"{path}: not a JSON object; it must be as wandb wrote it; restore it")
    return read


def _row(about: dict[str, Any], config: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    values = {**flat(about), **flat(config), **flat(summary)}
    return {name: value for name, value in values.items() if not name.startswith("_") or name == KEPT}


def _lacks_extra(path: Path) -> TableError:
    remedy = "pip install 'blueberry-lm[wandb]', or export the runs as CSV"
    return TableError(f"{path}: a file of Weights & Biases; its own library reads it and is not installed; {remedy}")
