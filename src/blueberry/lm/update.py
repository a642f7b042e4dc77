"""One update of every lane: tensors in, tensors out, and weights, moments and state changed in place.

Nothing here knows of records, files or the host's clock. Where no step makes a CUDA device wait for the host, the
update is captured as a graph once and then replayed: small models are bound by the time that launching takes.

On several devices each process, a rank, computes the gradients of a range of the update's sequences. All that a run
draws is a function of its place, so a rank draws for its own sequences what one device would. Gradients, losses and the
experts' loads are added over ranks, and then each takes the same step, so that weights are equal everywhere. The first
rank alone writes. What is one sum on one device is added in another order here: rounding differs.

Shapes: N lanes, B sequences of an update, M of a micro-batch, T tokens of a sequence, L layers, E experts, S sites of
draws, G groups of weights.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from blueberry.architecture import ROUTER_BIAS
from blueberry.errors import RecipeError, TrainerError
from blueberry.lm.feed_forward import needs_counts, rebalanced
from blueberry.lm.layers import Precision, Weights, compiled, compute_weights, head_loss, head_weight, initial_state
from blueberry.lm.model import Hidden, LanguageModel
from blueberry.lm.optimizers import Optimizer, clip, norms
from blueberry.recipe import Recipe
from blueberry.records import Execution


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


WARM_UPS = 2
"""Updates that are done operator by operator before one is captured: they allocate, and choose kernels."""
COMPILED_FROM_TOKENS = 1 << 24
"""A run that trains on as many saves more time by fused kernels than the half minute that making them takes: 8,192
updates of the nano size, or 512 of moe-79m. See docs/speed.md."""


class Inputs(NamedTuple):
    """All that differs from one update to the next. On the device."""

    tokens_NBT1: Tensor
    keys_SNB: Tensor
    """Of the draws: see `blueberry.lm.draws`."""
    multiplier_N: Tensor
    """Of the peak rates."""
    corrections_2N: Tensor
    """1 - beta^(update + 1) of AdamW's two moments."""


class Outcome(NamedTuple):
    numbers_2N: Tensor
    """Mean cross-entropy in nats over the update's tokens, and the gradients' norm before clipping."""
    norms_GN: Tensor
    """That norm over each group of weights."""


class Update:
    """A function from `Inputs` to `Outcome`, and the tensors that it changes."""

    def __init__(
        self,
        recipes: Sequence[Recipe],
        model: LanguageModel,
        weights: Weights,
        device: torch.device,
        precision: Precision,
        execution: Execution,
        ranks: Ranks = ONE,
    ) -> None:
        self.recipe, self.model, self.weights = recipes[0], model, weights
        self.device, self.ranks = device, ranks
        self.precision: Precision = precision
        self.state = initial_state(self.recipe, len(recipes), device)
        """What the model carries from update to update and no gradient trains."""
        self.optimizer = Optimizer(recipes, weights, device, is_rounded=precision == "bf16")
        self.carry_out(execution)
        self.alive_N = torch.ones(len(recipes), dtype=torch.bool, device=device)
        self.micro_batch_sequences = ranks.micro_batch_of(self.recipe)

        def lanes(name: str) -> Tensor | None:
            """A setting of every lane; None where the recipe's kind has no such setting, or it does nothing: a backward
            pass for nothing is not free, nor is a forward pass that counts where tokens go."""
            values = [recipe.flat().get(f"model.feed_forward.{name}", 0) for recipe in recipes]
            return torch.tensor(values, dtype=torch.float32, device=device) if any(values) else None

        self.noise_N, self.bias_rate_N = lanes("router_noise"), lanes("bias_rate")
        self.balance_N, self.z_N = lanes("balance_weight"), lanes("z_weight")
        self._done = 0
        self._captured: _Captured | None = None

    def carry_out(self, execution: Execution) -> None:
        """Do the updates from now on in this way."""
        self.execution, is_compiled = execution, execution == "compiled"
        self.model = replace(self.model, is_compiled=is_compiled)
        self._begin, self._end = self._before_orthogonalizing, self.optimizer.end
        if is_compiled:
            self._begin, self._end = compiled(self._begin), compiled(self._end)

    def __call__(self, inputs: Inputs) -> Outcome:
        """Do one update.

        Raises: torch._dynamo's RuntimeErrors if the first one cannot be compiled; nothing has changed then.
        """
        if self.execution == "eager" or self._done < WARM_UPS:
            self._done += 1
            return self._update(inputs)
        if self._captured is None or self._captured.micro_batch_sequences != self.micro_batch_sequences:
            self._captured = _Captured(self, inputs)
        return self._captured.replay(inputs)

    def _update(self, inputs: Inputs) -> Outcome:
        loss_N, grads, load_NLE = self._fitting_gradients(inputs)
        with torch.no_grad():
            norm_N, norms_GN, directions = self._begin(self.weights, grads, loss_N, inputs)
            steps = self.optimizer.orthogonal(directions)
            self._end(self.weights, steps, inputs.multiplier_N * self.alive_N)
        if self.bias_rate_N is not None and load_NLE is not None:
            bias_NLE = self.state[ROUTER_BIAS]
            bias_NLE.copy_(rebalanced(bias_NLE, load_NLE, self.bias_rate_N * self.alive_N))
        return Outcome(torch.stack((loss_N, norm_N)), norms_GN)

    def _before_orthogonalizing(
        self, weights: Weights, grads: Weights, loss_N: Tensor, inputs: Inputs
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Norms of the gradients, which lanes live on, clipping, and the optimizer's beginning."""
        norm_N, norms_GN = norms(grads)
        self.alive_N.logical_and_(loss_N.isfinite() & norm_N.isfinite())
        clip(grads, norm_N, self.optimizer.clip_N, self.alive_N)
        multiplier_N = inputs.multiplier_N * self.alive_N
        directions = self.optimizer.begin(weights, grads, inputs.corrections_2N, multiplier_N)
        return norm_N, torch.stack(list(norms_GN.values())), directions

    def _fitting_gradients(self, inputs: Inputs) -> tuple[Tensor, Weights, Tensor | None]:
        """The gradients, in smaller micro-batches from now on if memory runs out. See `blueberry.lm.training`."""
        while True:
            try:
                return self.gradients(inputs)
            except (RuntimeError, MemoryError) as error:
                smaller = smaller_micro_batch(self.recipe.train.batch_sequences, self.micro_batch_sequences)
                if not is_out_of_memory(error) or smaller is None or self.ranks.size > 1:  # others wait for its sums
                    raise
            free(self.device)  # only outside of `except` are the tensors of the failed attempt out of reach
            self.micro_batch_sequences = smaller

    def gradients(self, inputs: Inputs) -> tuple[Tensor, Weights, Tensor | None]:
        """Mean cross-entropy (N,) over the update's tokens, the whole objective's gradients, and the experts' load.

        Of the update, `inputs` hold this rank's sequences; what is given back is of all of them.
        The load (N, L, E) counts the assignments of the update's tokens; None without experts.
        """
        tokens_NBT1 = inputs.tokens_NBT1
        size, micro = self.recipe.train.batch_sequences, self.micro_batch_sequences
        num_tokens = size * (tokens_NBT1.shape[-1] - 1)
        parts = [slice(start, start + micro) for start in range(0, tokens_NBT1.shape[1], micro)]
        # The balance loss is not a sum over tokens: with several micro-batches, the shares of the whole
        # update are counted first, so that splitting an update changes no number.
        weights = compute_weights(self.weights, self.precision)
        counts_first = micro < size and self.balance_N is not None
        fraction_NLE = self._fractions(weights, inputs, parts) if counts_first else None
        loss_N = torch.zeros(len(self.alive_N), device=self.device)
        grads: Weights = {}
        loads: list[Tensor] = []
        for part in parts:
            leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
            hidden = self._hidden(leaves, inputs, part, fraction_NLE)
            target_NS = tokens_NBT1[:, part, 1:].flatten(1)
            part_loss_N = (
                head_loss(hidden.x_NSD, head_weight(leaves), target_NS, is_compiled=self.execution == "compiled")
                / num_tokens
            )
            objective_N = part_loss_N
            for weight_N, of_router_N in ((self.balance_N, hidden.balance_N), (self.z_N, hidden.z_N)):
                if weight_N is not None and of_router_N is not None:
                    objective_N = objective_N + weight_N * of_router_N * (micro / size)
            if hidden.load_NLE is not None:
                loads.append(hidden.load_NLE)
            part_grads = torch.autograd.grad(objective_N.sum(), list(leaves.values()))
            for name, part_grad in zip(leaves, part_grads, strict=True):
                grad = part_grad.to(self.weights[name].dtype)
                grads[name] = grads[name].add_(grad) if name in grads else grad
            loss_N += part_loss_N.detach()
        load_NLE = sum(loads[1:], loads[0]) if loads else None
        self.ranks.add([loss_N, *grads.values()])
        self.ranks.add([load_NLE] if load_NLE is not None else [])
        return loss_N, grads, load_NLE

    @torch.no_grad()
    def _fractions(self, weights: Weights, inputs: Inputs, parts: list[slice]) -> Tensor:
        """The share of the whole update's assignments that each expert receives, (N, L, E)."""
        loads = [self._hidden(weights, inputs, part).load_NLE for part in parts]
        total_NLE = torch.stack([load for load in loads if load is not None]).sum(0)
        self.ranks.add([total_NLE])
        return total_NLE / total_NLE.sum(-1, keepdim=True)

    def _hidden(self, weights: Weights, inputs: Inputs, part: slice, fraction_NLE: Tensor | None = None) -> Hidden:
        return self.model.hidden(
            {**weights, **self.state},
            inputs.tokens_NBT1[:, part, :-1],
            keys_SR=inputs.keys_SNB[:, :, part].flatten(1),
            noise_N=self.noise_N,
            fraction_NLE=fraction_NLE,
        )


class _Captured:
    """An update as a CUDA graph. Its inputs and outcome lie at fixed addresses."""

    def __init__(self, update: Update, inputs: Inputs) -> None:
        self.micro_batch_sequences = update.micro_batch_sequences
        self._inputs = Inputs(*(given.clone() for given in inputs))
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):  # records; does nothing yet
            self._outcome = update._update(self._inputs)

    def replay(self, inputs: Inputs) -> Outcome:
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given, non_blocking=True)
        self._graph.replay()
        return Outcome(*(made.clone() for made in self._outcome))


def execution_of(recipe: Recipe, device: torch.device, precision: Precision, ranks: Ranks = ONE) -> Execution:
    """How updates of a recipe are carried out on a device: by graph wherever nothing in one waits for the host.

    It depends on nothing but these, so that runs of one length are carried out alike in whatever company.
    """
    if device.type != "cuda" or needs_counts(recipe.model, precision) or ranks.size > 1:
        return "eager"
    is_long = recipe.num_updates * recipe.update_tokens >= COMPILED_FROM_TOKENS
    return "compiled" if is_long and not recipe.train.checkpoint_activations else "graph"


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
