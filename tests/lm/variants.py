"""The kinds of model that one contract holds for, and what its tests build on: small shapes, large weights.

A new setting of the model needs a value in CHANGES, a new kind a row in VARIANTS; without them a test fails.
"""

import pytest
import torch

from blueberry.architecture import state_shapes, weight_shapes
from blueberry.lm.training import train
from blueberry.recipe import Recipe
from blueberry.text.dataset import Dataset
from tests.lm.conftest import CPU, numbers, provenance

BASE = Recipe().with_(
    {
        "model.width": 16,
        "model.num_heads": 4,
        "model.context_tokens": 8,
        "model.feed_forward.hidden": 6,
        "model.feed_forward.num_experts": 4,
        "data.corpus": "synthetic",
        "data.tokenizer": "byte",
        "optimizer.muon.num_iterations": 1,
        "train.updates": 3,
        "train.batch_sequences": 6,
        "evaluate.every_updates": 2,
        "evaluate.tokens": 64,
    }
)
LATENT = {
    "attention.kind": "latent",
    "attention.key_value_rank": 8,
    "attention.rope_size": 4,
    "attention.plain_size": 2,
    "attention.value_size": 6,
}
"""With sizes such that each lane's matrices begin at a multiple of 64 bytes: MKL sums in an order that depends on it."""
BIAS_BALANCED = {"feed_forward.kind": "moe-bias-balanced", "feed_forward.bias_rate": 0.01}
VARIANTS = {
    "default": {},
    "silu": {"feed_forward.kind": "mlp"},
    "gelu, normed, untied, scaled, documents": {
        "feed_forward.kind": "mlp",
        "feed_forward.activation": "gelu",
        "attention.query_key_norm": True,
        "tied_head": False,
        "initialization": "scaled",
        "document_mask": True,
    },
    "relu squared, fan-in": {
        "feed_forward.kind": "mlp",
        "feed_forward.activation": "relu-squared",
        "initialization": "fan-in",
    },
    "softmax before, gated, shared": {
        "feed_forward.router": "softmax-before",
        "feed_forward.gated": True,
        "feed_forward.num_shared_experts": 1,
        "feed_forward.z_weight": 0.1,
    },
    "bias-balanced, gated, shared": {
        **BIAS_BALANCED,
        "feed_forward.gated": True,
        "feed_forward.num_shared_experts": 2,
        "feed_forward.activation": "gelu",
    },
    "grouped-query, swiglu": {
        "attention.kind": "grouped-query",
        "attention.num_kv_heads": 2,
        "feed_forward.kind": "swiglu",
    },
    "one kv head, normed, fine experts, documents, untied": {
        "attention.kind": "grouped-query",
        "attention.query_key_norm": True,
        "feed_forward.num_experts": 8,
        "feed_forward.hidden": 3,
        "feed_forward.top_k": 4,
        "feed_forward.num_shared_experts": 2,
        "document_mask": True,
        "tied_head": False,
    },
    "latent without query latent, swiglu": {**LATENT, "feed_forward.kind": "swiglu"},
    "latent with all, softmax after": {**LATENT, "attention.query_rank": 12, "attention.bias": True},
    "latent, bias-balanced, documents, untied": {
        **LATENT,
        **BIAS_BALANCED,
        "attention.query_rank": 12,
        "document_mask": True,
        "tied_head": False,
    },
    "the documents' latent": {
        **LATENT,
        "attention.query_rank": 4,
        "attention.plain_size": 0,
        "attention.bias": True,
        "feed_forward.kind": "swiglu",
    },
}
CHANGES = {
    "width": (24,),
    "num_layers": (1,),
    "num_heads": (2,),
    "context_tokens": (4,),
    "document_mask": (True, False),
    "dropout": (0.3,),
    "tied_head": (True, False),
    "initialization": ("fan-in", "normal"),
    "initial_sd": (0.1,),
    "attention.kind": ("latent", "multi-head"),
    "attention.rotary_base": (10.0,),
    "attention.query_key_norm": (True, False),
    "attention.num_kv_heads": (4,),
    "attention.query_rank": (6,),
    "attention.key_value_rank": (4,),
    "attention.rope_size": (2,),
    "attention.plain_size": (3,),
    "attention.value_size": (3,),
    "attention.bias": (True, False),
    "feed_forward.kind": ("swiglu", "moe"),
    "feed_forward.hidden": (5,),
    "feed_forward.activation": ("gelu", "silu"),
    "feed_forward.gated": (True, False),
    "feed_forward.num_experts": (6,),
    "feed_forward.top_k": (3,),
    "feed_forward.num_shared_experts": (1, 0),
    "feed_forward.router": ("softmax-before", "softmax-after"),
    "feed_forward.balance_weight": (1.0,),
    "feed_forward.z_weight": (1.0,),
    "feed_forward.router_noise": (3.0,),
    "feed_forward.bias_rate": (5.0,),
}
"""For each setting of the model, values to change it to: the first that is not the variant's own."""


def variant(name: str, **more) -> Recipe:
    return BASE.with_({f"model.{key}": value for key, value in VARIANTS[name].items()}).with_(more)


def each_variant(test):
    return pytest.mark.parametrize("name", list(VARIANTS))(test)


def big_weights(recipe: Recipe, num_lanes: int) -> dict[str, torch.Tensor]:
    """Weights and state in float64, large enough that every part matters; gains, biases and state at random too."""
    stream = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in {**weight_shapes(recipe), **state_shapes(recipe)}.items():
        drawn = torch.randn(num_lanes, *shape, generator=stream, dtype=torch.float64) * 0.4
        weights[name] = 1 + drawn if name.startswith("norm.") else drawn
    return weights


def random_tokens(num_lanes: int, num_sequences: int, num_tokens: int, *, lowest: int = 0) -> torch.Tensor:
    """Random tokens, with a separator (0) in each sequence if `lowest` lets it."""
    stream = torch.Generator().manual_seed(1)
    tokens = torch.randint(max(lowest, 1), 256, (num_lanes, num_sequences, num_tokens), generator=stream)
    if lowest == 0:
        tokens[:, :, num_tokens // 3] = 0
    return tokens


def train_numbers(dataset: Dataset, *recipes: Recipe) -> list[dict]:
    names = [f"run{index}" for index in range(len(recipes))]
    results = {
        r.fingerprint: r
        for r in train(recipes, names, dataset, provenance(dataset), device=CPU)
        if hasattr(r, "status")
    }
    return [numbers(results[name]) for name in names]
