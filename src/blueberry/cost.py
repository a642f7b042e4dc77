"""What a recipe costs, in closed form: parameters by optimizer, FLOPs, tokens, bytes. Nothing is built."""

from blueberry.recipe import Recipe
from blueberry.records import Record
from blueberry.settings import MixtureOfExperts


class Parameters(Record):
    total: int
    active: int
    """Used by one token: of the experts, only the top_k chosen."""
    muon: int
    adamw: int


class Cost(Record):
    """Of one whole run."""

    parameters: Parameters
    flops_per_token: float
    """Forward and backward: 6 per active matrix parameter, and causal attention."""
    num_updates: int
    num_tokens: int
    num_flops: float
    memory_bytes: int
    """Estimate for one lane: weights, gradients, optimizer state and one micro-batch's activations."""


def cost(recipe: Recipe) -> Cost:
    """The cost of training a recipe to its end, evaluations excluded."""
    counted = parameters(recipe)
    per_token = flops_per_token(recipe)
    num_tokens = recipe.num_updates * recipe.update_tokens
    return Cost(
        parameters=counted,
        flops_per_token=per_token,
        num_updates=recipe.num_updates,
        num_tokens=num_tokens,
        num_flops=per_token * num_tokens,
        memory_bytes=_memory_bytes(recipe, counted),
    )


def parameters(recipe: Recipe) -> Parameters:
    """Parameters of the model: matrices under Muon, embedding (tied to the head) and norms under AdamW.

    Where AdamW is the only optimizer, all are its own.
    """
    model = recipe.model
    attention, expert, router, num_experts, num_active = _layer_matrices(recipe)
    matrices = model.num_layers * (attention + router + num_experts * expert)
    vectors = recipe.data.vocabulary_tokens * model.width + (2 * model.num_layers + 1) * model.width
    idle = model.num_layers * (num_experts - num_active) * expert
    muon = matrices if recipe.optimizer.kind == "muon-adamw" else 0
    total = matrices + vectors
    return Parameters(total=total, active=total - idle, muon=muon, adamw=total - muon)


def flops_per_token(recipe: Recipe) -> float:
    """Forward plus backward: 6 per active matrix parameter (the head included), and causal attention."""
    model = recipe.model
    attention, expert, router, _, num_active = _layer_matrices(recipe)
    head = recipe.data.vocabulary_tokens * model.width
    matrices = model.num_layers * (attention + router + num_active * expert) + head
    # QK^T and PV: 2 products of 2 * width FLOPs with each of context/2 visible tokens, forward; twice that back.
    causal = 3 * model.num_layers * 2 * 2 * model.width * model.context_tokens / 2
    return 6.0 * matrices + causal


def _layer_matrices(recipe: Recipe) -> tuple[int, int, int, int, int]:
    """Parameters of one layer's attention, one expert and the router; experts in all and used by a token."""
    model, feed_forward = recipe.model, recipe.model.feed_forward
    attention = 4 * model.width * model.width
    expert = 2 * model.width * feed_forward.hidden
    if isinstance(feed_forward, MixtureOfExperts):
        return attention, expert, model.width * feed_forward.num_experts, feed_forward.num_experts, feed_forward.top_k
    return attention, expert, 0, 1, 1


def _memory_bytes(recipe: Recipe, counted: Parameters) -> int:
    """Weights, gradients, momentum (and AdamW's second moment), and what the backward pass keeps.

    bf16 halves what is kept and adds a copy of the weights; checkpointed layers keep only what enters them, and
    one at a time the rest. "auto" is taken to be fp32.
    """
    model = recipe.model
    _, _, _, _, num_active = _layer_matrices(recipe)
    state = 3 * counted.muon + 4 * counted.adamw
    whole, inputs = (1, model.num_layers) if recipe.train.checkpoint_activations else (model.num_layers, 0)
    per_layer = 12 * model.width + num_active * (2 * model.width + 2 * model.feed_forward.hidden)
    per_token = whole * per_layer + inputs * model.width + 4 * model.width
    is_half = recipe.train.precision == "bf16"
    activations = (2 if is_half else 4) * recipe.micro_batch_sequences * model.context_tokens * per_token
    return 4 * state + activations + (2 * counted.total if is_half else 0)


SMALL_UPDATE_FLOPS = 1e11
"""Up to here a core does an update within seconds, and cores do more as one single-threaded process each."""


def num_threads(recipe: Recipe, num_cores: int) -> int:
    """CPU threads a run is trained with: decided by its size and the machine, never by how many runs share it.

    More threads sum in another order, so a number that depends on the worker count would not be reproducible.
    """
    return 1 if flops_per_token(recipe) * recipe.update_tokens <= SMALL_UPDATE_FLOPS else num_cores
