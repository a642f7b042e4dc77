"""What an arm's learning curves show: findings with their evidence, over its seeds. Rules: docs/curves.md."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any, Literal

from blueberry.curves import effective_experts, has_collapsed
from blueberry.judge import words
from blueberry.judge.judgement import CurveFinding, Pattern
from blueberry.records import Evaluation, RunResult
from blueberry.stats.curves import divergence_onset, fall, loss_spikes, lost_ground, norm_spikes, rise
from blueberry.stats.differences import mean_interval

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
