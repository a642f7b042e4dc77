"""From evidence to numbers: the table of values, each arm's summary, the noise, the best, who is unresolved."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from blueberry.judge import words
from blueberry.judge.answers import Valley, ValleyModel, ValleyPoint
from blueberry.judge.evidence import BASELINE, ArmRuns, Evidence
from blueberry.judge.judgement import LEAST_BLOCKS, ArmSummary, Axis, Best, Bound, Detectable, Noise, Optimum, Status
from blueberry.judge.verdicts import Race, Rulings, follow, rule
from blueberry.records import is_number
from blueberry.stats import optimum as optima
from blueberry.stats.differences import Df, mean_interval, sd_interval, smallest_difference
from blueberry.stats.factorial import SingleRuns, is_regular, single_run_effects
from blueberry.stats.locate import LOG_FROM_RATIO, Search
from blueberry.stats.noise import NoiseEstimate, measure_noise
from blueberry.stats.optimum import Located, OneSided, is_clear, locate_optimum, read_valley
from blueberry.stats.unresolved import baseline_error, candidates, first_error, mean_or_inf

THINNED = 4
"""One of so many points of a fitted curve is kept, for drawing it."""
LEAST_COMBINED = 2
"""Changes in one arm, without which there is nothing beyond the comparisons with the baseline."""
OFF = frozenset(("off", "no", "false", "none", "without", "0", "0.0", "baseline", "default"))
ON = frozenset(("on", "yes", "true", "with", "1", "1.0"))
"""Words for a change that is made, whose name says it all."""


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
    """Of these, the ones that the optimum may lie at: see `blueberry.stats.unresolved.candidates`."""
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

    def arm(self, index: int) -> ArmRuns:
        return self.evidence.arms[index]

    @cached_property
    def design(self) -> tuple[list[str], np.ndarray]:
        """Names of the changes that arms combine and, one row an arm, -1 where one is off and +1 where it is on; no
        name where no arm holds two."""
        factors = [arm.factors for arm in self.evidence.arms]
        if max((len(one) for one in factors), default=0) < LEAST_COMBINED:
            return _of_two_values(self.evidence.vary, [arm.settings for arm in self.evidence.arms])
        names = list(dict.fromkeys(name for one in factors for name in one))
        return names, np.array([[1 if name in one else -1 for name in names] for one in factors])

    @cached_property
    def single_runs(self) -> SingleRuns | None:
        """The effects of a factorial whose arms were run once or twice each; None where it is none. Each arm's mean
        stands for it: all on the same seeds, or all on others, so that a seed is no factor's twin."""
        names, signs_KF = self.design
        there_KN = ~np.isnan(self.values_KN)
        counts_K = there_KN.sum(axis=1)
        if not names or self.race is not None or not is_regular(signs_KF) or np.isinf(self.values_KN).any():
            return None
        if len(set(counts_K.tolist())) > 1 or not 0 < counts_K[0] < LEAST_BLOCKS:
            return None
        if not there_KN.all() and there_KN.sum(axis=0).max() > 1:
            return None
        return single_run_effects(signs_KF, np.nanmean(self.values_KN, axis=1), alpha=self.evidence.alpha)


def _of_two_values(vary: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> tuple[list[str], np.ndarray]:
    """The design of settings that have two values each, in every combination or a regular fraction; else no name.

    The larger number, and what is not off, is on; of two texts the second.
    """
    nothing: tuple[list[str], np.ndarray] = [], np.empty((0, 0))
    names, columns = [], []
    for name in vary if len(vary) >= LEAST_COMBINED else ():
        values: list[Any] = [one.get(name) for one in settings]
        levels = list(dict.fromkeys(values))
        if len(levels) != 2 or None in levels:
            return nothing
        if all(map(is_number, levels)):
            levels.sort(key=float)
        elif _is_off(levels[1]):
            levels.reverse()
        is_switch, each = _is_off(levels[0]) and str(levels[1]).lower() in ON, words.setting_name(name)
        names.append(each if is_switch else f"{each} {' to '.join(map(words.setting_value, levels))}")
        columns.append([1 if value == levels[1] else -1 for value in values])
    if not columns or len(settings) < 2**LEAST_COMBINED:
        return nothing
    signs_KF = np.array(columns).T
    return (names, signs_KF) if is_regular(signs_KF) else nothing


def _is_off(level: Any) -> bool:
    return str(level).lower() in OFF


def measure(evidence: Evidence) -> Measured:
    """Turn the metric if more of it is better, order the arms along the axis, if there is one, and take the numbers."""
    evidence = lower_is_better(evidence)
    axis = axis_of(evidence.vary, [arm.settings for arm in evidence.arms], evidence.scale)
    alone = axis is not None and len(evidence.vary) == 1 and len(axis.values) == len(evidence.arms)
    sweep = axis if alone else None
    if sweep is not None:
        by_value = sorted(evidence.arms, key=lambda arm: float(arm.settings[sweep.setting]))
        evidence = replace(evidence, arms=tuple(by_value))
    seeds = tuple(sorted({seed for arm in evidence.arms for seed in arm.search}))
    values_KN = np.array([[arm.search.get(seed, math.nan) for seed in seeds] for arm in evidence.arms], dtype=float)
    values_KN = values_KN.reshape(len(evidence.arms), len(seeds))
    race = _follow(evidence, values_KN)
    seen_KN = race.tables[-1] if race and race.tables else values_KN
    measured = Measured(
        evidence=evidence,
        seeds=seeds,
        values_KN=values_KN,
        noise=measure_noise(values_KN, evidence.borrowed),
        rulings=(race and race.rulings) or _rulings(evidence, values_KN),
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
    kept = [row for row in measured.unresolved if row == measured.best or not measured.rulings.on_best[row].is_worse]
    near = candidates(seen_KN, kept, alpha=evidence.alpha / evidence.looks, borrowed=evidence.borrowed)
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
    arms = tuple(
        replace(
            arm,
            search={seed: 0.0 - value for seed, value in arm.search.items()},
            confirm={seed: 0.0 - value for seed, value in arm.confirm.items()},
            test={seed: 0.0 - value for seed, value in arm.test.items()},
            evaluations={
                seed: tuple((update, 0.0 - value) for update, value in points)
                for seed, points in arm.evaluations.items()
            },
        )
        for arm in evidence.arms
    )
    target = None if evidence.target is None else 0.0 - evidence.target
    return replace(evidence, arms=arms, target=target, guessing_loss=None, entropy=None)


def _follow(evidence: Evidence, values_KN: np.ndarray) -> Race | None:
    if not evidence.look_seeds:
        return None
    more = {"alpha": evidence.alpha, "min_effect": evidence.min_effect, "baseline": _baseline(evidence)}
    return follow(values_KN, looks=evidence.look_seeds, **more)


def _rulings(evidence: Evidence, values_KN: np.ndarray) -> Rulings:
    alpha = evidence.alpha / evidence.looks
    asked = {"baseline": _baseline(evidence), "borrowed": evidence.borrowed}
    return rule((values_KN,), alpha=alpha, min_effect=evidence.min_effect, **asked)


def _baseline(evidence: Evidence) -> int | None:
    return next((row for row, arm in enumerate(evidence.arms) if arm.name == BASELINE), None)


def summarise(measured: Measured) -> tuple[ArmSummary, ...]:
    """Each arm over the searching seeds."""
    return tuple(_summary(measured, index) for index in range(len(measured.evidence.arms)))


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


def detectable(measured: Measured) -> Detectable | None:
    """What as many seeds, or runs of each arm, as the arm has that has most can show of these arms; of a single arm,
    beside one more like it.

    With the degrees of freedom of the noise, as more seeds give more.
    """
    noise, evidence = measured.noise, measured.evidence
    most = max((len(arm.search) for arm in evidence.arms), default=0)
    typical = noise.typical
    if typical is None:
        return None
    found = smallest_shown(
        math.sqrt(typical.value),
        num_seeds=most,
        num_arms=max(len(evidence.arms), 2),
        has_baseline=_baseline(evidence) is not None,
        alpha=evidence.alpha / evidence.looks,
        df=Df(2.0) if len(evidence.arms) == 1 else Df.of(typical.df, most, is_borrowed=noise.borrowed is not None),
    )
    return None if found is None else Detectable(seeds=most, difference=found)


def smallest_shown(
    sd: float, *, num_seeds: int, num_arms: int, has_baseline: bool, alpha: float, df: Df | None = None
) -> float | None:
    """The true difference that so many seeds find with power .8, at the one-sided error of one claim among so many
    arms, before anything is known of the others: of each against the baseline if there is one, else of which is best.

    `sd` is that of a difference on one seed, or with one run a side; without its degrees of freedom, those of a
    complete table of equally noisy arms.
    """
    error = baseline_error(num_arms, alpha) if has_baseline else first_error(num_arms, alpha)
    return smallest_difference(num_seeds, sd, alpha=2 * error, df=df or Df(float(max(num_arms - 1, 1))))


def noise_of(measured: Measured) -> Noise:
    noise = measured.noise
    borrowed = noise.borrowed
    return Noise(
        sd=noise.sd,
        rho=noise.rho,
        paired_sd=noise.paired_sd,
        n=noise.n,
        prior_df=None if noise.sd is None else noise.prior_df,
        borrowed_sd=borrowed and borrowed.sd,
        borrowed_df=borrowed and borrowed.df,
        borrowed_from=borrowed and borrowed.source,
    )


def axis_values(evidence: Evidence, setting: str) -> list[float] | None:
    """The setting's value in each arm; None unless it is a number in every one."""
    return _numbers([arm.settings.get(setting) for arm in evidence.arms])


def axis_of(
    vary: Sequence[str], settings: Sequence[Mapping[str, Any]], scale: Literal["log", "linear"] | None = None
) -> Axis | None:
    """The axis of arms with these settings. `scale` is the declared one, None where none was."""
    values = _numbers([one.get(vary[0]) for one in settings]) if vary else None
    if values is None or len(set(values)) < 2:
        return None
    return Axis(setting=vary[0], values=tuple(sorted(set(values))), scale=_scale(vary[0], values, scale))


def _scale(
    setting: str, values: Sequence[float], declared: Literal["log", "linear"] | None
) -> Literal["log", "linear"]:
    if min(values) <= 0:
        return "linear"
    if declared is not None:
        return declared
    return "log" if words.is_rate(setting) or max(values) / min(values) >= LOG_FROM_RATIO else "linear"


def _numbers(values: Sequence[Any]) -> list[float] | None:
    """None unless every one is a finite number."""
    if not all(is_number(v) and abs(v) <= sys.float_info.max for v in values):
        return None
    return [float(v) for v in values]


def _optimum(axis: Axis, found: Located | OneSided | None, alpha: float) -> Optimum | Bound | None:
    if found is None:
        return None
    back = math.exp if axis.is_log else float
    if isinstance(found, Located):
        ends = (back(found.interval[0]), back(found.interval[1]))
        return Optimum(setting=axis.setting, estimate=back(found.estimate), interval=ends, level=1 - alpha)
    bound = min(axis.values, key=lambda value: abs(value - back(found.bound)))  # one of those that were tried, exactly
    return Bound(setting=axis.setting, bound=bound, side=found.side)


def _summary(measured: Measured, index: int) -> ArmSummary:
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
