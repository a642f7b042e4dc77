"""Effects and interactions of designs whose factors are each off or on."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from blueberry.stats.decide import holm_levels
from blueberry.stats.noise import measure_noise
from blueberry.stats.paired import Difference

MOST_ALIASED = 3
"""Aliases are named up to interactions of this many factors; larger ones are taken to be small."""

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
    p_value: float | None
    is_significant: bool
    """By Holm's method over all effects of the design."""


def is_regular(signs_KF: np.ndarray) -> bool:
    """Whether any two of its main effects and two-factor interactions are either independent or the same.

    So it is for full factorials and their regular fractions, with equally many runs at every level.
    Shapes: (K, F), each entry -1 (off) or +1 (on).
    """
    columns = [_column(signs_KF, factors) for factors in _words(signs_KF.shape[1], 2)]
    num_arms = len(signs_KF)
    balanced = all(column.sum() == 0 for column in columns[: signs_KF.shape[1]])
    return balanced and all(abs(int(a @ b)) in (0, num_arms) for a, b in combinations(columns, 2))


def factorial_effects(signs_KF: np.ndarray, values_KN: np.ndarray, *, alpha: float) -> tuple[Effect, ...]:
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
    return _tested(chosen, weights, [aliases(signs_KF, factors) for factors in chosen], values_KN, alpha)


def pair_effects(signs_KF: np.ndarray, values_KN: np.ndarray, *, alpha: float) -> tuple[Effect, ...]:
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
    return _tested(chosen, weights, [() for _ in chosen], values_KN, alpha)


def aliases(signs_KF: np.ndarray, factors: Factors) -> tuple[Factors, ...]:
    """The other effects, of three factors at most, whose column of signs is this one's or its opposite."""
    column = _column(signs_KF, factors)
    words = _words(signs_KF.shape[1], MOST_ALIASED)
    return tuple(other for other in words if other != factors and _same(column, _column(signs_KF, other)))


def _tested(
    chosen: list[Factors],
    weights: list[np.ndarray],
    aliased: list[tuple[Factors, ...]],
    values_KN: np.ndarray,
    alpha: float,
) -> tuple[Effect, ...]:
    noise = measure_noise(values_KN)
    pairs = [noise.contrast(weight_K) for weight_K in weights]
    p_values = [pair.p_value() for pair in pairs]
    levels = iter(holm_levels([p for p in p_values if p is not None], alpha))
    effects = []
    for factors, others, pair, p in zip(chosen, aliased, pairs, p_values, strict=True):
        level = alpha if p is None else next(levels)
        effects.append(Effect(factors, others, pair, pair.interval(1 - level), p, p is not None and p <= level))
    return tuple(effects)


def _words(num_factors: int, most: int) -> list[Factors]:
    return [word for size in range(1, most + 1) for word in combinations(range(num_factors), size)]


def _column(signs_KF: np.ndarray, factors: Factors) -> np.ndarray:
    return np.asarray(signs_KF)[:, list(factors)].prod(axis=1)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return abs(int(a @ b)) == len(a)
