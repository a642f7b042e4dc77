"""What was set is the same in all runs of an arm; what differs between an arm's seeds was measured, whatever its name."""

import random

import pytest

import blueberry
from blueberry.tables.reading import table_of
from blueberry.tables.roles import differing_settings, kinds, measured
from blueberry.tables.rows import value_of

ARMS = ("base", "new")


def runs(seeds=4, **more):
    """Two arms on shared seeds. `more`: column -> function of arm, seed and a generator."""
    draw = random.Random(3)
    return [
        {"optimizer": arm, "seed": seed, "val_loss": 3.3 - 0.05 * (arm == "new") + round(draw.gauss(0, 0.002), 5)}
        | {name: value(arm, seed, draw) for name, value in more.items()}
        for arm in ARMS
        for seed in range(seeds)
    ]


def blocks(rows, vary="optimizer"):
    return [one.message for one in blueberry.analyse(rows, vary=vary, min_effect=0.001).blocks]


MEASURED = {
    "independence": lambda arm, seed, draw: round(draw.uniform(0.8, 0.9), 3),
    "zeros": lambda arm, seed, draw: [3, 1, 4, 0, 2, 5, 1, 6][seed + 4 * (arm == "new")],
    "routing collapse factor": lambda arm, seed, draw: round(draw.uniform(1, 2), 3),
    "completion_rate": lambda arm, seed, draw: round(draw.uniform(0, 1), 2),
    "dead_experts": lambda arm, seed, draw: [1, 0, 2, 2, 3, 0, 0, 2][seed + 4 * (arm == "new")],
}


@pytest.mark.parametrize("name", MEASURED)
def test_a_number_that_differs_between_seeds_is_no_setting(name) -> None:
    rows = runs(**{name: MEASURED[name]})
    assert not blocks(rows)
    assert differing_settings(table_of(rows)) == ("optimizer",)


def test_repeats_without_seeds_too() -> None:
    rows = runs(independence=MEASURED["independence"])
    assert not blocks([{name: value for name, value in row.items() if name != "seed"} for row in rows])


@pytest.mark.parametrize(
    "value",
    [
        lambda arm, seed, draw: 0.1 if arm == "new" else 0.2,
        lambda arm, seed, draw: 0.3 if (arm, seed) == ("new", 2) else 0.2,
    ],
    ids=["one value an arm", "another in one run of one arm"],
)
@pytest.mark.parametrize("name", ["jitter", "weight_decay"])
def test_what_is_constant_in_most_arms_was_set(value, name) -> None:
    assert any(name in message for message in blocks(runs(**{name: value})))


def test_rates_that_differ_between_runs_were_set() -> None:
    assert any("lr" in message for message in blocks(runs(lr=lambda arm, seed, draw: round(draw.uniform(0, 1), 4))))


def kinds_of(rows, told):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return measured(columns, kinds(columns), told)


def test_designs_and_searches_stay() -> None:
    draw = random.Random(5)
    crossed = [row | {"jitter": jitter} for row in runs() for jitter in (0.1, 0.2, 0.3)]
    of_seeds = runs(jitter=lambda arm, seed, draw: 0.1 * seed)
    drawn = [row | {"lr": draw.uniform(0, 1), "jitter": draw.uniform(0, 1)} for row in runs()]
    grid = [{"optimizer": arm, "jitter": jitter, "val_loss": 3.0} for arm in ARMS for jitter in (0.1, 0.2, 0.3)]
    for rows in (crossed, of_seeds, drawn, grid):
        assert not kinds_of(rows, ["optimizer"])
        assert not kinds_of(rows, [])


def test_a_share_is_as_it_was_written() -> None:
    assert [value_of(f"{cell}%") for cell in ("84.2", "68.038", "12 ")] == [0.842, 0.68038, 0.12]
