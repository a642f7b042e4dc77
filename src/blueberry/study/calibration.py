"""How fast this machine trains: by runs that have ended, or by the first updates of runs that are then thrown away."""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from blueberry.architecture import cost, flops_per_token
from blueberry.files import canonical_json
from blueberry.recipe import Recipe, fingerprint, shape_key
from blueberry.records import Progress, RunResult
from blueberry.study.arms import Run
from blueberry.study.database import EndedRun
from blueberry.study.placement import Placement
from blueberry.study.workers import Crew, Task, Trainer

TIMED_SECONDS = 3.0
"""Of updates, on every worker at once."""
MOST_TIMED = 16
"""Workers that are timed at once."""
PATIENCE_SECONDS = 60.0
"""Until workers have started and done their first updates; a machine that is slower is not timed."""
LARGEST_UPDATE_FLOPS = 1e12
"""Of an update that is timed without a GPU: beyond, it takes minutes and gigabytes."""
STARTUP_SECONDS = 3.0
"""Of workers, where none was timed."""
RECENT_RUNS = 100


@dataclass(frozen=True)
class Speed:
    """Of one worker while all are busy."""

    flops_per_second: float
    """Of training and evaluation: see `work`."""
    startup_seconds: float
    """Until a worker begins its first run."""
    source: Literal["runs", "updates"]
    """Runs of the same model that have ended, or updates that were timed for it."""


def work(recipe: Recipe) -> float:
    """FLOPs of a run: its updates, and its evaluations, which only go forward: a third of an update for a token."""
    evaluate, num_updates = recipe.evaluate, recipe.num_updates
    num_looks = -(-num_updates // evaluate.every_updates) * (1 + len(recipe.data.sets)) + 1  # the test set's is one
    return cost(recipe).num_flops + num_looks * evaluate.tokens * flops_per_token(recipe) / 3


def speed_of_runs(recipes: Iterable[Recipe], past: Sequence[EndedRun]) -> Speed | None:
    """By the latest runs of the store whose model, batch and precision one of the recipes has; None without any."""
    kinds = {_kind(recipe.flat()) for recipe in recipes}
    seen: list[float] = []
    for run in past:
        if run.recipe is None or not run.wall_seconds or run.status != "completed" or _kind(run.recipe) not in kinds:
            continue
        trained = run.metrics.get("train_seconds", 0.0) * run.own_fraction
        seen.append(work(Recipe.of(run.recipe)) * run.own_fraction / max(run.wall_seconds, trained))  # it was resumed
        if len(seen) == RECENT_RUNS:
            break
    return Speed(statistics.median(seen), STARTUP_SECONDS, "runs") if seen else None


def _kind(flat: Any) -> str:
    alike = ("train.batch_sequences", "train.micro_batch_sequences", "train.precision", "optimizer.kind")
    return canonical_json({name: flat[name] for name in flat if name.startswith("model.") or name in alike})


def timed(
    trainer_in: Callable[[Path], Trainer],
    recipe: Recipe,
    data: Path,
    data_digest: str,
    placed: Placement,
    lanes: int = 1,
) -> Speed | None:
    """By the first seconds of runs of a recipe on all workers at once, in a store that is thrown away.

    `trainer_in` makes a trainer of a store's folder; `data` holds the prepared text. None where an update is too
    large to be timed or none ended in PATIENCE_SECONDS, or where a run crashed.
    Raises: TrainerError, and what the trainer raises.
    """
    if not placed.gpus and flops_per_token(recipe) * recipe.update_tokens > LARGEST_UPDATE_FLOPS:
        return None
    with TemporaryDirectory(prefix="blueberry-timed-") as folder:
        (Path(folder) / "data").symlink_to(data.absolute(), target_is_directory=True)
        crew = Crew(trainer_in(Path(folder)), placed.workers, placed.gpus)
        try:
            began = time.monotonic()
            for worker in range(placed.workers):
                crew.start(_task(recipe, worker * lanes, lanes, data_digest))
            found = _listen(crew, recipe.update_tokens * lanes, placed.workers, began)
        finally:
            crew.kill()
    return None if found is None else Speed(found[0] * flops_per_token(recipe), found[1], "updates")


def _task(recipe: Recipe, first_seed: int, lanes: int, data_digest: str) -> Task:
    recipes = [recipe.with_({"seed": first_seed + lane, "train.keep_weights": False}) for lane in range(lanes)]
    shape = shape_key(recipe, data_digest)
    return Task(
        tuple(
            Run("timed", one.seed, one, fingerprint(one, data_digest), shape, "search", data_digest) for one in recipes
        )
    )


def _listen(crew: Crew, update_tokens: int, workers: int, began: float) -> tuple[float, float] | None:
    """Tokens a second of a worker, and seconds until its first run began."""
    first: dict[Task, float] = {}
    tokens_per_second: dict[Task, float] = {}
    ended: set[Task] = set()
    while time.monotonic() - began < PATIENCE_SECONDS:
        for task, message in crew.messages(0.1):
            if isinstance(message, RunResult):
                ended.add(task)
                if message.train_seconds and message.num_tokens:  # a lane's seconds are its share of its group's
                    tokens_per_second[task] = message.num_tokens / message.train_seconds
            elif isinstance(message, Progress):
                if (said := message.tokens_per_second) is not None:
                    tokens_per_second[task] = said
                    update_seconds = update_tokens / said
                    first.setdefault(task, time.monotonic() - began - message.update * update_seconds)
            elif message.crash is not None:
                return None
        now = time.monotonic() - began
        if len(tokens_per_second) == workers and all(
            task in ended or now - first[task] >= TIMED_SECONDS for task in tokens_per_second
        ):
            break
    if not tokens_per_second:
        return None
    return statistics.fmean(tokens_per_second.values()), max(first.values(), default=STARTUP_SECONDS)
