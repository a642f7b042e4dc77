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


def linear(x_NSI: Tensor, w_NOI: Tensor, bias_NO: Tensor | None = None) -> Tensor:
    """Each lane's tokens times that lane's matrix: (N, S, I), (N, O, I) -> (N, S, O)."""
    y_NSO = torch.bmm(x_NSI, w_NOI.transpose(1, 2))
    return y_NSO if bias_NO is None else y_NSO + bias_NO[:, None, :]


def norm(x_NSD: Tensor, w_ND: Tensor) -> Tensor:
    """Root-mean-square norm with a gain per lane. Source: Zhang & Sennrich 2019; epsilon as in torch."""
    return F.rms_norm(x_NSD, x_NSD.shape[-1:]) * w_ND[:, None, :]


def embed(w_NVD: Tensor, tokens_NS: Tensor) -> Tensor:
    """Rows of each lane's table: (N, V, D), (N, S) -> (N, S, D)."""
    num_lanes, vocabulary, width = w_NVD.shape
    offset_N1 = torch.arange(num_lanes, device=tokens_NS.device)[:, None] * vocabulary
    return F.embedding(tokens_NS + offset_N1, w_NVD.view(-1, width))
