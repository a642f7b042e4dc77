"""The pieces that layers are made of, over lanes; and the head with its cross-entropy, whose logits are never whole.

Shapes: N lanes, S tokens of a micro-batch, D width, I and O features in and out, V vocabulary, C tokens of a chunk.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

ACTIVATIONS = {
    "silu": F.silu,
    "gelu": F.gelu,
    "relu-squared": lambda x: F.relu(x).square(),
}
ACTIVATION_GRADIENTS = {
    "silu": torch.ops.aten.silu_backward,
    "gelu": torch.ops.aten.gelu_backward,
    "relu-squared": lambda grad, x: F.relu(x).mul_(2).mul_(grad),
}
"""From the gradient of the output and the input to that of the input."""


def linear(x_NSI: Tensor, w_NOI: Tensor, bias_NO: Tensor | None = None) -> Tensor:
    """Each lane's tokens times that lane's matrix, in the matrix's precision: (N, S, I), (N, O, I) -> (N, S, O)."""
    y_NSO = torch.bmm(x_NSI.to(w_NOI.dtype), w_NOI.transpose(1, 2))
    return y_NSO if bias_NO is None else y_NSO + bias_NO[:, None, :]


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


CHUNK_ELEMENTS = 1 << 19
"""Logits held at once: 2 MB in fp32, about what a core's cache holds."""
LEAST_ROWS = {"cpu": 256, "cuda": 2048}
"""But no fewer tokens at once than that: with few rows a product is bound by reading the head anew."""


class _HeadLoss(Function):
    """Gradients are computed on the way forward, where the logits are at hand."""

    @staticmethod
    def forward(ctx: Any, x_NSD: Tensor, w_NVD: Tensor, target_NS: Tensor) -> Tensor:
        num_lanes = x_NSD.shape[0]
        exact = torch.promote_types(x_NSD.dtype, torch.float32)
        grad_x_NSD, grad_w_NVD = torch.empty_like(x_NSD), torch.zeros_like(w_NVD, dtype=exact)
        loss_N = x_NSD.new_zeros(num_lanes, dtype=exact)
        for lane in range(num_lanes):
            w_VD = w_NVD[lane].to(x_NSD.dtype)
            for rows in _chunks(x_NSD, w_VD.shape[0]):
                x_CD, target_C1 = x_NSD[lane, rows], target_NS[lane, rows, None]
                logits_CV = (x_CD @ w_VD.T).to(exact)
                peak_C1, right_C1 = logits_CV.amax(-1, keepdim=True), logits_CV.gather(-1, target_C1)
                grad_CV = logits_CV.sub_(peak_C1).exp_()
                total_C1 = grad_CV.sum(-1, keepdim=True)
                loss_N[lane] += (total_C1.log() + peak_C1 - right_C1).sum()
                # The gradient of a row times its total: the factor is taken to the narrow sides of the products.
                grad_CV.scatter_(-1, target_C1, (right_C1 - peak_C1).exp_().sub_(total_C1))
                grad_CV = grad_CV.to(x_CD.dtype)
                grad_x_NSD[lane, rows] = (grad_CV @ w_VD).div_(total_C1)
                share_CD = (x_CD / total_C1).to(x_CD.dtype)
                if x_CD.dtype == exact:
                    grad_w_NVD[lane].addmm_(grad_CV.T, share_CD)
                else:  # summed over the chunks in fp32
                    grad_w_NVD[lane].add_(grad_CV.T @ share_CD)
        ctx.save_for_backward(grad_x_NSD, grad_w_NVD)
        return loss_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_x_NSD, grad_w_NVD = ctx.saved_tensors
        scale_N11 = grads[0][:, None, None]
        return (grad_x_NSD * scale_N11).to(grad_x_NSD.dtype), grad_w_NVD * scale_N11, None


def head_loss(x_NSD: Tensor, w_NVD: Tensor, target_NS: Tensor) -> Tensor:
    """Sum over tokens of the cross-entropy of softmax(x w^T), in nats, one a lane: (N,).

    Logits are computed in the precision of x and w, softmax, loss and sums in fp32 at least.
    """
    return _HeadLoss.apply(x_NSD, w_NVD, target_NS)  # pyright: ignore[reportReturnType]


def head_scores(x_NSD: Tensor, w_NVD: Tensor, target_NS: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each token in nats, and whether the most likely token is the right one: both (N, S)."""
    exact = torch.promote_types(x_NSD.dtype, torch.float32)
    loss_NS = torch.empty_like(target_NS, dtype=exact)
    right_NS = torch.empty_like(target_NS, dtype=torch.bool)
    for lane in range(x_NSD.shape[0]):
        w_VD = w_NVD[lane].to(x_NSD.dtype)
        for rows in _chunks(x_NSD, w_VD.shape[0]):
            logits_CV = (x_NSD[lane, rows] @ w_VD.T).to(exact)
            target_C = target_NS[lane, rows]
            loss_NS[lane, rows] = logits_CV.logsumexp(-1) - logits_CV.gather(-1, target_C[:, None]).squeeze(-1)
            right_NS[lane, rows] = logits_CV.argmax(-1) == target_C
    return loss_NS, right_NS


def _chunks(x_NSD: Tensor, vocabulary: int) -> list[slice]:
    num_tokens, size = x_NSD.shape[1], max(LEAST_ROWS.get(x_NSD.device.type, 1), CHUNK_ELEMENTS // vocabulary)
    return [slice(start, min(start + size, num_tokens)) for start in range(0, num_tokens, size)]
