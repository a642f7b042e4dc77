import itertools

import pytest
import torch

from blueberry.errors import RecipeError
from blueberry.lm.layers import Weights
from blueberry.lm.optimizers import (
    POLAR_EXPRESS,
    Optimizer,
    clip,
    even_rows,
    group_of,
    iterations,
    norms,
    orthogonalize,
)
from blueberry.recipe import Recipe

CPU = torch.device("cpu")


def first(num_lanes: int) -> dict[str, torch.Tensor]:
    """What an optimizer is given at the first update of recipes with the usual betas, at the peak rates."""
    corrections = Optimizer([Recipe()] * num_lanes, {}, CPU).bias_corrections(0)
    return {"corrections_2N": corrections, "multiplier_N": torch.ones(num_lanes)}


@torch.no_grad()
def step(optimizer: Optimizer, weights: Weights, grads: Weights, *, corrections_2N, multiplier_N) -> None:
    """The three parts of an optimizer's update, one after the other."""
    directions = optimizer.begin(weights, grads, corrections_2N, multiplier_N)
    optimizer.end(weights, optimizer.orthogonal(directions), multiplier_N)


def _matrices(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 8, 20), (3, 20, 8), (2, 3, 4, 8, 20)])
def test_orthogonalize_is_near_the_svd_polar_factor(shape):
    g = _matrices(*shape)
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    (made,) = orthogonalize([g])
    singular = torch.linalg.svdvals(made)
    assert singular.min() > 0.5
    assert singular.max() < 1.3
    # The same left and right directions: U^T X V is the diagonal of the singular values it was given.
    middle = u.mT @ made @ vh.mT
    off_diagonal = middle - torch.diag_embed(torch.diagonal(middle, dim1=-2, dim2=-1))
    assert off_diagonal.abs().max() < 1e-4


@pytest.mark.parametrize("coefficients", ["quintic", "polar-express"])
def test_the_gram_chain_is_the_usual_iteration(coefficients):
    """Also of small singular values, for matrices of one shorter side together, long and square, in any company."""
    stacks = [_matrices(1, 3, 8, 32), _matrices(2, 40, 8), _matrices(5, 8, 9), _matrices(1, 2, 3, 16, 64)]
    stacks[0][0, 0] = stacks[0][0, 0, :1] * torch.linspace(1, 2, 8)[:, None] + 1e-4 * stacks[0][0, 1]
    together = orthogonalize(stacks, coefficients=coefficients)
    for given, made in zip(stacks, together, strict=True):
        x = given.double() / given.double().norm(dim=(-2, -1), keepdim=True)
        for a, b, c in iterations(coefficients, 5):
            gram = x @ x.mT
            x = a * x + (b * gram + c * gram @ gram) @ x
        torch.testing.assert_close(made.double(), x, rtol=0, atol=1e-4)
        assert torch.equal(made, orthogonalize([given], coefficients=coefficients)[0])


@pytest.mark.parametrize("kind", ["muon-adamw", "adamw"])
@pytest.mark.parametrize("decay_norms", [False, True])
def test_gains_and_biases_are_decayed_only_when_that_is_asked_for(kind, decay_norms):
    """With gradients of 0, decay is all that moves a weight."""
    recipe = Recipe().with_({"optimizer.kind": kind, "optimizer.adamw.decay_norms": decay_norms})
    names = ("norm.final", "norm.attention", "bias.attention_out", "embedding", "head")
    weights = {name: torch.ones(1, 4, 3) for name in names}
    step(
        Optimizer([recipe], weights, CPU),
        weights,
        {name: torch.zeros_like(w) for name, w in weights.items()},
        **first(1),
    )
    moved = {name for name, w in weights.items() if not torch.equal(w, torch.ones(1, 4, 3))}
    assert moved == (set(names) if decay_norms else {"embedding", "head"})


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 8, 20), (3, 20, 8)])
def test_polar_express_is_closer_to_the_polar_factor_than_the_quintic(shape):
    g = _matrices(*shape)
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    errors = {
        name: (orthogonalize([g], coefficients=name)[0] - u @ vh).norm(dim=(-2, -1)).max().item()
        for name in ("quintic", "polar-express")
    }
    assert errors["polar-express"] < 0.6 * errors["quintic"]
    (converged,) = orthogonalize([g], num_iterations=10, coefficients="polar-express")
    torch.testing.assert_close(converged, u @ vh, rtol=0, atol=1e-4)


def test_polar_express_equals_the_paper_s_algorithm():
    """Algorithm 1 of Amsel et al. 2025, with its division of the matrix by 1.01 written out."""
    g = _matrices(1, 6, 9)
    for num_iterations in (1, 5, 8, 10):
        x = g[0] / (g[0].norm() * 1.01)
        padded = [*POLAR_EXPRESS[:7], *[POLAR_EXPRESS[7]] * 3]
        for index, (a, b, c) in enumerate(padded[:num_iterations]):
            s = 1.01 if index < 7 else 1.0
            gram = x @ x.T
            x = a / s * x + (b / s**3 * gram + c / s**5 * gram @ gram) @ x
        (made,) = orthogonalize([g], num_iterations=num_iterations, coefficients="polar-express")
        torch.testing.assert_close(made[0], x, rtol=1e-4, atol=1e-5)


def test_orthogonalize_refuses_what_is_not_a_batch_of_matrices():
    with pytest.raises(ValueError, match="batch of matrices"):
        orthogonalize([torch.ones(3, 4)])


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize(("scale", "theirs_scale"), [("shape", "original"), ("rms", "match_rms_adamw")])
@pytest.mark.parametrize("decays", [(0.0, 0.0), (0.0, 0.5)])
def test_muon_equals_torch_slice_by_slice_in_fp32(monkeypatch, nesterov, scale, theirs_scale, decays):
    # torch's iterates in bfloat16; made to stay in fp32 it must agree with ours, matrix by matrix.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    rates = (0.02, 0.3)
    recipes = [
        Recipe().with_(
            {
                "optimizer.muon.learning_rate": rate,
                "optimizer.muon.nesterov": nesterov,
                "optimizer.muon.update_scale": scale,
                "optimizer.muon.weight_decay": decay,
            }
        )
        for rate, decay in zip(rates, decays, strict=True)
    ]
    weight = _matrices(2, 3, 4, 12, 5)  # lanes, layers, experts, rows, columns
    ours = {"expert.in": weight.clone()}
    optimizer = Optimizer(recipes, ours, CPU)
    slices = {
        (n, i, e): torch.nn.Parameter(weight[n, i, e].clone()) for n in range(2) for i in range(3) for e in range(4)
    }
    theirs = {
        place: torch.optim.Muon(
            [p],
            lr=rates[place[0]],
            weight_decay=decays[place[0]],
            momentum=0.95,
            nesterov=nesterov,
            adjust_lr_fn=theirs_scale,
        )
        for place, p in slices.items()
    }
    for update in range(4):
        grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(update + 1))
        step(
            optimizer,
            ours,
            {"expert.in": grad},
            corrections_2N=optimizer.bias_corrections(update),
            multiplier_N=torch.ones(2),
        )
        for place, parameter in slices.items():
            parameter.grad = grad[place].clone()
            theirs[place].step()
    for place, parameter in slices.items():
        torch.testing.assert_close(ours["expert.in"][place], parameter.detach(), rtol=1e-5, atol=1e-6)


def test_rows_are_evened_as_normuon_evens_them():
    """One matrix at a time, from the formulas of Li et al. 2025; the norm of an update stays what it was."""
    beta = 0.9
    mean_square = torch.zeros(2, 3, 6, 1)
    expected_v = torch.zeros(2, 3, 6)
    for update in range(3):
        direction = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(update))
        made = even_rows(direction, mean_square, beta)
        for place in itertools.product(range(2), range(3)):
            o = direction[place].double()
            v = beta * expected_v[place].double() + (1 - beta) * (o**2).mean(1)
            expected_v[place] = v.float()
            even = o / v.sqrt()[:, None]
            expected = even * o.norm() / even.norm()
            torch.testing.assert_close(made[place].double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.norm(dim=(-2, -1)), direction.norm(dim=(-2, -1)))
    assert made.norm(dim=-1).std() < direction.norm(dim=-1).std()


def test_adamw_equals_torch_lane_by_lane():
    settings = [(0.02, 0.1, 0.9, 0.95, 0.1), (0.5, 0.02, 0.8, 0.999, 0.0)]
    names = ("muon.learning_rate", "adamw.learning_rate_ratio", "adamw.beta1", "adamw.beta2", "adamw.weight_decay")
    recipes = [Recipe().with_({f"optimizer.{n}": v for n, v in zip(names, s, strict=True)}) for s in settings]
    weight = _matrices(2, 30, 6)
    ours = {"embedding": weight.clone()}
    optimizer = Optimizer(recipes, ours, CPU)
    parameters = [torch.nn.Parameter(weight[n].clone()) for n in range(2)]
    theirs = [
        torch.optim.AdamW([p], lr=s[0] * s[1], betas=(s[2], s[3]), eps=1e-8, weight_decay=s[4])
        for p, s in zip(parameters, settings, strict=True)
    ]
    for update in range(5):
        grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(update + 1))
        step(
            optimizer,
            ours,
            {"embedding": grad},
            corrections_2N=optimizer.bias_corrections(update),
            multiplier_N=torch.ones(2),
        )
        for n, parameter in enumerate(parameters):
            parameter.grad = grad[n].clone()
            theirs[n].step()
    for n, parameter in enumerate(parameters):
        torch.testing.assert_close(ours["embedding"][n], parameter.detach(), rtol=1e-5, atol=1e-6)


def test_adamw_alone_trains_every_weight_at_its_own_rate():
    decayed = {"optimizer.adamw.decay_norms": True}
    recipe = Recipe().with_({"optimizer.kind": "adamw", "optimizer.adamw.learning_rate": 0.02, **decayed})
    shapes = {"embedding": (1, 9, 4), "expert.in": (1, 2, 3, 5, 4), "router": (1, 2, 3, 4), "norm.final": (1, 4)}
    ours = {name: _matrices(*shape) for name, shape in shapes.items()}
    parameters = {name: torch.nn.Parameter(w.clone()) for name, w in ours.items()}
    optimizer = Optimizer([recipe], ours, CPU)
    theirs = torch.optim.AdamW(parameters.values(), lr=0.02, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for update in range(3):
        stream = torch.Generator().manual_seed(update)
        grads = {name: torch.randn(shape, generator=stream) for name, shape in shapes.items()}
        for name, parameter in parameters.items():
            parameter.grad = grads[name].clone()
        step(optimizer, ours, grads, corrections_2N=optimizer.bias_corrections(update), multiplier_N=torch.ones(1))
        theirs.step()
    for name, parameter in parameters.items():
        torch.testing.assert_close(ours[name], parameter.detach(), rtol=1e-5, atol=1e-6)


GROUPS = {
    "attention.qkv": "matrices",
    "expert.in": "matrices",
    "router": "router",
    "embedding": "embedding",
    "head": "head",
    "norm.final": "norms",
}


@pytest.mark.parametrize("kind", ["muon-adamw", "adamw"])
@pytest.mark.parametrize("group", ["matrices", "router", "embedding", "norms"])
def test_a_group_s_rate_moves_that_group_alone(kind, group):
    assert {name: group_of(name) for name in GROUPS} == GROUPS
    base = Recipe().with_({"optimizer.kind": kind, "optimizer.adamw.weight_decay": 0.0})
    halved = base.with_({f"optimizer.rates.{group}": 0.5})
    weights = {name: torch.zeros(2, 4, 3) for name in GROUPS}
    grads = {name: _matrices(1, 4, 3).expand(2, 4, 3).clone() for name in GROUPS}
    step(Optimizer([base, halved], weights, CPU), weights, grads, **first(2))
    for name, w in weights.items():
        assert w[0].abs().sum() > 0
        torch.testing.assert_close(w[1], w[0] * (0.5 if GROUPS[name] == group else 1.0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optimizer.rates.head": 0.5}, 'r "optimizer.rates.head": 0.5; the head is tied'),
        ({"model.feed_forward.kind": "mlp", "optimizer.rates.router": 0.5}, 'r "optimizer.rates.router": 0.5; a model'),
        (
            {"optimizer.kind": "adamw", "optimizer.muon.momentum": 0.5},
            "r \"optimizer.muon.momentum\": given beside kind = 'adamw'",
        ),
        ({"optimizer.adamw.learning_rate": 0.5}, 'r "optimizer.adamw.learning_rate": no such setting'),
    ],
)
def test_a_rate_of_what_is_not_there_is_refused(changes, said):
    with pytest.raises(RecipeError) as error:
        Recipe().with_(changes, place="r")
    assert str(error.value).startswith(said)


def test_the_multiplier_scales_both_rates():
    weights = {"router": torch.zeros(2, 1, 4, 4), "embedding": torch.zeros(2, 8, 4)}
    grads = {name: _matrices(*w.shape) for name, w in weights.items()}
    grads = {name: g[:1].expand_as(g).clone() for name, g in grads.items()}
    step(
        Optimizer([Recipe()] * 2, weights, CPU),
        weights,
        grads,
        **{**first(2), "multiplier_N": torch.tensor([1.0, 0.25])},
    )
    for w in weights.values():
        torch.testing.assert_close(w[0] * 0.25, w[1])


def test_clipping_is_per_lane_and_zeroes_a_dead_one():
    grads = {"a": torch.ones(4, 3, 3), "b": torch.ones(4, 7)}
    grads["a"][3, 0, 0] = float("nan")
    norm_N, _by_group = norms(grads)
    torch.testing.assert_close(norm_N[:3], torch.full((3,), 4.0))
    alive = norm_N.isfinite()
    clip(grads, norm_N, torch.tensor([1.0, 100.0, 0.0, 1.0]), alive)
    torch.testing.assert_close(norms(grads)[0], torch.tensor([1.0, 4.0, 4.0, 0.0]), atol=1e-5, rtol=0)
