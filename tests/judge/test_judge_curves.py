"""Findings of an arm over its seeds: what is planted is found, a clean arm has a pattern and nothing else."""

import math

import numpy as np
import pytest

from blueberry.judge.curves import read_curves
from blueberry.records import Curve, Evaluation, Failure, Metrics, Routing, RunResult

UPDATES = 400


def metrics(loss: float) -> Metrics:
    return Metrics(loss=loss, bits_per_byte=None, accuracy=0.1, num_tokens=10)


def run(seed: int, *, validation=None, train=None, norm=None, experts=None, end: int | None = None) -> RunResult:
    rng = np.random.default_rng(seed)
    u = np.arange(UPDATES)
    loss = 3.5 + 2.7 * (1 + u / 20) ** -0.7 if train is None else train
    loss = loss + 0.1 * rng.standard_normal(UPDATES)
    held_out = loss + 0.1 if validation is None else validation
    looks = tuple(
        Evaluation(
            update=at,
            tokens=at,
            seconds=0,
            validation=metrics(float(np.mean(held_out[max(0, at - 20) : at]) + 0.02 * rng.standard_normal())),
            routing=None
            if experts is None
            else Routing(
                max_load_ratio=(1.0, 1.0), load_entropy_nats=(math.log(8), math.log(experts)), dropped_fraction=0
            ),
        )
        for at in range(20, (end or UPDATES) + 1, 20)
    )
    num_updates = end or UPDATES
    losses = tuple(map(float, loss[:num_updates]))
    return RunResult(
        fingerprint=f"run-{seed}",
        recipe={} if experts is None else {"model.feed_forward.num_experts": 8},
        status="completed" if end is None else "diverged",
        failure=None if end is None else Failure(kind="diverged", update=end),
        final=looks[-1].validation if end is None else None,
        evaluations=looks,
        curve=Curve(
            train_loss=losses if end is None else (*losses[:-1], None),
            gradient_norm=tuple(
                map(float, (np.exp(0.2 * rng.standard_normal(UPDATES)) if norm is None else norm)[:num_updates])
            ),
            learning_rate=(0.03,) * num_updates,
        ),
        num_updates=num_updates,
    )


def findings(runs: list[RunResult]) -> dict[str, str]:
    found = read_curves("a", dict(enumerate(runs)), alpha=0.05)
    assert all(one.arm == "a" and one.n <= len(runs) and set(one.seeds) <= set(range(len(runs))) for one in found)
    return {one.finding: one.message for one in found}


def test_a_clean_arm_has_a_pattern_and_nothing_else():
    found = read_curves("a", {seed: run(seed, experts=7) for seed in range(3)}, alpha=0.05)
    (one,) = found
    assert (one.finding, one.severity, one.pattern, one.n, one.unit) == ("pattern", "note", "fast", 3, "fraction")
    assert one.interval is not None
    assert one.value is not None
    assert one.interval[0] < one.value < one.interval[1]
    assert "of the way to the final training loss after a quarter of the run, 3 runs" in one.message


@pytest.mark.parametrize(
    ("tau", "pattern"), [(0.05, "fast"), (0.2, "moderate"), (1.0, "slow")]
)  # fractions of the run in which the distance falls to 1/e
def test_patterns(tau, pattern):
    u = np.arange(UPDATES) / UPDATES
    found = read_curves("a", {s: run(s, train=3 + 3 * np.exp(-u / tau)) for s in range(3)}, alpha=0.05)
    assert [one.pattern for one in found if one.pattern] == [pattern]


def test_lost_ground_and_divergence_are_unstable():
    u = np.arange(UPDATES)
    rising = 3.5 + 2.7 * (1 + u / 20) ** -0.7 + np.where(u > 250, 1.0, 0.0)
    said = findings([run(0), run(1, train=rising)])
    assert said["pattern"].startswith("unstable: the training loss of 1 run rose again, by up to 0.9")
    away = 3.5 + 2.7 * (1 + u / 20) ** -0.7 + np.where(u > 180, 0.05 * np.maximum(u - 180, 0) ** 1.3, 0.0)
    said = findings([run(0), run(1, train=away, end=260)])
    assert said["pattern"].startswith("unstable: 1 run diverged; 2 runs in all")
    assert said["divergence"].startswith(
        "the loss stopped being finite at update 260; it left its level for good at update 18"
    )
    assert said["divergence"].endswith("where the rate was 0.03; 1 of 2 runs")


def test_spikes_tell_how_many_runs():
    norm = np.exp(0.1 * np.random.default_rng(0).standard_normal(UPDATES))
    norm[300] *= 15
    said = findings([run(0), run(1, norm=norm), run(2)])
    assert said["spikes"].startswith("1 spike of the gradient's norm, the highest at update 301: 1")
    assert said["spikes"].endswith("times what it was; 1 of 3 runs")


def test_overfitting_has_its_uncertainty_over_seeds():
    u = np.arange(UPDATES)
    validation = np.where(u < 200, 6 - 0.01 * u, 4 + 0.3 * (u - 200) / 200)
    runs = {seed: run(seed, validation=validation) for seed in range(5)}
    (one,) = [found for found in read_curves("a", runs, alpha=0.05) if found.finding == "overfitting"]
    assert one.value == pytest.approx(0.28, abs=0.05)
    assert one.interval is not None
    assert 0 < one.interval[0] < one.value < one.interval[1]
    assert one.update is not None
    assert 180 <= one.update <= 240
    rising_too = {
        s: run(s, validation=validation, train=np.where(u < 200, 6 - 0.01 * u, 4 + 0.002 * (u - 200))) for s in range(5)
    }
    assert not [x for x in read_curves("a", rising_too, alpha=0.05) if x.finding == "overfitting"], "training rises too"
    one_seed = read_curves("a", {0: runs[0]}, alpha=0.05)
    assert not [x for x in one_seed if x.finding == "overfitting"], "one seed has no uncertainty"


def test_overfitting_false_alarms_are_rare():
    u = np.arange(UPDATES)
    flat = np.where(u < 100, 6 - 0.02 * u, 4.0)
    alarms = [
        "overfitting" in findings([run(10 * case + seed, validation=flat) for seed in range(3)]) for case in range(60)
    ]
    assert sum(alarms) <= 7  # binomial: P(more | 60, .05) = .01


def test_collapse_at_the_end():
    said = findings([run(0, experts=7), run(1, experts=2.5), run(2, experts=3)])
    assert said["collapse"] == (
        "at the end layer 2 uses 2.5 of its 8 experts (0 dead), collapsed since update 20; 2 of 3 runs"
    )


def test_what_has_no_curves_has_no_findings():
    bare = RunResult(fingerprint="x", recipe={}, status="completed", final=metrics(3.0), num_updates=9)
    crashed = RunResult(fingerprint="y", recipe={}, status="failed")
    assert read_curves("a", {0: bare, 1: crashed}, alpha=0.05) == ()
