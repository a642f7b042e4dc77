"""Ways to find the best learning rate: each is given a function that trains, and says which rate it would use."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bench.sweep.surfaces import HIGH, LOW, RATES, Loss, Measured, Surface
from blueberry.judge.race import follow
from blueberry.stats.locate import Search, Space, search
from blueberry.study.plan import looks_of

ALPHA = 0.05
MIN_EFFECT = 0.01
MAX_SEEDS = 16


@dataclass
class Bill:
    """Trains, and counts: a run that diverges costs a third of one, as it ends there."""

    loss: Loss
    surface: Surface | Measured
    cost: float = 0.0
    done: dict[tuple[float, int], float] = field(default_factory=dict)

    def __call__(self, rate: float, seed: int) -> float:
        if (rate, seed) not in self.done:
            self.done[rate, seed] = self.loss(rate, seed)
            self.cost += 1 if math.isfinite(self.done[rate, seed]) else 1 / 3
        return self.done[rate, seed]

    def nearest(self, x: float) -> float:
        """The rate at a log rate: of our own runs the nearest that was trained."""
        if isinstance(self.surface, Measured):
            return min(RATES, key=lambda rate: abs(math.log(rate) - x))
        return math.exp(x)


Method = Callable[[Bill, np.random.Generator], tuple[float, Search | None]]


def grid(seeds: int) -> Method:
    """Every one of 26 rates on so many seeds; the least mean."""

    def method(train: Bill, rng: np.random.Generator) -> tuple[float, None]:
        return min(RATES, key=lambda rate: sum(train(rate, seed) for seed in range(seeds))), None

    return method


def random_rates(runs: int) -> Method:
    """So many rates drawn evenly in the logarithm, on one seed; the least."""

    def method(train: Bill, rng: np.random.Generator) -> tuple[float, None]:
        rates = [train.nearest(x) for x in rng.uniform(math.log(LOW), math.log(HIGH), runs)]
        return min(rates, key=lambda rate: train(rate, 0)), None

    return method


def golden_section(runs: int) -> Method:
    """Golden-section search in the logarithm, on one seed; the least of what it tried."""

    def method(train: Bill, rng: np.random.Generator) -> tuple[float, None]:
        low, high, ratio = math.log(LOW), math.log(HIGH), (math.sqrt(5) - 1) / 2
        tried: list[float] = []

        def value(x: float) -> float:
            tried.append(train.nearest(x))
            return train(tried[-1], 0)

        left, right = high - ratio * (high - low), low + ratio * (high - low)
        at_left, at_right = value(left), value(right)
        for _ in range(runs - 2):
            if at_left <= at_right:
                high, right, at_right = right, left, at_left
                left = high - ratio * (high - low)
                at_left = value(left)
            else:
                low, left, at_left = left, right, at_right
                right = low + ratio * (high - low)
                at_right = value(right)
        return min(tried, key=lambda rate: train(rate, 0)), None

    return method


def tpe(runs: int) -> Method:
    """Optuna's sampler, one seed a trial; the least. A diverged run is worse than any number."""

    def method(train: Bill, rng: np.random.Generator) -> tuple[float, None]:
        import optuna  # pyright: ignore[reportMissingImports]

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=int(rng.integers(2**31)), n_startup_trials=max(runs // 4, 2))
        asked = optuna.create_study(sampler=sampler)
        best = (math.inf, LOW)
        for _ in range(runs):
            trial = asked.ask()
            rate = train.nearest(math.log(trial.suggest_float("rate", LOW, HIGH, log=True)))
            loss = train(rate, 0)
            asked.tell(trial, loss)
            best = min(best, (loss, rate))
        return best[1], None

    return method


def race(train: Bill, rng: np.random.Generator) -> tuple[float, None]:
    """All 26 rates on three seeds, then further seeds for those that may be the best, to 16 at most."""
    looks = looks_of(3, MAX_SEEDS)
    table_KN = np.array([[train(rate, seed) for seed in range(looks[0])] for rate in RATES])
    while True:
        seen = follow(table_KN, looks=looks, alpha=ALPHA, min_effect=MIN_EFFECT)
        if not seen.open:
            break
        wider_KN = np.full((len(RATES), looks[len(seen.taken)]), np.nan)
        wider_KN[:, : table_KN.shape[1]] = table_KN
        for row in seen.open:
            wider_KN[row] = [train(RATES[row], seed) for seed in range(wider_KN.shape[1])]
        table_KN = wider_KN
    best = seen.rulings.best if seen.rulings else None
    return RATES[best or 0], None


def locate(runs: int | None) -> Method:
    """Blueberry's search; where the runs are no valley, the least mean on three seeds of the values that it trained."""

    def method(train: Bill, rng: np.random.Generator) -> tuple[float, Search | None]:
        listed = RATES if isinstance(train.surface, Measured) else ()
        space = Space(low=LOW, high=HIGH, listed=listed)
        ask = search(space, alpha=ALPHA, min_effect=MIN_EFFECT, max_seeds=MAX_SEEDS, max_runs=runs, only_trained=False)
        batch = next(ask)
        while True:
            try:
                batch = ask.send([train(rate, seed) for rate, seed in batch])
            except StopIteration as over:
                found: Search = over.value
                break
        if found.recommended is not None:
            return found.recommended, found
        finite = [rate for rate, row in zip(found.values, found.measured_KN, strict=True) if not np.isinf(row).any()]
        if runs is not None:
            return min(finite, key=lambda rate: train(rate, 0)), found
        means = {rate: sum(train(rate, seed) for seed in range(3)) for rate in finite}
        return min(means, key=lambda rate: means[rate]), found

    return method


METHODS: dict[str, Method] = {
    "grid, 1 seed": grid(1),
    "grid, 3 seeds": grid(3),
    "grid, 5 seeds": grid(5),
    "race": race,
    "random, 13 runs": random_rates(13),
    "golden section, 13 runs": golden_section(13),
    "TPE, 13 runs": tpe(13),
    "locate, 13 runs": locate(13),
    "locate": locate(None),
}
