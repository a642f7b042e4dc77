"""The architecture of a model: its settings, the shapes of its weights, and what they cost: parameters, FLOPs, memory.

Every kind of attention and of feed-forward has the settings it reads and no others (one that is set but never read
would make two recipes of one run), and beside them the shapes of the weights it makes. Parameters, FLOPs and bytes
are sums over the shapes; nothing is built.
"""

import math
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from blueberry.records import Record
from blueberry.settings import Section, nearest_divisor, setting

if TYPE_CHECKING:
    from blueberry.recipe import Recipe

Activation = Literal["silu", "gelu", "relu-squared"]
Shapes = dict[str, tuple[int, ...]]
"""Of weights by name; matrices are (rows, columns) = (out, in), those of experts with the experts before them."""


class Attention(Section, ABC):
    """What every kind of attention has."""

    kind: Any
    rotary_base: float = setting(10_000.0, "base of the rotary frequencies", gt=1)

    @abstractmethod
    def shapes(self, width: int, num_heads: int) -> Shapes:
        """Of one layer's weights."""

    @abstractmethod
    def scored_features(self, width: int, num_heads: int) -> int:
        """Features of a query and of a value, of all heads: what attention multiplies with each visible token."""


class FusedAttention(Attention, ABC):
    """Queries, keys and values of all heads come from one matrix, in this order."""

    query_key_norm: bool = setting(
        False, "norm each head's queries and keys, with a gain per feature, before the rotation (Henry et al. 2020)"
    )

    @abstractmethod
    def kv_heads(self, num_heads: int) -> int:
        """Heads of keys and values."""

    def shapes(self, width: int, num_heads: int) -> Shapes:
        size = width // num_heads
        gains: Shapes = {"norm.query": (size,), "norm.key": (size,)} if self.query_key_norm else {}
        return {
            "attention.qkv": ((num_heads + 2 * self.kv_heads(num_heads)) * size, width),
            "attention.out": (width, width),
            **gains,
        }

    def scored_features(self, width: int, num_heads: int) -> int:
        return 2 * width


class MultiHeadAttention(FusedAttention):
    """Causal attention with as many key/value heads as query heads (Vaswani et al. 2017)."""

    kind: Literal["multi-head"] = "multi-head"

    def kv_heads(self, num_heads: int) -> int:
        return num_heads


class GroupedQueryAttention(FusedAttention):
    """Each key/value head serves a group of query heads (Ainslie et al. 2023; one head: Shazeer 2019)."""

    kind: Literal["grouped-query"] = "grouped-query"
    num_kv_heads: int = setting(1, "key/value heads; must divide num_heads", unit="heads", ge=1)

    def kv_heads(self, num_heads: int) -> int:
        return self.num_kv_heads


class LatentAttention(Attention):
    """Keys and values, and queries too, are made from small normed latents (DeepSeek-V2, 2024).

    A head's query and key have a part that rotary positions turn and one that they leave alone; all heads share
    the turned part of the key. Head sizes are free of `model.width`.
    """

    kind: Literal["latent"] = "latent"
    query_rank: int = setting(
        0, "features of the queries' latent; 0 makes queries from x itself", unit="features", ge=0
    )
    key_value_rank: int = setting(32, "features of the latent of keys and values", unit="features", ge=1)
    rope_size: int = setting(
        16, "features of a query and key that are turned by position", unit="features", ge=2, multiple_of=2
    )
    plain_size: int = setting(16, "features of a query and key without position", unit="features", ge=0)
    value_size: int = setting(32, "features of a head's value", unit="features", ge=1)
    bias: bool = setting(False, "biases on the products that make the latents and on the output's")

    def shapes(self, width: int, num_heads: int) -> Shapes:
        """The key's rotated part is made beside the latent, once for all heads."""
        query_rank, kv_rank = self.query_rank, self.key_value_rank
        shapes: Shapes = {}
        if query_rank:
            shapes["attention.query_down"] = (query_rank, width)
            shapes["norm.query_latent"] = (query_rank,)
        shapes["attention.query_up"] = (num_heads * self.query_size, query_rank or width)
        shapes["attention.key_value_down"] = (kv_rank + self.rope_size, width)
        shapes["norm.key_value_latent"] = (kv_rank,)
        shapes["attention.key_value_up"] = (num_heads * (self.plain_size + self.value_size), kv_rank)
        shapes["attention.out"] = (width, num_heads * self.value_size)
        if self.bias:
            if query_rank:
                shapes["bias.query_down"] = (query_rank,)
            shapes["bias.key_value_down"] = (kv_rank + self.rope_size,)
            shapes["bias.attention_out"] = (width,)
        return shapes

    def scored_features(self, width: int, num_heads: int) -> int:
        return num_heads * (self.query_size + self.value_size)

    @property
    def query_size(self) -> int:
        """Features of a head's query and key."""
        return self.plain_size + self.rope_size


class FeedForward(Section, ABC):
    """What every kind of feed-forward has."""

    kind: Any

    @abstractmethod
    def shapes(self, width: int) -> Shapes:
        """Of one layer's weights."""


class Mlp(FeedForward):
    """Two matrices with an activation between them; no bias."""

    kind: Literal["mlp"] = "mlp"
    hidden: int = setting(256, "features between the two matrices", unit="features", ge=1)
    activation: Activation = setting("silu", "elementwise function between them")

    def shapes(self, width: int) -> Shapes:
        return _branch("mlp", (), self.hidden, width, gated=False)


class SwiGlu(FeedForward):
    """Two matrices in, one through silu and gating the other, and one out (Shazeer 2020); no bias."""

    kind: Literal["swiglu"] = "swiglu"
    hidden: int = setting(256, "features between the matrices in and the one out", unit="features", ge=1)

    def shapes(self, width: int) -> Shapes:
        return _branch("mlp", (), self.hidden, width, gated=True)


class Experts(FeedForward, ABC):
    """What every kind of experts has: a router that chooses some of them for each token."""

    hidden: int = setting(128, "features between an expert's matrices", unit="features", ge=1)
    activation: Activation = setting("silu", "elementwise function inside an expert")
    gated: bool = setting(False, "a second matrix in, whose product goes through the activation and gates the first's")
    num_experts: int = setting(8, "experts in each layer to choose from", unit="experts", ge=1)
    top_k: int = setting(2, "experts a token passes through", unit="experts", ge=1)
    num_shared_experts: int = setting(
        0, "further experts that every token passes through, unweighted", unit="experts", ge=0
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.top_k > self.num_experts:
            raise ValueError(
                f"top_k: {self.top_k}; a token cannot pass through more than num_experts = {self.num_experts}; "
                "lower top_k or add experts"
            )
        return self

    def shapes(self, width: int) -> Shapes:
        shared = (self.num_shared_experts,)
        return {
            "router": (self.num_experts, width),
            **_branch("expert", (self.num_experts,), self.hidden, width, gated=self.gated),
            **(_branch("shared", shared, self.hidden, width, gated=self.gated) if shared[0] else {}),
        }


class MixtureOfExperts(Experts):
    """Each token passes through the `top_k` experts its router prefers, weighted by a softmax of its logits."""

    kind: Literal["moe"] = "moe"
    router: Literal["softmax-after", "softmax-before"] = setting(
        "softmax-after",
        "softmax-after: weights are a softmax over the chosen (Shazeer et al. 2017); softmax-before: over all experts, "
        "before the choice, so that the chosen weights add up to less than 1 (Fedus et al. 2021)",
    )
    balance_weight: float = setting(
        0.01,
        "weight of num_experts * sum(fraction routed * mean probability) over the update's tokens, summed over layers",
        per_lane=True,
        ge=0,
    )
    z_weight: float = setting(
        0.0,
        "weight of the mean squared logsumexp of the router's logits, summed over layers (ST-MoE, Zoph et al. 2022)",
        per_lane=True,
        ge=0,
    )
    router_noise: float = setting(
        0.1, "sd of the normal noise added to the router's logits in training", unit="logits", per_lane=True, ge=0
    )


class BiasBalancedExperts(Experts):
    """Sigmoid scores, and a bias per expert that only enters the choice and evens the load (DeepSeek-V3, 2024).

    The chosen scores divided by their sum are the weights. No auxiliary loss: after each update an expert that
    got more than its share of the update's tokens loses `bias_rate`, one that got less gains it.
    """

    kind: Literal["moe-bias-balanced"] = "moe-bias-balanced"
    bias_rate: float = setting(
        0.001, "change of an expert's bias at an update", unit="scores per update", per_lane=True, ge=0
    )


def _branch(name: str, stack: tuple[int, ...], hidden: int, width: int, *, gated: bool) -> Shapes:
    """The matrices in and out of one feed-forward, or of a stack of them."""
    gate: Shapes = {f"{name}.gate": (*stack, hidden, width)} if gated else {}
    return {**gate, f"{name}.in": (*stack, hidden, width), f"{name}.out": (*stack, width, hidden)}


class Model(Section):
    """A pre-norm transformer decoder, bias-free but where its attention says otherwise."""

    width: int = setting(64, "features of the residual stream", unit="features", ge=1, le=10**6)
    num_layers: int = setting(2, "blocks of attention and feed-forward", unit="layers", ge=1, le=10**6)
    num_heads: int = setting(
        2, "attention heads; must divide width unless attention is latent", unit="heads", ge=1, le=10**6
    )
    context_tokens: int = setting(64, "tokens in a training sequence", unit="tokens", ge=2, le=10**6)
    document_mask: bool = setting(False, "a token sees its own document only; positions do not restart")
    dropout: float = setting(
        0.0, "probability of zeroing: embedding, attention, feed-forward, both residual branches, head", ge=0, lt=1
    )
    tied_head: bool = setting(
        True, "the embedding is also the head; else the head has a matrix of its own, under AdamW"
    )
    initialization: Literal["normal", "scaled", "fan-in"] = setting(
        "normal",
        "normal: matrices of sd initial_sd; scaled: the same, and those that end a residual branch divided by "
        "sqrt(2 * num_layers) (GPT-2, Radford et al. 2019); fan-in: sd 1/sqrt(columns) (LeCun et al. 1998)",
    )
    initial_sd: float = setting(0.02, "sd of the initial embedding and head, and of matrices unless fan-in", gt=0)
    attention: Annotated[MultiHeadAttention | GroupedQueryAttention | LatentAttention, Field(discriminator="kind")] = (
        MultiHeadAttention()
    )
    feed_forward: Annotated[Mlp | SwiGlu | MixtureOfExperts | BiasBalancedExperts, Field(discriminator="kind")] = (
        MixtureOfExperts()
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if isinstance(self.attention, LatentAttention):
            return self
        if self.width % self.num_heads:
            raise ValueError(
                f"num_heads: {self.num_heads}; it must divide width = {self.width}; "
                f"try {nearest_divisor(self.width, self.num_heads)}"
            )
        if (self.width // self.num_heads) % 2:
            raise ValueError(
                f"num_heads: {self.num_heads}; rotary positions need an even head size, "
                f"width / num_heads is {self.width // self.num_heads}; change width or num_heads"
            )
        if isinstance(self.attention, GroupedQueryAttention) and self.num_heads % self.attention.num_kv_heads:
            raise ValueError(
                f"attention.num_kv_heads: {self.attention.num_kv_heads}; it must divide num_heads = {self.num_heads}; "
                f"try {nearest_divisor(self.num_heads, self.attention.num_kv_heads)}"
            )
        return self


UNLAYERED = ("embedding", "head", "norm.final")
"""Weights of which there is one; of all others every layer has its own, stacked."""

ROUTER_BIAS = "state.router_bias"
"""(N, L, E): what a bias-balanced router adds to the scores it chooses by. No gradient trains it, and it is no
parameter; it is part of the model all the same."""


def weight_shapes(recipe: "Recipe") -> Shapes:
    """The shape of each trained weight."""
    model = recipe.model
    layer = _layer_shapes(model)
    matrices = {name: shape for name, shape in layer.items() if is_matrix(name)}
    vectors = {name: shape for name, shape in layer.items() if name not in matrices}
    table = (recipe.data.vocabulary_tokens, model.width)
    return {
        **{name: (model.num_layers, *shape) for name, shape in matrices.items()},
        "embedding": table,
        **({} if model.tied_head else {"head": table}),
        "norm.attention": (model.num_layers, model.width),
        "norm.feed_forward": (model.num_layers, model.width),
        **{name: (model.num_layers, *shape) for name, shape in vectors.items()},
        "norm.final": (model.width,),
    }


def state_shapes(recipe: "Recipe") -> Shapes:
    """The shape of what is carried from update to update and no gradient trains."""
    feed_forward = recipe.model.feed_forward
    if isinstance(feed_forward, BiasBalancedExperts):
        return {ROUTER_BIAS: (recipe.model.num_layers, feed_forward.num_experts)}
    return {}


def is_matrix(name: str) -> bool:
    """Whether Muon trains this weight; AdamW trains the rest: embedding, head, norms and biases."""
    return not name.startswith(("embedding", "head", "norm.", "bias."))


def _layer_shapes(model: Model) -> Shapes:
    """Of one layer, but for the norms before its branches."""
    return {**model.attention.shapes(model.width, model.num_heads), **model.feed_forward.shapes(model.width)}


def _used(model: Model, name: str, shape: tuple[int, ...]) -> int:
    """How many entries of a layer's weight one token meets: of the experts, only those chosen."""
    kind = model.feed_forward
    if isinstance(kind, Experts) and name.startswith("expert."):
        return math.prod(shape) // kind.num_experts * kind.top_k
    return math.prod(shape)


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


def cost(recipe: "Recipe") -> Cost:
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


def parameters(recipe: "Recipe") -> Parameters:
    """Parameters of the model: matrices under Muon; embedding, head (if not tied), norms and biases under AdamW.

    Where AdamW is the only optimizer, all are its own. The selection biases of a bias-balanced router are no
    parameters: no gradient trains them.
    """
    counts = {name: math.prod(shape) for name, shape in weight_shapes(recipe).items()}
    total, matrices = sum(counts.values()), sum(count for name, count in counts.items() if is_matrix(name))
    layer = _layer_shapes(recipe.model)
    idle = sum(math.prod(shape) - _used(recipe.model, name, shape) for name, shape in layer.items())
    muon = matrices if recipe.optimizer.kind == "muon-adamw" else 0
    return Parameters(total=total, active=total - recipe.model.num_layers * idle, muon=muon, adamw=total - muon)


def flops_per_token(recipe: "Recipe") -> float:
    """Forward plus backward: 6 per active matrix parameter (the head included), and causal attention.

    A document mask is not taken off: how much it hides depends on the text.
    """
    model = recipe.model
    layer = sum(_used(model, name, shape) for name, shape in _layer_shapes(model).items() if is_matrix(name))
    matrices = model.num_layers * layer + recipe.data.vocabulary_tokens * model.width
    # QK^T and PV: products of 2 FLOPs a feature with each of context/2 visible tokens, forward; twice that back.
    features = model.attention.scored_features(model.width, model.num_heads)
    causal = 3 * model.num_layers * 2 * features * model.context_tokens / 2
    return 6.0 * matrices + causal


def _memory_bytes(recipe: "Recipe", counted: Parameters) -> int:
    """Weights, gradients, momentum (and AdamW's second moment), and what the backward pass keeps.

    bf16 halves what is kept and adds a copy of the weights; checkpointed layers keep only what enters them, and
    one at a time the rest. Dropout keeps every head's weights of all tokens, before and after, and its mask.
    "auto" is taken to be fp32.
    """
    model, is_half = recipe.model, recipe.train.precision == "bf16"
    state = 3 * counted.muon + 4 * counted.adamw
    whole, inputs = (1, model.num_layers) if recipe.train.checkpoint_activations else (model.num_layers, 0)
    chosen = model.feed_forward.top_k if isinstance(model.feed_forward, Experts) else 1
    hidden = sum(
        _used(model, name, shape) // model.width
        for name, shape in model.feed_forward.shapes(model.width).items()
        if name.endswith((".in", ".gate"))
    )
    per_layer = 12 * model.width + 2 * chosen * model.width + 2 * hidden
    per_token = whole * per_layer + inputs * model.width + 4 * model.width
    shares = (10 if is_half else 12) * model.num_heads * model.context_tokens if model.dropout else 0
    num_tokens = recipe.micro_batch_sequences * model.context_tokens
    activations = ((2 if is_half else 4) * per_token + whole * shares) * num_tokens
    return 4 * state + activations + (2 * counted.total if is_half else 0)


SMALL_UPDATE_FLOPS = 1e11
"""Up to here a core does an update within seconds, and cores do more as one single-threaded process each."""


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_threads(recipe: "Recipe", num_cores: int) -> int:
    """CPU threads a run is trained with: decided by its size and the machine, never by how many runs share it.

    More threads sum in another order, so a number that depends on the worker count would not be reproducible.
    """
    return 1 if flops_per_token(recipe) * recipe.update_tokens <= SMALL_UPDATE_FLOPS else num_cores
