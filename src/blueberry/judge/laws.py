"""How the optimum and the metric move with the sizes of the conditions: power laws, checks, gains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from blueberry.architecture import flops_per_token
from blueberry.judge import words
from blueberry.judge.answers import Gain, HeldOut, Law, Power
from blueberry.judge.evidence import BASELINE, Evidence
from blueberry.judge.judgement import Judgement, Optimum, Part
from blueberry.recipe import LENGTHS, Recipe
from blueberry.records import is_number, is_usable_number
from blueberry.stats.scaling import LEAST_POINTS, PowerLaw, fit_power_law, loss_gain


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
    laws = [
        _law(setting, whole.vary, _optima(whole, parts), level),
        _law(whole.metric, whole.vary, _losses(whole, parts), level),
    ]
    return tuple(law for law in laws if law is not None)


def _optima(whole: Evidence, parts: Sequence[Part]) -> list[Point]:
    """Of the conditions at which it was located. Its error is relative: the logarithms are fitted.

    The interval is the hull of what several models allow, of which half over z is the standard error or more.
    """
    points, z = [], NormalDist().inv_cdf(1 - whole.alpha / 2)
    for part in parts:
        found = part.judgement.optimum
        if isinstance(found, Optimum) and found.interval[0] > 0:
            relative = math.log(found.interval[1] / found.interval[0]) / (2 * z)
            points.append(_point(whole, part, found.estimate, relative * found.estimate, math.inf))
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
    pooled = math.sqrt(sum((best.n - 1) * sd**2 for _, best, sd in bests) / max(df, 1))
    return [_point(whole, part, best.mean, pooled / math.sqrt(best.n), best.n - 1) for part, best, _ in bests]


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


def _fit(points: Sequence[Point], level: float) -> PowerLaw | None:
    if not points:
        return None
    x_MP, y_M = np.array([point.sizes for point in points]), np.array([point.y for point in points])
    errors = [point.error for point in points if point.error is not None]
    sd_M = np.array(errors) if len(errors) == len(points) else None
    return fit_power_law(x_MP, y_M, sd_M, df=float(sum(point.df for point in points)), level=level)


def _held_out(points: Sequence[Point], level: float) -> HeldOut | None:
    """The largest: of several sizes that of the greatest product."""
    largest = max(points, key=lambda point: (math.prod(point.sizes), point.sizes))
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
    return None if mean is None or mean == float("inf") else mean


def told_law(law: Law) -> str:
    """Of an optimum, in a sentence, with what it predicts for the condition that was held out."""
    name = words.setting_name(law.of)
    moves = [
        f"{words.setting_name(power.by)} to the power {power.exponent:.2f} "
        f"[{power.interval[0]:.2f}, {power.interval[1]:.2f}]"
        for power in law.powers
    ]
    said = f"The best {name} goes as {words.listing(moves)}, {law.n} conditions"
    held = law.held_out
    if held is None:
        return f"{said}; too few to check the law on one held out."
    low, high, predicted, seen = map(words.setting_value, (*held.interval, held.predicted, held.measured))
    verb = "holds" if held.holds else "does not hold"
    return (
        f"{said}; at {held.condition}, held out, it predicts {predicted} [{low}, {high}], measured {seen}: it {verb}."
    )


def told_without_a_law(judgement: Judgement) -> list[str]:
    """Why there is no law of the optimum, in a sentence; none where there is one, or there can be none."""
    swept, sizes = {part.judgement.vary for part in judgement.parts if part.judgement.sweep is not None}, judgement.vary
    are_sizes = all(
        is_number(part.settings.get(by)) and part.settings[by] > 0 for part in judgement.parts for by in sizes
    )
    if len(swept) != 1 or not are_sizes or len(judgement.parts) < 2:
        return []
    what, by = words.setting_name(swept.pop()[0]), words.listing([words.setting_name(name) for name in sizes])
    located = sum(
        isinstance(part.judgement.optimum, Optimum) and part.judgement.optimum.interval[0] > 0
        for part in judgement.parts
    )
    least = LEAST_POINTS - 1 + len(sizes)
    if located < least:
        where = f"under {located} of {len(judgement.parts)} conditions"
        return [f"How the best {what} moves with {by}: it was located {where}, and a law needs {least}."]
    if not judgement.laws:
        return [f"How the best {what} moves with {by}: these move together, so that no law can tell them apart."]
    return []
