"""The tensors of a model by name, shape, first value and optimizer.

Shapes: N lanes, L layers, V vocabulary, D width, E experts; matrices are (rows, columns) = (out, in).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from blueberry.identity import digest
from blueberry.model_settings import (
    BiasBalancedExperts,
    Experts,
    GroupedQueryAttention,
    LatentAttention,
    Mlp,
    Model,
    SwiGlu,
)
from blueberry.recipe import Recipe

Weights = dict[str, Tensor]
"""By name, the lane first and then, but for `UNLAYERED`, the layer. Matrices (N, L, ..., R, C) under Muon;
embedding and head (N, V, D), norms and biases (N, [L,] D) under AdamW."""

Shapes = dict[str, tuple[int, ...]]

UNLAYERED = ("embedding", "head", "norm.final")

ROUTER_BIAS = "state.router_bias"
"""(N, L, E): what a bias-balanced router adds to the scores it chooses by. No gradient trains it, and it is no
parameter; it is part of the model all the same."""


def weight_shapes(recipe: Recipe) -> Shapes:
    """The shape of each trained weight of one lane."""
    model = recipe.model
    layered = {**ATTENTION[model.attention.kind](model), **FEED_FORWARD[model.feed_forward.kind](model)}
    vectors = {name: shape for name, shape in layered.items() if not is_matrix(name)}
    table = (recipe.data.vocabulary_tokens, model.width)
    return {
        **{name: (model.num_layers, *shape) for name, shape in layered.items() if name not in vectors},
        "embedding": table,
        **({} if model.tied_head else {"head": table}),
        "norm.attention": (model.num_layers, model.width),
        "norm.feed_forward": (model.num_layers, model.width),
        **{name: (model.num_layers, *shape) for name, shape in vectors.items()},
        "norm.final": (model.width,),
    }


def state_shapes(recipe: Recipe) -> Shapes:
    """The shape of what is carried from update to update and no gradient trains, of one lane."""
    feed_forward = recipe.model.feed_forward
    if isinstance(feed_forward, BiasBalancedExperts):
        return {ROUTER_BIAS: (recipe.model.num_layers, feed_forward.num_experts)}
    return {}


def _fused_attention(model: Model) -> Shapes:
    """Queries, keys and values of all heads in one matrix, in this order."""
    size, attention = model.width // model.num_heads, model.attention
    assert not isinstance(attention, LatentAttention)
    kv_heads = attention.num_kv_heads if isinstance(attention, GroupedQueryAttention) else model.num_heads
    gains: Shapes = {"norm.query": (size,), "norm.key": (size,)} if attention.query_key_norm else {}
    return {
        "attention.qkv": ((model.num_heads + 2 * kv_heads) * size, model.width),
        "attention.out": (model.width, model.width),
        **gains,
    }


def _latent_attention(model: Model) -> Shapes:
    """The key's rotated part is made beside the latent, once for all heads."""
    width, heads, attention = model.width, model.num_heads, model.attention
    assert isinstance(attention, LatentAttention)
    query_rank, kv_rank = attention.query_rank, attention.key_value_rank
    head_query = attention.plain_size + attention.rope_size
    shapes: Shapes = {}
    if query_rank:
        shapes["attention.query_down"] = (query_rank, width)
        shapes["norm.query_latent"] = (query_rank,)
    shapes["attention.query_up"] = (heads * head_query, query_rank or width)
    shapes["attention.key_value_down"] = (kv_rank + attention.rope_size, width)
    shapes["norm.key_value_latent"] = (kv_rank,)
    shapes["attention.key_value_up"] = (heads * (attention.plain_size + attention.value_size), kv_rank)
    shapes["attention.out"] = (width, heads * attention.value_size)
    if attention.bias:
        if query_rank:
            shapes["bias.query_down"] = (query_rank,)
        shapes["bias.key_value_down"] = (kv_rank + attention.rope_size,)
        shapes["bias.attention_out"] = (width,)
    return shapes


def _mlp(model: Model) -> Shapes:
    assert isinstance(model.feed_forward, Mlp)
    return _triple("mlp", (), model.feed_forward.hidden, model.width, gated=False)


def _swiglu(model: Model) -> Shapes:
    assert isinstance(model.feed_forward, SwiGlu)
    return _triple("mlp", (), model.feed_forward.hidden, model.width, gated=True)


def _experts(model: Model) -> Shapes:
    width, feed_forward = model.width, model.feed_forward
    assert isinstance(feed_forward, Experts)
    num_experts, num_shared = feed_forward.num_experts, feed_forward.num_shared_experts
    shapes = {
        "router": (num_experts, width),
        **_triple("expert", (num_experts,), feed_forward.hidden, width, gated=feed_forward.gated),
    }
    if num_shared:
        shapes |= _triple("shared", (num_shared,), feed_forward.hidden, width, gated=feed_forward.gated)
    return shapes


def _triple(name: str, stack: tuple[int, ...], hidden: int, width: int, *, gated: bool) -> Shapes:
    gate: Shapes = {f"{name}.gate": (*stack, hidden, width)} if gated else {}
    return {**gate, f"{name}.in": (*stack, hidden, width), f"{name}.out": (*stack, width, hidden)}


ATTENTION: dict[str, Callable[[Model], Shapes]] = {
    "multi-head": _fused_attention,
    "grouped-query": _fused_attention,
    "latent": _latent_attention,
}
FEED_FORWARD: dict[str, Callable[[Model], Shapes]] = {
    "mlp": _mlp,
    "swiglu": _swiglu,
    "moe": _experts,
    "moe-bias-balanced": _experts,
}


def is_matrix(name: str) -> bool:
    """Whether Muon trains this weight; AdamW trains the rest: embedding, head, norms and biases."""
    return not name.startswith(("embedding", "head", "norm.", "bias."))


def head_weight(weights: Weights) -> Tensor:
    """The matrix (N, V, D) of the last product: the head's own, or the embedding where they are tied."""
    return weights["head"] if "head" in weights else weights["embedding"]


def initialize(recipe: Recipe, seeds: tuple[int, ...], device: torch.device) -> Weights:
    """Norms 1, biases 0, the rest normal; each weight of each lane from a stream of its own."""
    sd_of = INITIALIZATIONS[recipe.model.initialization]
    weights: Weights = {}
    for name, shape in weight_shapes(recipe).items():
        if name.startswith(("norm.", "bias.")):
            weights[name] = torch.full((len(seeds), *shape), float(name.startswith("norm.")), device=device)
            continue
        sd = sd_of(recipe.model, name, shape) if is_matrix(name) else recipe.model.initial_sd
        lanes = []
        for seed in seeds:
            stream = torch.Generator().manual_seed(int(digest("initialize", name, str(seed)), 16) % 2**63)
            lanes.append(torch.randn(shape, generator=stream) * sd)
        weights[name] = torch.stack(lanes).to(device)
    return weights


def initial_state(recipe: Recipe, num_lanes: int, device: torch.device) -> Weights:
    """What no gradient trains, before the first update: zeros."""
    return {name: torch.zeros(num_lanes, *shape, device=device) for name, shape in state_shapes(recipe).items()}


def _normal_sd(model: Model, name: str, shape: Sequence[int]) -> float:
    return model.initial_sd


def _scaled_sd(model: Model, name: str, shape: Sequence[int]) -> float:
    ends_branch = name.endswith(".out")
    return model.initial_sd / math.sqrt(2 * model.num_layers) if ends_branch else model.initial_sd


def _fan_in_sd(model: Model, name: str, shape: Sequence[int]) -> float:
    return 1 / math.sqrt(shape[-1])


INITIALIZATIONS: dict[str, Callable[[Model, str, Sequence[int]], float]] = {
    "normal": _normal_sd,
    "scaled": _scaled_sd,
    "fan-in": _fan_in_sd,
}
"""From a matrix's name and shape to the standard deviation of its first values."""
