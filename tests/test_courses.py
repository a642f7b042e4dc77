import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blueberry.recipe import Recipe, common_updates, course, state_name, trunk_key, update_of

KINDS = ("constant", "linear", "cosine", "warmup-stable-decay", "inverse-square-root", "plateau")
STABLE = Recipe().with_({"schedule.kind": "warmup-stable-decay", "schedule.warmup_updates": 10})


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    kind = draw(st.sampled_from(KINDS))
    return Recipe().with_(
        {
            "schedule.kind": kind,
            "schedule.warmup_updates": draw(st.sampled_from([0, 2, 5])),
            "train.updates": draw(st.integers(30, 60)),
            "evaluate.every_updates": 4,
            **({"schedule.patience_evaluations": draw(st.integers(1, 3))} if kind == "plateau" else {}),
        }
    )


@settings(max_examples=60, deadline=None)
@given(recipes(), recipes())
def test_runs_agree_exactly_as_long_as_their_planned_rates_do(a, b):
    common = common_updates(course(a), course(b))
    pairs = list(zip(a.planned_rates(), b.planned_rates(), strict=False))
    assert all(x == y for x, y in pairs[:common])
    assert common == common_updates(course(b), course(a)) < min(a.num_updates, b.num_updates)
    adapts = "plateau" in (a.schedule.kind, b.schedule.kind)
    assert adapts or common == len(pairs) - 1 or pairs[common][0] != pairs[common][1]
    for update in {1, common, common + 1}:
        same = state_name("t", 0, course(a), update) == state_name("t", 0, course(b), update)
        assert same == (course(a)[: 8 * update] == course(b)[: 8 * update])


def test_a_horizon_study_shares_up_to_the_decay():
    lengths = {n: STABLE.with_({"train.updates": n}) for n in (100, 200, 400, 800)}
    shared = [common_updates(course(lengths[800]), course(lengths[n])) for n in (100, 200, 400)]
    assert shared == [80, 160, 320]


def test_a_warmup_that_grows_with_the_horizon_leaves_nothing_to_share():
    longer = Recipe().with_({"train.updates": 400, "schedule.kind": "warmup-stable-decay"})
    assert common_updates(course(longer), course(longer.with_({"train.updates": 200}))) == 0


@pytest.mark.parametrize(("patience", "common"), [(1, 8), (2, 12)])
def test_a_plateau_agrees_with_another_rule_until_it_may_cut(patience, common):
    every = {"evaluate.every_updates": 4, "train.updates": 40, "schedule.warmup_updates": 2}
    constant = Recipe().with_({**every, "schedule.kind": "constant"})
    plateau = Recipe().with_({**every, "schedule.kind": "plateau", "schedule.patience_evaluations": patience})
    stricter = plateau.with_({"schedule.factor": 0.1})
    assert common_updates(course(plateau), course(constant)) == common
    assert common_updates(course(plateau), course(stricter)) == common
    assert common_updates(course(plateau), course(plateau.with_({"train.updates": 30}))) == 29


@pytest.mark.parametrize(
    "other",
    [
        {"optimizer.adamw.weight_decay": 0.2},
        {"model.dropout": 0.2},
        {"evaluate.every_updates": 7},
        {"evaluate.tokens": 999},
        {"train.batch_sequences": 8},
        {"train.micro_batch_sequences": 4},
        {"train.clip_norm": 0.5},
        {"model.width": 128},
    ],
)
def test_only_schedule_length_and_seed_stay_out_of_the_trunk(other):
    whole = trunk_key(STABLE, "text")
    assert trunk_key(STABLE.with_({"train.updates": 50, "schedule.kind": "constant", "seed": 4}), "text") == whole
    assert trunk_key(STABLE.with_({"train.tokens": STABLE.update_tokens * 50}), "text") == whole
    assert trunk_key(STABLE.with_(other), "text") != whole
    assert trunk_key(STABLE, "another text") != whole


def test_a_states_name_says_its_update():
    assert update_of(state_name("t", 0, course(STABLE), 120)) == 120
    assert state_name("t", 0, course(STABLE), 120) != state_name("t", 1, course(STABLE), 120)
    assert update_of("something else") is None
