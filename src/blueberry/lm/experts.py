"""The mixture of experts: tokens sorted by (lane, expert), one product a group, gathered back.

Every permutation is a gather forward and a gather backward: no scatter-add, so the order of summation is fixed.

Shapes: N lanes, S tokens of a micro-batch, D width, H hidden, E experts, K chosen a token; G = N * E groups,
P = N * S tokens in all, A = P * K assignments of a token to an expert.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class Assignment:
    """Who goes where: the order that brings the assignments of one (lane, expert) together."""

    def __init__(self, indices_NSK: Tensor, num_experts: int) -> None:
        num_lanes, _num_tokens, self.num_chosen = indices_NSK.shape
        lanes_N11 = torch.arange(num_lanes, device=indices_NSK.device)[:, None, None]
        group_A = (indices_NSK + lanes_N11 * num_experts).flatten()
        self.order_A = group_A.argsort(stable=True)
        """Sorted place -> assignment."""
        self.place_A = torch.empty_like(self.order_A)
        """Assignment -> sorted place."""
        self.place_A[self.order_A] = torch.arange(group_A.numel(), device=group_A.device)
        self.token_A = self.order_A // self.num_chosen
        """Sorted place -> token, over all lanes."""
        self.count_G = torch.bincount(group_A, minlength=num_lanes * num_experts)

    def load_NE(self, num_lanes: int) -> Tensor:
        """Assignments that each expert of each lane received, fp32."""
        return self.count_G.view(num_lanes, -1).float()


class _Dispatch(Function):
    """Token rows (P, D) to sorted assignment rows (A, D)."""

    @staticmethod
    def forward(ctx: Any, x_PD: Tensor, assignment: Assignment) -> Tensor:
        ctx.assignment = assignment
        return x_PD.index_select(0, assignment.token_A)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        assignment: Assignment = ctx.assignment
        gathered_AD = grads[0].index_select(0, assignment.place_A)
        return gathered_AD.view(-1, assignment.num_chosen, gathered_AD.shape[-1]).sum(1), None


class _Combine(Function):
    """Sorted assignment rows (A, D) and weights (P, K) to token rows (P, D): the weighted sum over K."""

    @staticmethod
    def forward(ctx: Any, y_AD: Tensor, weight_PK: Tensor, assignment: Assignment) -> Tensor:
        y_PKD = y_AD.index_select(0, assignment.place_A).view(*weight_PK.shape, -1)
        ctx.assignment = assignment
        ctx.save_for_backward(y_PKD, weight_PK)
        return (weight_PK[:, None, :] @ y_PKD).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        y_PKD, weight_PK = ctx.saved_tensors
        assignment: Assignment = ctx.assignment
        grad_PD = grads[0]
        weight_A1 = weight_PK.flatten().index_select(0, assignment.order_A)[:, None]
        grad_y_AD = grad_PD.index_select(0, assignment.token_A) * weight_A1
        grad_weight_PK = (y_PKD @ grad_PD[:, :, None]).squeeze(-1)
        return grad_y_AD, grad_weight_PK, None


class _GroupedLinear(Function):
    """Rows (A, I) of consecutive groups times each group's matrix (G, O, I) -> (A, O)."""

    @staticmethod
    def forward(ctx: Any, x_AI: Tensor, w_GOI: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        ctx.save_for_backward(x_AI, w_GOI)
        y_AO = x_AI.new_empty(x_AI.shape[0], w_GOI.shape[1])
        for x, w, y in zip(x_AI.split(counts), w_GOI.unbind(), y_AO.split(counts), strict=True):
            torch.mm(x, w.T, out=y)
        return y_AO

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x_AI, w_GOI = ctx.saved_tensors
        grad_y_AO = grads[0].contiguous()
        grad_x_AI, grad_w_GOI = torch.empty_like(x_AI), torch.empty_like(w_GOI)
        pieces = zip(
            x_AI.split(ctx.counts),
            w_GOI.unbind(),
            grad_y_AO.split(ctx.counts),
            grad_x_AI.split(ctx.counts),
            grad_w_GOI.unbind(),
            strict=True,
        )
        for x, w, grad_y, grad_x, grad_w in pieces:
            torch.mm(grad_y, w, out=grad_x)
            torch.mm(grad_y.T, x, out=grad_w)
        return grad_x_AI, grad_w_GOI, None


def dispatch(x_PD: Tensor, assignment: Assignment) -> Tensor:
    """(P, D) -> (A, D): each token's row, once for each expert it goes to, sorted by (lane, expert)."""
    return _Dispatch.apply(x_PD, assignment)  # pyright: ignore[reportReturnType]


def combine(y_AD: Tensor, weight_PK: Tensor, assignment: Assignment) -> Tensor:
    """(A, D), (P, K) -> (P, D): the weighted sum of each token's K expert outputs, in their precision."""
    return _Combine.apply(y_AD, weight_PK.to(y_AD.dtype), assignment)  # pyright: ignore[reportReturnType]


def grouped_linear(x_AI: Tensor, w_GOI: Tensor, assignment: Assignment) -> Tensor:
    """(A, I), (G, O, I) -> (A, O): each sorted row times the matrix of its group."""
    return _GroupedLinear.apply(x_AI, w_GOI, assignment.count_G.tolist())  # pyright: ignore[reportReturnType]
