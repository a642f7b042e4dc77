"""Surfaces of the loss over a learning rate from 0.001 to 1, simulated and measured."""

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TABLE = Path(__file__).parent / "rates.csv"
LOW, HIGH = 0.001, 1.0
RATES = tuple(float(f"{rate:.4g}") for rate in np.geomspace(LOW, HIGH, 26))
LEVEL_NATS = 3.3
RHO = 0.3
"""Correlation of two rates on one seed."""
MIDDLE = 0.6
"""Of the range of rates, in logarithm, in which optima lie."""

Loss = Callable[[float, int], float]
"""What a run at a rate on a seed measures, nats; infinite where it diverges."""


def _cliff(u: float, c: float) -> float:
    return math.inf if u > 0.5 else c * u**2


SHAPES: dict[str, Callable[[float, float], float]] = {
    "quadratic": lambda u, c: c * u**2,
    "lopsided": lambda u, c: c * u**2 * (2 if u > 0 else 1),
    "saturating": lambda u, c: 0.25 * (1 - math.exp(-c * u**2 / 0.25)),
    "quartic": lambda u, c: c * (0.15 * u**2 + 0.175 * u**4),
    "cliff": _cliff,
    "plateau": lambda u, c: c * max(abs(u) - 0.7, 0.0) ** 2,
    "edge": lambda u, c: c * u**2,
    "two valleys": lambda u, c: min(c * u**2, 0.004 + c * (u - 2.2) ** 2),
}
"""Excess loss in nats by the distance from the optimum in log rate, and the curvature c in nats per squared unit."""


@dataclass(frozen=True)
class Surface:
    name: str
    shape: str
    curvature: float
    sd_nats: float
    """Of one run."""
    is_valley: bool = True
    """One smooth valley within the range: what a search assumes."""

    def draw(self, rng: np.random.Generator) -> tuple[Loss, Callable[[float], float], tuple[float, float]]:
        """A study to come: its runs, the expected excess of a rate over the best of the range, and the optimum."""
        ends = math.log(LOW), math.log(HIGH)
        optimum = ends[0] + (ends[1] - ends[0]) * ((1 - MIDDLE) / 2 + MIDDLE * rng.random())
        if self.shape == "edge":
            optimum = ends[1] + 0.7 * rng.random()
        shared: dict[int, float] = {}
        own: dict[tuple[float, int], float] = {}

        def expected(rate: float) -> float:
            return SHAPES[self.shape](math.log(rate) - optimum, self.curvature)

        def loss(rate: float, seed: int) -> float:
            common = shared.setdefault(seed, float(rng.standard_normal()))
            rest = own.setdefault((rate, seed), float(rng.standard_normal()))
            return LEVEL_NATS + expected(rate) + self.sd_nats * (math.sqrt(RHO) * common + math.sqrt(1 - RHO) * rest)

        least = min(expected(rate) for rate in np.geomspace(LOW, HIGH, 2001).tolist())
        flat = 0.7 if self.shape == "plateau" else 0.0
        return loss, lambda rate: max(expected(rate) - least, 0.0), (optimum - flat, optimum + flat)


@dataclass(frozen=True)
class Measured:
    """The runs of `pico-rates.toml`: 26 rates on ten seeds, drawn with replacement."""

    name: str = "pico mixture of experts, 80 updates"
    sd_nats: float = 0.03
    is_valley: bool = True

    def draw(self, rng: np.random.Generator) -> tuple[Loss, Callable[[float], float], tuple[float, float]]:
        rates, losses_KN = read_table()
        seeds = rng.integers(0, losses_KN.shape[1], 1000)
        means = losses_KN.mean(axis=1)
        at = int(np.argmin(means))
        around = math.log(rates[max(at - 1, 0)]), math.log(rates[min(at + 1, len(rates) - 1)])
        return (
            lambda rate, seed: float(losses_KN[rates.index(rate), seeds[seed]]),
            lambda rate: float(means[rates.index(rate)] - means.min()),
            around,
        )


def read_table() -> tuple[tuple[float, ...], np.ndarray]:
    """Rates, and the final validation losses: shape (rates, seeds)."""
    with TABLE.open() as file:
        rows = [(float(row["learning_rate"]), int(row["seed"]), float(row["val_loss"])) for row in csv.DictReader(file)]
    rates = tuple(sorted({rate for rate, _, _ in rows}))
    losses_KN = np.full((len(rates), 1 + max(seed for _, seed, _ in rows)), np.nan)
    for rate, seed, loss in rows:
        losses_KN[rates.index(rate), seed] = loss
    return rates, losses_KN


def surfaces() -> Iterator[Surface | Measured]:
    for shape in ("quadratic", "lopsided", "saturating", "quartic"):
        for curvature in (0.012, 0.057):
            for sd in (0.005, 0.02):
                yield Surface(f"{shape}, curvature {curvature}, sd {sd}", shape, curvature, sd)
    for shape in ("cliff", "plateau", "edge", "two valleys"):
        for sd in (0.005, 0.02):
            yield Surface(f"{shape}, curvature 0.03, sd {sd}", shape, 0.03, sd, is_valley=False)
    yield Measured()
