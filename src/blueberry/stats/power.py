"""How many seeds a question needs, and how small a difference some seeds can see."""

from collections.abc import Callable
from math import isnan, sqrt

from blueberry.stats.paired import t_quantile

POWER = 0.8
MOST_SEEDS = 10_000
"""Beyond this no number of seeds is given: nobody will run them, and the normal model is not good to so many digits."""


def power_of_winner(n: int, difference: float, sd: float, *, alpha: float, df_per_seed: float = 1.0) -> float:
    """Probability that the two-sided t interval at level 1 - alpha excludes 0 on the right side.

    `difference` and `sd` are those of paired differences; df = (n - 1) * df_per_seed.
    Source: noncentral t with noncentrality difference * sqrt(n) / sd.
    """
    df = (n - 1) * df_per_seed
    if sd == 0:
        return 1.0 if difference else alpha / 2
    return _exceeds(df, abs(difference) * sqrt(n) / sd, t_quantile(df, alpha / 2))


def power_of_tie(
    n: int, difference: float, sd: float, *, alpha: float, min_effect: float, df_per_seed: float = 1.0
) -> float:
    """Probability that the interval at level 1 - 2 * alpha lies within -+min_effect.

    Source: two one-sided tests (Schuirmann 1987), by noncentral t (Phillips 1990's first approximation, which
    takes the sd to be the same in both tests: exact in the limit, slightly low at few seeds).
    """
    df = (n - 1) * df_per_seed
    if sd == 0:
        return 1.0 if abs(difference) < min_effect else 0.0
    critical, scale = t_quantile(df, alpha), sqrt(n) / sd
    above_lower = _exceeds(df, (min_effect + abs(difference)) * scale, critical)
    above_upper = _exceeds(df, (min_effect - abs(difference)) * scale, critical)
    return max(above_lower + above_upper - 1, 0.0)


def seeds_for_winner(
    difference: float,
    sd: float,
    *,
    alpha: float,
    power: float = POWER,
    df_per_seed: float = 1.0,
    most: int = MOST_SEEDS,
) -> int | None:
    """Least n at which a true difference becomes a winner with this power; None above `most`, or for 0."""
    if difference == 0:
        return None
    return _least_seeds(lambda n: power_of_winner(n, difference, sd, alpha=alpha, df_per_seed=df_per_seed), power, most)


def seeds_for_tie(
    difference: float,
    sd: float,
    *,
    alpha: float,
    min_effect: float,
    power: float = POWER,
    df_per_seed: float = 1.0,
    most: int = MOST_SEEDS,
) -> int | None:
    """Least n at which a true difference within -+min_effect becomes a tie with this power; None above `most`."""
    if abs(difference) >= min_effect:
        return None
    return _least_seeds(
        lambda n: power_of_tie(n, difference, sd, alpha=alpha, min_effect=min_effect, df_per_seed=df_per_seed),
        power,
        most,
    )


def smallest_difference(
    n: int, sd: float, *, alpha: float, power: float = POWER, df_per_seed: float = 1.0
) -> float | None:
    """The true paired difference that n seeds find with this power; None below two seeds.

    Units: those of `sd`, the sd of one paired difference.
    """
    from scipy.optimize import brentq

    if n < 2:
        return None
    if sd == 0:
        return 0.0

    def shortfall(difference: float) -> float:
        return power_of_winner(n, difference, sd, alpha=alpha, df_per_seed=df_per_seed) - power

    largest = sd
    while shortfall(largest) < 0:
        largest *= 2
    return float(brentq(shortfall, 0.0, largest, xtol=1e-6 * sd))  # pyright: ignore[reportArgumentType]


def _exceeds(df: float, noncentrality: float, critical: float) -> float:
    """Probability that noncentral t exceeds a value."""
    from scipy.special import nctdtr

    below = float(nctdtr(df, noncentrality, critical))
    if isnan(below):  # scipy gives up where the probability is 0 or 1 to all digits
        return 1.0 if noncentrality > critical else 0.0
    return 1 - below


def _least_seeds(power_at: Callable[[int], float], power: float, most: int) -> int | None:
    """Bisection: power grows with n."""
    if most < 2 or power_at(most) < power:
        return None
    high = 2
    while power_at(high) < power:
        high = min(2 * high, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_at(middle) >= power else (middle, high)
    return max(high, 2)
