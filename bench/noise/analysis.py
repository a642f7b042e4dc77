"""What the runs say of their noise, and what the judge would have said of fewer of them."""

from collections.abc import Callable
from dataclasses import dataclass
from math import atanh, isnan, nan, sqrt, tanh

import numpy as np

from bench.noise.table import RATE, Horizon
from blueberry.judge.evidence import ArmRuns, Evidence, measure
from blueberry.judge.verdicts import compare
from blueberry.stats.differences import t_quantile
from blueberry.stats.noise import measure_noise

LEVEL = 0.95
ALPHA = 0.05
MIN_EFFECT_NATS = 0.02
"""As the studies state it."""
SEEDS = (3, 5, 8)
SUBSETS = 10_000
"""Drawn without replacement from the seeds, for each number of seeds."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class RateNoise:
    """One learning rate at one horizon."""

    rate: float
    n: int
    num_diverged: int
    mean: float
    sd: float
    sd_interval: Interval
    """Of chi squared."""
    rho: float | None
    """Correlation over the seeds with the rate of least mean; None for that rate itself."""
    rho_interval: Interval | None
    """Of Fisher's z."""


@dataclass(frozen=True)
class Pooled:
    """One number of the noise registry, with a jackknife interval over the seeds."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Replay:
    """What the judge said of random subsets of the seeds, held against all of them. Shares of the subsets."""

    n: int
    winner: float
    """Of comparisons of the best arm with another."""
    tie: float
    inconclusive: float
    false_winner: float
    """Subsets with a winner that all seeds together contradict, or do not support."""
    false_tie: float
    """Subsets that call a tie what all seeds put at min_effect or more."""
    best_kept: float
    """Subsets whose unresolved set holds the rate that all seeds find best."""
    num_unresolved: float
    least_mean_is_best: float
    """Subsets whose least mean belongs to that rate."""
    regret: float
    """Nats by which the mean over all seeds of the rate of least mean exceeds the best one's."""


def rate_noise(horizon: Horizon) -> list[RateNoise]:
    """Of every rate, ascending."""
    means_K = horizon.losses_KN.mean(axis=1)
    best = int(np.argmin(means_K))
    found = []
    for rate, losses_N in zip(horizon.rates, horizon.losses_KN, strict=True):
        finite_N = losses_N[np.isfinite(losses_N)]
        sd = float(finite_N.std(ddof=1))
        rho = _correlation(losses_N, horizon.losses_KN[best])
        found.append(
            RateNoise(
                rate=rate,
                n=len(finite_N),
                num_diverged=int(np.isinf(losses_N).sum()),
                mean=float(finite_N.mean()),
                sd=sd,
                sd_interval=_sd_interval(sd, len(finite_N)),
                rho=None if rate == horizon.rates[best] else rho,
                rho_interval=None if rate == horizon.rates[best] else _fisher(rho, len(finite_N)),
            )
        )
    return found


def pooled(horizon: Horizon) -> dict[str, Pooled]:
    """The numbers that a study would plan with: of `measure_noise` over all seeds."""
    return {
        "sd": _jackknife(horizon.losses_KN, lambda values_KN: measure_noise(values_KN).sd),
        "rho": _jackknife(horizon.losses_KN, lambda values_KN: measure_noise(values_KN).rho),
        "paired sd": _jackknife(horizon.losses_KN, lambda values_KN: measure_noise(values_KN).paired_sd),
    }


def replay(horizon: Horizon, n: int, rng: np.random.Generator, *, subsets: int = SUBSETS) -> Replay:
    """Judge random subsets of n seeds. The truth is the mean over all seeds, and whether all seeds settle it."""
    means_K = horizon.losses_KN.mean(axis=1)
    best = int(np.argmin(means_K))
    settled = {(v.a, v.b): v for v in compare(measure(_evidence(horizon.rates, horizon.losses_KN)))}
    rows = []
    for _ in range(subsets):
        chosen = rng.choice(horizon.losses_KN.shape[1], size=n, replace=False)
        measured = measure(_evidence(horizon.rates, horizon.losses_KN[:, chosen]))
        verdicts = compare(measured)
        kinds = [verdict.verdict for verdict in verdicts]
        wrong = any(_contradicted(v.winner, v.a, v.b, means_K, settled) for v in verdicts if v.winner)
        tied = [abs(means_K[int(v.a)] - means_K[int(v.b)]) for v in verdicts if v.verdict == "tie"]
        assert measured.best is not None
        rows.append(
            (
                *(kinds.count(kind) / len(kinds) for kind in ("winner", "tie", "inconclusive")),
                wrong,
                any(difference >= MIN_EFFECT_NATS for difference in tied),
                best in measured.unresolved,
                len(measured.unresolved),
                measured.best == best,
                means_K[measured.best] - means_K[best],
            )
        )
    return Replay(n, *np.array(rows, dtype=float).mean(axis=0).tolist())


def replay_null(horizon: Horizon, n: int, rng: np.random.Generator, *, gaussian: bool, subsets: int = SUBSETS) -> int:
    """Of `subsets` studies, those with a winner when nothing differs: every rate's mean is taken away, its noise left.

    Seeds are drawn with replacement, all rates on the same ones; or Gaussian noise of the same covariance is.
    """
    noise_KN = horizon.losses_KN - horizon.losses_KN.mean(axis=1, keepdims=True)
    covariance_KK, nothing_K = np.cov(noise_KN), np.zeros(len(noise_KN))
    false = 0
    for _ in range(subsets):
        if gaussian:
            values_KN = rng.multivariate_normal(nothing_K, covariance_KK, size=n).T
        else:
            values_KN = noise_KN[:, rng.integers(noise_KN.shape[1], size=n)]
        verdicts = compare(measure(_evidence(horizon.rates, values_KN)))
        false += any(verdict.verdict == "winner" for verdict in verdicts)
    return false


def _contradicted(winner: str, a: str, b: str, means_K: np.ndarray, settled: dict) -> bool:
    """Whether the winner has the greater mean over all seeds, or a pair that even all seeds leave open has a winner."""
    loser = b if winner == a else a
    if means_K[int(winner)] >= means_K[int(loser)]:
        return True
    verdict = settled.get((winner, loser)) or settled.get((loser, winner))
    return verdict is not None and verdict.verdict != "winner"


def _evidence(rates: tuple[float, ...], losses_KN: np.ndarray) -> Evidence:
    return Evidence(
        question="which learning rate?",
        metric="val_loss",
        min_effect=MIN_EFFECT_NATS,
        alpha=ALPHA,
        vary=(RATE,),
        arms=tuple(
            ArmRuns(str(arm), {RATE: rate}, dict(enumerate(losses_N.tolist())))
            for arm, (rate, losses_N) in enumerate(zip(rates, losses_KN, strict=True))
        ),
        scale="log",
    )


def _sd_interval(sd: float, n: int) -> Interval:
    from scipy.stats import chi2

    df = n - 1
    return (
        sd * sqrt(df / float(chi2.isf((1 - LEVEL) / 2, df))),
        sd * sqrt(df / float(chi2.ppf((1 - LEVEL) / 2, df))),
    )


def _correlation(a_N: np.ndarray, b_N: np.ndarray) -> float:
    both_N = np.isfinite(a_N) & np.isfinite(b_N)
    return float(np.corrcoef(a_N[both_N], b_N[both_N])[0, 1]) if both_N.sum() > 3 else nan


def _fisher(rho: float, n: int) -> Interval:
    """Source: Fisher 1921; for Gaussian values."""
    from scipy.special import ndtri

    half = float(ndtri(1 - (1 - LEVEL) / 2)) / sqrt(n - 3)
    return (tanh(atanh(rho) - half), tanh(atanh(rho) + half))


def _jackknife(values_KN: np.ndarray, statistic: Callable[[np.ndarray], float | None]) -> Pooled:
    """Leaves one seed out at a time. Source: Tukey 1958, with t at n - 1."""
    n = values_KN.shape[1]
    whole = statistic(values_KN)
    assert whole is not None
    left_N = np.array([statistic(np.delete(values_KN, seed, axis=1)) for seed in range(n)], dtype=float)
    assert not any(isnan(value) for value in left_N)
    half = t_quantile(n - 1, (1 - LEVEL) / 2) * sqrt((n - 1) / n * float(np.square(left_N - left_N.mean()).sum()))
    return Pooled(whole, (whole - half, whole + half))
