"""Where groups of runs are trained and how many at once: from the GPUs, the cores, and what a run computes and holds.

It decides speed and, on one build and device, no number. Nothing here loads torch.
"""

import math
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from blueberry.architecture import cost, num_threads, usable_cores, weight_shapes
from blueberry.recipe import Recipe

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
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""Environment of processes that share a machine: threads that wait by spinning starve the others."""
Lanes = Callable[[Recipe, int], int]
"""How many runs of one shape are trained side by side, where so many runs are handed out together."""


@dataclass(frozen=True)
class Gpu:
    name: str
    """As CUDA_VISIBLE_DEVICES has it."""
    free_bytes: int | None = None
    """Of its memory, when it was looked at; None where that is not said."""


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


def fits_beside(recipe: Recipe, others: Collection[Recipe]) -> bool:
    """Whether a run may be trained beside others on the cores of this machine: one of several threads may beside none.

    It has as many threads as there are cores, whoever shares them; two such runs take longer than one after the other.
    """
    cores = usable_cores()
    return not others or all(num_threads(one, cores) == 1 for one in (*others, recipe))


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
