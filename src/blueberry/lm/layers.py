"""The pieces that layers are made of, over lanes.

Shapes: N lanes, S tokens of a micro-batch, D width, I and O features in and out, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

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
