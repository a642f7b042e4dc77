"""Ablations and tables with combinations: what each change does, and what two do together beyond the sum of each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from blueberry.judge import words
from blueberry.judge.answers import Effect, Pooled, Stack
from blueberry.judge.evidence import Measured
from blueberry.judge.judgement import BASELINE, LEAST_BLOCKS, Judgement, Recommendation
from blueberry.records import is_number
from blueberry.stats import factorial
from blueberry.stats.factorial import SingleRuns, factorial_effects, is_regular, pair_effects, single_run_effects

MOST_NAMED = 6
"""Interactions that a sentence names."""
LEAST_COMBINED = 2
"""Changes in one arm, without which there is nothing beyond the comparisons with the baseline."""
OFF = frozenset(("off", "no", "false", "none", "without", "0", "0.0", "baseline", "default"))
ON = frozenset(("on", "yes", "true", "with", "1", "1.0"))
"""Words for a change that is made, whose name says it all."""


def find_effects(measured: Measured) -> tuple[Effect, ...]:
    """Empty unless some arm holds two changes, and while the noise is unknown: see `find_pooled` for single runs.

    Of a fraction that an arm was added to, the one its effects say is best, without that arm: it is there because of
    what they are.
    """
    names, signs_KF = design_of(measured)
    evidence = measured.evidence
    if not names:
        return ()
    if measured.can_judge:
        values_KN, more = measured.values_KN, {"alpha": evidence.alpha, "borrowed": evidence.borrowed}
        whole = next((num for num in (len(signs_KF), len(signs_KF) - 1) if is_regular(signs_KF[:num])), None)
        if whole is None:
            found = pair_effects(signs_KF, values_KN, **more)
        else:
            found = factorial_effects(signs_KF[:whole], values_KN[:whole], **more)
    else:
        single = single_runs(measured)
        found = single.effects if single else ()
    return tuple(
        Effect(
            changes=tuple(names[factor] for factor in effect.factors),
            difference=effect.pair.difference,
            interval=effect.interval,
            n=effect.pair.n,
            is_significant=effect.is_significant,
            is_tie=_is_tie(effect, evidence.alpha, evidence.min_effect),
            aliases=tuple("*".join(names[factor] for factor in other) for other in effect.aliases),
        )
        for effect in found
    )


def find_pooled(measured: Measured) -> Pooled | None:
    """What serves as noise where every arm of a factorial was run once or twice; None where runs are repeated, or too
    few interactions are left to tell of noise."""
    single = single_runs(measured)
    if measured.can_judge or single is None:
        return None
    names, _ = design_of(measured)
    named = ["*".join(names[factor] for factor in word) for word in single.interactions]
    far = single.stands_out
    stands_out = None if far is None else named[single.interactions.index(far)]
    return Pooled(interactions=tuple(named), df=single.df, sd=single.sd, stands_out=stands_out)


def design_of(measured: Measured) -> tuple[list[str], np.ndarray]:
    """Names of the changes that arms combine and, one row an arm, -1 where one is off and +1 where it is on; no name
    where no arm holds two."""
    factors = [arm.factors for arm in measured.evidence.arms]
    if max((len(one) for one in factors), default=0) < LEAST_COMBINED:
        return _of_two_values(measured.evidence.vary, [arm.settings for arm in measured.evidence.arms])
    names = list(dict.fromkeys(name for one in factors for name in one))
    return names, np.array([[1 if name in one else -1 for name in names] for one in factors])


def single_runs(measured: Measured) -> SingleRuns | None:
    """The effects of a factorial whose arms were run once or twice each; None where it is none. Each arm's mean stands
    for it: all on the same seeds, or all on others, so that a seed is no factor's twin."""
    (names, signs_KF), values_KN = design_of(measured), measured.values_KN
    there_KN = ~np.isnan(values_KN)
    counts_K = there_KN.sum(axis=1)
    if not names or measured.race is not None or not is_regular(signs_KF) or np.isinf(values_KN).any():
        return None
    if len(set(counts_K.tolist())) > 1 or not 0 < counts_K[0] < LEAST_BLOCKS:
        return None
    if not there_KN.all() and there_KN.sum(axis=0).max() > 1:
        return None
    return single_run_effects(signs_KF, np.nanmean(values_KN, axis=1), alpha=measured.evidence.alpha)


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


def _is_tie(effect: factorial.Effect, alpha: float, min_effect: float) -> bool:
    ends = effect.pair.interval(1 - 2 * alpha)
    return not effect.is_significant and ends is not None and -min_effect < ends[0] and ends[1] < min_effect


def find_stack(measured: Measured) -> Stack | None:
    """All changes at once against none, in one measurement, beside the sum of the single ones; None without these."""
    names, signs_KF = design_of(measured)
    if not names or not measured.can_judge:
        return None
    row_of = {tuple(np.flatnonzero(row > 0).tolist()): index for index, row in enumerate(signs_KF)}
    singles = [row_of.get((factor,)) for factor in range(len(names))]
    everything, nothing = row_of.get(tuple(range(len(names)))), row_of.get(())
    if everything is None or nothing is None or None in singles:
        return None
    level = 1 - measured.evidence.alpha
    together = measured.noise.difference(nothing, everything)
    weights_K = np.zeros(len(signs_KF))
    weights_K[[one for one in singles if one is not None]] = 1.0
    weights_K[nothing] = -len(names)
    summed = measured.noise.contrast(weights_K)
    interval, sum_interval = together.interval(level), summed.interval(level)
    if together.difference is None or summed.difference is None or interval is None or sum_interval is None:
        return None
    return Stack(
        arm=measured.arm(everything).name,
        difference=together.difference,
        interval=interval,
        n=together.n,
        sum_of_singles=summed.difference,
        sum_interval=sum_interval,
    )


def told_effects(judgement: Judgement) -> list[str]:
    """What combinations add to the comparisons: which changes act, which act on each other, and the whole stack."""
    metric, min_effect, said = judgement.metric, judgement.min_effect, []
    if judgement.blocks:
        return []
    for num_changes in (1, 2):
        tested = [effect for effect in judgement.effects if len(effect.changes) == num_changes]
        each = [
            f"{effect_name(one)} {words.difference(one.difference or 0.0, one.interval, metric, min_effect)}"
            for one in tested
            if one.is_significant
        ]
        tied = [effect_name(one) for one in tested if one.is_tie]
        noun = "main effect" if num_changes == 1 else "interaction"
        if tied:
            equal = "equals" if len(tied) == 1 else "each equal"
            each.append(f"{words.listing(tied, most=6)} {equal} 0 within {min_effect:g}{words.unit(metric)}")
        if each:
            said.append(f"Of {words.count(len(tested), noun)}, {words.listing(each, most=7)}.")
        elif tested:
            said.append(f"None of {words.count(len(tested), noun)} is told from 0.")
    stack = judgement.stack
    if stack is not None:
        together = words.difference(stack.difference, stack.interval, metric, min_effect)
        summed = words.difference(stack.sum_of_singles, stack.sum_interval, metric, min_effect)
        said.append(
            f"All changes together: {together}, measured on {words.count(stack.n, 'paired seed')}; "
            f"the single ones add up to {summed}."
        )
    return [*said, *told_pooled(judgement)]


def told_pooled(judgement: Judgement) -> list[str]:
    """The assumption that main effects of single runs rest on, in sentences; none where runs are repeated."""
    pooled = judgement.pooled
    if pooled is None:
        return []
    larger = pooled.df - len(pooled.interactions)
    what = [*pooled.interactions[:MOST_NAMED]]
    if rest := len(pooled.interactions) - len(what):
        what.append(f"{rest} more of two changes")
    if larger:
        what.append(f"{larger} of more changes")
    said = [
        f"No arm is repeated: this takes the interactions ({words.listing(what, most=MOST_NAMED + 2)}) as noise, "
        f"{words.number(pooled.sd, words.decimals(judgement.min_effect) + 1)}{words.unit(judgement.metric)} (sd) of a "
        f"run with {pooled.df} df; a real one among them widens the intervals."
    ]
    if pooled.stands_out is not None:
        said.append(f"{pooled.stands_out} is far larger than the rest of them, so it may be real: repeats would tell.")
    return said


def advised(judgement: Judgement) -> str | None:
    """What to change, by main effects; None where none is told from 0."""
    told = [one for one in judgement.effects if len(one.changes) == 1 and one.is_significant]
    helps = {effect_name(one): judgement.sign * (one.difference or 0.0) < 0 for one in told}
    take, leave = ([name for name, does in helps.items() if does is wanted] for wanted in (True, False))
    said = [
        f"{verb} {words.listing(names, most=6)}"
        for verb, names in (("change", take), ("do not change", leave))
        if names
    ]
    return words.sentence(f"{'; '.join(said)}.") if said else None


def helping(judgement: Judgement) -> tuple[str, ...] | None:
    """Of a fraction of all combinations, the changes whose main effects help: what it was run for, since most
    combinations were not run, and the best of those that were owes its place to chance as well.

    None where each change was run alone too, or an interaction is told from 0: then what was run together counts.
    """
    main = [effect for effect in judgement.effects if len(effect.changes) == 1]
    names = {arm.arm for arm in judgement.arms}
    known = {BASELINE, *(one.changes[0] for one in main)}
    if judgement.pooled is not None or not all(known.issuperset(name.split("+")) for name in names):
        return None  # single runs, or a table's own names for its arms
    paired = any(effect.is_significant for effect in judgement.effects if len(effect.changes) > 1)
    if paired or all(one.changes[0] in names for one in main) or any(one.interval is None for one in main):
        return None
    return tuple(one.changes[0] for one in main if one.is_significant and judgement.sign * (one.difference or 0.0) < 0)


def _settings_of(judgement: Judgement, changes: Sequence[str]) -> dict[str, Any]:
    """What these changes set, in whatever arms they stand."""
    settings: dict[str, Any] = {}
    for change in changes:
        holding = [arm.settings for arm in judgement.arms if change in arm.arm.split("+")]
        without = [arm.settings for arm in judgement.arms if change not in arm.arm.split("+")]
        for name, value in holding[0].items():
            if all(one.get(name) == value for one in holding) and all(one.get(name) != value for one in without):
                settings[name] = value
    return settings


def recommended_by_effects(judgement: Judgement) -> Recommendation | None:
    """Of a fraction: the changes that help and no other, though no arm may hold just these; None where `helping` is,
    or where the best arm holds just these, and its own runs speak for it."""
    changes, best = helping(judgement), judgement.best
    if changes is None or best is None or set(changes) == set(best.arm.split("+")):
        return None
    main = {effect.changes[0]: effect for effect in judgement.effects if len(effect.changes) == 1}
    settings = _settings_of(judgement, changes)
    if not changes:
        settings = dict(judgement.arm(BASELINE).settings)
        left = f"of {words.count(len(main), 'change')} none was shown to help, whatever else varied"
        return Recommendation(settings=settings, text=f"Keep the baseline: {left}.")
    metric, least = judgement.metric, judgement.min_effect
    each = [
        f"{name} {words.difference(main[name].difference or 0.0, main[name].interval, metric, least)}"
        for name in changes
    ]
    chosen = ", ".join(f"{name} = {words.setting_value(value)}" for name, value in settings.items())
    helps = f"{words.listing(each)}, averaged over the other changes"
    text = f"Use {chosen}: of {words.count(len(main), 'change')}, what helps is {helps}."
    if not any(set(arm.arm.split("+")) == set(changes) for arm in judgement.arms):
        text += " No arm had just these; a study of that one arm beside the baseline would measure it."
    return Recommendation(settings=settings, text=text)


def effect_name(effect: Effect) -> str:
    """e.g. "a with b (or c*d)"."""
    aliased = f" (or {', '.join(effect.aliases)})" if effect.aliases else ""
    return f"{' with '.join(effect.changes)}{aliased}"
