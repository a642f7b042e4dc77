"""What a study will cost and what it could detect, said before it runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from blueberry.cost import cost
from blueberry.judge.from_study import gather
from blueberry.judge.measured import measure, noise_of
from blueberry.records import RunResult
from blueberry.stats.power import smallest_difference
from blueberry.study.plan import Plan
from blueberry.study.spec import Study

RESULT_BYTES_PER_UPDATE = 70
"""Of a stored result, mostly its curve: three numbers an update as text."""


@dataclass(frozen=True)
class Forecast:
    """A design, before its runs."""

    study: str
    question: str
    arms: tuple[tuple[str, dict[str, Any]], ...]
    seeds_search: int
    seeds_confirm: int
    runs_done: int
    runs_todo: int
    """Confirming runs included, also while their arm is not known."""
    updates: int | None
    """Of one run of the longest arm; None where a command is not told it."""
    tokens: int | None
    """Of all runs still to do; None for a command, which counts its own."""
    flops: float | None
    workers: int
    lanes: int
    seconds: float | None
    """Of all runs still to do; None until runs of this machine show its speed."""
    disk_bytes: int | None
    """Results, final weights where they are kept, and the checkpoints of what runs at one time; None for a command."""
    noise_sd: float | None
    """Of a paired difference, in the metric; None until two arms share two seeds."""
    noise_n: int
    """Runs it was measured from."""
    detectable: float | None
    """Smallest difference of two arms that all search seeds would show with power .8, every comparison counted."""
    metric: str
    min_effect: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; an unknown number is null."""
        plain = asdict(self)
        plain["arms"] = [{"arm": name, "settings": settings} for name, settings in self.arms]
        return plain


def forecast(
    study: Study,
    planned: Plan,
    results: Mapping[str, RunResult],
    *,
    workers: int,
    lanes: int,
    flops_per_second: float | None,
) -> Forecast:
    """`flops_per_second` is one worker's, as earlier runs measured it while all workers were busy."""
    left, base = planned.left, cost(study.base)
    undecided = planned.num_undecided
    flops = left.num_flops + undecided * base.num_flops
    num_runs = len(planned.todo) + undecided
    noise = noise_of(measure(gather(study, results, planned)))
    num_others = len(study.arms) - 1
    detectable = None
    if noise.paired_sd is not None:
        detectable = smallest_difference(study.seeds.search, noise.paired_sd, alpha=study.alpha / num_others)
    at_once = min(workers * lanes, num_runs)
    own = study.trainer is None  # what a command does with its time and disk, only it knows
    ended = [result.train_seconds for result in results.values() if result.status != "failed"]
    return Forecast(
        study=study.name,
        question=study.question,
        arms=tuple((arm.name, arm.settings) for arm in study.arms),
        seeds_search=study.seeds.search,
        seeds_confirm=study.seeds.confirm,
        runs_done=len(planned.done),
        runs_todo=num_runs,
        updates=max(arm.recipe.num_updates for arm in study.arms)
        if study.trainer is None or study.trainer.is_told_its_length
        else None,
        tokens=left.num_tokens + undecided * base.num_tokens if own else None,
        flops=flops if own else None,
        workers=workers,
        lanes=lanes,
        seconds=_seconds(flops, num_runs, workers, flops_per_second)
        if own
        else _seconds_like(ended, num_runs, workers),
        disk_bytes=RESULT_BYTES_PER_UPDATE * (left.num_updates + undecided * base.num_updates)
        + 4 * base.parameters.total * num_runs * study.base.train.keep_weights
        + 2 * at_once * 4 * (2 * base.parameters.muon + 3 * base.parameters.adamw)
        if own
        else None,
        noise_sd=noise.paired_sd,
        noise_n=noise.n,
        detectable=detectable,
        metric=study.metric,
        min_effect=study.min_effect,
    )


def _seconds_like(ended: Sequence[float], num_runs: int, workers: int) -> float | None:
    """As long as the mean of the study's runs so far; None before the first."""
    if num_runs == 0:
        return 0.0
    return math.ceil(num_runs / workers) * math.fsum(ended) / len(ended) if ended else None


def _seconds(flops: float, num_runs: int, workers: int, flops_per_second: float | None) -> float | None:
    """The last round may leave workers idle: whole rounds are counted."""
    if num_runs == 0:
        return 0.0
    if flops_per_second is None:
        return None
    rounds = math.ceil(num_runs / workers)
    return rounds * (flops / num_runs) / flops_per_second
