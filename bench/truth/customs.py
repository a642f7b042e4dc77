"""What people do instead: the least mean, a t-test without adjustment, a percentile bootstrap, an e-process.

Each of CUSTOMS looks at the arm of least mean against every other arm on the same seeds; an arm with a diverged run is
left out. Shapes: values (R, K, n) -> (R, K): +1 where the rule says that the arm is worse than the best, 0 for
"no significant difference", NaN for the best arm itself and for what is left out.
"""

from collections.abc import Callable
from math import exp, inf, log1p

import numpy as np

RESAMPLES = 400


def least_mean(values_RKN: np.ndarray, alpha: float) -> np.ndarray:
    """The arm of least mean beats all others, whatever the noise."""
    difference_RKN, _ = _against_best(values_RKN)
    return np.where(np.isfinite(difference_RKN).all(axis=2), 1.0, np.nan)


def t_test(values_RKN: np.ndarray, alpha: float) -> np.ndarray:
    """Two-sided paired t-test of each pair at alpha."""
    from scipy.special import stdtrit

    difference_RKN, n = _against_best(values_RKN)
    with np.errstate(divide="ignore", invalid="ignore"):
        error_RK = difference_RKN.std(axis=2, ddof=1) / np.sqrt(n)
        t_RK = difference_RKN.mean(axis=2) / error_RK
        worse_RK = (t_RK > float(-stdtrit(n - 1, alpha / 2))).astype(float)
    return np.where(np.isnan(t_RK), np.nan, worse_RK)


def bootstrap(values_RKN: np.ndarray, alpha: float) -> np.ndarray:
    """The percentile interval of the mean paired difference excludes 0."""
    difference_RKN, n = _against_best(values_RKN)
    drawn_BN = np.random.default_rng(n).integers(n, size=(RESAMPLES, n))
    weight_NB = np.stack([(drawn_BN == seed).mean(axis=1) for seed in range(n)])
    with np.errstate(invalid="ignore"):
        lowest_RK = np.quantile(difference_RKN @ weight_NB, alpha / 2, axis=2)
        return np.where(np.isnan(lowest_RK), np.nan, (lowest_RK > 0).astype(float))


CUSTOMS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "least mean": least_mean,
    "t-test": t_test,
    "bootstrap": bootstrap,
}


def parabola_covers(x_K: np.ndarray, values_RKN: np.ndarray, true_R2: np.ndarray, alpha: float) -> np.ndarray:
    """Whether the t interval of the lowest points of parabolas, one a seed over the whole range, meets the optimum.

    NaN where a run diverged. Shapes: (K,), (R, K, n), (R, 2) -> (R,).
    """
    from scipy.special import stdtrit

    n = values_RKN.shape[2]
    whole_R: np.ndarray = np.asarray(np.isfinite(values_RKN).all(axis=(1, 2)))
    finite_RKN = np.where(whole_R[:, None, None], values_RKN, 0.0)
    _, slope_RN, bend_RN = np.einsum("ck,rkn->crn", np.linalg.pinv(x_K[:, None] ** np.arange(3)), finite_RKN)
    with np.errstate(divide="ignore", invalid="ignore"):
        lowest_RN = -slope_RN / (2 * bend_RN)
        half_R = -stdtrit(n - 1, alpha / 2) * lowest_RN.std(axis=1, ddof=1) / np.sqrt(n)
        centre_R = lowest_RN.mean(axis=1)
        meets_R = (centre_R - half_R <= true_R2[:, 1]) & (centre_R + half_R >= true_R2[:, 0])
    return np.where(whole_R, meets_R, np.nan)


def e_value(differences_N: np.ndarray) -> float:
    """Evidence against a mean of 0 of Gaussian differences, which may be asked for after every seed.

    The ratio of the likelihoods of the t statistic, its effect size drawn from N(0, 1) against 0. It is a nonnegative
    martingale of mean 1 under a mean of 0, so by Ville's inequality P(ever >= 1 / alpha) <= alpha.
    Shapes: (n,), finite; 1 below two.
    Source: Wang and Ramdas 2023 (arXiv 2310.03722).
    """
    n = len(differences_N)
    if n < 2:
        return 1.0
    mean, sd = float(differences_N.mean()), float(differences_N.std(ddof=1))
    if sd == 0:
        return 1.0 if mean == 0 else inf
    ratio = n * (mean / sd) ** 2 / (n - 1)
    log_e = -0.5 * log1p(n) + n / 2 * (log1p(ratio) - log1p(ratio / (1 + n)))
    return exp(log_e) if log_e < 700 else inf


def best_index(values_RKN: np.ndarray) -> np.ndarray:
    """Row of least mean in each replicate, among those that never diverged. Shapes: (R, K, n) -> (R,)."""
    return np.argmin(values_RKN.mean(axis=2), axis=1)


def _against_best(values_RKN: np.ndarray) -> tuple[np.ndarray, int]:
    """Differences from the arm of least mean; NaN for that arm, for diverged ones and where all diverged."""
    best_R = best_index(values_RKN)
    rows = np.arange(len(values_RKN))
    best_R1N = values_RKN[rows, best_R][:, None]
    with np.errstate(invalid="ignore"):
        difference_RKN = values_RKN - best_R1N
    difference_RKN[rows, best_R] = np.nan
    whole_RK1 = np.isfinite(difference_RKN).all(axis=2, keepdims=True)
    return np.where(whole_RK1, difference_RKN, np.nan), values_RKN.shape[2]
