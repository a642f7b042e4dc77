import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from blueberry.judge.evidence import ArmRuns, Evidence
from blueberry.judge.judgement import block
from blueberry.judge.judging import weigh
from blueberry.judge.races import follow, leading_arm, open_arms

LOOKS = (3, 5, 8, 12, 16)
DESIGN: Any = SimpleNamespace(alpha=0.05, min_effect=0.01, seeds=SimpleNamespace(search=3, max=16))
INF, NAN = math.inf, math.nan


def draw(rng, means, *, n=16, rho=0.5, sd=0.01, tail="normal"):
    noise = (lambda *s: rng.standard_t(3, size=s) / 3**0.5) if tail == "t3" else (lambda *s: rng.normal(size=s))
    means = np.asarray(means)
    return means[:, None] + sd * (rho**0.5 * noise(1, n) + (1 - rho) ** 0.5 * noise(len(means), n))


def conduct(values_KN, names=None):
    """Hand out seeds as the engine would: to open arms only, look by look."""
    names = names or [f"arm{k}" for k in range(len(values_KN))]
    runs = {name: {} for name in names}
    open_, asked = tuple(names), []
    for n in LOOKS:
        for name in open_:
            runs[name] = {seed: float(values_KN[names.index(name), seed]) for seed in range(n)}
        open_ = open_arms(DESIGN, runs)
        asked.append(open_)
        if not open_:
            break
    return runs, asked


def judge(runs, **more):
    arms = tuple(ArmRuns(name, {}, search) for name, search in runs.items())
    return weigh(Evidence("q", "val_loss", 0.01, 0.05, (), arms, looks=5, look_seeds=LOOKS, **more))


def test_seeds_go_to_arms_that_are_unresolved_only():
    values = draw(np.random.default_rng(0), [3.0, 3.008, 3.2, 3.3])
    runs, asked = conduct(values)
    assert asked[0] == ("arm0", "arm1")
    assert [len(run) for run in runs.values()][2:] == [3, 3]
    assert len(runs["arm0"]) == len(runs["arm1"]) > 3


def test_a_settled_race_and_one_at_its_maximum():
    clear = judge(conduct(draw(np.random.default_rng(1), [3.0, 3.2, 3.3]))[0])
    assert (clear.ended, clear.unresolved) == ("settled", ("arm0",))
    assert "Every question of the race was settled after 3 seeds." in clear.known
    near = judge(conduct(draw(np.random.default_rng(1), [3.0, 3.0, 3.3], sd=0.05))[0])
    assert (near.ended, near.looks, near.looks_taken) == ("maximum", LOOKS, 5)
    assert "reached its maximum of 16 seeds" in near.known
    assert "not separated by 16 seeds" in near.known
    ties = judge(conduct(draw(np.random.default_rng(1), [3.0, 3.0, 3.3], sd=0.003))[0])
    assert ties.ended == "settled"
    assert len(ties.unresolved) == 2
    tie = next(v for v in ties.verdicts if {v.a, v.b} == {"arm0", "arm1"})
    assert (tie.verdict, ties.looks_taken) == ("tie", LOOKS.index(tie.n) + 1)
    assert f"{tie.b} equals {tie.a} within 0.01 nats ({tie.n} paired seeds)" in ties.known
    assert "equal" not in near.known


def test_how_a_race_ended_is_said_where_an_audit_blocks_too():
    runs = conduct(draw(np.random.default_rng(1), [3.0, 3.2, 3.3]))[0]
    blocked = judge(runs, audits=(block("schedule", "no warmup", "warm up"),))
    assert "withheld" in blocked.known
    assert blocked.known.endswith("Every question of the race was settled after 3 seeds.")


def test_a_look_is_taken_only_when_every_open_arm_has_its_seeds():
    values = draw(np.random.default_rng(2), [3.0, 3.001, 3.2])
    values[1, 2] = NAN
    race = follow(values[:, :3], looks=LOOKS, alpha=0.05, min_effect=0.01)
    assert (race.taken, race.open, race.ended) == ((), (0, 1, 2), None)
    early = judge(
        {f"arm{k}": {s: float(v) for s, v in enumerate(row) if v == v} for k, row in enumerate(values[:, :3])}
    )
    assert early.ended is None
    assert {v.verdict for v in early.verdicts} == {"inconclusive"}


def test_the_answer_does_not_depend_on_how_often_it_is_asked():
    rng = np.random.default_rng(3)
    for _ in range(5):
        values = draw(rng, [3.0, 3.005, 3.01, 3.02])
        runs, _asked = conduct(values)
        everything = {f"arm{k}": dict(enumerate(map(float, row))) for k, row in enumerate(values)}
        sparse = follow(np.array([[runs[f"arm{k}"].get(s, NAN) for s in range(16)] for k in range(4)]), looks=LOOKS, alpha=0.05, min_effect=0.01)  # fmt: skip
        full = follow(values, looks=LOOKS, alpha=0.05, min_effect=0.01)
        assert sparse.contenders == full.contenders
        assert leading_arm(DESIGN, runs) == leading_arm(DESIGN, everything)


def test_an_arm_that_was_dropped_is_never_the_best_by_its_lucky_seeds():
    """Arm 2 is worse than arm 0 and leaves; arm 1 is too noisy to leave, and makes the early seeds look hard."""
    rng = np.random.default_rng(4)
    early = np.array([3.0, 3.2, 3.15, 3.16, 3.17, 3.18, 3.3, 3.3, 3.3])[:, None] + 0.002 * rng.normal(size=(9, 3))
    early[1] += [0.4, -0.4, 0.0]
    values = np.hstack([early, 3.4 + 0.1 * rng.normal(size=(9, 13))])
    runs, asked = conduct(values)
    assert asked[0] == ("arm0", "arm1")
    judged = judge(runs)
    assert judged.best is not None
    assert judged.best.arm in ("arm0", "arm1")
    assert {arm.arm: arm.status for arm in judged.arms}["arm2"] == "worse"
    late = {name: np.mean(list(run.values())) for name, run in runs.items()}
    assert late["arm2"] < min(late["arm0"], late["arm1"])


def test_against_a_baseline_every_arm_is_followed_until_it_is_decided():
    values = draw(np.random.default_rng(5), [3.0, 2.85, 3.15, 2.985], sd=0.012)
    names = ["baseline", "better", "worse", "near"]
    runs, asked = conduct(values, names)
    assert asked[0] == ("baseline", "near")
    judged = judge(runs)
    said = {v.b: (v.verdict, v.winner) for v in judged.verdicts if v.a == "baseline"}
    assert said["better"] == ("winner", "better")
    assert said["worse"] == ("winner", "baseline")
    assert judged.best is not None
    assert (judged.best.arm, judged.ended) == ("better", "settled")


def test_a_decision_of_an_early_look_stands():
    """Later seeds of other arms raise the pooled noise; the verdict was given with that of its own look."""
    values = draw(np.random.default_rng(6), [3.0, 2.93, 3.008, 3.008], sd=0.004)
    values[2:, 3:] += 0.2 * np.random.default_rng(7).normal(size=(2, 13))
    runs, asked = conduct(values, ["baseline", "better", "a", "b"])
    assert asked[0] == ("baseline", "a", "b")
    verdict = next(v for v in judge(runs).verdicts if {v.a, v.b} == {"baseline", "better"})
    assert (verdict.verdict, verdict.winner, verdict.n) == ("winner", "better", 3)


def test_diverged_arms_get_no_more_seeds():
    values = draw(np.random.default_rng(8), [3.0, 3.0, 3.0], sd=0.05)
    values[1, 1] = INF
    assert conduct(values)[1][0] == ("arm0", "arm2")
    assert conduct(values, ["baseline", "a", "b"])[1][0] == ("baseline", "b")
    assert conduct(np.full((2, 16), INF))[1] == [()]
    assert leading_arm(DESIGN, {"a": {0: INF}, "b": {0: INF}}) is None


@pytest.mark.parametrize(("num_arms", "tail"), [(2, "normal"), (5, "t3")])
def test_error_over_all_looks(num_arms, tail):
    """Arms exactly as good: one of them is dropped, or two told apart, with probability alpha at most."""
    rng, repeats = np.random.default_rng(num_arms), 40
    dropped = false = 0
    for _ in range(repeats):
        values = draw(rng, np.full(num_arms, 3.0), tail=tail)
        race = follow(values, looks=LOOKS, alpha=0.05, min_effect=0.001)
        dropped += 0 not in race.contenders
        false += len(race.contenders) == 1
    for count in (dropped, false):
        assert binomtest(count, repeats, 0.05, alternative="greater").pvalue > 0.01
