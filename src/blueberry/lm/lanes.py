"""Training a group of recipes in as few lane groups as memory allows: one, unless it runs out."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from blueberry.architecture import parameters
from blueberry.errors import RecipeError
from blueberry.lm import training
from blueberry.lm.checkpoint import Checkpoints
from blueberry.lm.memory import free, is_out_of_memory
from blueberry.lm.ranks import ONE, Ranks
from blueberry.lm.weights import Precision
from blueberry.recipe import Recipe
from blueberry.records import Progress, Provenance, RunResult
from blueberry.text import Dataset


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
    ranks: Ranks = ONE,
) -> Iterator[Progress | RunResult]:
    """`training.train`, split into halves of the lanes when single sequences of all of them do not fit.

    Halves go on from the newest checkpoint of the whole, so at most some seconds are lost. A run's numbers
    do not depend on it: see `blueberry.lm.memory`.
    Raises: RecipeError if one sequence of one run does not fit.
    """
    settings: dict[str, Any] = {
        "device": device,
        "precision": precision,
        "checkpoints": checkpoints,
        "weights_folder": weights_folder,
        "ranks": ranks,
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
        if ranks.size > 1:
            raise RecipeError(_too_much_for_a_rank(recipes[0], ranks)) from None
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


def _too_much_for_a_rank(recipe: Recipe, ranks: Ranks) -> str:
    return (
        f'recipe "train.micro_batch_sequences": {ranks.micro_batch_of(recipe)}; so many sequences at once do not fit '
        f"the memory of one of {ranks.size} processes, which cannot go on with fewer by themselves; halve it"
    )


def _counted(parts: list[list[str]]) -> list[str]:
    return [str(len(part)) for part in parts]


def _too_large(recipe: Recipe, device: str) -> str:
    return (
        f'recipe "model": {parameters(recipe).total:,} parameters; one sequence of one run does not fit the memory '
        f"of {device}; set train.checkpoint_activations = true, shorten model.context_tokens or lower model.width"
    )
