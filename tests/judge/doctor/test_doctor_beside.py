"""Raw results: rates really used, and reports against the results beside them."""

import math

import pytest

from blueberry.judge.doctor.beside import audit_beside
from blueberry.judge.doctor.document import Document
from blueberry.judge.doctor.histories import audit_histories, histories
from blueberry.tables import table_of


def cosine(num_updates, *, warmup=10, floor=0.1, horizon=None):
    horizon = horizon or num_updates
    rates = []
    for update in range(num_updates):
        progress = (update - warmup + 1) / (horizon - warmup)
        height = (
            (update + 1) / warmup if update < warmup else floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
        )
        rates.append([update, 0.06 * height])
    return rates


def run(name, rates, **config):
    return {"name": name, "schedule_config": {"warmup_ratio": 0.1, "min_lr_ratio": 0.1, **config}, "lr_history": rates}


def names(document):
    return [(finding.audit, finding.severity) for finding in audit_histories(histories(document), "runs.json")]


@pytest.mark.parametrize(
    "wrap", [lambda runs: runs, lambda runs: {"runs": runs}, lambda runs: {r["name"]: r for r in runs}]
)
def test_schedules_as_declared_are_quiet(wrap):
    assert names(wrap([run("a", cosine(100)), run("b", cosine(100, floor=0.05), min_lr_ratio=0.05)])) == []


@pytest.mark.parametrize(
    ("second", "audit", "severity"),
    [
        (run("b", cosine(100, horizon=400)), "schedule", "block"),
        (run("b", [[0, 0.0], *cosine(100)[1:]]), "schedule", "block"),
        (run("b", cosine(20, warmup=2)), "schedule", "block"),
        (run("b", cosine(100), warmup_ratio=0.2), "dead-knob", "block"),
    ],
)
def test_planted_defects_of_schedules(second, audit, severity):
    assert names([run("a", cosine(100)), second]) == [(audit, severity)]


def test_unequal_numbers_of_looks():
    runs = [{"name": "a", "val_losses": [3, 2]}, {"name": "b", "val_losses": [3, 2.5, 2]}]
    assert names(runs) == [("early-stop", "warn")]
    assert names(runs[:1]) == []


def test_what_is_no_list_of_runs_is_none():
    assert histories([1, 2]) == []
    assert histories({"best": 0.1}) == []
    assert histories("text") == []


ROWS = [
    {"lr": 0.01, "val_loss": 3.91234, "train_seconds": 13.6},
    {"lr": 0.02, "val_loss": 3.80512, "train_seconds": 13.5},
    {"lr": 0.04, "val_loss": 3.78099, "train_seconds": 13.4},
]
REPORT = """# Rates
| learning rate | val loss |
|---|---|
| 0.01 | 3.912 |
| 0.02 | 3.805 |
| 0.04 | 3.781 |

Both take the same training time.
"""


def beside(report=REPORT, rows=ROWS):
    return [finding.audit for finding in audit_beside([Document.read("r.md", report)], [table_of(rows)])]


def test_a_report_that_prints_its_data_is_quiet():
    assert beside() == []


def test_a_number_that_is_not_the_datas():
    assert beside(REPORT.replace("3.781", "3.761")) == ["drift"]
    others = [{**row, "val_loss": row["val_loss"] + 1} for row in ROWS]
    assert beside(rows=others) == [], "a table of other runs"


def test_equal_times_that_are_not():
    slower = [{**row, "train_seconds": 10 + 100 * row["lr"]} for row in ROWS]
    assert beside(rows=slower) == ["null"]
    assert beside(REPORT.replace("same training time", "time that runs take"), slower) == []
