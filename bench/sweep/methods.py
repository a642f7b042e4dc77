"""Ways to find the best learning rate: each is given a function that trains, and says which rate it would use."""

import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.sweep.surfaces import DIVERGES_AT, HIGH, LOW, RATES, RUN_UPDATES, Loss, Measured, Surface
from bench.sweep.tables import RUNGS
from blueberry.judge.races import follow
from blueberry.stats.locate import Search, Space, search
from blueberry.study.plan import looks_of

ALPHA = 0.05
MIN_EFFECT = 0.01
MAX_SEEDS = 16
REDUCTION = 3
"""Of halving: how many runs compete for each that goes on."""
AT_ONCE = 4
"""Runs that asynchronous halving trains side by side."""


@dataclass
class Bill:
    """Trains, and counts: a run that diverges ends there, unless nobody sees that it has."""

    loss: Loss
    surface: Surface | Measured
    spent: dict[tuple[float, int], float] = field(default_factory=dict)
    """Of one whole run, by rate and seed."""

    def __call__(self, rate: float, seed: int, rung: int | None = None, *, runs_on: bool = False) -> float:
        measured = self.loss(rate, seed, rung)
        part = 1.0 if rung is None else rung / RUN_UPDATES
        if math.isinf(measured) and not runs_on:
            part = min(part, DIVERGES_AT)
        self.spent[rate, seed] = max(part, self.spent.get((rate, seed), 0.0))
        return measured

    @property
    def cost(self) -> float:
        return sum(self.spent.values())

    def nearest(self, x: float) -> float:
        """The rate at a log rate: of our own runs the nearest that was trained."""
        if isinstance(self.surface, Measured):
            return min(RATES, key=lambda rate: abs(math.log(rate) - x))
        return math.exp(x)


@dataclass(frozen=True)
class Outcome:
    rate: float
    found: Search | None = None
    dropped: frozenset[float] | None = None
    """Rates that were given up before their last run; None where a method gives up none."""


Method = Callable[[Bill, np.random.Generator], Outcome]


def grid(seeds: int) -> Method:
    """Every one of 26 rates on so many seeds; the least mean."""

    def method(train: Bill, rng: np.random.Generator) -> Outcome:
        return Outcome(min(RATES, key=lambda rate: sum(train(rate, seed) for seed in range(seeds))))

    return method


def random_rates(runs: int) -> Method:
    """So many rates drawn evenly in the logarithm, on one seed; the least."""

    def method(train: Bill, rng: np.random.Generator) -> Outcome:
        rates = [train.nearest(x) for x in rng.uniform(math.log(LOW), math.log(HIGH), runs)]
        return Outcome(min(rates, key=lambda rate: train(rate, 0)))

    return method


def golden_section(runs: int) -> Method:
    """Golden-section search in the logarithm, on one seed; the least of what it tried."""

    def method(train: Bill, rng: np.random.Generator) -> Outcome:
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
        return Outcome(min(tried, key=lambda rate: train(rate, 0)))

    return method


def tpe(runs: int) -> Method:
    """Optuna's sampler, one seed a trial; the least. A diverged run is worse than any number."""

    def method(train: Bill, rng: np.random.Generator) -> Outcome:
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
        return Outcome(best[1])

    return method


def optuna_halving(runs: float | None) -> Method:
    """Optuna's pruner, one run at a time, on one seed: the 26 rates in random order, or what TPE proposes until so many
    runs are spent. The least of those that came to their end."""

    def method(train: Bill, rng: np.random.Generator) -> Outcome:
        import optuna  # pyright: ignore[reportMissingImports]

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        asked = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=int(rng.integers(2**31))),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=RUNGS[0], reduction_factor=REDUCTION),
        )
        listed = iter(rng.permutation(RATES).tolist())
        ended, dropped, times = dict[float, float](), set[float](), dict[float, int]()
        while runs is None or train.cost < runs:
            trial = asked.ask()
            if runs is None:
                rate = next(listed, None)
                if rate is None:
                    break
            else:
                rate = train.nearest(math.log(trial.suggest_float("rate", LOW, HIGH, log=True)))
            seed = times[rate] = times.get(rate, -1) + 1  # of our own runs the nearest is taken, maybe once more
            for rung in RUNGS:
                trial.report(train(rate, seed, rung), rung)
                if trial.should_prune():
                    asked.tell(trial, state=optuna.trial.TrialState.PRUNED)
                    dropped.add(rate)
                    break
            else:
                ended[rate] = train(rate, seed)
                asked.tell(trial, ended[rate])
        return Outcome(min(ended, key=lambda rate: ended[rate]), dropped=None if runs else frozenset(dropped))

    return method


def ray_asha(*, nan_is_infinite: bool) -> Method:
    """Ray Tune's scheduler, asked directly: the 26 rates in random order on one seed, four side by side, of one speed.

    A diverged run reports NaN, which the scheduler never stops; or an infinite loss, which it does.
    """

    def method(train: Bill, rng: np.random.Generator) -> Outcome:
        from ray.tune.schedulers import AsyncHyperBandScheduler  # pyright: ignore[reportMissingImports]

        logging.getLogger("ray").setLevel(logging.ERROR)
        scheduler: Any = AsyncHyperBandScheduler(  # it reads of a trial nothing but its name, of a controller nothing
            "update", "loss", "min", max_t=RUN_UPDATES, grace_period=RUNGS[0], reduction_factor=REDUCTION
        )
        waiting = rng.permutation(RATES).tolist()
        running: list[tuple[float, SimpleNamespace, list[int | None]]] = []
        ended, dropped = dict[float, float](), set[float]()
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                rate = waiting.pop()
                running.append((rate, SimpleNamespace(trial_id=str(rate)), [*RUNGS, None]))
                scheduler.on_trial_add(None, running[-1][1])
            for one in tuple(running):
                rate, trial, rungs = one
                rung = rungs.pop(0)
                loss = train(rate, 0, rung, runs_on=not nan_is_infinite)
                told = math.nan if math.isinf(loss) and not nan_is_infinite else loss
                with warnings.catch_warnings(action="ignore"):  # percentiles of infinite numbers
                    told = {"update": rung or RUN_UPDATES, "loss": told}
                    stops = scheduler.on_trial_result(None, trial, told) == "STOP"
                if rung is None:
                    ended[rate] = loss
                elif stops:
                    dropped.add(rate)
                if rung is None or stops:
                    running.remove(one)
        return Outcome(min(ended, key=lambda rate: ended[rate]), dropped=frozenset(dropped))

    return method


def race(train: Bill, rng: np.random.Generator) -> Outcome:
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
    kept = {RATES[row] for row in seen.contenders}
    return Outcome(RATES[best or 0], dropped=frozenset(RATES) - kept)


def locate(runs: int | None) -> Method:
    """Blueberry's search; where the runs are no valley, the least mean on three seeds of the values that it trained."""

    def method(train: Bill, rng: np.random.Generator) -> Outcome:
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
            return Outcome(found.recommended, found)
        finite = [rate for rate, row in zip(found.values, found.measured_KN, strict=True) if not np.isinf(row).any()]
        if runs is not None:
            return Outcome(min(finite, key=lambda rate: train(rate, 0)), found)
        means = {rate: sum(train(rate, seed) for seed in range(3)) for rate in finite}
        return Outcome(min(means, key=lambda rate: means[rate]), found)

    return method


METHODS: dict[str, Method] = {
    "grid, 1 seed": grid(1),
    "grid, 3 seeds": grid(3),
    "grid, 5 seeds": grid(5),
    "race": race,
    "random, 13 runs": random_rates(13),
    "golden section, 13 runs": golden_section(13),
    "TPE, 13 runs": tpe(13),
    "TPE and halving, 13 runs": optuna_halving(13),
    "Optuna's halving": optuna_halving(None),
    "Ray's ASHA, NaN": ray_asha(nan_is_infinite=False),
    "Ray's ASHA, infinite": ray_asha(nan_is_infinite=True),
    "locate, 13 runs": locate(13),
    "locate": locate(None),
}
PEERS = {"TPE, 13 runs": "optuna", "TPE and halving, 13 runs": "optuna", "Optuna's halving": "optuna"}
PEERS |= {"Ray's ASHA, NaN": "ray", "Ray's ASHA, infinite": "ray"}
"""What a method needs that is none of Blueberry's own."""
