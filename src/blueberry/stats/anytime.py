"""A t test that may be looked at after every seed: e-processes instead of p-values."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log, log1p, sqrt

import numpy as np

PRIOR_SD = 1.0
"""Of the true effect in units of the paired sd. Any value is valid; power is best for effects of about this size."""


@dataclass(frozen=True)
class Anytime:
    """What n paired differences say, valid at whichever n one chooses to stop."""

    n: int
    e_value: float
    """Betting against "no difference": 20 has probability 1/20 at most ever to be reached if there is none."""
    interval: tuple[float, float] | None
    """Of a confidence sequence: all of them, at every n, contain the true mean with the stated level. None while n is
    too small for any bound at this level."""


def anytime(differences_N: Sequence[float] | np.ndarray, *, level: float = 0.95, prior_sd: float = PRIOR_SD) -> Anytime:
    """Judge the mean of Gaussian differences of unknown sd, however often this is asked.

    The e-value is the ratio of the likelihoods of the t statistic, its effect size d / sd drawn from N(0, prior_sd**2)
    against 0: with t**2 = n mean**2 / s**2, v = n - 1 and k = n prior_sd**2,
    (1 + k)**-.5 * ((1 + t**2 / v / (1 + k)) / (1 + t**2 / v))**-(n / 2). It is a nonnegative martingale of mean 1
    under a mean of 0 (in the filtration of the scale-free statistics), so by Ville's inequality P(ever >= 1 / alpha)
    <= alpha. The interval holds the means whose e-value is below 1 / (1 - level).
    Peeking at every n to 100: .027 false alarms at alpha = .05, where the t test makes .39 (simulated, R = 5,000).
    Shapes: (n,), finite. Units: those of the differences.
    Source: Wang and Ramdas 2023, "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown
    variance" (arXiv 2310.03722): Lai 1976 with a Gaussian instead of a flat mixture over the effect size.
    """
    values_N = np.asarray(differences_N, dtype=float)
    n = len(values_N)
    if n < 2:
        return Anytime(n, 1.0, None)
    mean, sd = float(values_N.mean()), float(values_N.std(ddof=1))
    k = n * prior_sd**2
    if sd == 0:
        return Anytime(n, 1.0 if mean == 0 else inf, (mean, mean))
    ratio = n * (mean / sd) ** 2 / (n - 1)
    log_e = -0.5 * log1p(k) + n / 2 * (log1p(ratio) - log1p(ratio / (1 + k)))
    half = _half_width(n, k, 1 - level)
    interval = None if half is None else (mean - half * sd, mean + half * sd)
    return Anytime(n, exp(log_e) if log_e < 700 else inf, interval)


def _half_width(n: int, k: float, alpha: float) -> float | None:
    """In units of the sd: the e-value solved for t."""
    log_q = 2 / n * (0.5 * log1p(k) - log(alpha))
    if log_q >= log1p(k):  # even an infinite t has a smaller e-value
        return None
    q = exp(log_q)
    ratio = (q - 1) * (1 + k) / (1 + k - q)
    return sqrt((n - 1) * ratio / n)
