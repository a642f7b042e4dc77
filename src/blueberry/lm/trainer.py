"""The built-in trainer, as a study sees it: recipes in, results out. It can be sent to another process."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import blueberry
from blueberry.cost import flops_per_token
from blueberry.identity import digest, fingerprint
from blueberry.lm.checkpoint import Checkpoints
from blueberry.lm.training import train
from blueberry.recipe import Recipe
from blueberry.records import Progress, Provenance, RunResult
from blueberry.text import data_digest, load

SMALL_UPDATE_FLOPS = 1e11
"""Below this, one core does an update in about a second, and cores do more as one process each."""


@dataclass(frozen=True)
class Trainer:
    """Trains groups of recipes of one shape key. Checkpoints and prepared text live below `store`."""

    store: Path
    device: str = "auto"

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[Progress | RunResult]:
        """One RunResult for each recipe, and Progress between.

        Raises: DataError if the corpus does not fit the recipe, StoreError if the disk refuses.
        """
        first = recipes[0]
        device = torch.device(choose_device() if self.device == "auto" else self.device)
        threads = num_threads(first) if device.type == "cpu" else 1
        torch.set_num_threads(threads)
        dataset = load(first.data, self.store / "data")
        provenance = Provenance(
            code_digest=code_digest(),
            torch=torch.__version__,
            device=device_name(device),
            threads=threads,
            lanes=len(recipes),
            data_digest=dataset.digest,
            evaluation_digest="",
        )
        build = digest(provenance.model_dump_json(exclude={"lanes"}))
        checkpoints = Checkpoints(self.store / "checkpoints", build)
        names = [fingerprint(recipe, dataset.digest) for recipe in recipes]
        yield from train(recipes, names, dataset, provenance, device=device, checkpoints=checkpoints)


def forget_checkpoints(store: Path, fingerprints: Sequence[str]) -> None:
    """Delete the checkpoints of runs whose results are safe."""
    for name in fingerprints:
        shutil.rmtree(store / "checkpoints" / name, ignore_errors=True)


def train_one(recipe: Recipe, store: Path) -> Iterator[Progress | RunResult]:
    """Train a single recipe; its fingerprint is that of any study's run of it."""
    return Trainer(store)([recipe])


def num_threads(recipe: Recipe) -> int:
    """CPU threads of a run: decided by its size alone, so that its numbers do not depend on the worker count."""
    small = flops_per_token(recipe) * recipe.update_tokens < SMALL_UPDATE_FLOPS
    return 1 if small else os.cpu_count() or 1


def choose_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: torch.device) -> str:
    """What a result says computed it: the GPU's model, or the CPU's instruction set that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"


def code_digest() -> str:
    """Digest of the source that computes a result: the folders lm and text, and the schedules."""
    package = Path(blueberry.__file__).parent
    sha = hashlib.sha256()
    for path in sorted([*package.glob("lm/*.py"), *package.glob("text/*.py"), package / "schedules.py"]):
        sha.update(path.name.encode() + path.read_bytes())
    return sha.hexdigest()[:16]


__all__ = ["Trainer", "choose_device", "code_digest", "data_digest", "device_name", "num_threads", "train_one"]
