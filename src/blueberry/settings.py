"""The sections of a recipe, but for the model's. Each setting is declared once, with default, bounds, unit and meaning.

Two marks say how a setting may be used: `per_lane` (runs that differ only in such settings can train side by
side) and `memory_only` (changes no number, so it is no part of a run's identity).
"""

from typing import Any, ClassVar, Literal, Self

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


class Train(Section):
    """How long, and how much at once. An update is one optimizer step."""

    updates: int | None = setting(None, "optimizer steps; give this or tokens", unit="updates", ge=1, le=10**7)
    tokens: int | None = setting(None, "training tokens, rounded up to whole updates", unit="tokens", ge=1, le=10**13)
    batch_sequences: int = setting(16, "sequences in an update", unit="sequences", ge=1, le=10**6)
    micro_batch_sequences: int | None = setting(
        None, "sequences held in memory at once; changes no number", unit="sequences", memory_only=True, ge=1
    )
    clip_norm: float = setting(1.0, "gradients are scaled down to this norm; 0 does not clip", per_lane=True, ge=0)
    keep_weights: bool = setting(
        True, "save the final weights in the store, for sampling and export; changes no number", memory_only=True
    )
    precision: Literal["fp32", "bf16", "auto"] = setting(
        "fp32",
        "of products and activations, in training and evaluation; weights are kept and updated in fp32 always; "
        "auto: the faster one here, measured once and kept in the store; the result says which",
    )
    checkpoint_activations: bool = setting(
        False,
        "keep only what enters each layer and compute the layer again backward; changes no number (Chen et al. 2016)",
        memory_only=True,
    )

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
                f"try {nearest_divisor(self.batch_sequences, micro)}"
            )
        return self


class Evaluate(Section):
    """When to look at the validation set, and how much of it. The last update is always evaluated."""

    every_updates: int = setting(50, "updates between evaluations", unit="updates", ge=1)
    tokens: int = setting(8_192, "of each held-out set, in windows spread evenly over it", unit="tokens", ge=1)


def nearest_divisor(whole: int, near: int) -> int:
    """The divisor of `whole` to suggest to one who gave `near`."""
    return min((n for n in range(1, whole + 1) if whole % n == 0), key=lambda n: abs(n - near))
