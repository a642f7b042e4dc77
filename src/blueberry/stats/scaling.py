"""How numbers move with size: power laws, and how much cheaper an arm reaches its loss than the baseline would."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, log, sqrt
from typing import NamedTuple

import numpy as np

from blueberry.stats.differences import t_quantile

LEAST_POINTS = 3
"""Two points lie on every power law of one size: they cannot show whether there is one."""
SAME_SIZE = 1e-6
"""Sizes that vary by less, in logarithm and beside one another, are one."""


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
