"""How runs are laid on this machine: worker processes, lanes and GPUs. Torch is not loaded to find out."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from blueberry.architecture import num_threads, usable_cores
from blueberry.recipe import Recipe
from blueberry.study.engine import LANES_ON_A_GPU


@dataclass(frozen=True)
class Placement:
    """It decides speed and, on one build and device, no number."""

    workers: int
    lanes: int
    """Runs trained side by side in one worker: 1 on a CPU, where a process a core does as much."""
    devices: tuple[str, ...] = ()
    """The GPUs that workers are spread over, as CUDA_VISIBLE_DEVICES names them."""


def placement(recipes: Iterable[Recipe], workers: int | None = None) -> Placement:
    """A worker for each GPU; without, as many as there are cores for the threads of the largest of the recipes."""
    if devices := gpus():
        return Placement(workers or len(devices), LANES_ON_A_GPU, devices)
    cores = usable_cores()
    threads = max((num_threads(recipe, cores) for recipe in recipes), default=1)
    return Placement(workers or max(1, cores // threads), 1)


def gpus() -> tuple[str, ...]:
    """The GPUs that training will use: none if the installed torch is built for CPUs, or none may be seen."""
    program = shutil.which("nvidia-smi")
    if program is None or not _torch_knows_cuda():
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:  # CUDA stops reading at the first that is none
        named = [one.strip() for one in visible.split(",")]
        return tuple(named[: next((at for at, one in enumerate(named) if not one or one.startswith("-")), len(named))])
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    if listed.returncode != 0:
        return ()
    return tuple(re.findall(r"^GPU (\d+):", listed.stdout, re.MULTILINE))


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
