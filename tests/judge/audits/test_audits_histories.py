"""Raw results: the rates really used, and the ends of the lists."""

import math

import pytest

from blueberry.judge.audits.histories import audit_histories, histories


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
