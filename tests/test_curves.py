"""Warnings during a run: each kind once, at the update where it shows, and none of a clean run."""

import math

import numpy as np
import pytest

from blueberry.curves import Watch, effective_experts, has_collapsed


def losses(num_updates: int, seed: int = 0) -> list[float | None]:
    u = np.arange(num_updates)
    made = 3.5 + 2.7 * (1 + u / 20) ** -0.7 + 0.1 * np.random.default_rng(seed).standard_normal(num_updates)
    return [float(loss) for loss in made]


def look(update: int, loss: float, entropy: float | None = None, dead: int = 0) -> dict:
    routing = None if entropy is None else {"load_entropy_nats": [math.log(8), entropy], "dead_experts": [0, dead]}
    return {"update": update, "validation": {"loss": loss}, "routing": routing}


def follow(loss, norm=None, evaluations=(), num_experts=None) -> list[str]:
    """Every line, looking after each update as the trainer does."""
    watch, lines = Watch(num_experts), []
    norm = norm or [1.0] * len(loss)
    for done in range(1, len(loss) + 1):
        lines += watch.look(loss[:done], norm[:done], [one for one in evaluations if one["update"] <= done])
    assert watch.look(loss, norm, list(evaluations)) == []
    return lines


def test_a_clean_run_is_quiet():
    falling = [look(update, 4 - update / 200, math.log(7)) for update in range(20, 201, 20)]
    norms = np.exp(0.25 * np.random.default_rng(5).standard_normal(200)).tolist()
    assert [follow(losses(200, seed), norms, falling, 8) for seed in range(10)] == [[]] * 10


def test_spikes_are_said_once():
    loss = losses(200)
    loss[99] += 2  # type: ignore[operator]
    loss[149] += 2  # type: ignore[operator]
    (line,) = follow(loss)
    assert line.startswith("update 100: the training loss jumped from about ")
    norm = [1.0 + 0.01 * (update % 7) for update in range(200)]
    norm[79] = 20.0
    (line,) = follow(losses(200), norm)
    assert line == "update 80: the gradient's norm jumped to 19.4 times what it was before"


def test_a_loss_above_its_start_is_said():
    rising = [5 + 0.02 * update for update in range(100)]
    (line,) = follow(rising)
    assert "is above where it began, 5.00; it may be diverging" in line


@pytest.mark.parametrize(
    ("validation", "train", "warns"),
    [
        ([4.0, 3.9, 3.92, 3.94, 3.97, 4.0], "falls", True),
        ([4.0, 3.9, 3.92, 3.91, 3.97, 4.0], "falls", False),
        ([4.0, 3.9, 3.901, 3.902, 3.903, 3.904], "falls", False),
        ([4.0, 3.9, 3.92, 3.94, 3.97, 4.0], "rises", False),
    ],
)
def test_overfitting_needs_rises_in_a_row_while_training_falls(validation, train, warns):
    looks = [look(20 * (number + 1), loss) for number, loss in enumerate(validation)]
    loss = losses(120) if train == "falls" else [4 + 0.001 * update for update in range(120)]
    lines = follow(loss, None, looks)
    assert [line.startswith("the validation loss has risen since update 40, by 0.100 nats") for line in lines] == (
        [True] if warns else []
    )


def test_collapse_is_few_experts_in_use_or_dead_ones():
    assert effective_experts(math.log(3)) == pytest.approx(3)
    assert [has_collapsed(math.log(used), 8) for used in (8, 4.01, 3.99, 2)] == [False, False, True, True]
    assert [has_collapsed(math.log(6), 8, dead) for dead in (1, 2)] == [False, True]
    assert not has_collapsed(math.log(2), 2)
    (line,) = follow(losses(60), None, [look(20, 4, math.log(7)), look(40, 4, math.log(3), 1), look(60, 4, 0.7)], 8)
    assert line == "update 40: layer 2 uses 3.0 of its 8 experts (1 dead); its routing is collapsing"


def test_numbers_that_are_missing_warn_of_nothing():
    assert follow([*losses(60), None, None], [*[1.0] * 60, None, None]) == []
