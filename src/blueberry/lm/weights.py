"""The weights of a model as tensors, and their first values. `blueberry.architecture` says which there are.

Shapes: N lanes, L layers, V vocabulary, D width, E experts; matrices are (rows, columns) = (out, in).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from blueberry.architecture import Model, is_matrix, state_shapes, weight_shapes
from blueberry.identity import digest
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


def _normal_sd(model: Model, name: str, shape: Sequence[int]) -> float:
    return model.initial_sd


def _scaled_sd(model: Model, name: str, shape: Sequence[int]) -> float:
    ends_branch = name.endswith(".out")
    return model.initial_sd / math.sqrt(2 * model.num_layers) if ends_branch else model.initial_sd


def _fan_in_sd(model: Model, name: str, shape: Sequence[int]) -> float:
    return 1 / math.sqrt(shape[-1])


INITIALIZATIONS: dict[str, Callable[[Model, str, Sequence[int]], float]] = {
    "normal": _normal_sd,
    "scaled": _scaled_sd,
    "fan-in": _fan_in_sd,
}
"""From a matrix's name and shape to the standard deviation of its first values."""
