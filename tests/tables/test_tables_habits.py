"""Tables as people leave them: loops' decisions, losses under several names, times with their units, files of results."""

import json

import pytest

import blueberry
from blueberry.analysis import checkup
from blueberry.errors import TableError
from blueberry.tables.columns import kind_by_name
from blueberry.tables.reading import read_table, table_of
from blueberry.tables.roles import differing_settings
from blueberry.tables.rows import duration_of, value_of
from blueberry.tables.runs import table_runs

LOOP = """commit\tval_bpb\tmemory_gb\tnum_steps\tfinal_loss\tstatus\tdescription
153211f\t0.964088\t29.9\t180\t5.155\tkeep\tbaseline
02ba694\t0.954881\t29.9\t180\t4.155\ttentative\tlower rate
16e73105\t1.030709\t29.9\t180\t0.000\tdiscard\twider
7392e4d\t0.000000\t0.0\t0\t0.000\tdiscard\tvalue residual
d4e5f6g\t0.000000\t0.0\t0\t0.000\tcrash\tout of memory
7b1c5a1\t0.954100\t29.9\t180\t3.000\tKEEP (noise?)\ttied
"""


def test_a_loop_has_more_words_than_keep_and_discard(tmp_path):
    (tmp_path / "results.tsv").write_text(LOOP)
    found = table_runs(read_table(tmp_path / "results.tsv"), ["commit"])
    assert found.metric == "val_bits_per_byte", "final_loss beside a validation metric is that of training"
    assert [run.result.status for run in found.runs] == [
        "completed", "completed", "completed", "failed", "failed", "completed"
    ]  # fmt: skip
    assert [run.arm for run in found.runs][2] == "16e73105"
    assert any("status tentative: a decision like keep and discard" in note for note in found.notes)
    assert any("1 with a val_bits_per_byte of exactly 0 are taken to have crashed" in note for note in found.notes)
    judged = blueberry.analyse(tmp_path / "results.tsv", vary="commit")
    assert judged.best is not None
    assert judged.best.arm == "7b1c5a1"


def test_the_changes_of_a_loop_are_its_commits_whatever_is_said_of_them():
    rows = [
        {"commit": f"a{k}", "kind": kind, "depth": k // 2, "val_bpb": 1.0 + k / 100, "status": said}
        for k, (kind, said) in enumerate([("lr", "keep"), ("lr", "discard"), ("model", "keep"), ("model", "discard")])
    ]
    assert differing_settings(table_of(rows)) == ("commit",)
    assert differing_settings(table_of([row | {"status": "finished"} for row in rows])) != ("commit",)


def test_a_word_that_is_no_ending_is_refused_where_nothing_is_decided():
    with pytest.raises(TableError, match="'tentative'; no known ending"):
        table_runs(table_of([{"lr": k, "val_loss": 3.0, "status": "tentative"} for k in (1, 2)]), ["lr"])


@pytest.mark.parametrize(
    ("columns", "metric"),
    [(("val_bpb", "final_loss"), "val_bits_per_byte"), (("final_loss", "val_ppl"), "val_perplexity"),
     (("final_loss", "final_accuracy"), "val_loss"), (("final_loss", "final_val_loss"), "val_loss")],
)  # fmt: skip
def test_a_final_loss_is_of_validation_where_nothing_else_is(columns, metric):
    table = table_of([{"lr": k, columns[0]: 1.5, columns[1]: 2.5} for k in (1, 2)])
    found = table_runs(table, ["lr"])
    assert found.metric == metric
    if "final_val_loss" in columns:
        assert found.runs[0].result.metric("val_loss") == 2.5


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("85415ms", 85.415), ("80.4 s", 80.4), ("1h 2m", 3720), ("12 min, 3 sec", 723), ("0 days 01:02:03.5", 3723.5),
     ("1:02:03", 3723), ("2 days", 172800), ("3 milliseconds", 0.003), ("12:03", "12:03"), ("about 5 min", "about 5 min"),
     ("", ""), (5, 5), (None, None), ("5 mins left", "5 mins left"), ("s", "s")],
)  # fmt: skip
def test_times_have_units(said, seconds):
    assert duration_of(said) == (pytest.approx(seconds) if isinstance(seconds, float) else seconds)


def test_a_table_of_a_record_has_times_in_its_cells(tmp_path):
    rows = "\n".join(
        f"| {run} | {loss} | {time}ms |" for run, loss, time in [("02ed0a75", 3.2783, 85415), ("7e4", 3.28, 1)]
    )
    (tmp_path / "statistics.md").write_text(f"| Run | val\\_loss | train_time |\n|---|---|---|\n{rows}\n")
    found = table_runs(read_table(tmp_path / "statistics.md", wanted=["Run"]), ["Run"])
    assert [run.result.train_seconds for run in found.runs] == [85.415, 0.001]


@pytest.mark.parametrize(
    ("text", "value"), [("16e73105", "16e73105"), ("5e82390", "5e82390"), ("1e3", 1000.0), ("inf", float("inf"))]
)
def test_what_no_number_holds_is_a_name(text, value):
    assert value_of(text) == value


def test_a_folder_of_json_files_each_of_a_run(tmp_path):
    for lr in (0.1, 0.2):
        for seed in (0, 1, 42):
            said = {"seed": seed, "lr": lr, "status": "completed", "post_ttt_val_bpb": 1.0 + lr + seed / 1000}
            (tmp_path / f"lr{lr}").mkdir(exist_ok=True)
            (tmp_path / f"lr{lr}" / f"seed_{seed}_result.json").write_text(json.dumps(said))
    (tmp_path / "package.json").write_text('{"name": "x", "version": "1.0"}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "old.json").write_text('{"lr": 0.3, "post_ttt_val_bpb": 9}')
    judged = blueberry.analyse(tmp_path, vary="lr", metric="post_ttt_val_bpb")
    assert [(arm.arm, arm.n) for arm in judged.arms] == [("lr=0.1", 3), ("lr=0.2", 3)]
    assert judged.verdicts[0].verdict == "winner"


def test_where_no_loss_is_there_a_score_is_proposed():
    rows = [{"lambda": k, "test_accuracy": 40.0 + k, "sparsity": 60.0, "plot": f"p{k}.png"} for k in (1, 2)]
    with pytest.raises(TableError, match=r"e\.g\. --metric test_accuracy --goal maximize"):
        blueberry.analyse(rows, vary="lambda")


def test_the_doctor_says_that_a_state_is_one_run(tmp_path):
    (tmp_path / "trainer_state.json").write_text('{"log_history": [{"step": 5, "eval_loss": 3.0}], "global_step": 5}')
    with pytest.raises(TableError, match="one run; the doctor compares arms"):
        checkup([tmp_path / "trainer_state.json"])


@pytest.mark.parametrize(
    ("head", "rows", "expected"),
    [
        (
            r"| lr \ optimizer | AdamW | **Muon** |",
            "| 0.01 | 3.4 | 3.3 |",
            {"lr": 0.01, "optimizer": "Muon", "val_loss": 3.3},
        ),
        (
            "| lr \u2193 / batch size \u2192 | 32 | 64 |",
            "| 0.01 | 3.4 | 3.3 |",
            {"lr": 0.01, "batch size": 64, "val_loss": 3.3},
        ),
        ("| | bs = 32 | bs = 64 |", "| base | 3.4 | 3.3 |", {"name": "base", "bs": 64, "val_loss": 3.3}),
    ],
)
def test_matrices_of_two_settings(tmp_path, head, rows, expected):
    (tmp_path / "m.md").write_text(f"Validation loss:\n\n{head}\n|---|---|---|\n{rows}\n")
    wanted = [name for name in expected if name != "val_loss"]
    table = read_table(tmp_path / "m.md", wanted=wanted)
    assert dict(table.rows[-1].values) == expected


@pytest.mark.parametrize(
    "head", ["| train/loss | val/loss | steps |", r"| lr \ split | val loss | test loss |", "| lr | AdamW | Muon |"]
)
def test_what_is_no_matrix_is_read_as_it_stands(tmp_path, head):
    (tmp_path / "m.md").write_text(f"{head}\n|---|---|---|\n| 0.01 | 3.4 | 3.3 |\n")
    assert len(read_table(tmp_path / "m.md").rows) == 1


def test_a_table_with_a_run_in_each_column(tmp_path):
    (tmp_path / "pr.md").write_text(
        "| metric | baseline | this PR |\n|---|---:|---:|\n| val_loss | 3.2802 | **3.2783** |\n"
        "| train time | 80.7 s | 79.6 s |\n| steps | 3125 | 3125 |\n"
    )
    table = read_table(tmp_path / "pr.md", wanted=["name"])
    assert [(row.values["name"], row.values["val_loss"]) for row in table.rows] == [
        ("baseline", 3.2802),
        ("this PR", 3.2783),
    ]
    assert table.rows[1].values["train_seconds"] == 79.6
    assert "a run in each column" in table.notes[0]


def test_objects_of_programs_in_hparams_are_missing(tmp_path):
    pytest.importorskip("yaml")
    (tmp_path / "hparams.yaml").write_text("lr: 0.1\nloss: !!python/object:torch.nn.CrossEntropyLoss\n  a: 1\n")
    (tmp_path / "metrics.csv").write_text("step,val_loss\n1,3.0\n")
    (row,) = read_table(tmp_path).rows
    assert (row.values["lr"], row.values["val_loss"]) == (0.1, 3.0)


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("result", "num_params_M param_count n_params Params_(M) artifact_bytes mfu_percent val_loss_min loss_ema ms/step "
         "sec/iter train/step_loss core_score grad_norm peak_vram_mb training_seconds tok_per_sec iter_time_ms it/s"),
        ("length", "total_tokens_M num_steps steps_k total_flos tokens_B"),
        ("setting", "lr_min top_k tokens_per_param batch_size_k momentum_max min_lr weight_decay ema_decay"),
    ],
)  # fmt: skip
def test_what_columns_are_by_their_names(kind, columns):
    assert {name: kind_by_name(name) for name in columns.split()} == dict.fromkeys(columns.split(), kind)
