"""The weights of a model as tensors, their first values, and the precision that they are computed in.

`blueberry.architecture` says which weights there are. They, their moments and updates are fp32 always. Under bf16 the
products and the activations between them are bf16; norms, softmax, router, loss and every sum over tokens or
micro-batches are fp32. Training and evaluation agree.

Shapes: N lanes, L layers, V vocabulary, D width, E experts; matrices are (rows, columns) = (out, in).
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

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
