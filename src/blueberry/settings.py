"""The sections of a recipe. Each setting is declared once, here, with its default, bounds, unit and meaning.

Two marks say how a setting may be used: `per_lane` (runs that differ only in such settings can train side by
side) and `memory_only` (changes no number, so it is no part of a run's identity).
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


def setting(
    default: Any, doc: str, *, unit: str = "", per_lane: bool = False, memory_only: bool = False, **bounds: Any
) -> Any:
    """A field with its documentation beside it. `bounds` are pydantic's gt, ge, lt, le."""
    marks = {"unit": unit, "per_lane": per_lane, "memory_only": memory_only}
    return Field(default, description=doc, json_schema_extra=marks, **bounds)


class Section(BaseModel):
    """A table of a recipe: frozen, strictly typed, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)


class MultiHeadAttention(Section):
    """Causal attention with as many key/value heads as query heads (Vaswani et al. 2017)."""

    kind: Literal["multi-head"] = "multi-head"
    rotary_base: float = setting(10_000.0, "base of the rotary frequencies", gt=1)


class Mlp(Section):
    """Two matrices with an activation between them; no bias."""

    kind: Literal["mlp"] = "mlp"
    hidden: int = setting(256, "features between the two matrices", unit="features", ge=1)
    activation: Literal["silu", "gelu", "relu-squared"] = setting("silu", "elementwise function between them")


class MixtureOfExperts(Section):
    """Each token passes through the `top_k` experts its router prefers, weighted by a softmax over the chosen."""

    kind: Literal["moe"] = "moe"
    hidden: int = setting(128, "features between an expert's two matrices", unit="features", ge=1)
    activation: Literal["silu", "gelu", "relu-squared"] = setting("silu", "elementwise function inside an expert")
    num_experts: int = setting(8, "experts in each layer", unit="experts", ge=1)
    top_k: int = setting(2, "experts a token passes through", unit="experts", ge=1)
    balance_weight: float = setting(
        0.01,
        "weight of num_experts * sum(fraction routed * mean probability) over the update's tokens, summed over layers",
        per_lane=True,
        ge=0,
    )
    router_noise: float = setting(
        0.1, "sd of the normal noise added to the router's logits in training", unit="logits", per_lane=True, ge=0
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.top_k > self.num_experts:
            raise ValueError(
                f"top_k: {self.top_k}; a token cannot pass through more than num_experts = {self.num_experts}; "
                "lower top_k or add experts"
            )
        return self


class Model(Section):
    """A pre-norm transformer decoder with tied embedding and head, bias-free."""

    width: int = setting(64, "features of the residual stream", unit="features", ge=1)
    num_layers: int = setting(2, "blocks of attention and feed-forward", unit="layers", ge=1)
    num_heads: int = setting(2, "attention heads; must divide width", unit="heads", ge=1)
    context_tokens: int = setting(64, "tokens in a training sequence", unit="tokens", ge=2)
    dropout: float = setting(
        0.0, "probability of zeroing: embedding, attention, experts, both residual branches, head", ge=0, lt=1
    )
    initial_sd: float = setting(0.02, "standard deviation of the initial matrices and embedding", gt=0)
    attention: MultiHeadAttention = MultiHeadAttention()
    feed_forward: Annotated[Mlp | MixtureOfExperts, Field(discriminator="kind")] = MixtureOfExperts()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.num_heads:
            raise ValueError(
                f"num_heads: {self.num_heads}; it must divide width = {self.width}; "
                f"try {_nearest_divisor(self.width, self.num_heads)}"
            )
        if (self.width // self.num_heads) % 2:
            raise ValueError(
                f"num_heads: {self.num_heads}; rotary positions need an even head size, "
                f"width / num_heads is {self.width // self.num_heads}; change width or num_heads"
            )
        return self


class Muon(Section):
    """Momentum, then the nearest semi-orthogonal matrix (Jordan et al. 2024). Trains every matrix but the embedding."""

    learning_rate: float = setting(0.06, "peak rate", per_lane=True, gt=0)
    momentum: float = setting(0.95, "of the moving average of gradients", per_lane=True, ge=0, lt=1)
    nesterov: bool = setting(True, "look one update ahead along the momentum")
    num_iterations: int = setting(5, "Newton-Schulz iterations", unit="iterations", ge=1, le=20)


class AdamW(Section):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019). Trains the embedding and the norms."""

    learning_rate_ratio: float = setting(0.1, "its peak rate over Muon's", per_lane=True, gt=0)
    beta1: float = setting(0.9, "decay of the mean of gradients", per_lane=True, ge=0, lt=1)
    beta2: float = setting(0.95, "decay of the mean of squared gradients", per_lane=True, ge=0, lt=1)
    epsilon: float = setting(1e-8, "added to the root of the second moment", gt=0)
    weight_decay: float = setting(0.1, "shrinkage per update in units of the rate", per_lane=True, ge=0)


class Optimizer(Section):
    kind: Literal["muon-adamw"] = "muon-adamw"
    muon: Muon = Muon()
    adamw: AdamW = AdamW()


_WARMUP = setting(0.1, "of the updates, rising linearly to the peak", per_lane=True, ge=0, lt=1)
_FLOOR = setting(0.1, "of the peak rate, reached at the last update", per_lane=True, ge=0, le=1)


class ConstantSchedule(Section):
    """Warmup, then the peak rate to the end."""

    kind: Literal["constant"] = "constant"
    warmup_fraction: float = _WARMUP


class LinearSchedule(Section):
    """Warmup, then a straight line down to the floor."""

    kind: Literal["linear"] = "linear"
    warmup_fraction: float = _WARMUP
    floor_fraction: float = _FLOOR


class CosineSchedule(Section):
    """Warmup, then half a cosine down to the floor (Loshchilov & Hutter 2017, without restarts)."""

    kind: Literal["cosine"] = "cosine"
    warmup_fraction: float = _WARMUP
    floor_fraction: float = _FLOOR


class WarmupStableDecaySchedule(Section):
    """Warmup, the peak rate, then a straight line down to the floor (Hu et al. 2024)."""

    kind: Literal["warmup-stable-decay"] = "warmup-stable-decay"
    warmup_fraction: float = _WARMUP
    floor_fraction: float = _FLOOR
    decay_fraction: float = setting(0.2, "of the updates, at the end, falling to the floor", per_lane=True, gt=0, le=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                f"decay_fraction: {self.decay_fraction}; with warmup_fraction = {self.warmup_fraction} "
                "it passes the whole run; their sum may be at most 1"
            )
        return self


Schedule = Annotated[
    ConstantSchedule | LinearSchedule | CosineSchedule | WarmupStableDecaySchedule, Field(discriminator="kind")
]


class Train(Section):
    """How long, and how much at once. An update is one optimizer step."""

    updates: int | None = setting(None, "optimizer steps; give this or tokens", unit="updates", ge=1)
    tokens: int | None = setting(None, "training tokens, rounded up to whole updates", unit="tokens", ge=1)
    batch_sequences: int = setting(16, "sequences in an update", unit="sequences", ge=1)
    micro_batch_sequences: int | None = setting(
        None, "sequences held in memory at once; changes no number", unit="sequences", memory_only=True, ge=1
    )
    clip_norm: float = setting(1.0, "gradients are scaled down to this norm; 0 does not clip", per_lane=True, ge=0)
    keep_weights: bool = setting(
        True, "save the final weights in the store, for sampling and export; changes no number", memory_only=True
    )
    precision: Literal["fp32"] = setting("fp32", "of weights, activations and optimizer state")

    DEFAULT_UPDATES: ClassVar[int] = 200

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("updates") is None and given.get("tokens") is None:
            return {**given, "updates": cls.DEFAULT_UPDATES}
        return given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.updates is not None and self.tokens is not None:
            raise ValueError(f"tokens: {self.tokens}; updates = {self.updates} is given too; give one of them")
        micro = self.micro_batch_sequences
        if micro is not None and self.batch_sequences % micro:
            raise ValueError(
                f"micro_batch_sequences: {micro}; it must divide batch_sequences = {self.batch_sequences}; "
                f"try {_nearest_divisor(self.batch_sequences, micro)}"
            )
        return self


class Evaluate(Section):
    """When to look at the validation set, and how much of it. The last update is always evaluated."""

    every_updates: int = setting(50, "updates between evaluations", unit="updates", ge=1)
    tokens: int = setting(8_192, "of each held-out set, in windows spread evenly over it", unit="tokens", ge=1)


def _nearest_divisor(whole: int, near: int) -> int:
    return min((n for n in range(1, whole + 1) if whole % n == 0), key=lambda n: abs(n - near))
