"""Tables whose columns have two values each: what each change does, by repeats or, of single runs, by interactions."""

import itertools
import random

import pytest

import blueberry
from blueberry.judge.effects import told_pooled

COLUMNS = ("qk_norm", "warmup", "width")


def table(seeds=(0,), *, sd=0.002, interaction=0.0, seed=3, drop=(), metric="val_loss", sign=1.0, level=3.3):
    """qk_norm and warmup help, width does nothing."""
    draw, rows = random.Random(seed), []
    for number, (a, b, c) in enumerate(itertools.product([0, 1], repeat=3)):
        for one in seeds:
            loss = level - sign * (0.03 * a + 0.02 * b - interaction * a * b) + draw.gauss(0, sd)
            row = {"qk_norm": a, "warmup": ["no", "yes"][b], "width": [256, 512][c], "seed": one, metric: loss}
            rows.append(row | ({"seed": number} if one is None else {}))
    return [row for number, row in enumerate(rows) if number not in drop]


def judged(rows, **asked):
    return blueberry.analyse(rows, vary=COLUMNS, **asked)


def blocks(judgement):
    return [one.audit for one in judgement.blocks]


def by_changes(judgement):
    return {effect.changes: effect for effect in judgement.effects}


def test_single_runs_tell_main_effects_and_no_arm():
    found = judged(table(), min_effect=0.01)
    effects = by_changes(found)
    assert list(effects) == [("qk norm",), ("warmup",), ("width 256 to 512",)]
    assert effects["qk norm",].interval[1] < 0
    assert effects["width 256 to 512",].is_tie
    assert found.pooled.df == 4
    assert found.pooled.interactions[0] == "qk norm*warmup"
    assert not found.blocks
    assert [one.severity for one in found.audits if one.audit == "seeds"] == ["warn"]
    assert not any(verdict.winner for verdict in found.verdicts)
    assert found.recommendation.text == "Change qk norm and warmup."
    assert found.recommendation.settings is None
    assert not found.purposes[0].arms
    assert "width 256 to 512 equals 0 within 0.01 nats" in found.known
    assert "qk norm*warmup" in found.known
    assert "1 of more changes" in found.known
    assert "three seeds of every arm" in found.unknown


def test_the_goal_turns_what_is_advised():
    found = judged(table(metric="val_accuracy", sign=-1.0, level=0.3), metric="val_accuracy", goal="maximize")
    assert found.recommendation.text == "Change qk norm and warmup."
    assert by_changes(found)["qk norm",].interval[0] > 0


def test_a_large_interaction_is_named_and_silences_the_rest():
    found = judged(table(interaction=0.1))
    assert found.pooled.stands_out == "qk norm*warmup"
    assert "may be real" in told_pooled(found)[1]
    assert not any(effect.is_significant for effect in found.effects)
    assert found.recommendation.withheld


@pytest.mark.parametrize("seeds", [(0, 1), (None,)])
def test_two_seeds_and_a_seed_of_each_arms_own_are_single_runs_too(seeds):
    found = judged(table(seeds))
    assert found.pooled.df == 4
    assert by_changes(found)["qk norm",].is_significant


def test_repeats_measure_the_noise_and_test_interactions():
    found = judged(table((0, 1, 2), interaction=0.02))
    assert found.pooled is None
    assert {changes for changes, effect in by_changes(found).items() if effect.is_significant} == {
        ("qk norm",), ("warmup",), ("qk norm", "warmup"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "vary"),
    [
        (table(drop=(3,)), COLUMNS),  # a cell is missing
        (table()[::2], COLUMNS[:2]),  # four arms leave one interaction
        ([row | {"seed": number % 2} for number, row in enumerate(table())], COLUMNS),  # the seed is the width's twin
        ([row | {"width": number} for number, row in enumerate(table())], COLUMNS),
        ([row | {"val_loss": float("nan") if not number else row["val_loss"]} for number, row in enumerate(table())],
         COLUMNS),
    ],
)  # fmt: skip
def test_what_is_no_factorial_of_single_runs_stays_blocked(rows, vary):
    found = blueberry.analyse(rows, vary=vary)
    assert "seeds" in blocks(found)
    assert not found.effects


def test_borrowed_noise_tests_interactions_of_single_runs():
    found = judged(table(), sigma=0.002)
    assert found.pooled is None
    assert len(found.effects) == 6
    assert by_changes(found)["qk norm",].is_significant
