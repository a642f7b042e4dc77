"""What a recipe costs, in closed form: parameters by optimizer, FLOPs, tokens, bytes. Nothing is built."""

from collections.abc import Callable
from dataclasses import dataclass

from blueberry.model_settings import Experts, GroupedQueryAttention, LatentAttention, Model, SwiGlu
from blueberry.recipe import Recipe
from blueberry.records import Record


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
    """Parameters of the model: matrices under Muon; embedding, head (if not tied), norms and biases under AdamW.

    Where AdamW is the only optimizer, all are its own. The selection biases of a bias-balanced router are no
    parameters: no gradient trains them.
    """
    model, layer = recipe.model, _layer(recipe.model)
    matrices = model.num_layers * (layer.shared_matrices + layer.num_experts * layer.expert)
    tables = (1 if model.tied_head else 2) * recipe.data.vocabulary_tokens * model.width
    total = matrices + tables + model.num_layers * (layer.vectors + 2 * model.width) + model.width
    idle = model.num_layers * (layer.num_experts - layer.num_chosen) * layer.expert
    muon = matrices if recipe.optimizer.kind == "muon-adamw" else 0
    return Parameters(total=total, active=total - idle, muon=muon, adamw=total - muon)


def flops_per_token(recipe: Recipe) -> float:
    """Forward plus backward: 6 per active matrix parameter (the head included), and causal attention.

    A document mask is not taken off: how much it hides depends on the text.
    """
    model, layer = recipe.model, _layer(recipe.model)
    head = recipe.data.vocabulary_tokens * model.width
    matrices = model.num_layers * (layer.shared_matrices + layer.num_chosen * layer.expert) + head
    # QK^T and PV: products of 2 FLOPs a feature with each of context/2 visible tokens, forward; twice that back.
    causal = 3 * model.num_layers * 2 * layer.score_and_value_features * model.context_tokens / 2
    return 6.0 * matrices + causal


@dataclass(frozen=True)
class _Layer:
    """One layer in numbers of parameters, norms before the branches not counted."""

    shared_matrices: int
    """Of the matrices that every token meets."""
    vectors: int
    """Of the attention's norms and biases."""
    score_and_value_features: int
    """A query's and a value's, of all heads."""
    expert: int
    """Of one expert to choose from; a feed-forward without experts is part of `shared_matrices`."""
    num_experts: int
    num_chosen: int
    hidden_features: int
    """Activations between matrices that a token meets in the feed-forward."""


def _layer(model: Model) -> _Layer:
    attention, vectors, features = ATTENTION[model.attention.kind](model)
    kind = model.feed_forward
    if isinstance(kind, Experts):
        expert = (3 if kind.gated else 2) * model.width * kind.hidden
        shared = attention + model.width * kind.num_experts + kind.num_shared_experts * expert
        hidden = (2 if kind.gated else 1) * (kind.top_k + kind.num_shared_experts) * kind.hidden
        return _Layer(shared, vectors, features, expert, kind.num_experts, kind.top_k, hidden)
    num_matrices = 3 if isinstance(kind, SwiGlu) else 2
    shared = attention + num_matrices * model.width * kind.hidden
    return _Layer(shared, vectors, features, 0, 0, 0, (num_matrices - 1) * kind.hidden)


def _fused_attention(model: Model) -> tuple[int, int, int]:
    """One matrix for queries, keys and values of all heads, and one back."""
    kind, size = model.attention, model.width // model.num_heads
    assert not isinstance(kind, LatentAttention)
    kv_heads = kind.num_kv_heads if isinstance(kind, GroupedQueryAttention) else model.num_heads
    matrices = (model.num_heads + 2 * kv_heads) * size * model.width + model.width**2
    return matrices, 2 * size if kind.query_key_norm else 0, 2 * model.width


def _latent_attention(model: Model) -> tuple[int, int, int]:
    """Down to the latents and up to the heads; the rotated key, `rope_size` in all, is one for all heads.

    Biases, if any, on what makes the latents and the rotated key, and on the output; a gain per latent feature.
    """
    kind, width, heads = model.attention, model.width, model.num_heads
    assert isinstance(kind, LatentAttention)
    query, down = kind.plain_size + kind.rope_size, kind.key_value_rank + kind.rope_size
    matrices = (
        (width + heads * query) * kind.query_rank
        + (0 if kind.query_rank else width * heads * query)
        + width * down
        + kind.key_value_rank * heads * (kind.plain_size + kind.value_size)
        + heads * kind.value_size * width
    )
    norms, biases = kind.query_rank + kind.key_value_rank, kind.query_rank + down + width
    return matrices, norms + (biases if kind.bias else 0), heads * (query + kind.value_size)


ATTENTION: dict[str, Callable[[Model], tuple[int, int, int]]] = {
    "multi-head": _fused_attention,
    "grouped-query": _fused_attention,
    "latent": _latent_attention,
}
"""Parameters in matrices, parameters in norms and biases, features of all heads' queries and values."""


def _memory_bytes(recipe: Recipe, counted: Parameters) -> int:
    """Weights, gradients, momentum (and AdamW's second moment), and what the backward pass keeps.

    bf16 halves what is kept and adds a copy of the weights; checkpointed layers keep only what enters them, and
    one at a time the rest. "auto" is taken to be fp32.
    """
    model, layer = recipe.model, _layer(recipe.model)
    state = 3 * counted.muon + 4 * counted.adamw
    whole, inputs = (1, model.num_layers) if recipe.train.checkpoint_activations else (model.num_layers, 0)
    per_layer = 12 * model.width + 2 * max(layer.num_chosen, 1) * model.width + 2 * layer.hidden_features
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
