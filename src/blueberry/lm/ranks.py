"""One run on several devices: each process, a rank, computes the gradients of a range of every update's sequences.

All that a run draws is a function of its place, so a rank draws for its own sequences what one device would. Gradients,
losses and the experts' loads are added over ranks, and then each takes the same step, so that weights are equal
everywhere. The first rank alone writes. What is one sum on one device is added in another order here: rounding differs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from blueberry.errors import RecipeError, TrainerError
from blueberry.recipe import Recipe


@dataclass(frozen=True)
class Ranks:
    """All ranks, as one of them sees them."""

    number: int = 0
    """Its own, from 0."""
    size: int = 1

    def range_of(self, recipe: Recipe) -> range:
        """Which of an update's sequences are its own. Raises: RecipeError if they cannot be shared out equally."""
        num_sequences = recipe.train.batch_sequences
        if num_sequences % self.size:
            raise RecipeError(
                f'recipe "train.batch_sequences": {num_sequences}; {self.size} processes share the sequences of an '
                "update equally; give a multiple of that, or start another number of processes"
            )
        each = num_sequences // self.size
        return range(self.number * each, (self.number + 1) * each)

    def micro_batch_of(self, recipe: Recipe) -> int:
        """Sequences that are in memory at once: at most as many as the recipe says, and a divisor of its own."""
        own = len(self.range_of(recipe))
        return next(size for size in range(min(recipe.micro_batch_sequences, own), 0, -1) if own % size == 0)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Put the sums over all ranks in the place of tensors of one dtype, in one exchange."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def require_alike(self, what: object) -> None:
        """Raises: TrainerError if another rank is about to do something else."""
        if self.size == 1:
            return
        said: list[object] = [None] * self.size
        dist.all_gather_object(said, what)
        if any(one != what for one in said):
            raise TrainerError(
                f"torchrun: the processes begin at {' and '.join(sorted({str(one) for one in said}))}; all must go on "
                "from one state of one run; let them have one store, on a disk that all see"
            )


ONE = Ranks()
"""A run on one device."""


@contextmanager
def joined(number: int, size: int, device: torch.device) -> Iterator[Ranks]:
    """Together with the others that were started. Their address is in the environment."""
    if size == 1:
        yield ONE
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=number, world_size=size)
    try:
        yield Ranks(number, size)
    finally:
        dist.destroy_process_group()
