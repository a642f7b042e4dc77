"""Effects and interactions, read off runs of a design that is given, whose factors are each off or on."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

import numpy as np

from blueberry.stats.differences import Difference, holm_levels
from blueberry.stats.noise import Borrowed, measure_noise

MOST_ALIASED = 3
"""Aliases are named up to interactions of this many factors; larger ones are taken to be small."""
LEAST_POOLED = 3
"""Interactions that may serve as noise: by fewer, effects of five standard errors are found in 15 to 30% of cases."""

Factors = tuple[int, ...]
"""One for a main effect, two for their interaction, by column of the sign matrix."""


@dataclass(frozen=True)
class Effect:
    """What switching one factor on does, or what two do together beyond the sum of what each does."""

    factors: Factors
    aliases: tuple[Factors, ...]
    """Effects that these arms cannot tell from this one: the estimate is of their sum, signs aside."""
    pair: Difference
    """`difference` is the estimate, over the seeds on which every arm of the contrast ended; None if one diverged."""
    interval: tuple[float, float] | None
    """At the level this effect was tested at."""
    is_significant: bool
    """Over all effects of the design: by Holm's method, or of single runs by Bonferroni's."""


def is_regular(signs_KF: np.ndarray) -> bool:
    """Whether any two of its main effects and two-factor interactions are either independent or the same.

    So it is for full factorials and their regular fractions, with equally many runs at every level.
    Shapes: (K, F), each entry -1 (off) or +1 (on).
    """
    columns = [_column(signs_KF, factors) for factors in _words(signs_KF.shape[1], 2)]
    num_arms = len(signs_KF)
    balanced = all(column.sum() == 0 for column in columns[: signs_KF.shape[1]])
    return balanced and all(abs(int(a @ b)) in (0, num_arms) for a, b in combinations(columns, 2))


def factorial_effects(
    signs_KF: np.ndarray, values_KN: np.ndarray, *, alpha: float, borrowed: Borrowed | None = None
) -> tuple[Effect, ...]:
    """Main effects and two-factor interactions of a full factorial or a regular fraction, by Holm at alpha together.

    A main effect is the mean with the factor on minus that with it off; an interaction is AB - A - B + 0. Both are
    averaged over the settings of the other factors, so every run serves every effect. Effects that the
    design cannot tell apart stand once, under the first of them, main effects before interactions.
    Noise as in `NoiseEstimate.contrast`.
    Shapes: (K, F) of -1 and +1, one row an arm; (K, n), NaN missing, infinity diverged. Units: those of the values.
    Source: Box, Hunter and Hunter 2005, ch. 5 and 6. Their interaction is half of AB - A - B + 0.
    """
    assert is_regular(signs_KF), "use pair_effects where runs are not balanced over the levels"
    num_arms, num_factors = signs_KF.shape
    chosen: list[Factors] = []
    for factors in _words(num_factors, 2):
        column = _column(signs_KF, factors)
        known = any(_same(column, _column(signs_KF, other)) for other in chosen)
        if not known and abs(column.sum()) != num_arms:  # a constant column is the mean, not an effect
            chosen.append(factors)
    weights = [2 * len(factors) * _column(signs_KF, factors) / num_arms for factors in chosen]
    return _tested(chosen, weights, [aliases(signs_KF, factors) for factors in chosen], values_KN, alpha, borrowed)


@dataclass(frozen=True)
class SingleRuns:
    """Main effects of a factorial whose arms were run once, with its interactions as noise."""

    effects: tuple[Effect, ...]
    interactions: tuple[Factors, ...]
    """Of two factors, those that are noise here; larger ones are too."""
    stands_out: Factors | None
    """The one of these that is so much larger than the rest that it is hardly noise; None where none is."""
    sd: float
    """Of one run."""
    df: int


def single_run_effects(signs_KF: np.ndarray, values_K: np.ndarray, *, alpha: float) -> SingleRuns | None:
    """Main effects of a full factorial or a regular fraction of single runs, all at alpha / F: their intervals hold at
    once at 1 - alpha.

    What the mean and main effects leave is taken as noise: K - 1 - F degrees of freedom. That is exact where factors
    do not interact. A real interaction can only widen the intervals: it is added to the noise and taken from no main
    effect, but for those it is aliased with. In simulation (at Holm's levels) one of five standard errors takes the
    power from .96 to .43 among 16 arms, and to nothing among 8. Lenth's pseudo standard error keeps .82 and .37 then;
    but it takes most effects to be 0, and where all changes act, as in ablations they may, it finds .76 and .37
    instead of .99 and .88, in half fractions none. None where fewer than LEAST_POOLED are left, or two main effects
    share a column.
    Shapes: (K, F) of -1 and +1, one row an arm; (K,), finite. Units: those of the values.
    Source: Box, Hunter and Hunter 2005, ch. 5; Lenth 1989; `stands_out` by Cochran 1941. Measured: docs/truth.md.
    """
    num_arms, num_factors = signs_KF.shape
    assert is_regular(signs_KF)
    mains = [(factor,) for factor in range(num_factors)]
    df = num_arms - 1 - num_factors
    if df < LEAST_POOLED or any(_same(signs_KF[:, a], signs_KF[:, b]) for a, b in combinations(range(num_factors), 2)):
        return None
    centred_K = values_K - values_K.mean()
    estimates_F = 2 * signs_KF.T @ centred_K / num_arms
    rest_K = centred_K - signs_KF @ estimates_F / 2
    total = float(rest_K @ rest_K)
    error = sqrt(total / df) * 2 / sqrt(num_arms)
    pairs = [Difference(float(estimate), error, 1, df) for estimate in estimates_F]
    level = alpha / num_factors
    found = [
        Effect(main, aliases(signs_KF, main), pair, pair.interval(1 - level), (pair.p_value() or 0.0) <= level)
        for main, pair in zip(mains, pairs, strict=True)
    ]
    inner: list[Factors] = []
    for word in combinations(range(num_factors), 2):
        column = _column(signs_KF, word)
        if not any(_same(column, _column(signs_KF, other)) for other in [*mains, *inner]):
            inner.append(word)
    sizes = {word: float(_column(signs_KF, word) @ rest_K) ** 2 / num_arms for word in inner}
    largest = max(inner, key=lambda word: sizes[word], default=None)
    is_far = largest is not None and total > 0 and df * _share_exceeded(sizes[largest] / total, df) <= alpha
    return SingleRuns(tuple(found), tuple(inner), largest if is_far else None, sqrt(total / df), df)


def _share_exceeded(share: float, df: int) -> float:
    """Probability that one of so many squares of equal normal errors is at least this share of their sum."""
    from scipy.special import betaincc

    return float(betaincc(0.5, (df - 1) / 2, min(share, 1.0)))


def pair_effects(
    signs_KF: np.ndarray, values_KN: np.ndarray, *, alpha: float, borrowed: Borrowed | None = None
) -> tuple[Effect, ...]:
    """A - 0 for every arm with one factor on, AB - A - B + 0 for every two, as far as the arms exist; Holm at alpha.

    For single changes and pairs, where the other factors are always off. Empty without an arm of all -1.
    Shapes and units: as in `factorial_effects`.
    """
    row_of = {tuple(np.flatnonzero(row > 0).tolist()): index for index, row in enumerate(signs_KF)}
    if () not in row_of:
        return ()
    chosen, weights = [], []
    for factors in _words(signs_KF.shape[1], 2):
        parts = {(): (-1.0) ** len(factors), factors: 1.0}
        if len(factors) == 2:
            parts |= {(factors[0],): -1.0, (factors[1],): -1.0}
        if parts.keys() <= row_of.keys():
            weight_K = np.zeros(len(signs_KF))
            for part, weight in parts.items():
                weight_K[row_of[part]] = weight
            chosen.append(factors)
            weights.append(weight_K)
    return _tested(chosen, weights, [() for _ in chosen], values_KN, alpha, borrowed)


def aliases(signs_KF: np.ndarray, factors: Factors) -> tuple[Factors, ...]:
    """The other effects, of three factors at most, whose column of signs is this one's or its opposite."""
    column = _column(signs_KF, factors)
    words = _words(signs_KF.shape[1], MOST_ALIASED)
    return tuple(other for other in words if other != factors and _same(column, _column(signs_KF, other)))


def factor_to_fold(effects: Sequence[Effect], *, least: float) -> int | None:
    """The factor whose reversal in every arm best tells apart what a fraction has mixed; None if nothing asks for it.

    Asked for by an interaction of two that is significant, as large as `least`, and the same as another interaction of
    two: nobody can say which of them it is. Arms with one factor reversed, beside those of the fraction, part every
    pair that holds the factor from those that do not.
    Source: Montgomery, Design and Analysis of Experiments, section 8.5 (single-factor fold-over).
    """
    mixed = [_pairs(one) for one in effects if _stands(one, 2) and abs(one.pair.difference or 0.0) >= least]
    groups = [group for group in mixed if len(group) > 1]
    parted = {
        factor: sum(num * (len(group) - num) for group in groups if (num := sum(factor in pair for pair in group)))
        for factor in sorted({factor for group in groups for pair in group for factor in pair})
    }
    return max(parted, key=lambda factor: parted[factor], default=None)


def best_combination(effects: Sequence[Effect], num_factors: int) -> Factors:
    """The factors to switch on for the least expected value, as far as significant effects tell; of equals the fewest.

    Interactions that are mixed with others of two do not count: which of them it is, is not known.
    """
    known = [one for one in effects if _stands(one, 1) or (_stands(one, 2) and len(_pairs(one)) == 1)]
    signs_CF = 2 * ((np.arange(2**num_factors)[:, None] >> np.arange(num_factors)) & 1) - 1
    expected_C = np.zeros(len(signs_CF))
    for one in known:
        expected_C += (one.pair.difference or 0.0) / (2 * len(one.factors)) * _column(signs_CF, one.factors)
    number_C = (signs_CF > 0).sum(axis=1)
    best = np.lexsort((number_C, expected_C.round(12)))[0]
    return tuple(np.flatnonzero(signs_CF[best] > 0).tolist())


def _stands(effect: Effect, num_factors: int) -> bool:
    return effect.is_significant and len(effect.factors) == num_factors


def _pairs(effect: Effect) -> tuple[Factors, ...]:
    return (effect.factors, *(other for other in effect.aliases if len(other) == 2))


def _tested(
    chosen: list[Factors],
    weights: list[np.ndarray],
    aliased: list[tuple[Factors, ...]],
    values_KN: np.ndarray,
    alpha: float,
    borrowed: Borrowed | None,
) -> tuple[Effect, ...]:
    noise = measure_noise(values_KN, borrowed)
    pairs = [noise.contrast(weight_K) for weight_K in weights]
    p_values = [pair.p_value() for pair in pairs]
    levels = iter(holm_levels([p for p in p_values if p is not None], alpha))
    effects = []
    for factors, others, pair, p in zip(chosen, aliased, pairs, p_values, strict=True):
        level = alpha if p is None else next(levels)
        effects.append(Effect(factors, others, pair, pair.interval(1 - level), p is not None and p <= level))
    return tuple(effects)


def _words(num_factors: int, most: int) -> list[Factors]:
    return [word for size in range(1, most + 1) for word in combinations(range(num_factors), size)]


def _column(signs_KF: np.ndarray, factors: Factors) -> np.ndarray:
    return np.asarray(signs_KF)[:, list(factors)].prod(axis=1)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return abs(int(a @ b)) == len(a)
