"""Training a group of recipes in as few lane groups as memory allows: one, unless it runs out.

First the micro-batch is halved, down to single sequences; then the lanes are split into two groups that are
trained one after the other. What this does to a run's numbers:

- Splitting lanes changes none: where kernels compute a lane alike in whatever company (on a CPU they do, and a
  test holds them to it) a lane's numbers are the same to the last bit.
- A smaller micro-batch changes the order in which gradients are added, hence last bits, and what further training
  makes of them. The rest is the whole update's as before: batch, draws, routing shares, weights of the loss.

The provenance of the result says which lanes and micro-batch were used in the end.
"""

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from blueberry.architecture import parameters
from blueberry.errors import RecipeError
from blueberry.lm import training
from blueberry.lm.checkpoint import Checkpoints
from blueberry.lm.weights import Precision
from blueberry.recipe import Recipe
from blueberry.records import Progress, Provenance, RunResult
from blueberry.text import Dataset


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is what torch raises, on a device or on the host, when it is refused memory."""
    refused = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return refused or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def smaller_micro_batch(batch_sequences: int, micro_batch_sequences: int) -> int | None:
    """The largest divisor of the batch that is at most half the micro-batch; None if that is one sequence."""
    halves = range(micro_batch_sequences // 2, 0, -1)
    return next((size for size in halves if batch_sequences % size == 0), None)


def free(device: torch.device) -> None:
    """Give back what nobody refers to any more, so that the next attempt finds it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def train(
    recipes: Sequence[Recipe],
    fingerprints: Sequence[str],
    dataset: Dataset,
    provenance: Provenance,
    *,
    device: torch.device,
    precision: Precision,
    checkpoints: Checkpoints | None = None,
    weights_folder: Path | None = None,
) -> Iterator[Progress | RunResult]:
    """`training.train`, split into halves of the lanes when single sequences of all of them do not fit.

    Halves go on from the newest checkpoint of the whole, so at most some seconds are lost. A run's numbers
    do not depend on it: see `blueberry.lm.lanes`.
    Raises: RecipeError if one sequence of one run does not fit.
    """
    settings: dict[str, Any] = {
        "device": device,
        "precision": precision,
        "checkpoints": checkpoints,
        "weights_folder": weights_folder,
    }
    missing = dict(zip(fingerprints, recipes, strict=True))
    try:
        for event in training.train(recipes, fingerprints, dataset, provenance, **settings):
            if isinstance(event, RunResult):
                del missing[event.fingerprint]
            yield event
        return
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(recipes) == 1:
            raise RecipeError(_too_large(recipes[0], provenance.device or str(device))) from None
    # Only here, outside of `except`, are the tensors of the failed attempt out of reach.
    free(device)
    names = list(missing)
    half = (len(names) + 1) // 2
    halves = [part for part in (names[:half], names[half:]) if part]
    yield Progress(
        fingerprints=tuple(names),
        update=0,
        num_updates=recipes[0].num_updates,
        note=f"out of memory with {len(recipes)} runs side by side: training {' and then '.join(_counted(halves))}; "
        "no number changes",
    )
    for part in halves:
        yield from train([missing[name] for name in part], part, dataset, provenance, **settings)


def _counted(parts: list[list[str]]) -> list[str]:
    return [str(len(part)) for part in parts]


def _too_large(recipe: Recipe, device: str) -> str:
    return (
        f'recipe "model": {parameters(recipe).total:,} parameters; one sequence of one run does not fit the memory '
        f"of {device}; set train.checkpoint_activations = true, shorten model.context_tokens or lower model.width"
    )
