"""The sinks: what writes a run for W&B, TensorBoard or MLflow, whole and once. Their libraries are extras.

A new one is a class with `result` and an entry of SINKS.
"""

import logging
import os
import time
from pathlib import Path
from typing import Any, Protocol

from blueberry.files import partial_folder, sweep
from blueberry.records import StudyRun
from blueberry.sinks import entries

KEY = "blueberry.key"
"""The tag by which MLflow knows a run."""
BATCH_METRICS, BATCH_PARAMS, PARAM_CHARACTERS, PAGE_RUNS = 1000, 100, 500, 1000
"""The most that MLflow takes or gives at once."""


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
        if next(self._folder.glob(f"*run-*-{entries.key(run)}"), None) is not None:
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
            name=entries.title(run),
            id=entries.key(run),
            job_type=run.stage,
            config={**entries.settings(run), **entries.words(run)},
            dir=str(folder),
            mode=self._mode,  # pyright: ignore[reportArgumentType]
            resume=None if self._mode == "offline" else "allow",
            reinit="create_new",
            settings=quiet,
        )
        made.define_metric("*", step_metric="update")
        for update, values in entries.points(run.result):
            made.log({"update": update, **values})
        made.summary.update(entries.totals(run.result))
        written = Path(made.dir).parent
        made.finish(exit_code=0)
        return written


class TensorBoardSink:
    """TensorBoard: a folder a run, `STUDY/ARM-seed-N-FINGERPRINT`, with its settings as hparams.

    Each run is written under another name first and appears whole.
    """

    def __init__(self, folder: Path, study: str) -> None:
        self._folder = folder / entries.file_name(study)
        self._folder.mkdir(parents=True, exist_ok=True)
        sweep(self._folder)

    def result(self, run: StudyRun) -> None:
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

        key = entries.key(run)
        if key in self._written:
            return
        tags = {**{f"blueberry.{name}": word for name, word in entries.words(run).items()}, KEY: key}
        made = self._client.create_run(self._experiment, run_name=entries.title(run), tags=tags).info.run_id
        settings = {**entries.settings(run), "arm": entries.arm(run)}
        params = [Param(name, str(value)[:PARAM_CHARACTERS]) for name, value in settings.items()]
        for start in range(0, len(params), BATCH_PARAMS):
            self._client.log_batch(made, params=params[start : start + BATCH_PARAMS])
        now = int(time.time() * 1000)
        last = run.result.num_updates or 0
        metrics = [Metric(name, v, now, update) for update, vs in entries.points(run.result) for name, v in vs.items()]
        metrics += [Metric(name, value, now, last) for name, value in entries.totals(run.result).items()]
        for start in range(0, len(metrics), BATCH_METRICS):
            self._client.log_batch(made, metrics=metrics[start : start + BATCH_METRICS])
        self._client.set_terminated(made, "FINISHED")
        self._written.add(key)

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
