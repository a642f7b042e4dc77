"""Markdown tables whose columns are seeds or steps: what their cells are, which columns are no runs, which table is read."""

import pytest

import blueberry
from blueberry.analysis import checkup
from blueberry.errors import TableError
from blueberry.tables.captions import named_in_text
from blueberry.tables.reading import read_table

SCORES = "| base | 88.9 | 88.8 | 88.7 |\n| ours | 91.9 | 91.8 | 91.7 |\n"
LOSSES = "| base | 3.31 | 3.32 | 3.30 |\n| ours | 3.21 | 3.22 | 3.20 |\n"
HEAD = "| method | seed 0 | seed 1 | seed 2 |\n|---|---|---|---|\n"


@pytest.fixture
def read(tmp_path):
    """The table of a document, and what is said of it."""

    def of(text, name="r.md", vary="method", **asked):
        (tmp_path / name).write_text(text)
        return read_table(tmp_path / name, wanted=[vary, *asked.values()], **asked)

    return of


@pytest.mark.parametrize(
    "text",
    [HEAD + SCORES, "# Results, 3 seeds\n\nEach on one GPU.\n\n" + HEAD + SCORES, HEAD + LOSSES,
     "# Muon lowers the validation loss\n\n## Downstream\n\n" + HEAD + SCORES,
     "# Muon lowers the validation loss\n\n## Shares\n\n" + HEAD + "| base | 0.91 | 0.92 | 0.93 |\n",
     "| method | step 100 | step 200 | step 300 |\n|---|---|---|---|\n" + SCORES,
     "## Seconds to a loss of 3.28\n\n" + HEAD + "| base | 301 | 302 | 303 |\n",
     "## Ablation of the loss function\n\n" + HEAD + SCORES, "All were trained with the same loss.\n\n" + HEAD + SCORES,
     "## Gain in validation loss\n\n" + HEAD + SCORES, "## Focal loss\n\n" + HEAD + SCORES],
)  # fmt: skip
def test_cells_that_nothing_names_are_asked_for(read, text):
    with pytest.raises(TableError, match=r"nothing beside or above it names|names Seconds to") as refused:
        read(text)
    asked = (
        '"Seconds to a loss of 3.28"' if "Seconds" in text else "NAME, and --goal maximize where more of it is better"
    )
    assert f"say --metric {asked}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("above", "said"),
    [("# Test accuracy (%), higher is better\n\n", 'its heading names Test accuracy'),
     ("## BLEU on dev\n\n", "its heading names BLEU"),
     ("# Validation loss\n\n## Runs\n\nAccuracy of each seed:\n\n", "the sentence above it names Accuracy"),
     ("## Validation loss and accuracy\n\n", "its heading names val_loss and accuracy"),
     ("## Training loss, validation loss\n\n", "its heading names Training loss and validation loss"),
     ("## Minus the validation loss (higher is better)\n\n## Reward\n\n", "its heading names Reward")],
)  # fmt: skip
def test_a_score_is_asked_for_by_its_name(read, above, said):
    with pytest.raises(TableError, match=said):
        read(above + HEAD + SCORES)


@pytest.mark.parametrize("corner", ["method (val acc)", r"method \ seed (accuracy)"])
def test_a_corner_may_name_a_score(read, corner):
    text = HEAD.replace("method", corner) + SCORES
    with pytest.raises(TableError, match="its header names"):
        read(text)
    assert read(text, metric="val_acc").columns == ("method", "seed", "val_accuracy")


@pytest.mark.parametrize(
    ("text", "metric", "name"),
    [("# Validation loss\n\n" + HEAD, "val_loss", "r.md"), ("## Val loss (nats)\n\nThree seeds.\n\n" + HEAD, "val_loss", "r.md"),
     ("Final test loss after 3,000 steps. Three seeds.\n\n" + HEAD, "test_loss", "r.md"),
     ("# Perplexity\n\n" + HEAD, "val_perplexity", "r.md"), ("Bits per byte:\n\n" + HEAD, "val_bits_per_byte", "r.md"),
     ("## Validation loss (bpb)\n\n" + HEAD, "val_bits_per_byte", "r.md"), ("## Held-out loss\n\n" + HEAD, "val_loss", "r.md"),
     ("# Loss\n\n" + HEAD, "loss", "r.md"), ("# Lower validation loss by Muon\n\n## AdamW\n\n" + HEAD, "val_loss", "r.md"),
     (HEAD, "val_loss", "val_loss_of_arms.md"), (HEAD.replace("method", "method (val loss)"), "val_loss", "r.md"),
     (HEAD.replace("method", r"method \ seed, val_loss").replace("seed 0", "0").replace("seed 1", "1").replace("seed 2", "2"), "val_loss", "r.md")],
)  # fmt: skip
def test_a_loss_that_is_named_is_what_the_cells_are(read, text, metric, name):
    table = read(text + LOSSES, name)
    assert table.columns == ("method", "seed", metric)
    assert len(table.rows) == 6
    assert " says" in table.notes[0]


def test_cells_are_what_a_person_says(tmp_path):
    (tmp_path / "r.md").write_text("# Accuracy\n\n" + HEAD + SCORES)
    asked = {"vary": "method", "metric": "accuracy"}
    with pytest.raises(TableError, match="higher is better in it"):
        blueberry.analyse(tmp_path / "r.md", **asked)
    judged = blueberry.analyse(tmp_path / "r.md", goal="maximize", **asked)
    assert "ours is better" in judged.known
    assert not judged.blocks
    (tmp_path / "s.md").write_text(
        "| method | step 100 | step 200 |\n|---|---|---|\n| a | 0.3 | 0.5 |\n| b | 0.2 | 0.4 |\n"
    )
    judged = blueberry.analyse(tmp_path / "s.md", goal="maximize", **asked)
    assert [(arm.arm, arm.mean) for arm in judged.arms] == [("a", 0.5), ("b", 0.4)]


@pytest.mark.parametrize("metric", ["val_loss", "reward_loss", "ppl"])
def test_what_is_made_large_is_held_to_no_rule_of_losses(metric):
    rows = [
        {"arm": arm, "seed": k, metric: value + k / 1e3} for arm, value in (("a", 0.92), ("b", 0.72)) for k in range(3)
    ]
    judged = blueberry.analyse(rows, vary="arm", metric=metric, goal="maximize")
    assert not [one for one in judged.blocks if one.audit == "too-good"]
    assert "a is better" in judged.known
    low = [row | {metric: -1.0} if row["arm"] == "b" and row["seed"] == 1 else row for row in rows]
    (block,) = [one for one in blueberry.analyse(low, vary="arm", metric=metric).blocks if one.audit == "too-good"]
    assert "of -1; no model of text" in block.message


@pytest.mark.parametrize(
    "columns",
    ["mean | \u0394 vs base", "Mean +/- SD | Improvement vs false", "avg | best", "std | p-value", "Val loss | Rank",
     "diff to base | 95% CI", "Mean \u00b1 std | delta"],
)  # fmt: skip
def test_columns_that_sum_up_the_seeds_are_left_out(read, columns):
    head = HEAD.replace("seed 2 |", f"seed 2 | {columns} |").replace("|---|---|", "|---|---|---|---|")
    rows = "".join(f"{row} **3.31** \u00b1 0.01 | \u22120.10 |\n" for row in LOSSES.splitlines())
    table = read("## Validation loss\n\n" + head + rows + "| \u0394 (ours - base) | -0.1 | -0.1 | -0.1 | | |\n")
    assert [row.values["val_loss"] for row in table.rows] == [3.31, 3.32, 3.30, 3.21, 3.22, 3.20]
    assert f"left out: {columns.replace(' |', ',')}" in table.notes[0]


def test_settings_and_names_beside_the_seeds_belong_to_each_run(read):
    head = "| method | lr | seed 1 | seed 2 | mean | notes |\n|---|---|---|---|---|---|\n"
    table = read(
        "Val loss\n\n" + head + "| a | 0.1 | 3.1 | OOM | 3.1 | first |\n| b | 0.2 | 3.2 | 3.3 | 3.25 | again |\n"
    )
    assert table.columns == ("method", "lr", "notes", "seed", "val_loss")
    assert [tuple(row.values.values()) for row in table.rows[:2]] == [
        ("a", 0.1, "first", 1, 3.1),
        ("a", 0.1, "first", 2, "OOM"),
    ]


MEANS = "## Means\n\n| method | {} |\n|---|---|---|\n| a | 3.15 | 0.05 |\n| b | 3.25 | 0.05 |\n\n"
RUNS = "## Runs\n\n| method | seed | val loss |\n|---|---|---|\n| a | 0 | 3.1 |\n| a | 1 | 3.2 |\n| b | 0 | 3.2 |\n| b | 1 | 3.3 |\n"


@pytest.mark.parametrize(
    "columns", ["Mean val loss | Mean PPL", "val loss | std", "val loss (mean) | seeds", "val loss | \u00b1"]
)
def test_the_table_of_runs_goes_before_that_of_means(read, columns):
    for text in (MEANS.format(columns) + RUNS, RUNS + MEANS.format(columns)):
        assert [row.values["val_loss"] for row in read(text).rows] == [3.1, 3.2, 3.2, 3.3]
    matrix = "## Each seed\n\n" + HEAD + LOSSES
    with pytest.raises(TableError, match="say --metric"):
        read(MEANS.format(columns) + matrix)
    assert len(read(MEANS.format(columns) + matrix, metric="val_loss").rows) == 6


def test_the_doctor_reads_a_report_by_the_metric_it_is_given(tmp_path):
    rows = "".join(f"| {lr} | {seed} | {0.5 + lr + seed / 1e3} |\n" for lr in (0.1, 0.2) for seed in range(3))
    path = tmp_path / "r.md"
    path.write_text("# Search\n\n| lr | seed | Val LogLoss |\n|---|---|---|\n" + rows)
    assert "--metric names another" in checkup([path]).notes[0]
    found = checkup([path], metric="Val LogLoss")
    assert not any("is in it" in note for note in found.notes)
    assert {audit.audit for audit in found.audits} == {
        audit.audit for audit in checkup([path], metric="Val LogLoss", vary=["lr"]).audits
    }
    with pytest.raises(TableError, match='"F1"'):
        checkup([path], metric="F1")


@pytest.mark.parametrize("head", ["loss (seed {})", "seed {} val_loss", "Seed #{}", "seed: {}", "val loss, seed {}"])
def test_seeds_may_be_written_in_several_ways(read, head):
    above = "" if "loss" in head else "Validation loss:\n\n"
    heads = " | ".join(head.format(seed) for seed in range(3))
    table = read(f"{above}| method | {heads} |\n|---|---|---|---|\n{LOSSES}")
    assert [row.values["seed"] for row in table.rows[:3]] == [0, 1, 2]
    assert table.columns[2] in ("loss", "val_loss")


def test_a_csv_may_have_its_seeds_as_columns(tmp_path):
    text = "arm,seed0,seed1,seed2,mean\na,88.1,88.2,88.3,88.2\nb,91.1,91.2,91.3,91.2\n"
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(TableError, match="no such column"):
        blueberry.analyse(tmp_path / "r.csv", vary="arm")
    judged = blueberry.analyse(tmp_path / "r.csv", vary="arm", metric="accuracy", goal="maximize")
    assert [(arm.arm, arm.n, round(arm.mean, 4)) for arm in judged.arms] == [("a", 3, 88.2), ("b", 3, 91.2)]
    assert read_table(tmp_path / "r.csv", wanted=["mean"], metric="mean").columns == (
        "arm",
        "seed0",
        "seed1",
        "seed2",
        "mean",
    )
    (tmp_path / "s.csv").write_text("# validation loss of each seed\n" + text.replace("88", "3").replace("91", "4"))
    assert [row.values["val_loss"] for row in read_table(tmp_path / "s.csv").rows] == [3.1, 3.2, 3.3, 4.1, 4.2, 4.3]


def test_a_share_called_success_is_no_ending():
    rows = [{"arm": arm, "seed": k, "success": v + k / 100} for arm, v in (("a", 0.9), ("b", 0.7)) for k in range(3)]
    assert "a is better" in blueberry.analyse(rows, vary="arm", metric="success", goal="maximize").known


def test_a_header_that_does_not_fit_its_rule_is_said(tmp_path):
    path = tmp_path / "r.md"
    path.write_text(
        "| arm | seed | val_loss | |cos| |\n|---|---|---|---|\n| a | 0 | 3.1 | 0.2 |\n| b | 0 | 3.2 | 0.2 |\n"
    )
    said = "line 1: 6 cells over a rule of 4, so that it is no table"
    with pytest.raises(TableError, match=said):
        read_table(path, wanted=["arm"])
    assert said in checkup([path]).notes[0]
    path.write_text("```\n| a | b |\n|---|\n```\n\n| arm | val_loss |\n|---|---|\n| a | 3.1 |\n")
    assert len(read_table(path).rows) == 1
    assert not any("no table" in note for note in checkup([path]).notes)


@pytest.mark.parametrize(
    ("text", "found"),
    [("Validation loss at equal training time, bf16 precision", ("val_loss", ())),
     ("Final validation loss after 1000 steps (lower is better)", ("val_loss", ())),
     ("Mean cross-entropy loss", ("loss", ())), ("LM loss vs accuracy", ("loss", ("accuracy",))),
     ("Steps needed for a loss of 3", (None, ("Steps needed for a loss of 3",))), ("loss gap", (None, ())),
     ("aux-loss sweep", (None, ())), ("the loss weight", (None, ())), ("Change in the test loss", (None, ()))],
)  # fmt: skip
def test_losses_named_in_a_text(text, found):
    assert named_in_text(text) == found


BY_SEED = [("seed {} loss", "seed {} acc"), ("loss (seed {})", "acc (seed {})"), ("loss_seed{}", "acc_seed{}"),
           ("seed{}/loss", "seed{}/acc"), ("Loss, seed {}", "Acc, seed {}"),
           ("seed {} \u2013 loss", "seed {} \u2013 acc"), ("seed={}: loss", "seed={}: acc")]  # fmt: skip


@pytest.mark.parametrize("heads", BY_SEED)
@pytest.mark.parametrize("by_seed", [True, False])
@pytest.mark.parametrize("name", ["a.csv", "a.md"])
def test_two_metrics_of_each_seed_are_a_run_in_each_pair_of_cells(tmp_path, heads, by_seed, name):
    pairs = [(seed, head) for seed in (0, 1) for head in heads]
    pairs = pairs if by_seed else sorted(pairs, key=lambda pair: heads.index(pair[1]))
    value = {heads[0]: 3.0, heads[1]: 0.5}
    lines = [["arm", "lr", *(head.format(seed) for seed, head in pairs)]]
    lines += [[arm, "0.1", *(f"{value[head] + seed / 100 + at / 10:.2f}" for seed, head in pairs)]
              for at, arm in enumerate(("a", "b"))]  # fmt: skip
    if name == "a.csv":
        text = "\n".join(",".join(f'"{cell}"' for cell in line) for line in lines) + "\n"
    else:
        rows = ["| " + " | ".join(line) + " |" for line in lines]
        text = "\n".join([rows[0], "|---" * len(lines[0]) + "|", *rows[1:]]) + "\n"
    (tmp_path / name).write_text(text)
    table = read_table(tmp_path / name, wanted=["arm"])
    assert [(row.values["arm"], row.values["lr"], row.values["seed"]) for row in table.rows] == [
        ("a", 0.1, 0), ("a", 0.1, 1), ("b", 0.1, 0), ("b", 0.1, 1)
    ]  # fmt: skip
    of_a_run = [
        [value for name, value in row.values.items() if name not in ("arm", "lr", "seed")] for row in table.rows
    ]
    assert of_a_run == [[3.0, 0.5], [3.01, 0.51], [3.1, 0.6], [3.11, 0.61]]
    assert "a run for each seed in a row" in " ".join(table.notes)


def test_a_seed_that_lacks_a_metric_has_none(tmp_path):
    (tmp_path / "a.csv").write_text("arm,seed 0 loss,seed 0 acc,seed 1 loss\na,3.0,0.5,3.1\nb,3.2,,\n")
    rows = read_table(tmp_path / "a.csv", wanted=["arm"]).rows
    assert [[row.values.get(name) for name in ("arm", "seed", "loss", "acc")] for row in rows] == [
        ["a", 0, 3.0, 0.5], ["a", 1, 3.1, None], ["b", 0, 3.2, None],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["arm,seed 0 lr,seed 0 wd,seed 1 lr,seed 1 wd\na,1,2,3,4\n", "arm,seed 0 loss,seed 0 acc\na,3,0.5\n",
     "arm,seed 0 loss,seed 0 loss mean,seed 1 loss\na,3,3,3\n"],
)  # fmt: skip
def test_what_no_seed_measured_twice_stays_as_it_is(tmp_path, text):
    """Settings, one seed alone, and what sums up others."""
    (tmp_path / "a.csv").write_text(text)
    assert "seed" not in read_table(tmp_path / "a.csv").rows[0].values


@pytest.mark.parametrize(
    ("table", "place"),
    [("| arm | seed 0 | seed 1 |\n|---|---|---|\n| a | 3.1 | 3.2 |\n| b | 3.0 | 5e13 |\n", "r.md line 7 seed 1"),
     ("| lr \\ wd | 0 | 0.1 |\n|---|---|---|\n| 0.1 | 3.1 | 3.2 |\n| 0.2 | 5e13 | 3.1 |\n", "r.md line 7 wd 0"),
     ("| arm | step 100 | step 200 |\n|---|---|---|\n| a | 3.1 | 3.2 |\n| b | 3.0 | 5e13 |\n", "r.md line 7 step 200"),
     ("| metric | base | ours |\n|---|---|---|\n| seed | 1 | 1 |\n| val loss | 3.1 | 5e13 |\n", 'r.md line 4 "ours"'),
     ("| arm | val loss |\n|---|---|\n| a | 3.1 |\n| b | 5e13 |\n", "r.md line 7")],
)  # fmt: skip
def test_a_run_is_placed_where_the_document_has_it(tmp_path, table, place):
    """The line of its row, and what tells it from the others there."""
    (tmp_path / "r.md").write_text("Validation loss:\n\n\n" + table)
    with pytest.raises(TableError, match="no metric is so large") as refused:
        blueberry.analyse(tmp_path / "r.md", vary="lr" if "lr" in table else "name" if "metric" in table else "arm")
    assert str(refused.value).startswith(f"{place} ")


def test_a_run_of_a_csv_with_seeds_in_its_header_is_placed_too(tmp_path):
    (tmp_path / "a.csv").write_text("# validation loss\n\narm,seed 0,seed 1\n\na,3.1,3.2\nb,3.0,5e13\n")
    with pytest.raises(TableError, match=r"^a\.csv line 6 seed 1 "):
        blueberry.analyse(tmp_path / "a.csv", vary="arm")
