"""What a study will cost and what it could detect, said before it runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from blueberry.cost import cost
from blueberry.judge.from_study import gather
from blueberry.judge.judgement import Noise
from blueberry.judge.measured import measure, noise_of
from blueberry.judge.noise_registry import FamilyNoise, family_of, noise_by_horizon, suggested_min_effect
from blueberry.records import RunResult
from blueberry.stats.power import smallest_difference
from blueberry.study.plan import Plan
from blueberry.study.spec import Study
from blueberry.study.store import PastRun

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
    updates: int
    """Of one run of the longest arm."""
    tokens: int
    """Of all runs still to do."""
    flops: float
    workers: int
    lanes: int
    seconds: float | None
    """Of all runs still to do; None until runs of this machine show its speed."""
    disk_bytes: int
    """Results, final weights where they are kept, and the checkpoints of what runs at one time."""
    noise_sd: float | None
    """Of a paired difference, in the metric; None until two arms share two seeds."""
    noise_n: int
    """Runs it was measured from."""
    noise_source: Literal["study", "family"] | None
    """Whose runs: this study's own, or all of its recipe family at this length in the store. None: unknown."""
    suggested_min_effect: float | None
    """max(0.005, half the sd of one run): a suggestion, changes nothing. For losses in nats only."""
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
    past_runs: Sequence[PastRun] = (),
    data_digest: str | None = None,
) -> Forecast:
    """`past_runs` are those of the whole store, used while the study has too few of its own to measure noise.

    `flops_per_second` is one worker's, as earlier runs measured it while all workers were busy."""
    left, base = planned.left, cost(study.base)
    undecided = planned.num_undecided
    flops = left.num_flops + undecided * base.num_flops
    num_runs = len(planned.todo) + undecided
    noise, source = _noise(study, planned, results, past_runs, data_digest)
    num_others = len(study.arms) - 1
    detectable = None
    if noise.paired_sd is not None:
        detectable = smallest_difference(study.seeds.search, noise.paired_sd, alpha=study.alpha / num_others)
    at_once = min(workers * lanes, num_runs)
    return Forecast(
        study=study.name,
        question=study.question,
        arms=tuple((arm.name, arm.settings) for arm in study.arms),
        seeds_search=study.seeds.search,
        seeds_confirm=study.seeds.confirm,
        runs_done=len(planned.done),
        runs_todo=num_runs,
        updates=max(arm.recipe.num_updates for arm in study.arms),
        tokens=left.num_tokens + undecided * base.num_tokens,
        flops=flops,
        workers=workers,
        lanes=lanes,
        seconds=_seconds(flops, num_runs, workers, flops_per_second),
        disk_bytes=RESULT_BYTES_PER_UPDATE * (left.num_updates + undecided * base.num_updates)
        + 4 * base.parameters.total * num_runs * study.base.train.keep_weights
        + 2 * at_once * 4 * (2 * base.parameters.muon + 3 * base.parameters.adamw),
        noise_sd=noise.paired_sd,
        noise_n=noise.n,
        noise_source=source,
        suggested_min_effect=suggested_min_effect(noise.sd)
        if noise.sd is not None and study.metric in ("val_loss", "train_loss")
        else None,
        detectable=detectable,
        metric=study.metric,
        min_effect=study.min_effect,
    )


def _noise(
    study: Study,
    planned: Plan,
    results: Mapping[str, RunResult],
    past_runs: Sequence[PastRun],
    data_digest: str | None,
) -> tuple[Noise | FamilyNoise, Literal["study", "family"] | None]:
    """The study's own where two of its arms share two seeds, else its family's at its length."""
    own = noise_of(measure(gather(study, results, planned)))
    if own.paired_sd is not None:
        return own, "study"
    family, num_updates = family_of(study.base), study.base.num_updates
    if any(family_of(arm.recipe) != family or arm.recipe.num_updates != num_updates for arm in study.arms):
        return own, None  # how runs of two families go together on a seed, no family has measured
    for noise in noise_by_horizon(past_runs, family, study.metric, data_digest):
        if noise.num_updates == num_updates and noise.paired_sd is not None:
            return noise, "family"
    return own, None


def _seconds(flops: float, num_runs: int, workers: int, flops_per_second: float | None) -> float | None:
    """The last round may leave workers idle: whole rounds are counted."""
    if num_runs == 0:
        return 0.0
    if flops_per_second is None:
        return None
    rounds = math.ceil(num_runs / workers)
    return rounds * (flops / num_runs) / flops_per_second
