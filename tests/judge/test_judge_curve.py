"""Rules for curves: what is planted is found, where it was planted, and clean curves give nothing."""

import numpy as np
import pytest

from blueberry.curves import SPIKE_WINDOW_UPDATES, is_spike, level
from blueberry.judge.curves import (
    divergence_onset,
    fall,
    loss_spikes,
    lost_ground,
    norm_spikes,
    rise,
)

SD = 0.1
"""Of one update's loss, as a nano run's."""


def clean(num_updates: int, seed: int, shape: str = "power") -> np.ndarray:
    u = np.arange(num_updates)
    smooth = {
        "power": 3.5 + 2.7 * (1 + u / 20) ** -0.7,
        "slow": 6.2 - 0.9 * u / num_updates,
        "flat": 3.5 + 2.7 * np.exp(-u / 5),
    }[shape]
    return smooth + SD * np.random.default_rng(seed).standard_normal(num_updates)


@pytest.mark.parametrize("shape", ["power", "slow", "flat"])
def test_clean_curves_give_nothing(shape: str) -> None:
    found = [
        bool(loss_spikes(clean(200, s, shape))) + (lost_ground(clean(200, s, shape)) is not None) for s in range(100)
    ]
    assert sum(found) <= 1
    norms = [np.exp(0.25 * np.random.default_rng(s).standard_normal(300)) for s in range(100)]
    assert sum(bool(norm_spikes(norm)) for norm in norms) <= 1


def test_how_far_a_curve_had_come() -> None:
    loss = np.full(400, 2.0)
    loss[:3], loss[3:100], loss[100:200] = 6.0, 4.0, 2.8
    loss[100 - 10 : 100 + 10], loss[200 - 10 : 200 + 10] = 3.0, 2.4
    found = fall(loss)
    assert found is not None
    assert (found.at_quarter, found.at_half) == pytest.approx((0.75, 0.9))
    assert fall(loss[:19]) is None
    assert fall([*loss[:30], None, *loss[31:]]) is None, "a run that is not complete has no pattern"
    noise = 5 + SD * np.random.default_rng(0).standard_normal(200)
    assert fall(noise) is None, "nothing fell"


def test_noise_does_not_move_the_fractions_much() -> None:
    exact = fall(3.5 + 2.7 * (1 + np.arange(400) / 20) ** -0.7)
    assert exact is not None
    seen = [found.at_half for s in range(50) if (found := fall(clean(400, s))) is not None]
    assert len(seen) == 50
    assert np.mean(seen) == pytest.approx(exact.at_half, abs=0.01)
    assert np.std(seen) < 0.03


def test_a_planted_spike_is_found_where_it_is_with_its_height_and_recovery() -> None:
    found = []
    for seed in range(40):
        loss = clean(400, seed)
        loss[200:205] += 2.0
        (spike,) = loss_spikes(loss)
        assert spike.update == 201
        assert spike.recovery_updates in (5, 6)
        found.append(spike.height)
    assert np.mean(found) == pytest.approx(2.1, abs=0.1)
    loss = clean(400, 0)
    loss[380:] += 2.0
    (spike,) = loss_spikes(loss)
    assert (spike.update, spike.recovery_updates) == (381, None)


def test_a_spike_of_the_gradient_is_a_factor() -> None:
    norm = np.exp(0.1 * np.random.default_rng(0).standard_normal(200))
    norm[100] *= 12
    (spike,) = norm_spikes(norm)
    assert spike.update == 101
    assert spike.height == pytest.approx(12, rel=0.4)
    norm[100] /= 3
    assert norm_spikes(norm) == (), "four times is not enough, however calm the rest"
    assert norm_spikes([1.0] * 50 + [0.0] + [1.0] * 50) == ()
    assert loss_spikes([3.0] * 50 + [None]) == ()


def test_after_the_run_is_what_was_warned_of_during_it() -> None:
    loss = clean(300, 3)
    loss[150] += 1.5
    live = [
        update
        for update in range(SPIKE_WINDOW_UPDATES + 1, 301)
        if is_spike(loss[update - 1], level(loss[update - 1 - SPIKE_WINDOW_UPDATES : update - 1].tolist()), 0.1)
    ]
    assert live == [spike.update for spike in loss_spikes(loss)] == [151]


def test_lost_ground_is_a_lasting_rise() -> None:
    loss = clean(400, 1)
    assert lost_ground(loss) is None
    loss[250:] += 1.0
    found = lost_ground(loss)
    assert found is not None
    assert found.low_update < 251 <= found.update
    assert found.rise == pytest.approx(1.0, abs=0.15)
    short = clean(400, 1)
    short[250:255] += 1.0
    assert lost_ground(short) is None, "a spike that recovers is none"


def test_where_a_divergence_began() -> None:
    onsets = []
    for seed in range(30):
        loss = clean(300, seed)
        loss[180:] += 0.05 * np.arange(120) ** 1.3
        onsets.append(divergence_onset([*loss, None]))
    assert None not in onsets
    assert np.median(onsets) == pytest.approx(181, abs=6)  # type: ignore[arg-type]
    assert divergence_onset([6.0, 7.0, None]) is None


def test_rise_is_the_line_not_the_ends() -> None:
    assert rise([0, 10, 20, 30], [1.0, 2.0, 3.0, 4.0]) == pytest.approx(3)
    assert rise([0, 1, 2, 3], [0.0, 5.0, -5.0, 0.0]) == pytest.approx(-3.0)
