"""Tables as people write them for people: means below runs, remarks in cells, steps as columns, seeds inside objects."""

import json

import pytest

import blueberry
from blueberry.errors import TableError
from blueberry.judge.look_back import look_back
from blueberry.judge.loop import read_loop
from blueberry.tables.columns import is_loss, kind_by_name
from blueberry.tables.reading import read_table, table_of
from blueberry.tables.roles import kinds
from blueberry.tables.rows import value_of
from blueberry.tables.runs import table_runs

SEEDS = """# A record

| field | value |
|---|---|
| lr | 0.035 |

| Seed | Steps | ms/step | **val_bpb** | Artifact |
|------|-------|---------|-------------|----------|
| 1337 | ~7,103 | 57.55 | 1.1271 | 15,534,645 bytes |
| 42 | 7,094 | 56.06 | **1.1286** | 15,745,973 bytes |
| 2025 | 7,107 | 57.18 | 1.1284 | 15,649,516 bytes |
| **Mean** | **7,101** | | **1.1280** | |
| **Std Dev** | | | 0.0008 | |
"""


def test_a_table_of_seeds_is_a_noise_floor_without_its_mean(tmp_path):
    (tmp_path / "README.md").write_text(SEEDS)
    judged = blueberry.analyse(tmp_path / "README.md", vary=[])
    assert [(arm.n, round(arm.mean, 4)) for arm in judged.arms] == [(3, 1.128)]
    assert not judged.blocks, "that runs of one arm are of unlike length is no difference between arms"
    table = read_table(tmp_path / "README.md")
    assert any("rows called Mean, Std Dev (Seed) sum up the others" in note for note in table.notes)
    assert table.rows[0].values["Steps"] == 7103


@pytest.mark.parametrize("name", ["mean", "Average", "mean \u00b1 std", "AVG.", "Mean (3 seeds)"])
def test_a_mean_is_no_run_whatever_it_is_called(name):
    rows = [{"seed": k, "val_loss": 3.0 + k / 10} for k in range(3)] + [{"seed": name, "val_loss": 3.1}]
    assert len(table_of(rows).rows) == 3


def test_arms_called_mean_and_max_are_arms():
    rows = [{"pooling": name, "seed": k, "val_loss": v + k / 100} for k in range(3)
            for name, v in (("mean", 3.1), ("max", 3.3), ("first", 3.2))]  # fmt: skip
    assert len(table_of(rows).rows) == 9
    named = [{"arm": name, "val_loss": v} for name, v in (("a", 3.0), ("b", 3.4), ("mean", 3.3))]
    assert len(table_of(named).rows) == 3
    named[-1]["val_loss"] = 3.2
    assert len(table_of(named).rows) == 2


def test_dots_stand_for_rows_that_are_not_there_and_copies_count_once():
    rows = [{"name": "a", "val_loss": 3.12345}, {"name": "b", "val_loss": 3.2}, {"name": "...", "val_loss": "\u2026"}]
    read = [{name: value_of(str(value)) for name, value in row.items()} for row in rows]
    table = table_of([*read, {"name": "a", "val_loss": 3.12345}])
    assert [row.values["name"] for row in table.rows] == ["a", "b"]
    assert len(table.notes) == 2
    assert len(table_of([{"seed": None, "val_loss": 3.1}] * 3).rows) == 3
    assert len(table_of([{"name": "a", "lr": 0.00031623, "val_loss": 3.1}] * 3).rows) == 3, "rounded alike"


@pytest.mark.parametrize(
    ("cell", "value"),
    [("0.04 (default)", 0.04), ("~8,300", 8300), ("\u22481.18", 1.18), ("0.04 (0.01)", "0.04 (0.01)"), ("~", "~"),
     ("3x3 (wide)", "3x3 (wide)"), ("1.2 \u00b1 0.1", "1.2 \u00b1 0.1"), ("-", None), ("...", None), ("12% (low)", 0.12)],
)  # fmt: skip
def test_remarks_in_cells(cell, value):
    assert value_of(cell) == value


@pytest.mark.parametrize(
    ("loss", "steps", "read"),
    [("3,196", "1.000", (3196, 1.0)), ("3,19", "1.000", (3.19, 1000)), ("0,196", "12.000", (0.196, 12000)),
     ("3.196", "1,000", (3.196, 1000)), ("3,1961", "1000", (3.1961, 1000)), ("3.1", "1,000", (3.1, 1000))],
)  # fmt: skip
def test_points_and_commas_of_one_file(tmp_path, loss, steps, read):
    (tmp_path / "r.csv").write_text(f"lr;val_loss;steps\n1;{loss};{steps}\n2;{loss};{steps}\n", encoding="utf-8-sig")
    values = read_table(tmp_path / "r.csv").rows[0].values
    assert (values["val_loss"], values["steps"]) == read


def test_a_mean_with_its_spread_is_said_to_be_one():
    with pytest.raises(TableError, match="a mean with its spread over runs"):
        blueberry.analyse([{"lr": 1, "val_loss": "3.1 \u00b1 0.1"}, {"lr": 2, "val_loss": "3.2 \u00b1 0.1"}], vary="lr")


@pytest.mark.parametrize(
    "header",
    ["| seed | step 3150 | step 3200 | log |", "| Run | 3150 val | 3200 val | file |",
     "| log | val loss at 3150 | val loss at 3200 | name |", "| # | val_loss @ 3150 | val_loss @ 3200 | stdout |"],
)  # fmt: skip
def test_steps_may_be_columns(tmp_path, header):
    rows = [f"| {k} | {3.2823 + k / 1e4} | {3.2788 + k / 1e4} | `{'abcd'[k]}.txt` |" for k in range(4)]
    (tmp_path / "r.md").write_text(
        "\n".join(["## Val loss", header, "|--:|--|--|--|", *rows, "| Mean | 3.28245 | 3.27895 | |", ""])
    )
    judged = blueberry.analyse(tmp_path / "r.md", vary=[])
    assert [(arm.n, round(arm.mean, 5)) for arm in judged.arms] == [(4, 3.27895)]
    first = blueberry.analyse(tmp_path / "r.md", vary=[], at=3150)
    assert first.arms[0].mean == pytest.approx(3.28245)


@pytest.mark.parametrize(
    "name", ["loss_best", "val loss at K=3040", "Score (bpb)", "val_nll_mean", "smooth loss", "Post-TTT bpb"]
)
def test_losses_by_their_names(name):
    assert is_loss(name)
    assert kind_by_name(name) == "result"


@pytest.mark.parametrize("name", ["Delta bpb", "\u0394 (bpb)", "loss gap", "loss_scale", "lr (nats)"])
def test_a_difference_of_losses_is_none(name):
    assert not is_loss(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("train_loss_step", "result"), ("train_acc_epoch", "result"), ("time_step", "length"), ("warmup_step", "setting"),
     ("Delta vs baseline", "result"), ("huber_delta", "result"), ("final_metrics.attn_scale", "result"),
     ("learned_summary.scale_min", "result"), ("experiment_config.scale_init", "setting"), ("artifact_size", "result")],
)  # fmt: skip
def test_kinds_by_name(name, kind):
    assert kind_by_name(name) == kind


def test_kinds_by_what_stands_beside_and_by_which_way_is_better():
    columns = {
        "hs_rel": [99, 96],
        "hs_rel_stderr": [1, 1],
        "kl": [0.02, 0.03],
        "keep (%)": [62.48, 69.71],
        "alpha2": [1, 2],
    }
    kind_of = kinds(columns)
    assert [name for name, kind in kind_of.items() if kind == "result"] == ["hs_rel", "hs_rel_stderr", "kl", "keep (%)"]


def test_kinds_by_values():
    found = kinds(
        {"kept": [62.475970436801724, 69.70918444608965], "footprint": ["15.3 MB", "16.1MB"], "eta": [0.1, 0.2]}
    )
    assert found == {"kept": "result", "footprint": "result", "eta": "setting"}


@pytest.mark.parametrize(
    "run",
    [{"seeds": [0, 1, 2], "val_losses": [3.41, 3.42, 3.40], "val_loss": 3.41},
     {"seeds": [0, 1, 2], "seed_scores": [3.41, 3.42, 3.40], "val_loss": 3.41},
     {"seed_results": {str(k): {"val_loss": v} for k, v in enumerate((3.41, 3.42, 3.40))}, "val_loss": 3.41}],
)  # fmt: skip
def test_an_object_may_have_its_seeds_inside(tmp_path, run):
    path = tmp_path / "runs.json"
    path.write_text(json.dumps([{"lr": 0.01, **run}, {"lr": 0.02, "seed": 7, "val_loss": 3.3}]))
    found = table_runs(read_table(path), ["lr"])
    assert [(one.arm, one.seed, one.result.metric("val_loss")) for one in found.runs] == [
        ("lr=0.01", 0, 3.41), ("lr=0.01", 1, 3.42), ("lr=0.01", 2, 3.40), ("lr=0.02", 7, 3.3)
    ]  # fmt: skip


def test_columns_in_two_lines_are_those_of_a_data_frame_of_two_levels(tmp_path):
    (tmp_path / "trials.csv").write_text(
        ",number,value,duration,params,params,user_attrs,state\n,,,,lr,optimizer,seed,\n"
        "0,0,3.83,0 days 00:00:00.1,0.0002,muon,0,COMPLETE\n1,1,3.34,0 days 00:00:00.1,0.0008,muon,1,COMPLETE\n"
    )
    found = table_runs(read_table(tmp_path / "trials.csv"), ["lr"], goal="minimize")
    assert [(run.arm, run.seed) for run in found.runs] == [("lr=0.0002", 0), ("lr=0.0008", 1)]
    (tmp_path / "means.csv").write_text(",val_loss,val_loss\n,mean,std\nlr,,\n0.01,3.1,0.01\n0.02,3.2,0.02\n")
    assert read_table(tmp_path / "means.csv").columns == ("lr", "val_loss_mean", "val_loss_std")


def test_a_folder_of_tables_is_the_table_of_all_its_rows(tmp_path):
    rows = {"adamw": (3.41, 3.42, 3.40), "muon": (3.31, 3.32, 3.30)}
    for name, losses in rows.items():
        lines = [f"{seed},{loss}" for seed, loss in enumerate(losses)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["seed,val_loss", *lines, ""]))
    (tmp_path / "notes.csv").write_text("author,city\na,b\n")
    whole = [{"name": name, "seed": k, "val_loss": v} for name, some in rows.items() for k, v in enumerate(some)]
    parted, whole = (blueberry.analyse(one, vary="name") for one in (tmp_path, whole))
    assert parted.verdicts == whole.verdicts
    assert [arm.arm for arm in parted.arms] == ["adamw", "muon"]


def test_a_folder_of_curves_is_a_folder_of_runs(tmp_path):
    for lr in (0.01, 0.02):
        for seed in range(3):
            lines = [f"{step},{4 - step / 1000 + lr + seed / 1000}" for step in (100, 200, 300)]
            (tmp_path / f"lr{lr}_seed{seed}.csv").write_text("\n".join(["step,val_loss", *lines, ""]))
    judged = blueberry.analyse(tmp_path, vary="lr")
    assert [arm.n for arm in judged.arms] == [3, 3]
    assert judged.arms[0].mean == pytest.approx(3.711)


@pytest.mark.parametrize(
    "line",
    ["step:{step}/300 val_loss:{loss:.4f} train_time:27805ms step_avg:222.44ms",
     "step {step}: train loss 4.1001, val loss {loss:.4f}", "[iter {step}] val_loss={loss:.4f} lr=0.001",
     "| epoch 1 | step {step} | eval loss: {loss:.4f} |"],
)  # fmt: skip
def test_logs_are_curves(tmp_path, line):
    losses = {"base": (3.41, 3.42, 3.40), "change": (3.31, 3.32, 3.30)}
    for arm, ends in losses.items():
        (tmp_path / arm).mkdir()
        for number, end in enumerate(ends):
            lines = [line.format(step=step, loss=end + 0.3 - step / 1000) for step in (100, 200, 300)]
            text = "\n".join(["import torch", "def step(loss): return loss * 1.5", *lines, "peak memory 30 GB"])
            (tmp_path / arm / f"0{number}a4f3c2-9ecf-4aec.txt").write_text(text)
    judged = blueberry.analyse(tmp_path, vary="folder")
    assert [(arm.arm, arm.n, round(arm.mean, 4)) for arm in judged.arms] == [("base", 3, 3.41), ("change", 3, 3.31)]
    assert not judged.blocks
    floor = blueberry.analyse(tmp_path / "base", vary=[])
    assert [arm.n for arm in floor.arms] == [3]


@pytest.mark.parametrize(
    ("header", "vary"),
    [("| model | seed 0 | seed 1 | seed 2 | mean |", "model"), ("| | s1 | s2 | s3 | avg |", "name"),
     ("| opt | Seed_1 | Seed_2 | Seed_3 | Mean \u00b1 std |", "opt"), ("| opt \\ seed | 1 | 2 | 3 | **Mean** |", "opt")],
)  # fmt: skip
def test_seeds_may_be_columns_with_their_mean_beside_them(tmp_path, header, vary):
    rows = ["| adamw | 3.21 | 3.22 | 3.20 | 3.21 |", "| muon | 3.11 | 3.12 | 3.10 | 3.11 \u00b1 0.01 |"]
    (tmp_path / "r.md").write_text("\n".join(["Val loss", "", header, "|---|---|---|---|---|", *rows, ""]))
    judged = blueberry.analyse(tmp_path / "r.md", vary=vary)
    assert [(arm.arm, arm.n, round(arm.mean, 4)) for arm in judged.arms] == [("adamw", 3, 3.21), ("muon", 3, 3.11)]


def test_remarks_above_a_header_and_other_encodings(tmp_path):
    text = "lr,seed,val_loss\n0.1,0,3.1\n0.2,0,3.0\n"
    (tmp_path / "a.csv").write_text(f"# made by hand\n#\n{text}")
    (tmp_path / "b.csv").write_text(text, encoding="utf-16")
    (tmp_path / "c.csv").write_text(f"#{text}")
    read = [read_table(tmp_path / name) for name in ("a.csv", "b.csv", "c.csv")]
    assert [len(table.rows) for table in read] == [2, 2, 2]
    assert read[0].columns == read[1].columns == ("lr", "seed", "val_loss")
    assert read[0].rows[0].place == "a.csv line 4"


def test_means_are_said_to_be_no_runs_and_a_classifier_may_be_right():
    rows = [{"model": "a", "val_loss": 3.2, "std": 0.01}, {"model": "b", "val_loss": 3.1, "std": 0.01}]
    assert any("if each is a mean over runs" in note for note in table_runs(table_of(rows), ["model"]).notes)
    rows = [
        {"model": m, "seed": k, "accuracy (%)": f"{v + k / 10}%"} for m, v in (("a", 91), ("b", 92)) for k in range(3)
    ]
    judged = blueberry.analyse(rows, vary="model", metric="accuracy (%)", goal="maximize")
    assert not [one for one in judged.blocks if one.audit == "too-good"]


def test_text_that_is_no_log_is_a_table(tmp_path):
    (tmp_path / "runs.txt").write_text("lr,step,val_loss\n0.1,10,3.1\n0.2,10,3.2\n")
    assert read_table(tmp_path / "runs.txt").columns == ("lr", "step", "val_loss")


def test_a_crashed_run_without_a_seed_has_none_in_what_is_said():
    rows = [
        {"lr": lr, "seed": k, "val_loss": 3 + lr + k / 100, "status": "done"} for lr in (0.1, 0.2) for k in range(3)
    ]
    judged = blueberry.analyse([*rows, {"lr": 0.1, "seed": None, "val_loss": None, "status": "crashed"}], vary="lr")
    (block,) = [one for one in judged.blocks if one.audit == "diverged"]
    assert block.message == "1 run crashed and left no result: lr=0.1"


def test_what_stands_for_a_number_may_say_how_a_run_ended():
    rows = [{"lr": 1, "val_fid": 350.1}, {"lr": 2, "val_fid": "DIVERGED"}, {"lr": 3, "val_fid": "OOM"}]
    found = table_runs(table_of(rows), ["lr"], "val_fid")
    assert [run.result.status for run in found.runs] == ["completed", "diverged", "failed"]
    assert found.runs[0].result.metric("val_fid") == 350.1


def test_a_loss_that_is_none_is_doubted():
    rows = [{"seed": k, "Train time": 2.92, "Val Loss": 1404429 + k} for k in range(3)]
    assert any("far above guessing" in note for note in table_runs(table_of(rows), []).notes)


def test_two_columns_that_only_brackets_tell_apart_are_said():
    rows = [{"seed": k, "val_bpb (standard)": 1.18 + k / 100, "val_bpb (sliding)": 1.16 + k / 100} for k in range(3)]
    notes = table_runs(table_of(rows), []).notes
    assert any("val_bpb (standard) is judged; val_bpb (sliding) would be too" in note for note in notes)


def test_of_two_losses_that_which_more_runs_have_judges():
    rows = [{"name": n, "val_bpb": 1.1 + k / 10} | ({"val_loss": 2.0} if k == 1 else {}) for k, n in enumerate("abc")]
    assert table_runs(table_of(rows), ["name"]).metric == "val_bits_per_byte"


def test_without_a_batch_nothing_says_how_many_tokens(tmp_path):
    rows = [{"lr": lr, "max_seq_len": 128, "step": n, "val_loss": 3.0} for lr, n in ((0.1, 10), (0.2, 20))]
    assert not any("tokens" in note for note in table_runs(table_of(rows), ["lr"]).notes)


def test_a_commit_of_several_changes_is_no_arm(tmp_path):
    lines = ["commit\tval_bpb\tstatus\tdescription", "aaaaaaa\t1.20000\tkeep\tbaseline", "n/a\t1.19000\tdiscard\twider",
             "n/a\t1.18000\tkeep\tdeeper", "bbbbbbb\t1.17000\tkeep\tno bias", "bbbbbbb\t1.19500\tdiscard\tno warmup",
             "bbbbbbb\t1.16000\tBEST\trotary", "aaaaaaa\t1.20100\tkeep\tseed 43"]  # fmt: skip
    (tmp_path / "results.tsv").write_text("\n".join([*lines, ""]))
    loop = read_loop(tmp_path / "results.tsv")
    assert loop.arms == ("aaaaaaa", "wider", "deeper", "no bias", "no warmup", "rotary")
    assert any("bbbbbbb stands for several changes" in note for note in loop.notes)
    assert [one.arm for one in look_back(loop).keeps] == ["deeper", "no bias", "rotary"]
    assert "bbbbbbb" in read_loop(tmp_path / "results.tsv", arms=["aaaaaaa", "bbbbbbb"]).arms
