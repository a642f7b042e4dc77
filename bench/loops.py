"""Loops that keep and discard, simulated: how often they keep a change that is none, what they gain, what it costs.

Measured by `python -m bench.truth`. Units: everything is in sds of one run, of which the noise is 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log

import numpy as np
from scipy.special import stdtr

from blueberry.stats.loop import LEAST_DF, Run, Tally, error_of_change, log_evidence, more_runs

ALPHA = 0.05
NUM_CHANGES = 100
NUM_BETTER = 10

Draw = Callable[[float], float]
"""One run of an arm whose expected value is given."""


@dataclass(frozen=True)
class Ended:
    """One loop."""

    null: int
    """Kept changes that are no improvement."""
    better: int
    runs: int
    gain: float
    """Expected value of the first baseline less that of the last; here it is 0 or more on average."""


def effects_of(case: str, generator: np.random.Generator) -> np.ndarray:
    """The true effect of each change: below 0 is better. Shape (NUM_CHANGES,)."""
    effects = np.zeros(NUM_CHANGES)
    if case == "nothing":
        return effects
    if case == "worse":
        effects = np.abs(generator.normal(0, 1, NUM_CHANGES))
    effects[generator.choice(NUM_CHANGES, NUM_BETTER, replace=False)] = -generator.uniform(1, 3, NUM_BETTER)
    return effects


def lower_kept(effects: np.ndarray, draw: Draw, num_runs: int) -> Ended:
    """Keep what came out lower, each change run so often."""
    level, best = 0.0, float(np.mean([draw(0.0) for _ in range(num_runs)]))
    null = better = 0
    for effect in effects:
        value = float(np.mean([draw(level + effect) for _ in range(num_runs)]))
        if value < best:
            level, best = level + effect, value
            null, better = null + (effect >= 0), better + (effect < 0)
    return Ended(null, better, num_runs * (len(effects) + 1), -level)


def t_tested(effects: np.ndarray, draw: Draw, num_runs: int) -> Ended:
    """Keep what a one-sided t-test at .05 calls lower, each change run so often."""
    level, base = 0.0, np.array([draw(0.0) for _ in range(num_runs)])
    null = better = 0
    for effect in effects:
        values = np.array([draw(level + effect) for _ in range(num_runs)])
        t = (values.mean() - base.mean()) / np.sqrt((values.var(ddof=1) + base.var(ddof=1)) / num_runs)
        if stdtr(2 * num_runs - 2, t) < ALPHA:
            level, base = level + effect, values
            null, better = null + (effect >= 0), better + (effect < 0)
    return Ended(null, better, num_runs * (len(effects) + 1), -level)


def judged(effects: np.ndarray, draw: Draw, sd: float | None) -> Ended:
    """As `judge_change` decides, with its sums kept up from run to run; one run more whenever it says "run again"."""
    tally, levels, base = Tally(sd, inf), {"0": 0.0}, "0"
    null = better = runs = 0

    def run(arm: str) -> None:
        nonlocal runs
        runs += 1
        tally.add(Run(arm, draw(levels[arm])))

    run(base)
    for position, effect in enumerate(effects, 1):
        arm = str(position)
        levels[arm] = levels[base] + float(effect)
        threshold = -log(error_of_change(position, ALPHA))
        run(arm)
        while True:
            gap = tally.gap(base, arm)
            if log_evidence(gap) >= threshold:
                base, null, better = arm, null + (effect >= 0), better + (effect < 0)
                break
            more = None if gap.difference is None or gap.difference >= 0 else more_runs(gap, threshold)
            if more is None:
                break
            needs_baseline = more[0] > more[1] or gap.df < LEAST_DF
            run(base if needs_baseline else arm)
    return Ended(null, better, runs, -levels[base])


RULES: dict[str, Callable[[np.ndarray, Draw], Ended]] = {
    "keep the lower of single runs": lambda effects, draw: lower_kept(effects, draw, 1),
    "keep the lower mean of 3 runs": lambda effects, draw: lower_kept(effects, draw, 3),
    "t-test at .05, 4 runs each": lambda effects, draw: t_tested(effects, draw, 4),
    "judge, noise measured": lambda effects, draw: judged(effects, draw, None),
    "judge, noise borrowed": lambda effects, draw: judged(effects, draw, 1.0),
}
CASES = {
    "90 do nothing": "nothing but 10",
    "90 make it worse": "worse",
    "all 100 do nothing": "nothing",
}
NOISES = {"Gaussian": tuple(RULES), "t3": ("judge, noise measured", "judge, noise borrowed"),
          "unequal": ("judge, noise measured",)}  # fmt: skip
"""Of one run, sd 1 (unequal: the sd of each arm is 1/2, 1 or 2), and the rules that are tried under it."""


def draw_of(noise: str, generator: np.random.Generator) -> Draw:
    if noise == "Gaussian":
        return lambda level: level + float(generator.normal())
    if noise == "t3":
        return lambda level: level + float(generator.standard_t(3)) / 3**0.5
    sds: dict[float, float] = {}

    def unequal(level: float) -> float:
        sd = sds.setdefault(level, float(generator.choice([0.5, 1.0, 2.0])))
        return level + sd * float(generator.normal())

    return unequal


def measured(rule: str, case: str, noise: str, generator: np.random.Generator, num_loops: int) -> dict[str, np.ndarray]:
    """One number a loop, by measure. Shapes: (num_loops,) each; NaN where a loop has nothing to say about it."""
    ended = []
    for _ in range(num_loops):
        effects = effects_of(CASES[case], generator)
        if noise == "unequal":  # an arm's noise goes with its level, and no two arms may have one
            effects = effects + generator.uniform(0, 1e-9, NUM_CHANGES)
        ended.append(RULES[rule](effects, draw_of(noise, generator)))
    null, better, runs, gain = (
        np.array([getattr(one, name) for one in ended], dtype=float) for name in ("null", "better", "runs", "gain")
    )
    return {
        "null kept": (null > 0).astype(float),
        "nulls": null,
        "null share": null / np.maximum(null + better, 1),
        "improvements": np.full(num_loops, np.nan) if case.startswith("all") else better,
        "runs": runs,
        "gain": gain.round(6) + 0.0,
        "gain per 100": gain.round(6) * 100 / runs + 0.0,
    }
