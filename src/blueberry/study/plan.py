"""Which runs a study needs, which of them are missing, and which are trained side by side. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from blueberry.cost import cost
from blueberry.identity import fingerprint, shape_key
from blueberry.recipe import Recipe
from blueberry.records import RunResult
from blueberry.study.spec import Arm, Study

Stage = Literal["search", "confirm"]
DataDigest = Callable[[Recipe], str]
"""Names by content what a trainer reads beside the recipe: its text, or a command and its files."""


@dataclass(frozen=True)
class Run:
    """One arm on one seed."""

    arm: str
    seed: int
    recipe: Recipe
    fingerprint: str
    shape_key: str
    """Runs with one shape key can train side by side."""
    stage: Stage
    data_digest: str
    """What it is trained on, by content."""


@dataclass(frozen=True)
class Totals:
    """What some runs cost, evaluations excluded."""

    num_runs: int
    num_updates: int
    num_tokens: int
    num_flops: float


@dataclass(frozen=True)
class Plan:
    """The runs of a study, as far as the results so far decide them."""

    runs: tuple[Run, ...]
    """Search seed by seed, all arms of one before the next; then the confirming runs, once their arm is known."""
    ended: frozenset[str]
    """Fingerprints of the runs with a result, diverged ones included."""
    leader: str | None
    """The arm with the least mean over the searching seeds; None until all of them have ended, or if none is finite."""
    num_undecided: int
    """Confirming runs that are still to come but have no arm yet."""

    @cached_property
    def done(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.fingerprint in self.ended)

    @cached_property
    def todo(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.fingerprint not in self.ended)

    @cached_property
    def total(self) -> Totals:
        """Of all the runs that are decided; the undecided ones are not in it."""
        return totals(self.runs)

    @cached_property
    def left(self) -> Totals:
        """Of the runs still to do."""
        return totals(self.todo)

    def groups(self, lanes: int) -> tuple[tuple[Run, ...], ...]:
        """The missing runs, in groups of at most `lanes` that are trained side by side.

        Who trains with whom is decided by all runs of the stage, not by which are missing, so that an interrupted
        study goes on in the groups it began with. Sizes of whole groups of one shape differ by at most one.
        """
        assert lanes >= 1
        found: list[tuple[Run, ...]] = []
        for stage in ("search", "confirm"):
            by_shape: dict[str, list[Run]] = {}
            for run in self.runs:
                if run.stage == stage:
                    by_shape.setdefault(run.shape_key, []).append(run)
            for runs in by_shape.values():
                found += _chunks(runs, lanes)
        missing = (tuple(run for run in group if run.fingerprint not in self.ended) for group in found)
        return tuple(group for group in missing if group)


def plan(study: Study, data_digest: DataDigest, results: Mapping[str, RunResult]) -> Plan:
    """The runs of a study given the results so far, by fingerprint. Reads nothing else.

    The confirming runs of the leading arm join once every searching run has ended. A result that says "failed"
    (the program crashed, not the training) has not ended its run.
    """
    search = _search(study, data_digest)
    ended = frozenset(name for name, result in results.items() if result.status != "failed")
    if not all(run.fingerprint in ended for run in search):
        return _plan(search, ended, None, study.seeds.confirm)
    leader = _leader(study.metric, search, results)
    return _plan(search + _confirm(study, data_digest, leader), ended, leader, 0)


@lru_cache(maxsize=8)  # planning is repeated after every stage, and naming runs is nearly all its cost
def _search(study: Study, data_digest: DataDigest) -> tuple[Run, ...]:
    seeds = range(study.base.seed, study.base.seed + study.seeds.search)
    named = [(arm, data_digest(arm.recipe)) for arm in study.arms]
    shapes = {arm.name: shape_key(arm.recipe, data) for arm, data in named}
    return tuple(_run(arm, seed, data, shapes[arm.name], "search") for seed in seeds for arm, data in named)


def _confirm(study: Study, data_digest: DataDigest, leader: str | None) -> tuple[Run, ...]:
    first = study.base.seed + study.seeds.max
    seeds = range(first, first + study.seeds.confirm)
    named = [(arm, data_digest(arm.recipe)) for arm in study.arms if arm.name == leader]
    shapes = {arm.name: shape_key(arm.recipe, data) for arm, data in named}
    return tuple(_run(arm, seed, data, shapes[arm.name], "confirm") for arm, data in named for seed in seeds)


def _run(arm: Arm, seed: int, data_digest: str, shape: str, stage: Stage) -> Run:
    # The seed's bounds were checked with the study: copying saves checking every setting once a run.
    recipe = arm.recipe.model_copy(update={"seed": seed})
    return Run(arm.name, seed, recipe, fingerprint(recipe, data_digest), shape, stage, data_digest)


def totals(runs: Sequence[Run]) -> Totals:
    """Summed over the runs."""
    costs = {run.arm: cost(run.recipe) for run in {run.arm: run for run in runs}.values()}
    each = [costs[run.arm] for run in runs]
    return Totals(
        num_runs=len(each),
        num_updates=sum(one.num_updates for one in each),
        num_tokens=sum(one.num_tokens for one in each),
        num_flops=sum((one.num_flops for one in each), 0.0),
    )


def _plan(runs: tuple[Run, ...], ended: frozenset[str], leader: str | None, num_undecided: int) -> Plan:
    return Plan(runs, ended & {run.fingerprint for run in runs}, leader, num_undecided)


def _leader(metric: str, search: Sequence[Run], results: Mapping[str, RunResult]) -> str | None:
    """The arm of least mean, the first of equals; a run without the metric makes its arm's mean infinite."""
    values: dict[str, list[float]] = {}
    for run in search:
        result = results[run.fingerprint]
        value = result.metric(metric) if result.status == "completed" else None
        values.setdefault(run.arm, []).append(math.inf if value is None else value)
    means = {arm: math.fsum(v) / len(v) if math.inf not in v else math.inf for arm, v in values.items()}
    best = min(means, key=lambda arm: means[arm])
    return best if math.isfinite(means[best]) else None


def _chunks(runs: Sequence[Run], lanes: int) -> list[tuple[Run, ...]]:
    """Consecutive runs in as few chunks of at most `lanes` as there can be, the longer ones first."""
    num_chunks = -(-len(runs) // lanes)
    size, num_longer = divmod(len(runs), num_chunks)
    chunks, start = [], 0
    for number in range(num_chunks):
        end = start + size + (number < num_longer)
        chunks.append(tuple(runs[start:end]))
        start = end
    return chunks
