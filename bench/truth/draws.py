"""Simulated studies: expected losses that are known, and runs scattered around them.

Legend: R replicates, K arms, n seeds (N as an axis). Losses in nats, lower is better.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LEVEL_NATS = 3.3
STEP = np.log(2) / 2
"""Between neighbouring rates, in log rate: a factor of sqrt(2)."""
PLATEAU = 0.5
"""Half the width of the flat part, in log rate."""
CLIFF = 0.5
"""Distance above the optimum from which every run diverges, in log rate."""
SECOND_VALLEY = 1.8
SECOND_DEPTH_NATS = 0.004
"""How far above the optimum the second valley lies, and how much less deep it is."""
GROWTH = 5.0
"""Noise of the highest arm over that of the lowest, where noise grows."""
DIVERGES = 0.05


@dataclass(frozen=True)
class Noise:
    """How runs scatter around their expected loss."""

    sd_nats: float = 0.005
    """Of one run."""
    rho: float = 0.5
    """Correlation of two arms on one seed."""
    kind: str = "gaussian"
    """A key of KINDS."""


@dataclass(frozen=True)
class Truth:
    """What a chunk of replicates was drawn around."""

    x_K: np.ndarray
    """Log rates."""
    means_RK: np.ndarray
    """Expected losses, infinite where every run diverges."""
    optimum_R2: np.ndarray
    """Ends of the interval of log rates with the least expected loss: one point but on a plateau."""


def valley(u: np.ndarray, curvature: float, right_over_left: float) -> np.ndarray:
    """Two half-parabolas. `u` is the distance from the optimum in log rate; curvature in nats per unit squared."""
    return curvature * u**2 * np.where(u > 0, right_over_left, 1.0)


def cliff(u: np.ndarray, curvature: float, right_over_left: float) -> np.ndarray:
    return np.where(u > CLIFF, np.inf, valley(u, curvature, right_over_left))


def plateau(u: np.ndarray, curvature: float, right_over_left: float) -> np.ndarray:
    return valley(np.sign(u) * np.maximum(np.abs(u) - PLATEAU, 0.0), curvature, right_over_left)


def two_valleys(u: np.ndarray, curvature: float, right_over_left: float) -> np.ndarray:
    second = SECOND_DEPTH_NATS + valley(u - SECOND_VALLEY, curvature, right_over_left)
    return np.minimum(valley(u, curvature, right_over_left), second)


SURFACES: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "valley": valley,
    "edge": valley,
    "cliff": cliff,
    "plateau": plateau,
    "two valleys": two_valleys,
}


def sweep_truth(
    rng: np.random.Generator, replicates: int, *, surface: str, num_arms: int, curvature: float, right_over_left: float
) -> Truth:
    """A learning-rate sweep whose optimum lies anywhere between the middle rates, or beyond the end ("edge")."""
    x_K = STEP * (np.arange(num_arms) - (num_arms - 1) / 2)
    if surface == "edge":
        optimum_R = x_K[-1] + STEP * rng.uniform(0.25, 1.5, replicates)
    else:
        optimum_R = STEP * rng.uniform(-1.5, 1.5, replicates)
    excess_RK = SURFACES[surface](x_K - optimum_R[:, None], curvature, right_over_left)
    half = PLATEAU if surface == "plateau" else 0.0
    return Truth(x_K, LEVEL_NATS + excess_RK, np.stack([optimum_R - half, optimum_R + half], axis=1))


def arms_truth(replicates: int, excess_K: np.ndarray) -> Truth:
    """Named arms without an axis."""
    means_RK = np.broadcast_to(LEVEL_NATS + excess_K, (replicates, len(excess_K)))
    return Truth(np.arange(len(excess_K), dtype=float), means_RK, np.full((replicates, 2), np.nan))


def draw_runs(rng: np.random.Generator, means_RK: np.ndarray, n: int, noise: Noise) -> np.ndarray:
    """Final losses; infinite diverged. Shapes: (R, K) -> (R, K, n)."""
    replicates, num_arms = means_RK.shape
    shared_R1N, own_RKN = KINDS[noise.kind](rng, (replicates, 1, n)), KINDS[noise.kind](rng, (replicates, num_arms, n))
    scatter_RKN = noise.sd_nats * (np.sqrt(noise.rho) * shared_R1N + np.sqrt(1 - noise.rho) * own_RKN)
    if noise.kind == "growing":
        scatter_RKN *= np.geomspace(1, GROWTH, num_arms)[:, None]
    elif noise.kind == "tenfold":
        scatter_RKN[:, -min(2, num_arms - 1) :] *= 10
    elif noise.kind == "drift":
        scatter_RKN -= noise.sd_nats * np.arange(n)
    values_RKN = means_RK[:, :, None] + scatter_RKN
    if noise.kind == "divergences":
        values_RKN[rng.random(values_RKN.shape) < DIVERGES] = np.inf
    return values_RKN


def _gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape)


def _t3(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Of variance 1."""
    return rng.standard_t(3, shape) / np.sqrt(3)


KINDS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "gaussian": _gaussian,
    "t3": _t3,
    "growing": _gaussian,
    "tenfold": _gaussian,
    "drift": _gaussian,
    "divergences": _gaussian,
}
"""t3: heavy tails. growing: noise rises fivefold from the lowest arm to the highest. tenfold: in the two last arms, of
two in one. drift: every later seed is one sd lower in all arms, as when a machine or the code changes between seeds.
divergences: 5% of the runs, at random."""
