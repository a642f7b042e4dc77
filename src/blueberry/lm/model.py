"""The language model over a lane axis: N independent models of one shape, computed together.

Nothing here reduces over lanes, so a lane's numbers are those of that lane alone.

Shapes: N lanes, L layers, B sequences of a micro-batch, T tokens of a sequence, S = B * T, D width, E experts.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from blueberry.architecture import UNLAYERED, Model
from blueberry.lm.attention import Positions, attention, rotary_tables, same_document
from blueberry.lm.draws import ATTENTION_BRANCH, EMBEDDING, FEED_FORWARD_BRANCH, HEAD, Draws
from blueberry.lm.feed_forward import Routed, feed_forward
from blueberry.lm.layers import Weights, compiled_once, embed, norm
from blueberry.recipe import Recipe
from blueberry.text.tokenizer import SEPARATOR


class Hidden(NamedTuple):
    """What the blocks give: the normed last hidden state, and what the routers did. None: no such thing."""

    x_NSD: Tensor
    balance_N: Tensor | None
    """Sum over layers of E * sum_e fraction_e * probability_e."""
    z_N: Tensor | None
    """Sum over layers of the mean squared logsumexp of the router's logits."""
    load_NLE: Tensor | None
    """Assignments each expert received."""


@dataclass(frozen=True)
class LanguageModel:
    """The forward pass. Holds no weights: they are an argument."""

    recipe: Recipe
    device: torch.device
    rotary: tuple[Tensor, Tensor]
    separator: int | None
    """The token that ends a document."""
    is_compiled: bool = False
    """Whether training goes through fused kernels; what is evaluated never does."""

    @classmethod
    def build(cls, recipe: Recipe, device: torch.device, separator: int | None = SEPARATOR) -> "LanguageModel":
        return cls(recipe, device, rotary_tables(recipe.model, device), separator)

    def hidden(
        self,
        weights: Weights,
        tokens_NBT: Tensor,
        *,
        keys_SR: Tensor | None = None,
        noise_N: Tensor | None = None,
        fraction_NLE: Tensor | None = None,
    ) -> Hidden:
        """Tokens to the last hidden state (N, S, D), normed, ready for the head.

        `weights` are the trained ones and the state. `keys_SR` switch on what happens only in training: dropout and
        router noise (sd `noise_N`, one a lane); see `Draws`. `fraction_NLE` is the share of assignments each expert
        receives over the whole update, when these tokens are only a part of it.
        """
        model = self.recipe.model
        draws = Draws(keys_SR, model.dropout)
        positions = self._positions(tokens_NBT)
        is_compiled = self.is_compiled and keys_SR is not None
        first, block, last = _first, _block, _last
        if is_compiled:
            first, block, last = compiled_once(first), compiled_once(block), compiled_once(last)
        x_NSD = embed(weights["embedding"], tokens_NBT.flatten(1))
        x_NSD = first(model.width, weights["attention.out"].dtype, draws, x_NSD)
        layers = {name: w.unbind(1) for name, w in weights.items() if name not in UNLAYERED}
        routed: list[Routed] = []
        for index in range(model.num_layers):
            w = {name: of_layers[index] for name, of_layers in layers.items()}
            fraction_NE = None if fraction_NLE is None else fraction_NLE[:, index]
            given = model, w, positions, draws.of_layer(index), noise_N, fraction_NE
            layer = partial(block, *given)
            if self.recipe.train.checkpoint_activations and torch.is_grad_enabled():
                # Nothing here draws from torch's generators, so their state need not be kept.
                outcome = checkpoint(layer, x_NSD, use_reentrant=False, preserve_rng_state=False)
            else:
                outcome = layer(x_NSD)
            x_NSD, of_router = outcome
            if of_router is not None:
                routed.append(of_router)
        x_NSD = last(weights["norm.final"], draws, x_NSD)
        return Hidden(
            x_NSD,
            _sum([of_router.balance_N for of_router in routed]),
            _sum([of_router.z_N for of_router in routed]),
            torch.stack([of_router.load_NE for of_router in routed], 1) if routed else None,
        )

    def _positions(self, tokens_NBT: Tensor) -> Positions:
        num_positions = tokens_NBT.shape[-1]
        cos, sin = (table[:num_positions] for table in self.rotary)
        visible_R1TT = None
        if self.recipe.model.document_mask:
            assert self.separator is not None
            visible_R1TT = same_document(tokens_NBT.flatten(0, 1), self.separator)
        return Positions(num_positions, cos, sin, visible_R1TT)


def _block(
    model: Model,
    w: Weights,
    positions: Positions,
    draws: Draws,
    noise_N: Tensor | None,
    fraction_NE: Tensor | None,
    x_NSD: Tensor,
) -> tuple[Tensor, Routed | None]:
    """One layer: attention and feed-forward, each normed before and added to the residual stream."""
    y_NSD = attention(model, w, norm(x_NSD, w["norm.attention"]), positions, draws)
    x_NSD = x_NSD + draws.drop(ATTENTION_BRANCH, y_NSD)
    y_NSD, routed = feed_forward(model, w, norm(x_NSD, w["norm.feed_forward"]), draws, noise_N, fraction_NE)
    return x_NSD + draws.drop(FEED_FORWARD_BRANCH, y_NSD), routed


def _first(width: int, dtype: torch.dtype, draws: Draws, x_NSD: Tensor) -> Tensor:
    """From the embedding to the first layer."""
    return draws.drop(EMBEDDING, (x_NSD * math.sqrt(width)).to(dtype))


def _last(w_ND: Tensor, draws: Draws, x_NSD: Tensor) -> Tensor:
    """From the last layer to the head."""
    return draws.drop(HEAD, norm(x_NSD, w_ND))


def _sum(values: list[Tensor | None]) -> Tensor | None:
    """The sum in the layers' order; None without any."""
    present = [value for value in values if value is not None]
    return sum(present[1:], present[0]) if present else None
