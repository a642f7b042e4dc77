"""The load of the experts: kept even by a bias, and said in every evaluation."""

import math

import numpy as np
import pytest
import torch

from blueberry.architecture import parameters
from blueberry.lm.evaluation import routing
from blueberry.lm.feed_forward import rebalanced
from blueberry.lm.training import Group
from tests.lm.conftest import CPU
from tests.lm.variants import BASE, train_numbers, variant


def test_fine_grained_experts_have_the_same_parameters_and_work():
    """Experts cut into m pieces, m times as many chosen: only the router grows (Dai et al. 2024)."""
    coarse = BASE.with_({"model.feed_forward.hidden": 12})
    fine = BASE.with_(
        {"model.feed_forward.hidden": 3, "model.feed_forward.num_experts": 16, "model.feed_forward.top_k": 8}
    )
    router = coarse.model.num_layers * coarse.model.width * (16 - 4)
    assert parameters(fine).total == parameters(coarse).total + router
    assert parameters(fine).active == parameters(coarse).active + router


def test_a_selection_bias_moves_towards_an_even_load():
    load = torch.tensor([[[6.0, 2.0, 4.0, 4.0]], [[0.0, 0.0, 8.0, 0.0]]])
    moved = rebalanced(torch.zeros(2, 1, 4), load, torch.tensor([0.1, 0.0]))
    assert moved.flatten(1).tolist() == [pytest.approx([-0.1, 0.1, 0, 0]), [0, 0, 0, 0]]


def test_bias_balancing_evens_a_collapsed_router(short_documents):
    recipe = BASE.with_({"model.feed_forward.kind": "moe-bias-balanced", "model.feed_forward.bias_rate": 0.05})
    group = Group([recipe], short_documents, CPU)
    group.do.state["state.router_bias"][:, :, 0] = 0.8  # every token goes to expert 0
    assert (group.do.gradients(group.inputs())[2][..., 0] == 48).all()
    group.step()
    for _ in range(40):
        group.update = 0
        group.step()
    assert group.do.gradients(group.inputs())[2][..., 0].max() < 34


def test_a_lane_that_has_diverged_keeps_its_selection_bias(short_documents):
    recipe = BASE.with_({"model.feed_forward.kind": "moe-bias-balanced"})
    group = Group([recipe, recipe.with_(seed=1)], short_documents, CPU)
    group.do.alive_N[1] = False
    group.step()
    moved = group.do.state["state.router_bias"].flatten(1).abs().max(1).values
    assert moved[0] > 0
    assert moved[1] == 0


def test_routing_in_the_units_of_a_report():
    made = routing(np.array([[4.0, 4.0, 4.0, 4.0], [8.0, 8.0, 0.0, 0.0]]), 16)
    assert made.max_load_ratio == (1, 2)
    assert made.load_entropy_nats == pytest.approx((math.log(4), math.log(2)))
    assert made.dropped_fraction == 0
    assert routing(np.array([[4.0, 4.0]]), 16).dropped_fraction == 0.5


@pytest.mark.parametrize("name", ["default", "silu", "bias-balanced, gated, shared", "the documents' latent"])
def test_every_evaluation_records_the_experts_load(name, short_documents):
    recipe = variant(name)
    (result,) = train_numbers(short_documents, recipe)
    kind = recipe.model.feed_forward
    assert len(result["evaluations"]) == 2
    for evaluation in result["evaluations"]:
        if kind.kind in ("mlp", "swiglu"):
            assert evaluation["routing"] is None
            continue
        made = evaluation["routing"]
        assert made["dropped_fraction"] == 0
        assert len(made["max_load_ratio"]) == recipe.model.num_layers
        assert all(1 <= ratio <= kind.num_experts / kind.top_k for ratio in made["max_load_ratio"])
        assert all(math.log(kind.top_k) <= e <= math.log(kind.num_experts) + 1e-9 for e in made["load_entropy_nats"])
