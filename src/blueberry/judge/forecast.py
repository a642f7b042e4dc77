"""What a study will cost and what it could detect, said before it runs; and the noise that a store has measured, by
recipe family and horizon: what forecasts go by, and a bank that others may borrow from."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from blueberry.architecture import cost, flops_per_token, parameters
from blueberry.errors import RecipeError, TableError, did_you_mean
from blueberry.files import canonical_json, digest
from blueberry.judge.evidence import tabled
from blueberry.judge.judgement import BASELINE
from blueberry.judge.studies import gather_study
from blueberry.judge.words import count, interval, number, settings_text, unit
from blueberry.recipe import Recipe
from blueberry.records import RunResult
from blueberry.stats.differences import Df, smallest_shown
from blueberry.stats.noise import Borrowed, NoiseEstimate, measure_noise, read_sigma
from blueberry.study.database import EndedRun
from blueberry.study.placement import Lanes, Speed, work
from blueberry.study.plan import Plan, as_planned, looks_of
from blueberry.study.sharing import forks
from blueberry.study.spec import Arm, Study
from blueberry.study.status import Change
from blueberry.study.store import Store

MOST_UPDATES_SHARED = 2_000_000
"""Of all arms together, up to which a forecast waits to know what they share."""
RESULT_BYTES_PER_UPDATE = 70
"""Of a stored result, mostly its curve: three numbers an update as text."""
REPORT_SECONDS = 6.0
"""Of judging, drawing and writing; every arm adds a tenth of it in pictures."""
LEAST_MIN_EFFECT = 0.005
"""Nats: the smallest difference that is suggested as mattering, however small the noise."""


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
    """Confirming runs included, also while their arm is not known; with those that may come, see `runs_at_most`."""
    updates: int | None
    """Of one run of the longest arm; None where a command is not told it."""
    tokens: int | None
    """To be trained on by all runs still to do; None for a command, which counts its own."""
    flops: float | None
    shared_runs: int
    """Of the runs still to do, those that begin where another has been: see `blueberry.study.sharing`."""
    shared_updates: int
    """That these take over, and that are in neither `tokens` nor `flops` nor `seconds`."""
    shared_flops: float
    shared_seconds: float | None
    workers: int
    lanes: int
    seconds: float | None
    """By the clock, of all runs still to do, with start-up, evaluations and report; None while no speed is known."""
    seconds_from: Literal["runs", "updates"] | None
    """Whence that is known: runs that have ended, or updates that were timed for it."""
    weights_bytes: int | None
    """Of final weights that the runs to do keep; None where only the command knows."""
    disk_bytes: int | None
    """Results, final weights where they are kept, the checkpoints of what runs at one time, and shared states; None
    for a command."""
    noise_sd: float | None
    """Of a paired difference, in the metric; None until two arms share two seeds."""
    noise_n: int
    """Runs it was measured from."""
    noise_source: Literal["study", "family"] | None
    """Whose runs: this study's own, or all of its recipe family at this length in the store. None: unknown."""
    suggested_min_effect: float | None
    """max(0.005, half the sd of one run): a suggestion, changes nothing. For losses in nats only."""
    detectable: float | None
    """Smallest difference of two arms that all search seeds would show with power .8: see `smallest_shown`."""
    metric: str
    min_effect: float
    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Of a study made of parts: each with its arms' names."""
    joined: str | None = None
    """How they are: "tune" or "across"."""
    method: str = "grid"
    seeds_max: int = 0
    """That an arm of a race can come to."""
    runs_at_most: int = 0
    """Of `runs_todo`, those that come only if the runs before leave something open, and as many as there can be."""
    runs_expected: int = 0
    """Of `runs_todo`, those that come if all goes as planned: what `tokens`, `flops` and `seconds` are of."""
    aliases: tuple[str, ...] = ()
    """Of a fraction: effects that it cannot tell apart, each group as "a*b = c*d"."""
    changed: Change | None = None
    """How the study differs from what its file last ran as; None if it does not, or never ran."""
    other_builds: int = 0
    """Of its results, those by another build of the built-in trainer than this one."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; an unknown number is null."""
        plain = asdict(self)
        plain["arms"] = [{"arm": name, "settings": settings} for name, settings in self.arms]
        plain["parts"] = [{"part": name, "arms": list(arms)} for name, arms in self.parts]
        return plain


def forecast(
    study: Study,
    planned: Plan,
    results: Mapping[str, RunResult],
    *,
    workers: int,
    lanes: int | Lanes,
    speed: Speed | None,
    changed: Change | None = None,
    other_builds: int = 0,
    past_runs: Sequence[EndedRun] = (),
    data_digest: str | None = None,
    shares: bool = False,
) -> Forecast:
    """`past_runs` are those of the whole store, used while the study has too few of its own to measure noise.

    `changed` and `other_builds` are passed on. `shares`: whether the trainer lets runs begin where others have been.
    """
    study = as_planned(study, planned)
    left, base = planned.left, cost(study.base)
    undecided = planned.num_undecided
    to_come = [(cost(one.base), num) for one, num in _to_come(study, planned)]
    groups = planned.groups(lanes)
    num_lanes = max(map(len, groups), default=1)
    begins = forks(groups, MOST_UPDATES_SHARED) if shares else {}
    taken_over = [(run.recipe, fork.update) for run in planned.todo if (fork := begins.get(run.fingerprint))]
    shared_tokens = sum(updates * recipe.update_tokens for recipe, updates in taken_over)
    shared_flops = sum(updates * recipe.update_tokens * flops_per_token(recipe) for recipe, updates in taken_over)
    flops = left.num_flops + sum(num * one.num_flops for one, num in to_come) - shared_flops
    num_runs = len(planned.todo) + planned.num_expected
    kept = {(run.part, run.arm): run.recipe for run in planned.todo if run.recipe.train.keep_weights}
    sizes = {arm: 4 * parameters(recipe).total for arm, recipe in kept.items()}
    weights_bytes = sum(sizes.get((run.part, run.arm), 0) for run in planned.todo)
    keeping = _confirming(study, planned) if study.searches_without_weights else planned.num_expected
    weights_bytes += 4 * base.parameters.total * keeping * study.base.train.keep_weights
    noise, source, df = _noise(study, planned, results, past_runs, data_digest)
    detectable = None
    if noise.paired_sd is not None:
        num_seeds, arms = _comparison(study)
        detectable = smallest_shown(
            noise.paired_sd,
            num_seeds=num_seeds,
            num_arms=len(arms),
            has_baseline=any(arm.name == BASELINE for arm in arms),
            alpha=study.alpha / (len(looks_of(study.seeds.search, study.seeds.max)) if study.method == "race" else 1),
            df=None if study.joined == "tune" else df,
        )
    at_once = min(workers * num_lanes, num_runs)
    state_bytes = 4 * (2 * base.parameters.muon + 3 * base.parameters.adamw)
    own = study.trainer is None  # what a command does with its time and disk, only it knows
    if own and speed is not None and num_runs:
        works = math.fsum(work(run.recipe) for run in planned.todo)
        works += math.fsum(num * work(one.base) for one, num in _to_come(study, planned)) - shared_flops
        each = works / num_runs / speed.flops_per_second
    else:  # as the mean of the study's runs so far
        timed = [one.train_seconds for one in results.values() if one.status != "failed"]
        ended = [seconds for seconds in timed if seconds is not None]
        each = math.fsum(ended) / len(ended) if ended and not own else None
    fresh = sum(run.stage != "search" for run in planned.todo) + _confirming(study, planned)
    seconds = _seconds((num_runs - fresh, fresh), workers, each)
    if seconds:
        seconds += REPORT_SECONDS * (1 + len(study.trained_arms) / 10)
        seconds += speed.startup_seconds if own and speed is not None else 0.0
    return Forecast(
        study=study.name,
        question=study.question,
        arms=tuple((arm.name, arm.settings) for arm in study.arms),
        seeds_search=study.seeds.search,
        seeds_confirm=study.seeds.confirm,
        runs_done=len(planned.done),
        runs_todo=len(planned.todo) + undecided,
        runs_expected=num_runs,
        updates=max(arm.recipe.num_updates for arm in (*study.trained_arms, *study.arms))
        if study.trainer is None or study.trainer.is_told_its_length
        else None,
        tokens=left.num_tokens + sum(num * one.num_tokens for one, num in to_come) - shared_tokens if own else None,
        flops=flops if own else None,
        shared_runs=len(taken_over),
        shared_updates=sum(updates for _, updates in taken_over),
        shared_flops=shared_flops,
        shared_seconds=shared_flops / speed.flops_per_second / min(workers, num_runs)
        if speed is not None and num_runs
        else None,
        workers=workers,
        lanes=num_lanes,
        seconds=seconds,
        seconds_from=None if seconds is None else speed.source if own and speed is not None else "runs",
        weights_bytes=weights_bytes if own else None,
        disk_bytes=RESULT_BYTES_PER_UPDATE * (left.num_updates + sum(num * one.num_updates for one, num in to_come))
        + weights_bytes
        + (2 * at_once + len({fork.state for fork in begins.values()})) * state_bytes
        if own
        else None,
        noise_sd=noise.paired_sd,
        noise_n=noise.n,
        noise_source=source,
        suggested_min_effect=suggested_min_effect(noise.sd)
        if noise.sd is not None and study.metric in ("val_loss", "train_loss")
        else None,
        detectable=detectable,
        metric=study.metric,
        min_effect=study.min_effect,
        parts=tuple((part.name, tuple(arm.name for arm in part.arms)) for part in study.parts),
        joined=study.joined,
        method=study.method,
        seeds_max=study.seeds.max,
        runs_at_most=undecided - _confirming(study, planned),
        aliases=tuple(
            " = ".join("*".join(effect) for effect in group) for group in (study.design.aliases if study.design else ())
        ),
        changed=changed,
        other_builds=other_builds,
    )


def _to_come(study: Study, planned: Plan) -> list[tuple[Study, int]]:
    """Runs that have no arm yet, with the study whose base stands for them."""
    own = planned.num_expected - sum(part.num_expected for part in planned.parts.values())
    inside = [one for part in study.parts for one in _to_come(part, planned.parts[part.name])]
    return [(study, own), *inside] if own else inside


def _confirming(study: Study, planned: Plan) -> int:
    """Confirming runs among those that have no arm yet."""
    inside = sum(_confirming(part, planned.parts[part.name]) for part in study.parts)
    own = planned.num_undecided - sum(part.num_undecided for part in planned.parts.values())
    return inside + min(own, study.seeds.confirm)


def _noise(
    study: Study,
    planned: Plan,
    results: Mapping[str, RunResult],
    past_runs: Sequence[EndedRun],
    data_digest: str | None,
) -> tuple[NoiseEstimate, Literal["study", "family"] | None, Df | None]:
    """The study's own where two of its arms share two seeds, else its family's at its length; with how its
    degrees of freedom grow, None where the design must tell.

    Of a study made of parts, the part's that has most of it.
    """
    if study.parts:
        found = [
            _noise(
                part,
                planned.parts[part.name],
                results,
                past_runs if part.base.data == study.base.data else (),
                data_digest,
            )
            for part in study.parts
        ]
        return max(found, key=lambda pair: (pair[0].paired_sd is not None, pair[0].n))
    *_, seeds, values_KN = tabled(gather_study(study, results, planned, reads_curves=False))
    own = measure_noise(values_KN)
    if own.paired_sd is not None:
        return own, "study", None if own.typical is None else Df.of(own.typical.df, len(seeds))
    family, num_updates = family_of(study.base), study.base.num_updates
    if any(family_of(arm.recipe) != family or arm.recipe.num_updates != num_updates for arm in study.arms):
        return own, None, None  # how runs of two families go together on a seed, no family has measured
    found = noise_by_horizon(past_runs, family, study.metric, data_digest).get(num_updates)
    return (own, None, None) if found is None or found.paired_sd is None else (found, "family", None)


def _comparison(study: Study) -> tuple[int, Sequence[Arm]]:
    """Seeds and arms of the comparison that answers."""
    if study.joined == "tune":
        return study.seeds.confirm, study.arms
    num_seeds = study.seeds.max if study.method == "race" else study.seeds.search
    return num_seeds, study.parts[0].arms if study.parts else study.arms


def _seconds(stages: Sequence[int], workers: int, each: float | None) -> float | None:
    """Of so many runs, stage after stage, that take `each`; None where that is not known. The last round of a stage may
    leave workers idle: whole rounds are counted."""
    if not any(stages):
        return 0.0
    return None if each is None else sum(math.ceil(num / workers) for num in stages) * each


def family_of(recipe: Recipe) -> dict[str, Any]:
    """What runs must share for the noise of one to tell that of another: dotted setting to value.

    Everything that decides a run's numbers (`Recipe.identity`) except the seed, the length, the schedule, and
    what may differ between lanes: rates, decay, momentum, clipping. So: model, text, tokenizer, batch,
    precision, kind of optimizer, tokens it is evaluated on. Noise is never taken from another family.
    """
    kept = recipe.identity(per_lane=False)
    return {name: value for name, value in kept.items() if name not in ("train.updates", "evaluate.every_updates")}


def noise_by_horizon(
    runs: Iterable[EndedRun], family: Mapping[str, Any], metric: str, data_digest: str | None = None
) -> dict[int, NoiseEstimate]:
    """The noise of a family at each length that it was run for, ascending; only lengths with a repeated arm.

    `metric` is one of the validation set. Arms are recipes that differ in anything but the seed, from whatever
    study; they are pooled as within a study. Runs on other data than `data_digest` do not count.
    """
    tables: dict[int, dict[str, dict[int, float]]] = {}
    for run in runs:
        own_data = data_digest is None or run.data_digest is None or run.data_digest == data_digest
        value = math.inf if run.status == "diverged" else run.metric(metric)
        if not own_data or value is None or run.recipe is None or "seed" not in run.recipe:
            continue
        if any(name not in run.recipe or run.recipe[name] != said for name, said in family.items()):
            continue
        arm = canonical_json({name: said for name, said in run.recipe.items() if name != "seed"})
        tables.setdefault(_num_updates(run.recipe), {}).setdefault(arm, {})[run.recipe["seed"]] = value
    found: dict[int, NoiseEstimate] = {}
    for num_updates, arms in sorted(tables.items()):
        seeds = sorted({seed for values in arms.values() for seed in values})
        values_KN = np.array([[values.get(seed, math.nan) for seed in seeds] for values in arms.values()])
        noise = measure_noise(values_KN)
        if noise.sd is not None:
            found[num_updates] = noise
    return found


def suggested_min_effect(sd: float) -> float:
    """max(0.005 nats, half the noise of one run), to two digits. Only ever suggested: a study states its own."""
    return float(f"{max(LEAST_MIN_EFFECT, sd / 2):.2g}")


def _num_updates(recipe: Mapping[str, Any]) -> int:
    if recipe.get("train.updates") is not None:
        return int(recipe["train.updates"])
    tokens = recipe["train.batch_sequences"] * recipe["model.context_tokens"]
    return -(-int(recipe["train.tokens"]) // tokens)


# --- The noise bank ---

PREFIX = "bank:"
"""Of a sigma that is borrowed from the bank."""
PLACES = 4
SHOWN = ("model.width", "model.num_layers", "model.feed_forward.kind", "train.batch_sequences", "data.corpus")
MOST_SHOWN = 5
"""Settings in which families differ that a line has."""


@dataclass(frozen=True)
class Banked:
    """Noise of one recipe family at one length, in the metric."""

    name: str
    """By which it is borrowed: a digest of the family, and the updates."""
    metric: str
    num_updates: int
    sd: float
    """Of one run around its arm's mean."""
    interval: tuple[float, float]
    """Of the sd, at 95%."""
    df: float
    """Degrees of freedom of `sd`: fewer where arms share their seeds' luck. Source: Satterthwaite 1946, as squares
    correlate by rho**2."""
    num_runs: int
    rho: float | None
    """Correlation of two arms' results on one seed."""
    family: Mapping[str, Any]
    """What its runs share: dotted setting to value."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; an unknown number is null."""
        return {**asdict(self), "interval": list(self.interval), "family": dict(self.family)}


def noise_bank(runs: Iterable[EndedRun], metric: str = "val_loss") -> tuple[Banked, ...]:
    """Every family and length with a repeated arm, most runs first. Runs of other programs are in no family.

    Source of the intervals: chi-squared of the sum of squares within arms.
    """
    from scipy.special import chdtri

    families: dict[str, tuple[dict[str, Any], list[EndedRun]]] = {}
    known: dict[str, str | None] = {}
    for run in runs:
        flat = {name: value for name, value in (run.recipe or {}).items() if name != "seed"}
        key = canonical_json(flat)
        if key not in known:
            family = _family(run.recipe or {})
            known[key] = None if family is None else canonical_json([family, run.data_digest])
            if family is not None:
                families.setdefault(str(known[key]), (family, []))
        if (group := known[key]) is not None:
            families[group][1].append(run)
    banked = []
    for group, (family, own) in families.items():
        for num_updates, noise in noise_by_horizon(own, family, metric).items():
            num_arms, rho, sd = int(noise.runs.known_K.sum()), max(noise.rho or 0.0, 0.0), noise.sd or 0.0
            df = float(noise.runs.df_K.sum()) / (1 + (num_arms - 1) * rho**2)
            low, high = (sd * math.sqrt(df / float(chdtri(df, tail))) for tail in (0.025, 0.975))
            name = f"{digest('blueberry/family/1', group)[:6]}-{num_updates}"
            banked.append(Banked(name, metric, num_updates, sd, (low, high), df, noise.n, noise.rho, family))
    return tuple(sorted(banked, key=lambda one: (-one.num_runs, one.name)))


def _family(flat: Mapping[str, Any]) -> dict[str, Any] | None:
    """None of a recipe that is not the built-in trainer's."""
    try:
        return family_of(Recipe.of(flat))
    except RecipeError:
        return None


def stored_noise(store: Path, metric: str = "val_loss") -> tuple[Banked, ...]:
    """Of the store's latest runs. Raises: StoreError if there is none."""
    with Store.open(store, create=False) as opened:
        return noise_bank(opened.past_runs(), metric)


def sigma_of(text: str, store: Path, metric: str = "val_loss") -> Borrowed:
    """What `--sigma` says: a number, or bank:NAME of what the store has measured.

    Raises: TableError for a name that the bank has not; StoreError if there is no store.
    """
    if not text.startswith(PREFIX):
        return read_sigma(text)
    name, banked = text.removeprefix(PREFIX), {one.name: one for one in stored_noise(store, metric)}
    if name not in banked:
        raise TableError(f'sigma: "{text}"; the store has measured no such {metric}{did_you_mean(name, banked)}')
    found = banked[name]
    return Borrowed(found.sd, found.df, text)


def told(banked: Sequence[Banked]) -> str:
    """For a terminal: families by what most people ask of one, and by the settings in which they differ."""
    names = dict.fromkeys(name for one in banked for name in one.family)
    differing = [name for name in names if len({str(one.family.get(name)) for one in banked}) > 1]
    shown = list(dict.fromkeys((*SHOWN, *differing[:MOST_SHOWN])))
    lines = []
    for one in banked:
        ends, rho = interval(one.interval, PLACES), "" if one.rho is None else f", rho {one.rho:.2f}"
        found = f"sd {number(one.sd, PLACES)}{unit(one.metric)} {ends}, {count(one.num_runs, 'run')}{rho}"
        family = {name: one.family[name] for name in shown if name in one.family}
        lines.append(f"{PREFIX}{one.name}  {found}: {count(one.num_updates, 'update')}, {settings_text(family)}")
    return "\n".join(lines) or "no noise measured yet: no arm of the store's runs was repeated on another seed"
