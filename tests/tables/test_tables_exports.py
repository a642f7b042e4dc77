"""What other programs leave behind: folders, states, logs and names with settings in them."""

import json
import sys

import pytest

import blueberry
from blueberry.errors import TableError
from blueberry.tables.reading import read_table, table_of
from blueberry.tables.runs import table_runs


def values(path, **asked):
    return [row.values for row in read_table(path, **asked).rows]


def lightning(folder, lr=0.001, loss=3.2):
    folder.mkdir(parents=True)
    (folder / "hparams.yaml").write_text(f"lr: {lr}\nseed: 0\nmodel:\n  width: 64\nbetas:\n- 0.9\n- 0.95\n")
    (folder / "metrics.csv").write_text(
        f"epoch,step,train_loss,val_loss\n0,10,3.9,\n0,20,,3.50\n1,30,3.4,\n1,40,,{loss}\n"
    )


@pytest.mark.parametrize("has_yaml", [True, False])
def test_lightnings_folders(tmp_path, monkeypatch, has_yaml):
    if not has_yaml:
        monkeypatch.setitem(sys.modules, "yaml", None)
    lightning(tmp_path / "logs" / "version_0")
    (row,) = values(tmp_path / "logs")
    assert (row["lr"], row["seed"], row["val_loss"], row["train_loss"], row["step"]) == (0.001, 0, 3.2, 3.4, 40)
    assert (row["name"], row["model.width"]) == ("version_0", 64)
    for vary in ("lr", ()):
        with pytest.raises(TableError, match=r"one run: seed=0, train_loss=3.4, val_loss=3.2, .*lr=0.001"):
            blueberry.analyse(tmp_path / "logs", vary=vary)
    lightning(tmp_path / "logs" / "version_1", 0.01, 3.1)
    assert [arm.arm for arm in blueberry.analyse(tmp_path / "logs", vary="lr").arms] == ["lr=0.001", "lr=0.01"]


def test_yaml_that_is_more_than_keys_and_values_needs_its_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    lightning(tmp_path / "v")
    (tmp_path / "v" / "hparams.yaml").write_text("model: !!python/object:x.Y\n  a: 1\n")
    with pytest.raises(TableError, match=r"pip install 'blueberry-lm\[wandb\]'"):
        read_table(tmp_path / "v")


STATE = {
    "global_step": 100,
    "epoch": 2.0,
    "train_batch_size": 8,
    "trial_params": None,
    "log_history": [
        {"epoch": 1.0, "learning_rate": 5e-5, "loss": 3.43, "step": 50, "grad_norm": 1.1},
        {"epoch": 1.0, "eval_loss": 3.4532, "step": 50},
        {"epoch": 2.0, "learning_rate": 0.0, "loss": 3.12, "step": 100},
        {"epoch": 2.0, "eval_loss": 3.1483, "step": 100},
        {"epoch": 2.0, "train_loss": 3.4, "step": 100, "total_flos": 1e12},
    ],
}


def test_the_state_of_a_trainer_of_transformers(tmp_path):
    (tmp_path / "trainer_state.json").write_text(json.dumps(STATE))
    (row,) = values(tmp_path / "trainer_state.json")
    assert (row["val_loss"], row["step"], row["train_loss"], row["train_batch_size"]) == (3.1483, 100, 3.4, 8)
    assert "learning_rate" not in row, "0 is where its schedule ended, not what it was given"


def test_folders_of_the_trainer_of_transformers(tmp_path):
    for rate, loss in ((0.1, 3.0), (0.2, 3.1)):
        run = tmp_path / f"lr{rate}-seed0"
        for step in (50, 100):
            (run / f"checkpoint-{step}").mkdir(parents=True)
            said = STATE | {"global_step": step, "log_history": STATE["log_history"][: step // 25]}
            (run / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(said))
        (run / "all_results.json").write_text(json.dumps({"eval_loss": loss, "train_loss": 2.9}))
    found = table_runs(read_table(tmp_path), ["lr"])
    assert [(run.arm, run.seed, run.result.metric("val_loss")) for run in found.runs] == [
        ("lr=0.1", 0, 3.0),
        ("lr=0.2", 0, 3.1),
    ]


def test_a_folder_of_wb(tmp_path):
    for seed in (0, 1):
        files = tmp_path / f"run-{seed}" / "files"
        files.mkdir(parents=True)
        (files / "wandb-summary.json").write_text(json.dumps({"val_loss": 3.0 + seed, "_runtime": 5, "_step": 9}))
        (files / "config.yaml").write_text(
            f"_wandb:\n  value: {{}}\nlr:\n  desc: null\n  value: 0.1\nseed:\n  value: {seed}\n"
        )
    found = values(tmp_path)
    assert [(row["lr"], row["seed"], row["val_loss"], row["name"]) for row in found] == [
        (0.1, 0, 3.0, "run-0"),
        (0.1, 1, 4.0, "run-1"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run.wandb", "B&W", "W&B's own log"),
        ("results.json", '{"schema": "blueberry/results/1", "runs": null}', '"runs": NoneType'),
        ("results.json", '{"schema": "blueberry/results/1", "runs": 3}', '"runs": int'),
        ("names.csv", f"{'(' * 100_000},val_loss\n1,2\n", "100000 characters"),
        ("digits.json", f'[{{"lr": 1, "val_loss": {"9" * 5000}}}, {{"lr": 2, "val_loss": 3}}]', "the metric is a number"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_runs_is_one_line(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(TableError, match=said) as raised:
        blueberry.analyse(tmp_path / name, vary="lr")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_integers_of_any_length_in_memory():
    with pytest.raises(TableError, match="the metric is a number"):
        blueberry.analyse([{"lr": 1, "val_loss": 10**5000}, {"lr": 2, "val_loss": 3}], vary="lr")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["lr=0.01,bs=32", "lr=0.02,bs=32"], [(0.01, 32), (0.02, 32)]),
        (["lr0.01-bs32", "lr3e-4-bs64"], [(0.01, 32), (3e-4, 64)]),
        (["sweep_lr_0.01_bs_32", "sweep_lr_0.02_bs_32"], [(0.01, 32), (0.02, 32)]),
    ],
)
def test_settings_inside_the_names_of_runs(names, expected):
    table = table_of([{"run_name": name, "val_loss": 3 + k} for k, name in enumerate(names)])
    assert [(row.values["lr"], row.values["bs"]) for row in table.rows] == expected
    assert "read from the names of the runs (run_name)" in table.notes[0]
    assert [run.settings["learning_rate"] for run in table_runs(table, ["learning_rate"]).runs] == [
        lr for lr, _ in expected
    ]


def test_names_that_say_nothing_are_left_alone():
    table = table_of([{"name": "baseline", "val_loss": 3}, {"name": "gpt2-run3", "val_loss": 4}])
    assert table.columns == ("name", "val_loss")


def test_a_commit_is_a_name_whatever_it_looks_like(tmp_path):
    (tmp_path / "results.tsv").write_text("commit\tval_bpb\tstatus\n5e82390\t1.0\tkeep\n0012345\t0.99\tdiscard\n")
    assert [row["commit"] for row in values(tmp_path / "results.tsv")] == ["5e82390", "0012345"]


@pytest.mark.parametrize(
    "head", ["| lr \\ seed | 0 | 1 | 2 |", "| lr | seed 0 | seed 1 | seed 2 |", "| lr | seed=0 | seed=1 | seed=2 |"]
)
def test_a_markdown_table_with_a_run_in_each_cell(tmp_path, head):
    (tmp_path / "m.md").write_text(
        f"# Validation loss\n\n{head}\n|---|---|---|---|\n| 0.01 | 3.4 | 3.41 | 3.42 |\n| 0.02 | 3.3 | | 3.32 |\n"
    )
    table = read_table(tmp_path / "m.md", wanted=["lr"])
    assert [tuple(row.values.values()) for row in table.rows][:2] == [(0.01, 0, 3.4), (0.01, 1, 3.41)]
    assert len(table.rows) == 5
    assert "a run in each cell" in table.notes[0]


@pytest.mark.parametrize(
    ("pattern", "names", "expected"),
    [
        ("lr{lr}_wd{weight_decay}", ["lr0.1_wd0", "lr3e-4_wd0.01"], [(0.1, 0), (3e-4, 0.01)]),
        ("lr{lr}_wd{weight_decay}", ["gpt2-lr0.1_wd0-s1", "lr3e-4_wd0.01_b"], [(0.1, 0), (3e-4, 0.01)]),
        ("{optimizer}-lr{lr}", ["adam_w-lr0.1", "muon-lr0.2"], [("adam_w", 0.1), ("muon", 0.2)]),
        ("{lr}x{}x{optimizer}", ["0.1x7xmuon", "0.2x8xadam-1"], [(0.1, "muon"), (0.2, "adam")]),
        ("a={lr}|{optimizer}", ["a=0.1|muon", "(a=0.2|adam"], [(0.1, "muon"), (0.2, "adam")]),
        ("lr{lr}", ["clr9_lr0.1", "lr1e-05-x"], [(0.1,), (1e-05,)]),
    ],
)
def test_a_pattern_reads_settings_in_the_names_of_runs(pattern, names, expected):
    rows = [{"name": name, "val_loss": 3.0} for name in names]
    table = table_of(rows, name_pattern=pattern)
    keys = [key for key in ("optimizer", "lr", "weight_decay") if "{" + key + "}" in pattern]
    in_order = sorted(keys, key=lambda key: pattern.index("{" + key + "}"))
    assert [tuple(row.values[key] for key in in_order) for row in table.rows] == expected


def test_names_that_do_not_fit_a_pattern_are_said():
    rows = [{"name": name, "val_loss": 3.0} for name in ("lr0.1", "baseline", "lr0.2")]
    table = table_of(rows, name_pattern="lr{lr}")
    assert [row.values.get("lr") for row in table.rows] == [0.1, None, 0.2]
    assert "1 of 3 names do not fit it, e.g. 'baseline'" in table.notes[1]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("lr", "text with {NAME}"), ("{lr}{wd}", "text between any two"), ("{lr}-{lr}", "each name stands once"),
     ("lr{lr", "text with {NAME}"), ("width{width}", "no run has such a name such as 'lr0.1'"),
     ("r{bs}", "bs is a column of the table"), ("{lr}" + "x" * 400, "text with {NAME}")],
)  # fmt: skip
def test_a_pattern_that_cannot_be_meant_is_one_line(pattern, said):
    rows = [{"name": "lr0.1", "batch_size": 8, "val_loss": 3}, {"name": "lr0.2", "batch_size": 8, "val_loss": 4}]
    with pytest.raises(TableError) as refused:
        table_of(rows, name_pattern=pattern)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_setting_that_only_some_names_have_is_proposed_as_a_pattern():
    rows = [{"name": name, "val_loss": 3.0} for name in ("sweep-lr0.1-bs8", "sweep-lr0.2-bs8", "baseline")]
    with pytest.raises(TableError, match=r'2 of 3 names .* read it there with --name-pattern "lr{lr}"'):
        blueberry.analyse(rows, vary="lr")


def test_a_pattern_takes_no_time(tmp_path):
    rows = [{"name": "a" * 100_000, "val_loss": 3.0}, {"name": "1" * 100_000, "val_loss": 3.0}]
    with pytest.raises(TableError, match="no run has such a name"):
        table_of(rows, name_pattern="".join(f"a{{x{k}}}" for k in range(20)) + "!")


def test_the_doctor_reads_names_by_a_pattern_too(tmp_path):
    from blueberry.analysis import checkup

    lines = [f"{lr}@{seed},{3 + lr + seed / 100}" for lr in (0.1, 0.2) for seed in (0, 1, 2)]
    (tmp_path / "runs.csv").write_text("\n".join(["name,val_loss", *lines]))
    found = checkup([tmp_path / "runs.csv"], name_pattern="{lr}@{seed}")
    assert "seeds" not in {audit.audit for audit in found.audits}
    (tmp_path / "runs.md").write_text("| name | val_loss |\n|---|---|\n| 0.1@0 | 3 |\n| 0.2@0 | 4 |\n")
    assert blueberry.analyse(tmp_path / "runs.md", vary="lr", name_pattern="{lr}@{seed}").arms


def test_lightnings_tensorboard_logger_has_its_settings_beside_it(tmp_path):
    events = pytest.importorskip("tensorboard.compat.proto.event_pb2")
    summaries = pytest.importorskip("tensorboard.compat.proto.summary_pb2")
    records = pytest.importorskip("tensorboard.summary.writer.record_writer")
    folder = tmp_path / "lightning_logs" / "version_0"
    folder.mkdir(parents=True)
    (folder / "hparams.yaml").write_text("lr: 0.01\nseed: 4\n")
    value = summaries.Summary(value=[summaries.Summary.Value(tag="val_loss", simple_value=3.0)])
    with open(folder / "events.out.tfevents.1.vm", "wb") as file:
        for event in (events.Event(file_version="brain.Event:2"), events.Event(step=5, summary=value)):
            records.RecordWriter(file).write(event.SerializeToString())
    (row,) = values(tmp_path)
    assert (row["lr"], row["seed"], row["val_loss"]) == (0.01, 4, 3.0)


def test_runs_that_did_not_complete_need_no_seed():
    rows = [
        *({"lr": lr, "seed": seed, "val_loss": lr + seed / 100, "status": "ok"} for lr in (1, 2) for seed in (0, 1, 2)),
        {"lr": 3, "seed": None, "val_loss": None, "status": "failed"},
    ]
    judged = blueberry.analyse(rows, vary="lr")
    assert any("crashed" in audit.message for audit in judged.audits)
    rows[0]["seed"] = None
    with pytest.raises(TableError, match="give each run its seed"):
        blueberry.analyse(rows, vary="lr")
