"""Curves along one axis of which nothing is assumed but how smooth they are: second opinions on a valley."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RHO = 0.3
"""Correlation of two runs on one seed."""


@dataclass(frozen=True)
class Kind:
    """What is assumed of a curve."""

    covariance: Callable[[np.ndarray], np.ndarray]
    """Of two of its points, by their distance in lengths; 1 at 0."""
    lengths: tuple[float, ...]
    """Over which it may change, in units of the axis."""
    heights: tuple[float, ...]
    """That it may differ by, in sds of a run."""


def _squared_exponential(distance: np.ndarray) -> np.ndarray:
    return np.exp(-(distance**2) / 2)


def _matern(distance: np.ndarray) -> np.ndarray:
    z = np.sqrt(5) * distance
    return (1 + z + z**2 / 3) * np.exp(-z)


SMOOTH = Kind(_squared_exponential, (1.2, 2.0, 3.5, 6.0, 10.0), (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0))
"""Near to a parabola; where a valley is one, this says best where it is least."""
ROUGH = Kind(_matern, (0.7, 1.2, 2.0, 3.5), (3.0, 10.0, 30.0, 100.0))
"""May turn anew at every length: sees a second valley where the other sees one wide one."""


def smooth_curve(kind: Kind, x_R: np.ndarray, seeds_R: np.ndarray, values_R: np.ndarray, x_G: np.ndarray) -> np.ndarray:
    """The expected value at each point of a grid, given runs: the posterior mean of a Gaussian process.

    Its noise is a run's own and what its seed shares. Which length and height the curve has, the runs say: the mean is
    over all of them, each as likely as it makes the runs, with a flat prior on the level and the sd of a run left out
    of the likelihood by its most likely value.

    Shapes: (R,), (R,), (R,), (G,) -> (G,); H heights. Units: those of the values.
    Source: Rasmussen and Williams 2006, ch. 2, 4 and 5.
    """
    num_runs = len(x_R)
    noise_RR = (1 - RHO) * np.eye(num_runs) + RHO * (seeds_R[:, None] == seeds_R)
    white_RR = np.linalg.inv(np.linalg.cholesky(noise_RR))
    given_R2 = white_RR @ np.stack([np.ones(num_runs), values_R], axis=1)
    between_RR, to_GR = np.abs(x_R[:, None] - x_R), np.abs(x_G[:, None] - x_R)
    square_H1 = np.square(kind.heights)[:, None]
    curves, logs = [], []
    for length in kind.lengths:
        # The basis in which what the runs share is independent, whatever the height.
        share_R, basis_RR = np.linalg.eigh(white_RR @ kind.covariance(between_RR / length) @ white_RR.T)
        ones_R, z_R = (basis_RR.T @ given_R2).T
        variance_HR = square_H1 * np.maximum(share_R, 0.0) + 1
        weight_H = (ones_R**2 / variance_HR).sum(axis=1)
        level_H = (ones_R * z_R / variance_HR).sum(axis=1) / weight_H
        rest_HR = z_R - level_H[:, None] * ones_R
        by_run_HR = square_H1 * (rest_HR / variance_HR) @ (white_RR.T @ basis_RR).T
        curves.append(level_H[:, None] + by_run_HR @ kind.covariance(to_GR / length).T)
        misfit_H = np.maximum((rest_HR**2 / variance_HR).sum(axis=1), 1e-300)
        logs.append(-((num_runs - 1) * np.log(misfit_H) + np.log(variance_HR).sum(axis=1) + np.log(weight_H)) / 2)
    likely = np.concatenate(logs)
    share = np.exp(likely - likely.max())
    return share @ np.concatenate(curves) / share.sum()
