"""The built-in trainer, as a study sees it: recipes in, results out. It can be sent to another process.

Torch is imported when training begins, not before: whoever only hands the trainer on does not pay for it.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import blueberry
from blueberry.architecture import num_threads, usable_cores
from blueberry.errors import RecipeError
from blueberry.files import digest, is_whole
from blueberry.recipe import Recipe, fingerprint
from blueberry.records import Progress, Provenance, RunResult
from blueberry.text.dataset import load
from blueberry.text.hub import tokenizer_revision


@dataclass(frozen=True)
class Trainer:
    """Trains groups of recipes of one shape key, one lane each."""

    store: Path
    """Prepared text lies in its folder `data`, checkpoints in `checkpoints`, final weights in `weights`."""
    device: str = "auto"
    """As torch names it; "auto" is the first CUDA device, else the CPU."""
    shares: ClassVar[bool] = True
    """It leaves the states that others want and begins where others have been: see `blueberry.lm.checkpoint`."""

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[Progress | RunResult]:
        """One RunResult for each recipe, and Progress between. Goes on from the newest sound checkpoint.

        Raises: DataError if the corpus does not fit the recipe, StoreError if the disk refuses.
        """
        if recipes[0].script:
            raise RecipeError(
                f'recipe "script.{next(iter(recipes[0].script))}": given; the built-in trainer reads no settings of '
                "scripts; leave it out, or run a study with a [trainer]"
            )
        dataset = load(recipes[0].data, self.store / "data")  # before torch: what is wrong here is said soon
        import torch

        from blueberry.lm.checkpoint import Checkpoints
        from blueberry.lm.layers import resolved
        from blueberry.lm.training import train
        from blueberry.lm.update import joined

        number, size = rank()
        place, num_here = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        auto = f"cuda:{place if size > 1 else 0}" if torch.cuda.is_available() else "cpu"
        device = torch.device(self.device if self.device != "auto" else auto)
        threads = num_threads(recipes[0], usable_cores()) if device.type == "cpu" else 1
        threads = max(1, threads // num_here) if size > 1 else threads
        torch.set_num_threads(threads)
        name = f"cpu {torch.backends.cpu.get_cpu_capability()}"
        if device.type == "cuda":
            torch.cuda.set_device(device)
            name = torch.cuda.get_device_name(device)
        provenance = Provenance(
            code_digest=code_digest(),
            torch=torch.__version__,
            device=name if size == 1 else f"{size} x {name}",
            threads=threads,
            lanes=len(recipes),
            data_digest=dataset.digest,
            evaluation_digest="",
        )
        build = digest(provenance.model_dump_json(exclude={"lanes"}), resolved(recipes[0], device))
        checkpoints = Checkpoints(self.store / "checkpoints", build)
        names = [fingerprint(recipe, dataset.digest) for recipe in recipes]
        data = recipes[0].data
        if (
            data.tokenizer_repository
            and (taken := tokenizer_revision(data, self.store / "data")) != data.tokenizer_revision
        ):
            note = (
                f"the tokenizer {data.tokenizer_repository} is that of commit {taken}, the newest when this store "
                f'first asked; another store may find another: data.tokenizer_revision = "{taken}" names it'
            )
            yield Progress(fingerprints=tuple(names), update=0, num_updates=recipes[0].num_updates, note=note)
        with joined(number, size, device) as ranks:
            yield from train(
                recipes,
                names,
                dataset,
                provenance,
                device=device,
                checkpoints=checkpoints,
                weights_folder=self.store / "weights",
                ranks=ranks,
            )


def rank() -> tuple[int, int]:
    """This process's number among those that `torchrun` has started to train one run, and how many they are."""
    size = int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1
    return (int(os.environ["RANK"]) if size > 1 else 0), size


def has_weights(path: Path) -> bool:
    """Whether a run's final weights lie there, undamaged. Those of before there was a digest must have their length."""
    try:
        content = path.read_bytes()
        if (whole := is_whole(content)) is not None:
            return whole
        start = 8 + int.from_bytes(content[:8], "little")
        entries = json.loads(content[8:start])
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        return len(content) == start + max(ends)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def code_digest() -> str:
    """Digest of the source that computes a result: lm, text, and what they share with recipes."""
    package = Path(blueberry.__file__).parent
    sha = hashlib.sha256()
    alone = (package / f"{name}.py" for name in ("architecture", "recipe", "schedules", "settings"))
    for path in sorted([*package.glob("lm/*.py"), *package.glob("text/*.py"), *alone]):
        sha.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return sha.hexdigest()[:16]
