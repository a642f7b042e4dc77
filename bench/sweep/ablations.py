"""Ablations of six changes: what a fraction of their combinations says, where all were trained on five seeds."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from bench.sweep.tables import SETTINGS, read_changes
from blueberry.stats.factorial import best_combination, factor_to_fold, factorial_effects, is_regular, pair_effects
from blueberry.study.arms import combine, fold_over
from blueberry.study.sections import Mode

NAMES = tuple(SETTINGS)
ALPHA = 0.05
MIN_EFFECT = 0.02
Held = tuple[str, ...]


@dataclass(frozen=True)
class Truth:
    """Losses of all combinations on the seeds that there are, drawn from with replacement."""

    name: str
    signs_KF: np.ndarray
    losses_KN: np.ndarray
    """By combination and seed."""

    @property
    def expected_K(self) -> np.ndarray:
        """What main effects and interactions of two leave of the means: single combinations on five seeds are too noisy
        to be told apart, and the least of 64 means is not the best of 64."""
        words = [word for size in (0, 1, 2) for word in combinations(range(self.signs_KF.shape[1]), size)]
        columns = np.array([self.signs_KF[:, list(word)].prod(axis=1) for word in words]).T
        means = self.losses_KN.mean(axis=1)
        return columns @ np.linalg.lstsq(columns, means, rcond=None)[0]

    def effect(self, factors: tuple[int, ...]) -> float:
        """AB - A - B + 0, or A - 0, on the mean over the others."""
        column = self.signs_KF[:, list(factors)].prod(axis=1)
        return float(2 * len(factors) * column @ self.losses_KN.mean(axis=1) / len(column))


def truths() -> list[Truth]:
    """Our own, and the same with an interaction planted that is as large as its effects."""
    signs_KF, losses_KN = read_changes()
    both = ((signs_KF[:, 0] > 0) & (signs_KF[:, 3] > 0))[:, None]
    mixed = Truth("with dropout and decay together better by 0.15", signs_KF, losses_KN - 0.15 * both)
    return [Truth("as measured", signs_KF, losses_KN), mixed]


def replay(truth: Truth, name: str, replays: int) -> dict[str, Any]:
    """One design, so many times."""
    design, num_seeds = DESIGNS[name]
    expected_K = truth.expected_K
    number = {tuple(row): k for k, row in enumerate(truth.signs_KF.tolist())}
    row_of = {held: number[tuple(1 if one in held else -1 for one in NAMES)] for held in combine(NAMES, "full").arms}
    regrets, runs, misses, folds, covered, shown = [], [], [], 0, 0, 0
    for replay_number in range(replays):
        rng = np.random.default_rng([replay_number, 3])
        drawn_KN = truth.losses_KN[:, rng.integers(0, truth.losses_KN.shape[1], num_seeds)]
        arms = list(combine(NAMES, design).arms)

        def effects(arms=arms, drawn_KN=drawn_KN):
            rows = [row_of[held] for held in arms]
            signs_KF, values_KN = truth.signs_KF[rows], drawn_KN[rows]
            return (factorial_effects if is_regular(signs_KF) else pair_effects)(signs_KF, values_KN, alpha=ALPHA)

        found = effects()
        if design == "fraction":
            factor = factor_to_fold(found, least=MIN_EFFECT)
            if factor is not None:
                folds += 1
                arms += fold_over(combine(NAMES, "fraction"), NAMES[factor])
                found = effects()
            best = tuple(NAMES[factor] for factor in best_combination(found, len(NAMES)))
            if best not in arms:
                arms.append(best)
        chosen = min(arms, key=lambda held: drawn_KN[row_of[held]].mean())
        regrets.append(expected_K[row_of[chosen]] - expected_K.min())
        runs.append(len(arms) * num_seeds)
        for one in found[: len(NAMES)]:
            true = truth.effect(one.factors)
            misses.append((one.pair.difference or math.nan) - true)
            shown += one.is_significant
            covered += one.interval is not None and one.interval[0] <= true <= one.interval[1]
    return {
        "truth": truth.name,
        "design": name,
        "replays": replays,
        "runs": float(np.mean(runs)),
        "regret": float(np.mean(regrets)),
        "worst": float(np.quantile(regrets, 0.95)),
        "error": float(np.sqrt(np.mean(np.square(misses)))),
        "shown": shown / len(misses),
        "covered": covered / len(misses),
        "folds": folds / replays,
    }


DESIGNS: dict[str, tuple[Mode, int]] = {
    "all 64, 5 seeds": ("full", 5),
    "all 64, 1 seed": ("full", 1),
    "single changes, 5 seeds": ("none", 5),
    "pairs, 5 seeds": ("pairs", 5),
    "fraction, 3 seeds": ("fraction", 3),
    "fraction, 5 seeds": ("fraction", 5),
}
