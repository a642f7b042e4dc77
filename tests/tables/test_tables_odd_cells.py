"""An odd cell is read, or left out and said; it refuses no table. Which way a metric goes is known, or said."""

import pytest

import blueberry
from blueberry.errors import TableError
from blueberry.records import goal_of
from blueberry.tables.progress import ending_said
from blueberry.tables.reading import read_table, table_of
from blueberry.tables.rows import duration_of, value_of
from blueberry.tables.runs import table_runs

LOSSES = {0.01: (3.30, 3.31, 3.305), 0.02: (3.20, 3.21, 3.205)}


def rows_of(metric="val_loss", **more):
    return [
        {"lr": lr, "seed": seed, metric: loss} | more
        for lr, losses in LOSSES.items()
        for seed, loss in enumerate(losses)
    ]


def notes_of(rows, vary="lr", **asked):
    return " ".join(table_runs(table_of(rows), [vary], **asked).notes)


@pytest.mark.parametrize(
    ("cell", "seconds"), [("267,657ms", 267.657), ("3:00", "3:00"), ("1:02:03", 3723), ("12", "12")]
)
def test_times(cell, seconds) -> None:
    assert duration_of(cell) == seconds


@pytest.mark.parametrize("cell", ["diverged", "NaN at step 1200", "Diverged (step 300)", "OOM", "crashed at 2k"])
def test_an_ending_in_place_of_the_metric_is_the_ending(cell) -> None:
    rows = [*rows_of(), *({"lr": 0.08, "seed": seed, "val_loss": cell} for seed in range(3))]
    runs = table_runs(table_of(rows), ["lr"]).runs
    assert {run.result.status for run in runs if run.arm == "lr=0.08"} == {
        "diverged" if ending_said(cell) == "diverged" else "failed"
    }


def test_another_word_there_is_refused() -> None:
    with pytest.raises(TableError, match="a number, or empty"):
        table_runs(table_of([*rows_of(), {"lr": 0.02, "seed": 3, "val_loss": "great"}]), ["lr"])


def test_text_among_other_results_is_left_out_and_said() -> None:
    rows = rows_of(train_seconds=60.0)
    for odd in ("see log", "4:07"):
        rows[1]["train_seconds"] = odd
        assert f"{odd!r} is no number of train_seconds" in notes_of(rows)


@pytest.mark.parametrize(
    ("cell", "value"), [("✅ keep", "keep"), ("💥 crash", "crash"), ("3.21 🏆", 3.21), ("✅", "✅")]
)
def test_pictures_beside_what_a_cell_says(cell, value) -> None:
    assert value_of(cell) == value


@pytest.mark.parametrize(
    "odd",
    [
        {"lr": 0.02, "seed": None, "val_loss": 3.3, "note": "mean of four"},
        {"lr": 0.02, "seed": None, "val_loss": 3.205},
        {"lr": "untuned", "seed": None, "val_loss": 4.1},
    ],
    ids=["called so", "the mean", "an arm without seeds"],
)
def test_a_row_without_a_seed_that_is_no_run(odd) -> None:
    found = table_runs(table_of([*rows_of(), odd]), ["lr"])
    assert len(found.runs) == 6
    assert "without a seed" in " ".join(found.notes)


def test_a_seed_that_was_forgotten_is_asked_for() -> None:
    with pytest.raises(TableError, match="give each run its seed"):
        table_runs(table_of([*rows_of(), {"lr": 0.02, "seed": None, "val_loss": 3.23}]), ["lr"])


@pytest.mark.parametrize("name", ["quality", "coverage", "my metric"])
def test_the_direction_of_an_unknown_metric_is_said(name) -> None:
    assert f"less of {name} is taken as better" in notes_of(rows_of(name), metric=name)
    assert "taken as better" not in notes_of(rows_of(name), metric=name, goal="minimize")


@pytest.mark.parametrize("name", ["val_loss", "test_mse", "val_perplexity", "wer", "FID"])
def test_of_a_known_one_nothing_is_said(name) -> None:
    assert "taken as better" not in notes_of(rows_of(name), metric=name)


@pytest.mark.parametrize(
    "name",
    ["val_loglik", "log_likelihood", "val_ll", "elbo", "R@1", "em", "kappa", "cider", "METEOR", "rougeLsum", "mAP50",
     "spearman", "hellaswag", "P@5", "top1", "val_acc", "hit@10"],
)  # fmt: skip
def test_gains(name) -> None:
    assert goal_of(name) == "maximize"
    with pytest.raises(TableError, match="--goal maximize"):
        table_runs(table_of(rows_of(name)), ["lr"], metric=name)


@pytest.mark.parametrize("name", ["neg_log_likelihood", "nll", "nelbo", "cer", "rmse", "mae", "mape", "brier", "ece"])
def test_losses(name) -> None:
    assert goal_of(name) == "minimize"


@pytest.mark.parametrize(
    "at", [lambda step: {"it": step}, lambda step: {"checkpoint": f"ckpt-{step}.pt"}, lambda step: {"file": f"a/step_{step}"}]
)  # fmt: skip
def test_steps_under_another_name(at) -> None:
    rows = [
        {"lr": lr, "seed": seed, **at(step), "val_loss": loss + 100 / step}
        for lr, losses in LOSSES.items()
        for seed, loss in enumerate(losses)
        for step in (100, 200, 400)
    ]
    found = table_runs(table_of(rows), ["lr"])
    assert len(found.runs) == 6
    assert all(len(run.steps) == 3 for run in found.runs)
    assert not blueberry.analyse(rows, vary="lr", min_effect=0.001).blocks


def test_the_best_checkpoint_of_a_run_is_no_step_of_it() -> None:
    rows = [row | {"best_checkpoint": f"ckpt-{100 * (1 + n % 3)}.pt"} for n, row in enumerate(rows_of())]
    assert "step" not in table_of(rows).columns


def test_a_table_of_a_loop_with_pictures(tmp_path) -> None:
    path = tmp_path / "results.md"
    lines = ["| exp | val_bpb | status |", "|---|---|---|", "| 0 | 1.0012 | ✅ keep |", "| 1 | CRASH | 💥 crash |"]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert read_table(path).is_of_a_loop
    assert len(table_runs(read_table(path), ["exp"], "val_bpb", least_arms=1).runs) == 2


def test_judged_as_before() -> None:
    assert not blueberry.analyse(rows_of(), vary="lr", min_effect=0.001).blocks
