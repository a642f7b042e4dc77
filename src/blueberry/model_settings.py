"""The `model` section of a recipe: the kinds of attention and of feed-forward, and what all models share.

A kind has the settings it reads and no others: one that is set but never read would make two recipes of one run.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from blueberry.settings import Section, nearest_divisor, setting

Activation = Literal["silu", "gelu", "relu-squared"]

_ROTARY_BASE = setting(10_000.0, "base of the rotary frequencies", gt=1)
_QUERY_KEY_NORM = setting(
    False, "norm each head's queries and keys, with a gain per feature, before the rotation (Henry et al. 2020)"
)


class MultiHeadAttention(Section):
    """Causal attention with as many key/value heads as query heads (Vaswani et al. 2017)."""

    kind: Literal["multi-head"] = "multi-head"
    rotary_base: float = _ROTARY_BASE
    query_key_norm: bool = _QUERY_KEY_NORM


class GroupedQueryAttention(Section):
    """Each key/value head serves a group of query heads (Ainslie et al. 2023; one head: Shazeer 2019)."""

    kind: Literal["grouped-query"] = "grouped-query"
    rotary_base: float = _ROTARY_BASE
    query_key_norm: bool = _QUERY_KEY_NORM
    num_kv_heads: int = setting(1, "key/value heads; must divide num_heads", unit="heads", ge=1)


class LatentAttention(Section):
    """Keys and values, and queries too, are made from small normed latents (DeepSeek-V2, 2024).

    A head's query and key have a part that rotary positions turn and one that they leave alone; all heads share
    the turned part of the key. Head sizes are free of `model.width`.
    """

    kind: Literal["latent"] = "latent"
    rotary_base: float = _ROTARY_BASE
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


class Mlp(Section):
    """Two matrices with an activation between them; no bias."""

    kind: Literal["mlp"] = "mlp"
    hidden: int = setting(256, "features between the two matrices", unit="features", ge=1)
    activation: Activation = setting("silu", "elementwise function between them")


class SwiGlu(Section):
    """Two matrices in, one through silu and gating the other, and one out (Shazeer 2020); no bias."""

    kind: Literal["swiglu"] = "swiglu"
    hidden: int = setting(256, "features between the matrices in and the one out", unit="features", ge=1)


_HIDDEN = setting(128, "features between an expert's matrices", unit="features", ge=1)
_ACTIVATION = setting("silu", "elementwise function inside an expert")
_GATED = setting(False, "a second matrix in, whose product goes through the activation and gates the first's")
_NUM_EXPERTS = setting(8, "experts in each layer to choose from", unit="experts", ge=1)
_TOP_K = setting(2, "experts a token passes through", unit="experts", ge=1)
_NUM_SHARED = setting(0, "further experts that every token passes through, unweighted", unit="experts", ge=0)


def _check_top_k(top_k: int, num_experts: int) -> None:
    if top_k > num_experts:
        raise ValueError(
            f"top_k: {top_k}; a token cannot pass through more than num_experts = {num_experts}; "
            "lower top_k or add experts"
        )


class MixtureOfExperts(Section):
    """Each token passes through the `top_k` experts its router prefers, weighted by a softmax of its logits."""

    kind: Literal["moe"] = "moe"
    hidden: int = _HIDDEN
    activation: Activation = _ACTIVATION
    gated: bool = _GATED
    num_experts: int = _NUM_EXPERTS
    top_k: int = _TOP_K
    num_shared_experts: int = _NUM_SHARED
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

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_top_k(self.top_k, self.num_experts)
        return self


class BiasBalancedExperts(Section):
    """Sigmoid scores, and a bias per expert that only enters the choice and evens the load (DeepSeek-V3, 2024).

    The chosen scores divided by their sum are the weights. No auxiliary loss: after each update an expert that
    got more than its share of the update's tokens loses `bias_rate`, one that got less gains it.
    """

    kind: Literal["moe-bias-balanced"] = "moe-bias-balanced"
    hidden: int = _HIDDEN
    activation: Activation = _ACTIVATION
    gated: bool = _GATED
    num_experts: int = _NUM_EXPERTS
    top_k: int = _TOP_K
    num_shared_experts: int = _NUM_SHARED
    bias_rate: float = setting(
        0.001, "change of an expert's bias at an update", unit="scores per update", per_lane=True, ge=0
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_top_k(self.top_k, self.num_experts)
        return self


Experts = MixtureOfExperts | BiasBalancedExperts


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
