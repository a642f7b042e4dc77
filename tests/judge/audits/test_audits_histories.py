"""Raw results: the rates really used, and the ends of the lists."""

import math

import pytest

from blueberry.judge.audits.design import audit_histories, histories


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


def every(n, rates):
    """As a trainer logs them that does so every n updates."""
    return rates[::n]


LONG, STEEP = cosine(1000, warmup=100), [[u, 0.1 * min(1, (1000 - u) / 100)] for u in range(1000)]


@pytest.mark.parametrize(
    ("rates", "config"),
    [
        ([[0, 0], [50, 0.05], [100, 0.1], [550, 0.055], [999, 0.01]], {}),
        (every(50, [[u, 0.1 * min(u / 100, 1 - 0.9 * (u - 100) / 900)] for u in range(1001)]), {}),
        ([{"step": u, "lr": rate} for u, rate in every(50, LONG)], {"warmup_steps": 100}),
        (every(50, LONG), {"num_steps": 1000}),
        (every(200, STEEP), {"warmup_ratio": 0.0}),
        ([rate for _, rate in every(50, LONG)], {}),
        ([[u / 10, rate] for u, rate in every(50, LONG)], {}),
        ([[u, 1000 * u, rate] for u, rate in every(50, LONG)], {}),
    ],
)
def test_the_step_of_a_rate_is_what_it_says(rates, config):
    assert names([run("a", rates, **config)]) == []


@pytest.mark.parametrize(
    ("rates", "config"),
    [
        (every(10, [[u, 0.1 * (1 - 0.9 * u / 990)] for u in range(1000)]), {}),
        ([[u + 1, r] for u, r in cosine(20, warmup=2)], {}),
        ([r for _, r in cosine(20, warmup=2)], {"num_updates": 20}),
        ([{"step": u, "learning_rate": r} for u, r in cosine(20, warmup=2)], {}),
        (every(50, cosine(1000, warmup=100, horizon=4000)), {}),
    ],
)
def test_rates_that_are_listed_now_and_then_still_tell(rates, config):
    assert names([run("a", rates, **config)]) == [("schedule", "block")]


def test_steps_may_stand_in_a_list_of_their_own():
    steps, rates = map(list, zip(*every(50, LONG), strict=True))
    assert names([{"name": "a", "warmup_steps": 100, "steps": steps, "learning_rates": rates}]) == []
    (found,) = audit_histories(histories([{"name": "a", "warmup_steps": 9, "step": [0, 1, 2], "lrs": [3, 2, 1]}]), "x")
    assert "at the peak in update 1 of 3" in found.message


def test_a_warmup_may_hide_between_rates_that_are_listed_now_and_then():
    flat = [[u, 0.1] for u in range(50, 1000, 50)]
    runs = [run("a", flat, warmup_ratio=0.01), run("b", flat, warmup_ratio=0.02)]
    assert names(runs) == [("schedule", "block")], "neither comes down"
    runs[1]["schedule_config"]["schedule"] = "cosine"
    assert ("dead-knob", "block") in names(runs)


def test_unequal_numbers_of_looks():
    runs = [{"name": "a", "val_losses": [3, 2]}, {"name": "b", "val_losses": [3, 2.5, 2]}]
    assert names(runs) == [("early-stop", "warn")]
    assert names(runs[:1]) == []


def test_what_is_no_list_of_runs_is_none():
    assert histories([1, 2]) == []
    assert histories({"best": 0.1}) == []
    assert histories("text") == []
