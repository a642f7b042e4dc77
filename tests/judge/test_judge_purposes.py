import math
from dataclasses import replace

import pytest

from blueberry.judge.evidence import ArmRuns, Evidence
from blueberry.judge.judging import weigh

RATE = "optimizer.muon.learning_rate"
INF = math.inf
VALUES = {
    "a": [1.5, 1.61, 1.52],
    "b": [1.001, 1.01, 1.019],
    "c": [1.0, 1.01, 1.021],
    "d": [1.5, 1.51, 1.52],
    "e": [9.0, 1.2, INF],
}


def weigh_sweep(values=VALUES, *, confirm=(1.01, 1.02, 1.03), reached=None, **more):
    """`reached`: the update at which each arm is seen at 0.9, by seed; None: never."""
    reached = reached or dict.fromkeys(values, (30, 30, 30)) | {"c": (20, 20, 30)}
    arms = tuple(
        ArmRuns(
            name,
            {RATE: 0.01 * 2**k},
            dict(enumerate(runs)),
            confirm=dict(enumerate(confirm, start=100)) if name == "b" else {},
            evaluations={s: ((10, 2.0), *(((u, 0.9),) if u else ())) for s, u in enumerate(reached[name])},
        )
        for k, (name, runs) in enumerate(values.items())
    )
    judged = weigh(Evidence("q", "val_loss", 0.01, 0.05, (RATE,), arms, scale="log", **more))
    return {purpose.purpose: purpose for purpose in judged.purposes}


def test_each_purpose_has_its_evidence():
    said = weigh_sweep()
    assert list(said) == ["production", "conservative", "fast", "avoid"]
    production = said["production"]
    assert production.settings == {RATE: 0.02}
    assert "3 fresh seeds" in (production.evidence or "")
    assert "1.020 nats [" in (production.evidence or "")
    assert "1 other arm not told apart" in (production.evidence or "")
    conservative = said["conservative"]
    assert conservative.settings == {RATE: 0.02}
    assert "0 of 6 runs failed (at most 39% would" in (conservative.evidence or "")  # 1 - .05**(1/6)
    assert said["avoid"].settings == {RATE: pytest.approx(0.16)}
    assert "1 of 3 runs of e failed (at least 2% would" in (said["avoid"].evidence or "")


def test_fast_is_said_to_be_within_its_own_schedule():
    fast = weigh_sweep()["fast"]
    assert fast.settings == {RATE: 0.04}
    assert "after 20 updates (median of 3 seeds; the next needs 30)" in (fast.evidence or "")
    assert "within its own schedule" in (fast.evidence or "")


def test_fast_is_withheld_where_nobody_is_first():
    said = weigh_sweep(reached=dict.fromkeys(VALUES, (30, 30, 30)))["fast"]
    assert (said.evidence, said.settings) == (None, None)
    assert "before all others" in (said.because or "")


def test_a_miss_is_later_than_everything():
    """c is first on one seed and never there on two."""
    reached = dict.fromkeys(VALUES, (30, 30, 30)) | {"c": (20, None, None), "b": (25, 25, 40)}
    assert weigh_sweep(reached=reached)["fast"].settings == {RATE: 0.02}


def test_without_fresh_seeds_nothing_goes_to_production():
    said = weigh_sweep(confirm=())
    assert "flatter" in (said["production"].because or "")
    assert said["production"].settings is None
    assert said["conservative"].evidence is not None


def test_a_blocked_claim_is_withheld_everywhere_but_what_failed_was_seen():
    said = weigh_sweep(num_unfinished=2)
    for name in ("production", "conservative", "fast"):
        assert said[name].evidence is None
        assert "2 runs of the design did not end" in (said[name].because or "")
    assert said["avoid"].settings is not None


def test_named_arms():
    base = [3.0, 3.1, 3.05, 3.02, 3.08]
    arms = (
        ArmRuns("baseline", {}, dict(enumerate(base))),
        ArmRuns("worse", {"model.dropout": 0.3}, {s: v + 0.2 + 0.001 * s for s, v in enumerate(base)}),
    )
    said = {p.purpose: p for p in weigh(Evidence("q", "val_loss", 0.01, 0.05, ("model.dropout",), arms)).purposes}
    assert (said["production"].arms, said["production"].settings) == (("baseline",), {})
    assert said["avoid"].arms == ("worse",)
    assert set(said) == {"production", "avoid"}  # nothing is low or fast where no number varies


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_what_was_shown_to_be_worse_is_to_be_avoided(goal):
    """By min_effect or more, whichever way is better; of what is only not told apart nothing is said."""
    sign = -1 if goal == "maximize" else 1
    means = {"a": 0.50, "b": 0.35, "c": 0.20, "d": 0.201, "e": 0.225}
    arms = tuple(
        ArmRuns(name, {RATE: 0.01 * 2**k}, {s: sign * (mean + s / 100 + k * s / 10**4) for s in range(5)})
        for k, (name, mean) in enumerate(means.items())
    )
    asked = Evidence("q", "score", 0.01, 0.05, (RATE,), arms, scale="log", goal=goal)
    said = {purpose.purpose: purpose for purpose in weigh(asked).purposes}["avoid"]
    assert said.arms == ("a", "b", "e")
    assert said.evidence == "worse than the best by 0.01 or more"
    assert said.settings is None
    crashed = (*arms[:-1], replace(arms[-1], crashed=(9,)))
    assert weigh(replace(asked, arms=crashed, num_unfinished=1)).purposes[-1].arms == (), "it is withheld"
