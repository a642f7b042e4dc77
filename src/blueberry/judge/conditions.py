"""[across]: one study under several conditions. Does the first one's answer hold under the others, and what moves?

Losses of different conditions are not compared: longer runs and larger models have lower ones, whatever else varies.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from blueberry.judge import words
from blueberry.judge.answers import Condition, HeldOut, Holds, Law
from blueberry.judge.doctor.findings import blocking_first
from blueberry.judge.evidence import Evidence
from blueberry.judge.judgement import (
    ArmSummary,
    Audit,
    Best,
    Judgement,
    Noise,
    Optimum,
    Part,
    Ranges,
    Recommendation,
    Verdict,
)
from blueberry.judge.measured import axis_of
from blueberry.judge.sentences import what_blocks, why_withheld, withholds_differences
from blueberry.stats.paired import t_quantile
from blueberry.stats.scaling import LEAST_POINTS, PowerLaw, fit_power_law


def carry(whole: Evidence, parts: Sequence[Part]) -> Judgement:
    """What the parts say together. `whole` has no arms: question, cost and what was found in the parts."""
    parts = _ascending(parts, whole.vary)
    conditions = tuple(_condition(parts[0].judgement, part) for part in parts)
    laws = _laws(whole, parts)
    audits = blocking_first(whole.audits)
    noises = [part.judgement.noise for part in parts]
    return Judgement(
        question=whole.question,
        metric=whole.metric,
        min_effect=whole.min_effect,
        alpha=whole.alpha,
        vary=whole.vary,
        axis=axis_of(whole.vary, [part.settings for part in parts]),
        arms=tuple(_summary(part, whole.alpha) for part in parts),
        noise=Noise(sd=None, rho=None, paired_sd=None, n=sum(noise.n for noise in noises)),
        best=None,
        unresolved=(),
        optimum=None,
        verdicts=(),
        ranges=Ranges(),
        audits=audits,
        recommendation=_recommend(parts, conditions, audits),
        cost=whole.cost,
        known=_known(parts, conditions, laws, audits),
        unknown=" ".join([_unknown(parts, conditions, audits), *_without_a_law(whole, parts)]),
        parts=tuple(parts),
        conditions=conditions,
        laws=laws,
    )


def _ascending(parts: Sequence[Part], across: Sequence[str]) -> list[Part]:
    """Along the one numeric setting of the conditions, if it is one; else in the order of the file."""
    sizes = [_size(part, across) for part in parts]
    if any(size is None for size in sizes):
        return list(parts)
    return sorted(parts, key=lambda part: _size(part, across) or 0.0)


def _size(part: Part, across: Sequence[str]) -> float | None:
    value = part.settings.get(across[0]) if len(across) == 1 else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _condition(first: Judgement, part: Part) -> Condition:
    judgement = part.judgement
    carried = first.best.arm if first.best else None
    kept = None if carried is None else _kept(judgement, carried)
    found = judgement.optimum
    return Condition(
        condition=part.name,
        settings=part.settings,
        best=judgement.best.arm if judgement.best else None,
        best_value=_axis_value(judgement),
        optimum=found.interval if isinstance(found, Optimum) else None,
        carried=carried,
        difference=kept.difference if kept else None,
        interval=kept.interval if kept else None,
        n=kept.n if kept else 0,
        holds=_holds(judgement, carried, kept),
    )


def _kept(judgement: Judgement, carried: str) -> Verdict | None:
    """The best arm here (a) against the one carried over (b)."""
    if judgement.best is None:
        return None
    if judgement.best.arm == carried:
        n = next(arm.n for arm in judgement.arms if arm.arm == carried)
        nothing = {"interval": None, "verdict": "tie", "winner": None, "more_seeds": None}
        return Verdict(a=carried, b=carried, difference=0.0, n=n, **nothing)
    return judgement.verdict(judgement.best.arm, carried)


def _holds(judgement: Judgement, carried: str | None, kept: Verdict | None) -> Holds | None:
    if kept is None or carried is None:
        return None
    if kept.a == kept.b:
        return "best"
    if kept.winner == kept.a or carried not in judgement.unresolved:
        return "worse"
    return "tie" if kept.verdict == "tie" else "open"


def _axis_value(judgement: Judgement) -> float | None:
    if judgement.best is None or len(judgement.vary) != 1:
        return None
    value = judgement.best.settings.get(judgement.vary[0])
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _summary(part: Part, alpha: float) -> ArmSummary:
    """A condition's own best arm, over the runs of its reported mean.

    Nothing separates conditions, because nothing compares them.
    """
    best = part.judgement.best
    return ArmSummary(
        arm=part.name,
        settings=part.settings,
        n=best.n if best else 0,
        mean=best.mean if best else None,
        sd=_sd(best, alpha) if best else None,
        interval=best.interval if best else None,
        status="unresolved" if best else "diverged",
    )


def _sd(best: Best, alpha: float) -> float | None:
    """Back from the t interval of the mean."""
    if best.interval is None:
        return None
    return (best.interval[1] - best.interval[0]) / 2 * math.sqrt(best.n) / t_quantile(best.n - 1, alpha / 2)


Points = list[tuple[str, float, float, float]]
"""Condition, x, y and the standard error of y."""


def _laws(whole: Evidence, parts: Sequence[Part]) -> tuple[Law, ...]:
    """Of the optimum, then of the metric, along the one numeric setting of the conditions."""
    if not _are_sizes(whole, parts):
        return ()
    level, by = 1 - whole.alpha, whole.vary[0]
    setting = next((p.judgement.optimum.setting for p in parts if isinstance(p.judgement.optimum, Optimum)), "")
    laws = [_law(setting, by, _optima(whole, parts), level), _law(whole.metric, by, _losses(whole, parts), level)]
    return tuple(law for law in laws if law is not None)


def _optima(whole: Evidence, parts: Sequence[Part]) -> Points:
    """Of the conditions at which it was located. Its error is relative: the logarithms are fitted."""
    points, z = [], NormalDist().inv_cdf(1 - whole.alpha / 2)
    for part in parts:
        found = part.judgement.optimum
        if isinstance(found, Optimum) and found.interval[0] > 0:
            relative = math.log(found.interval[1] / found.interval[0]) / (2 * z)
            points.append((part.name, _size(part, whole.vary) or 0.0, found.estimate, relative * found.estimate))
    return points


def _losses(whole: Evidence, parts: Sequence[Part]) -> Points:
    """Each condition's own best."""
    points, z = [], NormalDist().inv_cdf(1 - whole.alpha / 2)
    for part in parts:
        best = part.judgement.best
        if best is not None and best.interval is not None and best.mean > 0 and best.interval[1] > best.interval[0]:
            error = (best.interval[1] - best.interval[0]) / (2 * z)
            points.append((part.name, _size(part, whole.vary) or 0.0, best.mean, error))
    return points


def _are_sizes(whole: Evidence, parts: Sequence[Part]) -> bool:
    """Whether the conditions differ in one positive number, so that there may be a law."""
    return all((_size(part, whole.vary) or 0.0) > 0 for part in parts)


def _law(of: str, by: str, points: Points, level: float) -> Law | None:
    fitted = _fit(points, level)
    if fitted is None:
        return None
    return Law(
        of=of,
        by=by,
        exponent=fitted.exponent,
        interval=fitted.exponent_interval,
        factor=fitted.factor,
        level=level,
        n=len(points),
        held_out=_held_out(points, level),
    )


def _fit(points: Points, level: float) -> PowerLaw | None:
    x_M, y_M, sd_M = (np.array([point[i] for point in points]) for i in (1, 2, 3))
    return fit_power_law(x_M, y_M, sd_M, level=level) if len(points) >= LEAST_POINTS else None


def _held_out(points: Points, level: float) -> HeldOut | None:
    fitted = _fit(points[:-1], level)
    if fitted is None:
        return None
    name, x, y, sd = points[-1]
    predicted, interval = fitted.predict(x, sd=sd)
    return HeldOut(
        condition=name,
        predicted=predicted,
        interval=interval,
        measured=y,
        holds=interval[0] <= y <= interval[1],
    )


def _recommend(parts: Sequence[Part], conditions: Sequence[Condition], audits: Sequence[Audit]) -> Recommendation:
    if (reason := why_withheld(audits)) is not None:
        return Recommendation(withheld=reason)
    known = [condition for condition in conditions if condition.best is not None]
    if len(known) < len(conditions):
        return Recommendation(withheld="a condition has no arm with a finite result")
    if all(condition.holds in ("best", "tie") for condition in conditions):
        best = parts[0].judgement.best
        assert best is not None
        text = f"Use {_label(parts[0].judgement)} under every one of these.{_not_alone(parts)}"
        return Recommendation(settings=best.settings, text=text)
    each = words.listing([f"{_label(part.judgement)} at {part.name}" for part in parts], most=8)
    return Recommendation(text=f"Take each condition's own best: {each}.{_not_alone(parts)}")


def _not_alone(parts: Sequence[Part]) -> str:
    """Where others may be the best as well, in a sentence; empty where none may."""
    names = [part.name for part in parts if len(part.judgement.unresolved) > 1]
    return f" At {words.listing(names)} others are not separated from the best by these runs." if names else ""


def _known(parts: Sequence[Part], conditions: Sequence[Condition], laws: Sequence[Law], audits: Sequence[Audit]) -> str:
    first, label = conditions[0], _label(parts[0].judgement)
    if _axis_value(parts[0].judgement) is not None:  # else it is an arm's name, which keeps its case
        label = f"{label[:1].upper()}{label[1:]}"
    if first.best is None:
        return f"No arm has a finite result at {first.condition}."
    if withholds_differences(audits):
        return (
            f"{label} has the least mean at {first.condition}; whether it is better, there or elsewhere, is withheld."
        )
    groups = {
        "has the least mean": [c.condition for c in conditions[1:] if c.holds == "best"],
        "equals the best": [c.condition for c in conditions[1:] if c.holds == "tie"],
        "is not told apart from the best": [c.condition for c in conditions[1:] if c.holds == "open"],
    }
    said = [f"{what} at {words.listing(names)}" for what, names in groups.items() if names]
    said += [_worse(parts[i], c) for i, c in enumerate(conditions) if c.holds == "worse"]
    known = f"{label}, of least mean at {first.condition}, {words.listing(said, most=8)}."
    moving = next((law for law in laws if law.of in parts[0].judgement.vary), None)
    return f"{known} {_law_sentence(moving)}" if moving else known


def _worse(part: Part, condition: Condition) -> str:
    metric = part.judgement.metric
    if condition.difference is None or math.isinf(condition.difference):
        return f"fails at {condition.condition}"
    number = words.difference(condition.difference, condition.interval, metric)
    return f"is worse than {_label(part.judgement)} at {condition.condition} ({number}, n = {condition.n})"


def _law_sentence(law: Law) -> str:
    low, high = law.interval
    name = law.of.rpartition(".")[2].replace("_", " ")
    by = law.by.rpartition(".")[2].replace("_", " ")
    said = f"The best {name} goes as {by} to the power {law.exponent:.2f} [{low:.2f}, {high:.2f}], {law.n} conditions"
    held = law.held_out
    if held is None:
        return f"{said}; too few to check the law on one held out."
    predicted = f"{held.predicted:.3g} [{held.interval[0]:.3g}, {held.interval[1]:.3g}]"
    verb = "holds" if held.holds else "does not hold"
    return f"{said}; at {held.condition}, held out, it predicts {predicted}, measured {held.measured:.3g}: it {verb}."


def _unknown(parts: Sequence[Part], conditions: Sequence[Condition], audits: Sequence[Audit]) -> str:
    if said := what_blocks(audits):
        return f"How the answer carries over: {said}"
    open_ = [condition.condition for condition in conditions if condition.holds == "open"]
    if open_:
        return f"Whether it is as good as the best at {words.listing(open_)}; more seeds would show it."
    return f"What is best beyond {parts[-1].name}: nothing was measured there."


def _without_a_law(whole: Evidence, parts: Sequence[Part]) -> list[str]:
    """Why there is no law of the optimum, in a sentence; none where there is one, or there can be none."""
    axes = {part.judgement.vary for part in parts if _axis_value(part.judgement) is not None}
    if len(axes) != 1 or not _are_sizes(whole, parts):
        return []
    located = len(_optima(whole, parts))
    if located >= LEAST_POINTS:
        return []
    what, by = (name.rpartition(".")[2].replace("_", " ") for name in (axes.pop()[0], whole.vary[0]))
    where = f"under {located} of {len(parts)} conditions"
    return [f"How the best {what} moves with {by}: it was located {where}, and a law needs {LEAST_POINTS}."]


def _label(judgement: Judgement) -> str:
    value = _axis_value(judgement)
    best = judgement.best
    if value is not None:
        last = judgement.vary[0].rpartition(".")[2].replace("_", " ")
        return f"{last} {words.setting_value(value)}"
    return best.arm if best else "nothing"
