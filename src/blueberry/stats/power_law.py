"""y = a * x**b: how an optimum or a loss moves with size, and what that predicts at a size not yet run."""

from dataclasses import dataclass
from math import exp, inf, log, sqrt

import numpy as np

from blueberry.stats.paired import t_quantile

LEAST_POINTS = 3
"""Two points lie on every power law: they cannot show whether there is one."""


@dataclass(frozen=True)
class PowerLaw:
    """A straight line in the logarithms of both, with its uncertainty."""

    factor: float
    """a: the value at x = 1, far outside the data perhaps."""
    exponent: float
    exponent_interval: tuple[float, float]
    level: float
    misfit: float | None
    """Chi-squared over its degrees of freedom; far above 1: not a power law, or the errors are larger than said.
    None when no errors were given."""
    _centre: float
    """Mean of log x; there slope and height are independent."""
    _height: float
    _height_se: float
    _exponent_se: float
    _critical: float

    def predict(self, x: float, *, sd: float = 0.0) -> tuple[float, tuple[float, float]]:
        """The value at x and its interval: of the curve, or of a new measurement with this sd at the same x.

        `sd` in units of y, small against y. The interval contains a value measured there at `level`.
        """
        distance = log(x) - self._centre
        middle = self._height + self.exponent * distance
        own = sd / exp(middle)
        se = sqrt(self._height_se**2 + (self._exponent_se * distance) ** 2 + own**2)
        half = self._critical * se
        return exp(middle), (exp(middle - half), exp(middle + half))


def fit_power_law(
    x_M: np.ndarray, y_M: np.ndarray, sd_M: np.ndarray | None = None, *, df: float = inf, level: float = 0.95
) -> PowerLaw | None:
    """Weighted least squares of log y on log x; None below three points or two different x.

    `sd_M` are the standard errors of y, small against y (log y then has sd / y), and `df` their degrees of freedom.
    Errors are widened by the lack of fit where that is larger, never narrowed: sqrt(max(1, chi-squared / (M - 2))).
    Without `sd_M` all points weigh the same, and the scatter around the line, with M - 2 degrees of freedom, is the
    error. Shapes: (M,) each, positive. Units: exponents have none.
    Source: weighted linear regression (Draper and Smith 1998, ch. 9), with the Birge ratio for lack of fit.
    In simulation (3 and 5 points, errors of 1 to 10%, R = 2000) the interval of the exponent holds it in 96%
    with known errors and in 95% without; a prediction ten times further out holds a new value in 96-97%.
    """
    x_M, y_M = np.asarray(x_M, dtype=float), np.asarray(y_M, dtype=float)
    if len(x_M) < LEAST_POINTS or len(np.unique(x_M)) < 2:
        return None
    assert (x_M > 0).all()
    assert (y_M > 0).all()
    u_M, v_M = np.log(x_M), np.log(y_M)
    weight_M = np.ones_like(u_M) if sd_M is None else np.square(y_M / np.asarray(sd_M, dtype=float))
    total = float(weight_M.sum())
    centre, height = float(weight_M @ u_M) / total, float(weight_M @ v_M) / total
    spread = float(weight_M @ np.square(u_M - centre))
    exponent = float(weight_M @ ((u_M - centre) * (v_M - height))) / spread
    chi2 = float(weight_M @ np.square(v_M - height - exponent * (u_M - centre))) / (len(u_M) - 2)
    inflation = chi2 if sd_M is None else max(1.0, chi2)
    critical = t_quantile(len(u_M) - 2 if sd_M is None else df, (1 - level) / 2)
    height_se, exponent_se = sqrt(inflation / total), sqrt(inflation / spread)
    half = critical * exponent_se
    return PowerLaw(
        factor=exp(height - exponent * centre),
        exponent=exponent,
        exponent_interval=(exponent - half, exponent + half),
        level=level,
        misfit=None if sd_M is None else chi2,
        _centre=centre,
        _height=height,
        _height_se=height_se,
        _exponent_se=exponent_se,
        _critical=critical,
    )
