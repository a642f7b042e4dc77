"""Runs for MLflow: a study is an experiment, a run a run. Into a SQLite file, or wherever MLFLOW_TRACKING_URI says."""

import logging
import os
import time
from pathlib import Path
from typing import Any

from blueberry.records import StudyRun
from blueberry.sinks import entries

KEY = "blueberry.key"
BATCH_METRICS = 1000
BATCH_PARAMS = 100
PARAM_CHARACTERS = 500
PAGE_RUNS = 1000


def open_sink(folder: Path, study: str) -> "MlflowSink":
    return MlflowSink(folder, study)


class MlflowSink:
    """A run that a kill left half written is deleted there and written anew."""

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
        """Write a run, unless it is there."""
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

    def close(self) -> None:
        pass

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
