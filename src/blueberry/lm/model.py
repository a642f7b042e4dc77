"""The language model over a lane axis: N independent models of one shape, computed together.

Nothing here reduces over lanes, so a lane's numbers are those of that lane alone.

Shapes: N lanes, L layers, B sequences of a micro-batch, T tokens of a sequence, S = B * T, D width, Q heads,
C = D / Q features of a head, H hidden, E experts, K chosen a token, V vocabulary, P = N * S.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from blueberry.identity import digest
from blueberry.lm.draws import Draws
from blueberry.lm.experts import Assignment, choose, combine, dispatch, grouped_linear
from blueberry.recipe import Recipe
from blueberry.settings import MixtureOfExperts

Weights = dict[str, Tensor]
"""By name. Matrices (N, L, ...) under Muon; embedding (N, V, D) and norms (N, [L,] D) under AdamW."""

ACTIVATIONS = {
    "silu": F.silu,
    "gelu": F.gelu,
    "relu-squared": lambda x: F.relu(x).square(),
}

_EMBEDDING_SITE, _HEAD_SITE, _SITES_A_LAYER = 0, 1, 8
_ATTENTION, _ATTENTION_BRANCH, _ROUTER, _HIDDEN, _FEED_FORWARD_BRANCH = 2, 3, 4, 5, 6


class Hidden(NamedTuple):
    """What the blocks give: the normed last hidden state, and what the routers did."""

    x_NSD: Tensor
    balance_N: Tensor | None
    """Sum over layers of E * sum_e fraction_e * probability_e; None without experts."""
    load_NLE: Tensor | None
    """Assignments each expert received; None without experts."""


def weight_shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """The shape of each weight of one lane."""
    model, feed_forward = recipe.model, recipe.model.feed_forward
    layers, width, hidden = model.num_layers, model.width, feed_forward.hidden
    shapes: dict[str, tuple[int, ...]] = {
        "attention.qkv": (layers, 3 * width, width),
        "attention.out": (layers, width, width),
    }
    if isinstance(feed_forward, MixtureOfExperts):
        experts = feed_forward.num_experts
        shapes["router"] = (layers, experts, width)
        shapes["expert.in"] = (layers, experts, hidden, width)
        shapes["expert.out"] = (layers, experts, width, hidden)
    else:
        shapes["mlp.in"] = (layers, hidden, width)
        shapes["mlp.out"] = (layers, width, hidden)
    return {
        **shapes,
        "embedding": (recipe.data.vocabulary_tokens, width),
        "norm.attention": (layers, width),
        "norm.feed_forward": (layers, width),
        "norm.final": (width,),
    }


def is_matrix(name: str) -> bool:
    """Whether Muon trains this weight; AdamW trains the rest."""
    return not name.startswith(("embedding", "norm."))


def initialize(recipe: Recipe, seeds: tuple[int, ...], device: torch.device) -> Weights:
    """Norms 1, everything else N(0, initial_sd), each weight of each lane from a stream of its own."""
    weights: Weights = {}
    for name, shape in weight_shapes(recipe).items():
        if name.startswith("norm."):
            weights[name] = torch.ones(len(seeds), *shape, device=device)
            continue
        lanes = []
        for seed in seeds:
            stream = torch.Generator().manual_seed(int(digest("initialize", name, str(seed)), 16) % 2**63)
            lanes.append(torch.randn(shape, generator=stream) * recipe.model.initial_sd)
        weights[name] = torch.stack(lanes).to(device)
    return weights


def rotary_tables(recipe: Recipe, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, C / 2) of position * base^(-2i/C). Source: Su et al. 2021."""
    size = recipe.model.width // recipe.model.num_heads
    frequency = recipe.model.attention.rotary_base ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angle = torch.arange(recipe.model.context_tokens, dtype=torch.float64)[:, None] * frequency
    return angle.cos().float().to(device), angle.sin().float().to(device)


def rotate(x_T1C: Tensor, cos_TC: Tensor, sin_TC: Tensor) -> Tensor:
    """Turn each pair (i, i + C/2) of features by the angle of its position.

    Shapes: x (..., T, Q, C) with positions third from the end; tables (T, C / 2).
    """
    first, second = x_T1C.chunk(2, -1)
    cos, sin = cos_TC[:, None, :], sin_TC[:, None, :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x_T1C.dtype)


@dataclass(frozen=True)
class LanguageModel:
    """The forward pass. Holds no weights: they are an argument."""

    recipe: Recipe
    device: torch.device
    rotary: tuple[Tensor, Tensor]

    @classmethod
    def build(cls, recipe: Recipe, device: torch.device) -> "LanguageModel":
        return cls(recipe, device, rotary_tables(recipe, device))

    def hidden(
        self,
        weights: Weights,
        tokens_NBT: Tensor,
        *,
        draws: Draws | None = None,
        noise_N: Tensor | None = None,
        fraction_NLE: Tensor | None = None,
    ) -> Hidden:
        """Tokens to the last hidden state (N, S, D), normed, ready for the tied head.

        `draws` switches on what happens only in training: dropout and router noise (sd `noise_N`, one a lane).
        `fraction_NLE` is the share of assignments each expert receives over the whole update, when these
        tokens are only a part of it; without it the share is taken over these tokens.
        """
        _num_lanes, _, num_positions = tokens_NBT.shape
        model = self.recipe.model
        x_NSD = embed(weights["embedding"], tokens_NBT.flatten(1)) * math.sqrt(model.width)
        x_NSD = self._drop(x_NSD, draws, _EMBEDDING_SITE)
        layers = {name: w.unbind(1) for name, w in weights.items() if name not in ("embedding", "norm.final")}
        balances, loads = [], []
        for index in range(model.num_layers):
            w = {name: of_layers[index] for name, of_layers in layers.items()}
            fraction_NE = None if fraction_NLE is None else fraction_NLE[:, index]
            block = partial(self._block, w, num_positions, draws, _SITES_A_LAYER * (index + 1), noise_N, fraction_NE)
            if self.recipe.train.checkpoint_activations and torch.is_grad_enabled():
                # Nothing here draws from torch's generators, so their state need not be kept.
                outcome = checkpoint(block, x_NSD, use_reentrant=False, preserve_rng_state=False)
            else:
                outcome = block(x_NSD)
            x_NSD, balance_N, load_NE = outcome
            if balance_N is not None:
                balances.append(balance_N)
                loads.append(load_NE)
        x_NSD = self._drop(norm(x_NSD, weights["norm.final"]), draws, _HEAD_SITE)
        if not balances:
            return Hidden(x_NSD, None, None)
        return Hidden(x_NSD, sum(balances[1:], balances[0]), torch.stack(loads, 1))

    def _block(
        self,
        w: Weights,
        num_positions: int,
        draws: Draws | None,
        site: int,
        noise_N: Tensor | None,
        fraction_NE: Tensor | None,
        x_NSD: Tensor,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """One layer: the residual stream after it, and what its router did, if it has one."""
        y_NSD = self._attention(w, norm(x_NSD, w["norm.attention"]), num_positions, draws, site)
        x_NSD = x_NSD + self._drop(y_NSD, draws, site + _ATTENTION_BRANCH)
        h_NSD = norm(x_NSD, w["norm.feed_forward"])
        balance_N = load_NE = None
        if "router" in w:
            y_NSD, balance_N, load_NE = self._experts(w, h_NSD, draws, site, noise_N, fraction_NE)
        else:
            y_NSD = self._mlp(w, h_NSD, draws, site)
        return x_NSD + self._drop(y_NSD, draws, site + _FEED_FORWARD_BRANCH), balance_N, load_NE

    def _attention(self, w: Weights, x_NSD: Tensor, num_positions: int, draws: Draws | None, site: int) -> Tensor:
        heads = self.recipe.model.num_heads
        num_lanes, num_tokens, width = x_NSD.shape
        qkv_RT3QC = linear(x_NSD, w["attention.qkv"]).view(-1, num_positions, 3, heads, width // heads)
        cos, sin = (table[:num_positions] for table in self.rotary)
        qk_RT2QC = rotate(qkv_RT3QC[:, :, :2].flatten(2, 3), cos, sin)
        q_RQTC, k_RQTC = qk_RT2QC.transpose(1, 2).chunk(2, 1)
        v_RQTC = qkv_RT3QC[:, :, 2].transpose(1, 2)
        drop = self.recipe.model.dropout
        if draws is None or drop == 0:
            y_RQTC = F.scaled_dot_product_attention(q_RQTC, k_RQTC, v_RQTC, is_causal=True)
        else:
            score_RQTT = q_RQTC @ k_RQTC.transpose(-1, -2) / math.sqrt(width // heads)
            hidden_TT = torch.ones(num_positions, num_positions, dtype=torch.bool, device=self.device).triu(1)
            share_RQTT = at_least_fp32(score_RQTT).masked_fill(hidden_TT, float("-inf")).softmax(-1)
            keep = draws.keep_NBK(site + _ATTENTION, heads * num_positions**2, drop)
            y_RQTC = (share_RQTT * keep.view_as(share_RQTT)).to(v_RQTC.dtype) @ v_RQTC
        return linear(y_RQTC.transpose(1, 2).reshape(num_lanes, num_tokens, width), w["attention.out"])

    def _mlp(self, w: Weights, x_NSD: Tensor, draws: Draws | None, site: int) -> Tensor:
        h_NSH = ACTIVATIONS[self.recipe.model.feed_forward.activation](linear(x_NSD, w["mlp.in"]))
        return linear(self._drop(h_NSH, draws, site + _HIDDEN), w["mlp.out"])

    def _experts(
        self,
        w: Weights,
        x_NSD: Tensor,
        draws: Draws | None,
        site: int,
        noise_N: Tensor | None,
        fraction_NE: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        feed_forward = self.recipe.model.feed_forward
        assert isinstance(feed_forward, MixtureOfExperts)
        num_lanes, num_tokens, _ = x_NSD.shape
        experts = feed_forward.num_experts
        logits_NSE = linear(x_NSD, w["router"])
        if draws is not None and noise_N is not None:
            num_draws = num_tokens // len(draws.sequences) * experts
            noise_NSE = draws.normal_NBK(site + _ROUTER, num_draws).view_as(logits_NSE)
            logits_NSE = logits_NSE + noise_N[:, None, None] * noise_NSE
        index_NSK, weight_NSK = choose(logits_NSE, feed_forward.top_k)
        assignment = Assignment(index_NSK, experts)
        load_NE = assignment.load_NE(num_lanes)
        if fraction_NE is None:
            fraction_NE = load_NE / (num_tokens * feed_forward.top_k)
        balance_N = experts * (fraction_NE * logits_NSE.softmax(-1).mean(1)).sum(-1)

        h_AH = grouped_linear(dispatch(x_NSD.flatten(0, 1), assignment), w["expert.in"].flatten(0, 1), assignment)
        h_AH = ACTIVATIONS[feed_forward.activation](h_AH)
        if draws is not None and self.recipe.model.dropout > 0:
            num_draws = num_tokens // len(draws.sequences) * feed_forward.top_k * feed_forward.hidden
            keep = draws.keep_NBK(site + _HIDDEN, num_draws, self.recipe.model.dropout)
            h_AH = (h_AH * keep.view_as(h_AH).index_select(0, assignment.order_A)).to(h_AH.dtype)
        y_AD = grouped_linear(h_AH, w["expert.out"].flatten(0, 1), assignment)
        y_PD = combine(y_AD, weight_NSK.flatten(0, 1), assignment)
        return y_PD.view_as(x_NSD), balance_N, load_NE

    def _drop(self, x_NSD: Tensor, draws: Draws | None, site: int) -> Tensor:
        drop = self.recipe.model.dropout
        if draws is None or drop == 0:
            return x_NSD
        per_sequence = x_NSD[0].numel() // len(draws.sequences)
        return (x_NSD * draws.keep_NBK(site, per_sequence, drop).view_as(x_NSD)).to(x_NSD.dtype)


def linear(x_NSI: Tensor, w_NOI: Tensor) -> Tensor:
    """Each lane's tokens times that lane's matrix, in the matrix's precision: (N, S, I), (N, O, I) -> (N, S, O)."""
    return torch.bmm(x_NSI.to(w_NOI.dtype), w_NOI.transpose(1, 2))


def norm(x_NSD: Tensor, w_ND: Tensor) -> Tensor:
    """Root-mean-square norm with a gain per lane. Source: Zhang & Sennrich 2019; epsilon as in torch for fp32."""
    exact_NSD = at_least_fp32(x_NSD)
    return (F.rms_norm(exact_NSD, x_NSD.shape[-1:]) * w_ND[:, None, :]).to(x_NSD.dtype)


def at_least_fp32(x: Tensor) -> Tensor:
    """The same in fp32, for sums that bf16 would spoil; fp32 and float64 stay what they are."""
    return x.float() if x.dtype == torch.bfloat16 else x


def embed(w_NVD: Tensor, tokens_NS: Tensor) -> Tensor:
    """Rows of each lane's table: (N, V, D), (N, S) -> (N, S, D)."""
    num_lanes, vocabulary, width = w_NVD.shape
    offset_N1 = torch.arange(num_lanes, device=tokens_NS.device)[:, None] * vocabulary
    return F.embedding(tokens_NS + offset_N1, w_NVD.view(-1, width))
