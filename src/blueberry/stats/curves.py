"""What a finished curve shows: how it fell, where it spiked, whether it lost ground, when it began to diverge.

A curve holds one value an update, the first update first. Rules and thresholds are in docs/curves.md, with how
often they err.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from blueberry.curves import LEAST_LOSS_SPIKE_NATS, LEAST_NORM_SPIKE_FACTOR, MAD_TO_SD, SPIKE_SD, SPIKE_WINDOW_UPDATES

Values = Sequence[float | None] | Sequence[float] | NDArray[np.float64]
"""None or NaN: not finite, or not measured."""

LEAST_UPDATES = 20
"""Below which a curve has no shape."""
BLOCK_FRACTION = 0.05
"""Of the updates; a block's median stands for the curve around it."""
LEAST_BLOCK_UPDATES = 8
BACK_SD = 3.0
"""A spike is over when the curve is within this many robust sd of where it was."""
SURE_SD = 6.0
"""Standard errors that a fall or a lasting rise must exceed."""
LOST_FRACTION = 0.1
"""Fraction of what the curve had fallen that a lasting rise must exceed."""


@dataclass(frozen=True)
class Fall:
    """A curve's way from its start to its end."""

    start: float
    end: float
    at_quarter: float
    """Fraction of the way behind it after a quarter of the updates."""
    at_half: float


@dataclass(frozen=True)
class Spike:
    update: int
    """Counted from 1."""
    height: float
    """Above the median of the updates before it: nats, or for a gradient's norm how many times that."""
    sd: float
    """The same in robust standard deviations; infinite where the curve was flat."""
    recovery_updates: int | None
    """Until the curve was back; None: not before the end."""


@dataclass(frozen=True)
class LostGround:
    """A lasting rise."""

    low_update: int
    """Where the curve was lowest before the rise, the middle of a block."""
    update: int
    """Where it was highest after that."""
    rise: float


def fall(losses: Values) -> Fall | None:
    """How far a complete run's loss had come at fixed fractions of its updates.

    Start: median of the first three updates; elsewhere medians of blocks of 5% of the run (8 updates at least).
    None below 20 updates, with a missing value, or where the end is not below the start by six standard errors.
    """
    loss_U = np.asarray(losses, dtype=float)
    if len(loss_U) < LEAST_UPDATES or not np.isfinite(loss_U).all():
        return None
    block = _block_updates(loss_U)
    start, end = float(np.median(loss_U[:3])), float(np.median(loss_U[-block:]))
    if start - end <= SURE_SD * _noise_sd(loss_U) / math.sqrt(3):
        return None

    def behind(fraction: float) -> float:
        middle = round(fraction * len(loss_U))
        first = max(0, middle - block // 2)
        return (start - float(np.median(loss_U[first : first + block]))) / (start - end)

    return Fall(start, end, behind(0.25), behind(0.5))


def loss_spikes(losses: Values) -> tuple[Spike, ...]:
    """Updates whose loss jumps above the 32 before: by 8 robust sd and 0.1 nats. Ends at the first missing value."""
    return _spikes(_until_missing(losses), LEAST_LOSS_SPIKE_NATS)


def norm_spikes(norms: Values) -> tuple[Spike, ...]:
    """Updates whose gradient norm jumps above the 32 before: by 8 robust sd of its logarithm, and 5 times."""
    norm_U = _until_missing(norms)
    norm_U = norm_U[: int(np.argmax(norm_U <= 0))] if (norm_U <= 0).any() else norm_U
    found = _spikes(np.log(norm_U), math.log(LEAST_NORM_SPIKE_FACTOR))
    return tuple(replace(one, height=math.exp(min(one.height, 700.0))) for one in found)


def lost_ground(losses: Values) -> LostGround | None:
    """The largest lasting rise of a loss: of a block's median over the lowest before it.

    None where it is below six standard errors, or a tenth of what had been gained.
    """
    loss_U = _until_missing(losses)
    if len(loss_U) < LEAST_UPDATES:
        return None
    block = _block_updates(loss_U)
    num_blocks = len(loss_U) // block
    median_B = np.median(loss_U[: num_blocks * block].reshape(num_blocks, block), axis=1)
    lowest_B = np.minimum.accumulate(median_B)
    high = int(np.argmax(median_B - lowest_B))
    rise = float(median_B[high] - lowest_B[high])
    low = int(np.argmin(median_B[: high + 1]))
    start = float(np.median(loss_U[:3]))
    standard_error = _noise_sd(loss_U) * math.sqrt(math.pi / 2 * 2 / block)
    if rise <= SURE_SD * standard_error or rise <= LOST_FRACTION * max(start - float(lowest_B[high]), 0.0):
        return None
    return LostGround(low * block + block // 2 + 1, high * block + block // 2 + 1, rise)


def divergence_onset(losses: Values) -> int | None:
    """The update from which on a diverging loss stayed above where it had been: three robust sd over its lowest level.

    None where the curve is too short for that, or never left that level.
    """
    loss_U = _until_missing(losses)
    if len(loss_U) < 2 * LEAST_BLOCK_UPDATES:
        return None
    block = LEAST_BLOCK_UPDATES
    window_UW = np.lib.stride_tricks.sliding_window_view(loss_U, block)
    lowest = int(np.argmin(np.median(window_UW, axis=1)))
    own = window_UW[lowest]
    limit = float(np.median(own)) + BACK_SD * max(MAD_TO_SD * float(np.median(np.abs(own - np.median(own)))), 1e-12)
    within = np.flatnonzero(loss_U <= limit)
    last = int(within[-1])
    return last + 2 if last + 1 < len(loss_U) else None


def rise(x: Values, y: Values) -> float:
    """By how much the least-squares line through y rises from the first x to the last."""
    x_N, y_N = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    centred = x_N - x_N.mean()
    return float(centred @ y_N / (centred @ centred) * (x_N[-1] - x_N[0]))


def _spikes(value_U: NDArray[np.float64], least: float) -> tuple[Spike, ...]:
    if len(value_U) <= SPIKE_WINDOW_UPDATES:
        return ()
    window_UW = np.lib.stride_tricks.sliding_window_view(value_U[:-1], SPIKE_WINDOW_UPDATES)
    median_U = np.median(window_UW, axis=1)
    sd_U = MAD_TO_SD * np.median(np.abs(window_UW - median_U[:, None]), axis=1)
    height_U = value_U[SPIKE_WINDOW_UPDATES:] - median_U
    found: list[Spike] = []
    over = 0
    for at in np.flatnonzero((height_U >= least) & (height_U >= SPIKE_SD * sd_U)).tolist():
        if at < over:  # the one before is not over yet
            continue
        later = value_U[SPIKE_WINDOW_UPDATES + at :]
        back = np.flatnonzero(later <= median_U[at] + max(BACK_SD * sd_U[at], least / 2))
        recovery = int(back[0]) if len(back) else None
        over = at + recovery if recovery is not None else len(height_U)
        sd = float(height_U[at] / sd_U[at]) if sd_U[at] > 0 else math.inf
        peak = float(later[: recovery or None].max() - median_U[at])
        found.append(Spike(SPIKE_WINDOW_UPDATES + at + 1, peak, sd, recovery))
    return tuple(found)


def _until_missing(values: Values) -> NDArray[np.float64]:
    value_U = np.asarray(values, dtype=float)
    missing = np.flatnonzero(~np.isfinite(value_U))
    return value_U[: missing[0]] if len(missing) else value_U


def _block_updates(loss_U: NDArray[np.float64]) -> int:
    return max(LEAST_BLOCK_UPDATES, round(BLOCK_FRACTION * len(loss_U)))


def _noise_sd(loss_U: NDArray[np.float64]) -> float:
    """Of one update around the curve: robust, from second differences, to which a smooth curve adds next to nothing."""
    second = np.abs(np.diff(loss_U, 2))
    return MAD_TO_SD * float(np.median(second)) / math.sqrt(6)
