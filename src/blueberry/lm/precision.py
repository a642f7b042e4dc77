"""In which precision a model is computed, and which one is faster here.

Weights, moments and updates are fp32 always. Under bf16 the products and the activations between them are bf16;
norms, softmax, router, loss and every sum over tokens or micro-batches are fp32. Training and evaluation agree.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from blueberry.architecture import flops_per_token, weight_shapes
from blueberry.errors import StoreError
from blueberry.files import lock, refused_as, write_whole
from blueberry.identity import canonical_json, digest
from blueberry.lm.loss import head_loss
from blueberry.lm.model import LanguageModel
from blueberry.lm.weights import Weights, head_weight, initialize
from blueberry.recipe import Recipe

Precision = Literal["fp32", "bf16"]

ALWAYS_FP32 = ("norm.", "router", "state.")
"""Beginnings of the names of weights that are small, and whose rounding would be felt: a choice of experts may flip."""

CLEARLY_SLOWER = 4.0
"""A product this many times slower decides without more ado: nothing around it makes that up."""
PRODUCT_ROWS = 64
PASS_SECONDS = 0.05
"""Aimed at for one pass of the longer look: above the clock's and the machine's jitter."""
NUM_ROUNDS = 5


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


def faster_precision(recipe: Recipe, device: torch.device, *, folder: Path, machine: str) -> Precision:
    """The faster precision for a recipe's shapes, measured the first time and read from `folder` ever after.

    So every worker of a store, and a run that is resumed, computes alike. What differs per lane and what concerns
    memory alone does not enter. `machine` names what computes: another one is measured anew.
    Raises: StoreError if the folder cannot be written.
    """
    path = folder / f"{_key(recipe, machine)}.json"
    remedy = "workers must agree on it; make the store writable, or set train.precision to fp32 or bf16"
    with refused_as(StoreError, folder, "cannot keep which precision is faster", remedy):
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder):  # two workers that measured at once would disturb, and might contradict, each other
            known = _read(path)
            if known is None:
                seconds = measure(recipe, device)
                known = min(seconds, key=lambda name: seconds[name])
                kept = {"precision": known, "seconds": seconds, "machine": machine}
                write_whole(path, canonical_json(kept).encode())
            return known


def measure(recipe: Recipe, device: torch.device) -> dict[Precision, float]:
    """Seconds that each precision takes for a pass forward and backward: of a product, or if near of the model.

    Medians of interleaved passes. Takes milliseconds where one product decides, else about a second.
    """
    with torch.enable_grad():
        quick = _interleaved(_product(recipe, device), num_rounds=3)
        if max(quick.values()) > CLEARLY_SLOWER * min(quick.values()):
            return quick
        once = _model_pass(recipe, device, num_sequences=1)
        once("fp32")  # the first one warms up
        num_sequences = int(PASS_SECONDS / max(once("fp32"), 1e-9))
        fitting = _model_pass(recipe, device, num_sequences=min(max(num_sequences, 1), recipe.train.batch_sequences))
        return _interleaved(fitting, num_rounds=NUM_ROUNDS)


def processor() -> str:
    """The CPU's name as its maker gives it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _interleaved(seconds_of: Callable[[Precision], float], *, num_rounds: int) -> dict[Precision, float]:
    """The median of each over rounds in alternating order, after one that warms up."""
    both: list[Precision] = ["fp32", "bf16"]
    taken: dict[Precision, list[float]] = {"fp32": [], "bf16": []}
    for number in range(num_rounds + 1):
        for precision in both if number % 2 else reversed(both):
            taken[precision].append(seconds_of(precision))
    return {precision: statistics.median(many[1:]) for precision, many in taken.items()}


def _product(recipe: Recipe, device: torch.device) -> Callable[[Precision], float]:
    """Times one product of a few tokens with a matrix of the model's width."""
    width = recipe.model.width
    x, w = torch.ones(PRODUCT_ROWS, width, device=device), torch.ones(4 * width, width, device=device)
    pairs = {"fp32": (x, w), "bf16": (x.to(torch.bfloat16), w.to(torch.bfloat16))}
    return lambda precision: _seconds(lambda: pairs[precision][0] @ pairs[precision][1].T, device)


def _model_pass(recipe: Recipe, device: torch.device, *, num_sequences: int) -> Callable[[Precision], float]:
    """Times one layer and the head, forward and backward, and makes the layer as many as the model has."""
    single = recipe.with_({"model.num_layers": 1, "model.dropout": 0.0, "train.checkpoint_activations": False})
    model, weights = LanguageModel.build(single, device), initialize(single, (0,), device)
    shape = (1, num_sequences, recipe.model.context_tokens)
    tokens = torch.arange(num_sequences * recipe.model.context_tokens, device=device).view(shape)
    tokens = tokens % recipe.data.vocabulary_tokens

    def timed(precision: Precision) -> float:
        leaves = {name: w.detach().requires_grad_() for name, w in compute_weights(weights, precision).items()}
        given: list[torch.Tensor] = []

        def layer() -> None:
            x = model.hidden(leaves, tokens).x_NSD
            torch.autograd.grad(x.float().sum(), list(leaves.values()), allow_unused=True)
            given.append(x.detach().requires_grad_())

        def head() -> None:
            loss = head_loss(given[0], head_weight(leaves), tokens.flatten(1))
            torch.autograd.grad(loss.sum(), [given[0], head_weight(leaves)])

        return recipe.model.num_layers * _seconds(layer, device) + _seconds(head, device)

    return timed


def _seconds(act: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    act()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _key(recipe: Recipe, machine: str) -> str:
    shapes = {
        "weights": {name: list(shape) for name, shape in weight_shapes(recipe).items()},
        "flops_per_token": flops_per_token(recipe),
        "num_heads": recipe.model.num_heads,
        "context_tokens": recipe.model.context_tokens,
        "batch_sequences": recipe.train.batch_sequences,
    }
    return digest("blueberry/precision/1", canonical_json(shapes), machine)


def _read(path: Path) -> Precision | None:
    try:
        said = json.loads(path.read_bytes())["precision"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # not measured yet, or not readable: then measured anew
    return said if said in ("fp32", "bf16") else None
