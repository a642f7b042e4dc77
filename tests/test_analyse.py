"""blueberry analyse, as a person meets it."""

import json
import random
import re
from functools import partial

import pytest

import blueberry

RATES = [0.01, 0.02, 0.04, 0.08]


def table(num_seeds: int = 4) -> str:
    """Rate 0.04 is best by far, on every seed; the largest diverges."""
    losses = {0.01: 3.4, 0.02: 3.2, 0.04: 3.0, 0.08: 3.3}
    lines = [
        f"{lr},{seed},{loss + 0.001 * seed + 0.0002 * ((3 * seed + round(lr * 100)) % 5)},{40 + seed}"
        for lr, loss in losses.items()
        for seed in range(num_seeds)
    ]
    lines += [f"0.16,{seed},nan,40" for seed in range(num_seeds)]
    return "\n".join(["lr,seed,final_loss,training_time", *lines]) + "\n"


@pytest.fixture
def run(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs.csv").write_text(table())
    (tmp_path / "one.csv").write_text(table(1))
    return partial(command, "analyse")


def test_a_table_is_judged_and_reported(run, tmp_path):
    code, out, err = run("runs.csv", "--vary", "lr", "--json", "--alpha", "0.04", "--min-effect", "0.02")
    assert code == 0
    answer = json.loads(out)
    assert answer["best"]["settings"] == {"lr": 0.04}
    assert answer["recommendation"]["settings"] == {"lr": 0.04}
    assert (answer["alpha"], answer["min_effect"]) == (0.04, 0.02)
    assert answer["arms"][-1]["mean"] == "inf"
    assert "final_loss is read as val_loss; training_time is read as train_seconds" in err
    assert "taken to have diverged" in err
    report = tmp_path / "reports" / "runs"
    assert answer["report"] == "reports/runs/index.html"
    insights = json.loads((report / "insights.json").read_text())
    assert {name: answer[name] for name in insights} == insights
    page = (report / "index.html").read_text()
    assert "Which lr has the least val_loss in runs?" in page
    assert "Learning curves" not in page
    pictures = sorted(path.name for path in report.rglob("*.png"))
    assert pictures == ["combined_lr_analysis.png", "detailed_lr_analysis.png", "loss_vs_lr.png"]
    runs = json.loads((report / "results.json").read_text())["runs"]
    assert len(runs) == 20
    assert runs[0]["metrics"]["val_loss"] == pytest.approx(3.4002)
    assert (runs[0]["tokens"], runs[0]["flops"], runs[0]["train_seconds"]) == (None, None, 40.0)
    assert [one["status"] for one in runs[-4:]] == ["diverged"] * 4
    final = json.loads((report / "final_results.json").read_text())
    assert final[0]["final_loss"] == pytest.approx(3.4002)
    assert final[0]["updates"] is None


def test_the_report_of_a_report_says_the_same(run):
    run("runs.csv", "--vary", "lr", "--out", "first")
    before = blueberry.analyse("runs.csv", vary="lr")
    after = blueberry.analyse("first/results.json", vary="lr")
    assert after.verdicts == before.verdicts
    assert after.arms == before.arms
    assert after.cost == before.cost


def test_a_blocked_claim_is_exit_code_1(run):
    code, out, err = run("one.csv", "--vary", "lr", "--quiet")
    assert (code, err) == (1, "")
    assert [line.split(":")[0] for line in out.splitlines()] == ["Known", "Open", "Report"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.csv", "--vary", "lr"], "none.csv: no such file"),
        (["runs.csv"], "repeats of one arm a column in which they agree; its columns are lr, seed, val_loss"),
        (["runs.csv", "--vary", "droput"], 'runs.csv vary "droput": no such column'),
        (["runs.csv", "--vary", "lr", "--metric", "accuracy"], 'metric "accuracy": no such column'),
        (["runs.csv", "--vary", "lr", "--alpha", "2"], "alpha: 2.0"),
        (["runs.csv", "--vary", "lr", "--target", "nan"], "target: nan"),
        (["runs.csv", "--vary", "lr", "--target", "-inf"], "target: -inf"),
        (["runs.csv", "--vary", "lr", "--out", "runs.csv"], "runs.csv"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run, words, said):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]


def test_rows_in_memory_need_no_file():
    judged = blueberry.analyse([{"lr": lr, "val_loss": lr, "seed": s} for lr in RATES for s in range(3)], vary=["lr"])
    assert judged.best is not None
    assert judged.best.settings == {"lr": 0.01}


def test_a_regression_s_loss_is_no_text_s():
    """Text has no loss of 0.16 nats; squares of errors may be as small."""
    rows = [
        {"model": m, "seed": k, "val_loss": v + k / 1e3, "RMSE": 0.4}
        for m, v in (("a", 0.16), ("b", 0.2))
        for k in range(3)
    ]
    assert blueberry.analyse(rows, vary="model").blocks == ()
    without = [{name: value for name, value in row.items() if name != "RMSE"} for row in rows]
    assert [one.audit for one in blueberry.analyse(without, vary="model").blocks] == ["too-good"]


def test_a_floor_of_equal_runs_is_no_floor():
    judged = blueberry.analyse([{"seed": k, "lr": 0.1, "val_loss": 7.448} for k in range(3)], vary="lr")
    assert judged.known == "lr=0.1 has a mean val_loss, 7.4480 nats on the 3 seeds; how its runs scatter is withheld."


def test_a_table_in_which_no_run_ended_gets_its_report_too(run, tmp_path):
    (tmp_path / "crashed.csv").write_text("lr,seed,val_loss\n" + "".join(f"{lr},0,\n" for lr in RATES))
    code, out, _ = run("crashed.csv", "--vary", "lr")
    assert code == 1
    assert "No arm has a finite val_loss" in out
    assert (tmp_path / "reports" / "crashed" / "report.md").exists()


def test_a_table_of_which_more_is_better_end_to_end(run, tmp_path):
    rates, draw = [0.005, 0.01, 0.02, 0.04, 0.08], random.Random(3)
    rows = ["lr,seed,accuracy"] + [
        f"{rate},{seed},{0.62 - 0.03 * (place - 2) ** 2 + seed / 500 + draw.gauss(0, 0.001):.4f}"
        for place, rate in enumerate(rates)
        for seed in range(5)
    ]
    (tmp_path / "acc.csv").write_text("\n".join(rows))
    code, out, _ = run("acc.csv", "--vary", "lr", "--metric", "accuracy", "--goal", "maximize", "--json", "--out", "r")
    said = json.loads(out)
    assert (code, said["goal"], said["metric"], said["best"]["settings"]) == (
        0,
        "maximize",
        "val_accuracy",
        {"lr": 0.02},
    )
    assert all(one["difference"] < 0 for one in said["verdicts"]), "each other arm has less of it than the best"
    assert 0.016 < said["optimum"]["estimate"] < 0.025
    assert "0.02 is better than every other rate tried" in said["known"]
    (avoid,) = [one for one in said["purposes"] if one["purpose"] == "avoid"]
    assert avoid["arms"] == ["lr=0.005", "lr=0.01", "lr=0.04", "lr=0.08"]
    report = (tmp_path / "r" / "report.md").read_text()
    assert "![Validation accuracy against learning rate](figures/combined_lr_analysis.png)" in report
    assert "higher is better" in report
    assert "Avoid | lr=0.005" in report
    assert not re.search(
        r"\bloss\b|\bleast\b", report.partition("## How it was judged")[0].replace("loss_vs_lr", ""), re.I
    )
    page = (tmp_path / "r" / "index.html").read_text()
    assert "Validation accuracy against lr" in page
    assert "Loss against" not in page
