"""How noisy runs of one kind have been, from everything a store has: for plans that have no runs of their own yet."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from blueberry.identity import canonical_json
from blueberry.recipe import Recipe
from blueberry.stats.noise import measure_noise
from blueberry.study.database import EndedRun

LEAST_MIN_EFFECT = 0.005
"""Nats: the smallest difference that is suggested as mattering, however small the noise."""


@dataclass(frozen=True)
class FamilyNoise:
    """Noise of one recipe family at one length, in the metric. See `stats.noise.NoiseEstimate`."""

    num_updates: int
    sd: float
    """Of one run around its arm's mean."""
    rho: float | None
    """Correlation of two arms' results on one seed."""
    paired_sd: float | None
    """Of a difference of two arms on one seed; None until two arms share two seeds."""
    n: int
    """Runs that entered."""


def family_of(recipe: Recipe) -> dict[str, Any]:
    """What runs must share for the noise of one to tell that of another: dotted setting to value.

    Everything that decides a run's numbers (`Recipe.identity`) except the seed, the length, the schedule, and
    what may differ between lanes: rates, decay, momentum, clipping. So: model, text, tokenizer, batch,
    precision, kind of optimizer, tokens it is evaluated on. Noise is never taken from another family.
    """
    kept = recipe.identity(per_lane=False)
    return {name: value for name, value in kept.items() if name not in ("train.updates", "evaluate.every_updates")}


def noise_by_horizon(
    runs: Iterable[EndedRun], family: Mapping[str, Any], metric: str, data_digest: str | None = None
) -> tuple[FamilyNoise, ...]:
    """The noise of a family at each length that it was run for, ascending; only lengths with a repeated arm.

    `metric` is one of the validation set. Arms are recipes that differ in anything but the seed, from whatever
    study; they are pooled as within a study. Runs on other data than `data_digest` do not count.
    """
    tables: dict[int, dict[str, dict[int, float]]] = {}
    for run in runs:
        own_data = data_digest is None or run.data_digest is None or run.data_digest == data_digest
        value = math.inf if run.status == "diverged" else run.metric(metric)
        if not own_data or value is None or run.recipe is None or not _belongs(run.recipe, family):
            continue
        arm = canonical_json({name: said for name, said in run.recipe.items() if name != "seed"})
        tables.setdefault(_num_updates(run.recipe), {}).setdefault(arm, {})[run.recipe["seed"]] = value
    found = []
    for num_updates, arms in sorted(tables.items()):
        seeds = sorted({seed for values in arms.values() for seed in values})
        values_KN = np.array([[values.get(seed, math.nan) for seed in seeds] for values in arms.values()])
        noise = measure_noise(values_KN)
        if noise.sd is not None:
            found.append(FamilyNoise(num_updates, noise.sd, noise.rho, noise.paired_sd, noise.n))
    return tuple(found)


def suggested_min_effect(sd: float) -> float:
    """max(0.005 nats, half the noise of one run), to two digits. Only ever suggested: a study states its own."""
    return float(f"{max(LEAST_MIN_EFFECT, sd / 2):.2g}")


def _belongs(recipe: Mapping[str, Any], family: Mapping[str, Any]) -> bool:
    return "seed" in recipe and all(name in recipe and recipe[name] == value for name, value in family.items())


def _num_updates(recipe: Mapping[str, Any]) -> int:
    if recipe.get("train.updates") is not None:
        return int(recipe["train.updates"])
    tokens = recipe["train.batch_sequences"] * recipe["model.context_tokens"]
    return -(-int(recipe["train.tokens"]) // tokens)
