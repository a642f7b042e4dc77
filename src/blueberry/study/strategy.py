"""How runs are given out: how many seeds, and whether all arms get them."""

from dataclasses import dataclass
from typing import Any, Literal

from blueberry.recipe import Recipe
from blueberry.study.reading import choice, refuse, refuse_unknown, section, whole

Method = Literal["grid", "race", "optuna"]
METHODS: tuple[Method, ...] = ("grid", "race", "optuna")
MAX_SEEDS = 1_000
MAX_TRIALS = 1_000


@dataclass(frozen=True)
class Seeds:
    """How many blocks. A block is a seed: one set of initial weights, one data order, one stream of random draws."""

    search: int = 3
    """Blocks that choose."""
    confirm: int = 5
    """Fresh blocks that report the chosen arm; 0 for none."""
    max: int = 16
    """Blocks a search may grow to; the confirming ones lie beyond, so that they are fresh whatever happens."""


@dataclass(frozen=True)
class Strategy:
    """Which arms get which seeds."""

    method: Method = "grid"
    """"grid": every arm on every searching seed. "race": more seeds for the arms that are still open, look by look.
    "optuna": arms are proposed from the results of those before."""
    trials: int = 40
    """optuna: proposals in all."""
    batch: int = 4
    """optuna: proposals made at once, to be trained side by side."""
    seed: int = 0
    """optuna: of the sampler."""


def read_seeds(given: dict[str, Any], base: Recipe, place: str) -> Seeds:
    """[seeds]. Raises: StudyError."""
    table = section(given, "seeds", place)
    place = f"{place} [seeds]"
    refuse_unknown(table, ("search", "confirm", "max"), place)
    seeds = Seeds(
        search=whole(table, "search", place, Seeds.search, least=1, most=MAX_SEEDS),
        confirm=whole(table, "confirm", place, Seeds.confirm, least=0, most=MAX_SEEDS),
        max=whole(table, "max", place, Seeds.max, least=1, most=MAX_SEEDS),
    )
    if seeds.search > seeds.max:
        refuse(f'{place} "search"', seeds.search, f"may not exceed max = {seeds.max}; raise max or lower search")
    if base.seed + seeds.max + 2 * seeds.confirm > 2**31:  # twice: see [tune]
        refuse(f'{place} "max"', seeds.max, f"seeds from {base.seed} would pass 2**31 - 1; lower the recipe's seed")
    return seeds


def read_strategy(given: dict[str, Any], place: str) -> Strategy:
    """[strategy]. Raises: StudyError."""
    table = section(given, "strategy", place)
    place = f"{place} [strategy]"
    refuse_unknown(table, ("method", "trials", "batch", "seed"), place)
    said = choice(table, "method", place, "grid", METHODS)
    method = METHODS[METHODS.index(said)]  # pyright: ignore[reportArgumentType]
    for name in ("trials", "batch", "seed"):
        if name in table and method != "optuna":
            refuse(f'{place} "{name}"', table[name], 'only proposals have it; set method = "optuna" or remove it')
    strategy = Strategy(
        method=method,
        trials=whole(table, "trials", place, Strategy.trials, least=2, most=MAX_TRIALS),
        batch=whole(table, "batch", place, Strategy.batch, least=1, most=MAX_TRIALS),
        seed=whole(table, "seed", place, Strategy.seed, least=0, most=2**31 - 1),
    )
    if strategy.batch > strategy.trials:
        refuse(f'{place} "batch"', strategy.batch, f"may not exceed trials = {strategy.trials}; lower it")
    return strategy
