"""Status, verdict, interval, sentences and page of random studies: whatever the runs, they never contradict."""

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from blueberry.judge.evidence import BASELINE, ArmRuns, Evidence, measure
from blueberry.judge.judgement import ArmSummary, Judgement, Verdict
from blueberry.judge.judging import weigh
from blueberry.report.differences import differences
from blueberry.report.page import Page
from blueberry.study.plan import LOOKS

RATE = "optimizer.muon.learning_rate"
NUMBER = re.compile(r"[+-][0-9.]+")


def random_study(rng: np.random.Generator, *, race: bool) -> tuple[Judgement, dict[str, Any]]:
    """Two to nine arms, named, beside a baseline or along rates; noise that differs, seeds that lack, runs that fail."""
    num_arms, n = int(rng.integers(2, 10)), int(LOOKS[-1] if race else rng.integers(2, 9))
    kind = rng.choice(["named", "baseline", "rates"])
    scale = 10.0 ** rng.integers(-7, 3)
    means = rng.normal(size=num_arms) * rng.choice([0.0, 1.0, 5.0])
    sd = np.exp(rng.normal(size=(num_arms, 1)) * rng.choice([0.0, 1.5]))
    tail = rng.standard_t(2, size=(num_arms, n)) if rng.random() < 0.2 else rng.normal(size=(num_arms, n))
    values = 3 + scale * (means[:, None] + rng.choice([0.0, 2.0]) * rng.normal(size=n) + sd * tail)
    if rng.random() < 0.3:
        values[rng.random(values.shape) < rng.choice([0.05, 0.3])] = math.inf
    there = np.ones(values.shape, dtype=bool)
    if not race and rng.random() < 0.4:
        there = rng.random(values.shape) > 0.3
    goal = str(rng.choice(["minimize", "maximize"]))
    values = -values if goal == "maximize" else values
    names = [f"arm{k}" for k in range(num_arms)]
    if kind == "baseline":
        names[int(rng.integers(num_arms))] = BASELINE
    settings = [{RATE: 0.01 * 2.0**k} if kind == "rates" else {} for k in range(num_arms)]
    arms = tuple(
        ArmRuns(name, setting, {seed: float(value) for seed, value in enumerate(row) if here[seed]})
        for name, setting, row, here in zip(names, settings, values, there, strict=True)
    )
    given: dict[str, Any] = {
        "question": "which?",
        "metric": "val_loss",
        "min_effect": float(scale * rng.choice([0.01, 0.5, 3.0])),
        "alpha": float(rng.choice([0.05, 0.2])),
        "vary": (RATE,) if kind == "rates" else (),
        "goal": goal,
        "looks": len(LOOKS) if race else 1,
        "look_seeds": LOOKS if race else (),
    }
    evidence = Evidence(arms=arms, **given)
    if race:  # an arm that has left gets no more seeds
        followed = measure(evidence).race
        assert followed is not None
        seen = followed.tables[-1].tolist()
        kept = [
            {s: v for s, v in arm.search.items() if seen[k][s : s + 1] in ([v], [-v])} for k, arm in enumerate(arms)
        ]
        evidence = replace(evidence, arms=tuple(replace(a, search=one) for a, one in zip(arms, kept, strict=True)))
    return weigh(evidence), given


def sides(judged: Judgement, verdict: Verdict) -> int:
    """1 where the interval says that b is worse, -1 better, 0 neither."""
    if verdict.interval is None:
        return 0
    low, high = verdict.interval
    assert low <= high
    sign = -1 if judged.goal == "maximize" else 1
    return sign * (1 if low > 0 else -1 if high < 0 else 0)


def check_verdict(judged: Judgement, verdict: Verdict) -> None:
    side = sides(judged, verdict)
    if verdict.difference is not None and math.isfinite(verdict.difference):
        assert (verdict.verdict == "winner") == (side != 0), verdict
        assert verdict.winner == {1: verdict.a, -1: verdict.b, 0: None}[side], verdict
        assert verdict.interval is None or verdict.interval[0] <= max(verdict.difference, 0.0) or side == 0
    assert (verdict.more_seeds is None) or verdict.verdict == "inconclusive"
    if not judged.can_judge:
        assert (verdict.verdict, verdict.interval) == ("inconclusive", None)


def check_status(judged: Judgement, arm: ArmSummary) -> None:
    assert judged.best is not None
    verdict = judged.against_best(arm.arm)
    if arm.arm == judged.best.arm:
        assert arm.status == "best"
        assert verdict is None
        return
    assert verdict is not None
    assert verdict.winner != arm.arm, "nothing beats the best"
    if not arm.num_diverged:
        assert (arm.status == "worse") == (verdict.winner == verdict.a), (arm, verdict)
        assert (arm.status == "worse") == (sides(judged, verdict) == 1)
        assert (arm.arm in judged.unresolved) == (arm.status == "unresolved")
    if verdict.a != judged.best.arm:
        assert judged.looks, "only a race drops an arm for another's sake"
        assert arm.status == "worse"


def check_baseline(judged: Judgement) -> None:
    assert judged.best is not None
    against = [v for v in judged.verdicts if v.a == BASELINE]
    beat_it = {v.b for v in against if v.winner == v.b}
    assert not (judged.best.arm == BASELINE and beat_it)
    assert judged.best.arm not in {v.b for v in against if v.winner == BASELINE}
    if judged.best.arm != BASELINE:
        one, other = judged.against_best(BASELINE), judged.verdict(BASELINE, judged.best.arm)
        assert one is not None
        assert other is not None
        assert (one.verdict, one.winner, one.n) == (other.verdict, other.winner, other.n)
        assert one.interval == other.turned().interval
    text = judged.recommendation.text or ""
    if "no change was shown to beat it" in text:
        assert not beat_it
    if text.startswith("Use"):
        assert judged.best.arm in beat_it
    if "is better than the baseline" in judged.known:
        assert judged.best.arm in beat_it
    if "is not separated from the baseline" in judged.known:
        assert judged.best.arm not in beat_it


def check_sentences(judged: Judgement) -> None:
    worse = [arm for arm in judged.arms if arm.status == "worse"]
    if "better than every other" in judged.known:
        assert len(judged.unresolved) == 1
        assert all(judged.against_best(arm.arm).winner for arm in worse)  # type: ignore[union-attr]
    if "are not separated by" in judged.known:
        assert len(judged.unresolved) > 1
    if told := re.findall(r"about (\d+) more seeds? would settle", judged.unknown):
        open_ = [judged.against_best(name) for name in judged.unresolved]
        numbers = {str(v.more_seeds) for v in open_ if v is not None and v.more_seeds is not None}
        assert set(told) <= numbers
    if told := re.findall(r"(\d+) arms are not separated", judged.unknown):
        assert set(told) == {str(len(judged.unresolved))}


def check_page(judged: Judgement) -> None:
    told, best = Page(judged, ()), judged.best
    assert best is not None
    for row in told.rows:
        if row.against_best is None or judged.arm(row.arm).num_diverged:
            continue
        assert (row.status_words == "worse") == row.against_best.verdict.startswith("worse"), row
        ends = NUMBER.findall(row.against_best.interval)
        if row.status_words == "worse":
            assert all(float(end) != 0 for end in ends), row
            assert {end[0] for end in ends} == {"-" if judged.goal == "maximize" else "+"}, row
    for compared in told.against_baseline:
        verdict = judged.verdict(BASELINE, compared.arm)
        ends = NUMBER.findall(compared.interval)
        if verdict is not None and verdict.verdict == "winner":
            assert all(float(end) != 0 for end in ends), compared
            assert len({end[0] for end in ends}) <= 1
    shown = differences(judged)
    assert shown is None or {row.arm for row in shown.rows} >= {arm.arm for arm in judged.arms} - {shown.reference}


@pytest.mark.parametrize("race", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_random_studies_are_told_without_a_contradiction(seed: int, race: bool) -> None:
    rng, told = np.random.default_rng([seed, race]), 0
    for _ in range(20 if race else 60):  # following a race takes ten times as long
        judged, _given = random_study(rng, race=race)
        for verdict in judged.verdicts:
            check_verdict(judged, verdict)
        if judged.best is None:
            continue
        for arm in judged.arms:
            check_status(judged, arm)
        if any(arm.arm == BASELINE for arm in judged.arms):
            check_baseline(judged)
        check_sentences(judged)
        check_page(judged)
        told += any(arm.status == "worse" for arm in judged.arms)
    assert told > 3
