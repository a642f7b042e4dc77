"""Runs for TensorBoard: one folder each, `STUDY/ARM-seed-N-FINGERPRINT`, with its settings as hparams."""

import time
from pathlib import Path
from typing import Any

from blueberry.files import partial_folder, sweep
from blueberry.records import StudyRun
from blueberry.sinks import entries


def open_sink(folder: Path, study: str) -> "TensorBoardSink":
    return TensorBoardSink(folder / entries.file_name(study))


class TensorBoardSink:
    """Each run is written under another name first and appears whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)

    def result(self, run: StudyRun) -> None:
        """Write a run, unless its folder is there."""
        name = f"{entries.file_name(entries.arm(run))[:120]}-seed-{run.seed}-{run.result.fingerprint[:8]}"
        final = self._folder / name
        if final.is_dir():
            return
        with partial_folder(self._folder) as written:
            with open(written / f"events.out.tfevents.{int(time.time())}.{run.result.fingerprint}", "wb") as file:
                for event in _events(run):
                    _write(file, event)
            if not final.is_dir():  # another process was quicker
                written.rename(final)

    def close(self) -> None:
        pass


def _events(run: StudyRun) -> Any:
    from tensorboard.compat.proto import event_pb2, summary_pb2  # pyright: ignore[reportMissingImports]
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # pyright: ignore[reportMissingImports]

    Event: Any = event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]
    Summary: Any = summary_pb2.Summary  # pyright: ignore[reportAttributeAccessIssue]
    now = time.time()

    def scalars(values: dict[str, float]) -> Any:
        return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    yield Event(wall_time=now, file_version="brain.Event:2")
    given = {**entries.settings(run), **entries.words(run)}
    yield Event(wall_time=now, summary=hparams_pb(given, trial_id=entries.key(run), start_time_secs=now))
    for update, values in entries.points(run.result):
        yield Event(wall_time=now, step=update, summary=scalars(values))
    totals = {f"final/{name}": value for name, value in entries.totals(run.result).items()}
    yield Event(wall_time=now, step=run.result.num_updates or 0, summary=scalars(totals))


def _write(file: Any, event: Any) -> None:
    """One record. TensorBoard's own writer does it in a thread that keeps its errors to itself."""
    from tensorboard.summary.writer.record_writer import RecordWriter  # pyright: ignore[reportMissingImports]

    RecordWriter(file).write(event.SerializeToString())
