"""What to do when memory runs out: compute less at once.

First the micro-batch is halved, down to single sequences; then the lanes are split into two groups that are
trained one after the other. What this does to a run's numbers:

- Splitting lanes changes none: where kernels compute a lane alike in whatever company (on a CPU they do, and a
  test holds them to it) a lane's numbers are the same to the last bit.
- A smaller micro-batch changes the order in which gradients are added, hence last bits, and what further training
  makes of them. The rest is the whole update's as before: batch, draws, routing shares, weights of the loss.

The provenance of the result says which lanes and micro-batch were used in the end.
"""

import gc

import torch


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
