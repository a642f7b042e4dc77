"""Causal attention: what makes queries, keys and values is a kind's own; the rest is common to all kinds.

Shapes: N lanes, B sequences of a micro-batch, T tokens of a sequence, S = B * T, R = N * B, D width, Q heads,
K key/value heads, J = Q + 2 K, C features of a head's query and key, U of its value.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from blueberry.architecture import GroupedQueryAttention, LatentAttention, Model
from blueberry.lm.draws import ATTENTION, Draws
from blueberry.lm.layers import Weights, at_least_fp32, linear, norm

PIECE_ELEMENTS = 1 << 17
"""Weights of attention computed at once on a CPU: half a megabyte in fp32."""


@dataclass(frozen=True)
class Positions:
    """Where the tokens of a micro-batch stand, and which of them see one another."""

    num_positions: int
    cos: Tensor
    """(T, C / 2) of the rotated features."""
    sin: Tensor
    visible_R1TT: Tensor | None = None
    """True where the row's token may see the column's; None: itself and all before it."""


def attention(model: Model, w: Weights, x_NSD: Tensor, positions: Positions, draws: Draws) -> Tensor:
    """One layer's attention, before the residual sum: (N, S, D) -> (N, S, D)."""
    projected = _latent if isinstance(model.attention, LatentAttention) else _fused
    q_RQTC, k_RQTC, v_RQTU = projected(model, w, x_NSD, positions)
    y_RQTU = attend(q_RQTC, k_RQTC, v_RQTU, positions.visible_R1TT, draws)
    num_lanes, num_tokens, _ = x_NSD.shape
    return linear(
        y_RQTU.transpose(1, 2).reshape(num_lanes, num_tokens, -1), w["attention.out"], w.get("bias.attention_out")
    )


def attend(q_RQTC: Tensor, k_RQTC: Tensor, v_RQTU: Tensor, visible_R1TT: Tensor | None, draws: Draws) -> Tensor:
    """Values of the visible tokens, weighted by a softmax of scores over sqrt(C): (R, Q, T, U).

    Dropout acts on the weights; it takes an explicit path, because the fused kernels draw from a global stream.
    """
    num_rows, num_heads, num_positions, _ = q_RQTC.shape
    size = (num_rows, num_heads, num_positions, num_positions)
    keep_RQTT = draws.keep(ATTENTION, q_RQTC.new_empty(()).expand(size))
    if keep_RQTT is None:
        is_causal = visible_R1TT is None
        return F.scaled_dot_product_attention(q_RQTC, k_RQTC, v_RQTU, attn_mask=visible_R1TT, is_causal=is_causal)
    if torch.compiler.is_compiling():  # fused, and what is cheap is computed again backward
        visible_TT = torch.ones(num_positions, num_positions, dtype=torch.bool, device=q_RQTC.device).tril()
        score = at_least_fp32(q_RQTC @ k_RQTC.transpose(2, 3)) * q_RQTC.shape[-1] ** -0.5
        score = score.masked_fill(~(visible_TT if visible_R1TT is None else visible_R1TT), float("-inf"))
        return (score.softmax(-1) * keep_RQTT).to(v_RQTU.dtype) @ v_RQTU
    visible_PTT = None if visible_R1TT is None else visible_R1TT.expand(size).flatten(0, 1)
    y_PTU = _Dropped.apply(q_RQTC.flatten(0, 1), k_RQTC.flatten(0, 1), v_RQTU.flatten(0, 1), visible_PTT, keep_RQTT)
    return y_PTU.view(num_rows, num_heads, num_positions, -1)  # pyright: ignore[reportAttributeAccessIssue]


class _Dropped(Function):
    """Attention with dropout of its weights, some heads after another so that their weights stay in the cache.

    Shapes: P = R * Q heads of all rows.
    """

    @staticmethod
    def forward(
        ctx: Any, q_PTC: Tensor, k_PTC: Tensor, v_PTU: Tensor, visible_PTT: Tensor | None, keep_RQTT: Tensor
    ) -> Tensor:
        keep_PTT = keep_RQTT.flatten(0, 1)
        scale, num_positions = q_PTC.shape[-1] ** -0.5, q_PTC.shape[1]
        exact = torch.promote_types(q_PTC.dtype, torch.float32)
        bias_TT = keep_PTT.new_full((num_positions, num_positions), float("-inf"), dtype=exact).triu_(1)
        share_PTT, y_PTU = torch.empty_like(keep_PTT, dtype=exact), torch.empty_like(v_PTU)
        for p in _pieces(keep_PTT):
            score = at_least_fp32(q_PTC[p] @ k_PTC[p].transpose(1, 2))
            score = torch.add(bias_TT, score, alpha=scale, out=score)
            if visible_PTT is not None:
                score.masked_fill_(~visible_PTT[p], float("-inf"))
            torch.softmax(score, -1, out=share_PTT[p])
            torch.bmm((share_PTT[p] * keep_PTT[p]).to(v_PTU.dtype), v_PTU[p], out=y_PTU[p])
        ctx.scale = scale
        ctx.save_for_backward(q_PTC, k_PTC, v_PTU, share_PTT, keep_PTT, y_PTU)
        return y_PTU

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_PTC, k_PTC, v_PTU, share_PTT, keep_PTT, y_PTU = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q_PTC, k_PTC, v_PTU))
        # The softmax's own sum over a row, of weight times gradient, is that of output times gradient.
        sum_PT1 = (at_least_fp32(grads[0]) * y_PTU).sum(-1, keepdim=True)
        for p in _pieces(keep_PTT):
            dropped = (share_PTT[p] * keep_PTT[p]).to(v_PTU.dtype)
            torch.bmm(dropped.transpose(1, 2), grads[0][p], out=grad_v[p])
            grad = at_least_fp32(grads[0][p] @ v_PTU[p].transpose(1, 2)).mul_(keep_PTT[p])
            grad = grad.sub_(sum_PT1[p]).mul_(share_PTT[p]).mul_(ctx.scale).to(q_PTC.dtype)
            torch.bmm(grad, k_PTC[p], out=grad_q[p])
            torch.bmm(grad.transpose(1, 2), q_PTC[p], out=grad_k[p])
        return grad_q, grad_k, grad_v, None, None


def _pieces(like_PTT: Tensor) -> list[slice]:
    """On a CPU few heads at once; elsewhere all of them."""
    num_heads, size = like_PTT.shape[0], like_PTT[0].numel()
    step = max(1, PIECE_ELEMENTS // size) if like_PTT.device.type == "cpu" else num_heads
    return [slice(start, start + step) for start in range(0, num_heads, step)]


def _fused(model: Model, w: Weights, x_NSD: Tensor, positions: Positions) -> tuple[Tensor, Tensor, Tensor]:
    """Heads of one size; with fewer key/value heads, each is repeated for its group of query heads."""
    heads, size, kind = model.num_heads, model.width // model.num_heads, model.attention
    assert not isinstance(kind, LatentAttention)
    kv_heads = kind.num_kv_heads if isinstance(kind, GroupedQueryAttention) else heads
    qkv_RTJC = linear(x_NSD, w["attention.qkv"]).view(-1, positions.num_positions, heads + 2 * kv_heads, size)
    qk_RTJC = qkv_RTJC[:, :, : heads + kv_heads]
    if kind.query_key_norm:
        gain_NJC = torch.cat(
            (w["norm.query"][:, None].expand(-1, heads, -1), w["norm.key"][:, None].expand(-1, kv_heads, -1)), 1
        )
        normed = F.rms_norm(at_least_fp32(qk_RTJC), (size,))
        gained = normed.view(len(x_NSD), -1, heads + kv_heads, size) * gain_NJC[:, None]
        qk_RTJC = gained.view_as(normed).to(qk_RTJC.dtype)
    qk_RTJC = rotate(qk_RTJC, positions.cos, positions.sin)
    q_RQTC, k_RKTC = qk_RTJC.transpose(1, 2).split([heads, kv_heads], 1)
    v_RKTC = qkv_RTJC[:, :, heads + kv_heads :].transpose(1, 2)
    return q_RQTC, _repeat(k_RKTC, heads), _repeat(v_RKTC, heads)


def _repeat(x_RKTC: Tensor, heads: int) -> Tensor:
    """Each key/value head for every query head of its group; the groups are neighbours."""
    num_rows, kv_heads, num_positions, size = x_RKTC.shape
    if kv_heads == heads:
        return x_RKTC
    in_groups = x_RKTC[:, :, None].expand(-1, -1, heads // kv_heads, -1, -1)
    return in_groups.reshape(num_rows, heads, num_positions, size)


def _latent(model: Model, w: Weights, x_NSD: Tensor, positions: Positions) -> tuple[Tensor, Tensor, Tensor]:
    """The rotated part of the key is shared by all heads. Source: DeepSeek-V2 (2024), equations 9 to 19."""
    kind, heads, num_positions = model.attention, model.num_heads, positions.num_positions
    assert isinstance(kind, LatentAttention)

    def of_heads(y_NSO: Tensor) -> Tensor:
        return y_NSO.view(-1, num_positions, heads, y_NSO.shape[-1] // heads)

    query_NSD = x_NSD
    if kind.query_rank:
        latent = linear(x_NSD, w["attention.query_down"], w.get("bias.query_down"))
        query_NSD = norm(latent, w["norm.query_latent"])
    q_RTQC = of_heads(linear(query_NSD, w["attention.query_up"]))
    down = linear(x_NSD, w["attention.key_value_down"], w.get("bias.key_value_down"))
    latent, rope_key = down.split([kind.key_value_rank, kind.rope_size], -1)
    latent = norm(latent, w["norm.key_value_latent"])
    made_RTQC = of_heads(linear(latent, w["attention.key_value_up"]))
    plain_key, v_RTQU = made_RTQC.split([kind.plain_size, kind.value_size], -1)
    plain_query, rope_query = q_RTQC.split([kind.plain_size, kind.rope_size], -1)
    rope_query = rotate(rope_query, positions.cos, positions.sin)
    rope_key = rope_key.reshape(-1, num_positions, 1, kind.rope_size)
    rope_key = rotate(rope_key, positions.cos, positions.sin).expand_as(rope_query)
    q_RTQC, k_RTQC = torch.cat((plain_query, rope_query), -1), torch.cat((plain_key, rope_key), -1)
    return q_RTQC.transpose(1, 2), k_RTQC.transpose(1, 2), v_RTQU.transpose(1, 2)


def same_document(tokens_RT: Tensor, separator: int) -> Tensor:
    """Who sees whom when documents are apart: (R, T) -> (R, 1, T, T), True where row i may see column j <= i.

    A separator belongs to the document that it ends; what precedes the first one is a document too.
    """
    ends_RT = tokens_RT == separator
    document_RT = ends_RT.cumsum(-1) - ends_RT.long()
    return (document_RT[:, :, None] == document_RT[:, None, :]).tril()[:, None]


def rotary_tables(model: Model, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, C / 2) of position * base^(-2i/C) for C rotated features. Source: Su et al. 2021."""
    kind = model.attention
    size = kind.rope_size if isinstance(kind, LatentAttention) else model.width // model.num_heads
    frequency = kind.rotary_base ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angle = torch.arange(model.context_tokens, dtype=torch.float64)[:, None] * frequency
    return angle.cos().float().to(device), angle.sin().float().to(device)


def rotate(x_RTQC: Tensor, cos_TC: Tensor, sin_TC: Tensor) -> Tensor:
    """Turn each pair (i, i + C/2) of features by the angle of its position.

    Shapes: x (..., T, Q, C) with positions third from the end; tables (T, C / 2).
    """
    first, second = x_RTQC.chunk(2, -1)
    cos, sin = cos_TC[:, None, :], sin_TC[:, None, :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x_RTQC.dtype)
