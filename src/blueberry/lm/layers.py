"""What layers are made of, over lanes: weights, their first values and their precision; products, norms, activations;
and the head with its cross-entropy, whose logits are never whole.

`blueberry.architecture` says which weights there are. They, their moments and updates are fp32 always. Under bf16 the
products and the activations between them are bf16; norms, softmax, router, loss and every sum over tokens or
micro-batches are fp32. Training and evaluation agree.

Shapes: N lanes, L layers, S tokens of a micro-batch, D width, I and O features in and out, V vocabulary, E experts, C
tokens of a chunk; matrices are (rows, columns) = (out, in).
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from blueberry.architecture import Model, is_matrix, state_shapes, weight_shapes
from blueberry.files import digest
from blueberry.recipe import Recipe

Weights = dict[str, Tensor]
"""By name, the lane first and then, but for `UNLAYERED`, the layer. Matrices (N, L, ..., R, C) under Muon;
embedding and head (N, V, D), norms and biases (N, [L,] D) under AdamW."""


def head_weight(weights: Weights) -> Tensor:
    """The matrix (N, V, D) of the last product: the head's own, or the embedding where they are tied."""
    return weights["head"] if "head" in weights else weights["embedding"]


def initialize(recipe: Recipe, seeds: tuple[int, ...], device: torch.device) -> Weights:
    """Norms 1, biases 0, the rest normal; each weight of each lane from a stream of its own."""
    sd_of = INITIALIZATIONS[recipe.model.initialization]
    weights: Weights = {}
    for name, shape in weight_shapes(recipe).items():
        if name.startswith(("norm.", "bias.")):
            weights[name] = torch.full((len(seeds), *shape), float(name.startswith("norm.")), device=device)
            continue
        sd = sd_of(recipe.model, name, shape) if is_matrix(name) else recipe.model.initial_sd
        lanes = []
        for seed in seeds:
            stream = torch.Generator().manual_seed(int(digest("initialize", name, str(seed)), 16) % 2**63)
            lanes.append(torch.randn(shape, generator=stream) * sd)
        weights[name] = torch.stack(lanes).to(device)
    return weights


def initial_state(recipe: Recipe, num_lanes: int, device: torch.device) -> Weights:
    """What no gradient trains, before the first update: zeros."""
    return {name: torch.zeros(num_lanes, *shape, device=device) for name, shape in state_shapes(recipe).items()}


INITIALIZATIONS: dict[str, Callable[[Model, str, Sequence[int]], float]] = {
    "normal": lambda model, name, shape: model.initial_sd,
    "scaled": lambda model, name, shape: (
        model.initial_sd / math.sqrt(2 * model.num_layers) if name.endswith(".out") else model.initial_sd
    ),
    "fan-in": lambda model, name, shape: 1 / math.sqrt(shape[-1]),
}
"""From a matrix's name and shape to the standard deviation of its first values; those named .out end a branch."""

Precision = Literal["fp32", "bf16"]

ALWAYS_FP32 = ("norm.", "router", "state.", "embedding", "head")
"""Beginnings of the names of weights that stay. Small ones, whose rounding would be felt: a choice of experts may flip.
The tables, whose gradients are sums over tokens: rows of the embedding, and the head for its products, are cast."""
LEAST_WIDTH = 192
"""From here on products of bf16 save a CPU more than the casts around them cost: docs/speed.md."""


def compute_weights(weights: Weights, precision: Precision) -> Weights:
    """The weights that the model is computed with: cast once an update, but for those that stay in fp32."""
    if precision == "fp32":
        return weights
    return {name: w if name.startswith(ALWAYS_FP32) else w.to(torch.bfloat16) for name, w in weights.items()}


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bf16; without, they are emulated, many times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def resolved(recipe: Recipe, device: torch.device) -> Precision:
    """What train.precision means on a device: "auto" is bf16 where that is multiplied natively and, on a CPU, pays."""
    asked = recipe.train.precision
    if asked != "auto":
        return asked
    pays = device.type == "cuda" or recipe.model.width >= LEAST_WIDTH
    return "bf16" if pays and multiplies_bf16(device) else "fp32"


R = TypeVar("R")

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


def compiled(function: Callable[..., R]) -> Callable[..., R]:
    """The function as fused kernels, made when it is first called with tensors of a shape."""
    torch._dynamo.config.recompile_limit = 256  # many shapes are many studies, not a mistake
    return torch.compile(function, fullgraph=True, dynamic=False)


compiled_once = cache(compiled)
"""For functions that stay: one set of kernels for all models of a process."""


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


CHUNK_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 28}
"""Logits held at once: 2 MB in fp32, about what a core's cache holds, and 1 GB on a device that fills by size."""
LEAST_ROWS = 256
"""But no fewer tokens at once than that: with few rows a product is bound by reading the head anew."""


class _HeadLoss(Function):
    """Gradients are computed on the way forward, where the logits are at hand."""

    @staticmethod
    def forward(ctx: Any, x_NSD: Tensor, w_NVD: Tensor, target_NS: Tensor, is_compiled: bool) -> Tensor:
        exact = torch.promote_types(x_NSD.dtype, torch.float32)
        grad_x_NSD, grad_w_NVD = torch.empty_like(x_NSD), torch.zeros_like(w_NVD, dtype=exact)
        loss_N = x_NSD.new_zeros(x_NSD.shape[0], dtype=exact)
        scores = compiled_once(_scores) if is_compiled else _scores
        for lanes in _lanes_at_once(x_NSD):
            w_nVD = w_NVD[lanes].to(x_NSD.dtype)
            for rows in _chunks(x_NSD[lanes], w_nVD.shape[-2]):
                x_nCD, target_nC1 = x_NSD[lanes][..., rows, :], target_NS[lanes][..., rows, None]
                loss_n, grad_nCV, total_nC1 = scores(x_nCD @ w_nVD.mT, target_nC1, x_NSD.dtype)
                loss_N[lanes] += loss_n
                grad_x_NSD[lanes][..., rows, :] = (grad_nCV @ w_nVD).div_(total_nC1)
                share_nCD = (x_nCD / total_nC1).to(x_nCD.dtype)
                if x_nCD.dtype == exact and x_nCD.ndim == 2:
                    grad_w_NVD[lanes].addmm_(grad_nCV.mT, share_nCD)
                else:  # summed over the chunks in fp32
                    grad_w_NVD[lanes].add_(grad_nCV.mT @ share_nCD)
        ctx.save_for_backward(grad_x_NSD, grad_w_NVD)
        return loss_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_x_NSD, grad_w_NVD = ctx.saved_tensors
        scale_N11 = grads[0][:, None, None]
        return (grad_x_NSD * scale_N11).to(grad_x_NSD.dtype), grad_w_NVD * scale_N11, None, None


def _scores(logits_nCV: Tensor, target_nC1: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The summed cross-entropy of rows; the gradient of each row times its total, in `dtype`; and the totals (n, C, 1).

    Dividing by the total is left to the narrow sides of the products that follow.
    """
    exact = torch.promote_types(logits_nCV.dtype, torch.float32)
    logits_nCV = logits_nCV.to(exact)
    peak_nC1, right_nC1 = logits_nCV.amax(-1, keepdim=True), logits_nCV.gather(-1, target_nC1)
    grad_nCV = logits_nCV.sub_(peak_nC1).exp_()
    total_nC1 = grad_nCV.sum(-1, keepdim=True)
    loss_n = (total_nC1.log() + peak_nC1 - right_nC1).sum((-2, -1))
    right_grad_nC1 = (right_nC1 - peak_nC1).exp_().sub_(total_nC1)
    if torch.compiler.is_compiling():  # fused
        is_right_nCV = target_nC1 == torch.arange(logits_nCV.shape[-1], device=target_nC1.device)
        grad_nCV = torch.where(is_right_nCV, right_grad_nC1, grad_nCV)
    else:
        grad_nCV.scatter_(-1, target_nC1, right_grad_nC1)
    return loss_n, grad_nCV.to(dtype), total_nC1


def _lanes_at_once(x_NSD: Tensor) -> Sequence[int | slice]:
    """On a CPU one lane after another, for the cache's sake; elsewhere all."""
    return range(x_NSD.shape[0]) if x_NSD.device.type == "cpu" else [slice(None)]


def head_loss(x_NSD: Tensor, w_NVD: Tensor, target_NS: Tensor, *, is_compiled: bool = False) -> Tensor:
    """Sum over tokens of the cross-entropy of softmax(x w^T), in nats, one a lane: (N,).

    Logits are computed in the precision of x and w, softmax, loss and sums in fp32 at least.
    """
    return _HeadLoss.apply(x_NSD, w_NVD, target_NS, is_compiled)  # pyright: ignore[reportReturnType]


def head_scores(x_NSD: Tensor, w_NVD: Tensor, target_NS: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each token in nats, and whether the most likely token is the right one: both (N, S)."""
    exact = torch.promote_types(x_NSD.dtype, torch.float32)
    loss_NS = torch.empty_like(target_NS, dtype=exact)
    right_NS = torch.empty_like(target_NS, dtype=torch.bool)
    for lanes in _lanes_at_once(x_NSD):
        w_nVD = w_NVD[lanes].to(x_NSD.dtype)
        for rows in _chunks(x_NSD[lanes], w_nVD.shape[-2]):
            logits_nCV = (x_NSD[lanes][..., rows, :] @ w_nVD.mT).to(exact)
            target_nC = target_NS[lanes][..., rows]
            right_nC = logits_nCV.gather(-1, target_nC[..., None]).squeeze(-1)
            loss_NS[lanes][..., rows] = logits_nCV.logsumexp(-1) - right_nC
            right_NS[lanes][..., rows] = logits_nCV.argmax(-1) == target_nC
    return loss_NS, right_NS


def _chunks(x_nSD: Tensor, vocabulary: int) -> list[slice]:
    """Rows of so many tokens of each of the lanes at once."""
    num_tokens, num_lanes = x_nSD.shape[-2], x_nSD.shape[:-2].numel()
    most = max(LEAST_ROWS, CHUNK_ELEMENTS.get(x_nSD.device.type, 1 << 19) // (num_lanes * vocabulary))
    size = most if x_nSD.device.type == "cpu" else math.ceil(num_tokens / math.ceil(num_tokens / most))
    return [slice(start, min(start + size, num_tokens)) for start in range(0, num_tokens, size)]
