"""An update as one function of tensors: compiled it is what it is operator by operator, and so it is as a CUDA graph."""

import functools

import pytest
import torch

from blueberry.lm import layers
from blueberry.lm import update as of_update
from blueberry.lm.training import Group
from blueberry.lm.update import execution_of
from tests.lm.conftest import CPU

CUDA = torch.device("cuda")
SMALL = {"model.dropout": 0.1, "train.precision": "bf16", "train.micro_batch_sequences": 2}
VARIANTS = {
    "experts": {},
    "gated experts, a shared one, balance by a bias": {
        "model.feed_forward.kind": "moe-bias-balanced",
        "model.feed_forward.gated": True,
        "model.feed_forward.num_shared_experts": 1,
    },
    "latent attention, swiglu, even rows": {
        "model.attention.kind": "latent",
        "model.feed_forward.kind": "swiglu",
        "optimizer.muon.row_beta": 0.9,
    },
    "grouped queries, documents apart, AdamW alone": {
        "model.attention.kind": "grouped-query",
        "model.attention.num_kv_heads": 1,
        "model.document_mask": True,
        "optimizer.kind": "adamw",
    },
}


def _losses(group: Group, num_updates: int) -> torch.Tensor:
    """Losses and gradient norms (N, 2, U)."""
    for _ in range(num_updates):
        group.step()
    group.read()
    return torch.tensor([[recorded.train_loss, recorded.gradient_norm] for recorded in group.recorded])


@pytest.mark.filterwarnings("ignore")  # of torch, about itself
@pytest.mark.parametrize(
    ("name", "backend"),
    [("experts", "eager"), *(pytest.param(name, "aot_eager", marks=pytest.mark.slow) for name in VARIANTS)],
)
def test_the_whole_update_is_compiled_without_a_break(tiny, dataset, monkeypatch, name, backend):
    """As far as one graph; slow, by way of everything but the last step, which makes kernels in minutes on a CPU."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    layers.compiled_once.cache_clear()
    torch._dynamo.reset()
    monkeypatch.setattr(of_update, "WARM_UPS", 1 << 30)  # there is no graph to capture on a CPU
    small = SMALL | ({"model.num_layers": 1} if backend == "eager" else {})
    recipes = [tiny.with_({**small, **VARIANTS[name], "seed": seed}) for seed in (0, 1)]
    plain, fused = (Group(recipes, dataset, CPU, execution=execution) for execution in ("eager", "compiled"))
    made, expected = _losses(fused, 3), _losses(plain, 3)
    assert (fused.do.execution, fused.notes) == ("compiled", [])
    torch.testing.assert_close(made[:, 0], expected[:, 0], rtol=1e-3, atol=0)  # of the losses
    torch.testing.assert_close(made[:, 1], expected[:, 1], rtol=5e-3, atol=0)
    layers.compiled_once.cache_clear()


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", VARIANTS)
def test_on_a_gpu_every_way_gives_the_cpu_s_numbers(tiny, dataset, name):
    recipes = [tiny.with_({**SMALL, **VARIANTS[name], "seed": seed}) for seed in (0, 1)]
    exact = [recipe.with_({"train.precision": "fp32"}) for recipe in recipes]
    expected = _losses(Group(exact, dataset, CPU), 6)
    torch.testing.assert_close(_losses(Group(exact, dataset, CUDA), 6), expected, rtol=1e-3, atol=0)
    eager, graph, fused = (
        _losses(Group(recipes, dataset, CUDA, execution=execution), 6) for execution in ("eager", "graph", "compiled")
    )
    assert torch.equal(graph, eager)
    torch.testing.assert_close(eager, expected, rtol=0.02, atol=0)
    torch.testing.assert_close(fused, expected, rtol=0.02, atol=0)
    alone = _losses(Group(recipes[1:], dataset, CUDA, execution="graph"), 6)
    torch.testing.assert_close(graph[:, 0, 1:], alone[:, 0], rtol=2e-3, atol=0)  # of the losses
    torch.testing.assert_close(graph[:, 1, 1:], alone[:, 1], rtol=0.02, atol=0)


@pytest.mark.gpu
def test_a_lane_that_turns_non_finite_is_frozen_in_a_graph_too(tiny, dataset):
    recipes = [tiny.with_({**SMALL, "seed": seed}) for seed in (0, 1)]
    group = Group(recipes, dataset, CUDA, execution="graph")
    for _ in range(4):
        group.step()
    group.weights["embedding"][1, 0, 0] = float("inf")
    group.step()
    frozen = {name: w[1].clone() for name, w in group.weights.items()}
    for _ in range(3):
        group.step()
    group.read()
    assert [recorded.diverged_at for recorded in group.recorded] == [None, 5]
    for name, w in group.weights.items():
        torch.testing.assert_close(w[1], frozen[name], rtol=0, atol=0, equal_nan=True)


def test_a_graph_is_for_devices_whose_update_never_waits_for_the_host(tiny):
    half = tiny.with_({"train.precision": "bf16"})
    assert execution_of(tiny, CPU, "fp32") == "eager"
    assert execution_of(tiny, CUDA, "fp32") == "eager"  # the host is told how many tokens each expert got
    assert execution_of(half, CUDA, "bf16") == "graph"
    assert execution_of(half.with_({"train.updates": 1 << 17}), CUDA, "bf16") == "compiled"
    assert execution_of(half.with_({"model.feed_forward.hidden": 36}), CUDA, "bf16") == "eager"
    assert execution_of(half.with_({"model.feed_forward.kind": "mlp"}), CUDA, "fp32") == "graph"


@pytest.mark.filterwarnings("ignore")
def test_where_kernels_cannot_be_made_it_is_said_and_training_goes_on(tiny, dataset, monkeypatch):
    def no_compiler(graph, inputs):
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=no_compiler))
    layers.compiled_once.cache_clear()
    monkeypatch.setattr(of_update, "WARM_UPS", 1 << 30)
    half = tiny.with_({"train.precision": "bf16"})
    plain, asked = (Group([half], dataset, CPU, execution=execution) for execution in ("eager", "compiled"))
    assert torch.equal(_losses(asked, 2), _losses(plain, 2))
    (note,) = asked.notes
    assert "updates cannot be compiled, and are slower without" in note
    assert "no C compiler" in note
    assert asked.do.execution == "graph"
    layers.compiled_once.cache_clear()
