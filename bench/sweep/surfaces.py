"""Surfaces of the loss over a learning rate from 0.001 to 1, simulated and measured."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from bench.sweep.tables import RUNGS, read_rates

LOW, HIGH = 0.001, 1.0
RATES = tuple(float(f"{rate:.4g}") for rate in np.geomspace(LOW, HIGH, 26))
LEVEL_NATS = 3.3
RHO = 0.3
"""Correlation of two rates on one seed."""
MIDDLE = 0.6
"""Of the range of rates, in logarithm, in which optima lie."""

DIVERGES_AT = 1 / 3
"""Of a run, where one that diverges does so."""
RUN_UPDATES = 81
"""Of a simulated run: halving looks at it at rungs a factor of three apart."""


class Loss(Protocol):
    """What a run at a rate on a seed measures, nats: at its end, or at a rung, after so many updates of it. Infinite
    where it has diverged."""

    def __call__(self, rate: float, seed: int, rung: int | None = None) -> float: ...


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
        """A study to come: its runs, the expected excess of a rate over the best of the range, and the optimum.

        At every rung rates are in the order of the end but for noise, which is new there but for what a seed shares:
        halving could not be dealt with more kindly.
        """
        ends = math.log(LOW), math.log(HIGH)
        optimum = ends[0] + (ends[1] - ends[0]) * ((1 - MIDDLE) / 2 + MIDDLE * rng.random())
        if self.shape == "edge":
            optimum = ends[1] + 0.7 * rng.random()
        shared: dict[int, float] = {}
        own: dict[tuple[float, int, int | None], float] = {}

        def expected(rate: float) -> float:
            return SHAPES[self.shape](math.log(rate) - optimum, self.curvature)

        def loss(rate: float, seed: int, rung: int | None = None) -> float:
            common = shared.setdefault(seed, float(rng.standard_normal()))
            rest = own.setdefault((rate, seed, rung), float(rng.standard_normal()))
            excess = expected(rate)
            if math.isinf(excess) and rung is not None and rung < DIVERGES_AT * RUN_UPDATES:
                excess = self.curvature * (math.log(rate) - optimum) ** 2
            return LEVEL_NATS + excess + self.sd_nats * (math.sqrt(RHO) * common + math.sqrt(1 - RHO) * rest)

        least = expected(math.exp(min(optimum, ends[1])))
        flat = 0.7 if self.shape == "plateau" else 0.0
        return loss, lambda rate: max(expected(rate) - least, 0.0), (optimum - flat, optimum + flat)


@dataclass(frozen=True)
class Measured:
    """The runs of `pico-rates.toml`: 26 rates on ten seeds, drawn with replacement."""

    name: str = "pico mixture of experts, 80 updates"
    sd_nats: float = 0.03
    is_valley: bool = True

    def draw(self, rng: np.random.Generator) -> tuple[Loss, Callable[[float], float], tuple[float, float]]:
        rates, losses_KNE = _rates()
        seeds = rng.integers(0, losses_KNE.shape[1], 1000).tolist()
        means = losses_KNE[:, :, -1].mean(axis=1)
        at = int(np.argmin(means))
        around = math.log(rates[max(at - 1, 0)]), math.log(rates[min(at + 1, len(rates) - 1)])
        row = {rate: number for number, rate in enumerate(rates)}

        def loss(rate: float, seed: int, rung: int | None = None) -> float:
            return float(losses_KNE[row[rate], seeds[seed], -1 if rung is None else RUNGS.index(rung)])

        return loss, lambda rate: float(means[row[rate]] - means.min()), around


_rates = lru_cache(read_rates)


def surfaces() -> Iterator[Surface | Measured]:
    for shape in ("quadratic", "lopsided", "saturating", "quartic"):
        for curvature in (0.012, 0.057):
            for sd in (0.005, 0.02):
                yield Surface(f"{shape}, curvature {curvature}, sd {sd}", shape, curvature, sd)
    for shape in ("cliff", "plateau", "edge", "two valleys"):
        for sd in (0.005, 0.02):
            yield Surface(f"{shape}, curvature 0.03, sd {sd}", shape, 0.03, sd, is_valley=False)
    yield Measured()
