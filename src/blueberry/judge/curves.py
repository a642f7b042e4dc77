"""What learning curves show: how one fell, where it spiked, whether it lost ground, when it began to diverge; and an
arm's, over its seeds, as findings with their evidence.

A curve holds one value an update, the first update first. Rules, thresholds and how often they err: docs/curves.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blueberry.curves import (
    LEAST_LOSS_SPIKE_NATS,
    LEAST_NORM_SPIKE_FACTOR,
    MAD_TO_SD,
    SPIKE_SD,
    SPIKE_WINDOW_UPDATES,
    effective_experts,
    has_collapsed,
)
from blueberry.judge import words
from blueberry.judge.judgement import CurveFinding, Pattern
from blueberry.records import Evaluation, RunResult
from blueberry.stats.differences import mean_interval

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
FAR_BEHIND = 0.8
"""Of the way to the final loss: reached after a quarter of the run is fast, after half of it moderate."""
WINDOWS = (0.5, 0.25)
"""Last parts of a run in which overfitting is looked for."""
LEAST_EVALUATIONS = 3
"""In such a part."""
LEAST_RISE_NATS = 0.01
"""Of the validation loss over such a part; less is not worth saying."""


def read_curves(arm: str, runs: Mapping[int, RunResult], *, alpha: float) -> tuple[CurveFinding, ...]:
    """Every finding on an arm, its runs by seed, crashed ones left out. Nothing for runs without curves."""
    runs = {seed: run for seed, run in runs.items() if run.status != "failed" and (run.curve.train_loss or run.failure)}
    if not runs:
        return ()
    looks = (_pattern, _spikes, _overfitting, _collapse, _divergence)
    return tuple(found for look in looks if (found := look(arm, runs, alpha)) is not None)


def _pattern(arm: str, runs: Mapping[int, RunResult], alpha: float) -> CurveFinding | None:
    """Fast, moderate or slow by the mean fraction of the way; unstable where a run diverged or lost ground."""
    lost = {seed: lost_ground(run.curve.train_loss) for seed, run in runs.items() if run.status == "completed"}
    diverged = tuple(seed for seed, run in runs.items() if run.status == "diverged")
    rises = {seed: one for seed, one in lost.items() if one is not None}
    if diverged or rises:
        said = [f"{words.count(len(diverged), 'run')} diverged"] if diverged else []
        if rises:
            worst = max(rises.values(), key=lambda one: one.rise)
            said.append(
                f"the training loss of {words.count(len(rises), 'run')} rose again, by up to {worst.rise:.2f} nats "
                f"between updates {worst.low_update} and {worst.update}"
            )
        message = f"unstable: {' and '.join(said)}; {words.count(len(runs), 'run')} in all"
        highest = max((one.rise for one in rises.values()), default=None)
        seen = (*diverged, *rises)
        return _finding(arm, "pattern", message, runs, seen=seen, pattern="unstable", value=highest, unit="nats")
    falls = {seed: found for seed, run in runs.items() if (found := fall(run.curve.train_loss)) is not None}
    if not falls:
        return None
    fractions, when = [one.at_quarter for one in falls.values()], "a quarter"
    pattern: Pattern = "fast"
    if fmean(fractions) < FAR_BEHIND:
        fractions, when = [one.at_half for one in falls.values()], "half"
        pattern = "moderate" if fmean(fractions) >= FAR_BEHIND else "slow"
    interval = mean_interval(fractions, 1 - alpha)
    ends = "" if interval is None else f" [{interval[0]:.0%}, {interval[1]:.0%}]"
    said = f"{fmean(fractions):.0%}{ends} of the way to the final training loss after {when} of the run"
    message = f"{pattern}: {said}, {words.count(len(falls), 'run')}"
    shown: dict[str, Any] = {"value": fmean(fractions), "interval": interval, "unit": "fraction"}
    return _finding(arm, "pattern", message, falls, severity="note", pattern=pattern, **shown)


def _spikes(arm: str, runs: Mapping[int, RunResult], alpha: float) -> CurveFinding | None:
    """Jumps of the training loss or of the gradient's norm, over all runs."""
    losses = {seed: found for seed, run in runs.items() if (found := loss_spikes(run.curve.train_loss))}
    norms = {seed: found for seed, run in runs.items() if (found := norm_spikes(run.curve.gradient_norm))}
    if not losses and not norms:
        return None
    said = []
    if losses:
        every = [spike for found in losses.values() for spike in found]
        worst = max(every, key=lambda spike: spike.height)
        back = "never came back" if worst.recovery_updates is None else f"back after {worst.recovery_updates} updates"
        said.append(
            f"{words.count(len(every), 'spike')} of the training loss, the highest at update {worst.update}: "
            f"+{worst.height:.2f} nats, {back}"
        )
    if norms:
        every_norm = [spike for found in norms.values() for spike in found]
        worst = max(every_norm, key=lambda spike: spike.height)
        said.append(
            f"{words.count(len(every_norm), 'spike')} of the gradient's norm, the highest at update {worst.update}: "
            f"{worst.height:.3g} times what it was"
        )
    seen = tuple(seed for seed in runs if seed in losses or seed in norms)
    first = min(spike.update for found in (*losses.values(), *norms.values()) for spike in found)
    heights = [spike.height for found in losses.values() for spike in found]
    message = f"{'; '.join(said)}; {_of(seen, runs)}"
    highest = max(heights, default=None)
    return _finding(arm, "spikes", message, runs, seen=seen, update=first, value=highest, unit="nats")


def _overfitting(arm: str, runs: Mapping[int, RunResult], alpha: float) -> CurveFinding | None:
    """Validation rises in the last part of complete runs while training falls, both beyond chance over the seeds.

    Two parts of the run are looked at, each with half of alpha.
    """
    ended = {seed: run for seed, run in runs.items() if run.status == "completed"}
    for window in WINDOWS:
        pairs = [pair for run in ended.values() if (pair := _rises(run, window)) is not None]
        if len(pairs) < 2 or len(pairs) < len(ended):
            continue
        level = 1 - 2 * alpha / len(WINDOWS)  # one-sided, twice
        validation, training = (mean_interval(one, level) for one in zip(*pairs, strict=True))
        mean = fmean(pair[0] for pair in pairs)
        if validation is None or training is None or mean < LEAST_RISE_NATS:
            continue
        if validation[0] > 0 and training[1] < 0:
            lowest = [min(run.evaluations, key=lambda one: one.validation.loss).update for run in ended.values()]
            fell = fmean(pair[1] for pair in pairs)
            message = (
                f"over the last {'half' if window == 0.5 else 'quarter'} of the run the validation loss rose: "
                f"{words.difference(mean, validation, 'val_loss')}, while the training loss fell: "
                f"{words.difference(fell, training, 'val_loss')}; lowest at update {median(lowest):.0f}, "
                f"{words.count(len(pairs), 'run')}"
            )
            shown: dict[str, Any] = {"value": mean, "interval": validation, "unit": "nats"}
            return _finding(arm, "overfitting", message, ended, update=int(median(lowest)), **shown)
    return None


def _rises(run: RunResult, window: float) -> tuple[float, float] | None:
    """Nats by which validation and training loss rise over the last part of a run; None where too little is known."""
    first = (run.num_updates or 0) * (1 - window)
    looks = [one for one in run.evaluations if one.update >= first]
    losses = run.curve.train_loss
    start = int(first)
    late = losses[start:]
    if len(looks) < LEAST_EVALUATIONS or len(late) < LEAST_EVALUATIONS or None in late:
        return None
    validation = rise([one.update for one in looks], [one.validation.loss for one in looks])
    return validation, rise(range(len(late)), late)


def _collapse(arm: str, runs: Mapping[int, RunResult], alpha: float) -> CurveFinding | None:
    """Layers that leave most of their experts unused at the end of a complete run."""
    seen: dict[int, tuple[int, int, float]] = {}
    worst: tuple[float, int, int, int] | None = None
    for seed, run in runs.items():
        num_experts = run.recipe.get("model.feed_forward.num_experts")
        if run.status != "completed" or not run.evaluations or not isinstance(num_experts, int):
            continue
        layers = _collapsed_layers(run.evaluations[-1], num_experts)
        if not layers:
            continue
        used, layer, dead = min(layers)
        seen[seed] = (_since(run.evaluations, num_experts), layer, used)
        worst = min(worst, (used, layer, dead, num_experts)) if worst else (used, layer, dead, num_experts)
    if worst is None:
        return None
    used, layer, dead, num_experts = worst
    since = min(update for update, _, _ in seen.values())
    message = (
        f"at the end layer {layer} uses {used:.1f} of its {num_experts} experts ({dead} dead), "
        f"collapsed since update {since}; {_of(tuple(seen), runs)}"
    )
    shown: dict[str, Any] = {"value": used, "unit": "effective experts"}
    return _finding(arm, "collapse", message, runs, seen=tuple(seen), update=since, **shown)


def _collapsed_layers(look: Evaluation, num_experts: int) -> list[tuple[float, int, int]]:
    """Effective experts, layer counted from 1 and dead experts, of each collapsed layer."""
    if look.routing is None:
        return []
    entropies = look.routing.load_entropy_nats
    dead = look.routing.dead_experts or (0,) * len(entropies)
    return [
        (effective_experts(entropy), layer, num_dead)
        for layer, (entropy, num_dead) in enumerate(zip(entropies, dead, strict=True), 1)
        if has_collapsed(entropy, num_experts, num_dead)
    ]


def _since(looks: Sequence[Evaluation], num_experts: int) -> int:
    """The first evaluation from which on some layer was collapsed to the end."""
    since = looks[-1].update
    for look in reversed(looks):
        if not _collapsed_layers(look, num_experts):
            break
        since = look.update
    return since


def _divergence(arm: str, runs: Mapping[int, RunResult], alpha: float) -> CurveFinding | None:
    """Where diverged runs ended, and from where on they went there."""
    diverged = {seed: run for seed, run in runs.items() if run.status == "diverged"}
    if not diverged:
        return None
    ends = [run.num_updates for run in diverged.values() if run.num_updates is not None]
    onsets = {seed: at for seed, run in diverged.items() if (at := divergence_onset(run.curve.train_loss)) is not None}
    said = f"the loss stopped being finite{f' at update {_range(ends)}' if ends else ''}"
    if onsets:
        rates = [diverged[seed].curve.learning_rate for seed in onsets]
        at = [rate[onset - 1] for rate, onset in zip(rates, onsets.values(), strict=True) if len(rate) >= onset]
        rate = f", where the rate was {words.setting_value(median(at))}" if at else ""
        said += f"; it left its level for good at update {_range(list(onsets.values()))}{rate}"
    first = min(onsets.values()) if onsets else min(ends, default=None)
    message = f"{said}; {_of(tuple(diverged), runs)}"
    return _finding(arm, "divergence", message, runs, seen=tuple(diverged), update=first)


def _finding(
    arm: str,
    finding: Literal["pattern", "spikes", "overfitting", "collapse", "divergence"],
    message: str,
    runs: Mapping[int, object],
    *,
    severity: Literal["note", "warn"] = "warn",
    seen: Sequence[int] | None = None,
    **more: Any,
) -> CurveFinding:
    """Of all these runs, or of those that show it; a value that is not known has no unit."""
    seeds = tuple(runs if seen is None else seen)
    if more.get("value") is None:
        more.pop("unit", None)
    return CurveFinding(arm=arm, finding=finding, severity=severity, message=message, seeds=seeds, n=len(runs), **more)


def _of(seen: Sequence[int], runs: Mapping[int, object]) -> str:
    return f"{len(seen)} of {words.count(len(runs), 'run')}"


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


# --- One curve ---


@dataclass(frozen=True)
class Fall:
    """How far a curve was on its way from its start to its end."""

    at_quarter: float
    """Fraction of the way behind it after a quarter of the updates."""
    at_half: float


@dataclass(frozen=True)
class Spike:
    update: int
    """Counted from 1."""
    height: float
    """Above the median of the updates before it: nats, or for a gradient's norm how many times that."""
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

    return Fall(behind(0.25), behind(0.5))


def loss_spikes(losses: Values) -> tuple[Spike, ...]:
    """Updates whose loss jumps above the 32 before: by 8 robust sd and 0.1 nats. Ends at the first missing value."""
    return _jumps(_until_missing(losses), LEAST_LOSS_SPIKE_NATS)


def norm_spikes(norms: Values) -> tuple[Spike, ...]:
    """Updates whose gradient norm jumps above the 32 before: by 8 robust sd of its logarithm, and 5 times."""
    norm_U = _until_missing(norms)
    norm_U = norm_U[: int(np.argmax(norm_U <= 0))] if (norm_U <= 0).any() else norm_U
    found = _jumps(np.log(norm_U), math.log(LEAST_NORM_SPIKE_FACTOR))
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


def _jumps(value_U: NDArray[np.float64], least: float) -> tuple[Spike, ...]:
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
        peak = float(later[: recovery or None].max() - median_U[at])
        found.append(Spike(SPIKE_WINDOW_UPDATES + at + 1, peak, recovery))
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
