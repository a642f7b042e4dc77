import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueberry.recipe import Recipe
from blueberry.schedules import AFTER_WARMUP, multipliers
from blueberry.settings import CosineSchedule


def _multipliers(num_updates: int, **settings) -> list[float]:
    changes = {f"schedule.{name}": value for name, value in settings.items()}
    return multipliers(Recipe().with_({"train.updates": num_updates, **changes}))


def test_constant_by_hand():
    assert _multipliers(5, kind="constant", warmup_fraction=0.4) == [0.5, 1, 1, 1, 1]


def test_linear_by_hand():
    # Warmup of 2; the peak is update 1, and 4 equal steps lead from 1 to 0.2.
    made = _multipliers(6, kind="linear", warmup_fraction=1 / 3, floor_fraction=0.2)
    assert made == pytest.approx([0.5, 1, 0.8, 0.6, 0.4, 0.2])


def test_cosine_by_hand():
    made = _multipliers(5, kind="cosine", warmup_fraction=0.0, floor_fraction=0.1)
    eighth = 0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5))
    assert made == pytest.approx([1, eighth, 0.55, 1.1 - eighth, 0.1])


def test_warmup_stable_decay_by_hand():
    made = _multipliers(10, kind="warmup-stable-decay", warmup_fraction=0.2, decay_fraction=0.4, floor_fraction=0.0)
    assert made == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


@pytest.mark.parametrize("kind", AFTER_WARMUP)
def test_one_update_trains_at_the_peak(kind):
    assert _multipliers(1, kind=kind) == [1.0]


fractions = st.floats(0, 0.49)


@given(st.sampled_from(sorted(AFTER_WARMUP)), st.integers(2, 300), fractions, st.floats(0, 1), st.floats(0.01, 0.5))
def test_every_schedule_keeps_the_two_rules(kind, num_updates, warmup, floor, decay):
    settings = {"kind": kind, "warmup_fraction": warmup, "floor_fraction": floor, "decay_fraction": decay}
    known = {"constant": 2, "linear": 3, "cosine": 3, "warmup-stable-decay": 4}[kind]
    made = _multipliers(num_updates, **dict(list(settings.items())[:known]))
    assert len(made) == num_updates
    assert made[0] > 0
    assert all(0 <= m <= 1 + 1e-12 for m in made)
    assert max(made) == pytest.approx(1)
    num_warmup = round(warmup * num_updates)
    if kind != "constant" and num_warmup < num_updates:
        assert made[-1] == pytest.approx(floor, abs=1e-9)
    after = made[max(num_warmup - 1, 0) :]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(after))


def test_schedules_are_those_a_recipe_knows():
    kinds = {kind.model_fields["kind"].default for kind in _kinds()}
    assert kinds == set(AFTER_WARMUP)


def _kinds():
    from blueberry.recipe import _sections_in

    found = _sections_in(Recipe.model_fields["schedule"].annotation)
    assert CosineSchedule in found
    return found
