"""A study across conditions: how its optimum and metric move with their sizes (power laws, checks, gains), whether the
first one's best holds under the others, and what is said of that. Conditions are not compared with one another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, isinf, log, nan, prod, sqrt
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from blueberry.architecture import flops_per_token
from blueberry.judge import words
from blueberry.judge.answers import Condition, Gain, HeldOut, Holds, Law, Power
from blueberry.judge.evidence import Evidence
from blueberry.judge.judgement import BASELINE, ArmSummary, Judgement, Optimum, Part, Recommendation, what_blocks
from blueberry.recipe import LENGTHS, Recipe
from blueberry.records import is_usable_number
from blueberry.stats.differences import t_quantile

LEAST_POINTS = 3
"""Two points lie on every power law of one size: they cannot show whether there is one."""
SAME_SIZE = 1e-6
"""Sizes that vary by less, in logarithm and beside one another, are one."""


@dataclass(frozen=True)
class Point:
    """What was measured under one condition."""

    condition: str
    sizes: tuple[float, ...]
    y: float
    error: float | None
    """Standard error of y; None where nothing says it."""
    df: float
    """Degrees of freedom of that."""


def sizes_of(settings: Mapping[str, Any], across: Sequence[str]) -> tuple[float, ...] | None:
    """A condition's sizes; None unless all of its settings are positive numbers."""
    values = [settings.get(name) for name in across]
    sizes = [float(value) for value in values if is_usable_number(value) and value > 0]
    return tuple(sizes) if len(sizes) == len(values) else None


def find_laws(whole: Evidence, parts: Sequence[Part]) -> tuple[Law, ...]:
    """Of the optimum, then of the metric, along the settings of the conditions, if all of them are sizes."""
    if any(sizes_of(part.settings, whole.vary) is None for part in parts):
        return ()
    level = 1 - whole.alpha
    setting = next((p.judgement.optimum.setting for p in parts if isinstance(p.judgement.optimum, Optimum)), "")
    measured = ((setting, _optima(whole, parts)), (whole.metric, _losses(whole, parts)))
    laws = [_law(of, whole.vary, points, level) for of, points in measured]
    return tuple(law for law in laws if law is not None)


def _optima(whole: Evidence, parts: Sequence[Part]) -> list[Point]:
    """Of the conditions at which it was located. Its error is relative: the logarithms are fitted.

    The interval is the hull of what several models allow, of which half over z is the standard error or more.
    """
    points, z = [], NormalDist().inv_cdf(1 - whole.alpha / 2)
    for part in parts:
        found = part.judgement.optimum
        if isinstance(found, Optimum) and found.interval[0] > 0:
            relative = log(found.interval[1] / found.interval[0]) / (2 * z)
            points.append(_point(whole, part, found.estimate, relative * found.estimate, inf))
    return points


def _losses(whole: Evidence, parts: Sequence[Part]) -> list[Point]:
    """Each condition's own best, with the standard error of its mean: of one noise, pooled over the conditions.

    Weighed each by its own noise of a few seeds, intervals of laws held in 86 to 95% of cases (docs/log.md). Where no
    best was repeated, it is the least of each condition's curve, or else the least value; nothing but the scatter
    about the law then says how far one is off.
    """
    found = [(part, part.judgement.best) for part in parts]
    bests = [(part, best, best.sd) for part, best in found if best is not None and best.sd and best.mean > 0]
    df = sum(best.n - 1 for _, best, _ in bests)
    if not bests:
        return [
            _point(whole, part, value, None, 0.0)
            for part, best in found
            if best is not None and (value := _least(part.judgement, best.mean)) > 0
        ]
    pooled = sqrt(sum((best.n - 1) * sd**2 for _, best, sd in bests) / max(df, 1))
    return [_point(whole, part, best.mean, pooled / sqrt(best.n), best.n - 1) for part, best, _ in bests]


def _least(judgement: Judgement, seen: float) -> float:
    found, valley = judgement.optimum, judgement.valley
    there = valley.at(found.estimate) if valley is not None and isinstance(found, Optimum) else None
    return seen if there is None else there.expected


def _point(whole: Evidence, part: Part, y: float, error: float | None, df: float) -> Point:
    return Point(part.name, sizes_of(part.settings, whole.vary) or (), y, error, df)


def _law(of: str, across: Sequence[str], points: Sequence[Point], level: float) -> Law | None:
    fitted = _fit(points, level)
    if fitted is None:
        return None
    powers = zip(across, fitted.exponents, fitted.exponent_intervals, strict=True)
    return Law(
        of=of,
        powers=tuple(Power(by=by, exponent=exponent, interval=ends) for by, exponent, ends in powers),
        factor=fitted.factor,
        level=level,
        n=len(points),
        held_out=_held_out(points, level),
    )


def _fit(points: Sequence[Point], level: float) -> "PowerLaw | None":
    if not points:
        return None
    x_MP, y_M = np.array([point.sizes for point in points]), np.array([point.y for point in points])
    errors = [point.error for point in points if point.error is not None]
    sd_M = np.array(errors) if len(errors) == len(points) else None
    return fit_power_law(x_MP, y_M, sd_M, df=float(sum(point.df for point in points)), level=level)


def _held_out(points: Sequence[Point], level: float) -> HeldOut | None:
    """The largest: of several sizes that of the greatest product."""
    largest = max(points, key=lambda point: (prod(point.sizes), point.sizes))
    fitted = _fit([point for point in points if point is not largest], level)
    if fitted is None:
        return None
    name, x, y, sd = largest.condition, largest.sizes, largest.y, largest.error
    if sd is None:
        sd = fitted.scatter * fitted.predict(x)[0]
    predicted, interval = fitted.predict(x, sd=sd)
    return HeldOut(
        condition=name, predicted=predicted, interval=interval, measured=y, holds=interval[0] <= y <= interval[1]
    )


def find_gains(whole: Evidence, parts: Sequence[Part], recipes: Mapping[tuple[str, str], Recipe]) -> tuple[Gain, ...]:
    """Of each arm at each length against the baseline's complete runs of all lengths. `recipes` by part and arm.

    Empty unless the conditions are lengths, there is a baseline and less of the metric is better: the middle of a
    longer schedule is no end of a shorter one, so one length says nothing of the compute that another loss needs.
    """
    if len(whole.vary) != 1 or whole.vary[0] not in LENGTHS or whole.goal == "maximize":
        return ()
    points = [(float(part.settings[whole.vary[0]]), _mean(part, BASELINE)) for part in parts]
    baseline = [(work, loss) for work, loss in points if loss is not None]
    if len(baseline) < 2:
        return ()
    gains = []
    for part in parts:
        for arm in part.judgement.arms:
            loss = _mean(part, arm.arm)
            if arm.arm == BASELINE or loss is None:
                continue
            found = loss_gain(baseline, (float(part.settings[whole.vary[0]]), loss))
            throughput, of_baseline = (1 / flops_per_token(recipes[part.name, name]) for name in (arm.arm, BASELINE))
            ratio = throughput / of_baseline
            factor = None if found.loss_gain is None else found.loss_gain * ratio
            more = {"throughput_gain": ratio, "factor": factor}
            gains.append(Gain(arm=arm.arm, condition=part.name, **found._asdict(), **more))
    return tuple(gains)


def _mean(part: Part, name: str) -> float | None:
    """Over the searching seeds; None where a run diverged or none ended."""
    mean = next((arm.mean for arm in part.judgement.arms if arm.arm == name), None)
    return None if mean is None or mean == inf else mean


# --- What the first condition's answer does under the others ---


def ascending(parts: Sequence[Part], across: Sequence[str]) -> list[Part]:
    """Along the settings of the conditions, the first one first, if all are numbers; else in the order of the file."""
    if not all(is_usable_number(part.settings.get(name)) for part in parts for name in across):
        return list(parts)
    return sorted(parts, key=lambda part: [float(part.settings[name]) for name in across])


def condition_of(first: Judgement, part: Part) -> Condition:
    judgement, carried = part.judgement, first.best.arm if first.best else None
    best, found = judgement.best, judgement.optimum
    difference, interval, n, holds = _carried_over(judgement, carried, first.best_value)
    return Condition(
        condition=part.name,
        settings=part.settings,
        best=best.arm if best else None,
        best_value=judgement.best_value,
        optimum=found.interval if isinstance(found, Optimum) else None,
        carried=carried,
        difference=difference,
        interval=interval,
        n=n,
        holds=holds,
    )


Carried = tuple[float | None, tuple[float, float] | None, int, Holds | None]
"""Difference to the best here, its interval, seeds, and whether it holds."""


def _carried_over(judgement: Judgement, carried: str | None, value: float | None) -> Carried:
    """What the first condition's best arm, at that value, does under this one."""
    if carried is None:
        return None, None, 0, None
    # of single runs a valley may say where the best lies though no arm is told from another
    is_read_off = judgement.valley is not None and isinstance(judgement.optimum, Optimum) and not judgement.can_judge
    if judgement.located is not None or is_read_off:
        return _read_off(judgement, carried, value)
    if judgement.best is not None and judgement.best.arm == carried:
        return 0.0, None, judgement.arm(carried).n, "best"
    verdict = judgement.against_best(carried)
    if verdict is None:
        return None, None, 0, None
    holds: Holds = "tie" if verdict.verdict == "tie" else "open"
    if verdict.winner == verdict.a or carried not in judgement.unresolved:
        holds = "worse"
    return verdict.difference, verdict.interval, verdict.n, holds


def _read_off(judgement: Judgement, carried: str, value: float | None) -> Carried:
    """Where the best was read off a valley, so is what another value costs: nothing need have been trained there."""
    best, valley = judgement.best, judgement.valley
    point = valley.at(value) if valley is not None and value is not None else None
    here = valley.at(judgement.best_value or nan) if valley is not None and best is not None else None
    holds: Holds | None = None
    if valley is not None and value is not None:
        is_inside = valley.interval[0] <= value <= valley.interval[1]
        is_tie = point is not None and point.excess <= judgement.min_effect
        holds = "best" if best and best.arm == carried else "tie" if is_tie else "open" if is_inside else "worse"
    difference = point.expected - here.expected if point is not None and here is not None else None
    return difference, None, judgement.located.seeds if judgement.located else 0, holds


def summary_of_condition(part: Part) -> ArmSummary:
    """A condition's own best arm, over the runs of its reported mean. Nothing compares conditions."""
    best = part.judgement.best
    return ArmSummary(
        arm=part.name,
        settings=part.settings,
        n=best.n if best else 0,
        mean=best.mean if best else None,
        sd=best.sd if best else None,
        interval=best.interval if best else None,
        status="unresolved" if best else "diverged",
    )


# --- In sentences ---


def known_across(judgement: Judgement) -> str:
    conditions, parts = judgement.conditions, judgement.parts
    first, label = conditions[0], _best_label(parts[0].judgement)
    if first.best_value is not None:  # else it is an arm's name, which keeps its case
        label = f"{label[:1].upper()}{label[1:]}"
    if first.best is None:
        return f"No arm has a finite result at {first.condition}."
    least = words.extreme(judgement.goal)
    if len(conditions) == 1:
        return f"At {first.condition}: {parts[0].judgement.known}"
    moving = next((law for law in judgement.laws if law.of in parts[0].judgement.vary), None)
    if judgement.withholds_differences or _has_single_runs(judgement):
        told = f"{label} has the {least} mean at {first.condition}; whether it is better, there or elsewhere, is "
        return f"{told}withheld. {told_law(moving)}" if moving else f"{told}withheld."
    groups = {
        f"has the {least} mean": [c.condition for c in conditions[1:] if c.holds == "best"],
        "equals the best": [c.condition for c in conditions[1:] if c.holds == "tie"],
        "is not told apart from the best": [c.condition for c in conditions[1:] if c.holds == "open"],
    }
    said = [f"{what} at {words.listing(names)}" for what, names in groups.items() if names]
    said += [_worse(part, one) for part, one in zip(parts, conditions, strict=True) if one.holds == "worse"]
    told = f"{label}, of {least} mean at {first.condition}, {words.listing(said, most=8)}."
    return " ".join([told, *_told_against_the_baseline(parts), *([told_law(moving)] if moving else [])])


def _told_against_the_baseline(parts: Sequence[Part]) -> list[str]:
    """What the changes of named arms do under each condition, where that was told; nothing where no arm is one."""
    said = []
    for part in parts:
        found = part.judgement
        for verdict in found.verdicts:
            if verdict.a == BASELINE and verdict.winner is not None and verdict.difference is not None:
                number = words.difference(verdict.difference, verdict.interval, found.metric, found.min_effect)
                side = "better" if verdict.winner == verdict.b else "worse"
                said.append(f"{verdict.b} is {side} than the baseline at {part.name} ({number}, n = {verdict.n})")
    return [words.sentence(words.listing(said), [part.name for part in parts])] if said else []


def _has_single_runs(judgement: Judgement) -> bool:
    """Whether arms of a condition are told apart by nothing, so that only laws are claimed."""
    return any(not part.judgement.can_judge and not part.judgement.is_located for part in judgement.parts)


def _worse(part: Part, condition: Condition) -> str:
    if condition.difference is None or isinf(condition.difference):
        return f"fails at {condition.condition}"
    found = part.judgement
    number = words.difference(condition.difference, condition.interval, found.metric, found.min_effect)
    of = "read off the fitted valley" if condition.interval is None else f"n = {condition.n}"
    return f"is worse at {condition.condition} than {_best_label(found)} is there ({number}, {of})"


def unknown_across(judgement: Judgement) -> str:
    open_ = [condition.condition for condition in judgement.conditions if condition.holds == "open"]
    if judgement.blocks:
        said = f"How the answer carries over: {what_blocks(judgement)}"
    elif _has_single_runs(judgement):
        said = "Which is best under a condition; three seeds of every arm would show it."
    elif open_:
        said = f"Whether it is as good as the best at {words.listing(open_)}; more seeds would show it."
    else:
        said = f"What is best beyond {judgement.parts[-1].name}: nothing was measured there."
    return " ".join([said, *told_without_a_law(judgement)])


def recommended_across(judgement: Judgement) -> Recommendation:
    conditions, parts = judgement.conditions, judgement.parts
    best = parts[0].judgement.best
    if best is None or any(condition.best is None for condition in conditions):
        return Recommendation(withheld="a condition has no arm with a finite result")
    if _has_single_runs(judgement):
        return Recommendation(withheld="under a condition no arm is told from another; laws are all that is shown")
    names = [part.name for part in parts if len(part.judgement.unresolved) > 1]
    others = f" At {words.listing(names)} others are not separated from the best by these runs." if names else ""
    if all(condition.holds in ("best", "tie") for condition in conditions):
        text = f"Use {_best_label(parts[0].judgement)} under every one of these.{others}"
        return Recommendation(settings=best.settings, text=text)
    each = words.listing([f"{_best_label(part.judgement)} at {part.name}" for part in parts], most=8)
    return Recommendation(text=f"Take each condition's own best: {each}.{others}")


def _best_label(judgement: Judgement) -> str:
    """e.g. "learning rate 0.03" where one numeric setting varies, else the name of the best arm."""
    best, value = judgement.best, judgement.best_value
    if value is not None:
        return f"{words.setting_name(judgement.vary[0])} {words.setting_value(value)}"
    return best.arm if best else "nothing"


def told_law(law: Law) -> str:
    """Of an optimum, in a sentence, with what it predicts for the condition that was held out."""
    name = words.setting_name(law.of)
    moves = [
        f"{words.setting_name(power.by)} to the power {power.exponent:.2f} {words.interval(power.interval, 2)}"
        for power in law.powers
    ]
    said = f"The best {name} goes as {words.listing(moves)}, {law.n} conditions"
    held = law.held_out
    if held is None:
        return f"{said}; too few to check the law on one held out."
    low, high, predicted, seen = map(words.setting_value, (*held.interval, held.predicted, held.measured))
    checked = f"measured {seen}: it {'holds' if held.holds else 'does not hold'}"
    return f"{said}; at {held.condition}, held out, it predicts {predicted} [{low}, {high}], {checked}."


def told_without_a_law(judgement: Judgement) -> list[str]:
    """Why there is no law of the optimum, in a sentence; none where there is one, or there can be none."""
    swept, sizes = {part.judgement.vary for part in judgement.parts if part.judgement.sweep is not None}, judgement.vary
    are_sizes = all(sizes_of(part.settings, sizes) is not None for part in judgement.parts)
    if len(swept) != 1 or not are_sizes or len(judgement.parts) < 2:
        return []
    what, by = words.setting_name(swept.pop()[0]), words.listing([words.setting_name(name) for name in sizes])
    optima = [part.judgement.optimum for part in judgement.parts]
    located = sum(isinstance(one, Optimum) and one.interval[0] > 0 for one in optima)
    least = LEAST_POINTS - 1 + len(sizes)
    if located < least:
        where = f"under {located} of {len(judgement.parts)} conditions"
        return [f"How the best {what} moves with {by}: it was located {where}, and a law needs {least}."]
    if not judgement.laws:
        return [f"How the best {what} moves with {by}: these move together, so that no law can tell them apart."]
    return []


# --- Power laws and gains, of numbers alone ---


@dataclass(frozen=True)
class PowerLaw:
    """A plane in the logarithms of all, a line for one size, with its uncertainty."""

    factor: float
    """The value where every size is 1, far outside the data perhaps."""
    exponents: tuple[float, ...]
    """One a size: of the others held where they are."""
    exponent_intervals: tuple[tuple[float, float], ...]
    scatter: float
    """Of one value around the law, relative: its sd where errors were not given, else 0."""
    _centre_P: np.ndarray
    """Mean of log x; there slopes and height are independent."""
    _height: float
    _height_se: float
    _covariance_PP: np.ndarray
    """Of the exponents."""
    _critical: float

    def predict(self, x: float | Sequence[float], *, sd: float = 0.0) -> tuple[float, tuple[float, float]]:
        """The value at x and its interval: of the curve, or of a new measurement with this sd at the same x.

        `sd` in units of y, small against y. The interval contains a value measured there at the level of the fit.
        """
        distance_P = np.log(np.atleast_1d(np.asarray(x, dtype=float))) - self._centre_P
        middle = self._height + float(np.asarray(self.exponents) @ distance_P)
        own = sd / exp(middle)
        se = sqrt(self._height_se**2 + float(distance_P @ self._covariance_PP @ distance_P) + own**2)
        half = self._critical * se
        return exp(middle), (exp(middle - half), exp(middle + half))


def fit_power_law(
    x_M: np.ndarray, y_M: np.ndarray, sd_M: np.ndarray | None = None, *, df: float = inf, level: float = 0.95
) -> PowerLaw | None:
    """Weighted least squares of log y on log x; None below LEAST_POINTS for one size, one more for each further one,
    or where sizes do not vary independently.

    `sd_M` are the standard errors of y, small against y (log y then has sd / y), and `df` their degrees of freedom.
    Errors are widened by the lack of fit where that is larger, never narrowed: sqrt(max(1, chi-squared / spare)), with
    as many degrees of freedom to spare as there are more points than coefficients. Without `sd_M` all points weigh the
    same, and the scatter around the law, with those degrees of freedom, is the error.
    Shapes: (M,) each, x of several sizes (M, P), positive. Units: exponents have none.
    Source: weighted linear regression (Draper and Smith 1998, ch. 9), with the Birge ratio for lack of fit. How often
    its intervals hold: docs/truth.md.
    """
    x_MP, y_M = np.asarray(x_M, dtype=float).reshape(len(y_M), -1), np.asarray(y_M, dtype=float)
    num_points, num_sizes = x_MP.shape
    if num_points < LEAST_POINTS - 1 + num_sizes:
        return None
    assert (x_MP > 0).all()
    assert (y_M > 0).all()
    u_MP, v_M = np.log(x_MP), np.log(y_M)
    weight_M = np.ones_like(v_M) if sd_M is None else np.square(y_M / np.asarray(sd_M, dtype=float))
    total = float(weight_M.sum())
    centre_P, height = weight_M @ u_MP / total, float(weight_M @ v_M) / total
    away_MP = u_MP - centre_P
    spread_PP = (away_MP * weight_M[:, None]).T @ away_MP
    if np.linalg.matrix_rank(away_MP, tol=SAME_SIZE * num_points) < num_sizes:
        return None
    covariance_PP = np.linalg.inv(spread_PP)
    exponents_P = covariance_PP @ ((away_MP * weight_M[:, None]).T @ (v_M - height))
    spare = num_points - 1 - num_sizes
    chi2 = float(weight_M @ np.square(v_M - height - away_MP @ exponents_P)) / spare
    inflation = chi2 if sd_M is None else max(1.0, chi2)
    critical = t_quantile(spare if sd_M is None else df, (1 - level) / 2)
    covariance_PP = covariance_PP * inflation
    half_P = critical * np.sqrt(np.diag(covariance_PP))
    ends = zip((exponents_P - half_P).tolist(), (exponents_P + half_P).tolist(), strict=True)
    return PowerLaw(
        factor=exp(height - float(exponents_P @ centre_P)),
        exponents=tuple(exponents_P.tolist()),
        exponent_intervals=tuple(ends),
        scatter=sqrt(chi2) if sd_M is None else 0.0,
        _centre_P=centre_P,
        _height=height,
        _height_se=sqrt(inflation / total),
        _covariance_PP=covariance_PP,
        _critical=critical,
    )


class LossGain(NamedTuple):
    """Above 1 favours the arm. Of three statements about one factor, exactly one is there."""

    loss_gain: float | None
    """Work (updates or tokens) that the baseline needs for the arm's loss, over the arm's work."""
    more_than: float | None = None
    """Instead where even the baseline's longest run stays above the arm's loss."""
    less_than: float | None = None
    """Instead where the baseline's shortest run is below it already."""


def loss_gain(baseline: Sequence[tuple[float, float]], arm: tuple[float, float]) -> LossGain:
    """Read off the baseline's curve the work that reaches the arm's loss.

    `baseline` are (work, final loss) of *complete* schedules of several lengths, `arm` one such point: the
    middle of a longer schedule is no end of a shorter one. Between two lengths log work is linear in
    the loss, and beyond them nothing is extrapolated. Where a longer run of the baseline ended higher than a shorter
    one, the shorter counts.
    """
    assert baseline
    curve: list[tuple[float, float]] = []
    for work, loss in sorted(baseline):
        if not curve or loss < curve[-1][1]:
            curve.append((work, loss))
    work, loss = arm
    if loss > curve[0][1]:
        return LossGain(None, less_than=curve[0][0] / work)
    if loss < curve[-1][1]:
        return LossGain(None, more_than=max(point[0] for point in baseline) / work)
    needed = curve[0][0]
    for (w0, l0), (w1, l1) in pairwise(curve):
        if l1 <= loss <= l0:
            needed = exp(log(w0) + (l0 - loss) / (l0 - l1) * (log(w1) - log(w0)))
            break
    return LossGain(needed / work)
