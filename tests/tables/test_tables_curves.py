"""Curves of runs as tools log them: runs are judged at one update, against a target, and length has its exchange."""

import csv
import json

import numpy as np
import pytest

import blueberry
from blueberry.errors import TableError
from blueberry.tables.reading import read_table
from blueberry.tables.runs import table_runs
from tests.tables.test_tables_trackers import wandb_run

FALL = 0.0002
"""Nats an update."""
ENDS = {0.001: 600, 0.002: 1000}


def runs():
    """Rates of which the first is worse by 0.03 at every update, and the other one trains for longer."""
    rng = np.random.default_rng(0)
    for place, (rate, end) in enumerate(ENDS.items()):
        for seed in range(4):
            level = 3.6 + (0.03 if place == 0 else 0.0) + rng.normal(0, 0.003)
            points = [(at, level - FALL * at + rng.normal(0, 0.0005)) for at in range(50, end + 1, 50)]
            yield f"rate-{rate}-{seed}", rate, seed, end, points


def trainer(root):
    for name, rate, seed, end, points in runs():
        history = [
            entry
            for at, loss in points
            for entry in ({"step": at, "epoch": at / 500, "loss": loss + 0.1, "learning_rate": rate},
                          {"step": at, "epoch": at / 500, "eval_loss": loss, "eval_runtime": 3.0})
        ]  # fmt: skip
        state = {"global_step": end, "max_steps": end, "eval_steps": 50, "num_train_epochs": 2, "log_history": history}
        folder = root / name / f"checkpoint-{end}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(json.dumps({**state, "trial_params": {"lr": rate, "seed": seed}}))


def lightning(root):
    for name, rate, seed, _, points in runs():
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "hparams.yaml").write_text(f"lr: {rate}\nseed: {seed}\n")
        with (folder / "metrics.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["epoch", "step", "train_loss", "val_loss"])
            for at, loss in points:
                rows.writerows([[0, at - 1, loss + 0.1, ""], [0, at, "", loss]])


def wandb_log(root):
    for name, rate, seed, end, points in runs():
        folder = root / f"offline-run-{name}"
        folder.mkdir(parents=True)
        history = [{"_step": n, "trainer/global_step": at, "val/loss": loss} for n, (at, loss) in enumerate(points)]
        summary = {"val/loss": points[-1][1], "trainer/global_step": end, "_step": len(points) - 1}
        (folder / f"run-{name}.wandb").write_bytes(wandb_run({"lr": rate, "seed": seed}, summary, history, name=name))


def wandb_history(root):
    for name, rate, seed, _, points in runs():
        folder = root / f"run-{name}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"lr:\n  value: {rate}\nseed:\n  value: {seed}\n")
        (folder / "wandb-summary.json").write_text(json.dumps({"val_loss": points[-1][1]}))
        lines = [json.dumps({"_step": at, "val_loss": loss}) for at, loss in points]
        (folder / "wandb-history.jsonl").write_text("\n".join([*lines, '{"_step": 99']))


def ray(root):
    for name, rate, seed, _, points in runs():
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "params.json").write_text(json.dumps({"lr": rate, "seed": seed}))
        lines = [json.dumps({"training_iteration": at, "val_loss": loss}) for at, loss in points]
        (folder / "result.json").write_text("\n".join(lines))


LOGGED = [trainer, lightning, wandb_log, wandb_history, ray]


@pytest.mark.parametrize("write", LOGGED)
def test_what_a_tool_logged_is_the_run_s_curve(tmp_path, write):
    write(tmp_path / "runs")
    found = table_runs(read_table(tmp_path / "runs"), ["lr"])
    told = {(run.settings["lr"], run.seed): run.steps for run in found.runs}
    assert told == {(rate, seed): tuple(points) for _, rate, seed, _, points in runs()}


@pytest.mark.parametrize("write", LOGGED)
def test_runs_are_judged_as_they_were_at_one_update(tmp_path, write):
    write(tmp_path / "runs")
    judged = blueberry.analyse(tmp_path / "runs", vary="lr", at=600)
    assert not judged.blocks
    assert judged.best is not None
    assert judged.best.arm == "lr=0.002"
    assert abs(judged.verdicts[0].difference or 0) == pytest.approx(0.03, abs=0.008)
    found = table_runs(read_table(tmp_path / "runs"), ["lr"], at=600).runs
    there = {(rate, seed): dict(points)[600] for _, rate, seed, _, points in runs()}
    assert {(run.settings["lr"], run.seed): run.result.metric("val_loss") for run in found} == there
    with pytest.raises(TableError, match="nothing was measured so early"):
        blueberry.analyse(tmp_path / "runs", vary="lr", at=10)


@pytest.mark.parametrize("write", [trainer, wandb_log])
def test_what_updates_are_worth_is_named_where_runs_of_a_tool_end_at_unlike_ones(tmp_path, write):
    write(tmp_path / "runs")
    (block,) = [one for one in blueberry.analyse(tmp_path / "runs", vary="lr").blocks if one.audit == "budget"]
    assert "near the end of 8 curves 100" in block.message
    assert float(block.message.split(" are ")[1].split(" ")[0]) == pytest.approx(100 * FALL, rel=0.1)
    assert "--at 600" in block.remedy


@pytest.mark.parametrize("write", LOGGED)
def test_the_first_update_at_a_target_is_found_in_what_was_logged(tmp_path, write):
    write(tmp_path / "runs")
    judged = blueberry.analyse(tmp_path / "runs", vary="lr", target=3.5)
    plain = blueberry.analyse(
        [{"lr": rate, "seed": seed, "step": at, "val_loss": loss} for _, rate, seed, _, p in runs() for at, loss in p],
        vary="lr",
        target=3.5,
    )
    assert judged.cleared == plain.cleared
