"""Where along one axis the expected loss is least."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from blueberry.stats.noise import two_way_fit
from blueberry.stats.paired import t_quantile

LEAST_POINTS = 5
NEIGHBOURS = 2
GRID_POINTS = 201


@dataclass(frozen=True)
class Located:
    """In the coordinates that were given (the logarithm of a rate, say)."""

    estimate: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class OneSided:
    """The optimum lies on this side of `bound`: the range ends before the loss turns."""

    bound: float
    side: Literal["below", "above"]


@dataclass(frozen=True)
class _Points:
    """Arms near the optimum, seed effects removed; `variance_M` is that of each effect, from replicates."""

    x_M: np.ndarray
    effect_M: np.ndarray
    variance_M: np.ndarray
    critical: float
    """t quantile at the replicates' degrees of freedom."""


def locate_optimum(
    x_K: np.ndarray, values_KN: np.ndarray, unresolved: list[int], *, level: float
) -> Located | OneSided | None:
    """The interval of x that holds the least expected value.

    Three models are fitted to the unresolved rows and two neighbours on each side (at least five points): a
    quadratic, a cubic, and a valley of two half-parabolas that share their lowest point but not their curvature.
    Each gives a set of x: slopes not significantly different from 0, |f'(x)| <= t * se, for the polynomials; lowest
    points whose fit is not significantly worse than the best, for the valley. The interval is the hull of their
    union, within the bracket of the unresolved rows' nearest neighbours. Variance is the larger of replicates and
    lack of fit.
    The valley is there because polynomials alone miss the optimum of a valley with a kink: see docs/truth.md.
    One-sided when the unresolved rows or the interval reach one end of the range; None when they reach both, or when
    there are fewer than five finite points or no repeated seed.
    x must ascend. Shapes: (K,), (K, n): NaN missing, infinity diverged.
    Source: Fieller 1954 for the root of a linear form in estimated coefficients, here f'(x); profile likelihood.
    """
    assert (np.diff(x_K) > 0).all()
    if not unresolved:
        return None
    low, high = min(unresolved) - 1, max(unresolved) + 1
    if low < 0 or high >= len(x_K):
        return _at_the_edge(x_K, low, high)
    points = _points_near(x_K, values_KN, unresolved, level)
    if points is None:
        return None
    grid = np.linspace(x_K[low], x_K[high], GRID_POINTS)
    valley, best_fit = _valley_region(points, grid)
    possible = valley | _flat_region(points, grid, degree=2) | _flat_region(points, grid, degree=3)
    first, last = np.flatnonzero(possible)[[0, -1]]
    ends = (float(grid[max(first - 1, 0)]), float(grid[min(last + 1, GRID_POINTS - 1)]))  # the set ends between points
    if ends[0] <= x_K[0] or ends[1] >= x_K[-1]:
        return _at_the_edge(x_K, low if ends[0] > x_K[0] else -1, high if ends[1] < x_K[-1] else len(x_K))
    return Located(best_fit, ends)


def _at_the_edge(x_K: np.ndarray, low: int, high: int) -> OneSided | None:
    if low < 0 and high >= len(x_K):
        return None
    if low < 0:
        return OneSided(float(x_K[high]), "below")
    return OneSided(float(x_K[low]), "above")


def _points_near(x_K: np.ndarray, values_KN: np.ndarray, unresolved: list[int], level: float) -> _Points | None:
    """Rows around the unresolved ones that never diverged, widened until there are five."""
    finite = [row for row, values in enumerate(values_KN) if np.isfinite(values).any() and not np.isinf(values).any()]
    if len(finite) < LEAST_POINTS:
        return None
    first = max(finite.index(min(unresolved)) - NEIGHBOURS, 0)
    last = min(finite.index(max(unresolved)) + NEIGHBOURS, len(finite) - 1)
    while last - first + 1 < LEAST_POINTS:
        first, last = max(first - 1, 0), min(last + 1, len(finite) - 1)
    rows = finite[first : last + 1]
    fit = two_way_fit(values_KN[rows])
    if fit.df <= 0:
        return None
    variance_M = fit.residual / fit.df / np.isfinite(values_KN[rows]).sum(axis=1)
    variance_M = np.maximum(variance_M, 1e-24)  # equal values on every seed would divide by 0
    return _Points(x_K[rows], fit.arm_means - fit.arm_means.mean(), variance_M, t_quantile(fit.df, (1 - level) / 2))


def _flat_region(points: _Points, grid: np.ndarray, *, degree: int) -> np.ndarray:
    """Where on the grid the slope of a polynomial may be 0."""
    centre, scale = points.x_M.mean(), np.ptp(points.x_M) / 2
    u, u_grid = (points.x_M - centre) / scale, (grid - centre) / scale
    weight = 1 / np.sqrt(points.variance_M)
    design = (u[:, None] ** np.arange(degree + 1)) * weight[:, None]
    covariance = np.linalg.inv(design.T @ design)
    coefficients = covariance @ design.T @ (points.effect_M * weight)
    misfit = float(np.square(points.effect_M * weight - design @ coefficients).sum())
    inflation = max(1.0, misfit / (len(u) - degree - 1))
    powers = np.arange(1, degree + 1)
    slopes = powers * u_grid[:, None] ** (powers - 1)
    variance = inflation * np.einsum("gi,ij,gj->g", slopes, covariance[1:, 1:], slopes)
    return np.abs(slopes @ coefficients[1:]) <= points.critical * np.sqrt(variance)


def _valley_region(points: _Points, grid: np.ndarray) -> tuple[np.ndarray, float]:
    """Where on the grid the lowest point of two half-parabolas may be, and where it fits best."""
    misfit = _valley_misfits(points, grid)
    least = float(misfit.min())
    spare = len(points.x_M) - 4  # a floor, two curvatures and the lowest point
    inflation = max(1.0, least / spare)
    return misfit - least <= points.critical**2 * inflation, float(grid[misfit <= least * (1 + 1e-9) + 1e-12].mean())


def _valley_misfits(points: _Points, grid: np.ndarray) -> np.ndarray:
    """Weighted sums of squares of the best floor + curvature * (x - lowest)**2, one curvature each side, none below 0.

    The least over the curvatures that may be 0 is the non-negative least squares: of the models with the floor alone,
    one curvature and both, the best whose curvatures are not negative; two unknowns, so in closed form.
    Shapes: (G,) -> (G,).
    """
    weight_M = 1 / points.variance_M
    share_M = weight_M / weight_M.sum()
    y_M = points.effect_M - share_M @ points.effect_M  # the floor is fitted by centring everything
    distance_GM = points.x_M - grid[:, None]
    left_GM = np.where(distance_GM < 0, distance_GM**2, 0.0)
    right_GM = np.where(distance_GM > 0, distance_GM**2, 0.0)
    left_GM -= (left_GM @ share_M)[:, None]
    right_GM -= (right_GM @ share_M)[:, None]
    ll, rr, lr = (np.square(left_GM) @ weight_M, np.square(right_GM) @ weight_M, (left_GM * right_GM) @ weight_M)
    ly, ry = left_GM @ (weight_M * y_M), right_GM @ (weight_M * y_M)
    with np.errstate(divide="ignore", invalid="ignore"):  # a side without points has no curvature: not a number
        both = ll * rr - lr**2
        one_left, one_right = ly / ll, ry / rr
        both_left, both_right = (rr * ly - lr * ry) / both, (ll * ry - lr * ly) / both
        gain_G = np.zeros(len(grid))
        gain_G = np.where(one_left >= 0, np.fmax(gain_G, one_left * ly), gain_G)
        gain_G = np.where(one_right >= 0, np.fmax(gain_G, one_right * ry), gain_G)
        allowed_G = (both_left >= 0) & (both_right >= 0)
        gain_G = np.where(allowed_G, np.fmax(gain_G, both_left * ly + both_right * ry), gain_G)
    return np.maximum(np.square(y_M) @ weight_M - gain_G, 0.0)
