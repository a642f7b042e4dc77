"""What a judgement is made from, numbers by arm and seed; and what is measured of them first: the table of values, each
arm's summary, the noise, the best, who is unresolved. Knows neither studies nor trainers nor tables."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from blueberry.judge import words
from blueberry.judge.answers import Valley, ValleyModel, ValleyPoint
from blueberry.judge.judgement import (
    BASELINE,
    ArmSummary,
    Audit,
    Axis,
    Best,
    Bound,
    CurveFinding,
    Optimum,
    RunCost,
    Status,
)
from blueberry.judge.races import Race, follow
from blueberry.judge.verdicts import Rulings, candidates, rule
from blueberry.records import Provenance, Stage, is_number
from blueberry.stats import optimum as optima
from blueberry.stats.differences import mean_interval, mean_or_inf, sd_interval
from blueberry.stats.locate import LOG_FROM_RATIO, Search
from blueberry.stats.noise import Borrowed, NoiseEstimate, measure_noise
from blueberry.stats.optimum import Located, OneSided, is_clear, locate_optimum, read_valley

THINNED = 4
"""One of so many points of a fitted curve is kept, for drawing it."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the audits look at in one run, without its curves; None where nobody said."""

    seed: int | None
    value: float | None
    """The metric: infinite where the run diverged, None where it left no result."""
    stage: Stage = "search"
    place: str = ""
    """Where it was read, e.g. "runs.csv line 4"."""
    study: str | None = None
    lengths: Mapping[str, float] = field(default_factory=dict)
    """How long it was, by name: updates, tokens, flops, and whatever else a program or a table counts."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a table or a program says it was given, beside what varies."""
    builds: Mapping[str, str] = field(default_factory=dict)
    """What a table says of the device that it ran on and the code that made it, by column."""
    train_seconds: float | None = None
    train_loss: float | None = None
    """At the end of training, nats per token."""
    train_perplexity: float | None = None
    train_accuracy: float | None = None
    """Both as a table or a program states them."""
    val_loss: float | None = None
    val_bits_per_byte: float | None = None
    val_accuracy: float | None = None
    """Fraction of tokens."""
    val_perplexity: float | None = None
    """As a table or a program states it."""
    vocabulary: float | None = None
    """Entries."""
    digits: Mapping[str, float] = field(default_factory=dict)
    """By metric, half a unit of the last digit it was printed with, where it was rounded."""


@dataclass(frozen=True)
class ArmRuns:
    """One arm's runs. A metric is infinite where the run diverged (minus infinity where more is better); a seed without
    an ended run is absent. Of runs without a seed the keys are numbers below 0 that no other arm has."""

    name: str
    settings: Mapping[str, Any]
    search: Mapping[int, float]
    """Metric by seed, over the seeds that choose."""
    confirm: Mapping[int, float] = field(default_factory=dict)
    """The same over fresh seeds, which chose nothing."""
    test: Mapping[int, float] = field(default_factory=dict)
    """The metric's twin on the test set, by seed, searching and confirming."""
    factors: tuple[str, ...] = ()
    """The named changes it holds; none for the baseline and on an axis."""
    crashed: tuple[int, ...] = ()
    """Seeds whose run ended without a result, so that it is missing above."""
    evaluations: Mapping[int, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """(updates done, or a table's steps; metric) by searching seed, ascending; for the first at a target."""
    provenance: tuple[Provenance, ...] = ()
    """What computed the runs, each distinct one once."""
    facts: tuple[RunFacts, ...] = ()
    """One a run, repeats of a seed and runs without a result included."""

    @property
    def values(self) -> list[float]:
        """Of all its runs, confirming ones included."""
        return [*self.search.values(), *self.confirm.values()]

    @property
    def is_finite(self) -> bool:
        """Whether no run that chooses diverged."""
        return all(map(math.isfinite, self.search.values()))


@dataclass(frozen=True)
class Evidence:
    """A question and the runs that bear on it. What is not known is None, and audits that need it stay silent."""

    question: str
    metric: str
    min_effect: float
    """The smallest difference that matters, stated beforehand, in units of the metric."""
    alpha: float
    vary: tuple[str, ...]
    """The varied settings, the axis of the curve first."""
    arms: tuple[ArmRuns, ...]
    goal: Literal["minimize", "maximize"] = "minimize"
    """Values are in the metric's own unit whichever it is; a diverged run is minus infinity where more is better."""
    source: Literal["study", "program", "table"] = "study"
    """Who trained the runs: the built-in trainer, the program of a study's [trainer], or whoever filled a table."""
    is_seeded: bool = True
    """False where no run says its seed: then the keys of `search` only number the runs, and no two arms share one."""
    names_arms: bool = False
    """What varies are names, so that any setting may be what they stand for."""
    loop: str | None = None
    """Where the table is one of a loop that keeps and discards changes, its path."""
    reach: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Ends of the ranges that values were proposed from, by setting; a grid's ends are its outermost values."""
    scale: Literal["log", "linear"] | None = None
    """Of the first varied setting; None: log when all are positive and it is a learning rate or spans a factor of 8."""
    looks: int = 1
    """How often the runs are judged in all, when the number of seeds depends on what was seen; 1 for a fixed design."""
    look_seeds: tuple[int, ...] = ()
    """Of a race: how many seeds there are at each look, the last being the most there may be. Empty: a fixed design."""
    target: float | None = None
    """Of the metric, fixed beforehand, that runs should clear."""
    borrowed: Borrowed | None = None
    """The noise to judge with, in the metric's unit, in place of what the runs themselves show."""
    search: Search | None = None
    """How a search along the axis ended; its values are turned so that lower is better."""
    num_unfinished: int = 0
    """Runs that the design asks for and that have not ended (crashed ones are counted by arm)."""
    repeated_seeds: tuple[str, ...] = ()
    """Arms that have one seed value more than once."""
    states_success: bool = False
    """The source says itself of each run that it succeeded (a table's status column), so that it can be wrong."""
    is_of_text: bool = True
    """Not where errors of numbers or pictures (a root mean square) stand beside the losses, which are then no nats."""
    guessing_loss: float | None = None
    """ln(vocabulary), nats: the loss of guessing uniformly. None if unknown or the metric is not a loss in nats."""
    entropy: float | None = None
    """The least expected value of the metric that the corpus allows; known for synthetic text only."""
    passes: float | None = None
    """Tokens consumed over unique training tokens, in the longest run."""
    at_one_rate: tuple[str, ...] = ()
    """Settings of schedule or architecture that vary while the learning rate does not."""
    audits: tuple[Audit, ...] = ()
    """What was found where the evidence was gathered: in the design, or in how runs were carried out."""
    cost: RunCost = field(default_factory=lambda: RunCost(runs=0, tokens=0, flops=0.0, seconds=0.0))
    findings: tuple[CurveFinding, ...] = ()
    """What the learning curves show, arm by arm; empty where there are none."""

    @property
    def passed_on(self) -> dict[str, Any]:
        """What a judgement says as it is here."""
        names = ("question", "metric", "goal", "min_effect", "alpha", "vary", "is_seeded", "num_unfinished", "cost")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Measured:
    """Evidence with its first numbers. Arms in the order of `evidence.arms`; that order ascends along an axis."""

    evidence: Evidence
    """Turned so that less of the metric is better, whatever its goal."""
    seeds: tuple[int, ...]
    values_KN: np.ndarray
    """Metric of arm k on searching seed n: infinite diverged, NaN missing."""
    noise: NoiseEstimate
    rulings: Rulings
    """Each arm against the best and the baseline, whether or not arms may be told apart."""
    unresolved: tuple[int, ...]
    """Indices of the arms that may be the best: those not called worse than it."""
    candidates: tuple[int, ...]
    """Of these, the ones that the optimum may lie at: see `blueberry.judge.verdicts.candidates`."""
    axis: Axis | None
    """The first varied setting, where it is a number in every arm."""
    sweep: Axis | None
    """That, where one setting alone varies: a value an arm, in the order of the arms."""
    optimum: Optimum | Bound | None
    valley: Valley | None = None
    """What the optimum was read from."""
    race: Race | None = None
    """How the looks went; None for a fixed design."""

    @property
    def best(self) -> int | None:
        """Index of the arm of least mean among those that may be the best; None when none is finite."""
        return self.rulings.best

    @property
    def located(self) -> Search | None:
        """The search along the axis whose answer stands; None where there was none, or it found no valley."""
        search = self.evidence.search
        return None if search is None or search.is_broken or self.sweep is None else search

    @property
    def can_judge(self) -> bool:
        """Whether any two arms may be told apart. Where not, none is called better or worse than another; an arm that
        diverged needs no runs of its own for that, if others did not."""
        finite = np.flatnonzero(~np.isinf(self.values_KN).any(axis=1)).tolist()
        looked = self.race is None or len(self.race.taken) > 0
        return looked and self.noise.can_compare(finite or range(len(self.values_KN)))

    @property
    def combines(self) -> bool:
        """Whether an arm holds several changes, or several settings vary: then there may be effects to tell apart."""
        return len(self.evidence.vary) > 1 or any(len(arm.factors) > 1 for arm in self.evidence.arms)

    def arm(self, index: int) -> ArmRuns:
        return self.evidence.arms[index]

    @property
    def facts(self) -> list[RunFacts]:
        """Of all arms' runs."""
        return [one for arm in self.evidence.arms for one in arm.facts]


def tabled(evidence: Evidence) -> tuple[Evidence, Axis | None, Axis | None, tuple[int, ...], np.ndarray]:
    """With the metric turned if more of it is better and the arms in order along the axis, if there is one; that axis,
    and as far as it is a sweep; the seeds, and the metric by arm and seed."""
    evidence = lower_is_better(evidence)
    axis = axis_of(evidence.vary, [arm.settings for arm in evidence.arms], evidence.scale)
    alone = axis is not None and len(evidence.vary) == 1 and len(axis.values) == len(evidence.arms)
    sweep = axis if alone else None
    if sweep is not None:
        by_value = sorted(evidence.arms, key=lambda arm: float(arm.settings[sweep.setting]))
        evidence = replace(evidence, arms=tuple(by_value))
    seeds = tuple(sorted({seed for arm in evidence.arms for seed in arm.search}))
    values_KN = np.array([[arm.search.get(seed, math.nan) for seed in seeds] for arm in evidence.arms], dtype=float)
    return evidence, axis, sweep, seeds, values_KN.reshape(len(evidence.arms), len(seeds))


def measure(evidence: Evidence) -> Measured:
    """The table, its noise, the arms that may be the best, and where along the axis the optimum lies."""
    evidence, axis, sweep, seeds, values_KN = tabled(evidence)
    baseline = next((row for row, arm in enumerate(evidence.arms) if arm.name == BASELINE), None)
    asked: dict[str, Any] = {"min_effect": evidence.min_effect, "baseline": baseline}
    race = follow(values_KN, looks=evidence.look_seeds, alpha=evidence.alpha, **asked) if evidence.look_seeds else None
    level = evidence.alpha / evidence.looks
    seen_KN = race.tables[-1] if race and race.tables else values_KN
    measured = Measured(
        evidence=evidence,
        seeds=seeds,
        values_KN=values_KN,
        noise=measure_noise(values_KN, evidence.borrowed),
        rulings=(race and race.rulings) or rule((values_KN,), alpha=level, borrowed=evidence.borrowed, **asked),
        unresolved=(undiverged := tuple(np.flatnonzero(~np.isinf(seen_KN).any(axis=1)).tolist())),
        candidates=undiverged,
        axis=axis,
        sweep=sweep,
        optimum=None,
        race=race,
    )
    if measured.located is not None:
        return _located(measured, measured.located)
    x_K = np.array([]) if sweep is None else np.log(sweep.values) if sweep.is_log else np.array(sweep.values)
    is_readable = sweep is not None and evidence.search is None  # else the search says that it is no valley
    found = read_valley(x_K, _by_run(measured), alpha=evidence.alpha) if is_readable else None
    if sweep is not None and found is not None:
        back = math.exp if sweep.is_log else float
        measured = replace(measured, valley=valley_of(sweep.setting, found, back, 1 - evidence.alpha))
        if not measured.can_judge and is_clear(x_K, values_KN, found, alpha=evidence.alpha):
            return replace(measured, optimum=_optimum(sweep, Located(found.estimate, found.interval), evidence.alpha))
    if not measured.can_judge:
        return measured
    on_best = measured.rulings.on_best
    kept = [r for r in measured.unresolved if r == measured.best or on_best[r].decision.b_is_better is not False]
    near = candidates(seen_KN, kept, alpha=level, borrowed=evidence.borrowed)
    optimum = _optimum(sweep, locate_optimum(x_K, found, near), evidence.alpha) if sweep is not None else None
    return replace(measured, unresolved=tuple(kept), candidates=tuple(near), optimum=optimum)


def _by_run(measured: Measured) -> np.ndarray:
    """The table, with one column where runs do not say their seed and every arm has one: the scatter about the curve
    is then all that is known of the noise."""
    if measured.evidence.is_seeded or any(len(arm.search) != 1 for arm in measured.evidence.arms):
        return measured.values_KN
    return np.array([list(arm.search.values()) for arm in measured.evidence.arms], dtype=float)


def _located(measured: Measured, search: Search) -> Measured:
    """The best is what the search recommends; those that may be the best lie in the interval of the optimum."""
    axis, space, found = measured.sweep, search.space, search.valley
    assert axis is not None
    assert found is not None
    assert search.recommended is not None
    valley = valley_of(axis.setting, found, space.value_at, 1 - measured.evidence.alpha)
    low, high = valley.interval
    best = axis.values.index(search.recommended)
    optimum: Optimum | Bound = Optimum(
        setting=axis.setting, estimate=space.value_at(found.estimate), interval=(low, high), level=valley.level
    )
    if valley.is_open[0] != valley.is_open[1]:
        side: Literal["below", "above"] = "below" if valley.is_open[0] else "above"
        optimum = Bound(setting=axis.setting, bound=high if side == "below" else low, side=side)
    kept = tuple(sorted({best, *(i for i, value in enumerate(axis.values) if low <= value <= high)}))
    return replace(
        measured,
        rulings=Rulings(best, kept, {}, {}),  # a valley compares values, not arms
        unresolved=kept,
        candidates=kept,
        optimum=optimum,
        valley=valley,
    )


def valley_of(setting: str, found: optima.Valley, back: Callable[[float], float], level: float) -> Valley:
    """As values of the setting; `back` is from the coordinates it was read in."""
    each = slice(None, None, THINNED)
    points = zip(found.grid_G[each].tolist(), found.curve_G[each].tolist(), found.excess_G[each].tolist(), strict=True)
    return Valley(
        setting=setting,
        curve=tuple(ValleyPoint(value=back(x), expected=y, excess=excess) for x, y, excess in points),
        interval=(back(found.interval[0]), back(found.interval[1])),
        is_open=found.is_open,
        level=level,
        models=tuple(ValleyModel(model=m, fit=fit, kept=m in found.models) for m, fit in found.fits.items()),
        sd=found.sd,
        df=found.df,
    )


def lower_is_better(evidence: Evidence) -> Evidence:
    """With the sign of the metric changed where more of it is better. Facts and curves stay as they were recorded."""
    if evidence.goal == "minimize":
        return evidence

    def turned(values: Mapping[int, float]) -> dict[int, float]:
        return {seed: 0.0 - value for seed, value in values.items()}

    arms = tuple(
        replace(
            arm,
            search=turned(arm.search),
            confirm=turned(arm.confirm),
            test=turned(arm.test),
            evaluations={
                seed: tuple((update, 0.0 - value) for update, value in points)
                for seed, points in arm.evaluations.items()
            },
        )
        for arm in evidence.arms
    )
    target = None if evidence.target is None else 0.0 - evidence.target
    return replace(evidence, arms=arms, target=target, guessing_loss=None, entropy=None)


def best_of(measured: Measured) -> Best | None:
    """The arm of least mean, its number from the confirming seeds when there are any."""
    if measured.best is None:
        return None
    arm = measured.arm(measured.best)
    values = arm.confirm or arm.search
    if measured.located is not None and not arm.search:  # it was found between the values that were searched
        expected = expected_at(measured, measured.best)
    else:
        expected = _mean(arm.search.values())
    tested = [arm.test[seed] for seed in values if seed in arm.test]
    return Best(
        arm=arm.name,
        settings=dict(arm.settings),
        mean=_mean(values.values()) if values else expected,
        interval=mean_interval(list(values.values()), 1 - measured.evidence.alpha),
        sd=_sd(list(values.values())),
        n=len(values),
        confirmed=bool(arm.confirm),
        search_mean=expected,
        test_mean=_mean(tested) if tested and len(tested) == len(values) else None,
    )


def expected_at(measured: Measured, index: int) -> float:
    """What the valley expects of an arm in its window."""
    assert measured.sweep is not None
    point = measured.valley.at(measured.sweep.values[index]) if measured.valley is not None else None
    assert point is not None
    return point.expected


def axis_of(
    vary: Sequence[str], settings: Sequence[Mapping[str, Any]], scale: Literal["log", "linear"] | None = None
) -> Axis | None:
    """The axis of arms with these settings. `scale` is the declared one, None where none was."""
    values = numbers_of([one.get(vary[0]) for one in settings]) if vary else None
    if values is None or len(set(values)) < 2:
        return None
    if min(values) <= 0:
        scale = "linear"
    elif scale is None:
        is_log = words.is_rate(vary[0]) or max(values) / min(values) >= LOG_FROM_RATIO
        scale = "log" if is_log else "linear"
    return Axis(setting=vary[0], values=tuple(sorted(set(values))), scale=scale)


def numbers_of(values: Sequence[Any]) -> list[float] | None:
    """As they are; None unless every one is a finite number."""
    return [float(v) for v in values] if all(is_number(v) and abs(v) <= sys.float_info.max for v in values) else None


def _optimum(axis: Axis, found: Located | OneSided | None, alpha: float) -> Optimum | Bound | None:
    if found is None:
        return None
    back = math.exp if axis.is_log else float
    if isinstance(found, Located):
        ends = (back(found.interval[0]), back(found.interval[1]))
        return Optimum(setting=axis.setting, estimate=back(found.estimate), interval=ends, level=1 - alpha)
    bound = min(axis.values, key=lambda value: abs(value - back(found.bound)))  # one of those that were tried, exactly
    return Bound(setting=axis.setting, bound=bound, side=found.side)


def summary_of(measured: Measured, index: int) -> ArmSummary:
    """An arm over the searching seeds."""
    arm, row = measured.arm(index), measured.values_KN[index]
    ended = ~np.isnan(row)
    finite = row[np.isfinite(row)]
    num_diverged = int(np.isinf(row).sum())
    mean = mean_or_inf(row)
    return ArmSummary(
        arm=arm.name,
        settings=dict(arm.settings),
        n=int(ended.sum()),
        mean=None if math.isnan(mean) else mean,
        sd=_sd(finite),
        sd_interval=sd_interval(finite, 1 - measured.evidence.alpha) if not num_diverged else None,
        interval=mean_interval(finite, 1 - measured.evidence.alpha) if not num_diverged else None,
        status=_status(measured, index, num_diverged, num_ended=int(ended.sum())),
        num_diverged=num_diverged,
        num_crashed=len(arm.crashed),
        seeds=tuple(
            seed if measured.evidence.is_seeded else None
            for seed, here in zip(measured.seeds, ended, strict=True)
            if here
        ),
        values=tuple(float(value) for value in row[ended]),
    )


def _status(measured: Measured, index: int, num_diverged: int, *, num_ended: int) -> Status:
    """An arm without an ended run is unresolved: nothing speaks against it."""
    if index == measured.best:
        return "best"
    if num_diverged:
        return "diverged"
    return "unresolved" if index in measured.unresolved or num_ended == 0 else "worse"


def _sd(values: Sequence[float] | np.ndarray) -> float | None:
    """Between runs; None below two, or where one diverged."""
    return float(np.std(values, ddof=1)) if len(values) >= 2 and np.isfinite(values).all() else None


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
