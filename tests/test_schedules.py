import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueberry.errors import RecipeError
from blueberry.recipe import Recipe
from blueberry.records import RateCut
from blueberry.schedules import AnySchedule, multiplier, multipliers, num_warmup, rate_cuts, sketch

KINDS = {kind.model_fields["kind"].default: kind for kind in AnySchedule.__args__}
FALLING = sorted(set(KINDS) - {"constant", "plateau"})


def _schedule(kind: str, **settings: Any) -> AnySchedule:
    return KINDS[kind].model_validate(settings)


def _multipliers(num_updates: int, kind: str, **settings: Any) -> list[float]:
    return multipliers(_schedule(kind, **settings), num_updates)


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


def test_cosine_restarts_by_hand():
    # 8 updates after the peak in 2 cycles of 4: each begins at the peak, and the last update ends the last.
    made = _multipliers(9, kind="cosine-restarts", num_cycles=2, warmup_fraction=0.0, floor_fraction=0.0)
    eighth = 0.5 * (1 + math.sqrt(0.5))
    assert made == pytest.approx([1, eighth, 0.5, 1 - eighth, 1, eighth, 0.5, 1 - eighth, 0])


def test_one_cycle_is_the_cosine():
    settings = {"warmup_fraction": 0.2, "floor_fraction": 0.3}
    assert _multipliers(40, kind="cosine-restarts", num_cycles=1, **settings) == _multipliers(40, "cosine", **settings)


@pytest.mark.parametrize(
    ("shape", "fall"),
    [
        ("linear", [0.75, 0.5, 0.25, 0]),
        ("cosine", [0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0]),
        ("1-sqrt", [1 - math.sqrt(0.25), 1 - math.sqrt(0.5), 1 - math.sqrt(0.75), 0]),
    ],
)
def test_warmup_stable_decay_by_hand(shape, fall):
    settings = {"warmup_fraction": 0.2, "decay_fraction": 0.4, "floor_fraction": 0.0, "decay_shape": shape}
    made = _multipliers(10, kind="warmup-stable-decay", **settings)
    assert made == pytest.approx([0.5, 1, 1, 1, 1, 1, *fall], abs=1e-12)


def test_inverse_square_root_by_hand():
    # A floor of 1/2 is 1 / sqrt(1 + 3): the scale is a third of the way, so update t is at 1 / sqrt(1 + t).
    made = _multipliers(4, kind="inverse-square-root", warmup_fraction=0.0, floor_fraction=0.5)
    assert made == pytest.approx([1, 1 / math.sqrt(2), 1 / math.sqrt(3), 1 / 2])


def test_inverse_square_root_with_the_floor_of_vaswani_falls_as_theirs():
    # Theirs, counted from 1: min(u / W, sqrt(W / u)).
    warmup, length = 4, 40
    made = _multipliers(length, "inverse-square-root", warmup_updates=warmup, floor_fraction=math.sqrt(warmup / length))
    theirs = [min(u / warmup, math.sqrt(warmup / u)) for u in range(1, length + 1)]
    assert made == pytest.approx(theirs)


def test_polynomial_by_hand():
    made = _multipliers(5, kind="polynomial", power=2.0, warmup_fraction=0.0, floor_fraction=0.2)
    assert made == pytest.approx([1, 0.2 + 0.8 * 9 / 16, 0.2 + 0.8 / 4, 0.2 + 0.8 / 16, 0.2])


def test_exponential_by_hand():
    made = _multipliers(4, kind="exponential", warmup_fraction=0.0, floor_fraction=0.001)
    assert made == pytest.approx([1, 0.1, 0.01, 0.001])


def test_step_by_hand():
    made = _multipliers(7, kind="step", num_drops=2, warmup_updates=2, floor_fraction=0.01)
    assert made == pytest.approx([0.5, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warmup_from_a_given_rate_by_hand():
    # The documents' "0.01 to 0.065", in 4 updates.
    made = _multipliers(6, kind="constant", warmup_updates=4, warmup_from_fraction=0.01 / 0.065)
    assert [0.065 * m for m in made] == pytest.approx([0.01, 0.01 + 0.055 / 3, 0.01 + 0.11 / 3, 0.065, 0.065, 0.065])


def test_exponential_warmup_by_hand():
    made = _multipliers(5, kind="constant", warmup_updates=4, warmup_shape="exponential", warmup_from_fraction=0.001)
    assert made == pytest.approx([0.001, 0.01, 0.1, 1, 1])
    made = _multipliers(4, kind="constant", warmup_updates=3, warmup_shape="exponential")
    assert made == pytest.approx([1 / 3, math.sqrt(1 / 3), 1, 1])


def test_a_horizon_other_than_the_run():
    linear = {"kind": "linear", "warmup_fraction": 0.0, "floor_fraction": 0.2, "horizon_updates": 5}
    assert _multipliers(3, **linear) == pytest.approx([1, 0.8, 0.6])
    assert _multipliers(7, **linear) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2])


def test_warmup_is_a_fraction_of_the_horizon():
    assert num_warmup(_schedule("linear", warmup_fraction=0.1, horizon_updates=50), 50) == 5
    made = _multipliers(20, kind="linear", warmup_fraction=0.1, horizon_updates=50)
    assert made.index(max(made)) == 4


def test_the_documents_own_way_can_be_said():
    """80 micro-batches, 20 updates: their clock counts updates, their warmup and horizon micro-batches."""

    def theirs(update: int) -> float:
        max_steps, warmup_steps = 80, 80 // 20
        if update < warmup_steps:
            return update / warmup_steps
        progress = (update - warmup_steps) / (max_steps - warmup_steps)
        return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))

    made = _multipliers(
        20,
        kind="cosine",
        warmup_updates=5,
        warmup_from_fraction=0.0,
        first_update_zero=True,
        floor_fraction=0.1,
        horizon_updates=81,
    )
    assert made == pytest.approx([theirs(update) for update in range(20)])
    assert made[0] == 0
    assert made[-1] == pytest.approx(0.916, abs=5e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_one_update_trains_at_the_peak(kind):
    assert _multipliers(1, kind=kind) == [1.0]


@st.composite
def schedules(draw: st.DrawFn) -> tuple[AnySchedule, int]:
    """A schedule of any kind and a run it fits, without the settings that lift the two rules."""
    num_updates = draw(st.integers(8, 300))
    kind = draw(st.sampled_from(sorted(KINDS)))
    bounds = {
        "warmup_fraction": st.floats(0, 0.49),
        "warmup_updates": st.integers(0, num_updates // 2),
        "warmup_shape": st.sampled_from(["linear", "exponential"]),
        "warmup_from_fraction": st.floats(0.001, 1),
        "floor_fraction": st.floats(0.001, 1),
        "num_cycles": st.integers(1, 3),
        "decay_fraction": st.floats(0.01, 0.5),
        "decay_shape": st.sampled_from(["linear", "cosine", "1-sqrt"]),
        "power": st.floats(0.1, 5),
        "num_drops": st.integers(1, 3),
    }
    either = draw(st.sampled_from(["warmup_fraction", "warmup_updates"]))
    names = set(bounds) & set(KINDS[kind].model_fields) - ({"warmup_fraction", "warmup_updates"} - {either})
    settings = {name: draw(bounds[name]) for name in sorted(names) if draw(st.booleans())}
    return _schedule(kind, **settings), num_updates


@given(schedules())
def test_every_schedule_keeps_the_two_rules(made_for):
    schedule, num_updates = made_for
    made = multipliers(schedule, num_updates)
    assert len(made) == num_updates
    assert made[0] > 0
    assert all(0 <= m <= 1 + 1e-12 for m in made)
    peak = max(num_warmup(schedule, num_updates) - 1, 0)
    assert made[peak] == pytest.approx(1)
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(made[: peak + 1]))
    if schedule.kind in FALLING:
        assert made[-1] == pytest.approx(schedule.floor_fraction, abs=1e-9)
    if schedule.kind != "cosine-restarts":
        assert all(a >= b - 1e-12 for a, b in itertools.pairwise(made[peak:]))


@given(st.sampled_from(FALLING), st.floats(0, 0.99), st.integers(2, 12))
def test_a_long_warmup_still_leaves_an_update_at_the_floor(kind, warmup, num_updates):
    settings = {"decay_fraction": 1 - warmup} if kind == "warmup-stable-decay" else {}
    settings |= {"num_cycles": 1} if kind == "cosine-restarts" else {"num_drops": 1} if kind == "step" else {}
    made = _multipliers(num_updates, kind, warmup_fraction=warmup, floor_fraction=0.25, **settings)
    assert max(made) == pytest.approx(1)
    assert made[-1] == pytest.approx(0.25)


OTHERS = {
    "warmup_fraction": 0.4,
    "warmup_updates": 7,
    "warmup_shape": "exponential",
    "warmup_from_fraction": 0.5,
    "floor_fraction": 0.3,
    "horizon_updates": 50,
    "num_cycles": 3,
    "decay_fraction": 0.4,
    "decay_shape": "cosine",
    "power": 1.5,
    "num_drops": 3,
    "factor": 0.1,
    "patience_evaluations": 1,
    "min_improvement_nats": 0.15,
}
"""A value for each setting that is not its default. A new setting without one fails the test below."""
TOGETHER = {"first_update_zero": {"warmup_from_fraction": 0.0, "first_update_zero": True}}
SEEN = [(3 * (i + 1), loss) for i, loss in enumerate([4.0, 3.9, 3.8, 3.8, 3.7, 3.7, 3.7, 3.7, 3.7, 3.7, 3.7])]


def test_every_setting_changes_the_rates():
    dead = []
    for kind, name in [(k, n) for k, section in KINDS.items() for n in section.model_fields if n != "kind"]:
        usual = {"floor_fraction": 0.05} if kind == "plateau" else {}
        change = TOGETHER.get(name) or {name: OTHERS[name]}
        made = [multipliers(_schedule(kind, **settings), 40, SEEN) for settings in (usual, usual | change)]
        dead += [(kind, name)] if made[0] == made[1] else []
    assert dead == []


def test_kinds_give_different_rates():
    made = {kind: tuple(_multipliers(40, kind)) for kind in KINDS if kind != "plateau"}
    assert len(set(made.values())) == len(made)
    assert tuple(multipliers(_schedule("plateau"), 40, SEEN)) not in made.values()


def test_schedules_are_those_a_recipe_knows():
    for kind, section in KINDS.items():
        lasting = {"schedule.kind": kind, "evaluate.every_updates": 10}
        assert type(Recipe().with_(lasting).schedule) is section


def test_every_schedule_setting_may_differ_between_lanes():
    for section in KINDS.values():
        for name, field in section.model_fields.items():
            assert name == "kind" or field.json_schema_extra["per_lane"], (section, name)


def _plateau(**settings: Any) -> AnySchedule:
    usual = {"factor": 0.5, "patience_evaluations": 2, "floor_fraction": 0.2, "warmup_updates": 2}
    return _schedule("plateau", **usual, **settings)


def test_a_plateau_by_hand():
    # The best is 3.0; two evaluations without better cut, after the second and the fourth; the floor ends it.
    losses = [4.0, 3.0, 3.1, 3.0, 3.5, 3.2, 2.9, 2.9, 2.9, 2.9, 2.9]
    seen = [(10 * (i + 1), loss) for i, loss in enumerate(losses)]
    assert rate_cuts(_plateau(), seen) == [
        RateCut(update=40, multiplier=0.5),
        RateCut(update=60, multiplier=0.25),
        RateCut(update=90, multiplier=0.2),
    ]
    made = multipliers(_plateau(), 120, seen)
    assert made == [0.5] + [1.0] * 39 + [0.5] * 20 + [0.25] * 30 + [0.2] * 30


def test_a_small_improvement_counts_only_above_the_least():
    seen = [(10, 3.0), (20, 2.95), (30, 2.89), (40, 2.85)]
    assert rate_cuts(_plateau(), seen) == []
    assert [cut.update for cut in rate_cuts(_plateau(min_improvement_nats=0.1), seen)] == []
    assert [cut.update for cut in rate_cuts(_plateau(min_improvement_nats=0.2), seen)] == [30]


def test_a_plateau_s_past_is_not_rewritten_by_what_it_sees_later():
    losses = [3.0, 3.1, 3.2, 3.3, 3.4, 3.5]
    seen = [(5 * (i + 1), loss) for i, loss in enumerate(losses)]
    whole = multipliers(_plateau(), 40, seen)
    for num_seen, (update, _) in enumerate(seen):
        assert multipliers(_plateau(), 40, seen[:num_seen])[:update] == whole[:update]


def test_a_cut_in_warmup_scales_what_is_left_of_it():
    seen = [(1, 3.0), (2, 3.0)]
    made = multipliers(_schedule("plateau", patience_evaluations=1, warmup_updates=4), 6, seen)
    assert made == [0.25, 0.5, 0.375, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"warmup_updates": 200}, '"schedule.warmup_updates": 200; the schedule has 200 updates'),
        ({"warmup_updates": 60, "horizon_updates": 50}, '"schedule.warmup_updates": 60; the schedule has 50 updates'),
        ({"warmup_fraction": 0.1, "warmup_updates": 3}, '"schedule.warmup_updates": given beside'),
        ({"warmup_from_fraction": 0.0}, '"schedule.warmup_from_fraction": 0; the first update would change nothing'),
        ({"first_update_zero": True}, '"schedule.first_update_zero": True; the first update'),
        ({"first_update_zero": True, "warmup_from_fraction": 0.0, "warmup_updates": 1}, '"schedule.first_update_zero"'),
        ({"first_update_zero": True, "warmup_from_fraction": 0.0, "warmup_shape": "exponential"}, '"schedule.warmup_shape"'),
        ({"kind": "cosine-restarts", "num_cycles": 190}, '"schedule.num_cycles": 190; only 180 updates'),
        ({"kind": "step", "num_drops": 190}, '"schedule.num_drops": 190; only 180 updates'),
        ({"kind": "step", "floor_fraction": 0.0}, '"schedule.floor_fraction": 0.0; input should be greater than 0'),
        ({"kind": "plateau", "patience_evaluations": 3}, '"schedule.patience_evaluations": 3; of the 3 evaluations'),
        ({"kind": "constant", "floor_fraction": 0.1}, "\"schedule.floor_fraction\": given beside kind = 'constant'; that kind has no floor_fraction"),
        (
            {"kind": "warmup-stable-decay", "warmup_updates": 100, "decay_fraction": 0.6},
            '"schedule.decay_fraction": 0.6; after warmup_updates = 100 there are only 100 updates of 200',
        ),
    ],
)  # fmt: skip
def test_a_schedule_that_could_not_show_is_refused(changes, said):
    with pytest.raises(RecipeError) as error:
        Recipe().with_({f"schedule.{name}": value for name, value in changes.items()}, place="r")
    assert str(error.value).startswith(f"r {said}")


def test_warmup_in_updates_and_as_a_fraction_replace_each_other():
    recipe = Recipe().with_({"schedule.warmup_updates": 7})
    assert (recipe.schedule.warmup_updates, recipe.schedule.warmup_fraction) == (7, None)
    assert Recipe.parse({"schedule": {"warmup_updates": 7}}).schedule == recipe.schedule
    back = recipe.with_({"schedule.warmup_fraction": 0.2})
    assert (back.schedule.warmup_updates, back.schedule.warmup_fraction) == (None, 0.2)


def test_planned_rates_are_the_peak_s_multiples():
    recipe = Recipe().with_({"schedule.kind": "linear", "train.updates": 3, "schedule.floor_fraction": 0.5})
    assert recipe.planned_rates() == pytest.approx([0.06, 0.045, 0.03])
    recipe = recipe.with_({"optimizer.rates.matrices": 2.0})
    assert recipe.planned_rates() == pytest.approx([0.12, 0.09, 0.06])


def test_a_sketch_is_the_whole_schedule_or_has_its_first_highest_and_last_update():
    for kind in ("cosine", "linear", "plateau", "constant"):
        schedule = Recipe().with_({"schedule.kind": kind, "train.updates": 10**7}).schedule
        assert sketch(schedule, 500) == multipliers(schedule, 500)
        seen = sketch(schedule, 10**7)
        assert len(seen) < 21_000
        assert (seen[0], seen[-1]) == tuple(multiplier(schedule, update, 10**7) for update in (0, 10**7 - 1))
        assert max(seen) == 1.0


def test_what_one_run_does_to_its_rates_no_other_run_sees() -> None:
    """Runs of one schedule share what was worked out for it."""
    first = _multipliers(40, "linear")
    first[0] = 9.0
    assert _multipliers(40, "linear")[0] == multiplier(_schedule("linear"), 0, 40)
    assert multipliers(_plateau(), 120, SEEN)[-1] < multipliers(_plateau(), 120)[-1] == 1.0
