"""W&B and MLflow: one answer, whichever way a run is read."""

import json
import math
import sqlite3
import sys
import time

import pytest

import blueberry
from blueberry.errors import TableError
from blueberry.tables.reading import read_table, table_of
from blueberry.tables.runs import table_runs

BLOCK = 32_768


def varint(number):
    made = b""
    while number > 127:
        made, number = made + bytes([number & 127 | 128]), number >> 7
    return made + bytes([number])


def field(number, value):
    """Of a message: a number, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def items(values, key=1):
    return b"".join(
        field(1, field(key, name.encode()) + field(16, json.dumps(value).encode())) for name, value in values.items()
    )


def log(*records):
    """A log of W&B's, as it writes them: a record whole, or in parts where a block of 32 KiB ends."""
    made = b":W&B" + bytes([0xE1, 0xBE, 0])
    for record in records:
        first, left = True, record
        while first or left:
            room = BLOCK - len(made) % BLOCK
            if room < 7:
                made += b"\0" * room
                continue
            part, left = left[: room - 7], left[room - 7 :]
            kind = (1 if first else 4) if not left else (2 if first else 3)
            made += bytes(4) + len(part).to_bytes(2, "little") + bytes([kind]) + part
            first = False
    return made


def wandb_run(config, summary, history=(), name="brisk-sun-1", code=0, filler=0):
    started = field(1, b"abc") + field(4, items(config)) + field(8, name.encode())
    records = [field(21, b""), field(17, started), field(7, b"x" * filler)]
    records += [field(2, items(values, key=2) + field(2, field(1, step))) for step, values in enumerate(history)]
    records += [field(3, items(summary, key=2))] if summary else []
    records += [] if code is None else [field(18, field(1, code) if code else b"")]
    return log(*(record for record in records if record))


CONFIG = {"lr": 0.1, "seed": 3, "model": {"width": 64, "betas": [0.9, 0.95]}, "_wandb": {}}
SUMMARY = {"val/loss": 3.25, "_runtime": 5.5, "_step": 9, "_timestamp": 1.7e9}
PAGE = (
    '"Name","State","Notes","User","Tags","Created","Runtime","Sweep","lr","model.width","seed","val/loss"\n'
    '"brisk-sun-1","finished","-","me","","2026-11-29T22:22:06.000Z","5.5","","0.1","64","3","3.25"\n'
)


def one_run(path):
    (row,) = read_table(path).rows
    names = ("lr", "seed", "model.width", "val_loss", "train_seconds", "status")
    return {name: row.values.get(name) for name in names}


def test_wandb_gives_one_answer_whichever_way_it_is_read(tmp_path):
    offline = tmp_path / "offline" / "wandb" / "offline-run-20261129_222205-abc"
    offline.mkdir(parents=True)
    (offline / "run-abc.wandb").write_bytes(wandb_run(CONFIG, SUMMARY, filler=3 * BLOCK))
    (offline.parent / "latest-run").symlink_to(offline.name)
    online = tmp_path / "online" / "run-20261129_222205-abc" / "files"
    online.mkdir(parents=True)
    (online / "wandb-summary.json").write_text(json.dumps(SUMMARY))
    (online / "config.yaml").write_text(
        "_wandb:\n  value: {}\nlr:\n  value: 0.1\nseed:\n  value: 3\nmodel:\n  value:\n    width: 64\n"
    )
    (tmp_path / "page.csv").write_text(PAGE)
    # as pandas writes what W&B's documented loop over runs of its API collects
    (tmp_path / "api.csv").write_text(
        ",summary,config,name\n"
        "0,\"{'val/loss': 3.25, '_runtime': 5.5, 'grad': nan}\",\"{'lr': 0.1, 'seed': 3, 'model': {'width': 64}}\",x\n"
    )
    said = {"lr": 0.1, "seed": 3, "model.width": 64, "val_loss": 3.25, "train_seconds": 5.5, "status": "finished"}
    log_file = offline / "run-abc.wandb"
    assert [one_run(path) for path in (tmp_path / "offline", offline, log_file, tmp_path / "page.csv")] == [said] * 4
    assert one_run(tmp_path / "online") == said | {"status": None}
    api = one_run(tmp_path / "api.csv")
    assert (api["seed"], api["val_loss"], api["train_seconds"]) == (3, 3.25, 5.5)
    assert blueberry.analyse(  # --vary finds config.lr
        [{"summary.val/loss": 3, "config.lr": 1}, {"summary.val/loss": 4, "config.lr": 2}], vary="lr"
    ).arms


@pytest.mark.parametrize(
    ("summary", "code", "cut", "expected"),
    [
        ({"val_loss": 3.0}, 0, 0, ("finished", 3.0)),
        ({"val_loss": 3.0}, 1, 0, ("failed", 3.0)),
        ({"val_loss": 3.0}, None, 0, ("unfinished", 3.0)),
        ({"val_loss": 3.0}, 0, 20, ("unfinished", 4.0)),  # torn by kill -9: what its history said last
        (None, None, 0, ("unfinished", 4.0)),
        ({"val_loss": math.nan}, 0, 0, ("finished", None)),
    ],
)
def test_how_a_run_of_wandb_ended(tmp_path, summary, code, cut, expected):
    written = wandb_run({"lr": 1}, summary, [{"val_loss": 5.0}, {"val_loss": 4.0}], code=code)
    (tmp_path / "run-a.wandb").write_bytes(written[: len(written) - cut])
    (row,) = read_table(tmp_path).rows
    value = row.values["val_loss"]
    assert (row.values["status"], None if math.isnan(value) else value) == expected


def test_a_log_that_is_none_of_wandbs_is_refused_and_an_empty_one_passed_over(tmp_path):
    (tmp_path / "a.wandb").write_bytes(b"something else")
    with pytest.raises(TableError, match=r"a\.wandb: not W&B's own log"):
        read_table(tmp_path / "a.wandb")
    (tmp_path / "a.wandb").write_bytes(b"")
    with pytest.raises(TableError, match="a folder without runs"):
        read_table(tmp_path)


def test_rotten_bytes_of_a_log_are_a_line_or_fewer_values(tmp_path):
    whole = wandb_run(CONFIG, SUMMARY, [{"val/loss": 4.0}])
    for at in range(0, 400, 7):
        written = bytearray(whole)
        written[at % len(written)] ^= 0xFF
        (tmp_path / "run.wandb").write_bytes(bytes(written))
        try:
            read_table(tmp_path)
        except TableError as refused:
            assert "\n" not in str(refused), at


@pytest.mark.slow
def test_wandbs_own_library_writes_what_is_read(tmp_path):
    wandb = pytest.importorskip("wandb")
    quiet = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True, x_disable_meta=True)
    run = wandb.init(
        project="p", mode="offline", dir=str(tmp_path), name="a", config={"lr": 0.5, "seed": 1}, settings=quiet
    )
    run.log({"val/loss": 4.0})
    run.log({"val/loss": 3.5})
    run.summary["best"] = 3
    run.finish()
    (log,) = tmp_path.rglob("*.wandb")
    deadline = time.monotonic() + 60
    while read_table(log).rows[0].values["status"] != "finished" and time.monotonic() < deadline:
        time.sleep(0.1)  # finish() does not wait for the file
    (row,) = read_table(tmp_path).rows
    assert {
        "name": "a",
        "lr": 0.5,
        "seed": 1,
        "val_loss": 3.5,
        "best": 3,
        "status": "finished",
    }.items() <= row.values.items()


CHART = (
    '"Step","lr0.01-s0 - val_loss","lr0.01-s0 - val_loss__MIN","lr0.01-s0 - val_loss__MAX",'
    '"lr0.03-s0 - val_loss","lr0.03-s0 - val_loss__MIN","lr0.03-s0 - val_loss__MAX"\n'
    '"0","4.0","4.0","4.0","4.1","4.1","4.1"\n"10","3.5","3.5","3.5","","",""\n"20","","","","3.2","3.2","{most}"\n'
)


def test_a_chart_of_wandb_is_said_to_be_curves_and_its_ends_are_judged(tmp_path):
    (tmp_path / "chart.csv").write_text(CHART.replace("{most}", "3.2"))
    table = read_table(tmp_path / "chart.csv")
    assert [(row.values["name"], row.values["val_loss"], row.values["step"]) for row in table.rows] == [
        ("lr0.01-s0", 3.5, 10),
        ("lr0.03-s0", 3.2, 20),
    ]
    assert "curves of 2 runs" in table.notes[0]
    assert '--name-pattern "lr{lr}-s{seed}"' in table.notes[2]
    judged = blueberry.analyse(tmp_path / "chart.csv", vary="lr")
    assert "budget" in {audit.audit for audit in judged.audits if audit.severity == "block"}, "one curve is longer"


def test_a_chart_of_several_runs_a_curve_is_refused(tmp_path):
    (tmp_path / "chart.csv").write_text(CHART.replace("{most}", "3.9"))
    with pytest.raises(TableError, match=r"lr0.03-s0 is several runs, from 3.2 to 3.9 at the end"):
        read_table(tmp_path / "chart.csv")


# --- MLflow ---


def mlflow_run(folder, name, params, metrics, status=3, stage="active"):
    for kind in ("params", "metrics", "tags"):
        (folder / kind).mkdir(parents=True)
    (folder / "meta.yaml").write_text(
        f"lifecycle_stage: {stage}\nrun_id: {folder.name}\nrun_name: {name}\nstatus: {status}\ntags: []\n"
    )
    (folder / "tags" / "mlflow.runName").write_text(name)
    (folder / "tags" / "team").write_text("a")
    for key, value in params.items():
        (folder / "params" / key).write_text(str(value))
    for key, lines in metrics.items():
        (folder / "metrics" / key).parent.mkdir(exist_ok=True, parents=True)
        (folder / "metrics" / key).write_text(
            "\n".join(f"1795991048216 {value} {step}" for step, value in lines) + "\n"
        )


def test_mlflows_folders(tmp_path):
    root = tmp_path / "mlruns"
    (root / "677").mkdir(parents=True)
    (root / "677" / "meta.yaml").write_text("experiment_id: '677'\nlifecycle_stage: active\nname: sweep\n")
    mlflow_run(root / "677" / "8a", "first", {"lr": 0.1, "seed": 0}, {"val/loss": [(0, 4), (9, 3.5), (5, 9)]})
    mlflow_run(root / "677" / "9b", "second", {"lr": 0.2, "seed": 0}, {"val/loss": [(0, "nan")]}, status=4)
    mlflow_run(root / "677" / "ac", "gone", {"lr": 0.3}, {}, stage="deleted")
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "meta.yaml").write_text("{% set version = '1' %}\npackage:\n  name: x\n")  # conda's
    first, second = read_table(tmp_path).rows
    assert {
        "name": "first",
        "experiment": "sweep",
        "status": "finished",
        "lr": 0.1,
        "seed": 0,
        "team": "a",
    }.items() <= (first.values.items())
    assert (first.values["val_loss"], second.values["status"]) == (3.5, "failed")


def test_mlflows_database(tmp_path):
    with sqlite3.connect(tmp_path / "mlflow.db") as sql:
        sql.executescript(
            """
            CREATE TABLE experiments (experiment_id INTEGER, name TEXT);
            CREATE TABLE runs (run_uuid TEXT, name TEXT, experiment_id INTEGER, status TEXT, lifecycle_stage TEXT,
                               start_time INTEGER);
            CREATE TABLE params (run_uuid TEXT, key TEXT, value TEXT);
            CREATE TABLE tags (run_uuid TEXT, key TEXT, value TEXT);
            CREATE TABLE latest_metrics (run_uuid TEXT, key TEXT, value FLOAT, is_nan BOOLEAN, step INTEGER);
            INSERT INTO experiments VALUES (1, 'sweep');
            INSERT INTO runs VALUES ('a', 'one', 1, 'FINISHED', 'active', 1), ('b', 'two', 1, 'FAILED', 'active', 2),
                                    ('c', 'gone', 1, 'FINISHED', 'deleted', 3), ('d', 'four', 1, 'FINISHED', 'active', 4);
            INSERT INTO params VALUES ('a', 'lr', '0.1'), ('b', 'lr', '1'), ('c', 'lr', '2'), ('d', 'lr', '3');
            INSERT INTO tags VALUES ('a', 'mlflow.runName', 'one');
            INSERT INTO latest_metrics VALUES ('a', 'val_loss', 3.5, 0, 9), ('b', 'val_loss', 0, 1, 9);
            """
        )
        sql.execute("INSERT INTO latest_metrics VALUES ('d', 'val_loss', ?, 0, 9)", (sys.float_info.max,))
    sql.close()
    rows = [row.values for row in read_table(tmp_path / "mlflow.db").rows]
    assert rows == [row.values for row in read_table(tmp_path).rows], "given the folder, the same"
    assert [row["name"] for row in rows] == ["one", "two", "four"]
    assert (rows[0]["lr"], rows[0]["val_loss"], rows[2]["val_loss"]) == (0.1, 3.5, math.inf)
    found = table_runs(read_table(tmp_path / "mlflow.db"), ["lr"])
    assert [run.result.status for run in found.runs] == ["completed", "failed", "diverged"]


def test_a_data_frame_of_mlflow_has_numbers_as_texts():
    rows = [
        {"run_id": f"r{k}", "params.lr": f"0.0{k}", "metrics.val_loss": 3.0 + k, "status": "FINISHED"} for k in (1, 2)
    ]
    assert [run.settings["lr"] for run in table_runs(table_of(rows), ["lr"]).runs] == [0.01, 0.02]


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"junk" * 100, None])
def test_a_database_that_is_no_tools_is_a_line(tmp_path, content):
    path = tmp_path / "some.db"
    if content is None:
        with sqlite3.connect(path) as sql:
            sql.execute("CREATE TABLE users (name TEXT)")
        sql.close()
    else:
        path.write_bytes(content)
    with pytest.raises(TableError, match="database") as refused:
        read_table(path)
    assert "\n" not in str(refused.value)
