"""The feed-forward half of a block: one for all tokens, or experts that share them out.

Experts: a router chooses some for each token; the choices are sorted by (lane, expert), each expert computes its
tokens, and the results are gathered back. Every permutation is a gather forward and a gather backward: no
scatter-add, so the order of summation is fixed.

Shapes: N lanes, S tokens of a micro-batch, D width, H hidden, L layers, E experts, K chosen a token, M shared experts;
G = N * E groups, P = N * S tokens in all, A = P * K assignments of a token to an expert.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from blueberry.architecture import ROUTER_BIAS, Experts, MixtureOfExperts, Mlp, Model
from blueberry.lm.draws import HIDDEN, ROUTER, SHARED_HIDDEN, Draws
from blueberry.lm.layers import ACTIVATION_GRADIENTS, ACTIVATIONS, Precision, Weights, linear

Router = Callable[[Tensor, Tensor | None, int], tuple[Tensor, Tensor]]
"""(logits (N, S, E), selection bias (N, E) or None, K) to indices (N, S, K) and their weights (N, S, K)."""


def largest(scores_NSE: Tensor, num_chosen: int) -> Tensor:
    """Indices (N, S, K) of the K largest scores of each token, best first.

    By repeated maxima: several times faster than topk at the few experts of a layer.
    """
    left_NSE, indices = scores_NSE.detach(), []
    for _ in range(num_chosen):
        index_NS1 = left_NSE.argmax(-1, keepdim=True)
        left_NSE = left_NSE.scatter(-1, index_NS1, float("-inf"))
        indices.append(index_NS1)
    return torch.cat(indices, -1)


def softmax_after(logits_NSE: Tensor, bias_NE: Tensor | None, num_chosen: int) -> tuple[Tensor, Tensor]:
    """A softmax over the chosen: weights add up to 1. Source: Shazeer et al. 2017."""
    index_NSK = largest(logits_NSE, num_chosen)
    return index_NSK, logits_NSE.gather(-1, index_NSK).softmax(-1)


def softmax_before(logits_NSE: Tensor, bias_NE: Tensor | None, num_chosen: int) -> tuple[Tensor, Tensor]:
    """The chosen of a softmax over all: weights add up to less than 1. Source: Fedus et al. 2021."""
    index_NSK = largest(logits_NSE, num_chosen)
    return index_NSK, logits_NSE.softmax(-1).gather(-1, index_NSK)


def sigmoid_bias(logits_NSE: Tensor, bias_NE: Tensor | None, num_chosen: int) -> tuple[Tensor, Tensor]:
    """Chosen by sigmoid plus bias, weighted by the sigmoids over their sum. Source: DeepSeek-V3 (2024), eq. 16."""
    assert bias_NE is not None
    score_NSE = logits_NSE.sigmoid()
    index_NSK = largest(score_NSE + bias_NE[:, None], num_chosen)
    chosen_NSK = score_NSE.gather(-1, index_NSK)
    return index_NSK, chosen_NSK / (chosen_NSK.sum(-1, keepdim=True) + 1e-20)


ROUTERS: dict[str, Router] = {
    "softmax-after": softmax_after,
    "softmax-before": softmax_before,
    "sigmoid-bias": sigmoid_bias,
}


def balance_loss(logits_NSE: Tensor, fraction_NE: Tensor) -> Tensor:
    """E * sum_e fraction of assignments_e * mean probability_e, (N,): 1 when even. Source: Fedus et al. 2021."""
    return logits_NSE.shape[-1] * (fraction_NE * logits_NSE.softmax(-1).mean(1)).sum(-1)


def z_loss(logits_NSE: Tensor) -> Tensor:
    """The mean over tokens of the squared logsumexp of a token's logits, (N,). Source: Zoph et al. 2022."""
    return logits_NSE.logsumexp(-1).square().mean(1)


@torch.no_grad()
def rebalanced(bias_NLE: Tensor, load_NLE: Tensor, rate_N: Tensor) -> Tensor:
    """The selection bias after an update in which each expert received `load_NLE` assignments.

    Up by the rate where an expert got less than the mean, down where it got more. Source: Wang et al. 2024.
    """
    lack_NLE = load_NLE.mean(-1, keepdim=True) - load_NLE
    return bias_NLE + rate_N[:, None, None] * lack_NLE.sign()


class Assignment(NamedTuple):
    """Who goes where: the order that brings the assignments of one (lane, expert) together."""

    order_A: Tensor
    """Sorted place -> assignment."""
    place_A: Tensor
    """Assignment -> sorted place."""
    token_A: Tensor
    """Sorted place -> token, over all lanes."""
    end_G: Tensor
    """Sorted place behind the last of each group, int32."""

    @classmethod
    def of(cls, indices_NSK: Tensor, num_experts: int) -> "Assignment":
        """From the experts that each token chose. Nothing here makes a device wait for the host."""
        num_lanes, _num_tokens, num_chosen = indices_NSK.shape
        lanes_N11 = torch.arange(num_lanes, device=indices_NSK.device)[:, None, None]
        num_groups = num_lanes * num_experts
        group_A = (indices_NSK + lanes_N11 * num_experts).flatten()
        if num_groups < 2**15:  # a device sorts bit by bit
            group_A = group_A.to(torch.int16)
        order_A = group_A.argsort(stable=True)
        groups_G = torch.arange(num_groups, dtype=group_A.dtype, device=group_A.device)
        end_G = torch.searchsorted(group_A[order_A], groups_G, right=True, out_int32=True)
        place_A = torch.empty_like(order_A)
        place_A[order_A] = torch.arange(group_A.numel(), device=group_A.device)
        return cls(order_A, place_A, order_A // num_chosen, end_G)

    def count_G(self) -> Tensor:
        """Assignments of each group, int32."""
        return self.end_G.diff(prepend=self.end_G.new_zeros(1))


class _Dispatch(Function):
    """Token rows (P, D) to sorted assignment rows (A, D)."""

    @staticmethod
    def forward(ctx: Any, x_PD: Tensor, token_A: Tensor, place_A: Tensor) -> Tensor:
        ctx.save_for_backward(place_A)
        ctx.num_tokens = len(x_PD)
        return x_PD.index_select(0, token_A)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (place_A,) = ctx.saved_tensors
        gathered_AD = grads[0].index_select(0, place_A)
        return gathered_AD.view(ctx.num_tokens, -1, gathered_AD.shape[-1]).sum(1), None, None


class _Combine(Function):
    """Sorted assignment rows (A, D) and weights (P, K) to token rows (P, D): the weighted sum over K."""

    @staticmethod
    def forward(ctx: Any, y_AD: Tensor, weight_PK: Tensor, order_A: Tensor, place_A: Tensor, token_A: Tensor) -> Tensor:
        y_PKD = y_AD.index_select(0, place_A).view(*weight_PK.shape, -1)
        ctx.save_for_backward(y_PKD, weight_PK, order_A, token_A)
        return _weighed(weight_PK[:, None, :], y_PKD).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y_PKD, weight_PK, order_A, token_A = ctx.saved_tensors
        grad_PD = grads[0]
        weight_A1 = weight_PK.flatten().index_select(0, order_A)[:, None]
        grad_y_AD = grad_PD.index_select(0, token_A) * weight_A1
        grad_weight_PK = _weighed(y_PKD, grad_PD[:, :, None]).squeeze(-1)
        return grad_y_AD, grad_weight_PK, None, None, None


def _weighed(a: Tensor, b: Tensor) -> Tensor:
    """The product of many small matrices, of which one side is a row or a column."""
    if torch.compiler.is_compiling():  # fused with what comes before and after
        return (
            (a.transpose(1, 2) * b).sum(1, keepdim=True)
            if a.shape[1] == 1
            else (a * b.transpose(1, 2)).sum(2, keepdim=True)
        )
    return a @ b


class _GroupedBranch(Function):
    """Rows (A, D) of consecutive groups through each group's matrices in and out, and what lies between them.

    Group by group, so that what lies between stays in the cache; what the backward pass needs of it is computed again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_AD: Tensor,
        in_GHD: Tensor,
        gate_GHD: Tensor | None,
        out_GDH: Tensor,
        keep_AH: Tensor | None,
        counts: list[int],
        activation: str,
    ) -> Tensor:
        ctx.counts, ctx.activation = counts, activation
        num_rows, hidden = x_AD.shape[0], in_GHD.shape[1]
        up_AH, y_AD = x_AD.new_empty(num_rows, hidden), torch.empty_like(x_AD)
        gate_AH = None if gate_GHD is None else torch.empty_like(up_AH)
        for g, rows in _groups(counts):
            x, up = x_AD[rows], torch.mm(x_AD[rows], in_GHD[g].T, out=up_AH[rows])
            gate = None
            if gate_GHD is not None and gate_AH is not None:
                gate = torch.mm(x, gate_GHD[g].T, out=gate_AH[rows])
            h = _between(up, gate, None if keep_AH is None else keep_AH[rows], activation)
            torch.mm(h, out_GDH[g].T, out=y_AD[rows])
        ctx.save_for_backward(x_AD, in_GHD, gate_GHD, out_GDH, keep_AH, up_AH, gate_AH)
        return y_AD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_AD, in_GHD, gate_GHD, out_GDH, keep_AH, up_AH, gate_AH = ctx.saved_tensors
        grad_y_AD, slope = grads[0].contiguous(), ACTIVATION_GRADIENTS[ctx.activation]
        grad_x_AD, grad_in, grad_out = torch.empty_like(x_AD), torch.empty_like(in_GHD), torch.empty_like(out_GDH)
        grad_gate = None if gate_GHD is None else torch.empty_like(gate_GHD)
        for g, rows in _groups(ctx.counts):
            x, up, grad_y = x_AD[rows], up_AH[rows], grad_y_AD[rows]
            gate, keep = (None if whole is None else whole[rows] for whole in (gate_AH, keep_AH))
            torch.mm(grad_y.T, _between(up, gate, keep, ctx.activation), out=grad_out[g])
            grad_h = grad_y @ out_GDH[g]
            if keep is not None:
                grad_h.mul_(keep)
            if gate is None or gate_GHD is None or grad_gate is None:
                grad_up = slope(grad_h, up)
                torch.mm(grad_up, in_GHD[g], out=grad_x_AD[rows])
            else:
                grad_up = grad_h * ACTIVATIONS[ctx.activation](gate)
                grad_of_gate = slope(grad_h.mul_(up), gate)
                torch.mm(grad_of_gate.T, x, out=grad_gate[g])
                torch.mm(grad_up, in_GHD[g], out=grad_x_AD[rows])
                grad_x_AD[rows].addmm_(grad_of_gate, gate_GHD[g])
            torch.mm(grad_up.T, x, out=grad_in[g])
        return grad_x_AD, grad_in, grad_gate, grad_out, None, None, None


def _between(up: Tensor, gate: Tensor | None, keep: Tensor | None, activation: str) -> Tensor:
    """What the matrix out is multiplied with."""
    h = ACTIVATIONS[activation](up) if gate is None else ACTIVATIONS[activation](gate).mul_(up)
    return h if keep is None else h.mul_(keep)


def _groups(counts: list[int]) -> list[tuple[int, slice]]:
    """Each group's number and its rows."""
    ends = list(accumulate(counts))
    return [(g, slice(end - count, end)) for g, (count, end) in enumerate(zip(counts, ends, strict=True))]


def dispatch(x_PD: Tensor, assignment: Assignment) -> Tensor:
    """(P, D) -> (A, D): each token's row, once for each expert it goes to, sorted by (lane, expert)."""
    return _Dispatch.apply(x_PD, assignment.token_A, assignment.place_A)  # pyright: ignore[reportReturnType]


def combine(y_AD: Tensor, weight_PK: Tensor, assignment: Assignment) -> Tensor:
    """(A, D), (P, K) -> (P, D): the weighted sum of each token's K expert outputs, in their precision."""
    order = assignment.order_A, assignment.place_A, assignment.token_A
    return _Combine.apply(y_AD, weight_PK.to(y_AD.dtype), *order)  # pyright: ignore[reportReturnType]


def grouped_branch(
    x_AD: Tensor,
    in_GHD: Tensor,
    gate_GHD: Tensor | None,
    out_GDH: Tensor,
    keep_AH: Tensor | None,
    assignment: Assignment,
    activation: str,
) -> Tensor:
    """(A, D) -> (A, D): each sorted row through its group's expert, gated where there is a matrix for that.

    `keep_AH` is what its hidden features are multiplied with, dropout's mask; None: nothing.
    """
    x_AD = x_AD.to(in_GHD.dtype)
    is_device = x_AD.is_cuda or torch.compiler.is_compiling()
    if is_device and x_AD.dtype == torch.bfloat16 and _are_whole(*in_GHD.shape[1:]):
        up_AH = F.grouped_mm(x_AD, in_GHD.transpose(1, 2), offs=assignment.end_G)
        gate_AH = None if gate_GHD is None else F.grouped_mm(x_AD, gate_GHD.transpose(1, 2), offs=assignment.end_G)
        h_AH = _between(up_AH, gate_AH, keep_AH, activation)
        return F.grouped_mm(h_AH, out_GDH.transpose(1, 2), offs=assignment.end_G)
    given = (x_AD, in_GHD, gate_GHD, out_GDH, keep_AH, assignment.count_G().tolist(), activation)
    return _GroupedBranch.apply(*given)  # pyright: ignore[reportReturnType]


def needs_counts(model: Model, precision: Precision) -> bool:
    """Whether the host must be told how many tokens each expert received, even of a CUDA device.

    Not where one kernel takes groups of any sizes: that is in bf16, for rows that begin at multiples of 16 bytes.
    """
    if not isinstance(model.feed_forward, Experts):
        return False
    return precision != "bf16" or not _are_whole(model.width, model.feed_forward.hidden)


def _are_whole(*sizes: int) -> bool:
    return all(size % 8 == 0 for size in sizes)


class Routed(NamedTuple):
    """What the router of one layer did."""

    load_NE: Tensor
    """Assignments each expert received, fp32."""
    balance_N: Tensor | None
    """E * sum_e fraction_e * probability_e; None where a bias keeps the balance."""
    z_N: Tensor | None
    """Mean squared logsumexp of the logits; None where a bias keeps the balance."""


def feed_forward(
    model: Model, w: Weights, x_NSD: Tensor, draws: Draws, noise_N: Tensor | None, fraction_NE: Tensor | None
) -> tuple[Tensor, Routed | None]:
    """One layer's, before the residual sum: (N, S, D) -> (N, S, D); what the router did where there is one."""
    kind = model.feed_forward
    if isinstance(kind, Experts):
        return experts(kind, w, x_NSD, draws, noise_N, fraction_NE)
    activation = kind.activation if isinstance(kind, Mlp) else "silu"
    matrices = w["mlp.in"], w.get("mlp.gate"), w["mlp.out"]
    return _branch(x_NSD, *matrices, activation, draws, HIDDEN), None


def _branch(
    x_NSD: Tensor,
    in_NHD: Tensor,
    gate_NHD: Tensor | None,
    out_NDH: Tensor,
    activation: str,
    draws: Draws,
    place: int,
) -> Tensor:
    """All tokens through the matrices in and out of a lane, gated where there is a matrix for that."""
    h_NSH, act = linear(x_NSD, in_NHD), ACTIVATIONS[activation]
    h_NSH = act(h_NSH) if gate_NHD is None else act(linear(x_NSD, gate_NHD)) * h_NSH
    return linear(draws.drop(place, h_NSH), out_NDH)


def experts(
    kind: Experts, w: Weights, x_NSD: Tensor, draws: Draws, noise_N: Tensor | None, fraction_NE: Tensor | None
) -> tuple[Tensor, Routed]:
    """Each token through the experts its router chose, and through all shared ones: (N, S, D) -> (N, S, D).

    `noise_N` is the sd of training's router noise. `fraction_NE` is the share of the whole update's assignments
    that each expert receives; without it these tokens are taken for the whole.
    """
    num_lanes, num_tokens, _ = x_NSD.shape
    logits_NSE = linear(x_NSD, w["router"])
    if noise_N is not None and (normal_NSE := draws.normal(ROUTER, logits_NSE)) is not None:
        logits_NSE = logits_NSE + noise_N[:, None, None] * normal_NSE
    router = kind.router if isinstance(kind, MixtureOfExperts) else "sigmoid-bias"
    index_NSK, weight_NSK = ROUTERS[router](logits_NSE, w.get(ROUTER_BIAS), kind.top_k)
    assignment = Assignment.of(index_NSK, kind.num_experts)
    load_NE = assignment.count_G().view(num_lanes, -1).float()
    balance_N = z_N = None
    if isinstance(kind, MixtureOfExperts):
        if fraction_NE is None:
            fraction_NE = load_NE / (num_tokens * kind.top_k)
        balance_N, z_N = balance_loss(logits_NSE, fraction_NE), z_loss(logits_NSE)
    keep_AH = draws.keep_rows(HIDDEN, assignment.order_A, kind.hidden)
    gate_GHD = w["expert.gate"].flatten(0, 1) if kind.gated else None
    matrices = w["expert.in"].flatten(0, 1), gate_GHD, w["expert.out"].flatten(0, 1)
    x_AD = dispatch(x_NSD.flatten(0, 1), assignment)
    y_AD = grouped_branch(x_AD, *matrices, keep_AH, assignment, kind.activation)
    y_NSD = combine(y_AD, weight_NSK.flatten(0, 1), assignment).view_as(x_NSD)
    if kind.num_shared_experts:  # as one, over their joined hidden features: the same sum
        gate_NHD = w["shared.gate"].flatten(1, 2) if kind.gated else None
        matrices = w["shared.in"].flatten(1, 2), gate_NHD, w["shared.out"].transpose(1, 2).flatten(2)
        y_NSD = y_NSD + _branch(x_NSD, *matrices, kind.activation, draws, SHARED_HIDDEN)
    return y_NSD, Routed(load_NE, balance_N, z_N)
