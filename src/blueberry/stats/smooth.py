"""A curve along one axis of which nothing is assumed but that it is smooth: a second opinion on a valley."""

import math

import numpy as np

LENGTHS = (0.7, 1.2, 2.0, 3.5)
"""Over which the curve may change, in units of the axis."""
HEIGHTS = (3.0, 10.0, 30.0, 100.0)
"""That it may differ by, in sds of a run."""
RHO = 0.3
"""Correlation of two runs on one seed."""


def smooth_curve(x_R: np.ndarray, seeds_R: np.ndarray, values_R: np.ndarray, x_G: np.ndarray) -> np.ndarray:
    """The expected value at each point of a grid, given runs: the posterior mean of a Gaussian process.

    Its covariance is Matérn 5/2, its noise is a run's own and what its seed shares. How smooth and how high the curve
    is, the runs say: the mean is over all lengths and heights, each as likely as it makes the runs, with a flat prior
    on the level and the sd of a run left out of the likelihood by its most likely value.

    Shapes: (R,), (R,), (R,), (G,) -> (G,). Units: those of the values.
    Source: Rasmussen and Williams 2006, ch. 2, 4 and 5.
    """
    num_runs = len(x_R)
    noise_RR = (1 - RHO) * np.eye(num_runs) + RHO * (seeds_R[:, None] == seeds_R)
    between_RR, to_GR = np.abs(x_R[:, None] - x_R), np.abs(x_G[:, None] - x_R)
    curves, likely = [], []
    for length in LENGTHS:
        alike_RR, alike_GR = _matern(between_RR / length), _matern(to_GR / length)
        for height in HEIGHTS:
            whitened = np.linalg.cholesky(height**2 * alike_RR + noise_RR)
            ones_R, z_R = np.linalg.solve(whitened, np.stack([np.ones(num_runs), values_R], axis=1)).T
            weight = float(ones_R @ ones_R)
            level = float(ones_R @ z_R) / weight
            rest_R = z_R - level * ones_R
            curves.append(level + height**2 * alike_GR @ np.linalg.solve(whitened.T, rest_R))
            misfit = max(float(rest_R @ rest_R), 1e-300)
            determinant = float(np.log(np.diag(whitened)).sum())
            likely.append(-(num_runs - 1) / 2 * math.log(misfit) - determinant - math.log(weight) / 2)
    share = np.exp(np.array(likely) - max(likely))
    return share @ np.array(curves) / share.sum()


def _matern(distance: np.ndarray) -> np.ndarray:
    z = math.sqrt(5) * distance
    return (1 + z + z**2 / 3) * np.exp(-z)
