"""Where groups of runs are trained, how many at once, and how fast that is.

Where: from the GPUs, the cores, and what a run computes and holds. How fast: by runs that have ended, or by the first
updates of runs that are then thrown away. It decides no number, on one build and device. Nothing here loads torch.
"""

import math
import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from blueberry.architecture import cost, flops_per_token, num_threads, usable_cores, weight_shapes
from blueberry.files import canonical_json
from blueberry.recipe import Recipe, fingerprint, shape_key
from blueberry.records import Progress, RunResult
from blueberry.study.arms import Run
from blueberry.study.database import EndedRun
from blueberry.study.workers import Crew, Gpu, Task, Trainer

BUSY_FLOPS = 1.2e12
"""Of one micro-batch of all lanes: with as much a GPU has no more to gain. On an H200 an update of 64 nano runs, which
have that, took 0.45 ms a run, of 8 runs 0.66 ms, of one 1.75 ms; an update of moe-79m has it alone."""
MOST_LANES = 64
SMALL_FLOPS = 1e9
"""Of one micro-batch of a run on a CPU: lanes share what calling an operator costs beside its arithmetic, while they
fit the cache. Four runs of moe-nano, which has 0.9e9, take 0.81 to 0.88 of the time of single ones; with twice its
batch 0.92, with four times 1.1."""
MOST_LANES_ON_A_CPU = 4
EVEN = 16
"""A lane's numbers are a single run's to the last bit where its tensors begin at a multiple of 64 bytes."""
MEMORY_SHARE = 0.8
"""Of a GPU's free memory that lanes may be counted to need: the count is an estimate."""
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
Lanes = Callable[[Recipe, int], int]
"""How many runs of one shape are trained side by side, where so many runs are handed out together."""


@dataclass(frozen=True)
class Placement:
    workers: int
    gpus: tuple[Gpu, ...] = ()
    """That workers are spread over."""


def placement(recipes: Iterable[Recipe], workers: int | None = None) -> Placement:
    """A worker for each GPU; without, one for each core, unless every run needs all cores: see `fits_beside`."""
    if found := gpus():
        return Placement(workers or len(found), found)
    cores = usable_cores()
    return Placement(workers or (1 if all(num_threads(recipe, cores) > 1 for recipe in recipes) else cores))


def lanes_for(recipe: Recipe, num_runs: int, gpus: Sequence[Gpu], workers: int) -> int:
    """How many runs of one shape a worker trains side by side.

    At most four on a CPU, where runs are small and lanes change no bit. On a GPU at most a power of two: as many as
    keep it busy and as fit the least free of the GPUs (workers that have one together share both). Of `num_runs`, all
    that are to be handed out together, each worker gets its share, in groups as even as can be.
    """
    counted = cost(recipe)
    flops = counted.flops_per_token * recipe.micro_batch_sequences * recipe.model.context_tokens
    if gpus:
        free_bytes = min((gpu.free_bytes for gpu in gpus if gpu.free_bytes is not None), default=math.inf)
        on_one = math.ceil(workers / len(gpus))
        fitting = min(MOST_LANES, min(BUSY_FLOPS / flops, MEMORY_SHARE * free_bytes / counted.memory_bytes) / on_one)
        most = 2 ** int(math.log2(max(1.0, fitting)))
    else:
        numbers = (recipe.model.context_tokens, *map(math.prod, weight_shapes(recipe).values()))
        most = MOST_LANES_ON_A_CPU if flops <= SMALL_FLOPS and not any(n % EVEN for n in numbers) else 1
    rounds = math.ceil(num_runs / (most * workers))
    return math.ceil(num_runs / (workers * rounds))


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that training will use: none if the installed torch is built for CPUs, or none may be seen."""
    program = shutil.which("nvidia-smi")
    if program is None or not _torch_knows_cuda():
        return ()
    asked = [program, "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    if listed.returncode != 0:
        return ()
    known = {
        (index, uuid): 2**20 * int(free) if free.isdecimal() else None
        for index, uuid, free in re.findall(r"^(\d+), *(\S+), *(.+?) *$", listed.stdout, re.MULTILINE)
    }
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(Gpu(index, free) for (index, _), free in known.items())
    found: list[Gpu] = []
    for name in (one.strip() for one in visible.split(",")):
        free = [free for (index, uuid), free in known.items() if name == index or (name and uuid.startswith(name))]
        if not free and not name.startswith("MIG-"):  # CUDA stops reading at the first that is none
            break
        found.append(Gpu(name, free[0] if free else None))
    return tuple(found)


def _torch_knows_cuda() -> bool:
    """As the installed torch says of itself in `torch/version.py`."""
    found = find_spec("torch")
    if found is None or found.origin is None:
        return False
    try:
        said = (Path(found.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^cuda\b[^=\n]*=\s*['\"]", said, re.MULTILINE) is not None


# --- How fast -------------------------------------------------------------------------------------------------------


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
