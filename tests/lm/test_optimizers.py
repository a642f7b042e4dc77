import pytest
import torch

from blueberry.lm.optimizers import Optimizer, clip, gradient_norm
from blueberry.lm.orthogonalize import orthogonalize
from blueberry.recipe import Recipe

CPU = torch.device("cpu")


def _matrices(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 8, 20), (3, 20, 8), (2, 3, 4, 8, 20)])
def test_orthogonalize_is_near_the_svd_polar_factor(shape):
    g = _matrices(*shape)
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    made = orthogonalize(g)
    singular = torch.linalg.svdvals(made)
    assert singular.min() > 0.5
    assert singular.max() < 1.3
    # The same left and right directions: U^T X V is the diagonal of the singular values it was given.
    middle = u.mT @ made @ vh.mT
    off_diagonal = middle - torch.diag_embed(torch.diagonal(middle, dim1=-2, dim2=-1))
    assert off_diagonal.abs().max() < 1e-4


def test_orthogonalize_refuses_what_is_not_a_batch_of_matrices():
    with pytest.raises(ValueError, match="batch of matrices"):
        orthogonalize(torch.ones(3, 4))


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_equals_torch_slice_by_slice_in_fp32(monkeypatch, nesterov):
    # torch's iterates in bfloat16; made to stay in fp32 it must agree with ours, matrix by matrix.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    rates = (0.02, 0.3)
    recipes = [
        Recipe().with_({"optimizer.muon.learning_rate": rate, "optimizer.muon.nesterov": nesterov}) for rate in rates
    ]
    weight = _matrices(2, 3, 4, 12, 5)  # lanes, layers, experts, rows, columns
    ours = {"expert.in": weight.clone()}
    optimizer = Optimizer(recipes, ours, CPU)
    slices = {
        (n, i, e): torch.nn.Parameter(weight[n, i, e].clone()) for n in range(2) for i in range(3) for e in range(4)
    }
    theirs = {
        place: torch.optim.Muon([p], lr=rates[place[0]], weight_decay=0.0, momentum=0.95, nesterov=nesterov)
        for place, p in slices.items()
    }
    for update in range(4):
        grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(update + 1))
        optimizer.step(ours, {"expert.in": grad}, update=update, multiplier_N=torch.ones(2))
        for place, parameter in slices.items():
            parameter.grad = grad[place].clone()
            theirs[place].step()
    for place, parameter in slices.items():
        torch.testing.assert_close(ours["expert.in"][place], parameter.detach(), rtol=1e-5, atol=1e-6)


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
        optimizer.step(ours, {"embedding": grad}, update=update, multiplier_N=torch.ones(2))
        for n, parameter in enumerate(parameters):
            parameter.grad = grad[n].clone()
            theirs[n].step()
    for n, parameter in enumerate(parameters):
        torch.testing.assert_close(ours["embedding"][n], parameter.detach(), rtol=1e-5, atol=1e-6)


def test_the_multiplier_scales_both_rates():
    weights = {"router": torch.zeros(2, 1, 4, 4), "embedding": torch.zeros(2, 8, 4)}
    grads = {name: _matrices(*w.shape) for name, w in weights.items()}
    grads = {name: g[:1].expand_as(g).clone() for name, g in grads.items()}
    Optimizer([Recipe()] * 2, weights, CPU).step(weights, grads, update=0, multiplier_N=torch.tensor([1.0, 0.25]))
    for w in weights.values():
        torch.testing.assert_close(w[0] * 0.25, w[1])


def test_clipping_is_per_lane_and_zeroes_a_dead_one():
    grads = {"a": torch.ones(4, 3, 3), "b": torch.ones(4, 7)}
    grads["a"][3, 0, 0] = float("nan")
    norm_N = gradient_norm(grads)
    torch.testing.assert_close(norm_N[:3], torch.full((3,), 4.0))
    alive = norm_N.isfinite()
    clip(grads, norm_N, torch.tensor([1.0, 100.0, 0.0, 1.0]), alive)
    torch.testing.assert_close(gradient_norm(grads), torch.tensor([1.0, 4.0, 4.0, 0.0]), atol=1e-5, rtol=0)
