"""Each sink, read back with the tool's own reader. Their libraries are extras: where one is missing, it is skipped."""

import json
import os
import resource
import signal
import struct
import time
from contextlib import contextmanager

import pytest

from blueberry import sinks
from blueberry.files import ABANDONED_SECONDS
from blueberry.sinks import logging_to, points
from tests.sinks.test_sinks_log import a_run

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries' own making
slow = pytest.mark.slow  # MLflow takes 12 s to make the tables of a new database here, W&B's first run 5 s
TOOLS = ["tensorboard", pytest.param("wandb", marks=slow), pytest.param("mlflow", marks=slow)]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR", "WANDB_PROJECT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def log_all(tool, folder, runs, study="lr sweep"):
    """What was said while these were logged."""
    pytest.importorskip(tool)
    said = []
    with logging_to([tool], folder, study, said.append) as tell:
        for run in runs:
            tell(run)
    return said


def read_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for run in sorted((folder / "logs" / "tensorboard" / "lr-sweep").iterdir()):
        events = EventAccumulator(str(run), size_guidance={"scalars": 0})
        events.Reload()
        found[run.name] = {
            tag: [(e.step, e.value) for e in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        }  # fmt: skip
    return found


def read_mlflow(folder):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'logs' / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("lr sweep")
    return client, client.search_runs([experiment.experiment_id])


def test_tensorboard_has_every_point(tmp_path):
    run = a_run()
    assert log_all("tensorboard", tmp_path, [run, a_run(1)]) == []
    found = read_tensorboard(tmp_path)
    assert len(found) == 2
    scalars = found[f"learning_rate=0.03-seed-0-{run.result.fingerprint[:8]}"]
    for name in ("train_loss", "val_loss", "learning_rate"):
        expected = [(update, values[name]) for update, values in points(run.result) if name in values]
        assert [step for step, _ in scalars[name]] == [update for update, _ in expected]
        assert [value for _, value in scalars[name]] == pytest.approx([value for _, value in expected], rel=1e-6)
    assert scalars["final/val_loss"][0] == (12, pytest.approx(sinks.totals(run.result)["val_loss"], rel=1e-6))


@slow
def test_mlflow_has_every_point(tmp_path):
    run = a_run()
    assert log_all("mlflow", tmp_path, [run, a_run(rate=2.0, arm="learning_rate=2.0")]) == []
    client, found = read_mlflow(tmp_path)
    by_arm = {one.data.tags["blueberry.arm"]: one for one in found}
    assert set(by_arm) == {"learning_rate=0.03", "learning_rate=2.0"}
    one = by_arm["learning_rate=0.03"]
    assert (one.info.run_name, one.info.status) == ("learning_rate=0.03 seed 0", "FINISHED")
    assert one.data.params["optimizer.muon.learning_rate"] == "0.03"
    assert one.data.metrics["val_loss"] == sinks.totals(run.result)["val_loss"]
    history = client.get_metric_history(one.info.run_id, "train_loss")
    assert [point.value for point in history] == list(run.result.curve.train_loss)
    diverged = by_arm["learning_rate=2.0"]
    assert diverged.data.tags["blueberry.status"] == "diverged"
    assert "val_loss" not in diverged.data.metrics


def wandb_records(file):
    """Each record of W&B's log, framed as LevelDB frames its own. Source: LevelDB's doc/log_format.md."""
    from wandb.proto import wandb_internal_pb2

    data, place, record = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32_768 - place % 32_768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        record = (b"" if kind in (1, 2) else record) + data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(record)


@slow
def test_wandb_has_every_run_and_point(tmp_path):
    pytest.importorskip("wandb")
    run = a_run()
    assert log_all("wandb", tmp_path, [run, a_run(1)]) == []
    files = sorted((tmp_path / "logs" / "wandb").rglob("*.wandb"))
    records = [{record.WhichOneof("record_type"): record for record in wandb_records(file)} for file in files]
    assert sorted(one["run"].run.display_name for one in records) == [
        "learning_rate=0.03 seed 0",
        "learning_rate=0.03 seed 1",
    ]
    assert {one["run"].run.run_group for one in records} == {"lr sweep"}
    assert [one["exit"].exit.exit_code for one in records] == [0, 0]
    (file,) = [f for f, one in zip(files, records, strict=True) if one["run"].run.display_name.endswith("0")]
    history, config, summary = [], {}, {}
    for record in wandb_records(file):
        items = {
            "history": lambda record: record.history.item,
            "run": lambda record: record.run.config.update,
            "config": lambda record: record.config.update,
            "summary": lambda record: record.summary.update,
        }.get(record.WhichOneof("record_type"), lambda record: ())(record)
        read = {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
        if record.WhichOneof("record_type") == "history":
            history.append({name: value for name, value in read.items() if not name.startswith("_")})
        else:
            (summary if record.WhichOneof("record_type") == "summary" else config).update(read)
    assert history == [{"update": update, **values} for update, values in points(run.result)]
    assert (config["seed"], config["optimizer.muon.learning_rate"]) == (0, 0.03)
    assert summary["val_loss"] == sinks.totals(run.result)["val_loss"]
    assert not list((tmp_path / "logs" / "wandb").glob(".partial-*"))


def count(tool, folder):
    if tool == "mlflow":
        return len(read_mlflow(folder)[1])
    if tool == "tensorboard":
        return len(read_tensorboard(folder))
    return len(list((folder / "logs" / "wandb" / "wandb").glob("offline-run-*")))


@pytest.mark.parametrize("tool", TOOLS)
def test_a_rerun_writes_only_what_is_missing(tmp_path, tool):
    assert log_all(tool, tmp_path, [a_run(0)]) == []
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*seed-0*/*")}
    assert log_all(tool, tmp_path, [a_run(0), a_run(1)]) == []
    assert count(tool, tmp_path) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


@slow
def test_a_run_that_a_kill_left_half_written_is_written_anew(tmp_path):
    client = pytest.importorskip("mlflow").tracking.MlflowClient
    run = a_run()
    log_all("mlflow", tmp_path, [])
    made = client(tracking_uri=f"sqlite:///{tmp_path / 'logs' / 'mlflow' / 'mlflow.db'}")
    experiment = made.get_experiment_by_name("lr sweep").experiment_id
    made.create_run(experiment, tags={"blueberry.key": sinks.key(run)})
    made.create_run(experiment, tags={"somebody": "else"})
    assert log_all("mlflow", tmp_path, [run]) == []
    keys = [one.data.tags.get("blueberry.key") for one in read_mlflow(tmp_path)[1]]
    assert sorted(keys, key=str) == [None, sinks.key(run)] or keys == [sinks.key(run), None]


def test_a_partial_folder_is_not_taken_for_a_run(tmp_path):
    run = a_run()
    partial = tmp_path / "logs" / "tensorboard" / "lr-sweep" / f".partial-{'0' * 32}"
    partial.mkdir(parents=True)
    (partial / "events.out.tfevents.1").write_bytes(b"half")
    old = time.time() - ABANDONED_SECONDS - 60
    os.utime(partial, (old, old))
    assert log_all("tensorboard", tmp_path, [run]) == []
    assert len(read_tensorboard(tmp_path)) == 1


@pytest.mark.parametrize("tool", TOOLS)
def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, tool):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / tool).write_text("a file where the folder should be")
    said = log_all(tool, tmp_path, [a_run(0), a_run(1)])
    assert len(said) == 1
    assert said[0].startswith(f"--log {tool}: ")


@contextmanager
def a_full_disk(free_bytes):
    """Files of this process cannot grow beyond that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("tool", ["tensorboard", pytest.param("mlflow", marks=slow)])
def test_a_full_disk_is_said_once(tmp_path, tool):
    with a_full_disk(500):
        said = log_all(tool, tmp_path, [a_run(0), a_run(1)])
    assert len(said) == 1
    assert said[0].startswith(f"--log {tool}: ")
    if tool == "tensorboard":
        assert log_all(tool, tmp_path, [a_run(0)]) == []
        assert count(tool, tmp_path) == 1


@slow
def test_the_tools_own_environment_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    assert log_all("mlflow", tmp_path / "store", [a_run()]) == []
    assert (tmp_path / "elsewhere.db").is_file()
    assert not (tmp_path / "store").exists()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "own"))
    assert log_all("wandb", tmp_path / "store", [a_run()]) == []
    assert len(list((tmp_path / "own" / "wandb").glob("offline-run-*"))) == 1
