"""In which precision a model is computed.

Weights, moments and updates are fp32 always. Under bf16 the products and the activations between them are bf16;
norms, softmax, router, loss and every sum over tokens or micro-batches are fp32. Training and evaluation agree.
"""

import platform
from pathlib import Path
from typing import Literal

import torch

from blueberry.lm.weights import Weights
from blueberry.recipe import Recipe

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


def processor() -> str:
    """The CPU's name as its maker gives it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
