"""Where along one axis the expected loss is least: runs near the least value, read as one smooth valley."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from blueberry.stats.differences import TwoWayFit, t_quantile, two_way_fit

LEAST_POINTS = 5
"""Values of the axis that a valley is read from at least."""
NEIGHBOURS = 2
"""Values on each side of the least that a window has at first."""
GRID_POINTS = 81
REJECTED = 0.02
"""A model whose lack of fit is less likely than this is left out where another one fits."""
TURNS = 8.0
"""t statistic of the curvature above which a window is wide enough to show where the curve turns."""
STEEPEST = 8.0
"""How much steeper one side of a valley may be than the other; beyond, it is a cliff."""
IS_PARABOLA = 0.1
"""A window where more than a parabola is likelier than this by chance may be wider than where the curve turns."""
LEAST_DF = 3
"""Of the scatter about the curve, where that is all that is known of the noise."""
SMALLEST_VARIANCE = 1e-18
ROUNDING = 1e-9
"""Of a coordinate from -1 to 1: columns that add less to the ones before say nothing of their own."""

Model = Literal["quadratic", "cubic", "quartic", "two half-parabolas"]
DEGREES: dict[Model, tuple[int, int]] = {"quadratic": (2, 4), "cubic": (3, 5), "quartic": (4, 7)}
"""Degree of each polynomial, and the values of the axis it needs."""
GRID_G = np.linspace(-1.0, 1.0, GRID_POINTS)
POWERS_GP = GRID_G[:, None] ** np.arange(1, 5)
SLOPES_GP = np.arange(1, 5) * GRID_G[:, None] ** np.arange(4)
"""Of a window, its ends at -1 and 1: points, their powers, and the slopes of these."""
Reader = Callable[[int, int], "Valley | None"]
"""Reads the window between two rows, both in it."""


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
class Valley:
    """A reading of the runs in one window. `x` in the coordinates given, values in the metric's unit."""

    window: tuple[float, float]
    """The outermost values of the axis that it was read from."""
    centre: float
    """The value of the axis in its middle."""
    grid_G: np.ndarray
    """Ascending, from one end of the window to the other."""
    curve_G: np.ndarray
    """The best model there; its level is that of the runs, averaged over their seeds."""
    excess_G: np.ndarray
    """How much more than the least expected value each point may cost: an upper bound at level 1 - alpha."""
    interval: tuple[float, float]
    """Holds the least expected value at level 1 - alpha, if the curve is one smooth valley."""
    is_open: tuple[bool, bool]
    """Whether the interval reaches the window's lower and upper end, so that it may go on beyond."""
    fits: dict[Model, float]
    """How likely the lack of fit of each model is; 1 where nothing is repeated, so that nobody can tell."""
    models: tuple[Model, ...]
    """Those that were not rejected; all of them where every one was."""
    steepness: float
    """Of the two half-parabolas: the curvature of the steeper side over the other's; infinite where that is flat."""
    turns: float
    """t statistic of the curvature."""
    parabola: float
    """How likely it is that a cubic, a quartic or two half-parabolas fit so much better than a parabola, or that the
    repeats scatter so much less about their means, though the curve is one: the least of these chances."""
    sd: float
    """Of one run around the best model, what seeds share left out."""
    df: int

    @property
    def is_valley(self) -> bool:
        """Whether some model fits."""
        return max(self.fits.values()) >= REJECTED

    @property
    def is_cliff(self) -> bool:
        """Whether only a valley that is a wall on one side fits."""
        return self.is_valley and self.models == ("two half-parabolas",) and self.steepness > STEEPEST

    @property
    def estimate(self) -> float:
        """The point that costs least at worst: the lowest of the parabola through the three lowest of the grid."""
        at = int(np.argmin(self.excess_G))
        if at in (0, len(self.grid_G) - 1):
            return float(self.grid_G[at])
        before, here, after = self.excess_G[at - 1 : at + 2]
        bend = before - 2 * here + after
        shift = 0.5 * (before - after) / bend if bend > 0 else 0.0
        return float(self.grid_G[at] + shift * (self.grid_G[1] - self.grid_G[0]))

    def excess_at(self, x: float) -> float:
        """What x costs at worst over the least expected value; infinite outside the window."""
        if not self.window[0] <= x <= self.window[1]:
            return np.inf
        return float(np.interp(x, self.grid_G, self.excess_G))


def locate_optimum(x_K: np.ndarray, found: Valley | None, unresolved: list[int]) -> Located | OneSided | None:
    """The interval of x that holds the least expected value: that of a valley, within the bracket of the unresolved
    rows' nearest neighbours.

    One-sided when the unresolved rows or the interval reach one end of the range; None when they reach both, or where
    no valley could be read.
    """
    if not unresolved:
        return None
    low, high = min(unresolved) - 1, max(unresolved) + 1
    if low < 0 or high >= len(x_K):
        return _at_the_edge(x_K, low, high)
    if found is None:
        return None
    ends = (max(found.interval[0], float(x_K[low])), min(found.interval[1], float(x_K[high])))
    if not ends[0] < ends[1]:  # the runs and the curve disagree on where it is
        ends = (float(x_K[low]), float(x_K[high]))
    if ends[0] <= x_K[0] or ends[1] >= x_K[-1]:
        return _at_the_edge(x_K, low if ends[0] > x_K[0] else -1, high if ends[1] < x_K[-1] else len(x_K))
    return Located(float(np.clip(found.estimate, *ends)), ends)


def _at_the_edge(x_K: np.ndarray, low: int, high: int) -> OneSided | None:
    if low < 0 and high >= len(x_K):
        return None
    if low < 0:
        return OneSided(float(x_K[high]), "below")
    return OneSided(float(x_K[low]), "above")


def read_valley(x_K: np.ndarray, values_KN: np.ndarray, *, alpha: float) -> Valley | None:
    """Fit the values near the least as one smooth valley, and bound what each point of it costs.

    Four models are fitted to the runs, seeds taken out: a quadratic, a cubic, a quartic, and two half-parabolas that
    share their lowest point but not their curvature. Those that the repeats reject are left out, unless all are. Each
    says where the least value may be (slopes not significantly different from 0; lowest points whose fit is not
    significantly worse than the best) and how much more a point may cost than any other (a t bound of the difference
    of two fitted values: two-sided, because the same runs choose the point). The interval and the bound are the widest
    of them. The variance is that of all residuals, or of the lack of fit alone where that is larger.

    The window is two values on each side of the least. It grows while the curve does not clearly turn in it, too few
    runs are in it to say how they scatter, or the interval reaches its end, as long as some model fits; and further as
    long as nothing in it speaks for more than a parabola (`parabola`). Values with a diverged run are left out.
    None when fewer than five values without a diverged run are left, or nothing tells the curve from noise.
    x must ascend. Shapes: (K,), (K, n): NaN missing, infinity diverged. What it covers: docs/efficiency.md.
    Source: Fieller 1954 for the root of a linear form in estimated coefficients; Scheffé 1959 for seeds as blocks.
    """
    assert (np.diff(x_K) > 0).all()
    x_K, values_KN = np.asarray(x_K, dtype=float), np.asarray(values_KN, dtype=float)
    return _widened_until_clear(x_K.tobytes(), values_KN.tobytes(), values_KN.shape, alpha)


@lru_cache(maxsize=64)  # a search is followed from its start whenever it is planned anew
def _widened_until_clear(x: bytes, values: bytes, shape: tuple[int, int], alpha: float) -> Valley | None:
    x_K, values_KN = np.frombuffer(x), np.frombuffer(values).reshape(shape)
    rows = without_divergence(values_KN)
    if len(rows) < LEAST_POINTS:
        return None
    x_M, values_MN = x_K[rows], values_KN[rows]
    at = int(np.argmin(two_way_fit(values_MN).arm_means))
    read = lru_cache(lambda low, high: _read(x_M[low : high + 1], values_MN[low : high + 1], alpha))
    found, half = _centred(read, x_M, at, NEIGHBOURS), NEIGHBOURS
    while found is not None and half < len(rows):
        half += 1
        wider = _centred(read, x_M, int(np.searchsorted(x_M, found.centre)), half)
        if wider is None or wider.window == found.window or not wider.is_valley:
            break
        is_wide_enough = found.turns >= TURNS and not any(found.is_open) and found.df >= LEAST_DF
        if is_wide_enough and (wider.parabola < IS_PARABOLA or _length(wider) > _length(found)):
            break
        found = wider
    return found


def _length(valley: Valley) -> float:
    return valley.interval[1] - valley.interval[0]


def without_divergence(values_KN: np.ndarray) -> list[int]:
    """Rows with a value, none of them infinite."""
    return np.flatnonzero(np.isfinite(values_KN).any(axis=1) & ~np.isinf(values_KN).any(axis=1)).tolist()


def _centred(read: "Reader", x_M: np.ndarray, at: int, half: int) -> Valley | None:
    """The window of `half` values on each side, moved until its middle is the value nearest to the estimate."""
    found, tried = None, set[int]()
    while at not in tried:
        tried.add(at)
        low, high = max(at - half, 0), min(at + half, len(x_M) - 1)
        low, high = max(min(low, high - 2 * half), 0), min(max(high, low + 2 * half), len(x_M) - 1)
        found = read(low, high)
        if found is None:
            break
        found = replace(found, centre=float(x_M[at]))
        at = int(np.argmin(np.abs(x_M - found.estimate)))
    return found


def _read(x_M: np.ndarray, values_MN: np.ndarray, alpha: float) -> Valley | None:
    """One window."""
    rows, columns = np.nonzero(np.isfinite(values_MN))
    blocks, seeds = np.unique(columns, return_inverse=True)
    middle, scale = (x_M[0] + x_M[-1]) / 2, (x_M[-1] - x_M[0]) / 2
    u_R, is_seed_RS = (x_M[rows] - middle) / scale, seeds[:, None] == np.arange(len(blocks))
    y_R = _within_seeds(values_MN[rows, columns], is_seed_RS)
    df = len(y_R) - len(blocks)
    repeats = two_way_fit(values_MN)
    known = _polynomials(u_R, y_R, is_seed_RS, df, repeats, alpha)
    known += _half_parabolas(u_R, y_R, is_seed_RS, df, repeats, alpha)
    if not known:
        return None
    kept = [one for one in known if one.fit >= REJECTED] or known
    excess_G = np.max([one.excess_G for one in kept], axis=0)
    possible_G = np.any([one.possible_G for one in kept], axis=0)
    best = max(kept, key=lambda one: (one.fit, -len(one.model)))
    first, last = np.flatnonzero(possible_G)[[0, -1]]
    grid_G = middle + scale * GRID_G
    row_means_M = np.interp(x_M, grid_G, best.curve_G)
    return Valley(
        window=(float(x_M[0]), float(x_M[-1])),
        centre=float(middle),
        grid_G=grid_G,
        curve_G=best.curve_G + float(repeats.arm_means.mean()) - float(row_means_M.mean()),
        excess_G=excess_G,
        interval=(float(grid_G[max(first - 1, 0)]), float(grid_G[min(last + 1, GRID_POINTS - 1)])),
        is_open=(bool(first == 0), bool(last == GRID_POINTS - 1)),
        fits={one.model: one.fit for one in known},
        models=tuple(one.model for one in kept),
        steepness=next((one.steepness for one in known if one.steepness is not None), 1.0),
        turns=next((one.turns for one in known if one.turns is not None), 0.0),
        parabola=_no_more_than_a_parabola(known),
        sd=best.sd,
        df=best.df,
    )


def _no_more_than_a_parabola(fitted: Sequence["_Fitted"]) -> float:
    """F tests of the models that have more than a parabola has; 0 where there is none to compare with."""
    from scipy.special import fdtrc

    parabola, *others = fitted
    if parabola.model != "quadratic" or not others:
        return 0.0
    chances = [parabola.fit]
    for one in others:
        more = parabola.df - one.df
        gained = max(parabola.misfit - one.misfit, 0.0) / more
        chances.append(float(fdtrc(more, one.df, gained / max(one.misfit / one.df, SMALLEST_VARIANCE))))
    return min(chances)


@dataclass(frozen=True)
class _Fitted:
    model: Model
    curve_G: np.ndarray
    excess_G: np.ndarray
    possible_G: np.ndarray
    """Where the least value may be."""
    fit: float
    """How likely its lack of fit is."""
    misfit: float
    """Sum of the squares that it leaves."""
    sd: float
    df: int
    turns: float | None = None
    steepness: float | None = None


def _within_seeds(table: np.ndarray, is_seed_RS: np.ndarray) -> np.ndarray:
    """Each column less its mean over the runs of a seed. Shapes: (R,) or (R, P); (R, S), one run one seed."""
    by_seed_SR = is_seed_RS.T / is_seed_RS.sum(axis=0)[:, None]
    return table - is_seed_RS @ (by_seed_SR @ table)


def _variance(misfit: float, df: int, repeats: TwoWayFit) -> tuple[float, float]:
    """Of one run, and how likely the lack of fit is: an F test of it against the repeats."""
    variance, likely = misfit / df, 1.0
    spare = df - repeats.df
    if repeats.df > 0 and spare > 0:
        from scipy.special import fdtrc

        lack = max(misfit - repeats.residual, 0.0) / spare
        noise = max(repeats.residual / repeats.df, SMALLEST_VARIANCE)
        variance, likely = max(variance, lack), float(fdtrc(spare, repeats.df, lack / noise))
    return max(variance, SMALLEST_VARIANCE), likely


def _polynomials(
    u_R: np.ndarray, y_R: np.ndarray, is_seed_RS: np.ndarray, df: int, repeats: TwoWayFit, alpha: float
) -> list[_Fitted]:
    """Those that the values of the axis and the degrees of freedom allow, by one orthogonal basis: what a degree adds
    to the one before is one column more."""
    num_values = len(np.unique(u_R))
    models: list[Model] = [model for model, (degree, least) in DEGREES.items() if num_values >= least and df > degree]
    if not models:
        return []
    most = DEGREES[models[-1]][0]
    basis_RP, triangle_PP = np.linalg.qr(_within_seeds(u_R[:, None] ** np.arange(1, most + 1), is_seed_RS))
    steps_P = np.diag(triangle_PP)
    loads_P = basis_RP.T @ y_R
    found = []
    for model in models:
        degree = DEGREES[model][0]
        if np.abs(steps_P[:degree]).min() < ROUNDING:  # the runs of no seed tell its columns apart
            break
        loads, own_df = loads_P[:degree], df - degree
        misfit = float(np.square(y_R - basis_RP[:, :degree] @ loads).sum())
        variance, likely = _variance(misfit, own_df, repeats)
        to_values = np.linalg.inv(triangle_PP[:degree, :degree])
        points_GP, slopes_GP = (rows[:, :degree] @ to_values for rows in (POWERS_GP, SLOPES_GP))
        curve_G = points_GP @ loads
        shared_GG = points_GP @ points_GP.T
        own_G = np.diag(shared_GG)
        errors_GG = np.sqrt(np.maximum(own_G[:, None] + own_G - 2 * shared_GG, 0.0) * variance)
        gains_GG = curve_G[:, None] - curve_G
        two_sided, least = t_quantile(own_df, alpha / 2), int(np.argmin(curve_G))
        possible_G = np.abs(slopes_GP @ loads) <= two_sided * np.sqrt(np.square(slopes_GP).sum(axis=1) * variance)
        possible_G &= gains_GG[:, least] <= two_sided * errors_GG[:, least]
        possible_G[least] = True
        found.append(
            _Fitted(
                model=model,
                curve_G=curve_G,
                excess_G=(gains_GG + two_sided * errors_GG).max(axis=1),
                possible_G=possible_G,
                fit=likely,
                misfit=misfit,
                sd=float(np.sqrt(variance)),
                df=own_df,
                turns=float(loads[1] * np.sign(steps_P[1]) / np.sqrt(variance)) if degree == 2 else None,
            )
        )
    return found


def _half_parabolas(
    u_R: np.ndarray, y_R: np.ndarray, is_seed_RS: np.ndarray, df: int, repeats: TwoWayFit, alpha: float
) -> list[_Fitted]:
    """floor + curvature * (u - lowest)**2, one curvature each side, none below 0, for every lowest point of the grid.

    The least over the curvatures that may be 0 is the non-negative least squares: of the models with the floor alone,
    one curvature and both, the best whose curvatures are not negative; two unknowns, so in closed form.
    """
    df -= 3
    if df <= 0:
        return []
    distance_RG = u_R[:, None] - GRID_G
    left_RG = _within_seeds(np.minimum(distance_RG, 0.0) ** 2, is_seed_RS)
    right_RG = _within_seeds(np.maximum(distance_RG, 0.0) ** 2, is_seed_RS)
    ll, rr, lr = (
        np.einsum("rg,rg->g", a, b) for a, b in ((left_RG, left_RG), (right_RG, right_RG), (left_RG, right_RG))
    )
    ly, ry = y_R @ left_RG, y_R @ right_RG
    with np.errstate(divide="ignore", invalid="ignore"):  # a side without points has no curvature: not a number
        both = ll * rr - lr**2
        both_left, both_right = (rr * ly - lr * ry) / both, (ll * ry - lr * ly) / both
        one_left, one_right = np.nan_to_num(ly / ll, posinf=0, neginf=0), np.nan_to_num(ry / rr, posinf=0, neginf=0)
    gains = np.stack(
        [
            np.where((both_left >= 0) & (both_right >= 0), both_left * ly + both_right * ry, -1.0),
            np.where(one_left > 0, one_left * ly, -1.0),
            np.where(one_right > 0, one_right * ry, -1.0),
            np.zeros(GRID_POINTS),
        ]
    )
    chosen = gains.argmax(axis=0)
    left_G = np.choose(chosen, [both_left, one_left, 0 * ll, 0 * ll])
    right_G = np.choose(chosen, [both_right, 0 * rr, one_right, 0 * rr])
    misfit_G = np.maximum(float(y_R @ y_R) - gains.max(axis=0), 0.0)
    least = int(np.argmin(misfit_G))
    variance, likely = _variance(float(misfit_G[least]), df, repeats)
    worse_G = misfit_G - misfit_G[least]
    possible_G = worse_G <= t_quantile(df, alpha / 2) ** 2 * variance
    lowest = np.flatnonzero(_widened(possible_G))
    beyond_GL = GRID_G[:, None] - GRID_G[lowest]
    costs_GL = np.where(beyond_GL < 0, left_G[lowest], right_G[lowest]) * beyond_GL**2
    flat, steep = sorted((float(left_G[least]), float(right_G[least])))
    return [
        _Fitted(
            model="two half-parabolas",
            curve_G=costs_GL[:, int(np.searchsorted(lowest, least))],
            excess_G=costs_GL.max(axis=1),
            possible_G=possible_G,
            fit=likely,
            misfit=float(misfit_G[least]),
            sd=float(np.sqrt(variance)),
            df=df,
            steepness=steep / flat if flat > 0 else float("inf"),
        )
    ]


def _widened(possible_G: np.ndarray) -> np.ndarray:
    """With the neighbours of each point: the least value lies between points of the grid."""
    wider_G = possible_G.copy()
    wider_G[1:] |= possible_G[:-1]
    wider_G[:-1] |= possible_G[1:]
    return wider_G


def is_clear(x_K: np.ndarray, values_KN: np.ndarray, valley: Valley, *, alpha: float) -> bool:
    """Whether runs by themselves say that they are one valley, and where it ends on both sides."""
    is_known = valley.df >= LEAST_DF and valley.turns >= TURNS / 2 and not any(valley.is_open)
    return is_known and valley.is_valley and not has_second_valley(x_K, values_KN, valley, alpha=alpha)


def has_second_valley(x_K: np.ndarray, values_KN: np.ndarray, valley: Valley, *, alpha: float) -> bool:
    """Whether values fall again beyond a rise, significantly and at least half the way back down, on either side.

    Far from the least value runs are noisy and losses wander: a dip that stays far above it is none.
    """
    rows = without_divergence(values_KN)
    means_M, counts_M = two_way_fit(values_KN[rows]).arm_means, np.isfinite(values_KN[rows]).sum(axis=1)
    least = float(means_M.min())
    limit = t_quantile(valley.df, alpha / (2 * len(rows))) * valley.sd
    for side in (-1, 1):
        top, top_count = -np.inf, 1
        for i in _outward(x_K[rows], valley.estimate, side):
            fall = top - means_M[i]
            if fall > limit * np.sqrt(1 / counts_M[i] + 1 / top_count) and fall >= (top - least) / 2:
                return True
            if means_M[i] > top:
                top, top_count = float(means_M[i]), int(counts_M[i])
    return False


def _outward(x_M: np.ndarray, start: float, side: int) -> Sequence[int]:
    there = np.flatnonzero((x_M - start) * side > 0)
    return (there if side > 0 else there[::-1]).tolist()
