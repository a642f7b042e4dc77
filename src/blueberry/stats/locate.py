"""Which values of one axis to train next, on which seeds, so that few runs say where the loss is least.

Coarse to fine on one seed, then seed by seed at four values about the least, until the value that is recommended costs
at most so much more than the best (`optimum.read_valley`), and a curve of which little is assumed (`smooth_curve`)
agrees; or runs end, or the runs are not one smooth valley. What it finds, and how often: docs/efficiency.md.
"""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from blueberry.records import rounded
from blueberry.stats.optimum import Valley, has_second_valley, read_valley, without_divergence

COARSE = 1.2
"""Log units between the first values of a range at most: a factor of 3.3."""
FINE = 0.6
"""Between the values about the least: a factor of 1.8."""
LEAST_COARSE = 5
LINEAR_UNITS = 8 * FINE
"""A linear range is this wide: five values, then the halfway ones beside the least."""
BEYOND = {"log": math.log(10), "linear": LINEAR_UNITS / 2}
"""How far a range may extend itself on each side: a factor of 10; half of itself."""
FIRST_TURNS = 2.0
"""t statistic of the curvature of the five values about the least, below which the first window is wider."""
NARROWEST = 1 / 4
"""Of the first window: how far it may be halved where no model fits."""
CURVES_WEIGHT = 2.0
"""In the choice of a value what it costs by each of two curves counts so many times what it costs at worst by the
valley. The smooth one is best on smooth valleys, the rough one keeps claims from second valleys (docs/log.md)."""
SMOOTH_WEIGHT = 4.0
"""Of the smooth curve alone, where a budget ends the search and not a claim."""
DOUBTED = 1 / 2
"""Of the smallest difference that matters: no claim while the rough curve says that the value costs more."""
LOG_FROM_RATIO = 8.0
"""An axis of undeclared scale whose largest value is this many times its smallest is taken to be logarithmic."""

Ended = Literal["located", "runs", "seeds", "cliff", "two valleys", "no valley"]
BROKEN: tuple[Ended, ...] = ("cliff", "two valleys", "no valley")
"""The runs are not one smooth valley."""
Place = tuple[float, int]
"""A value of the axis, and the number of a seed, from 0."""


@dataclass(frozen=True)
class Space:
    """The values that may be trained."""

    low: float
    high: float
    is_log: bool = True
    is_whole: bool = False
    listed: tuple[float, ...] = ()
    """The only values there are; empty: any between the ends, and beyond them to a limit."""
    stops: tuple[float | None, float | None] = (None, None)
    """Where the range may not be extended, below or above: its ends."""

    @property
    def unit(self) -> float:
        return 1.0 if self.is_log else (self.high - self.low) / LINEAR_UNITS

    @property
    def limits(self) -> tuple[float, float]:
        """As far as a search may extend the range, in coordinates."""
        beyond = 0.0 if self.listed else BEYOND["log" if self.is_log else "linear"]
        below, above = (beyond if stop is None else 0.0 for stop in self.stops)
        return self.x(self.low) - below, self.x(self.high) + above

    def x(self, value: float) -> float:
        """The coordinate of a value: its logarithm, or itself in units of the range."""
        return math.log(value) if self.is_log else value / self.unit

    def value_at(self, x: float) -> float:
        """Back from a coordinate."""
        return math.exp(x) if self.is_log else x * self.unit

    def value(self, x: float) -> float:
        """The value at a coordinate, or the nearest there is, within the limits."""
        low, high = self.limits
        x = min(max(x, low), high)
        if self.listed:
            return min(self.listed, key=lambda one: abs(self.x(one) - x))
        value = self.value_at(x)
        for end in (self.low, self.high):
            if abs(x - self.x(end)) < 1e-9:
                return end
        if not self.is_whole:
            return rounded(value)
        return float(max(round(value), 1)) if self.is_log else float(round(value))


@dataclass(frozen=True)
class Search:
    """How a search along an axis ended."""

    space: Space
    values: tuple[float, ...]
    """That were trained, ascending."""
    measured_KN: np.ndarray
    """By value and seed: NaN not run, infinite diverged."""
    ended: Ended
    valley: Valley | None
    """The last reading; None where too few values trained without diverging."""
    recommended: float | None
    """The value that costs least at worst; None where the runs are not one valley."""
    excess: float | None
    """What it costs at worst over the best of the range, at level 1 - alpha."""

    @property
    def is_broken(self) -> bool:
        return self.ended in BROKEN


def search(
    space: Space, *, alpha: float, min_effect: float, max_seeds: int, max_runs: int | None = None, only_trained: bool
) -> Generator[tuple[Place, ...], Sequence[float], Search]:
    """Yields batches of places to train, and is sent what each measured: lower is better, infinite where it diverged.

    With `max_runs` it goes on until they are used up, however sure it is. `only_trained`: what it recommends is one of
    the values it has trained, because nothing will confirm another.
    The answers decide all that follows: the same answers give the same batches.
    """
    found: dict[Place, float] = {}

    def new(values: Sequence[float], seed: int) -> tuple[Place, ...]:
        places = tuple(dict.fromkeys((value, seed) for value in values if (value, seed) not in found))
        return places if max_runs is None else places[: max(max_runs - len(found), 0)]

    batch = new(_coarse(space), 0)
    while batch:
        found |= dict(zip(batch, (yield batch), strict=True))
        batch = new(_beside_the_least(space, found), 0)
    values, x_K, table_KN = _table(space, found)
    centre, width = _first_window(x_K, table_KN, alpha)
    narrowest, ended = width * NARROWEST, None
    reading, located, doubted = None, None, list[float]()
    for seed in range(1, max_seeds):
        about = [*doubted, *_about(space, values, x_K, table_KN, centre, width)]
        batch = new(list(dict.fromkeys(about))[: len(_BLOCK)], seed)
        if not batch:
            break
        found |= dict(zip(batch, (yield batch), strict=True))
        values, x_K, table_KN = _table(space, found)
        reading = read_valley(x_K, table_KN, alpha=alpha)
        ended = _broken(x_K, table_KN, reading, alpha)
        if ended is not None or reading is None:
            break
        centre = reading.centre
        if not reading.is_valley:
            width /= 2
            if width < narrowest:
                ended = "no valley"
                break
            continue
        width = (reading.window[1] - reading.window[0]) / 2
        limits = zip(reading.is_open, _at_limits(space, reading), strict=True)
        is_closed = all(at_limit or not is_open for is_open, at_limit in limits)
        doubted = []
        if max_runs is None and is_closed:
            choice = _choose(space, values, table_KN, reading, only_trained, by_rough=True)
            if choice.at_worst <= min_effect and choice.by_rough <= DOUBTED * min_effect:
                ended, located = "located", choice
                break
            if choice.at_worst <= min_effect:
                doubted = [choice.value]
    if reading is None and ended is None:
        reading = read_valley(x_K, table_KN, alpha=alpha)
    if reading is None:
        ended = ended or "no valley"
    elif ended is None:
        ended = "runs" if max_runs is not None and len(found) >= max_runs else "seeds"
    if reading is None or ended in BROKEN:
        return Search(space, values, table_KN, ended, reading, None, None)
    choice = located or _choose(space, values, table_KN, reading, only_trained, by_rough=max_runs is None)
    return Search(space, values, table_KN, ended, reading, choice.value, choice.at_worst)


@lru_cache(maxsize=256)  # a study asks it whenever it is planned, of every search that goes on
def expected_runs(space: Space, *, max_seeds: int, max_runs: int | None = None) -> int:
    """Of a search on a smooth valley in the middle of the range, when noise is small: the least that there can be."""
    middle = (space.x(space.low) + space.x(space.high)) / 2 + FINE / 8
    ask = search(space, alpha=0.05, min_effect=1.0, max_seeds=max_seeds, max_runs=max_runs, only_trained=False)
    batch, num_runs = next(ask), 0
    try:
        while True:
            num_runs += len(batch)
            batch = ask.send([(space.x(value) - middle) ** 2 for value, _ in batch])
    except StopIteration:
        return num_runs


def most_runs(space: Space, *, max_seeds: int) -> int:
    """That a search may come to before it ends, whatever it measures."""
    if space.listed:
        return len(space.listed) + len(_BLOCK) * (max_seeds - 1)
    widest = space.limits[1] - space.limits[0]
    halvings = 2 * (1 + math.ceil(math.log2(COARSE / FINE)))
    return math.ceil(widest / COARSE) + LEAST_COARSE + halvings + len(_BLOCK) * (max_seeds - 1)


_BLOCK = (-1.0, 1.0, -0.5, 0.5)
"""Where a seed is trained: of the width of the window, from its centre. The centre says least about where it is."""


def _coarse(space: Space) -> list[float]:
    low, high = space.x(space.low), space.x(space.high)
    num = max(LEAST_COARSE, math.ceil((high - low) / COARSE - 1e-9) + 1)
    return [space.value(x) for x in np.linspace(low, high, num).tolist()]


def _beside_the_least(space: Space, found: dict[Place, float]) -> list[float]:
    """The values halfway to the least one's neighbours where the gap is wide; beyond it where the range ends."""
    values = sorted(value for value, _ in found)
    x = [space.x(value) for value in values]
    least = min(range(len(values)), key=lambda i: found[values[i], 0])
    wanted = []
    for side in (-1, 1):
        if not 0 <= least + side < len(x):
            wanted.append(x[least] + x[least] - x[least - side])
        elif abs(x[least + side] - x[least]) > FINE * (1 + 1e-3):
            wanted.append((x[least] + x[least + side]) / 2)
    return [value for one in wanted if (value := space.value(one)) not in values]


def _table(space: Space, found: dict[Place, float]) -> tuple[tuple[float, ...], np.ndarray, np.ndarray]:
    """Values, ascending; their coordinates; and what was measured, by value and seed. Shapes: (K,), (K, n)."""
    values = tuple(sorted({value for value, _ in found}))
    table_KN = np.full((len(values), 1 + max(seed for _, seed in found)), np.nan)
    for (value, seed), measured in found.items():
        table_KN[values.index(value), seed] = measured
    return values, np.array([space.x(value) for value in values]), table_KN


def _first_window(x_K: np.ndarray, table_KN: np.ndarray, alpha: float) -> tuple[float, float]:
    """Its centre, the least value, and half its width: two values on each side, three where these show no curvature."""
    least = int(np.argmin(table_KN[:, 0]))
    gap = min(abs(x_K[i] - x_K[least]) for i in (least - 1, least + 1) if 0 <= i < len(x_K))
    near = slice(max(least - 2, 0), least + 3)
    reading = read_valley(x_K[near], table_KN[near], alpha=alpha)
    is_flat = reading is not None and reading.turns < FIRST_TURNS
    return float(x_K[least]), float((3 if is_flat else 2) * gap)


def _about(
    space: Space, values: tuple[float, ...], x_K: np.ndarray, table_KN: np.ndarray, centre: float, width: float
) -> list[float]:
    """Four values about the centre: trained ones where they are near, and none where runs diverged."""
    diverged = x_K[np.isinf(table_KN).any(axis=1)]
    below = max(diverged[diverged < centre], default=-np.inf)
    above = min(diverged[diverged > centre], default=np.inf)
    found = []
    for place in (*_BLOCK, 0.0):
        one = centre + place * width
        near = int(np.argmin(np.abs(x_K - one)))
        value = values[near] if abs(x_K[near] - one) <= width / 8 else space.value(one)
        x = space.x(value)
        if value not in found and x not in diverged and below < x < above:
            found.append(value)
    return found[: len(_BLOCK)]


def _broken(x_K: np.ndarray, table_KN: np.ndarray, reading: Valley | None, alpha: float) -> Ended | None:
    """Why the runs are no smooth valley; None where they may be one."""
    if reading is None:
        return "cliff" if np.isinf(table_KN).any() else "no valley"
    if has_second_valley(x_K, table_KN, reading, alpha=alpha):
        return "two valleys"
    diverged = x_K[np.isinf(table_KN).any(axis=1)]
    rows = x_K[without_divergence(table_KN)]
    low, high = reading.window
    below = reading.is_open[0] and (diverged < low).any() and not (rows < low).any()
    above = reading.is_open[1] and (diverged > high).any() and not (rows > high).any()
    return "cliff" if reading.is_cliff or below or above else None


def _at_limits(space: Space, reading: Valley) -> tuple[bool, bool]:
    low, high = space.limits
    return reading.window[0] <= low + 1e-3, reading.window[1] >= high - 1e-3


@dataclass(frozen=True)
class _Choice:
    value: float
    at_worst: float
    """What it costs over the best, at level 1 - alpha, if the curve is one smooth valley."""
    by_rough: float
    """What it is expected to cost by a curve of which little is assumed."""


def _choose(
    space: Space,
    values: tuple[float, ...],
    table_KN: np.ndarray,
    reading: Valley,
    only_trained: bool,
    *,
    by_rough: bool,
) -> _Choice:
    """The value of the window that costs least by the valley and the smooth curve, and by the rough one if asked."""
    rows, seeds = np.nonzero(np.isfinite(table_KN))
    x_R = np.array([space.x(value) for value in values])[rows]
    runs = x_R, seeds, table_KN[rows, seeds]
    smooth_G, rough_G = (smooth_curve(kind, *runs, reading.grid_G) for kind in (SMOOTH, ROUGH))
    smooth_G, rough_G = smooth_G - smooth_G.min(), rough_G - rough_G.min()
    by_curves_G = CURVES_WEIGHT * (smooth_G + rough_G) if by_rough else SMOOTH_WEIGHT * smooth_G
    cost_G = reading.excess_G + by_curves_G
    here = space.value(float(reading.grid_G[int(np.argmin(cost_G))]))
    low, high = reading.window
    candidates = [value for value in (values if only_trained else space.listed) if low <= space.x(value) <= high]
    value = min(candidates or [here], key=lambda one: np.interp(space.x(one), reading.grid_G, cost_G))
    x = space.x(value)
    return _Choice(value, reading.excess_at(x), float(np.interp(x, reading.grid_G, rough_G)))


# --- Curves of which nothing is assumed but how smooth they are: second opinions on a valley ---

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
