"""Ablations with combinations: what each change does, and what two do together beyond the sum of each."""

import numpy as np

from blueberry.judge import words
from blueberry.judge.answers import Effect, Stack
from blueberry.judge.judgement import Judgement
from blueberry.judge.measured import Measured
from blueberry.stats.factorial import factorial_effects, is_regular, pair_effects

LEAST_COMBINED = 2
"""Changes in one arm, without which there is nothing beyond the comparisons with the baseline."""


def find_effects(measured: Measured) -> tuple[Effect, ...]:
    """Empty unless some arm holds two changes, and while the noise is unknown."""
    names, signs_KF = _design(measured)
    if not names or not measured.can_judge:
        return ()
    estimate = factorial_effects if is_regular(signs_KF) else pair_effects
    found = estimate(signs_KF, measured.values_KN, alpha=measured.evidence.alpha)
    return tuple(
        Effect(
            changes=tuple(names[factor] for factor in effect.factors),
            difference=effect.pair.difference,
            interval=effect.interval,
            n=effect.pair.n,
            is_significant=effect.is_significant,
            aliases=tuple("*".join(names[factor] for factor in other) for other in effect.aliases),
        )
        for effect in found
    )


def find_stack(measured: Measured) -> Stack | None:
    """All changes at once against none, in one measurement, beside the sum of the single ones; None without these."""
    names, signs_KF = _design(measured)
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


def _design(measured: Measured) -> tuple[list[str], np.ndarray]:
    """Names of the changes and, one row an arm, -1 where a change is off and +1 where it is on."""
    factors = [arm.factors for arm in measured.evidence.arms]
    if max((len(one) for one in factors), default=0) < LEAST_COMBINED:
        return [], np.empty((0, 0))
    names = list(dict.fromkeys(name for one in factors for name in one))
    return names, np.array([[1 if name in one else -1 for name in names] for one in factors])


def told_effects(judgement: Judgement) -> list[str]:
    """What combinations add to the comparisons: which changes act, which act on each other, and the whole stack."""
    metric, effect, said = judgement.metric, judgement.min_effect, []
    if judgement.blocks:
        return []
    for num_changes in (1, 2):
        tested = [effect for effect in judgement.effects if len(effect.changes) == num_changes]
        found = [effect for effect in tested if effect.is_significant]
        each = [
            f"{effect_name(one)} {words.difference(one.difference or 0.0, one.interval, metric, effect)}"
            for one in found
        ]
        noun = "main effect" if num_changes == 1 else "interaction"
        if each:
            said.append(f"Of {words.count(len(tested), noun)}, {words.listing(each, most=6)}.")
        elif tested:
            said.append(f"None of {words.count(len(tested), noun)} is told from 0.")
    stack = judgement.stack
    if stack is not None:
        together = words.difference(stack.difference, stack.interval, metric, effect)
        summed = words.difference(stack.sum_of_singles, stack.sum_interval, metric, effect)
        said.append(
            f"All changes together: {together}, measured on {words.count(stack.n, 'paired seed')}; "
            f"the single ones add up to {summed}."
        )
    return said


def effect_name(effect: Effect) -> str:
    """e.g. "a with b (or c*d)"."""
    aliased = f" (or {', '.join(effect.aliases)})" if effect.aliases else ""
    return f"{' with '.join(effect.changes)}{aliased}"
