"""Other places where runs can be looked at, with --log: W&B, TensorBoard, MLflow. The store stays the truth.

A sink writes a run once, whole, when it has ended, in a thread of its own, so that one that fails or hangs stops only
itself; runs that it has already are left alone. So a kill loses nothing that the same command does not write later,
and writes nothing twice. Their libraries are extras. A new one is a class with `result` and an entry of SINKS.
"""

import logging
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from blueberry.errors import SinkError, did_you_mean
from blueberry.files import partial_folder, sweep
from blueberry.records import RunResult, StudyRun

KEY = "blueberry.key"
"""The tag by which MLflow knows a run."""
BATCH_METRICS, BATCH_PARAMS, PARAM_CHARACTERS, PAGE_RUNS = 1000, 100, 500, 1000
"""The most that MLflow takes or gives at once."""
FINAL = (
    "val_loss", "val_bits_per_byte", "val_accuracy", "val_perplexity",
    "test_loss", "test_bits_per_byte", "test_accuracy", "test_perplexity",
)  # fmt: skip
"""Metrics of a run's end; each is written only where it was measured."""
Plain = bool | int | float | str


def title(run: StudyRun) -> str:
    """Its name for a person."""
    return f"{arm(run)} seed {run.seed}"


def arm(run: StudyRun) -> str:
    """With the part, in a study made of parts."""
    return f"{run.part}: {run.arm}" if run.part else run.arm


def key(run: StudyRun) -> str:
    """Names it among all runs of all studies; fit for a file's name, at most 64 characters."""
    return f"{file_name(run.study or '')[:40]}-{run.result.fingerprint}"


def words(run: StudyRun) -> dict[str, str]:
    """What it is and what became of it."""
    return {
        "study": run.study or "",
        "arm": arm(run),
        "stage": run.stage,
        "status": run.result.status,
        "fingerprint": run.result.fingerprint,
    }


def settings(run: StudyRun) -> dict[str, Plain]:
    """The resolved recipe and the seed as every sink can hold them: plain values, others as text, None left out."""
    known = {name: value for name, value in {**run.result.recipe, "seed": run.seed}.items() if value is not None}
    return {name: value if isinstance(value, Plain) else str(value) for name, value in known.items()}


def totals(result: RunResult) -> dict[str, float]:
    """The numbers of the run's end; those that were not measured or counted are left out."""
    measured = {name: result.metric(name) for name in FINAL}
    named = {f"{name}/loss": metrics.loss for name, metrics in result.sets.items()}
    counts = {"updates": result.num_updates, "tokens": result.num_tokens, "flops": result.num_flops}
    numbers = {**measured, **named, **result.extra, **counts, "train_seconds": result.train_seconds}
    return {name: value for name, value in numbers.items() if value is not None}


def points(result: RunResult) -> Iterator[tuple[int, dict[str, float]]]:
    """Updates done, ascending, and what was recorded there; a number that was not finite is left out."""
    curve, seen = result.curve, {evaluation.update: evaluation for evaluation in result.evaluations}
    for update in range(1, max(len(curve.train_loss), max(seen, default=0)) + 1):
        values: dict[str, float | None] = {}
        for name in ("train_loss", "gradient_norm", "learning_rate"):
            recorded = getattr(curve, name)
            values[name] = recorded[update - 1] if update <= len(recorded) else None
        if update in seen:
            measured = seen[update].validation
            values |= {
                "val_loss": measured.loss,
                "val_bits_per_byte": measured.bits_per_byte,
                "val_accuracy": measured.accuracy,
                "tokens": seen[update].tokens,
            }
        known = {name: float(value) for name, value in values.items() if value is not None}
        if known:
            yield update, known


def file_name(text: str) -> str:
    """With "-" for what a file's name should not have."""
    return re.sub(r"[^A-Za-z0-9_.=+-]+", "-", text).strip(".-") or "unnamed"


class Sink(Protocol):
    """Whatever it raises is said once and ends the logging, not the runs."""

    def __init__(self, folder: Path, study: str) -> None: ...

    def result(self, run: StudyRun) -> None:
        """Write a run that has ended, unless it is there already."""
        ...


class WandbSink:
    """W&B: runs grouped by study, named by arm and seed, the recipe as config.

    Offline, unless WANDB_MODE or WANDB_API_KEY says otherwise; `wandb sync FOLDER/wandb/offline-run-*` sends them.
    W&B writes into a hidden folder; the run's own folder moves to `wandb/` when it is whole.
    """

    def __init__(self, folder: Path, study: str) -> None:
        self._folder = Path(os.environ.get("WANDB_DIR") or folder) / "wandb"
        self._folder.mkdir(parents=True, exist_ok=True)
        online = os.environ.get("WANDB_MODE") or os.environ.get("WANDB_API_KEY")
        self._mode = None if online else "offline"

    def result(self, run: StudyRun) -> None:
        if next(self._folder.glob(f"*run-*-{key(run)}"), None) is not None:
            return
        with partial_folder(self._folder.parent) as hidden:
            written = self._write(run, hidden)
            if hidden not in written.parents:  # wandb turns to another folder when it cannot write to this one
                raise OSError(f"{hidden} cannot be written")
            written.rename(self._folder / written.name)

    def _write(self, run: StudyRun, folder: Path) -> Path:
        """The folder that W&B made for it."""
        import wandb  # pyright: ignore[reportMissingImports]

        quiet: Any = wandb.Settings(
            silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True
        )
        made: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "blueberry",
            group=run.study,
            name=title(run),
            id=key(run),
            job_type=run.stage,
            config={**settings(run), **words(run)},
            dir=str(folder),
            mode=self._mode,  # pyright: ignore[reportArgumentType]
            resume=None if self._mode == "offline" else "allow",
            reinit="create_new",
            settings=quiet,
        )
        made.define_metric("*", step_metric="update")
        for update, values in points(run.result):
            made.log({"update": update, **values})
        made.summary.update(totals(run.result))
        written = Path(made.dir).parent
        made.finish(exit_code=0)
        return written


class TensorBoardSink:
    """TensorBoard: a folder a run, `STUDY/ARM-seed-N-FINGERPRINT`, with its settings as hparams.

    Each run is written under another name first and appears whole.
    """

    def __init__(self, folder: Path, study: str) -> None:
        self._folder = folder / file_name(study)
        self._folder.mkdir(parents=True, exist_ok=True)
        sweep(self._folder)

    def result(self, run: StudyRun) -> None:
        name = f"{file_name(arm(run))[:120]}-seed-{run.seed}-{run.result.fingerprint[:8]}"
        final = self._folder / name
        if final.is_dir():
            return
        with partial_folder(self._folder) as written:
            with open(written / f"events.out.tfevents.{int(time.time())}.{run.result.fingerprint}", "wb") as file:
                for event in _events(run):
                    _write(file, event)
            if not final.is_dir():  # another process was quicker
                written.rename(final)


def _events(run: StudyRun) -> Any:
    from tensorboard.compat.proto import event_pb2, summary_pb2  # pyright: ignore[reportMissingImports]
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # pyright: ignore[reportMissingImports]

    Event: Any = event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]
    Summary: Any = summary_pb2.Summary  # pyright: ignore[reportAttributeAccessIssue]
    now = time.time()

    def scalars(values: dict[str, float]) -> Any:
        return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    yield Event(wall_time=now, file_version="brain.Event:2")
    given = {**settings(run), **words(run)}
    yield Event(wall_time=now, summary=hparams_pb(given, trial_id=key(run), start_time_secs=now))
    for update, values in points(run.result):
        yield Event(wall_time=now, step=update, summary=scalars(values))
    ends = {f"final/{name}": value for name, value in totals(run.result).items()}
    yield Event(wall_time=now, step=run.result.num_updates or 0, summary=scalars(ends))


def _write(file: Any, event: Any) -> None:
    """One record. TensorBoard's own writer does it in a thread that keeps its errors to itself."""
    from tensorboard.summary.writer.record_writer import RecordWriter  # pyright: ignore[reportMissingImports]

    RecordWriter(file).write(event.SerializeToString())


class MlflowSink:
    """MLflow: a study is an experiment, a run a run. Into a SQLite file, or wherever MLFLOW_TRACKING_URI says.

    A run that a kill left half written is deleted there and written anew.
    """

    def __init__(self, folder: Path, study: str) -> None:
        for name in ("mlflow", "alembic"):  # they announce each table they make
            logging.getLogger(name).setLevel(logging.ERROR)
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

        where = os.environ.get("MLFLOW_TRACKING_URI")
        if not where:
            folder.mkdir(parents=True, exist_ok=True)
            where = f"sqlite:///{(folder / 'mlflow.db').absolute()}"
        self._client: Any = MlflowClient(tracking_uri=where)
        known = self._client.get_experiment_by_name(study)
        place = None if os.environ.get("MLFLOW_TRACKING_URI") else (folder / "artifacts").absolute().as_uri()
        self._experiment: str = known.experiment_id if known else self._client.create_experiment(study, place)
        self._written = self._look()

    def result(self, run: StudyRun) -> None:
        from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]

        name = key(run)
        if name in self._written:
            return
        tags = {**{f"blueberry.{name}": word for name, word in words(run).items()}, KEY: name}
        made = self._client.create_run(self._experiment, run_name=title(run), tags=tags).info.run_id
        given = {**settings(run), "arm": arm(run)}
        params = [Param(name, str(value)[:PARAM_CHARACTERS]) for name, value in given.items()]
        for start in range(0, len(params), BATCH_PARAMS):
            self._client.log_batch(made, params=params[start : start + BATCH_PARAMS])
        now = int(time.time() * 1000)
        last = run.result.num_updates or 0
        metrics = [Metric(name, v, now, update) for update, vs in points(run.result) for name, v in vs.items()]
        metrics += [Metric(name, value, now, last) for name, value in totals(run.result).items()]
        for start in range(0, len(metrics), BATCH_METRICS):
            self._client.log_batch(made, metrics=metrics[start : start + BATCH_METRICS])
        self._client.set_terminated(made, "FINISHED")
        self._written.add(name)

    def _look(self) -> set[str]:
        """Keys of the runs that are there whole; the others are deleted."""
        found: set[str] = set()
        token = None
        while True:
            page = self._client.search_runs([self._experiment], max_results=PAGE_RUNS, page_token=token)
            for run in page:
                if run.info.status == "FINISHED":
                    found.add(run.data.tags.get(KEY, ""))
                elif KEY in run.data.tags:
                    self._client.delete_run(run.info.run_id)
            token = page.token
            if not token:
                return found


SINKS: dict[str, type[Sink]] = {"wandb": WandbSink, "tensorboard": TensorBoardSink, "mlflow": MlflowSink}
"""By name, which is that of the library each needs and of the extra that installs it."""


# --- What --log does ---

CLOSE_SECONDS = 60.0
"""That the end of a study waits for its sinks."""
INTERRUPTED_SECONDS = 3.0
"""The same when the study stops early."""
SINGLE_RUNS = "single-runs"
"""The study that runs of `train` are shown under."""
MOST_WAITING = 2_000
"""Runs that a sink may be behind; of more, the later ones are left for the next time."""

_REMEDY = "the same command writes what is missing"


def on_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def logging_to(
    names: Sequence[str], store: Path, study: str, warn: Callable[[str], None] = on_standard_error
) -> Iterator[Callable[[StudyRun], None]]:
    """Gives what is to be told of each run that has ended; told twice of one, it writes it once.

    Each sink has its own folder, `STORE/logs/SINK`. `warn` is given a line by each sink that fails, once.
    Raises: SinkError for a sink that does not exist, or whose library is not installed.
    """
    sinks = {name: find_sink(name) for name in dict.fromkeys(names)}
    feeds = [Feed(name, sink, store / "logs" / name, study, warn) for name, sink in sinks.items()]

    def tell(run: StudyRun) -> None:
        for feed in feeds:
            feed.tell(run)

    seconds = INTERRUPTED_SECONDS
    try:
        yield tell
        seconds = CLOSE_SECONDS
    finally:
        deadline = time.monotonic() + seconds
        for feed in feeds:
            feed.close(deadline)


def find_sink(name: str) -> type[Sink]:
    """Its library is loaded only when it is made. Raises: SinkError."""
    if name not in SINKS:
        raise SinkError(f'--log "{name}": no such place to log to{did_you_mean(name, SINKS)}')
    if find_spec(name) is None:
        raise SinkError(f'--log "{name}": {name} is not installed; pip install "blueberry-lm[{name}]"')
    return SINKS[name]


class Feed:
    """One sink and the thread that it works in."""

    def __init__(self, name: str, sink: type[Sink], folder: Path, study: str, warn: Callable[[str], None]) -> None:
        self._name, self._sink, self._folder, self._study, self._warn = name, sink, folder, study, warn
        self._waiting: queue.Queue[StudyRun | None] = queue.Queue(MOST_WAITING)
        self._told: set[str] = set()
        self._num_left = 0
        self._failed = False
        self._thread = threading.Thread(target=self._work, name=f"log {name}", daemon=True)
        self._thread.start()

    def tell(self, run: StudyRun) -> None:
        """Never raises, never waits."""
        name = key(run)
        if self._failed or name in self._told:
            return
        try:
            self._waiting.put_nowait(run)
            self._told.add(name)
        except queue.Full:
            self._num_left += 1

    def close(self, deadline: float) -> None:
        """Wait for what is still to be written, until a moment of the monotonic clock."""
        while self._thread.is_alive() and time.monotonic() < deadline:
            try:
                self._waiting.put(None, timeout=0.1)
                break
            except queue.Full:
                continue
        self._thread.join(max(deadline - time.monotonic(), 0))
        if self._failed:
            return
        behind = self._num_left + (self._waiting.qsize() if self._thread.is_alive() else 0)
        if self._thread.is_alive() or behind:
            self._warn(f"--log {self._name}: too slow to keep up, {behind or 1} runs are missing there; {_REMEDY}")

    def _work(self) -> None:
        try:
            sink = self._sink(self._folder, self._study)
            while (run := self._waiting.get()) is not None:
                sink.result(run)
        except BaseException as error:  # whatever a library raises, runs go on
            self._failed = True
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self._warn(f"--log {self._name}: {reason}; it is left out from here, runs go on; {_REMEDY}")
