"""Muon and AdamW over lanes: each lane has its own rates, and no number passes from lane to lane.

Shapes: N lanes; a weight of one lane is (..., R, C) for Muon and anything for AdamW.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from blueberry.lm.weights import Weights, is_matrix
from blueberry.recipe import Recipe

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(g_NRC: Tensor, *, num_iterations: int = 5) -> Tensor:
    """Replace each matrix by its nearest semi-orthogonal one, approximately.

    Shapes: (..., R, C) -> (..., R, C). Units: none; singular values land in about 0.7 to 1.2.
    Raises: ValueError if g is not a batch of matrices.
    Source: Newton-Schulz quintic of Jordan et al. 2024 (Muon); coefficients 3.4445, -4.7750, 2.0315.
    """
    if g_NRC.ndim < 3:
        raise ValueError(f"expected a batch of matrices, got shape {tuple(g_NRC.shape)}")
    a, b, c = NEWTON_SCHULZ
    x = g_NRC.flatten(0, -3)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.transpose(-2, -1)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(num_iterations):
        gram = x @ x.transpose(-2, -1)
        poly = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, poly, x, beta=a)
    return (x.transpose(-2, -1) if tall else x).view_as(g_NRC)


class Rates:
    """The settings that may differ between lanes, as tensors (N,)."""

    def __init__(self, recipes: Sequence[Recipe], device: torch.device) -> None:
        def lanes(name: str) -> Tensor:
            return torch.tensor([recipe.get(name) for recipe in recipes], dtype=torch.float32, device=device)

        self.muon_N = lanes("optimizer.muon.learning_rate")
        self.momentum_N = lanes("optimizer.muon.momentum")
        self.adamw_N = self.muon_N * lanes("optimizer.adamw.learning_rate_ratio")
        self.beta1_N = lanes("optimizer.adamw.beta1")
        self.beta2_N = lanes("optimizer.adamw.beta2")
        self.betas = [(recipe.optimizer.adamw.beta1, recipe.optimizer.adamw.beta2) for recipe in recipes]
        self.decay_N = lanes("optimizer.adamw.weight_decay")
        self.clip_N = lanes("train.clip_norm")

    def bias_corrections(self, update: int) -> tuple[Tensor, Tensor]:
        """1 - beta^(update + 1) for both betas, (N,) each; powers in float64, one lane at a time."""
        pairs = [[1 - beta ** (update + 1) for beta in betas] for betas in self.betas]
        first_N, second_N = torch.tensor(pairs, dtype=torch.float32, device=self.clip_N.device).unbind(1)
        return first_N, second_N


class Optimizer:
    """Muon for the matrices, AdamW for embedding and norms. Weights are changed in place."""

    def __init__(self, recipes: Sequence[Recipe], weights: Weights, device: torch.device) -> None:
        self.recipe = recipes[0]
        self.rates = Rates(recipes, device)
        self.state: Weights = {}
        """Moments by name: momentum.W for Muon, mean.W and square.W for AdamW."""
        for name, weight in weights.items():
            for moment in ("momentum",) if is_matrix(name) else ("mean", "square"):
                self.state[f"{moment}.{name}"] = torch.zeros_like(weight)

    @torch.no_grad()
    def step(self, weights: Weights, grads: Weights, *, update: int, multiplier_N: Tensor) -> None:
        """One update, counted from 0, at `multiplier_N` times the peak rates."""
        for name, weight in weights.items():
            if is_matrix(name):
                self._muon(name, weight, grads[name], multiplier_N)
            else:
                self._adamw(name, weight, grads[name], update, multiplier_N)

    def _muon(self, name: str, weight: Tensor, grad: Tensor, multiplier_N: Tensor) -> None:
        muon = self.recipe.optimizer.muon
        momentum = self.state[f"momentum.{name}"]
        beta = along(self.rates.momentum_N, weight)
        momentum.lerp_(grad, 1 - beta)
        direction = grad.lerp(momentum, beta) if muon.nesterov else momentum
        rows, columns = weight.shape[-2:]
        rate_N = self.rates.muon_N * multiplier_N * max(1.0, rows / columns) ** 0.5
        weight.sub_(orthogonalize(direction, num_iterations=muon.num_iterations) * along(rate_N, weight))

    def _adamw(self, name: str, weight: Tensor, grad: Tensor, update: int, multiplier_N: Tensor) -> None:
        rates = self.rates
        mean, square = self.state[f"mean.{name}"], self.state[f"square.{name}"]
        beta1, beta2 = along(rates.beta1_N, weight), along(rates.beta2_N, weight)
        mean.lerp_(grad, 1 - beta1)
        square.lerp_(grad.square(), 1 - beta2)
        rate_N = rates.adamw_N * multiplier_N
        correction1_N, correction2_N = rates.bias_corrections(update)
        root = (square / along(correction2_N, weight)).sqrt_().add_(self.recipe.optimizer.adamw.epsilon)
        weight.mul_(along(1 - rate_N * rates.decay_N, weight))
        weight.sub_(mean / root * along(rate_N / correction1_N, weight))


@torch.no_grad()
def gradient_norm(grads: Weights) -> Tensor:
    """The norm over all of a lane's gradients: (N,). Added one by one: a fixed order, whatever the lane count."""
    return functools.reduce(Tensor.add_, (grad.flatten(1).square().sum(-1) for grad in grads.values())).sqrt_()


@torch.no_grad()
def clip(grads: Weights, norm_N: Tensor, limit_N: Tensor, alive_N: Tensor) -> None:
    """Scale each lane's gradients down to its limit (0: never), and a dead lane's to exactly 0, in place."""
    scale_N = (limit_N / (norm_N + 1e-6)).clamp(max=1.0)
    scale_N = torch.where(limit_N > 0, scale_N, torch.ones_like(scale_N))
    for grad in grads.values():
        grad.mul_(along(scale_N, grad))
        grad.masked_fill_(~along(alive_N, grad), 0.0)


def along(values_N: Tensor, like: Tensor) -> Tensor:
    """Shape (N,) so that it multiplies a tensor whose first axis is the lane."""
    return values_N.view(-1, *(1,) * (like.ndim - 1))
