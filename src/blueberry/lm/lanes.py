"""Training a group of recipes in as few lane groups as memory allows: one, unless it runs out.

First the micro-batch is halved, down to single sequences (`blueberry.lm.update`); then the lanes are split into two
groups that are trained one after the other. What this does to a run's numbers:

- Splitting lanes changes none: where kernels compute a lane alike in whatever company (on a CPU they do, and a
  test holds them to it) a lane's numbers are the same to the last bit.
- A smaller micro-batch changes the order in which gradients are added, hence last bits, and what further training
  makes of them. The rest is the whole update's as before: batch, draws, routing shares, weights of the loss.

The provenance of the result says which lanes and micro-batch were used in the end.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from blueberry.architecture import parameters
from blueberry.errors import RecipeError
from blueberry.lm import training
from blueberry.lm.ranks import ONE, Ranks
from blueberry.lm.update import free, is_out_of_memory
from blueberry.recipe import Recipe
from blueberry.records import Progress, Provenance, RunResult
from blueberry.text.dataset import Dataset


def train(
    recipes: Sequence[Recipe],
    fingerprints: Sequence[str],
    dataset: Dataset,
    provenance: Provenance,
    *,
    device: torch.device,
    ranks: Ranks = ONE,
    **settings: Any,
) -> Iterator[Progress | RunResult]:
    """`training.train`, which has the other settings, split into halves of the lanes when single sequences of all of
    them do not fit. Halves go on from the newest checkpoint of the whole, so at most some seconds are lost.

    Raises: RecipeError if one sequence of one run does not fit.
    """
    settings |= {"device": device, "ranks": ranks}
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
            raise RecipeError(
                f'recipe "train.micro_batch_sequences": {ranks.micro_batch_of(recipes[0])}; so many sequences at once '
                f"do not fit the memory of one of {ranks.size} processes, which cannot go on with fewer by themselves; "
                "halve it"
            ) from None
        if len(recipes) == 1:
            raise RecipeError(
                f'recipe "model": {parameters(recipes[0]).total:,} parameters; one sequence of one run does not fit '
                f"the memory of {provenance.device or device}; set train.checkpoint_activations = true, shorten "
                "model.context_tokens or lower model.width"
            ) from None
    # Only here, outside of `except`, are the tensors of the failed attempt out of reach.
    free(device)
    names = list(missing)
    half = (len(names) + 1) // 2
    halves = [part for part in (names[:half], names[half:]) if part]
    yield Progress(
        fingerprints=tuple(names),
        update=0,
        num_updates=recipes[0].num_updates,
        note=f"out of memory with {len(recipes)} runs side by side: training "
        f"{' and then '.join(str(len(part)) for part in halves)}; no number changes",
    )
    for part in halves:
        yield from train([missing[name] for name in part], part, dataset, provenance, **settings)
